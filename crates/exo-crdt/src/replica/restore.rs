//! What a replica saves and how it starts again from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use exo_crypto::Signed;
use exo_types::CollectionName;
use exo_types::PeerId;
use exo_types::codec::{CodecError, Wire};

use super::{Above, Replica};
use crate::batch::{
    Authors, Batch, BatchHeader, BatchRefusal, ShownEntry, VerifiedBatch, VerifiedEntry,
    VerifiedHeader,
};
use crate::checkpoint::{Checkpoint, CollectionKind, LiveSet};
use crate::entry::Value;
use crate::evidence::{Evidence, NoEvidence};
use crate::hash::EntryId;
use crate::merge::from_canonical;

/// Why a replica did not start from what was saved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A value does not decode.
    #[error("what is saved under {key:02x?} is damaged: {error}")]
    Damaged {
        /// Its key.
        key: Vec<u8>,
        /// Why.
        error: CodecError,
    },
    /// A saved batch or entry does not verify.
    #[error("what is saved does not verify: {0}")]
    Refused(BatchRefusal),
    /// A saved proof does not verify.
    #[error("a saved proof does not verify: {0}")]
    Evidence(NoEvidence),
    /// A saved value is not the one that its entry commits to.
    #[error("the value saved for {0:?} is another one")]
    Value(EntryId),
    /// The checkpoint and the live set do not belong together.
    #[error("the saved checkpoint is not that of the saved live set")]
    Checkpoint,
    /// A key is of no known kind.
    #[error("nothing is saved under keys like {0:02x?}")]
    UnknownKey(Vec<u8>),
}

