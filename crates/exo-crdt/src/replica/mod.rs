//! A replica of one shared collection: the union of verified entries, filtered by a checkpoint.
//!
//! The state is a set and its join the union, so the order in which batches, shown entries, proofs and
//! checkpoints arrive does not matter. What users see is a pure [`view`](Replica::view) of it.
//!
//! # Provided
//! - Replicas that hold the same items and checkpoint have the same [`canonical_state`](Replica::canonical_state)
//!   and the same view at the same time, to the last bit.
//! - A batch is applied and saved whole or not at all.
//! - An author's entries count once every batch of it before has arrived; those of a proven double
//!   signer are frozen until a checkpoint picks one of its histories.
//! - Nothing that a checkpoint dropped comes back ([`checkpoint`](crate::checkpoint)).
//! - Whatever one author can make a replica hold is bounded, by what it signed, not by what it says.
//!
//! # Not provided
//! - Agreement on checkpoints and membership.
//! - Erasure at members that kept a copy.

mod apply;
mod cut;
mod held;
mod index;
mod restore;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use exo_crypto::Label;
use exo_types::codec::{CodecError, Wire};
use exo_types::{CollectionName, PeerId};

use crate::batch::{Batch, EpochRef, OpenedValues, ShownEntry, VerifiedHeader};
use crate::checkpoint::{Checkpoint, CollectionKind, LiveSet};
use crate::entry::{Entry, Value};
use crate::evidence::EvidenceSet;
use crate::hash::{CutHash, EntryId, HeaderHash, StateRoot, digest};
use crate::merkle::{self, InclusionPath};
use crate::store::WriteBatch;
use crate::writer::ChainEnd;

pub use apply::{ApplyRefusal, Outcome};
pub use cut::{AdoptError, ProposeError};
pub(crate) use held::Loose;
pub use index::KeyEntry;
pub use restore::RestoreError;
pub use view::{View, Visible};

/// A replica of one shared collection.
#[derive(Clone, Debug)]
pub struct Replica {
    collection: CollectionName,
    cut: Checkpoint,
    cut_hash: CutHash,
    live: LiveSet,
    /// Batches above the cut: of each author and number at most two.
    above: BTreeMap<(PeerId, u64), BTreeMap<HeaderHash, Above>>,
    /// Entries under the cut that live and are held.
    under: BTreeMap<EntryId, Under>,
    /// Their headers.
    headers: BTreeMap<HeaderHash, Arc<VerifiedHeader>>,
    evidence: EvidenceSet,
    values: BTreeMap<EntryId, Value>,
    erased: BTreeSet<EntryId>,
    /// Of each author with batches above the cut, the end of its unbroken chain.
    chains: BTreeMap<PeerId, ChainEnd>,
    index: index::Index,
}

/// A batch above the cut. A void one is its header alone: a link of its author's chain.
#[derive(Clone, Debug)]
struct Above {
    header: Arc<VerifiedHeader>,
    entries: Vec<Entry>,
    ids: Vec<EntryId>,
    /// Bytes of the entries and their values; `None` when the batch is void.
    bytes: Option<u64>,
}

/// An entry under the cut.
#[derive(Clone, Debug)]
struct Under {
    header: Arc<VerifiedHeader>,
    entry: Entry,
    index: u8,
    path: InclusionPath,
}

impl Replica {
    /// An empty replica of a collection, before its first checkpoint.
    pub fn new(collection: CollectionName, kind: CollectionKind) -> Self {
        Self {
            cut: Checkpoint::genesis(collection.clone(), kind),
            collection,
            cut_hash: CutHash([0; 32]),
            live: LiveSet::default(),
            above: BTreeMap::new(),
            under: BTreeMap::new(),
            headers: BTreeMap::new(),
            evidence: EvidenceSet::default(),
            values: BTreeMap::new(),
            erased: BTreeSet::new(),
            chains: BTreeMap::new(),
            index: index::Index::default(),
        }
    }

    /// The collection's name.
    pub fn collection(&self) -> &CollectionName {
        &self.collection
    }

