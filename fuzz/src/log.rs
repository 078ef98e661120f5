//! The log of a federation of four, for the targets that read proofs and policies.

use exo_log::{MemoryTree, Origin, leaf_hash};
use exo_types::{FederationId, PeerId};

/// Entries of the log.
pub const ENTRIES: u64 = 13;

/// Whose log it is.
pub fn origin() -> Origin {
    Origin::of_federation(&FederationId::new([1; 32]))
}

/// A member.
pub fn peer(number: u8) -> PeerId {
    PeerId::new([number + 1; 32])
}

/// An entry; those past the last are in no log.
pub fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

/// The log.
pub fn log() -> MemoryTree {
    let mut log = MemoryTree::new();
    for index in 0..ENTRIES {
        log.append(leaf_hash(&entry(index))).expect("not full");
    }
    log
}
