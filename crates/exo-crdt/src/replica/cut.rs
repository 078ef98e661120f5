//! Making checkpoints, checking those that others propose, and taking agreed ones over.

use std::collections::BTreeMap;
use std::mem;

use exo_types::Timestamp;
use exo_types::codec::{CodecError, Wire};
use exo_types::limits::{EPOCHS_LATE_MAX, LIVE_ENTRIES_MAX};

use super::restore::{BATCH, CHECKPOINT, ERASED, LIVE, UNDER, VALUE, key};
use super::view::{Candidate, by_key, living};
use super::{Above, Replica, Under, encode};
use crate::batch::Authors;
use crate::checkpoint::{
    Checkpoint, CollectionKind, FrontierBatch, LiveSet, Standing, end_of_milli,
};
use crate::merkle;
use crate::store::WriteBatch;
use crate::writer::ChainEnd;

/// Why no checkpoint was made, or why a proposed one is not the one that its cut gives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Live entries under the present cut are missing here.
    #[error("{0} entries under the present checkpoint are missing here")]
    Holes(usize),
    /// A batch under the proposed cut is missing here: this replica cannot attest that it holds it.
    #[error("batch {seq} of {author:?} is under the cut and missing here")]
    Missing {
        /// Whose batch.
        author: exo_types::PeerId,
        /// Its number.
        seq: u64,
    },
    /// A batch under the proposed cut is void, and its author has not said yet that it knows.
    #[error("{0:?} has a void batch under the cut and has not signed anything since it was void")]
    Unsettled(exo_types::PeerId),
    /// More would live than one checkpoint may have.
    #[error("{0} entries would live, more than one checkpoint may have")]
    TooMany(usize),
    /// It does not follow the present one, or is not in its form.
    #[error("the checkpoint does not follow: {0}")]
    NotNext(CodecError),
    /// The proposed live set is not what the entries give.
    #[error("the proposed checkpoint is not what its cut gives")]
    Differs,
}

/// Why a checkpoint was not taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// This replica is at that checkpoint or a later one.
    #[error("the checkpoint is of epoch {0}, this replica is there or later")]
    Old(u64),
    /// It is of another collection or does not follow the present one.
    #[error("the checkpoint does not follow: {0}")]
    NotNext(CodecError),
    /// The live set is not the one that the checkpoint names.
    #[error("the live set is not the one that the checkpoint names")]
    LiveSet,
}

