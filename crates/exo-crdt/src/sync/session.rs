//! One synchronisation of two replicas, seen from one end.
//!
//! The caller carries messages, verifies and applies the items that a [`Step`] hands it, and hands the
//! replica in each time: it may have changed meanwhile, by other links. What is no longer held is not
//! sent, and what is no longer wanted does no harm. When a checkpoint is taken over in between, the
//! session ends and the next one begins from there.
//!
//! What the other lacks may be all there is. A session names it, and makes one message of it at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use exo_types::PeerId;
use exo_types::limits::{MEMBERS_MAX, SYNC_MESSAGES_MAX, SYNC_WANTS_MAX};

use super::SyncError;
use super::message::{ChainTip, Item, SyncMessage, tip_author};
use super::set::{SetMessage, SetStep, SetSync, prefix};
use super::short::{LinkSecret, Nonce};
use crate::batch::header_hash;
use crate::hash::StateRoot;
use crate::replica::{Loose, Replica};

/// What a message led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// To verify and apply.
    pub items: Vec<Item>,
    /// How the session ended, when it did.
    pub end: Option<SyncEnd>,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncEnd {
    /// Nothing differed.
    Same,
    /// Each sent what the other lacked. The next session's roots show whether that was all.
    Exchanged,
    /// The replicas have different checkpoints, or one took one over in between: whose is older takes
    /// the newer one over first.
    Epochs {
        /// This replica's.
        ours: u64,
        /// The other's, as far as it is known.
        theirs: u64,
    },
}

/// One end of a synchronisation.
#[derive(Debug)]
pub struct Session {
    link: LinkSecret,
    nonce: Nonce,
    epoch: u64,
    messages: usize,
    set: Option<SetSync>,
    /// What the set's items are, by place.
    loose: Vec<Loose>,
    /// What this end found out that it lacks.
    lacks: BTreeSet<u64>,
    suspects: BTreeSet<PeerId>,
    /// What it asked for and has not been sent yet, by the beginnings of short ids.
    asked: BTreeSet<u32>,
    /// What is still to be sent, in order.
    out: VecDeque<Part>,
    progress: Progress,
}

/// Something to send.
#[derive(Debug)]
enum Part {
    Message(SyncMessage),
    /// Becomes as many messages as it takes.
    Items(VecDeque<Loose>),
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    tips_seen: bool,
    want_sent: bool,
    want_seen: bool,
    done_sent: bool,
    done_seen: bool,
    ended: bool,
}

impl Session {
    /// The asker's end and its first message. `nonce` is drawn for this session alone.
    pub fn ask(replica: &Replica, link: LinkSecret, nonce: Nonce) -> (Self, SyncMessage) {
        let session = Self::new(replica, link, nonce);
        let root = replica.state_root();
        let epoch = session.epoch;
        (session, SyncMessage::Hello { root, epoch, nonce })
    }

    /// The answerer's end; the asker speaks first. `nonce` is drawn for this session alone.
    pub fn answer(replica: &Replica, link: LinkSecret, nonce: Nonce) -> Self {
        Self::new(replica, link, nonce)
    }

    fn new(replica: &Replica, link: LinkSecret, nonce: Nonce) -> Self {
        Self {
            link,
            nonce,
            epoch: replica.checkpoint().epoch,
            messages: 0,
            set: None,
            loose: Vec::new(),
            lacks: BTreeSet::new(),
            suspects: BTreeSet::new(),
            asked: BTreeSet::new(),
            out: VecDeque::new(),
            progress: Progress::default(),
        }
    }

    /// The next message to send. Where something that is to be sent is not held any more, because a checkpoint
    /// was taken over or an author's history was ended, this end gives the session up: the other must not
    /// take that for something kept back.
    pub fn next(&mut self, replica: &Replica) -> Option<SyncMessage> {
        loop {
            let Part::Items(items) = self.out.front_mut()? else {
                let Some(Part::Message(message)) = self.out.pop_front() else { return None };
                return Some(message);
            };
            let ours = replica.checkpoint().epoch;
            let part = if ours == self.epoch { replica.part(items) } else { None };
            let Some(part) = part else {
                self.out.clear();
                self.progress.ended = true;
                return Some(SyncMessage::Epoch(ours));
            };
            if items.is_empty() {
                self.out.pop_front();
            }
            if !part.is_empty() {
                return Some(SyncMessage::Items(part));
            }
        }
    }

    /// Whether everything has been sent that there is so far.
    pub fn is_drained(&self) -> bool {
        self.out.is_empty()
    }

    /// Whether it is over at this end.
    pub fn is_over(&self) -> bool {
        self.progress.ended
    }

    fn say(&mut self, message: SyncMessage) {
        self.out.push_back(Part::Message(message));
    }

