//! Rights and checkpoints: what follows when the log decides something, and what a voter proposes.

use std::sync::Arc;
use std::time::Duration;

use exo_crdt::replica::ProposeError;
use exo_crdt::stamp::Hlc;
use exo_crdt::sync::{Item, SyncMessage};
use exo_crdt::{Checkpoint, CutHash, EntryId, LiveSet, WriteBatch};
use exo_types::codec::Wire;
use exo_types::limits::{
    CLOCK_DRIFT_MILLIS_MAX, SHARED_CUT_AGE_MILLIS_MAX, SHARED_CUT_BATCHES, SHARED_CUT_MILLIS,
    SHARED_LIVE_PIECE_ENTRIES, SHARED_SILENCE_MILLIS,
};
use exo_types::{CollectionName, PeerId, Timestamp};

use super::collection::KEPT;
use super::message::ShareMessage;
use super::spec::Rights;
use super::{CutOff, Output, ShareEvent, Shared};
use crate::decide::Decision;

/// The entries that live under a checkpoint, as far as they have come.
pub(super) struct Fetch {
    cut: Arc<Checkpoint>,
    hash: CutHash,
    from: PeerId,
    /// When something came last.
    moved: Duration,
    entries: Vec<(EntryId, Hlc)>,
}

impl Shared {
    /// Others are members, readers or writers, or a checkpoint took effect or was proposed.
    pub(super) fn rights_changed(&mut self, rights: Rights) {
        self.rights = rights;
        let names: Vec<_> = self.rights.terms.keys().cloned().collect();
        for name in &names {
            // What is declared is there for its readers, though nothing was written to it.
            if self.has(name, None) {
                let kind = self.rights.terms(name).spec.kind;
                if let Some(collection) = self.collections.get_mut(name) {
                    collection.named_by = None;
                    if collection.replica.checkpoint().kind != kind {
                        collection.replica.become_kind(kind);
                    }
                }
            }
        }
        self.end_sessions();
        for name in &names {
            self.follow_cut(name);
            self.follow_writers(name);
        }
        self.cuts_due();
        self.pump_all();
    }

    /// Drops what does not count any more, and takes back what of this member's own counts again.
    fn follow_writers(&mut self, name: &CollectionName) {
        let authors = self.rights.authors(name);
        let (me, wall, terms) = (self.me, self.now.wall, self.rights.terms(name));
        let last = terms.last_seq(&self.rights.roster, &me);
        let Some(collection) = self.collections.get_mut(name) else { return };
        let (mut write, mut void) = (WriteBatch::default(), Vec::new());
        // What this member has signed it keeps: it can never sign these numbers again.
        if let Some(last) = last {
            for item in collection.replica.items_after(me, last) {
                let Item::Batch { batch, .. } = &item else { continue };
                let Ok(seq) = batch.header.claimed().map(|header| header.seq) else { continue };
                let Ok(bytes) = SyncMessage::Items(vec![item]).to_wire() else { continue };
                write.changes.push((kept_key(seq), Some(bytes.clone())));
                collection.kept.insert(seq, bytes);
            }
        }
        write.append(collection.replica.forget_revoked(&authors));
        if last.is_none() {
            for (seq, bytes) in std::mem::take(&mut collection.kept) {
                write.changes.push((kept_key(seq), None));
                let Ok(SyncMessage::Items(items)) = SyncMessage::from_wire(&bytes) else {
                    continue;
                };
                for item in items {
                    void.extend(collection.void_entries(&item));
                    let taken = collection.take(item, &authors, wall);
                    taken.into_iter().flatten().for_each(|taken| write.append(taken.write));
                }
            }
        }
        // What came too late meanwhile is signed again.
        let again = collection.sign_again(void, &self.keypair, self.now);
        write.append(again.write);
        if write.is_empty() {
            return;
        }
        let number = self.commit(name, write, false);
        if again.count > 0
            && let Some(collection) = self.collections.get_mut(name)
        {
            collection.signed_in(number);
            let acks = again.acks.into_iter();
            collection.acks.extend(acks.map(|(t, id)| (number, t, super::Written::Entry(id))));
        }
        self.changed(name, Vec::new());
    }

    /// Takes the checkpoint over that is in force, if it is a later one than here.
    fn follow_cut(&mut self, name: &CollectionName) {
        let Some(cut) = self.rights.terms(name).cut.clone() else { return };
        let Some(collection) = self.collections.get_mut(name) else { return };
        let epoch = collection.replica.checkpoint().epoch;
        if cut.epoch <= epoch {
            return;
        }
        let made = (cut.epoch == epoch + 1).then(|| collection.replica.check_proposal(&cut));
        match made {
            Some(Ok(live)) => {
                self.adopt(name, &cut, live);
            }
            _ => self.fetch(name, &cut),
        }
    }

