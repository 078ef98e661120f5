//! Entries of this member that came too late for a checkpoint, signed again as new writes.

use std::collections::BTreeMap;

use exo_crdt::checkpoint::Standing;
use exo_crdt::stamp::Hlc;
use exo_crdt::sync::Item;
use exo_crdt::{Entry, EntryId, Operation, Value, WriteBatch};
use exo_crypto::PostQuantumKeypair;
use exo_types::{Now, RecordId};

use super::collection::Collection;

/// What signing again came to.
#[derive(Default)]
pub(super) struct Again {
    pub(super) write: WriteBatch,
    /// Entries that were signed again.
    pub(super) count: usize,
    /// Writes that waited and were signed with them.
    pub(super) acks: Vec<(u64, EntryId)>,
    pub(super) keys: Vec<RecordId>,
}

impl Collection {
    /// Signs entries again, in the order in which they were written, and takes them in. Those at whose key
    /// this member wrote something later that counts are left out.
    pub(super) fn sign_again(
        &mut self,
        mut entries: Vec<(Entry, Option<Value>)>,
        keypair: &PostQuantumKeypair,
        now: Now,
    ) -> Again {
        let mut again = Again::default();
        if entries.is_empty() {
            return again;
        }
        // What this member wrote there later, and still counts, must not lose to it.
        let mut newest: BTreeMap<RecordId, Hlc> = BTreeMap::new();
        for entry in self.replica.author_entries(self.me()).into_values() {
            let at = newest.entry(entry.key).or_default();
            *at = (*at).max(entry.stamp);
        }
        entries.retain(|(entry, _)| {
            let later = newest.get(&entry.key).is_some_and(|at| *at >= entry.stamp);
            !later && !self.has_pending(&entry.key)
        });
        entries.sort_by_key(|(entry, _)| entry.stamp);
        for (entry, value) in entries {
            if self.has_no_room_for(value.as_ref()) {
                self.sign_into(&mut again, keypair);
            }
            let operation = Some(entry.operation);
            let value = value.filter(|_| entry.operation != Operation::Remove);
            let observed = entry.observed.into();
            let pushed = self.push(None, entry.key, value, operation, observed, now);
            again.count += usize::from(pushed.is_ok());
        }
        self.sign_into(&mut again, keypair);
        again
    }

    /// The entries of a batch, with their values, that the checkpoint in force makes void.
    pub(super) fn void_entries(&self, item: &Item) -> Vec<(Entry, Option<Value>)> {
        let Item::Batch { batch, values } = item else { return Vec::new() };
        let Ok(header) = batch.header.claimed() else { return Vec::new() };
        let (cut, own) = (self.replica.checkpoint(), self.replica.epoch_ref().hash);
        if cut.standing(own, header.epoch_ref) != Standing::Void {
            return Vec::new();
        }
        let value = |at: usize| {
            let of_entry = values.iter().find(|(index, _)| usize::from(*index) == at);
            of_entry.map(|(_, value)| value.clone())
        };
        let entries = batch.entries.iter().enumerate();
        entries.map(|(at, entry)| (entry.clone(), value(at))).collect()
    }

    fn sign_into(&mut self, again: &mut Again, keypair: &PostQuantumKeypair) {
        if let Ok(Some(signed)) = self.sign(keypair) {
            again.write.append(signed.write);
            again.acks.extend(signed.acks);
            again.keys.extend(signed.keys);
        }
    }
}