impl Replica {
    /// A replica from what its store holds. Everything is verified again, so a damaged or doctored store
    /// is found here. Batches signed after a revocation, and what
    /// is of nobody who is known to be a member yet, are left out.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore(
        collection: CollectionName,
        kind: CollectionKind,
        saved: &BTreeMap<Vec<u8>, Vec<u8>>,
        authors: &impl Authors,
    ) -> Result<Self, RestoreError> {
        let mut replica = Self::new(collection, kind);
        if let Some(bytes) = saved.get(&key(CHECKPOINT, &[])) {
            let damaged = |error| RestoreError::Damaged { key: vec![CHECKPOINT], error };
            let next = Checkpoint::from_wire(bytes).map_err(damaged)?;
            let live = saved.get(&key(LIVE, &[])).ok_or(RestoreError::Checkpoint)?;
            let live = LiveSet::from_wire(live).map_err(damaged)?;
            replica.cut_hash = next.hash().map_err(damaged)?;
            let own = (&next.collection, next.kind) == (&replica.collection, kind);
            if !own || live.root() != next.live_root {
                return Err(RestoreError::Checkpoint);
            }
            (replica.cut, replica.live) = (next, live);
        }
        for (at, bytes) in saved {
            replica.load(at, bytes, authors)?;
        }
        replica.load_values(saved)?;
        Ok(replica)
    }

    /// Values belong to entries, so they come last, and are found by them: one whose entry was left out is
    /// left out, too.
    fn load_values(&mut self, saved: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), RestoreError> {
        let above = self.batches_above().flat_map(|batch| batch.ids.iter().zip(&batch.entries));
        let under = self.under.iter().map(|(id, under)| (id, &under.entry));
        let mut values = BTreeMap::new();
        for (id, entry) in above.chain(under).filter(|(id, _)| !self.erased.contains(*id)) {
            let at = key(VALUE, &id.0);
            let Some(bytes) = saved.get(&at) else { continue };
            let value = Value::from_wire(bytes)
                .map_err(|error| RestoreError::Damaged { key: at, error })?;
            if !value.opens(entry) {
                return Err(RestoreError::Value(*id));
            }
            values.insert(*id, value);
        }
        self.values = values;
        Ok(())
    }

    fn load(
        &mut self,
        at: &[u8],
        bytes: &[u8],
        authors: &impl Authors,
    ) -> Result<(), RestoreError> {
        let damaged = |error| RestoreError::Damaged { key: at.to_vec(), error };
        let applied = match at.first().copied() {
            Some(CHECKPOINT | LIVE | VALUE) => return Ok(()),
            Some(BATCH) => match bytes.split_first() {
                Some((&WHOLE, bytes)) => {
                    let batch = Batch::from_wire(bytes).map_err(damaged)?;
                    match VerifiedBatch::verify(batch, &self.collection, authors) {
                        Err(BatchRefusal::Revoked { .. } | BatchRefusal::UnknownAuthor(_)) => {
                            return Ok(());
                        }
                        verified => self.apply(verified.map_err(RestoreError::Refused)?),
                    }
                }
                Some((&VOID, bytes)) => {
                    let header = Signed::<BatchHeader>::from_wire(bytes).map_err(damaged)?;
                    match VerifiedHeader::verify(&header, &self.collection, authors) {
                        Err(BatchRefusal::Revoked { .. } | BatchRefusal::UnknownAuthor(_)) => {
                            return Ok(());
                        }
                        verified => self.apply_void(verified.map_err(RestoreError::Refused)?),
                    }
                }
                _ => return Err(damaged(CodecError::Trailing(bytes.len()))),
            },
            Some(UNDER) => {
                let shown = from_canonical::<ShownEntry>(bytes).map_err(damaged)?;
                match VerifiedEntry::verify(shown, &self.collection, authors) {
                    Err(BatchRefusal::Revoked { .. } | BatchRefusal::UnknownAuthor(_)) => {
                        return Ok(());
                    }
                    verified => self.apply_shown(&verified.map_err(RestoreError::Refused)?),
                }
            }
            Some(EVIDENCE) => {
                let evidence = Evidence::from_wire(bytes).map_err(damaged)?;
                let (who, _) = evidence.place().map_err(RestoreError::Evidence)?;
                let Some(author) = authors.author(&who) else { return Ok(()) };
                evidence.verify(author.key).map_err(RestoreError::Evidence)?;
                self.apply_evidence(evidence)
            }
            Some(ERASED) => {
                self.erased.extend(id_of(at));
                return Ok(());
            }
            _ => return Err(RestoreError::UnknownKey(at.to_vec())),
        };
        applied.map(drop).map_err(|error| damaged(exo_types::codec::invalid(error)))
    }
}

/// A batch as it is saved: one byte that says whether it is whole or a void header.
pub(super) fn batch_bytes(batch: &Above) -> Result<Vec<u8>, CodecError> {
    let header = Arc::clone(&batch.header).signed().clone();
    let (kind, mut body) = if batch.bytes.is_some() {
        (WHOLE, Batch { header, entries: batch.entries.clone() }.to_wire()?)
    } else {
        (VOID, header.to_wire()?)
    };
    body.insert(0, kind);
    Ok(body)
}

/// A key: its kind, then what it names.
pub(super) fn key(kind: u8, name: &[u8]) -> Vec<u8> {
    [&[kind], name].concat()
}

/// The key of what belongs to an author and number.
pub(super) fn place_key(kind: u8, (author, seq): (PeerId, u64)) -> Vec<u8> {
    [&[kind], author.as_bytes().as_slice(), &seq.to_be_bytes()].concat()
}

fn id_of(key: &[u8]) -> Option<EntryId> {
    key.get(1..)?.try_into().ok().map(EntryId)
}

pub(super) const BATCH: u8 = b'b';
pub(super) const CHECKPOINT: u8 = b'c';
pub(super) const ERASED: u8 = b'd';
pub(super) const EVIDENCE: u8 = b'e';
pub(super) const LIVE: u8 = b'l';
pub(super) const UNDER: u8 = b'u';
pub(super) const VALUE: u8 = b'v';

const WHOLE: u8 = 0;
const VOID: u8 = 1;
