//! Synchronisations: begun, carried on, ended, given up; and what they bring.

use std::collections::BTreeMap;
use std::time::Duration;

use exo_crdt::sync::session::{Session, Step, SyncEnd};
use exo_crdt::sync::short::LinkSecret;
use exo_crdt::sync::{Item, SyncError, SyncMessage};
use exo_crdt::{BatchRefusal, WriteBatch};
use exo_types::limits::{
    SHARED_ANSWERS_PER_COLLECTION_MAX, SHARED_BARREN_MESSAGES_MAX, SHARED_SESSION_MILLIS_MAX,
    SHARED_SESSIONS_MAX, SHARED_SESSIONS_PER_PEER_MAX, SHARED_SILENCE_MILLIS,
    SHARED_WINDOW_MESSAGES,
};
use exo_types::{CollectionName, PeerId};

use super::message::{Closed, ShareMessage};
use super::peer::Talk;
use super::take::Taken;
use super::{CutOff, Output, Refused, ShareEvent, Shared};

impl Shared {
    /// Begins a session about a collection.
    pub(super) fn ask(&mut self, peer: PeerId, name: &CollectionName) {
        if self.sessions() >= SHARED_SESSIONS_MAX {
            return;
        }
        let (secret, nonce) = (self.random(), self.random());
        let now = self.now.mono;
        let saved = self.saved;
        let much = self.holds_much(&peer, name);
        let open = self.collections.get(name).filter(|collection| !collection.unsaved(saved));
        let Some(collection) = open else { return };
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if state.talks.len() >= SHARED_SESSIONS_PER_PEER_MAX {
            return;
        }
        let (session, hello) = Session::ask(&collection.replica, LinkSecret(secret), nonce);
        let number = state.number();
        let mut talk = Talk { much, ..Talk::new(name.clone(), session, true, now) };
        talk.opening = Some(secret);
        talk.hello = Some(hello);
        state.talks.insert(number, talk);
        self.pump(&peer);
    }

    /// A peer begins a session.
    pub(super) fn opened(
        &mut self,
        peer: PeerId,
        number: u64,
        name: CollectionName,
        secret: [u8; 32],
    ) {
        let now = self.now.mono;
        let Some(state) = self.peers.get(&peer) else { return };
        if !state.is_theirs(number) || state.talks.contains_key(&number) {
            self.cut_off(peer, CutOff::Broken);
            return;
        }
        if !self.rights.reads(&name, &peer) || !self.has(&name, Some(peer)) {
            self.refuse(peer, number, Closed::Unknown);
            return;
        }
        // Who begins another one knows of no earlier one of its own. Where both begin at once, the one of the
        // lesser id goes on.
        let first = self.me < peer;
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state
            .talks
            .retain(|_, talk| talk.collection != name || (talk.ours && (first || talk.over)));
        let full = self.sessions() >= SHARED_SESSIONS_MAX
            || self.talks_going_on(&name, false) >= SHARED_ANSWERS_PER_COLLECTION_MAX;
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let full =
            full || !state.may_open(now) || state.talks.len() >= SHARED_SESSIONS_PER_PEER_MAX;
        let full = full || state.talks_about(&name);
        let ours = self.collections.get_mut(&name).map(|collection| collection.held().root);
        let comes = ours.is_some_and(|ours| self.comes_from_another(&peer, &name, ours));
        if full || comes || self.much_comes_already(&peer, &name) {
            self.refuse(peer, number, Closed::Busy);
            return;
        }
        let nonce = self.random();
        let Some(collection) = self.collections.get(&name) else { return };
        let session = Session::answer(&collection.replica, LinkSecret(secret), nonce);
        let much = self.holds_much(&peer, &name);
        if let Some(state) = self.peers.get_mut(&peer) {
            let talk = Talk { much, ..Talk::new(name, session, false, now) };
            state.talks.insert(number, talk);
        }
    }

