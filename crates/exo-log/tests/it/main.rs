//! What the log promises to its federation, to other implementations and to anybody who sends it bytes.

mod frozen;
mod notes;
mod others;
mod policies;
mod proofs;
mod tiles;
mod tree;

use std::sync::Arc;

use exo_crypto::{CosignerKey, CosignerKeypair};
use exo_log::{
    Checkpoint, CheckpointSigner, CommitProof, MemoryTree, NoteSignature, Origin, Policy, TreeHash,
    inclusion_path, leaf_hash,
};
use exo_types::{FederationId, PeerId};

/// A federation whose members all have the same log.
struct Federation {
    origin: Origin,
    members: Vec<(PeerId, CosignerKey)>,
    signers: Vec<CheckpointSigner>,
    log: MemoryTree,
}

impl Federation {
    /// So many members and entries; the number tells federations apart.
    fn new(number: u8, members: u8, entries: u64) -> Self {
        let origin = Origin::of_federation(&FederationId::new([number; 32]));
        let peer = |at: u8| PeerId::new([at + 1; 32]);
        let keypairs: Vec<_> = (0..members).map(keypair).collect();
        let signer = |(at, pair): (u8, &Arc<CosignerKeypair>)| {
            CheckpointSigner::new(origin.member(&peer(at)).expect("a name"), Arc::clone(pair))
        };
        let signers = (0..).zip(&keypairs).map(signer).collect();
        let key = |(at, pair): (u8, &Arc<CosignerKeypair>)| (peer(at), pair.public().clone());
        let members = (0..).zip(&keypairs).map(key).collect();
        Self { origin, members, signers, log: log(entries) }
    }

    fn policy(&self, quorum: usize) -> Policy {
        Policy::for_members(&self.origin, &self.members, quorum).expect("a policy")
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint::new(self.origin.clone(), self.log.size(), self.log.root()).expect("in bounds")
    }

    fn cosigned(&self, signers: &[usize]) -> Vec<NoteSignature> {
        let checkpoint = self.checkpoint();
        signers.iter().map(|at| self.signers[*at].cosign(&checkpoint).expect("signs")).collect()
    }

    fn path(&self, index: u64) -> Vec<TreeHash> {
        inclusion_path(index, self.log.size(), &self.log).expect("in the log")
    }

    fn proof(&self, index: u64, signers: &[usize]) -> CommitProof {
        CommitProof::new(self.checkpoint(), index, self.path(index), self.cosigned(signers))
            .expect("in bounds")
    }
}

fn keypair(number: u8) -> Arc<CosignerKeypair> {
    Arc::new(CosignerKeypair::from_seed(&[number; 32]).expect("expands"))
}

fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

fn log(entries: u64) -> MemoryTree {
    let mut log = MemoryTree::new();
    for index in 0..entries {
        assert_eq!(log.append(leaf_hash(&entry(index))), Ok(index));
    }
    log
}

fn altered(hash: &TreeHash) -> TreeHash {
    let mut bytes = *hash.as_bytes();
    bytes[7] ^= 0x10;
    TreeHash::new(bytes)
}
