//! Taking batches, shown entries and proofs in.

use std::sync::Arc;

use exo_types::PeerId;
use exo_types::codec::CodecError;
use exo_types::limits::{
    BATCHES_PER_AUTHOR_MAX, ENTRIES_PER_AUTHOR_MAX, ENTRY_BYTES_PER_AUTHOR_MAX, FORKS_PER_SEQ_MAX,
};

use super::restore::{self, BATCH, EVIDENCE, UNDER, key};
use super::{Above, Replica, Under, encode};
use crate::batch::{VerifiedBatch, VerifiedEntry, VerifiedHeader};
use crate::checkpoint::Standing;
use crate::evidence::Evidence;
use crate::merkle;
use crate::stamp::Hlc;
use crate::store::WriteBatch;
use crate::writer::ChainEnd;

/// What was done with something verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What is to be saved before anything depends on it; empty when it was known or did not count.
    pub write: WriteBatch,
    /// The latest stamp taken in. When it is from the future the entry is held and passed on like any
    /// other, and takes effect later.
    pub latest: Hlc,
    /// A proof that came to light.
    pub accused: Option<PeerId>,
}

/// Why something verified was not taken in. None of these depends on a clock or on the order of arrival.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyRefusal {
    /// The author has signed for more above the cut than one author may.
    #[error("{0:?} has more above the cut than one author may")]
    Quota(PeerId),
    /// Something that was verified does not encode.
    #[error("what was verified does not encode: {0}")]
    Encoding(CodecError),
}

impl Replica {
    /// Takes a batch in.
    ///
    /// # Errors
    /// [`ApplyRefusal`]; nothing has changed then.
    pub fn apply(&mut self, batch: VerifiedBatch) -> Result<Outcome, ApplyRefusal> {
        if self.cut.covers(&batch.header().author, batch.header().seq) {
            return self.apply_under(&batch);
        }
        let (header, entries, ids, bytes) = batch.into_parts();
        self.apply_above(Above { header: Arc::new(header), entries, ids, bytes: Some(bytes) })
    }

    /// Takes in the header of a void batch: a link of its author's chain. One that this replica does not
    /// find void is left.
    ///
    /// # Errors
    /// [`ApplyRefusal`]; nothing has changed then.
    pub fn apply_void(&mut self, header: VerifiedHeader) -> Result<Outcome, ApplyRefusal> {
        if self.cut.covers(&header.author, header.seq) || !self.is_void(&header) {
            return Ok(Outcome::nothing());
        }
        self.apply_above(Above::void(Arc::new(header)))
    }

    /// Takes one entry under the cut in: what fills a hole. One that does not live is left.
    ///
    /// # Errors
    /// [`ApplyRefusal`]; nothing has changed then.
    pub fn apply_shown(&mut self, shown: &VerifiedEntry) -> Result<Outcome, ApplyRefusal> {
        let (header, id) = (shown.header(), shown.id());
        let mut outcome = Outcome::nothing();
        let lives = self.cut.covers(&header.author, header.seq) && self.live.contains(&id);
        if lives && !self.under.contains_key(&id) {
            let wire = encode(shown.shown()).map_err(ApplyRefusal::Encoding)?;
            outcome.write.put(key(UNDER, &id.0), wire);
            outcome.latest = shown.shown().entry.stamp;
            let shown = shown.shown();
            let under = Under {
                header: self.shared(header),
                entry: shown.entry.clone(),
                index: shown.index,
                path: shown.path.clone(),
            };
            self.index.add_under(id, &under.entry);
            self.under.insert(id, under);
        }
        Ok(outcome)
    }

    /// Takes a proof in that was verified with [`Evidence::verify`].
    ///
    /// # Errors
    /// [`ApplyRefusal`]; nothing has changed then.
    pub fn apply_evidence(&mut self, evidence: Evidence) -> Result<Outcome, ApplyRefusal> {
        let mut outcome = Outcome::nothing();
        let wire = encode(&evidence).map_err(ApplyRefusal::Encoding)?;
        let Ok(place) = evidence.place() else { return Ok(outcome) };
        if self.evidence.insert(evidence) {
            outcome.write.put(restore::place_key(EVIDENCE, place), wire);
            outcome.accused = Some(place.0);
        }
        Ok(outcome)
    }

    /// A header of entries under the cut, in memory once however many they are.
    fn shared(&mut self, header: &VerifiedHeader) -> Arc<VerifiedHeader> {
        self.headers.entry(header.hash()).or_insert_with(|| Arc::new(header.clone())).clone()
    }

