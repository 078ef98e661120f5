//! Taking in what another member sent: verified, by the rights of its author, as a whole or not at all.

use exo_crdt::replica::{ApplyRefusal, Outcome};
use exo_crdt::sync::Item;
use exo_crdt::{
    Authors, EntryId, Operation, Value, VerifiedBatch, VerifiedEntry, VerifiedHeader, WriteBatch,
};
use exo_types::limits::SHARED_LACKING_MAX;
use exo_types::{PeerId, RecordId, Timestamp};

use super::Refused;
use super::collection::Collection;
use super::spec::Writers;

/// What was taken in.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) write: WriteBatch,
    /// Items that were new.
    pub(super) fresh: usize,
    pub(super) keys: Vec<RecordId>,
    pub(super) accused: Vec<PeerId>,
}

impl Collection {
    /// Verifies an item and takes it in; of entries under the cut each by itself.
    pub(super) fn take(
        &mut self,
        item: Item,
        authors: &Writers<'_>,
        wall: Timestamp,
    ) -> Vec<Result<Taken, Refused>> {
        let name = self.name().clone();
        match item {
            Item::Batch { batch, values } => vec![self.take_batch(batch, values, authors, wall)],
            Item::Void(header) => {
                let verified = VerifiedHeader::verify(&header, &name, authors);
                vec![verified.map_err(|why| Refused::from(&why)).and_then(|header| {
                    let outcome = self.replica.apply_void(header);
                    self.note(outcome, Vec::new(), wall)
                })]
            }
            Item::Shown(group) => {
                let take = |(shown, value)| self.take_shown(shown, value, authors, wall);
                group.entries().map(take).collect()
            }
            Item::Evidence(evidence) => {
                let place = evidence.place().map_err(|_| Refused::Forged);
                let verified = place.and_then(|(author, _)| {
                    let author = authors.author(&author).ok_or(Refused::Unknown)?;
                    evidence.verify(author.key).map_err(|_| Refused::Forged)
                });
                vec![verified.and_then(|_| {
                    let outcome = self.replica.apply_evidence(evidence);
                    self.note(outcome, Vec::new(), wall)
                })]
            }
        }
    }

    fn take_batch(
        &mut self,
        batch: exo_crdt::Batch,
        values: Vec<(u8, Value)>,
        authors: &Writers<'_>,
        wall: Timestamp,
    ) -> Result<Taken, Refused> {
        let claimed = batch.header.claimed().map_err(|_| Refused::Forged)?;
        let hash = exo_crdt::batch::header_hash(batch.header.body());
        // It was verified when it came first.
        if self.replica.holds(&claimed.author, claimed.seq, &hash) {
            return Ok(Taken::default());
        }
        let verified = VerifiedBatch::verify(batch, self.replica.collection(), authors);
        let batch = verified.map_err(|why| Refused::from(&why))?;
        let keys = batch.entries().iter().map(|entry| entry.key.clone()).collect();
        let opened = batch.open_values(values);
        let puts = batch
            .ids()
            .iter()
            .zip(batch.entries())
            .filter(|(_, entry)| matches!(entry.operation, Operation::Put { .. }));
        let puts: Vec<_> = puts.map(|(id, entry)| (*id, entry.key.clone())).collect();
        let outcome = self.replica.apply(batch);
        let mut taken = self.note(outcome, keys, wall)?;
        if taken.fresh > 0 {
            let values = self.replica.put_values(opened).map_err(|_| Refused::Forged)?;
            taken.write.append(values);
            puts.into_iter().for_each(|(id, key)| self.note_lacking(id, key));
        }
        Ok(taken)
    }

    fn take_shown(
        &mut self,
        shown: exo_crdt::ShownEntry,
        value: Option<Value>,
        authors: &Writers<'_>,
        wall: Timestamp,
    ) -> Result<Taken, Refused> {
        let verified = VerifiedEntry::verify(shown, self.replica.collection(), authors);
        let shown = verified.map_err(|why| Refused::from(&why))?;
        let (id, key) = (shown.id(), shown.shown().entry.key.clone());
        let put = matches!(shown.shown().entry.operation, Operation::Put { .. });
        let outcome = self.replica.apply_shown(&shown);
        let mut taken = self.note(outcome, vec![key.clone()], wall)?;
        if let Some(write) = value.and_then(|value| self.replica.put_value_at(&key, id, value)) {
            taken.write.append(write);
        }
        if taken.fresh > 0 && put {
            self.note_lacking(id, key);
        }
        Ok(taken)
    }

    /// Remembers an entry without its value, to be asked for.
    fn note_lacking(&mut self, id: EntryId, key: RecordId) {
        let held = self.replica.value(&id).is_some() || self.replica.is_erased(&id);
        if !held && self.lacking.len() < SHARED_LACKING_MAX {
            self.lacking.push_back((id, key));
        }
    }

    fn note(
        &mut self,
        outcome: Result<Outcome, ApplyRefusal>,
        keys: Vec<RecordId>,
        wall: Timestamp,
    ) -> Result<Taken, Refused> {
        let outcome = outcome.map_err(|why| match why {
            ApplyRefusal::Quota(_) => Refused::Quota,
            ApplyRefusal::Encoding(_) => Refused::Forged,
        })?;
        self.clock().fold(outcome.latest, wall);
        let fresh = usize::from(!outcome.write.is_empty());
        if fresh > 0 {
            self.touched();
        }
        let keys = if fresh > 0 { keys } else { Vec::new() };
        let accused = outcome.accused.into_iter().collect();
        Ok(Taken { write: outcome.write, fresh, keys, accused })
    }
}