    fn refuse(&mut self, peer: PeerId, session: u64, reason: Closed) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.post(ShareMessage::Close { session, reason });
        }
    }

    /// The other end gave a session up.
    pub(super) fn closed(&mut self, peer: PeerId, number: u64, reason: Closed) {
        let now = self.now.mono;
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(talk) = state.talks.remove(&number) else { return };
        if talk.over {
            return;
        }
        if reason != Closed::Busy {
            let collection = talk.collection.clone();
            state.link(&collection).wait(now);
            self.event(ShareEvent::Closed { peer, collection, reason });
        }
    }

    /// A message of a session.
    pub(super) fn synced(&mut self, peer: PeerId, number: u64, message: SyncMessage) {
        let nonce = self.random();
        let now = self.now.mono;
        let Some(state) = self.peers.get_mut(&peer) else { return };
        // It may have been given up here meanwhile.
        let Some(talk) = state.talks.get_mut(&number).filter(|talk| !talk.over) else { return };
        let name = talk.collection.clone();
        let Some(collection) = self.collections.get_mut(&name) else { return };
        if let SyncMessage::Hello { root, epoch, .. } = &message {
            let (held, ours) = (collection.counts(*root), collection.held().root);
            let heard = state.link(&name).heard.filter(|heard| heard.root == *root);
            let held = heard.unwrap_or(super::Held { epoch: *epoch, ..held });
            state.link(&name).hear(held, ours, now);
        }
        let Some(talk) = state.talks.get_mut(&number) else { return };
        talk.moved = now;
        let step = match talk.session.handle(&collection.replica, message, nonce) {
            Ok(step) => step,
            Err(SyncError::TooManyItems(_)) => {
                state.talks.remove(&number);
                state.link(&name).wait(now);
                self.refuse(peer, number, Closed::Busy);
                return;
            }
            Err(_) => {
                self.cut_off(peer, CutOff::Broken);
                return;
            }
        };
        self.carry(peer, number, &name, step);
    }

    /// Carries out what a message led to.
    fn carry(&mut self, peer: PeerId, number: u64, name: &CollectionName, step: Step) {
        let (fresh, forged) = self.take_items(peer, name, step.items);
        if forged {
            self.cut_off(peer, CutOff::Forged);
            return;
        }
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(talk) = state.talks.get_mut(&number) else { return };
        talk.fresh += fresh;
        if fresh > 0 {
            talk.brought = self.now.mono;
        }
        talk.barren = if fresh > 0 { 0 } else { talk.barren + 1 };
        if talk.barren > SHARED_BARREN_MESSAGES_MAX {
            self.cut_off(peer, CutOff::NeverEnds);
            return;
        }
        if let Some(end) = step.end {
            self.ended(peer, number, name, end);
        }
    }

    /// A session came to its end: what is left to send of it is sent.
    fn ended(&mut self, peer: PeerId, number: u64, name: &CollectionName, end: SyncEnd) {
        let now = self.now.mono;
        let Some(collection) = self.collections.get_mut(name) else { return };
        let held = collection.held();
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(talk) = state.talks.get_mut(&number) else { return };
        talk.over = true;
        // What is still to be sent moves something as well.
        let moved = talk.fresh > 0 || talk.gave || !talk.session.is_drained();
        if talk.session.is_drained() {
            state.talks.remove(&number);
        }
        let link = state.link(name);
        match end {
            SyncEnd::Same => link.hear(held, held.root, now),
            SyncEnd::Exchanged => {
                // The roots show whether that was all: each tells the other its own.
                (link.told, link.due) = (None, true);
                link.ask = false;
                if moved { link.go_on() } else { link.wait(now) }
            }
            SyncEnd::Epochs { theirs, .. } => {
                link.wait(now);
                if let Some(heard) = &mut link.heard {
                    heard.epoch = theirs;
                }
            }
        }
        if end == SyncEnd::Same {
            self.in_step(peer, name);
        }
        self.tell_due();
        self.ask_about(name);
    }

    /// Verifies and takes in what came; how much of it was new, and whether something was forged.
    fn take_items(
        &mut self,
        peer: PeerId,
        name: &CollectionName,
        items: Vec<Item>,
    ) -> (usize, bool) {
        let authors = self.rights.authors(name);
        let Some(collection) = self.collections.get_mut(name) else { return (0, false) };
        let mut all = Taken::default();
        let (mut write, mut refused) = (WriteBatch::default(), BTreeMap::<Refused, usize>::new());
        for item in items {
            for result in collection.take(item, &authors, self.now.wall) {
                match result {
                    Ok(taken) => {
                        write.append(taken.write);
                        all.fresh += taken.fresh;
                        all.keys.extend(taken.keys);
                        all.accused.extend(taken.accused);
                    }
                    Err(why) => *refused.entry(why).or_default() += 1,
                }
            }
        }
        if !write.is_empty() {
            collection.mark(&mut write);
            self.commit(name, write, false);
            self.changed(name, std::mem::take(&mut all.keys));
        }
        for author in all.accused {
            self.event(ShareEvent::TwoHistories { collection: name.clone(), author });
        }
        let forged = refused.contains_key(&Refused::Forged);
        for (reason, count) in refused {
            let collection = name.clone();
            self.out.push(Output::Event(ShareEvent::Refused { peer, collection, reason, count }));
        }
        (all.fresh, forged)
    }

    /// Gives up what is silent or takes too long.
    pub(super) fn time_out(&mut self) {
        let now = self.now.mono;
        let silence = Duration::from_millis(SHARED_SILENCE_MILLIS);
        let life = Duration::from_millis(SHARED_SESSION_MILLIS_MAX);
        let mut late = Vec::new();
        for (peer, state) in &self.peers {
            let old = |talk: &Talk| now > talk.moved + silence || now > talk.begun + life;
            let of_peer = state.talks.iter().filter(|(_, talk)| old(talk));
            late.extend(of_peer.map(|(number, talk)| {
                (*peer, *number, talk.collection.clone(), talk.over, now > talk.begun + life)
            }));
        }
        for (peer, session, collection, over, endless) in late {
            let Some(state) = self.peers.get_mut(&peer) else { continue };
            let fresh = state.talks.remove(&session).map_or(0, |talk| talk.fresh);
            let link = state.link(&collection);
            if fresh > 0 {
                link.go_on();
            } else {
                link.wait(now);
            }
            if over {
                continue;
            }
            state.post(ShareMessage::Close { session, reason: Closed::TimedOut });
            self.event(ShareEvent::Closed { peer, collection, reason: Closed::TimedOut });
            if endless && fresh == 0 {
                self.cut_off(peer, CutOff::NeverEnds);
            }
            self.pump(&peer);
        }
    }

    /// Ends the sessions about a collection with those who may not read it any more.
    pub(super) fn end_sessions(&mut self) {
        let (rights, me) = (&self.rights, self.me);
        for (peer, state) in &mut self.peers {
            let reads = |name: &CollectionName| rights.reads(name, peer) && rights.reads(name, &me);
            state.talks.retain(|_, talk| reads(&talk.collection));
            state.links.retain(|name, _| reads(name));
        }
    }

    /// Sends to a peer as long as there is room: short messages first, then a message of each session in
    /// turn.
    pub(super) fn pump(&mut self, peer: &PeerId) {
        loop {
            let Some(state) = self.peers.get_mut(peer) else { return };
            if !state.lane || state.in_flight >= SHARED_WINDOW_MESSAGES {
                return;
            }
            let message = match state.next_posted() {
                Some(message) => Some(message),
                None => self.next_of_sessions(peer),
            };
            let Some(message) = message else { return };
            if let Some(state) = self.peers.get_mut(peer) {
                state.in_flight += 1;
            }
            self.out.push(Output::Send { peer: *peer, message });
        }
    }

    pub(super) fn pump_all(&mut self) {
        let peers: Vec<_> = self.peers.keys().copied().collect();
        peers.iter().for_each(|peer| self.pump(peer));
    }

    /// The next message of the session whose turn it is, of those that have one that may leave.
    fn next_of_sessions(&mut self, peer: &PeerId) -> Option<ShareMessage> {
        let (collections, saved, now) = (&self.collections, self.saved, self.now.mono);
        let state = self.peers.get_mut(peer)?;
        let ready = |talk: &Talk| {
            let collection = collections.get(&talk.collection);
            let waits =
                talk.opening.is_some() || talk.hello.is_some() || !talk.session.is_drained();
            waits && collection.is_some_and(|of| !of.unsaved(saved))
        };
        loop {
            let turn = state.turn;
            let numbers = state.talks.iter().filter(|(_, talk)| ready(talk)).map(|(n, _)| *n);
            // After the one whose turn it was last, then from the beginning.
            let session = numbers.min_by_key(|number| (*number <= turn, *number))?;
            state.turn = session;
            let talk = state.talks.get_mut(&session)?;
            talk.moved = now;
            let name = talk.collection.clone();
            if let Some(secret) = talk.opening.take() {
                return Some(ShareMessage::Open { session, collection: name, secret });
            }
            let replica = &collections.get(&name)?.replica;
            let message = talk.hello.take().or_else(|| talk.session.next(replica));
            talk.gave |= matches!(message, Some(SyncMessage::Items(_)));
            let gave_up = talk.session.is_over() && !talk.over;
            if talk.session.is_over() && talk.session.is_drained() {
                state.talks.remove(&session);
            }
            if gave_up {
                state.link(&name).wait(now);
            }
            if let Some(message) = message {
                return Some(ShareMessage::Sync { session, message });
            }
        }
    }

    fn sessions(&self) -> usize {
        self.peers.values().map(|state| state.talks.len()).sum()
    }
}

impl Talk {
    fn new(collection: CollectionName, session: Session, ours: bool, now: Duration) -> Self {
        Self {
            collection,
            session,
            ours,
            much: false,
            opening: None,
            hello: None,
            begun: now,
            moved: now,
            brought: now,
            fresh: 0,
            gave: false,
            barren: 0,
            over: false,
        }
    }
}

impl From<&BatchRefusal> for Refused {
    fn from(refusal: &BatchRefusal) -> Self {
        match refusal {
            BatchRefusal::UnknownAuthor(_) => Self::Unknown,
            BatchRefusal::Revoked { .. } => Self::NoRight,
            BatchRefusal::Header(_)
            | BatchRefusal::NotCanonical(_)
            | BatchRefusal::Signature(_)
            | BatchRefusal::OtherCollection { .. }
            | BatchRefusal::Entry { .. }
            | BatchRefusal::Root(_) => Self::Forged,
        }
    }
}