    fn give(&mut self, items: VecDeque<Loose>) {
        if !items.is_empty() {
            self.out.push_back(Part::Items(items));
        }
    }

    /// Takes a message of the other end; what it leads to is sent by [`next`](Self::next). `nonce` is fresh randomness, used if a key must be changed.
    ///
    /// # Errors
    /// [`SyncError`]: the session is over and the other end did not keep to the protocol.
    pub fn handle(
        &mut self,
        replica: &Replica,
        message: SyncMessage,
        nonce: Nonce,
    ) -> Result<Step, SyncError> {
        self.messages += 1;
        if self.progress.ended {
            return Err(SyncError::Unexpected);
        }
        if self.messages > SYNC_MESSAGES_MAX {
            self.progress.ended = true;
            return Err(SyncError::TooManyMessages);
        }
        let ours = replica.checkpoint().epoch;
        if ours != self.epoch {
            let theirs = self.epoch;
            self.out.clear();
            self.say(SyncMessage::Epoch(ours));
            return Ok(self.end(SyncEnd::Epochs { ours, theirs }));
        }
        let step = match message {
            SyncMessage::Hello { root, epoch, nonce } => self.hello(replica, root, epoch, nonce),
            SyncMessage::Same => Ok(self.end(SyncEnd::Same)),
            SyncMessage::Epoch(theirs) => Ok(self.end(SyncEnd::Epochs { ours, theirs })),
            SyncMessage::Differs { .. } if self.set.is_some() => Err(SyncError::Unexpected),
            SyncMessage::Differs { tips, rest } => {
                let (loose, ids) = replica.loose();
                self.loose = loose;
                let mut set = SetSync::new(ids, self.link, self.nonce)?;
                let first = set.open(&rest)?;
                self.set = Some(set);
                self.compare_tips(replica, &tips);
                self.say(SyncMessage::Set(first));
                Ok(Step::default())
            }
            SyncMessage::Tips(tips) => self.push_newer(replica, &tips),
            SyncMessage::Set(message) => self.compare(replica, &message, nonce),
            SyncMessage::Want { shorts, authors } => self.wanted(replica, &shorts, &authors),
            SyncMessage::Items(items) => Ok(self.take(items)),
            SyncMessage::Done => self.done(),
        };
        if step.is_err() {
            self.progress.ended = true;
        }
        step
    }

    fn hello(
        &mut self,
        replica: &Replica,
        root: StateRoot,
        epoch: u64,
        asker: Nonce,
    ) -> Result<Step, SyncError> {
        if self.set.is_some() {
            return Err(SyncError::Unexpected);
        }
        if epoch != self.epoch {
            self.say(SyncMessage::Epoch(self.epoch));
            return Ok(self.end(SyncEnd::Epochs { ours: self.epoch, theirs: epoch }));
        }
        if root == replica.state_root() {
            self.say(SyncMessage::Same);
            return Ok(self.end(SyncEnd::Same));
        }
        let (loose, ids) = replica.loose();
        self.loose = loose;
        let mut set = SetSync::new(ids, self.link, asker)?;
        let rest = set.answer(self.nonce);
        self.set = Some(set);
        let tips = replica.tips().into_iter().map(|(_, tip)| tip).take(MEMBERS_MAX).collect();
        self.say(SyncMessage::Differs { tips, rest });
        Ok(Step::default())
    }

    /// The asker compares chains' ends: pushes what it has beyond the other's, names its own ends where
    /// the other may have more.
    fn compare_tips(&mut self, replica: &Replica, theirs: &[ChainTip]) {
        let theirs: BTreeMap<_, _> = theirs.iter().map(|tip| (tip.author, *tip)).collect();
        let ours: BTreeMap<_, _> = replica.tips().into_iter().collect();
        let (mut tips, mut items) = (Vec::new(), VecDeque::new());
        for (author, own) in &ours {
            let other =
                theirs.get(&own.author).copied().unwrap_or_else(|| replica.cut_tip(*author));
            if other == *own {
                continue;
            }
            if own.seq < other.seq {
                tips.push(*own);
            } else {
                items.extend(self.beyond(replica, *author, &other));
            }
        }
        let known: BTreeSet<_> = ours.keys().map(tip_author).collect();
        for (author, other) in theirs.iter().filter(|(author, _)| !known.contains(*author)) {
            let own = replica.author_of(*author).map(|author| replica.cut_tip(author));
            let none = ChainTip { author: *author, seq: 0, hash: [0; 16] };
            let own = own.unwrap_or(none);
            if own.seq < other.seq {
                tips.push(own);
            }
        }
        if !tips.is_empty() {
            self.say(SyncMessage::Tips(tips));
        }
        self.give(items);
    }

