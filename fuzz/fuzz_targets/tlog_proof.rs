//! A commit proof as a file, as anybody may hand it over: any bytes are refused or have one form, and
//! what holds against the policy is what the members' log says.
#![no_main]

use std::sync::{Arc, OnceLock};

use exo_crypto::CosignerKeypair;
use exo_fuzz::log::{ENTRIES, entry, origin, peer};
use exo_log::{
    Checkpoint, CheckpointSigner, CommitProof, MemoryTree, Note, Policy, Tile, TileKind,
    VerifierKey, inclusion_path, leaf_hash, root_at,
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check(data);
    edited(data);
    if let Ok(note) = Note::parse(data) {
        assert_eq!(note.to_string().as_bytes(), data, "a note has one form");
    }
    if let Ok(text) = std::str::from_utf8(data) {
        exo_fuzz::text::<Checkpoint>(text);
        if let Some(key) = exo_fuzz::text::<VerifierKey>(text) {
            assert_eq!(key.to_string(), text, "a key has one text");
        }
        if let Some(tile) = exo_fuzz::text::<Tile>(text) {
            assert_eq!(tile.to_string(), text, "a tile has one path");
        }
    }
    for kind in [TileKind::Entries, TileKind::Hashes { level: 0 }] {
        let size = data.len() as u64 % 300 + 1;
        let tile = Tile::in_log(kind, 0, size).expect("in the log");
        let _ = tile.hashes(data);
        if let Ok(entries) = tile.entries(data) {
            assert_eq!(entries.len(), tile.width());
        }
    }
});

/// Bytes as a proof.
fn check(bytes: &[u8]) {
    let proof = match CommitProof::from_bytes(bytes) {
        Ok(proof) => proof,
        Err(error) => return assert!(error.code().starts_with("file")),
    };
    assert!(proof.to_bytes() == bytes, "a proof has one form");
    let given = entry(proof.index());
    for entry in [None, Some(given.as_slice()), Some(b"another".as_slice())] {
        match proof.verify(policy(), entry) {
            Ok(commit) => {
                // A frozen proof is of the log when it had one entry.
                assert_eq!(root_at(commit.size(), log()), Ok(*commit.root()));
                assert_eq!(commit.leaf(), &leaf_hash(&given), "what is in the log");
                assert!(commit.signers().len() >= 3);
            }
            Err(error) => assert!(!error.code().is_empty() && !error.to_string().is_empty()),
        }
    }
}

/// A good proof with pieces replaced: two bytes for where, one for how many, one for the first byte.
fn edited(data: &[u8]) {
    let mut bytes = good().clone();
    for edit in data.chunks_exact(4).take(4) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % bytes.len();
        let end = (at + usize::from(edit[2] % 8)).min(bytes.len());
        let piece = vec![edit[3]; usize::from(edit[2] / 8 % 8)];
        bytes.splice(at..end, piece);
    }
    check(&bytes);
}

fn signers() -> Vec<CheckpointSigner> {
    let signer = |at| {
        let keypair = CosignerKeypair::from_seed(&[at; 32]).expect("expands");
        CheckpointSigner::new(origin().member(&peer(at)).expect("a name"), Arc::new(keypair))
    };
    (0..4).map(signer).collect()
}

fn policy() -> &'static Policy {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    POLICY.get_or_init(|| {
        let member =
            |(at, signer): (u8, CheckpointSigner)| (peer(at), signer.cosigner().key().clone());
        let members: Vec<_> = (0..).zip(signers()).map(member).collect();
        Policy::for_members(&origin(), &members, 3).expect("a policy")
    })
}

fn log() -> &'static MemoryTree {
    static LOG: OnceLock<MemoryTree> = OnceLock::new();
    LOG.get_or_init(exo_fuzz::log::log)
}

fn good() -> &'static Vec<u8> {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let checkpoint = Checkpoint::new(origin(), ENTRIES, log().root()).expect("in bounds");
        let cosign = |signer: &CheckpointSigner| signer.cosign(&checkpoint).expect("signs");
        let signatures = signers()[..3].iter().map(cosign).collect();
        let path = inclusion_path(5, ENTRIES, log()).expect("in the log");
        let proof = CommitProof::new(checkpoint.clone(), 5, path, signatures).expect("in bounds");
        proof.with_entry(entry(5)).expect("fits").to_bytes()
    })
}
