//! The Merkle tree over a batch's entries: the shape of RFC 6962 section 2.1, over entry ids.
//!
//! Leaves are entry ids, which are hashes under a label of their own; an inner node is the hash of its
//! children under another, so no node passes for a leaf.

use exo_crypto::Label;
use exo_types::bounded;
use exo_types::codec::{CodecError, bound};
use exo_types::limits::BATCH_ENTRIES_MAX;
use serde::{Deserialize, Serialize};

use crate::hash::{BatchRoot, EntryId, digest};

/// The siblings from a leaf to the root, the leaf's first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InclusionPath(
    #[serde(deserialize_with = "bounded::list::<_, _, PATH_NODES_MAX>")] pub Vec<[u8; 32]>,
);

/// Nodes of the longest path: the logarithm of [`BATCH_ENTRIES_MAX`].
pub const PATH_NODES_MAX: usize = 8;

/// The root over the ids; that of no entries is all zeros.
pub fn root(ids: &[EntryId]) -> BatchRoot {
    BatchRoot(subtree(ids))
}

/// The path of the leaf at `index`; `None` when there is no such leaf.
pub fn path(ids: &[EntryId], index: usize) -> Option<InclusionPath> {
    let (mut leaves, mut index) = (ids, index);
    if index >= leaves.len() {
        return None;
    }
    let mut siblings = Vec::new();
    while leaves.len() > 1 {
        let (left, right) = leaves.split_at(split(leaves.len()));
        if index < left.len() {
            siblings.push(subtree(right));
            leaves = left;
        } else {
            siblings.push(subtree(left));
            index -= left.len();
            leaves = right;
        }
    }
    siblings.reverse();
    Some(InclusionPath(siblings))
}

impl InclusionPath {
    /// The root that a tree of `leaves` leaves has if `id` stands at `index` in it; `None` when the path
    /// has another length than that leaf's.
    pub fn root(&self, id: EntryId, index: usize, leaves: usize) -> Option<BatchRoot> {
        // Whether the leaf is in the right half, from the root down.
        let mut turns = [false; PATH_NODES_MAX];
        let (mut depth, mut at, mut size) = (0, index, leaves);
        if at >= size || size > BATCH_ENTRIES_MAX {
            return None;
        }
        while size > 1 {
            let left = split(size);
            let right = at >= left;
            *turns.get_mut(depth)? = right;
            depth += 1;
            (at, size) = if right { (at - left, size - left) } else { (at, left) };
        }
        if depth != self.0.len() {
            return None;
        }
        let mut node = id.0;
        for (sibling, right) in self.0.iter().zip(turns[..depth].iter().rev()) {
            node = if *right { inner(sibling, &node) } else { inner(&node, sibling) };
        }
        Some(BatchRoot(node))
    }

    /// Checks the bound.
    pub(crate) fn check(&self) -> Result<(), CodecError> {
        bound(self.0.len(), PATH_NODES_MAX)
    }
}

fn subtree(ids: &[EntryId]) -> [u8; 32] {
    match ids {
        [] => [0; 32],
        [id] => id.0,
        _ => {
            let (left, right) = ids.split_at(split(ids.len()));
            inner(&subtree(left), &subtree(right))
        }
    }
}

fn inner(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    digest(Label::BATCH_NODE, &[left, right])
}

/// The largest power of two that is less than `len`, which is at least 2.
fn split(len: usize) -> usize {
    len.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(len: usize) -> Vec<EntryId> {
        (0..len).map(|i| EntryId([i as u8; 32])).collect()
    }

    #[test]
    fn every_leaf_of_every_size_has_a_path_to_the_root_and_to_no_other_place() {
        for len in (1..20).chain([100, 255, BATCH_ENTRIES_MAX]) {
            let ids = ids(len);
            for (index, id) in ids.iter().enumerate() {
                let path = path(&ids, index).expect("a leaf");
                assert!(path.check().is_ok());
                assert_eq!(path.root(*id, index, len), Some(root(&ids)));
                assert_ne!(
                    path.root(EntryId(core::array::from_fn(|i| i as u8)), index, len),
                    Some(root(&ids))
                );
                let elsewhere = (index + 1) % len;
                if elsewhere != index {
                    assert_ne!(
                        path.root(*id, elsewhere, len),
                        Some(root(&ids)),
                        "{index} of {len}"
                    );
                }
            }
            assert_eq!(path(&ids, len), None);
        }
    }

    #[test]
    fn a_path_of_the_wrong_length_leads_nowhere() {
        let ids = ids(8);
        let mut long = path(&ids, 3).expect("a leaf");
        long.0.push([0; 32]);
        assert_eq!(long.root(ids[3], 3, 8), None);
        assert_eq!(InclusionPath(vec![]).root(ids[3], 3, 8), None);
        assert_eq!(InclusionPath(vec![]).root(ids[0], 0, usize::MAX), None);
        assert_eq!(InclusionPath(vec![[0; 32]; 8]).root(ids[0], 9, 8), None);
    }
}
