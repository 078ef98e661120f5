//! The proof that a prefix of the log is committed: a quorum of cosignatures, and the seal that tells
//! which batch it ends with.

use exo_types::codec::{CodecError, Wire, bound, invalid};
use exo_types::limits::{COSIGNATURE_BYTES_MAX, TREE_HASHES_MAX, VOTERS_MAX};
use exo_types::{Epoch, bounded};
use serde::{Deserialize, Serialize};

use crate::blob::{Blob, Root};
use crate::entry::{Entry, Point, Seal};
use crate::ledger::Ledger;
use crate::voter::Seat;

/// One voter's cosignature on a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeatSignature {
    /// Whose.
    pub seat: Seat,
    /// The cosignature.
    pub signature: Blob<COSIGNATURE_BYTES_MAX>,
}

/// A certified checkpoint. The cosignatures are on size and root; that the batch is the one named is
/// shown by the seal, which is the last leaf: appended to the peaks before it, it gives the root.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Certificate {
    /// Leaves.
    pub size: u64,
    /// Root over them.
    pub root: Root,
    /// The last leaf.
    pub seal: Seal,
    /// Peaks of the log without the last leaf.
    #[serde(deserialize_with = "bounded::list::<_, _, TREE_HASHES_MAX>")]
    pub peaks: Vec<Root>,
    /// A quorum of cosignatures of the seal's epoch, by seat.
    #[serde(deserialize_with = "bounded::list::<_, _, VOTERS_MAX>")]
    pub signatures: Vec<SeatSignature>,
}

impl Certificate {
    /// What is certified.
    pub fn point(&self) -> Point {
        Point { sequence: self.seal.sequence, size: self.size, root: self.root }
    }

    /// The epoch whose voters cosigned.
    pub fn epoch(&self) -> Epoch {
        self.seal.epoch
    }

    /// Whether the seal is the last leaf under the root.
    pub fn shows_its_seal<L: Ledger>(&self) -> bool {
        let before = self.size.checked_sub(1);
        let Some(mut ledger) = before.and_then(|size| L::restore(size, &self.peaks)) else {
            return false;
        };
        let Ok(leaf) = Entry::Seal(self.seal.clone()).to_wire() else { return false };
        ledger.append(L::leaf_hash(&leaf));
        ledger.root() == self.root
    }

    /// Checks the order of the seats and the bounds.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn check(&self) -> Result<(), CodecError> {
        bound(self.peaks.len(), TREE_HASHES_MAX)?;
        bound(self.signatures.len(), VOTERS_MAX)?;
        match self.signatures.windows(2).all(|pair| pair[0].seat < pair[1].seat) {
            true => Ok(()),
            false => Err(invalid("the seats are not in order")),
        }
    }
}