    /// The newest checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.cut
    }

    /// The newest checkpoint as new batches name it.
    pub fn epoch_ref(&self) -> EpochRef {
        EpochRef { epoch: self.cut.epoch, hash: self.cut_hash }
    }

    /// The entries that live under the cut, whether they are held or not.
    pub fn live(&self) -> &LiveSet {
        &self.live
    }

    /// Where an author's unbroken chain ends.
    pub fn chain_end(&self, author: &PeerId) -> ChainEnd {
        self.chains.get(author).copied().unwrap_or_else(|| self.cut.end_of(author))
    }

    /// The proofs of double signing.
    pub fn evidence(&self) -> &EvidenceSet {
        &self.evidence
    }

    /// Batches held above the cut.
    pub fn batches(&self) -> usize {
        self.above.values().map(BTreeMap::len).sum()
    }

    /// Entries held.
    pub fn entries(&self) -> usize {
        self.batches_above().map(|batch| batch.ids.len()).sum::<usize>() + self.under.len()
    }

    /// Live entries under the cut that are not held: what a synchronisation must bring.
    pub fn missing(&self) -> impl Iterator<Item = &EntryId> {
        self.live.iter().map(|(id, _)| id).filter(|id| !self.under.contains_key(id))
    }

    /// The value behind an entry, where it is held.
    pub fn value(&self, id: &EntryId) -> Option<&Value> {
        self.values.get(id)
    }

    /// Everything that replicas compare, in one encoding: the checkpoint's hash, the batches above the
    /// cut by author, number and hash, the entries under it by id, and the proofs. Values and the
    /// signatures' random bits are not in it.
    pub fn canonical_state(&self) -> Vec<u8> {
        let mut state = self.cut_hash.0.to_vec();
        let count =
            |state: &mut Vec<u8>, n: usize| state.extend_from_slice(&(n as u64).to_be_bytes());
        count(&mut state, self.batches());
        for ((author, seq), forks) in &self.above {
            for hash in forks.keys() {
                state.extend_from_slice(author.as_bytes());
                state.extend_from_slice(&seq.to_be_bytes());
                state.extend_from_slice(&hash.0);
            }
        }
        count(&mut state, self.under.len());
        for id in self.under.keys() {
            state.extend_from_slice(&id.0);
        }
        count(&mut state, self.evidence.len());
        for (_, proof) in self.evidence.iter() {
            state.extend_from_slice(&proof.id().0);
        }
        state
    }

    /// The hash of [`canonical_state`](Self::canonical_state): replicas with the same one are the same.
    pub fn state_root(&self) -> StateRoot {
        StateRoot(digest(Label::FRONTIER_ROOT, &[&self.canonical_state()]))
    }

    /// A batch by its header's hash, to be sent; `None` when it is not held. A void batch has no
    /// entries any more and cannot be sent whole: its header is.
    pub fn batch(&self, author: &PeerId, seq: u64, hash: &HeaderHash) -> Option<Batch> {
        let held = self.above.get(&(*author, seq))?.get(hash)?;
        Some(Batch { header: held.header.signed().clone(), entries: held.entries.clone() })
    }

    /// An entry with its proof; `None` when it is not held.
    pub fn show(&self, id: &EntryId) -> Option<ShownEntry> {
        if let Some(under) = self.under.get(id) {
            return Some(under.shown());
        }
        self.batches_above().find_map(|batch| {
            let at = batch.ids.iter().position(|held| held == id)?;
            Some(ShownEntry {
                header: batch.header.signed().clone(),
                entry: batch.entries.get(at)?.clone(),
                index: u8::try_from(at).ok()?,
                path: merkle::path(&batch.ids, at)?,
            })
        })
    }

    /// Keeps the value behind an entry, if it is the one that the entry commits to and was not erased.
    pub fn put_value(&mut self, id: EntryId, value: Value) -> Option<WriteBatch> {
        if self.erased.contains(&id) || self.values.contains_key(&id) {
            return None;
        }
        let entry = self.entry(&id)?;
        if !value.opens(entry) {
            return None;
        }
        self.keep_value(id, value)
    }

    fn keep_value(&mut self, id: EntryId, value: Value) -> Option<WriteBatch> {
        if self.erased.contains(&id) || self.values.contains_key(&id) {
            return None;
        }
        let mut write = WriteBatch::default();
        write.put(restore::key(restore::VALUE, &id.0), value.to_wire().ok()?);
        self.values.insert(id, value);
        Some(write)
    }

    /// Keeps the values of a batch that is held. Those that were erased, that are known, or whose entries
    /// are not held are left out.
    ///
    /// # Errors
    /// [`CodecError`] for a value over its bound; nothing has changed then.
    pub fn put_values(&mut self, opened: OpenedValues) -> Result<WriteBatch, CodecError> {
        let forks = self.above.get(&(opened.author, opened.seq));
        let whole = forks
            .and_then(|forks| forks.get(&opened.hash))
            .is_some_and(|batch| batch.bytes.is_some());
        let fresh = |(id, _): &(EntryId, Value)| {
            let held = whole || self.under.contains_key(id);
            held && !self.erased.contains(id) && !self.values.contains_key(id)
        };
        let fresh: Vec<_> = opened.values.into_iter().filter(fresh).collect();
        let mut write = WriteBatch::default();
        for (id, value) in &fresh {
            write.put(restore::key(restore::VALUE, &id.0), value.to_wire()?);
        }
        self.values.extend(fresh);
        Ok(write)
    }

    /// Destroys the value and its salt and never takes them again. The entry stays, and its commitment
    /// says nothing without the salt.
    pub fn erase(&mut self, id: EntryId) -> WriteBatch {
        let mut write = WriteBatch::default();
        self.values.remove(&id);
        self.erased.insert(id);
        write.delete(restore::key(restore::VALUE, &id.0));
        write.put(restore::key(restore::ERASED, &id.0), Vec::new());
        write
    }

    fn entry(&self, id: &EntryId) -> Option<&Entry> {
        if let Some(under) = self.under.get(id) {
            return Some(&under.entry);
        }
        self.batches_above().find_map(|batch| {
            batch.ids.iter().position(|held| held == id).and_then(|at| batch.entries.get(at))
        })
    }

    fn batches_above(&self) -> impl Iterator<Item = &Above> {
        self.above.values().flat_map(BTreeMap::values)
    }

    /// The unbroken chain of an author above the cut, first batch first. At a fork the lesser hash.
    fn chain(&self, author: PeerId) -> impl Iterator<Item = (ChainEnd, &Above)> {
        let mut end = self.cut.end_of(&author);
        std::iter::from_fn(move || {
            let forks = self.above.get(&(author, end.seq.checked_add(1)?))?;
            let next = forks.values().find(|batch| batch.follows(end))?;
            end = ChainEnd::after(&next.header);
            Some((end, next))
        })
    }

    /// The authors with batches above the cut.
    fn authors_above(&self) -> impl Iterator<Item = PeerId> {
        let mut next = self.above.keys().next().map(|(author, _)| *author);
        std::iter::from_fn(move || {
            let author = next?;
            let beyond = (author, u64::MAX);
            next = self
                .above
                .range((std::ops::Bound::Excluded(beyond), std::ops::Bound::Unbounded))
                .next()
                .map(|((author, _), _)| *author);
            Some(author)
        })
    }
}

impl Above {
    fn void(header: Arc<VerifiedHeader>) -> Self {
        Self { header, entries: Vec::new(), ids: Vec::new(), bytes: None }
    }

    /// Whether this batch continues a chain, its signed totals included.
    fn follows(&self, end: ChainEnd) -> bool {
        let header = &self.header;
        let entries = end.total_entries.checked_add(u64::from(header.entries));
        let bytes = match self.bytes {
            Some(bytes) => end.total_bytes.checked_add(bytes) == Some(header.total_bytes),
            None => end.total_bytes < header.total_bytes,
        };
        header.previous == end.hash && entries == Some(header.total_entries) && bytes
    }
}

impl Under {
    fn shown(&self) -> ShownEntry {
        ShownEntry {
            header: self.header.signed().clone(),
            entry: self.entry.clone(),
            index: self.index,
            path: self.path.clone(),
        }
    }
}

/// Encodes what was checked before; a failure means a rule was broken on the way.
fn encode<T: Wire>(value: &T) -> Result<Vec<u8>, CodecError> {
    value.to_wire()
}
