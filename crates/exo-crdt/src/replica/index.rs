//! Which entries are about a key: what is seen there is found without looking at any other.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use exo_types::{PeerId, RecordId, Timestamp};

use super::view::{self, Candidate};
use super::{Replica, Visible};
use crate::batch::VerifiedHeader;
use crate::checkpoint::{Standing, not_before};
use crate::clock::ahead;
use crate::entry::{Entry, Operation, Value};
use crate::hash::EntryId;
use crate::store::WriteBatch;

/// The entries of each key.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(BTreeMap<RecordId, Vec<Place>>);

/// Where an entry is held.
#[derive(Clone, Debug)]
enum Place {
    /// In a batch above the cut, at this index.
    Above(Arc<VerifiedHeader>, u8),
    /// Under the cut.
    Under(EntryId),
}

/// An entry of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    /// Its id.
    pub id: EntryId,
    /// Who wrote it.
    pub author: PeerId,
    /// Whether it put a value.
    pub put: bool,
}

impl Index {
    pub(super) fn add_batch(&mut self, header: &Arc<VerifiedHeader>, entries: &[Entry]) {
        for (entry, index) in entries.iter().zip(0..=u8::MAX) {
            let place = Place::Above(Arc::clone(header), index);
            self.0.entry(entry.key.clone()).or_default().push(place);
        }
    }

    pub(super) fn remove_batch(&mut self, header: &VerifiedHeader, entries: &[Entry]) {
        for entry in entries {
            let Some(places) = self.0.get_mut(&entry.key) else { continue };
            places.retain(
                |place| !matches!(place, Place::Above(of, _) if of.hash() == header.hash()),
            );
            if places.is_empty() {
                self.0.remove(&entry.key);
            }
        }
    }

    pub(super) fn add_under(&mut self, id: EntryId, entry: &Entry) {
        self.0.entry(entry.key.clone()).or_default().push(Place::Under(id));
    }
}

impl Replica {
    /// What is seen at one key at `now`: as the whole [`view`](Self::view) shows it.
    pub fn visible(&self, key: &RecordId, now: Timestamp) -> Option<Visible> {
        let group: Vec<_> = self
            .places(key)
            .filter_map(|place| self.candidate(place))
            .filter(|candidate| ahead(candidate.effective, now).is_none())
            .collect();
        view::visible(self.cut.kind, &group)
    }

    /// The keys of which entries are held, in order, from after one on.
    pub fn keys(&self, after: Option<&RecordId>) -> impl Iterator<Item = &RecordId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.index.0.range::<RecordId, _>((from, Bound::Unbounded)).map(|(key, _)| key)
    }

    /// The entries that are held of a key, whether they count or not.
    pub fn entries_of(&self, key: &RecordId) -> impl Iterator<Item = KeyEntry> {
        self.places(key).filter_map(|place| {
            let (id, header, entry) = self.held_at(place)?;
            let put = matches!(entry.operation, Operation::Put { .. });
            Some(KeyEntry { id, author: header.author, put })
        })
    }

    /// The puts whose values are neither held nor erased, with their keys.
    pub fn lacking_values(&self) -> impl Iterator<Item = (&RecordId, EntryId)> {
        let entries = self.index.0.iter().flat_map(move |(key, places)| {
            places.iter().filter_map(move |place| Some((key, self.held_at(place)?)))
        });
        entries.filter_map(move |(key, (id, _, entry))| {
            let put = matches!(entry.operation, Operation::Put { .. });
            (put && !self.values.contains_key(&id) && !self.erased.contains(&id))
                .then_some((key, id))
        })
    }

    /// Whether a value was erased.
    pub fn is_erased(&self, id: &EntryId) -> bool {
        self.erased.contains(id)
    }

    /// Keeps the value behind an entry of this key, like [`put_value`](Self::put_value), which finds it
    /// without its key.
    pub fn put_value_at(
        &mut self,
        key: &RecordId,
        id: EntryId,
        value: Value,
    ) -> Option<WriteBatch> {
        let held = self.places(key).filter_map(|place| self.held_at(place));
        let opens = held.filter(|(held, ..)| *held == id).any(|(_, _, entry)| value.opens(entry));
        if opens { self.keep_value(id, value) } else { None }
    }

    /// Makes the index anew, after much has gone.
    pub(super) fn reindex(&mut self) {
        let mut index = Index::default();
        for batch in self.batches_above() {
            index.add_batch(&batch.header, &batch.entries);
        }
        for (id, under) in &self.under {
            index.add_under(*id, &under.entry);
        }
        self.index = index;
    }

    fn places(&self, key: &RecordId) -> impl Iterator<Item = &Place> {
        self.index.0.get(key).into_iter().flatten()
    }

    fn held_at(&self, place: &Place) -> Option<(EntryId, &VerifiedHeader, &Entry)> {
        match place {
            Place::Above(header, index) => {
                let forks = self.above.get(&(header.author, header.seq))?;
                let batch = forks.get(&header.hash())?;
                let at = usize::from(*index);
                Some((*batch.ids.get(at)?, &batch.header, batch.entries.get(at)?))
            }
            Place::Under(id) => {
                let under = self.under.get(id)?;
                Some((*id, &under.header, &under.entry))
            }
        }
    }

    /// The entry with its effective time, unless it is frozen, out of its author's chain, or does not
    /// count yet or any more.
    fn candidate(&self, place: &Place) -> Option<Candidate<'_>> {
        let (id, header, entry) = self.held_at(place)?;
        let (index, effective) = match place {
            Place::Under(id) => (self.under.get(id)?.index, self.live.effective(id)?),
            Place::Above(_, index) => {
                // Of an author without blame there is one history, and its chain is all up to its end.
                let chained = header.seq <= self.chain_end(&header.author).seq;
                if !chained || self.evidence.accuses(&header.author) {
                    return None;
                }
                match self.cut.standing(self.cut_hash, header.epoch_ref) {
                    Standing::Known(time) => (*index, not_before(entry.stamp, time)),
                    Standing::Ahead | Standing::Void => return None,
                }
            }
        };
        Some(Candidate { id, dot: header.dot(index), effective, entry })
    }
}
