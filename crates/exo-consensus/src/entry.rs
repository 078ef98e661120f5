//! What stands in the log: each update as a leaf, and a seal after each batch.
//!
//! Checkpoints are made after seals alone, so the last leaf under a certified root tells which batch it
//! is, in which epoch, and whether the epoch ends there: a size proves its sequence number.

use exo_types::codec::{CodecError, Wire, bound};
use exo_types::limits::{
    BATCH_BUNDLES_MAX, BATCH_BYTES_MAX, BUNDLE_UPDATES_MAX, LOG_ENTRY_BYTES_MAX, UPDATE_BYTES_MAX,
};
use exo_types::{Epoch, PeerId, Sequence, bounded};
use serde::{Deserialize, Serialize};

use crate::blob::{Digest, Root};
use crate::update::Update;
use crate::voter::Change;

/// One leaf of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Entry {
    /// A committed update.
    Update(Logged),
    /// The end of a batch.
    Seal(Seal),
}

/// A committed update and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Logged {
    /// Who asked for it.
    pub member: PeerId,
    /// The number of its bundle among the member's.
    pub number: u64,
    /// Its place in the bundle.
    pub index: u32,
    /// The update.
    pub update: Update,
}

/// What ends a batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seal {
    /// The epoch in which the batch was committed.
    pub epoch: Epoch,
    /// Its place.
    pub sequence: Sequence,
    /// Its name.
    pub digest: Digest,
    /// Set when the epoch ends with this batch.
    pub turn: Option<Turn>,
}

/// Why an epoch ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Turn {
    /// A quorum wishes for this change of who votes.
    Change(Change),
    /// A voter that lost its journal comes back; nothing else changes.
    Rejoin {
        /// Who.
        member: PeerId,
        /// Of its request.
        nonce: u64,
    },
}

/// All leaves of one batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LoggedBatch {
    /// The updates in order.
    #[serde(deserialize_with = "bounded::list::<_, _, BATCH_UPDATES_MAX>")]
    pub updates: Vec<Logged>,
    /// The seal after them.
    pub seal: Seal,
}

/// A place in the log that can be certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Point {
    /// The last batch before it.
    pub sequence: Sequence,
    /// Leaves before it.
    pub size: u64,
    /// Root over them.
    pub root: Root,
}

impl LoggedBatch {
    /// The leaves as they are hashed, in order.
    pub fn leaves(&self) -> impl Iterator<Item = Vec<u8>> {
        let updates = self.updates.iter().cloned().map(Entry::Update);
        let all = updates.chain(std::iter::once(Entry::Seal(self.seal.clone())));
        // What was checked on its way in encodes.
        all.map(|entry| entry.to_wire().unwrap_or_default())
    }

    /// How many leaves.
    pub fn size(&self) -> u64 {
        self.updates.len() as u64 + 1
    }

    /// Length that counts towards the bounds, bytes.
    pub fn bytes(&self) -> usize {
        128 + self.updates.iter().map(|logged| 48 + logged.update.bytes()).sum::<usize>()
    }

    /// Checks the bounds that the encoding alone does not.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn check(&self) -> Result<(), CodecError> {
        bound(self.updates.len(), BATCH_UPDATES_MAX)?;
        let bytes = self.updates.iter().map(|logged| logged.update.bytes()).sum();
        bound(bytes, BATCH_BYTES_MAX)
    }
}

impl Wire for Entry {
    const BYTES_MAX: usize = UPDATE_BYTES_MAX + 256;

    fn check(&self) -> Result<(), CodecError> {
        Ok(())
    }
}

/// Updates in one batch: as many as the shortest ones that fill it.
pub const BATCH_UPDATES_MAX: usize = {
    let by_bytes = BATCH_BYTES_MAX / 16;
    let by_bundles = BATCH_BUNDLES_MAX * BUNDLE_UPDATES_MAX;
    if by_bytes < by_bundles { by_bytes } else { by_bundles }
};

const _: () = assert!(Entry::BYTES_MAX <= LOG_ENTRY_BYTES_MAX);