impl Replica {
    /// Makes the checkpoint of everything that is held here in unbroken chains. It is a proposal: a
    /// quorum must hold the same and agree.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub fn propose(&self, time: Timestamp) -> Result<(Checkpoint, LiveSet), ProposeError> {
        let mut ends: BTreeMap<_, _> = self
            .cut
            .frontier
            .iter()
            .map(|batch| (batch.author, self.cut.end_of(&batch.author)))
            .collect();
        for author in self.authors_above() {
            let chain: Vec<_> = self.chain(author).collect();
            let settled = self.settled(chain.iter().map(|(_, batch)| *batch));
            let end = settled.checked_sub(1).and_then(|last| chain.get(last));
            ends.extend(end.map(|(end, _)| (author, *end)));
        }
        let frontier = ends.into_iter().map(|(author, end)| FrontierBatch {
            author,
            seq: end.seq,
            hash: end.hash,
            total_entries: end.total_entries,
            total_bytes: end.total_bytes,
        });
        self.build(time, frontier.collect())
    }

    /// Checks a proposed checkpoint by making it again from what is held here. Success is the
    /// attestation that everything under the cut is.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub fn check_proposal(&self, proposed: &Checkpoint) -> Result<LiveSet, ProposeError> {
        let (own, live) = self.build(proposed.time, proposed.frontier.clone())?;
        if own == *proposed { Ok(live) } else { Err(ProposeError::Differs) }
    }

    fn build(
        &self,
        time: Timestamp,
        frontier: Vec<FrontierBatch>,
    ) -> Result<(Checkpoint, LiveSet), ProposeError> {
        let holes = self.missing().count();
        if holes > 0 {
            return Err(ProposeError::Holes(holes));
        }
        let mut recent = vec![(self.cut_hash, self.cut.time)];
        recent.extend(&self.cut.recent);
        recent.truncate(EPOCHS_LATE_MAX);
        let mut next = Checkpoint {
            epoch: self.cut.epoch.saturating_add(1),
            time,
            recent,
            frontier,
            ..self.cut.clone()
        };
        next.check().map_err(ProposeError::NotNext)?;
        self.cut.check_next(&next).map_err(ProposeError::NotNext)?;
        let mut candidates = self.candidates_under();
        for batch in &next.frontier {
            for above in self.history(batch)? {
                // A stamp from the future is worth no more than the time that is agreed.
                let clamp = |c: Candidate<'_>| c.effective.min(end_of_milli(time));
                let clamped =
                    self.candidates_of(above).map(|c| Candidate { effective: clamp(c), ..c });
                candidates.extend(clamped);
            }
        }
        let (horizon, cut) = (next.horizon(), &next);
        let covered = |dot: &crate::dot::Dot| cut.covers(&dot.author, dot.seq());
        let live: LiveSet = by_key(candidates)
            .values()
            .flat_map(|group| living(cut.kind, group, covered, horizon))
            .map(|candidate| (candidate.id, candidate.effective))
            .collect();
        if live.len() > LIVE_ENTRIES_MAX {
            return Err(ProposeError::TooMany(live.len()));
        }
        next.live_root = live.root();
        next.live_count = live.len() as u64;
        Ok((next, live))
    }

    /// The batches from the present cut to a new one, by the history that the new one picks.
    fn history(&self, to: &FrontierBatch) -> Result<Vec<&Above>, ProposeError> {
        let from = self.cut.end_of(&to.author);
        let (mut seq, mut hash) = (to.seq, to.hash);
        let mut batches: Vec<&Above> = Vec::new();
        while seq > from.seq {
            let forks = self.above.get(&(to.author, seq));
            let Some(batch) = forks.and_then(|forks| forks.get(&hash)) else {
                return Err(ProposeError::Missing { author: to.author, seq });
            };
            batches.push(batch);
            (seq, hash) = (seq - 1, batch.header.previous);
        }
        let mut end = from;
        for batch in batches.iter().rev() {
            if !batch.follows(end) {
                return Err(ProposeError::Missing { author: to.author, seq: batch.header.seq });
            }
            end = ChainEnd::after(&batch.header);
        }
        let totals = (to.hash, to.total_entries, to.total_bytes);
        if (end.hash, end.total_entries, end.total_bytes) != totals {
            return Err(ProposeError::Differs);
        }
        batches.reverse();
        if self.settled(batches.iter().copied()) < batches.len() {
            return Err(ProposeError::Unsettled(to.author));
        }
        Ok(batches)
    }

    /// How many of an author's next batches may come under a cut.
    ///
    /// A void batch may only with a later one whose author has seen it void: one that names a checkpoint
    /// under which it was. Otherwise an author that was away could not tell, once all is under the cut,
    /// what counted and was superseded from what never counted and is to be signed again.
    fn settled<'a>(&self, batches: impl Iterator<Item = &'a Above>) -> usize {
        let (mut settled, mut unseen) = (0, None);
        for (count, batch) in (1..).zip(batches) {
            let epoch = batch.header.epoch_ref.epoch;
            match self.cut.standing(self.cut_hash, batch.header.epoch_ref) {
                Standing::Ahead => break,
                Standing::Void => unseen = unseen.max(Some(epoch)),
                Standing::Known(_) => {
                    let late = |void: u64| void.saturating_add(EPOCHS_LATE_MAX as u64) >= epoch;
                    if !unseen.is_some_and(late) {
                        (settled, unseen) = (count, None);
                    }
                }
            }
        }
        settled
    }

    /// Takes over an agreed checkpoint: everything is filtered by it. A later one may be taken over at
    /// once, without those between.
    ///
    /// Of the author's own entries some may be void now: [`author_entries`](Self::author_entries) before
    /// and after tells which. What it signs again goes into the same write as the checkpoint; a crash in
    /// between would lose it.
    ///
    /// # Errors
    /// [`AdoptError`]; nothing has changed then.
    pub fn adopt(&mut self, next: Checkpoint, live: LiveSet) -> Result<WriteBatch, AdoptError> {
        if next.epoch <= self.cut.epoch {
            return Err(AdoptError::Old(next.epoch));
        }
        next.check().map_err(AdoptError::NotNext)?;
        if next.epoch == self.cut.epoch + 1 {
            self.cut.check_next(&next).map_err(AdoptError::NotNext)?;
        }
        let same = (&next.collection, next.kind) == (&self.collection, self.cut.kind);
        if !same || live.len() as u64 != next.live_count || live.root() != next.live_root {
            return Err(AdoptError::LiveSet);
        }
        let hash = next.hash().map_err(AdoptError::NotNext)?;
        let mut write = WriteBatch::default();
        write.put(key(CHECKPOINT, &[]), encode(&next).map_err(AdoptError::NotNext)?);
        write.put(key(LIVE, &[]), encode(&live).map_err(AdoptError::NotNext)?);
        (self.cut, self.cut_hash, self.live) = (next, hash, live);
        self.filter(&mut write);
        Ok(write)
    }

    /// Lets the entries of a collection that has no checkpoint mean something else: it was not known yet
    /// what they mean. `false` when there is one.
    pub fn become_kind(&mut self, kind: CollectionKind) -> bool {
        let first = self.cut.epoch == 0;
        if first {
            self.cut.kind = kind;
        }
        first
    }

    /// Drops what was signed after its author's revocation took effect.
    pub fn forget_revoked(&mut self, authors: &impl Authors) -> WriteBatch {
        let mut write = WriteBatch::default();
        let revoked = |author: &exo_types::PeerId, seq: u64| {
            let last = authors.author(author).and_then(|author| author.last_seq);
            last.is_some_and(|last| seq > last)
        };
        self.above.retain(|(author, seq), forks| {
            let drop = revoked(author, *seq);
            if drop {
                forks.keys().for_each(|hash| write.delete(key(BATCH, &hash.0)));
            }
            !drop
        });
        self.relink_all();
        self.reindex();
        self.drop_values(&mut write);
        write
    }

    fn filter(&mut self, write: &mut WriteBatch) {
        let live = &self.live;
        self.under.retain(|id, _| {
            let keep = live.contains(id);
            if !keep {
                write.delete(key(UNDER, &id.0));
            }
            keep
        });
        for ((author, seq), forks) in mem::take(&mut self.above) {
            let covered = self.cut.covers(&author, seq);
            let mut kept = BTreeMap::new();
            for (hash, batch) in forks {
                if covered {
                    write.delete(key(BATCH, &hash.0));
                    self.settle(&batch, write);
                } else if self.is_void(&batch.header) && batch.bytes.is_some() {
                    let void = Above::void(batch.header);
                    if let Ok(bytes) = super::restore::batch_bytes(&void) {
                        write.put(key(BATCH, &hash.0), bytes);
                    }
                    kept.insert(hash, void);
                } else {
                    kept.insert(hash, batch);
                }
            }
            if !kept.is_empty() {
                self.above.insert((author, seq), kept);
            }
        }
        self.headers = self.under.values().map(|u| (u.header.hash(), u.header.clone())).collect();
        self.relink_all();
        self.reindex();
        self.drop_values(write);
    }

    /// Keeps of a batch that came under the cut the entries that live, each with its proof.
    fn settle(&mut self, batch: &Above, write: &mut WriteBatch) {
        for ((id, entry), index) in batch.ids.iter().zip(&batch.entries).zip(0..=u8::MAX) {
            if !self.live.contains(id) {
                continue;
            }
            let Some(path) = merkle::path(&batch.ids, usize::from(index)) else { continue };
            let header = batch.header.clone();
            let under = Under { header, entry: entry.clone(), index, path };
            if let Ok(bytes) = encode(&under.shown()) {
                write.put(key(UNDER, &id.0), bytes);
            }
            self.under.insert(*id, under);
        }
    }

    fn relink_all(&mut self) {
        self.chains.clear();
        let authors: Vec<_> = self.authors_above().collect();
        authors.into_iter().for_each(|author| self.relink(author));
    }

    /// Destroys the values of entries that are gone.
    fn drop_values(&mut self, write: &mut WriteBatch) {
        let mut held: std::collections::BTreeSet<_> = self.under.keys().copied().collect();
        held.extend(self.batches_above().flat_map(|batch| batch.ids.iter().copied()));
        self.values.retain(|id, _| {
            let keep = held.contains(id);
            if !keep {
                write.delete(key(VALUE, &id.0));
            }
            keep
        });
        self.erased.retain(|id| {
            let keep = held.contains(id);
            if !keep {
                write.delete(key(ERASED, &id.0));
            }
            keep
        });
    }
}
