//! The log as this crate needs it: supplied by the composition, so that the core knows no tree.

use crate::blob::Root;

/// A Merkle tree over the leaves so far (RFC 6962 section 2.1), as its peaks or more. It is the core's
/// own copy in memory; what makes the leaves durable is the journal.
pub trait Ledger: Clone {
    /// The empty log.
    fn empty() -> Self;

    /// The log of `size` leaves with these peaks: the roots of its perfect subtrees, largest first.
    /// `None` when there is none of this shape.
    fn restore(size: u64, peaks: &[Root]) -> Option<Self>;

    /// Hash of a leaf.
    fn leaf_hash(leaf: &[u8]) -> Root;

    /// Adds a leaf by its hash.
    fn append(&mut self, leaf: Root);

    /// How many leaves.
    fn size(&self) -> u64;

    /// Root over all leaves.
    fn root(&self) -> Root;

    /// The peaks, largest first; at most 64.
    fn peaks(&self) -> Vec<Root>;

    /// Whether the proof shows that the log of `old_size` leaves under `old` is the beginning of that
    /// of `new_size` leaves under `new` (RFC 9162 section 2.1.4.2).
    fn consistent(old_size: u64, old: Root, new_size: u64, new: Root, proof: &[Root]) -> bool;
}
