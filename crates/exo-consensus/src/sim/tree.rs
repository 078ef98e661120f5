//! The Merkle tree of RFC 6962 and its consistency proofs, so that simulated logs are checked as real
//! ones are.

use aws_lc_rs::digest::{Context, SHA256};

use crate::blob::Root;
use crate::ledger::Ledger;

/// The peaks of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tree {
    size: u64,
    peaks: Vec<Root>,
}

impl Ledger for Tree {
    fn empty() -> Self {
        Self::default()
    }

    fn restore(size: u64, peaks: &[Root]) -> Option<Self> {
        let fits = peaks.len() == size.count_ones() as usize;
        fits.then(|| Self { size, peaks: peaks.to_vec() })
    }

    fn leaf_hash(leaf: &[u8]) -> Root {
        leaf_hash(leaf)
    }

    fn append(&mut self, leaf: Root) {
        let mut hash = leaf;
        // As many perfect subtrees end here as the old size has trailing ones.
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(left, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn root(&self) -> Root {
        let mut peaks = self.peaks.iter().rev().copied();
        let Some(last) = peaks.next() else { return sha(&[]) };
        peaks.fold(last, |right, left| node_hash(left, right))
    }

    fn peaks(&self) -> Vec<Root> {
        self.peaks.clone()
    }

    fn consistent(old_size: u64, old: Root, new_size: u64, new: Root, proof: &[Root]) -> bool {
        consistent(old_size, old, new_size, new, proof).unwrap_or(false)
    }
}

/// RFC 9162 section 2.1.4.2.
fn consistent(m: u64, old: Root, n: u64, new: Root, proof: &[Root]) -> Option<bool> {
    if m == 0 || m == n {
        return Some(proof.is_empty() && (m == 0 || old == new));
    }
    if m > n {
        return None;
    }
    let mut path = proof.iter().copied();
    let first = if m.is_power_of_two() { old } else { path.next()? };
    let (mut fnode, mut snode) = (m - 1, n - 1);
    while fnode & 1 == 1 {
        fnode >>= 1;
        snode >>= 1;
    }
    let (mut fr, mut sr) = (first, first);
    for c in path {
        if snode == 0 {
            return None;
        }
        if fnode & 1 == 1 || fnode == snode {
            fr = node_hash(c, fr);
            sr = node_hash(c, sr);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            sr = node_hash(sr, c);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    Some(fr == old && sr == new && snode == 0)
}

/// RFC 9162 section 2.1.4.1, over the hashes of all leaves.
pub(crate) fn prove_consistency(leaves: &[Root], m: u64, n: u64) -> Option<Vec<Root>> {
    let leaves = leaves.get(..n as usize)?;
    if m == 0 || m == n {
        return Some(Vec::new());
    }
    (m < n).then(|| subproof(m as usize, leaves, true))
}

/// A consistency proof over leaves, for archives of tests.
pub fn consistency(leaves: &[Vec<u8>], old: u64, new: u64) -> Option<Vec<Root>> {
    let hashes: Vec<Root> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    prove_consistency(&hashes, old, new)
}

fn subproof(m: usize, leaves: &[Root], whole: bool) -> Vec<Root> {
    let n = leaves.len();
    if m == n {
        return if whole { Vec::new() } else { vec![root_of(leaves)] };
    }
    let k = split(n);
    let (mut proof, rest) = if m <= k {
        (subproof(m, &leaves[..k], whole), root_of(&leaves[k..]))
    } else {
        (subproof(m - k, &leaves[k..], false), root_of(&leaves[..k]))
    };
    proof.push(rest);
    proof
}

fn root_of(leaves: &[Root]) -> Root {
    match leaves {
        [] => sha(&[]),
        [one] => *one,
        _ => {
            let k = split(leaves.len());
            node_hash(root_of(&leaves[..k]), root_of(&leaves[k..]))
        }
    }
}

/// The largest power of two below `n`.
fn split(n: usize) -> usize {
    1 << (n - 1).ilog2()
}

pub(crate) fn leaf_hash(leaf: &[u8]) -> Root {
    sha(&[&[0], leaf])
}

fn node_hash(left: Root, right: Root) -> Root {
    sha(&[&[1], &left.0, &right.0])
}

fn sha(parts: &[&[u8]]) -> Root {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Root(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_of_every_prefix_hold_and_of_others_do_not() {
        let mut tree = Tree::empty();
        let mut roots = vec![tree.root()];
        let mut leaves = Vec::new();
        for i in 0..20u8 {
            tree.append(Tree::leaf_hash(&[i]));
            leaves.push(leaf_hash(&[i]));
            roots.push(tree.root());
            assert_eq!(root_of(&leaves), tree.root());
            let again = Tree::restore(tree.size(), &tree.peaks()).expect("fits");
            assert_eq!(again.root(), tree.root());
        }
        for n in 1..=20u64 {
            for m in 0..=n {
                let proof = prove_consistency(&leaves, m, n).expect("in range");
                let (old, new) = (roots[m as usize], roots[n as usize]);
                assert!(Tree::consistent(m, old, n, new, &proof), "{m} {n}");
                if m > 0 {
                    let other = leaf_hash(b"other");
                    assert!(!Tree::consistent(m, other, n, new, &proof), "{m} {n}");
                    assert!(!Tree::consistent(m, old, n, other, &proof), "{m} {n}");
                }
            }
        }
    }
}
