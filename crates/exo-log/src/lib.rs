//! The transparency log into which a federation commits, and proofs of it that anybody can check.
//!
//! A log is an append-only Merkle tree (RFC 6962). What is committed is said by the members: each
//! cosigns a **checkpoint**, the origin, size and root of the log, and a quorum of cosignatures makes it
//! certain. All formats are those of C2SP, so that other tools read them too: signed-note,
//! tlog-checkpoint, tlog-cosignature (ML-DSA-44, signature type 0x06), tlog-proof, tlog-policy and
//! tlog-tiles. What this project adds, which names and which numbers, is in `docs/protocol/proof.md`.
//!
//! ```
//! use std::sync::Arc;
//! use exo_crypto::CosignerKeypair;
//! use exo_log::{
//!     Checkpoint, CheckpointSigner, CommitProof, MemoryTree, Origin, Policy, inclusion_path, leaf_hash,
//! };
//! use exo_types::{FederationId, PeerId};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let origin = Origin::of_federation(&FederationId::new([1; 32]));
//! // Four members, three of whom are a quorum.
//! let mut signers = Vec::new();
//! let mut members = Vec::new();
//! for number in 0..4 {
//!     let (peer, keypair) = (PeerId::new([number; 32]), Arc::new(CosignerKeypair::generate()?));
//!     members.push((peer, keypair.public().clone()));
//!     signers.push(CheckpointSigner::new(origin.member(&peer)?, keypair));
//! }
//! let policy = Policy::for_members(&origin, &members, 3)?;
//!
//! // Each member has appended the same entries and cosigns what it has.
//! let mut log = MemoryTree::new();
//! for entry in ["one", "two", "three"] {
//!     log.append(leaf_hash(entry.as_bytes()))?;
//! }
//! let checkpoint = Checkpoint::new(origin.clone(), log.size(), log.root())?;
//! let mut cosignatures = Vec::new();
//! for signer in &signers[..3] {
//!     cosignatures.push(signer.cosign(&checkpoint)?);
//! }
//!
//! // A proof for the second entry, as a file, checked by somebody who has the policy.
//! let path = inclusion_path(1, log.size(), &log)?;
//! let file = CommitProof::new(checkpoint, 1, path, cosignatures)?.to_bytes();
//! let proof = CommitProof::from_bytes(&file)?;
//! let commit = proof.verify(&policy, Some(b"two"))?;
//! assert_eq!((commit.index(), commit.signers().len()), (1, 3));
//!
//! let refused = proof.verify(&policy, Some(b"ten")).expect_err("another entry");
//! assert_eq!(refused.code(), "inclusion");
//! # Ok(())
//! # }
//! ```
//!
//! # Requirements
//!
//! - The policy is the right one: it comes from the genesis of the federation, or from an entry of the
//!   log that a policy before it has shown to be committed.
//! - A cosigner signs a checkpoint only when that prefix is committed and its own record of that is
//!   durable, and never two roots for one size. The log cannot take a signature back.
//! - A cosigner's key signs nothing else.
//! - At most so many members are faulty that two quorums share an honest one.
//! - What a [`NodeReader`] or [`TileReader`] gives from somebody else's disk is believed until a path made
//!   of it is checked against a root that is signed.
//!
//! # Provided
//!
//! - A verified proof means: this entry is at this index of this federation's log, and a quorum of the
//!   policy's members, each counted once, has said so. It needs no clock, no network and none of our
//!   other crates.
//! - Each way in which a proof can be wrong has its own reason, with a code that does not change
//!   ([`ProofError::code`]).
//! - A prefix is checked before the rest is there ([`verify_subtree`], [`verify_consistency`]).
//! - One encoding for each proof, note, checkpoint, tile path and policy of members. Any bytes give a
//!   value or an error in bounded memory: [`CommitProof::from_bytes`], [`TlogProof::parse`],
//!   [`Note::parse`], [`Policy::parse`], [`Tile::hashes`], [`Tile::entries`], and `from_str` of
//!   [`VerifierKey`], [`Checkpoint`], [`Tile`] and [`TreeHash`].
//!
//! # Not provided
//!
//! - Secrecy: an entry that is carried in a proof can be read, and the hash of an entry shows a guess at
//!   it to be right.
//! - A statement of time: cosignatures of members are not dated, and dated ones are refused.
//! - Logs with a key of their own, Ed25519 signatures, extension lines of checkpoints, and policies that
//!   ask for no signature. They are refused, not ignored.
//! - The walk from one epoch's policy to the next, and the decision what is committed.
//! - Storage: tiles are made and read here, kept elsewhere.

mod checkpoint;
mod commit_proof;
mod cosign;
mod note;
mod policy;
mod proof;
mod store;
mod text;
mod tile;
mod tree;
mod verify;

pub use checkpoint::{Checkpoint, CheckpointError, NotAnOrigin, Origin};
pub use commit_proof::{CommitProof, CommitProofError, ProofError, VerifiedCommit};
pub use cosign::{
    COSIGNATURE_BYTES, CheckpointSigner, CosignatureError, Cosigner, NotACosigner, SIGNATURE_TYPE,
    cosigned_message,
};
pub use note::{
    KeyId, KeyName, NotAKeyName, Note, NoteError, NoteSignature, VerifierKey, VerifierKeyError,
};
pub use policy::{LineProblem, MembersError, Policy, PolicyError, PolicyName, Witness};
pub use proof::{ProofFileError, TlogProof};
pub use store::{MemoryTree, NoSuchNode};
pub use tile::{
    NotATile, TILE_HEIGHT, TILE_WIDTH, Tile, TileError, TileKind, TileNodes, TileReadError,
    TileReader, tiles_to_write,
};
pub use tree::{
    Frontier, LogFull, NodeReader, NotAHash, TREE_HASH_BYTES, TreeError, TreeHash,
    consistency_path, inclusion_path, leaf_hash, node_hash, root_at, subtree_path,
};
pub use verify::{
    ConsistencyError, InclusionError, root_from_path, verify_consistency, verify_inclusion,
    verify_subtree,
};
