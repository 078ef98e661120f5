//! Writes and erasures of this member.

use exo_crdt::{EntryId, WriteBatch};
use exo_types::limits::{
    ENTRY_VALUE_BYTES_MAX, SHARED_ERASED_PER_MESSAGE_MAX, SHARED_WRITES_WAITING_MAX,
};
use exo_types::{CollectionName, PeerId, RecordId};

use super::collection::{ASKED, Pushed};
use super::message::ShareMessage;
use super::{Change, Output, ShareRefusal, Shared, Written};

impl Shared {
    pub(super) fn write(
        &mut self,
        ticket: u64,
        name: &CollectionName,
        key: RecordId,
        change: Change,
    ) {
        let result = self.try_write(ticket, name, key, change);
        if let Some(result) = result.transpose() {
            self.out.push(Output::Done { ticket, result });
        }
        self.flush_due();
    }

    /// `None` when the answer comes with the disk's.
    fn try_write(
        &mut self,
        ticket: u64,
        name: &CollectionName,
        key: RecordId,
        change: Change,
    ) -> Result<Option<Written>, ShareRefusal> {
        self.may_write(name)?;
        if let Change::Put(bytes) = &change
            && bytes.len() > ENTRY_VALUE_BYTES_MAX
        {
            let (max, actual) = (ENTRY_VALUE_BYTES_MAX, bytes.len());
            return Err(ShareRefusal::TooLong { max, actual });
        }
        let (salt, now) = (self.random(), self.now);
        let busy = || ShareRefusal::Busy(name.clone());
        let collection = self.collections.get_mut(name).ok_or_else(busy)?;
        if !collection.has_own_history() {
            return Err(ShareRefusal::OwnHistory(name.clone()));
        }
        // What came before is written before.
        let change = if collection.waiting.is_empty() {
            match collection.write(ticket, &key, change, salt, now)? {
                Pushed::Waits => return Ok(None),
                Pushed::Nothing => return Ok(Some(Written::Nothing)),
                Pushed::NoRoom(change) => change,
            }
        } else {
            change
        };
        if collection.waiting.len() >= SHARED_WRITES_WAITING_MAX {
            return Err(busy());
        }
        collection.waiting.push_back((ticket, key, change));
        Ok(None)
    }

    fn may_write(&mut self, name: &CollectionName) -> Result<(), ShareRefusal> {
        if !self.rights.reads(name, &self.me) {
            return Err(ShareRefusal::NoCollection(name.clone()));
        }
        if !self.rights.writes(name, &self.me) {
            return Err(ShareRefusal::NotAWriter(name.clone()));
        }
        if self.has(name, None) { Ok(()) } else { Err(ShareRefusal::TooManyCollections) }
    }

    /// Signs what is due, in every collection of which nothing signed waits for the disk: so a write that
    /// comes alone waits for nothing but the disk, and one commit takes what came while the one before was
    /// written.
    pub(super) fn flush_due(&mut self) {
        let (now, saved) = (self.now.mono, self.saved);
        let due = |c: &super::Collection| c.is_due(now) && !c.unsaved(saved);
        let names: Vec<_> =
            self.collections.iter().filter(|(_, c)| due(c)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.flush(&name);
        }
    }

    /// Signs what waits in one collection; whether there was anything.
    pub(super) fn flush(&mut self, name: &CollectionName) -> bool {
        let writes = self.rights.writes(name, &self.me);
        let Some(collection) = self.collections.get_mut(name) else { return false };
        if !writes {
            for ticket in collection.give_up() {
                let result = Err(ShareRefusal::NotAWriter(name.clone()));
                self.out.push(Output::Done { ticket, result });
            }
            return false;
        }
        let signed = match collection.sign(&self.keypair) {
            Ok(Some(signed)) => signed,
            Ok(None) => return false,
            Err(why) => {
                for ticket in collection.give_up() {
                    let result = Err(ShareRefusal::Failed(why.clone()));
                    self.out.push(Output::Done { ticket, result });
                }
                return false;
            }
        };
        let number = self.commit(name, signed.write, false);
        if let Some(collection) = self.collections.get_mut(name) {
            collection.signed_in(number);
            collection.spend(self.now.mono);
            let acks = signed.acks.into_iter();
            let acks = acks.map(|(ticket, id)| (number, ticket, Written::Entry(id)));
            collection.acks.extend(acks);
        }
        self.changed(name, signed.keys);
        self.refill(name);
        true
    }

