//! The shared collections of one node, as a state machine without I/O.
//!
//! [`Shared`] stands beside the node and its decisions: it takes [`Input`]s and gives [`Output`]s. Writes of
//! this member need nobody else; those that come while a batch is on its way to the disk are the next one,
//! signed once, saved, and acknowledged when they are on the disk. Then the readers with a lane are told that
//! there is news, and who does not have it asks for a session ([`exo_crdt::sync`]). What came over one lane
//! is news on the others, so all converge without all pairs talking.
//!
//! # Requirements
//! - A lane is an encrypted and ordered channel with the member that it names.
//! - Who calls carries out the outputs in order: commits one after another, and what is sent on one lane in
//!   its order. Nothing has to wait for anything else: what must not be sent before it is on the disk is
//!   not given out before [`Input::Saved`].
//! - A store that was lost is not replaced by an empty one under the same identity without saying how far the
//!   member had signed ([`Shared::recall`]): it would sign its numbers a second time, and prove itself a liar.
//!
//! # Provided
//! - An acknowledged write survives any crash.
//! - Readers that have the same log, the same checkpoint and lanes among them come to hold the same bytes.
//! - A collection is named to its readers alone, and entries of those who may not write are refused by all.
//! - What one member can make a node hold, send or compute is bounded; one that breaks the protocol is not
//!   listened to for a while. Others are served meanwhile.
//!
//! # Not provided
//! - Erasure at members that kept a copy.

mod again;
mod collection;
mod cuts;
mod gossip;
mod io;
mod message;
mod peer;
mod sessions;
mod show;
mod spec;
mod take;
mod values;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use exo_crdt::WriteBatch;
use exo_crypto::PostQuantumKeypair;
use exo_types::limits::{
    SHARED_CHANGED_KEYS_MAX, SHARED_COLLECTIONS_MAX, SHARED_COLLECTIONS_PER_PEER_MAX,
    SHARED_CUT_OFF_MILLIS,
};
use exo_types::{CollectionName, Now, PeerId, RecordId};

use collection::Collection;
use peer::Peer;

pub use collection::{own_end, saved_end};
pub use exo_crdt::replica::RestoreError;
pub use io::{
    Change, CollectionView, CutOff, Input, Lag, Output, Refused, ShareEvent, ShareRefusal, Shown,
    Written,
};
pub use message::{Closed, Held, ShareMessage};
pub use spec::{Access, Rights, ShareSpec, Terms, Writers};

use crate::Entropy;
use crate::roster::Standing;

/// All shared collections of one node.
///
/// Calling order: make it with the [`Rights`] in force, [`restore`](Self::restore) each collection that has
/// a store, then give it every [`Input`] through [`step`](Self::step), and [`Input::Tick`] by
/// [`next_wake`](Self::next_wake).
pub struct Shared {
    me: PeerId,
    keypair: Arc<PostQuantumKeypair>,
    entropy: Entropy,
    rights: Rights,
    collections: BTreeMap<CollectionName, Collection>,
    peers: BTreeMap<PeerId, Peer>,
    /// The last commit given out, and the last that is on the disk.
    committed: u64,
    saved: u64,
    now: Now,
    out: Vec<Output>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (me, committed, saved) = (&self.me, self.committed, self.saved);
        f.debug_struct("Shared")
            .field("me", me)
            .field("collections", &self.collections.len())
            .field("peers", &self.peers.len())
            .field("committed", &committed)
            .field("saved", &saved)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// A node without collections. `entropy` fills a buffer with random bytes that nobody can foresee.
    pub fn new(
        keypair: Arc<PostQuantumKeypair>,
        rights: Rights,
        now: Now,
        entropy: Entropy,
    ) -> Self {
        Self {
            me: keypair.peer_id(),
            keypair,
            entropy,
            rights,
            collections: BTreeMap::new(),
            peers: BTreeMap::new(),
            committed: 0,
            saved: 0,
            now,
            out: Vec::new(),
        }
    }

