//! An author's side: entries wait for others, then one signature makes them a batch.

use exo_crypto::{PostQuantumKeypair, SignBodyError, Signed};
use exo_types::codec::{CodecError, Wire};
use exo_types::limits::{BATCH_ENTRIES_MAX, BATCH_FLUSH_MILLIS};
use exo_types::{CollectionName, PeerId, RecordId, Timestamp};

use crate::batch::{BatchHeader, EpochRef, VerifiedBatch, VerifiedHeader};
use crate::clock::{Clock, ClockAtEnd};
use crate::dot::Dot;
use crate::entry::{Entry, Operation};
use crate::hash::HeaderHash;
use crate::merkle;
use crate::stamp::Hlc;

/// Where an author's chain of batches ends: what the next header continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainEnd {
    /// The last batch's number; 0 before the first.
    pub seq: u64,
    /// The last header's hash; zeros before the first.
    pub hash: HeaderHash,
    /// Entries of all batches.
    pub total_entries: u64,
    /// Bytes of all batches.
    pub total_bytes: u64,
}

impl ChainEnd {
    /// Before the first batch.
    pub const START: Self =
        Self { seq: 0, hash: HeaderHash([0; 32]), total_entries: 0, total_bytes: 0 };

    /// The end after a batch with this header.
    pub fn after(header: &VerifiedHeader) -> Self {
        Self {
            seq: header.seq,
            hash: header.hash(),
            total_entries: header.total_entries,
            total_bytes: header.total_bytes,
        }
    }
}

/// What stands at a key as its author saw it before it wrote there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The dots of all writes that stand there.
    pub dots: Vec<Dot>,
    /// The latest effective time of them.
    pub latest: Hlc,
}

impl From<Vec<Dot>> for Observed {
    /// Dots of which nothing further is known.
    fn from(dots: Vec<Dot>) -> Self {
        Self { dots, latest: Hlc::ZERO }
    }
}

/// Collects an author's writes to one collection.
///
/// Its chain must be restored from what was saved durably: an author that forgot a batch it has sent,
/// and signs another of the same number, proves itself a double signer.
#[derive(Clone, Debug)]
pub struct Writer {
    author: PeerId,
    collection: CollectionName,
    end: ChainEnd,
    pending: Vec<Entry>,
    since: Option<Timestamp>,
}

/// Why a write was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The clock is at its end.
    #[error(transparent)]
    Clock(ClockAtEnd),
    /// The entry breaks a rule.
    #[error("the entry is not valid: {0}")]
    Entry(CodecError),
    /// A full batch waits to be signed.
    #[error("{BATCH_ENTRIES_MAX} entries wait to be signed")]
    Full,
}

/// Why a batch was not signed. The entries still wait.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlushError {
    /// The header was not signed.
    #[error(transparent)]
    Sign(SignBodyError),
    /// The author's totals or numbers are at their end.
    #[error("the author's chain has come to its end")]
    AtEnd,
    /// An entry is not valid.
    #[error("the batch is not valid: {0}")]
    Entry(CodecError),
}

impl Writer {
    /// A writer that continues a chain.
    pub fn new(author: PeerId, collection: CollectionName, end: ChainEnd) -> Self {
        Self { author, collection, end, pending: Vec::new(), since: None }
    }

    /// Stamps a write and lets it wait. Its stamp is after what was observed: that may have arrived while
    /// it was too far ahead for the clock to fold it in, and come into view since.
    ///
    /// # Errors
    /// [`WriteError`]; nothing waits then that did not before.
    pub fn write(
        &mut self,
        key: RecordId,
        operation: Operation,
        observed: impl Into<Observed>,
        clock: &mut Clock,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        if self.is_full() {
            return Err(WriteError::Full);
        }
        let Observed { dots: mut observed, latest } = observed.into();
        observed.sort_unstable();
        clock.fold_seen(latest);
        observed.dedup();
        let stamp = clock.tick(now).map_err(WriteError::Clock)?;
        let entry = Entry { key, operation, stamp, observed };
        entry.to_wire().map_err(WriteError::Entry)?;
        self.pending.push(entry);
        self.since.get_or_insert(now);
        Ok(())
    }

    /// Whether it is time to sign: the batch is full or its first entry has waited long enough.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.is_full()
            || self.since.is_some_and(|since| now.millis_since(since) >= BATCH_FLUSH_MILLIS)
    }

    /// Whether no further entry is taken before a batch is signed.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= BATCH_ENTRIES_MAX
    }

    /// Entries that wait.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The author.
    pub fn author(&self) -> PeerId {
        self.author
    }

    /// Where the chain ends.
    pub fn end(&self) -> ChainEnd {
        self.end
    }

    /// Signs the entries that wait as one batch; `None` when there are none. It is to be applied to
    /// the author's own replica, and saved, before it is sent.
    ///
    /// # Errors
    /// [`FlushError`].
    pub fn flush(
        &mut self,
        keypair: &PostQuantumKeypair,
        epoch_ref: EpochRef,
    ) -> Result<Option<VerifiedBatch>, FlushError> {
        if self.pending.is_empty() {
            return Ok(None);
        }
        let (mut ids, mut bytes) = (Vec::with_capacity(self.pending.len()), 0);
        for entry in &self.pending {
            let wire = entry.to_wire().map_err(FlushError::Entry)?;
            bytes += wire.len() as u64 + u64::from(entry.value_bytes());
            ids.push(Entry::id_of(&self.author, &self.collection, &wire));
        }
        let count = u16::try_from(ids.len()).map_err(|_| FlushError::AtEnd)?;
        let add = |total: u64, more: u64| total.checked_add(more).ok_or(FlushError::AtEnd);
        let header = BatchHeader {
            collection: self.collection.clone(),
            author: self.author,
            seq: add(self.end.seq, 1)?,
            previous: self.end.hash,
            root: merkle::root(&ids),
            entries: count,
            total_entries: add(self.end.total_entries, u64::from(count))?,
            total_bytes: add(self.end.total_bytes, bytes)?,
            epoch_ref,
        };
        let header = Signed::sign(header, keypair).map_err(FlushError::Sign)?;
        let header = VerifiedHeader::of(header);
        let entries = std::mem::take(&mut self.pending);
        self.since = None;
        self.end = ChainEnd::after(&header);
        // What was signed here is what the root was made of.
        VerifiedBatch::assemble(header, entries).map(Some).map_err(|_| FlushError::AtEnd)
    }
}