    /// Lets those that had no room wait in the next batch.
    fn refill(&mut self, name: &CollectionName) {
        let now = self.now;
        loop {
            let salt = self.random();
            let Some(collection) = self.collections.get_mut(name) else { return };
            if collection.is_full() {
                return;
            }
            let Some((ticket, key, change)) = collection.waiting.pop_front() else { return };
            let result = match collection.write(ticket, &key, change, salt, now) {
                Ok(Pushed::Waits) => continue,
                Ok(Pushed::Nothing) => Ok(Written::Nothing),
                Ok(Pushed::NoRoom(change)) => {
                    collection.waiting.push_front((ticket, key, change));
                    return;
                }
                Err(why) => Err(why),
            };
            self.out.push(Output::Done { ticket, result });
        }
    }

    /// Tells the callers whose writes are on the disk.
    pub(super) fn acknowledge(&mut self, name: &CollectionName) {
        let saved = self.saved;
        let Some(collection) = self.collections.get_mut(name) else { return };
        while collection.acks.front().is_some_and(|(number, ..)| *number <= saved) {
            let Some((_, ticket, written)) = collection.acks.pop_front() else { return };
            self.out.push(Output::Done { ticket, result: Ok(written) });
        }
    }

    /// Destroys the values of a key here, and asks the others to destroy those that this member wrote.
    pub(super) fn erase(&mut self, ticket: u64, name: &CollectionName, key: &RecordId) {
        let reads = self.rights.reads(name, &self.me);
        let Some(collection) = self.collections.get_mut(name).filter(|_| reads) else {
            let result = Err(ShareRefusal::NoCollection(name.clone()));
            self.out.push(Output::Done { ticket, result });
            return;
        };
        let me = collection.me();
        let entries: Vec<_> = collection.replica.entries_of(key).filter(|of| of.put).collect();
        let (mut write, mut erased) = (WriteBatch::default(), 0);
        for entry in &entries {
            erased += usize::from(collection.replica.value(&entry.id).is_some());
            if !collection.replica.is_erased(&entry.id) {
                write.append(collection.replica.erase(entry.id));
            }
            if entry.author == me && collection.erased.insert(entry.id, key.clone()).is_none() {
                let at = [&[ASKED], entry.id.0.as_slice()].concat();
                write.changes.push((at, Some(key.as_str().as_bytes().to_vec())));
            }
        }
        if write.is_empty() {
            self.out.push(Output::Done { ticket, result: Ok(Written::Nothing) });
            return;
        }
        collection.mark(&mut write);
        let number = self.commit(name, write, true);
        if let Some(collection) = self.collections.get_mut(name) {
            collection.acks.push_back((number, ticket, Written::Erased(erased)));
        }
        self.changed(name, vec![key.clone()]);
        for peer in self.readers_with_lane(name) {
            if let Some(state) = self.peers.get_mut(&peer) {
                state.link(name).erasures_told = false;
            }
            self.tell_erasures(peer, name);
            self.pump(&peer);
        }
    }

    /// Asks a peer to erase what this member wants erased, once a lane.
    pub(super) fn tell_erasures(&mut self, peer: PeerId, name: &CollectionName) {
        let Some(collection) = self.collections.get(name) else { return };
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if collection.erased.is_empty()
            || std::mem::replace(&mut state.link(name).erasures_told, true)
        {
            return;
        }
        let entries: Vec<_> =
            collection.erased.iter().map(|(id, key)| (key.clone(), *id)).collect();
        for part in entries.chunks(SHARED_ERASED_PER_MESSAGE_MAX) {
            let (collection, entries) = (name.clone(), part.to_vec());
            state.post(ShareMessage::Erase { collection, entries });
        }
    }

    /// An author asks to destroy values of its own.
    pub(super) fn asked_to_erase(
        &mut self,
        peer: PeerId,
        name: &CollectionName,
        entries: Vec<(RecordId, EntryId)>,
    ) {
        if !self.rights.reads(name, &peer) {
            return;
        }
        let Some(collection) = self.collections.get_mut(name) else { return };
        let (mut write, mut keys) = (WriteBatch::default(), Vec::new());
        for (key, id) in entries {
            let own = |of: exo_crdt::replica::KeyEntry| of.id == id && of.author == peer && of.put;
            let held = collection.replica.entries_of(&key).any(own);
            if held && !collection.replica.is_erased(&id) {
                write.append(collection.replica.erase(id));
                keys.push(key);
            }
        }
        if !write.is_empty() {
            self.commit(name, write, true);
            self.changed(name, keys);
        }
    }
}
