//! The log's tree as the core of consensus needs it: the tree of `exo-log`.

use exo_consensus::{Ledger, Root};
use exo_log::{Frontier, TreeHash, leaf_hash, verify_consistency};

/// The log's tree as its right edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTree(Frontier);

impl Ledger for LogTree {
    fn empty() -> Self {
        Self::default()
    }

    fn restore(size: u64, peaks: &[Root]) -> Option<Self> {
        Frontier::from_parts(size, peaks.iter().map(|peak| TreeHash::new(peak.0)).collect())
            .map(Self)
    }

    fn leaf_hash(leaf: &[u8]) -> Root {
        Root(*leaf_hash(leaf).as_bytes())
    }

    fn append(&mut self, leaf: Root) {
        // A log that is full takes 2^62 entries.
        let _ = self.0.append(TreeHash::new(leaf.0), |_, _, _| {});
    }

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn root(&self) -> Root {
        Root(*self.0.root().as_bytes())
    }

    fn peaks(&self) -> Vec<Root> {
        self.0.peaks().iter().map(|peak| Root(*peak.as_bytes())).collect()
    }

    fn consistent(old_size: u64, old: Root, new_size: u64, new: Root, proof: &[Root]) -> bool {
        let path: Vec<_> = proof.iter().map(|hash| TreeHash::new(hash.0)).collect();
        let (old, new) = (TreeHash::new(old.0), TreeHash::new(new.0));
        verify_consistency(old_size, &old, new_size, &new, &path).is_ok()
    }
}