    fn apply_under(&mut self, batch: &VerifiedBatch) -> Result<Outcome, ApplyRefusal> {
        let mut outcome = Outcome::nothing();
        let header = self.shared(batch.header());
        let mut fresh = Vec::new();
        for (at, (id, entry)) in batch.ids().iter().zip(batch.entries()).enumerate() {
            if !self.live.contains(id) || self.under.contains_key(id) {
                continue;
            }
            let (Ok(index), Some(path)) = (u8::try_from(at), merkle::path(batch.ids(), at)) else {
                continue;
            };
            let under = Under { header: header.clone(), entry: entry.clone(), index, path };
            let wire = encode(&under.shown()).map_err(ApplyRefusal::Encoding)?;
            outcome.write.put(key(UNDER, &id.0), wire);
            outcome.latest = outcome.latest.max(entry.stamp);
            fresh.push((*id, under));
        }
        fresh.iter().for_each(|(id, under)| self.index.add_under(*id, &under.entry));
        self.under.extend(fresh);
        Ok(outcome)
    }

    fn apply_above(&mut self, mut batch: Above) -> Result<Outcome, ApplyRefusal> {
        let (author, seq, hash) = (batch.header.author, batch.header.seq, batch.header.hash());
        self.check_quota(&batch.header)?;
        let mut outcome = Outcome::nothing();
        let forks = self.above.get(&(author, seq));
        if forks.is_some_and(|forks| forks.contains_key(&hash)) {
            return Ok(outcome);
        }
        if self.is_void(&batch.header) {
            batch = Above::void(batch.header);
        }
        let wire = restore::batch_bytes(&batch).map_err(ApplyRefusal::Encoding)?;
        let other = forks.and_then(|forks| forks.values().next()).map(|held| held.header.clone());
        let mut forks = forks.cloned().unwrap_or_default();
        outcome.latest = batch.entries.iter().map(|entry| entry.stamp).max().unwrap_or_default();
        outcome.write.put(key(BATCH, &hash.0), wire);
        let header = batch.header.clone();
        self.index.add_batch(&header, &batch.entries);
        forks.insert(hash, batch);
        // Two headers are the proof; of more the least two are kept, which is a join.
        while forks.len() > FORKS_PER_SEQ_MAX {
            let Some((dropped, old)) = forks.pop_last() else { break };
            outcome.write.delete(key(BATCH, &dropped.0));
            self.index.remove_batch(&old.header, &old.entries);
            if dropped == hash {
                outcome.write = WriteBatch::default();
            }
        }
        if let Some(other) = other {
            let pair = Evidence::of(other.signed().clone(), header.signed().clone());
            if let Ok(evidence) = pair {
                let found = self.apply_evidence(evidence)?;
                outcome.write.append(found.write);
                outcome.accused = found.accused;
            }
        }
        self.above.insert((author, seq), forks);
        self.relink(author);
        Ok(outcome)
    }

    /// Counts what the author itself signed for, so that nothing a third party says uses it up.
    fn check_quota(&self, header: &VerifiedHeader) -> Result<(), ApplyRefusal> {
        let end = self.cut.end_of(&header.author);
        let over = header.seq - end.seq > BATCHES_PER_AUTHOR_MAX
            || header.total_entries.saturating_sub(end.total_entries) > ENTRIES_PER_AUTHOR_MAX
            || header.total_bytes.saturating_sub(end.total_bytes) > ENTRY_BYTES_PER_AUTHOR_MAX;
        if over { Err(ApplyRefusal::Quota(header.author)) } else { Ok(()) }
    }

    pub(super) fn is_void(&self, header: &VerifiedHeader) -> bool {
        self.cut.standing(self.cut_hash, header.epoch_ref) == Standing::Void
    }

    /// Finds the end of an author's chain again: from where it was, or from the cut after a fork.
    pub(super) fn relink(&mut self, author: PeerId) {
        let mut end = match self.chains.get(&author) {
            Some(end) if !self.evidence.accuses(&author) => *end,
            _ => self.cut.end_of(&author),
        };
        loop {
            let next = end.seq.checked_add(1).and_then(|seq| self.above.get(&(author, seq)));
            let Some(batch) = next.and_then(|forks| forks.values().find(|b| b.follows(end))) else {
                break;
            };
            end = ChainEnd::after(&batch.header);
        }
        self.chains.insert(author, end);
    }
}

impl Outcome {
    fn nothing() -> Self {
        Self { write: WriteBatch::default(), latest: Hlc::ZERO, accused: None }
    }
}
