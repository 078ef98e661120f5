//! Values that did not come with their entries: asked for, and given.

use exo_crdt::{EntryId, Value, WriteBatch};
use exo_types::limits::{SHARED_VALUES_MAX, SYNC_ITEMS_STEP_BYTES};
use exo_types::{CollectionName, PeerId, RecordId};

use super::Shared;
use super::collection::Collection;
use super::message::ShareMessage;

impl Shared {
    /// Asks a peer that holds the same for values that have not come.
    pub(super) fn ask_for_values(&mut self, peer: PeerId, name: &CollectionName) {
        let Some(collection) = self.collections.get_mut(name) else { return };
        if collection.lacking.is_empty() {
            return;
        }
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if state.link(name).asked_values {
            return;
        }
        // Each in turn: who has none of these may have the next.
        let mut entries = Vec::new();
        for _ in 0..collection.lacking.len() {
            let Some((id, key)) = collection.lacking.pop_front() else { break };
            if !collection.lacks(&key, &id) {
                continue;
            }
            collection.lacking.push_back((id, key.clone()));
            entries.push((key, id));
            if entries.len() == SHARED_VALUES_MAX {
                break;
            }
        }
        if entries.is_empty() {
            return;
        }
        state.link(name).asked_values = true;
        let collection = name.clone();
        state.post(ShareMessage::AskValues { collection, entries });
    }

    /// A peer asks for values.
    pub(super) fn asked_values(
        &mut self,
        peer: PeerId,
        name: CollectionName,
        entries: Vec<(RecordId, EntryId)>,
    ) {
        if !self.rights.reads(&name, &peer) {
            return;
        }
        let Some(collection) = self.collections.get(&name) else { return };
        let (mut values, mut bytes) = (Vec::new(), 0);
        for (key, id) in entries {
            let Some(value) = collection.replica.value(&id) else { continue };
            bytes += value.bytes.len() + key.as_str().len() + 80;
            if bytes > SYNC_ITEMS_STEP_BYTES {
                break;
            }
            values.push((key, id, value.clone()));
        }
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !state.answers() {
            state.post(ShareMessage::Values { collection: name, values });
        }
    }

    /// Values came.
    pub(super) fn values_came(
        &mut self,
        peer: PeerId,
        name: &CollectionName,
        values: Vec<(RecordId, EntryId, Value)>,
    ) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        // Only what was asked for is looked at.
        if !std::mem::replace(&mut state.link(name).asked_values, false) {
            return;
        }
        let Some(collection) = self.collections.get_mut(name) else { return };
        let (mut write, mut keys) = (WriteBatch::default(), Vec::new());
        for (key, id, value) in values {
            if let Some(kept) = collection.replica.put_value_at(&key, id, value) {
                write.append(kept);
                keys.push(key);
            }
        }
        if !write.is_empty() {
            self.commit(name, write, false);
            self.changed(name, keys);
            self.ask_for_values(peer, name);
        }
    }
}

impl Collection {
    /// Whether the value behind a held entry is neither held nor erased.
    fn lacks(&self, key: &RecordId, id: &EntryId) -> bool {
        let replica = &self.replica;
        replica.value(id).is_none()
            && !replica.is_erased(id)
            && replica.entries_of(key).any(|of| of.id == *id)
    }
}
