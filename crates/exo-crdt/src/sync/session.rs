//! One synchronisation of two replicas, seen from one end.
//!
//! The caller carries messages, verifies and applies the items that a [`Step`] hands it, and hands the
//! replica in each time: it may have changed meanwhile, by other links. What is no longer held is not
//! sent, and what is no longer wanted does no harm. When a checkpoint is taken over in between, the
//! session ends and the next one begins from there.

use std::collections::{BTreeMap, BTreeSet};

use exo_types::PeerId;
use exo_types::limits::{MEMBERS_MAX, SYNC_MESSAGES_MAX, SYNC_WANTS_MAX};

use super::SyncError;
use super::message::{ChainTip, Item, SyncMessage, in_messages, tip_author};
use super::set::{SetMessage, SetStep, SetSync, prefix};
use super::short::{LinkSecret, Nonce};
use crate::batch::header_hash;
use crate::hash::StateRoot;
use crate::replica::{Loose, Replica};

/// What a message led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// To send, in order.
    pub send: Vec<SyncMessage>,
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
    progress: Progress,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    tips_seen: bool,
    compared: bool,
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
            progress: Progress::default(),
        }
    }

    /// Takes a message of the other end. `nonce` is fresh randomness, used if a key must be changed.
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
            let mut step = self.end(SyncEnd::Epochs { ours, theirs });
            step.send.push(SyncMessage::Epoch(ours));
            return Ok(step);
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
                let mut send = self.compare_tips(replica, &tips);
                send.push(SyncMessage::Set(first));
                Ok(Step { send, ..Step::default() })
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
            let mut step = self.end(SyncEnd::Epochs { ours: self.epoch, theirs: epoch });
            step.send.push(SyncMessage::Epoch(self.epoch));
            return Ok(step);
        }
        if root == replica.state_root() {
            let mut step = self.end(SyncEnd::Same);
            step.send.push(SyncMessage::Same);
            return Ok(step);
        }
        let (loose, ids) = replica.loose();
        self.loose = loose;
        let mut set = SetSync::new(ids, self.link, asker)?;
        let rest = set.answer(self.nonce);
        self.set = Some(set);
        let tips = replica.tips().into_iter().map(|(_, tip)| tip).take(MEMBERS_MAX).collect();
        Ok(Step { send: vec![SyncMessage::Differs { tips, rest }], ..Step::default() })
    }

    /// The asker compares chains' ends: pushes what it has beyond the other's, names its own ends where
    /// the other may have more.
    fn compare_tips(&mut self, replica: &Replica, theirs: &[ChainTip]) -> Vec<SyncMessage> {
        let theirs: BTreeMap<_, _> = theirs.iter().map(|tip| (tip.author, *tip)).collect();
        let ours: BTreeMap<_, _> = replica.tips().into_iter().collect();
        let (mut tips, mut items) = (Vec::new(), Vec::new());
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
        let mut send = Vec::new();
        if !tips.is_empty() {
            send.push(SyncMessage::Tips(tips));
        }
        send.extend(in_messages(items));
        send
    }

    /// What this end has beyond another's tip. Where the chains do not meet there are two histories:
    /// then everything of the author is exchanged, and the proof comes to light on both sides.
    fn beyond(&mut self, replica: &Replica, author: PeerId, other: &ChainTip) -> Vec<Item> {
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
        let mut items = Vec::new();
        for tip in theirs {
            let Some(author) = replica.author_of(tip.author) else { continue };
            if replica.chain_end(&author).seq > tip.seq {
                items.extend(self.beyond(replica, author, tip));
            }
        }
        Ok(Step { send: in_messages(items), ..Step::default() })
    }

    fn compare(
        &mut self,
        replica: &Replica,
        message: &SetMessage,
        nonce: Nonce,
    ) -> Result<Step, SyncError> {
        let set = self.set.as_mut().ok_or(SyncError::Unexpected)?;
        let SetStep { send, mine, theirs, finished } = set.handle(message, nonce)?;
        let mut step = Step::default();
        step.send.extend(send.map(SyncMessage::Set));
        self.lacks.extend(theirs);
        let lacked = mine.iter().filter_map(|at| self.loose.get(*at)).copied();
        step.send.extend(in_messages(replica.loose_items(lacked)));
        if finished {
            self.progress.compared = true;
            self.send_want(&mut step);
        }
        Ok(step)
    }

    fn send_want(&mut self, step: &mut Step) {
        if std::mem::replace(&mut self.progress.want_sent, true) {
            return;
        }
        let shorts: BTreeSet<_> = self.lacks.iter().map(|short| prefix(*short)).collect();
        let shorts: Vec<_> = shorts.into_iter().take(SYNC_WANTS_MAX).collect();
        self.asked.extend(&shorts);
        let authors = self.suspects.iter().map(tip_author).take(MEMBERS_MAX).collect();
        step.send.push(SyncMessage::Want { shorts, authors });
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
        let mut items = replica.loose_items(wanted);
        for author in authors.iter().filter_map(|short| replica.author_of(*short)) {
            items.extend(replica.author_items(author));
        }
        let mut step = Step { send: in_messages(items), ..Step::default() };
        // Who asks has compared all there is, and so have we.
        self.progress.compared = true;
        self.send_want(&mut step);
        step.send.push(SyncMessage::Done);
        self.progress.done_sent = true;
        self.finish(step)
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
        self.finish(Step::default())
    }

    fn finish(&mut self, mut step: Step) -> Result<Step, SyncError> {
        if self.progress.done_sent && self.progress.done_seen {
            step.end = self.end(SyncEnd::Exchanged).end;
        }
        Ok(step)
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