    /// Takes a checkpoint over, and signs again what of this member's came too late, in one commit.
    fn adopt(&mut self, name: &CollectionName, cut: &Checkpoint, live: LiveSet) -> bool {
        // What waits was stamped before the time that is agreed now. Signed under the new checkpoint it would
        // all count from that time, and not in the order in which it was written.
        while self.flush(name) {}
        let (me, now) = (self.me, self.now);
        let writes = self.rights.writes(name, &me);
        let Some(collection) = self.collections.get_mut(name) else { return false };
        let before: Vec<_> = collection
            .replica
            .author_entries(me)
            .into_iter()
            .map(|((id, seq), entry)| {
                let value = collection.replica.value(&id).cloned();
                ((id, seq), entry, value)
            })
            .collect();
        let Ok(mut write) = collection.replica.adopt(cut.clone(), live) else { return false };
        collection.fetch = None;
        collection.touched();
        collection.clock().fold_agreed(cut.time);
        let held = collection.replica.author_entries(me);
        let void = before.into_iter().filter(|((id, seq), ..)| {
            writes && !held.contains_key(&(*id, *seq)) && !cut.covers(&me, *seq)
        });
        let void = void.map(|(_, entry, value)| (entry, value)).collect();
        let again = collection.sign_again(void, &self.keypair, now);
        let (count, acks, keys) = (again.count, again.acks, again.keys);
        write.append(again.write);
        collection.mark(&mut write);
        let lacking = collection.replica.lacking_values().map(|(key, id)| (id, key.clone()));
        collection.lacking = lacking.take(exo_types::limits::SHARED_LACKING_MAX).collect();
        let number = self.commit(name, write, false);
        if let Some(collection) = self.collections.get_mut(name) {
            if count > 0 {
                collection.signed_in(number);
            }
            let acks = acks.into_iter();
            collection.acks.extend(acks.map(|(t, id)| (number, t, super::Written::Entry(id))));
        }
        self.changed(name, keys);
        let (collection, epoch) = (name.clone(), cut.epoch);
        self.event(ShareEvent::Adopted { collection, epoch, again: count });
        true
    }

    /// Asks somebody which entries live under a checkpoint.
    fn fetch(&mut self, name: &CollectionName, cut: &Arc<Checkpoint>) {
        let now = self.now.mono;
        let draw = u64::from_le_bytes(self.random());
        let Some(collection) = self.collections.get_mut(name) else { return };
        let silence = Duration::from_millis(SHARED_SILENCE_MILLIS);
        let busy = collection.fetch.as_ref().filter(|fetch| {
            fetch.cut == *cut
                && now <= fetch.moved + silence
                && self.peers.get(&fetch.from).is_some_and(|p| p.lane)
        });
        if busy.is_some() {
            return;
        }
        collection.fetch = None;
        let Ok(hash) = cut.hash() else { return };
        let readers = self.readers_with_lane(name);
        let listened = |peer: &&PeerId| self.peers.get(peer).is_some_and(|p| p.cut_off.is_none());
        let readers: Vec<_> = readers.iter().filter(listened).copied().collect();
        let at = draw.checked_rem(readers.len() as u64).unwrap_or(0) as usize;
        let Some(from) = readers.get(at).copied() else { return };
        if let Some(collection) = self.collections.get_mut(name) {
            let (cut, entries) = (Arc::clone(cut), Vec::new());
            collection.fetch = Some(Fetch { cut, hash, from, moved: now, entries });
        }
        if let Some(state) = self.peers.get_mut(&from) {
            let collection = name.clone();
            state.post(ShareMessage::AskLive { collection, cut: hash, from: 0 });
        }
        self.pump(&from);
    }

    /// A peer asks which entries live.
    pub(super) fn asked_live(
        &mut self,
        peer: PeerId,
        name: CollectionName,
        cut: CutHash,
        from: u64,
    ) {
        if !self.rights.reads(&name, &peer) {
            return;
        }
        let Some(collection) = self.collections.get(&name) else { return };
        let at_it = collection.replica.epoch_ref().hash == cut;
        let skip = usize::try_from(from).unwrap_or(usize::MAX);
        let live = collection.replica.live().iter().skip(skip).filter(|_| at_it);
        let entries = live.take(SHARED_LIVE_PIECE_ENTRIES).map(|(id, at)| (*id, *at)).collect();
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !state.answers() {
            state.post(ShareMessage::Live { collection: name, cut, from, entries });
        }
    }

    /// Some of the entries that live have come.
    pub(super) fn live_came(
        &mut self,
        peer: PeerId,
        name: &CollectionName,
        cut: CutHash,
        from: u64,
        entries: Vec<(EntryId, Hlc)>,
    ) {
        let now = self.now.mono;
        let Some(collection) = self.collections.get_mut(name) else { return };
        let Some(fetch) = &mut collection.fetch else { return };
        let next = fetch.entries.len() as u64;
        if (fetch.from, fetch.hash, next) != (peer, cut, from) {
            return;
        }
        let count = fetch.cut.live_count;
        if entries.is_empty() && count > 0 {
            // It is not there itself: another is asked with the next tick.
            collection.fetch = None;
            return;
        }
        fetch.entries.extend(entries);
        fetch.moved = now;
        let have = fetch.entries.len() as u64;
        if have < count {
            let collection = name.clone();
            if let Some(state) = self.peers.get_mut(&peer) {
                state.post(ShareMessage::AskLive { collection, cut, from: have });
            }
            return;
        }
        let Some(fetch) = collection.fetch.take() else { return };
        let live: LiveSet = fetch.entries.into_iter().collect();
        if live.root() != fetch.cut.live_root {
            self.cut_off(peer, CutOff::Forged);
        } else if self.adopt(name, &fetch.cut, live) {
            self.follow_writers(name);
        }
    }