    /// A collection from what its store holds. Everything is verified again. To be called before the first
    /// [`step`](Self::step).
    ///
    /// # Errors
    /// [`RestoreError`]: the store is damaged, and the collection is not there.
    pub fn restore(
        &mut self,
        name: CollectionName,
        saved: BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<(), RestoreError> {
        let kind = self.rights.terms(&name).spec.kind;
        let authors = self.rights.authors(&name);
        let restored = Collection::restore(self.me, name.clone(), kind, saved, &authors)?;
        self.collections.insert(name, restored);
        Ok(())
    }

    /// How far this member had signed its own chain of a collection, as [`own_end`] gave it when that went
    /// to the disk; kept where the loss of the stores does not reach it. To be called after the collection
    /// was restored, or was found to have no store. `Some(true)`: the store has lost batches of this member,
    /// and what it writes is refused ([`ShareRefusal::OwnHistory`]) until they have come back from others;
    /// `None`: these bytes are none of [`own_end`]'s.
    pub fn recall(&mut self, name: &CollectionName, end: &[u8]) -> Option<bool> {
        let end = collection::end_from(end)?;
        let (me, kind) = (self.me, self.rights.terms(name).spec.kind);
        let new = || Collection::new(me, name.clone(), kind);
        Some(self.collections.entry(name.clone()).or_insert_with(new).recall(end))
    }

    /// Takes an input; gives what is to be done, in order.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Output> {
        self.now = now;
        match input {
            Input::Rights(rights) => self.rights_changed(*rights),
            Input::Lane(peer) => self.lane(peer),
            Input::NoLane(peer) => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.lane(false);
                }
            }
            Input::Began(peer) => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.talks.clear();
                }
                self.rounds();
            }
            Input::Message { peer, message } => self.message(peer, message),
            Input::Sent(peer) => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.in_flight = peer.in_flight.saturating_sub(1);
                }
                self.pump(&peer);
            }
            Input::Write { ticket, collection, key, change } => {
                self.write(ticket, &collection, key, change);
            }
            Input::Erase { ticket, collection, key } => self.erase(ticket, &collection, &key),
            Input::Saved(number) => self.saved(number),
            Input::Tick => self.tick(),
        }
        std::mem::take(&mut self.out)
    }

    /// When [`Input::Tick`] is due, on the clock that never goes back.
    pub fn next_wake(&self) -> Duration {
        let due = self.collections.values().filter(|c| !c.unsaved(self.saved));
        let due = due.filter_map(Collection::due_at).min();
        let news = self
            .peers
            .values()
            .filter(|peer| peer.lane)
            .flat_map(|peer| peer.links.values().filter(|link| link.due).map(gossip::news_at));
        let usual = self.now.mono + TICK;
        due.into_iter().chain(news.min()).min().map_or(usual, |at| at.min(usual))
    }

    /// The rights in force.
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    fn tick(&mut self) {
        self.flush_due();
        self.tell_due();
        self.time_out();
        self.rounds();
        self.cuts_due();
    }

    fn message(&mut self, peer: PeerId, message: ShareMessage) {
        let now = self.now.mono;
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if self.rights.roster.standing(&peer) != Standing::Active || !state.heard(now) {
            return;
        }
        if !message.of_session() && !state.takes(now) {
            self.cut_off(peer, CutOff::TooMuch);
            return;
        }
        match message {
            ShareMessage::News { collection, state } => self.news(peer, &collection, state),
            ShareMessage::Open { session, collection, secret } => {
                self.opened(peer, session, collection, secret);
            }
            ShareMessage::Sync { session, message } => self.synced(peer, session, message),
            ShareMessage::Close { session, reason } => self.closed(peer, session, reason),
            ShareMessage::AskLive { collection, cut, from } => {
                self.asked_live(peer, collection, cut, from);
            }
            ShareMessage::Live { collection, cut, from, entries } => {
                self.live_came(peer, &collection, cut, from, entries);
            }
            ShareMessage::Erase { collection, entries } => {
                self.asked_to_erase(peer, &collection, entries);
            }
            ShareMessage::AskValues { collection, entries } => {
                self.asked_values(peer, collection, entries);
            }
            ShareMessage::Values { collection, values } => {
                self.values_came(peer, &collection, values);
            }
        }
        self.pump(&peer);
    }

    fn saved(&mut self, number: u64) {
        self.saved = self.saved.max(number.min(self.committed));
        let names: Vec<_> = self.collections.keys().cloned().collect();
        for name in &names {
            self.acknowledge(name);
            let Some(collection) = self.collections.get_mut(name) else { continue };
            if collection.news_after.is_some_and(|after| after <= self.saved) {
                collection.news_after = None;
                self.spread(name);
            }
        }
        // What waited for the disk leaves before more is signed that waits for it.
        self.pump_all();
        self.flush_due();
    }

    /// Whether a member gets a collection, which may have to be made first.
    fn has(&mut self, name: &CollectionName, named_by: Option<PeerId>) -> bool {
        if !self.rights.reads(name, &self.me) {
            return false;
        }
        if self.collections.contains_key(name) {
            return true;
        }
        if self.collections.len() >= SHARED_COLLECTIONS_MAX {
            return false;
        }
        let declared = self.rights.knows(name);
        if let (Some(_), false) = (named_by, declared) {
            let named = self.collections.values().filter(|c| c.named_by == named_by).count();
            if named >= SHARED_COLLECTIONS_PER_PEER_MAX {
                return false;
            }
        }
        let kind = self.rights.terms(name).spec.kind;
        let mut made = Collection::new(self.me, name.clone(), kind);
        made.named_by = named_by.filter(|_| !declared);
        made.round = self.now.mono;
        self.collections.insert(name.clone(), made);
        true
    }

    /// Gives a write out to be saved; the number of the commit.
    fn commit(&mut self, name: &CollectionName, write: WriteBatch, erase: bool) -> u64 {
        self.committed += 1;
        let number = self.committed;
        if let Some(collection) = self.collections.get_mut(name) {
            collection.touched();
            collection.news_after = Some(number);
        }
        let now = self.now.mono;
        for state in self.peers.values_mut() {
            if let Some(link) = state.links.get_mut(name).filter(|link| link.heard.is_some()) {
                link.apart.get_or_insert(now);
            }
        }
        self.out.push(Output::Commit { number, collection: name.clone(), write, erase });
        number
    }

    fn changed(&mut self, name: &CollectionName, mut keys: Vec<RecordId>) {
        keys.sort_unstable();
        keys.dedup();
        let more = keys.len() > SHARED_CHANGED_KEYS_MAX;
        keys.truncate(SHARED_CHANGED_KEYS_MAX);
        self.out.push(Output::Changed { collection: name.clone(), keys, more });
    }

    fn event(&mut self, event: ShareEvent) {
        self.out.push(Output::Event(event));
    }

    /// A member is not listened to for a while, and nothing more of it is begun.
    fn cut_off(&mut self, peer: PeerId, reason: CutOff) {
        let until = self.now.mono + Duration::from_millis(SHARED_CUT_OFF_MILLIS);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if state.cut_off.is_some() {
            return;
        }
        state.cut_off = Some(until);
        for (session, _) in std::mem::take(&mut state.talks) {
            state.post(ShareMessage::Close { session, reason: Closed::Broken });
        }
        self.event(ShareEvent::CutOff { peer, reason });
        self.pump(&peer);
    }

    fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.entropy)(&mut bytes);
        bytes
    }
}

/// The longest pause between two ticks.
const TICK: Duration = Duration::from_millis(500);
