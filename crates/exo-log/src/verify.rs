//! Checking of inclusion and consistency paths (RFC 9162 sections 2.1.3.2 and 2.1.4.2).

use crate::tree::{TreeHash, node_hash, node_start};

/// Why a path does not show an entry to be in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InclusionError {
    /// There is no such entry or node in a tree of this size.
    #[error("number {index} is not in a tree of {size} entries")]
    OutOfRange {
        /// The index that was claimed.
        index: u64,
        /// Entries of the tree.
        size: u64,
    },
    /// The path does not have the length that index and size demand.
    #[error("the path has {actual} hashes where index and size demand {expected}")]
    PathLength {
        /// Hashes that it should have.
        expected: usize,
        /// Hashes that it has.
        actual: usize,
    },
    /// Entry, index and path lead to another root.
    #[error("the path leads to another root")]
    Root,
}

/// Why a path does not show one tree to be the beginning of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsistencyError {
    /// The tree that should be the later one is the smaller one.
    #[error("a log does not go from {old} entries back to {new}")]
    Shrunk {
        /// Entries of the earlier tree.
        old: u64,
        /// Entries of the later tree.
        new: u64,
    },
    /// The path is longer or shorter than the two sizes demand.
    #[error("the path does not have the length that the two sizes demand")]
    PathLength,
    /// The path does not lead to the earlier root.
    #[error("the path does not lead to the earlier root")]
    OldRoot,
    /// The path does not lead to the later root.
    #[error("the path does not lead to the later root")]
    NewRoot,
}

/// Checks that the entry with this hash is entry `index` of the tree.
///
/// # Errors
/// [`InclusionError`].
pub fn verify_inclusion(
    leaf: &TreeHash,
    index: u64,
    size: u64,
    path: &[TreeHash],
    root: &TreeHash,
) -> Result<(), InclusionError> {
    verify_subtree(leaf, 0, index, size, path, root)
}

/// Checks that the node `(level, index)` of the tree has this hash.
///
/// # Errors
/// [`InclusionError`].
pub fn verify_subtree(
    hash: &TreeHash,
    level: u8,
    index: u64,
    size: u64,
    path: &[TreeHash],
    root: &TreeHash,
) -> Result<(), InclusionError> {
    let led_to = root_from_path(hash, level, index, size, path)?;
    if led_to == *root { Ok(()) } else { Err(InclusionError::Root) }
}

/// The root to which the node and the path lead.
///
/// # Errors
/// [`InclusionError::OutOfRange`], [`InclusionError::PathLength`].
pub fn root_from_path(
    hash: &TreeHash,
    level: u8,
    index: u64,
    size: u64,
    path: &[TreeHash],
) -> Result<TreeHash, InclusionError> {
    node_start(level, index, size).ok_or(InclusionError::OutOfRange { index, size })?;
    // Up to where the node's way and the right edge meet, a sibling is on the side that the index says;
    // above, every sibling is a complete subtree on the left.
    let inner = inner_hashes(level, index, size);
    let expected = inner as usize + index.checked_shr(inner).unwrap_or(0).count_ones() as usize;
    if path.len() != expected {
        return Err(InclusionError::PathLength { expected, actual: path.len() });
    }
    let mut hash = *hash;
    for (at, sibling) in (0_u32..).zip(path) {
        let on_the_left = at >= inner || index >> at & 1 == 1;
        hash = if on_the_left { node_hash(sibling, &hash) } else { node_hash(&hash, sibling) };
    }
    Ok(hash)
}

/// Checks that the tree of `old` entries is the beginning of the tree of `new` entries.
///
/// # Errors
/// [`ConsistencyError`].
pub fn verify_consistency(
    old: u64,
    old_root: &TreeHash,
    new: u64,
    new_root: &TreeHash,
    path: &[TreeHash],
) -> Result<(), ConsistencyError> {
    if old > new {
        return Err(ConsistencyError::Shrunk { old, new });
    }
    if old == 0 || old == new {
        return verify_without_path(old, old_root, new, new_root, path);
    }
    let (mut fnode, mut snode) = (old - 1, new - 1);
    let shift = fnode.trailing_ones();
    fnode = fnode.checked_shr(shift).unwrap_or(0);
    snode = snode.checked_shr(shift).unwrap_or(0);
    // An old tree that is complete begins the path itself.
    let (first, rest) = if old.is_power_of_two() {
        (old_root, path)
    } else {
        path.split_first().ok_or(ConsistencyError::PathLength)?
    };
    let (mut old_led_to, mut new_led_to) = (*first, *first);
    for sibling in rest {
        if snode == 0 {
            return Err(ConsistencyError::PathLength);
        }
        if fnode & 1 == 1 || fnode == snode {
            old_led_to = node_hash(sibling, &old_led_to);
            new_led_to = node_hash(sibling, &new_led_to);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            new_led_to = node_hash(&new_led_to, sibling);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    if snode != 0 {
        return Err(ConsistencyError::PathLength);
    }
    if old_led_to != *old_root {
        return Err(ConsistencyError::OldRoot);
    }
    if new_led_to != *new_root { Err(ConsistencyError::NewRoot) } else { Ok(()) }
}

fn verify_without_path(
    old: u64,
    old_root: &TreeHash,
    new: u64,
    new_root: &TreeHash,
    path: &[TreeHash],
) -> Result<(), ConsistencyError> {
    if !path.is_empty() {
        return Err(ConsistencyError::PathLength);
    }
    if old == 0 && *old_root != TreeHash::EMPTY {
        return Err(ConsistencyError::OldRoot);
    }
    if old == new && old_root != new_root { Err(ConsistencyError::NewRoot) } else { Ok(()) }
}

/// Hashes of a path up to where the node's way and that of the last entry meet.
fn inner_hashes(level: u8, index: u64, size: u64) -> u32 {
    let last = (size - 1) >> level;
    u64::BITS - (index ^ last).leading_zeros()
}