    /// What a voter does about checkpoints: it takes over what is in force, seconds what it can make again,
    /// and proposes one when it is due and nobody before it in turn has.
    pub(super) fn cuts_due(&mut self) {
        let names: Vec<_> = self.collections.keys().cloned().collect();
        for name in names {
            self.follow_cut(&name);
            if self.rights.seats.contains(&self.me) && self.rights.reads(&name, &self.me) {
                self.vote(&name);
            }
        }
    }

    fn vote(&mut self, name: &CollectionName) {
        let now = self.now.mono;
        let again = Duration::from_millis(SHARED_CUT_MILLIS);
        let Some(collection) = self.collections.get(name) else { return };
        let next = collection.replica.checkpoint().epoch + 1;
        if self.rights.terms(name).epoch() + 1 != next || collection.unsaved(self.saved) {
            return;
        }
        let said = collection.cut_said.filter(|(epoch, _)| *epoch == next);
        if said.is_some_and(|(_, at)| now < at + again) {
            return;
        }
        let of_next = |cut: &Checkpoint| cut.collection == *name && cut.epoch == next;
        let proposed = self.rights.proposed.iter().filter(|(_, cut)| of_next(cut));
        let mine: Vec<_> =
            proposed.clone().filter(|(by, _)| *by == self.me).map(|(_, cut)| cut).collect();
        let open = proposed.map(|(_, cut)| cut).filter(|cut| !mine.contains(cut));
        let seconded = open
            .filter(|cut| self.in_time(cut.time))
            .find(|cut| collection.replica.check_proposal(cut).is_ok());
        if let Some(cut) = seconded {
            let cut = Checkpoint::clone(cut);
            self.propose(name, cut);
            return;
        }
        self.propose_in_turn(name, next);
    }

    fn in_time(&self, time: Timestamp) -> bool {
        let now = self.now.wall;
        time <= now.plus_millis(CLOCK_DRIFT_MILLIS_MAX)
            && now.millis_since(time) <= SHARED_CUT_AGE_MILLIS_MAX
    }

    /// Makes a checkpoint, when one has been due for as long as the voters before this one in turn get.
    fn propose_in_turn(&mut self, name: &CollectionName, next: u64) {
        let now = self.now;
        let seats: Vec<_> = self.rights.seats.iter().copied().collect();
        let waits = !self.rights.terms(name).leaving.is_empty();
        let own = seats.iter().position(|seat| *seat == self.me).unwrap_or(0) as u64;
        let count = seats.len().max(1) as u64;
        let turn = (own + count - next % count) % count;
        let Some(collection) = self.collections.get_mut(name) else { return };
        let due = collection.replica.batches() >= SHARED_CUT_BATCHES || waits;
        let since = match collection.cut_due.filter(|(epoch, _)| *epoch == next && due) {
            Some((_, since)) => since,
            None => {
                collection.cut_due = due.then_some((next, now.mono));
                now.mono
            }
        };
        if !due || now.mono < since + Duration::from_millis(turn * SHARED_CUT_MILLIS) {
            return;
        }
        // Everybody gets a turn before anybody has another.
        collection.cut_due =
            Some((next, now.mono + Duration::from_millis((count - turn) * SHARED_CUT_MILLIS)));
        let after = collection.replica.checkpoint().time.plus_millis(1);
        match collection.replica.propose(now.wall.max(after)) {
            Ok((cut, _)) => self.propose(name, cut),
            // It comes with the next synchronisation.
            Err(ProposeError::Holes(_) | ProposeError::Missing { .. }) => {}
            Err(why) => self.no_cut(name, why.to_string()),
        }
    }

    fn propose(&mut self, name: &CollectionName, cut: Checkpoint) {
        let now = self.now.mono;
        let epoch = cut.epoch;
        let decision = Decision::Cut(Box::new(cut));
        if let Some(collection) = self.collections.get_mut(name) {
            collection.cut_said = Some((epoch, now));
        }
        match decision.to_update() {
            Ok(_) => self.out.push(Output::Propose(Box::new(decision))),
            Err(why) => self.no_cut(name, why.to_string()),
        }
    }

    fn no_cut(&mut self, name: &CollectionName, reason: String) {
        self.event(ShareEvent::NoCut { collection: name.clone(), reason });
    }
}

fn kept_key(seq: u64) -> Vec<u8> {
    [&[KEPT], seq.to_be_bytes().as_slice()].concat()
}
