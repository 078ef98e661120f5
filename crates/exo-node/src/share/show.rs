//! What is seen of shared collections from outside: keys, collections, where others are.

use std::time::Duration;

use exo_crdt::replica::Visible;
use exo_types::limits::SHARED_PAGE_KEYS_MAX;
use exo_types::{CollectionName, Now, RecordId, Timestamp};

use super::collection::Collection;
use super::peer::Link;
use super::{CollectionView, Lag, ShareRefusal, Shared, Shown};
use crate::roster::Standing;

impl Shared {
    /// What is at a key at this time.
    ///
    /// # Errors
    /// [`ShareRefusal::NoCollection`].
    pub fn get(
        &self,
        wall: Timestamp,
        collection: &CollectionName,
        key: &RecordId,
    ) -> Result<Option<Shown>, ShareRefusal> {
        let collection = self.readable(collection)?;
        Ok(collection.visible(key, wall).map(|seen| shown(collection, key, &seen)))
    }

    /// The keys that have a value, in order, after one, at most `max` and [`SHARED_PAGE_KEYS_MAX`].
    ///
    /// # Errors
    /// [`ShareRefusal::NoCollection`].
    pub fn list(
        &self,
        wall: Timestamp,
        collection: &CollectionName,
        after: Option<&RecordId>,
        max: usize,
    ) -> Result<Vec<Shown>, ShareRefusal> {
        let collection = self.readable(collection)?;
        let keys = collection.replica.keys(after);
        let seen = keys.filter_map(|key| {
            collection.visible(key, wall).map(|seen| shown(collection, key, &seen))
        });
        Ok(seen.take(max.min(SHARED_PAGE_KEYS_MAX)).collect())
    }

    /// The collections of which this member may know, by name.
    pub fn collections(&mut self, now: Now) -> Vec<CollectionView> {
        let names: Vec<_> = self.collections.keys().cloned().collect();
        names.iter().filter_map(|name| self.collection(now, name)).collect()
    }

    /// One collection; `None` when there is none, or this member may not read it.
    pub fn collection(&mut self, now: Now, name: &CollectionName) -> Option<CollectionView> {
        if !self.rights.reads(name, &self.me) {
            return None;
        }
        let held = self.collections.get_mut(name)?.held();
        let lag = self.lag(now.mono, name, held);
        let replica = &self.collections.get(name)?.replica;
        let mut accused: Vec<_> = replica.evidence().iter().map(|((who, _), _)| *who).collect();
        accused.dedup();
        Some(CollectionView {
            name: name.clone(),
            spec: self.rights.terms(name).spec.clone(),
            declared: self.rights.knows(name),
            writes: self.rights.writes(name, &self.me),
            epoch: held.epoch,
            root: held.root,
            batches: replica.batches(),
            entries: replica.entries(),
            missing: replica.missing().count(),
            accused,
            lag,
        })
    }

    /// What one collection holds, for an export or a test; `None` as with
    /// [`collection`](Self::collection).
    pub fn replica(&self, name: &CollectionName) -> Option<&exo_crdt::Replica> {
        self.readable(name).ok().map(|collection| &collection.replica)
    }

    fn lag(&self, now: Duration, name: &CollectionName, ours: super::Held) -> Vec<Lag> {
        let others = self.rights.roster.active().map(|(peer, _)| *peer);
        let others = others.filter(|peer| *peer != self.me && self.rights.reads(name, peer));
        others
            .map(|peer| {
                let state = self.peers.get(&peer);
                let link = state.and_then(|state| state.links.get(name));
                let heard = link.and_then(|link| link.heard);
                let apart =
                    |link: &Link| link.apart.map_or(Duration::ZERO, |at| now.saturating_sub(at));
                let batches = heard.map_or(0, |held| {
                    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
                    count(ours.batches).saturating_sub(count(held.batches))
                });
                let same = heard.map(|held| held.root == ours.root);
                let behind = link.filter(|_| same == Some(false)).map_or(Duration::ZERO, apart);
                Lag {
                    peer,
                    connected: state.is_some_and(|state| state.lane),
                    same,
                    behind_millis: u64::try_from(behind.as_millis()).unwrap_or(u64::MAX),
                    behind_batches: if same == Some(false) { batches } else { 0 },
                    syncing: state.is_some_and(|state| state.talks_about(name)),
                }
            })
            .collect()
    }

    fn readable(&self, name: &CollectionName) -> Result<&Collection, ShareRefusal> {
        let reads = self.rights.roster.standing(&self.me) == Standing::Active
            && self.rights.reads(name, &self.me);
        let held = self.collections.get(name).filter(|_| reads);
        held.ok_or_else(|| ShareRefusal::NoCollection(name.clone()))
    }
}

fn shown(collection: &Collection, key: &RecordId, seen: &Visible) -> Shown {
    Shown {
        key: key.clone(),
        entry: seen.id,
        author: seen.author,
        at: seen.effective,
        value: collection.replica.value(&seen.id).map(|value| value.bytes.clone()),
    }
}