    /// What this end has beyond another's tip. Where the chains do not meet there are two histories:
    /// then everything of the author is exchanged, and the proof comes to light on both sides.
    fn beyond(&mut self, replica: &Replica, author: PeerId, other: &ChainTip) -> Vec<Loose> {
        if replica.went_through(author, other) {
            return replica.chain_items(author, other.seq);
        }
        self.suspects.insert(author);
        replica.author_items(author)
    }

    fn push_newer(&mut self, replica: &Replica, theirs: &[ChainTip]) -> Result<Step, SyncError> {
        // Each time costs all that the other lacks.
        if self.set.is_none() || std::mem::replace(&mut self.progress.tips_seen, true) {
            return Err(SyncError::Unexpected);
        }
        let mut items = VecDeque::new();
        for tip in theirs {
            let Some(author) = replica.author_of(tip.author) else { continue };
            if replica.chain_end(&author).seq > tip.seq {
                items.extend(self.beyond(replica, author, tip));
            }
        }
        self.give(items);
        Ok(Step::default())
    }

    fn compare(
        &mut self,
        replica: &Replica,
        message: &SetMessage,
        nonce: Nonce,
    ) -> Result<Step, SyncError> {
        let set = self.set.as_mut().ok_or(SyncError::Unexpected)?;
        let SetStep { send, mine, theirs, finished } = set.handle(message, nonce)?;
        self.out.extend(send.map(|message| Part::Message(SyncMessage::Set(message))));
        self.lacks.extend(theirs);
        let lacked = mine.iter().filter_map(|at| self.loose.get(*at)).copied();
        let lacked = replica.by_batch(lacked);
        self.give(lacked);
        if finished {
            self.send_want();
        }
        Ok(Step::default())
    }

    fn send_want(&mut self) {
        if std::mem::replace(&mut self.progress.want_sent, true) {
            return;
        }
        let shorts: BTreeSet<_> = self.lacks.iter().map(|short| prefix(*short)).collect();
        let shorts: Vec<_> = shorts.into_iter().take(SYNC_WANTS_MAX).collect();
        self.asked.extend(&shorts);
        let authors = self.suspects.iter().map(tip_author).take(MEMBERS_MAX).collect();
        self.say(SyncMessage::Want { shorts, authors });
    }

    fn wanted(
        &mut self,
        replica: &Replica,
        shorts: &[u32],
        authors: &[[u8; 8]],
    ) -> Result<Step, SyncError> {
        if std::mem::replace(&mut self.progress.want_seen, true) {
            return Err(SyncError::Unexpected);
        }
        let set = self.set.as_ref().ok_or(SyncError::Unexpected)?;
        let places = set.wanted(shorts);
        let wanted = places.iter().filter_map(|at| self.loose.get(*at)).copied();
        let mut items = replica.by_batch(wanted);
        for author in authors.iter().filter_map(|short| replica.author_of(*short)) {
            items.extend(replica.author_items(author));
        }
        self.give(items);
        // Who asks has compared all there is, and so have we.
        self.send_want();
        self.say(SyncMessage::Done);
        self.progress.done_sent = true;
        Ok(self.finish())
    }

    fn take(&mut self, items: Vec<Item>) -> Step {
        if let Some(set) = &self.set {
            for item in &items {
                for id in ids_of(item) {
                    if let Some(short) = set.short(&id) {
                        self.asked.remove(&prefix(short));
                    }
                }
            }
        }
        Step { items, ..Step::default() }
    }

    fn done(&mut self) -> Result<Step, SyncError> {
        if !self.progress.want_sent || std::mem::replace(&mut self.progress.done_seen, true) {
            return Err(SyncError::Unexpected);
        }
        if !self.asked.is_empty() {
            return Err(SyncError::Withheld(self.asked.len()));
        }
        Ok(self.finish())
    }

    fn finish(&mut self) -> Step {
        match self.progress.done_sent && self.progress.done_seen {
            true => self.end(SyncEnd::Exchanged),
            false => Step::default(),
        }
    }

    fn end(&mut self, end: SyncEnd) -> Step {
        self.progress.ended = true;
        Step { end: Some(end), ..Step::default() }
    }
}

/// The ids by which an item may have been asked for.
fn ids_of(item: &Item) -> Vec<[u8; 32]> {
    match item {
        Item::Batch { batch, .. } => vec![header_hash(batch.header.body()).0],
        Item::Void(header) => vec![header_hash(header.body()).0],
        Item::Evidence(evidence) => vec![evidence.id().0],
        Item::Shown(group) => {
            let Ok(header) = group.header.claimed() else { return Vec::new() };
            let id = |entry: &crate::entry::Entry| entry.id(&header.author, &header.collection);
            group.entries.iter().filter_map(|(_, entry, ..)| Some(id(entry).ok()?.0)).collect()
        }
    }
}
