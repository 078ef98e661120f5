//! Commit proofs: what holds, and a reason for everything that does not.

use std::sync::Arc;
use std::sync::OnceLock;

use exo_log::{
    Checkpoint, CheckpointSigner, CommitProof, CommitProofError, CosignatureError, KeyName,
    MemoryTree, NoteSignature, Origin, Policy, ProofError, TlogProof, TreeHash, cosigned_message,
    leaf_hash, root_at,
};
use proptest::prelude::*;

use crate::{Federation, altered, entry, keypair};

const INDEX: u64 = 5;
const SIZE: u64 = 13;

fn federation() -> &'static Federation {
    static FEDERATION: OnceLock<Federation> = OnceLock::new();
    FEDERATION.get_or_init(|| Federation::new(1, 4, SIZE))
}

fn policy() -> Policy {
    federation().policy(3)
}

fn proof() -> CommitProof {
    federation().proof(INDEX, &[0, 1, 2])
}

fn code(proof: &CommitProof, entry: Option<&[u8]>) -> &'static str {
    match proof.verify(&policy(), entry) {
        Ok(_) => "ok",
        Err(error) => error.code(),
    }
}

/// The proof with parts of its file replaced.
fn edited(proof: &CommitProof, edit: impl FnOnce(&mut TlogProof)) -> CommitProof {
    let (mut file, _) = TlogProof::parse(&proof.to_bytes()).expect("a proof");
    edit(&mut file);
    CommitProof::from_bytes(file.to_string().as_bytes()).expect("a proof by its form")
}

/// The proof with another checkpoint under the same signatures.
fn rechecked(proof: &CommitProof, size: u64, root: TreeHash) -> CommitProof {
    let checkpoint = Checkpoint::new(proof.origin().clone(), size, root).expect("in bounds");
    CommitProof::new(
        checkpoint,
        proof.index(),
        proof.path().to_vec(),
        proof.cosignatures().to_vec(),
    )
    .expect("in bounds")
}

fn dated(signer: u8, timestamp: u64) -> NoteSignature {
    let federation = federation();
    let (checkpoint, cosigner) =
        (federation.checkpoint(), federation.signers[usize::from(signer)].cosigner());
    let message = cosigned_message(
        cosigner.name(),
        timestamp,
        checkpoint.origin(),
        0,
        checkpoint.size(),
        checkpoint.root(),
    );
    let signature = keypair(signer).sign(&message).expect("signs");
    let bytes = [timestamp.to_be_bytes().as_slice(), signature.as_bytes()].concat();
    NoteSignature::new(cosigner.name().clone(), cosigner.id(), bytes).expect("in bounds")
}

fn outsider() -> CheckpointSigner {
    let name = KeyName::new("witness.example/outside").expect("a name");
    CheckpointSigner::new(name, keypair(99))
}

#[test]
fn a_quorum_of_any_members_proves_every_entry() {
    let federation = federation();
    for signers in [&[0, 1, 2][..], &[3, 1, 0], &[0, 1, 2, 3]] {
        for index in 0..SIZE {
            let proof = federation.proof(index, signers);
            let commit = proof.verify(&policy(), Some(&entry(index))).expect("holds");
            assert_eq!((commit.index(), commit.size()), (index, SIZE));
            assert_eq!(commit.origin(), &federation.origin);
            assert_eq!(commit.root(), &federation.log.root());
            assert_eq!(commit.leaf(), &leaf_hash(&entry(index)));
            let names: Vec<_> =
                signers.iter().map(|at| federation.signers[*at].cosigner().name()).collect();
            assert!(commit.signers().iter().eq(names));
        }
    }
}

#[test]
fn the_only_entry_of_a_log_and_one_of_a_large_log_are_proved() {
    for entries in [1, 70_000] {
        let federation = Federation::new(3, 4, entries);
        let proof = federation.proof(entries - 1, &[0, 1, 2]);
        let proof = CommitProof::from_bytes(&proof.to_bytes()).expect("a proof");
        assert!(proof.verify(&federation.policy(3), Some(&entry(entries - 1))).is_ok());
    }
}

#[test]
fn a_proof_reads_back_as_it_was_and_verifies_with_what_it_carries() {
    let carrying = proof().with_entry(entry(INDEX)).expect("fits");
    for proof in [proof(), carrying.clone()] {
        assert_eq!(CommitProof::from_bytes(&proof.to_bytes()), Ok(proof.clone()));
        assert_eq!(code(&proof, Some(&entry(INDEX))), "ok");
    }
    assert_eq!(code(&carrying, None), "ok");
    assert_eq!(code(&carrying.without_entry(), None), "entry-missing");
}

#[test]
fn an_altered_entry_is_named() {
    let carrying = proof().with_entry(entry(INDEX)).expect("fits");
    assert_eq!(code(&carrying, Some(b"another")), "entry");
    // Without a second copy to compare with, entry and path are both suspect.
    assert_eq!(code(&proof(), Some(b"another")), "inclusion");
    let other = proof().with_entry(b"another".to_vec()).expect("fits");
    assert_eq!(code(&other, None), "inclusion");
}

#[test]
fn an_altered_index_is_named_with_the_right_one() {
    let wrong = edited(&proof(), |file| file.index = 4);
    let error = wrong.verify(&policy(), Some(&entry(INDEX))).expect_err("altered");
    assert_eq!(error, ProofError::IndexAltered { claimed: 4, actual: 5 });
    assert_eq!(
        code(&edited(&proof(), |file| file.index = SIZE), Some(&entry(INDEX))),
        "index-range"
    );
    assert_eq!(code(&edited(&proof(), |file| file.index = 12), Some(&entry(INDEX))), "path-length");
}

#[test]
fn an_altered_path_is_named() {
    let carrying = proof().with_entry(entry(INDEX)).expect("fits");
    let wrong = edited(&carrying, |file| file.path[2] = altered(&file.path[2]));
    assert_eq!(code(&wrong, Some(&entry(INDEX))), "path");
    assert_eq!(code(&wrong, None), "inclusion");
    let short = edited(&carrying, |file| file.path.truncate(3));
    let error = short.verify(&policy(), None).expect_err("altered");
    assert_eq!(error, ProofError::PathLength { expected: 4, actual: 3 });
}

#[test]
fn an_altered_root_size_or_origin_is_named() {
    let proof = proof();
    let root = *proof.checkpoint().root();
    assert_eq!(code(&rechecked(&proof, SIZE, altered(&root)), Some(&entry(INDEX))), "root");
    assert_eq!(code(&rechecked(&proof, SIZE + 1, root), Some(&entry(INDEX))), "checkpoint");
    let foreign = Federation::new(2, 4, SIZE);
    let error = foreign.proof(INDEX, &[0, 1, 2]).verify(&policy(), Some(&entry(INDEX)));
    let (expected, actual) = (federation().origin.clone(), foreign.origin.clone());
    assert_eq!(error, Err(ProofError::ForeignOrigin { expected, actual }));
}

#[test]
fn a_root_that_the_members_did_not_sign_is_refused_with_its_own_path() {
    let mut forged = MemoryTree::new();
    for index in 0..SIZE {
        let entry = if index == INDEX { b"forged".to_vec() } else { entry(index) };
        forged.append(leaf_hash(&entry)).expect("not full");
    }
    let federation = federation();
    let checkpoint = Checkpoint::new(federation.origin.clone(), SIZE, forged.root());
    let proof = CommitProof::new(
        checkpoint.expect("in bounds"),
        INDEX,
        exo_log::inclusion_path(INDEX, SIZE, &forged).expect("in the log"),
        federation.cosigned(&[0, 1, 2, 3]),
    );
    assert_eq!(code(&proof.expect("in bounds"), Some(b"forged")), "checkpoint");
}

#[test]
fn a_signature_that_does_not_hold_names_its_signer() {
    let federation = federation();
    let earlier = Checkpoint::new(
        federation.origin.clone(),
        SIZE - 1,
        root_at(SIZE - 1, &federation.log).expect("in the log"),
    );
    let old = federation.signers[1].cosign(&earlier.expect("in bounds")).expect("signs");
    let mut signatures = federation.cosigned(&[0, 2, 3]);
    signatures.insert(1, old);
    let proof =
        CommitProof::new(federation.checkpoint(), INDEX, federation.path(INDEX), signatures);
    let error = proof.expect("in bounds").verify(&policy(), Some(&entry(INDEX)));
    let signer = federation.signers[1].cosigner().name().clone();
    let why = CosignatureError::BadSignature;
    assert_eq!(error, Err(ProofError::Signature { signer, why }));
}

#[test]
fn a_signature_of_another_length_or_time_names_its_signer() {
    let federation = federation();
    let with = |signature: NoteSignature| {
        let mut signatures = federation.cosigned(&[0, 1]);
        signatures.push(signature);
        let proof =
            CommitProof::new(federation.checkpoint(), INDEX, federation.path(INDEX), signatures);
        proof.expect("in bounds").verify(&policy(), Some(&entry(INDEX)))
    };
    let cosigner = federation.signers[2].cosigner();
    let signer = cosigner.name().clone();
    let short = NoteSignature::new(signer.clone(), cosigner.id(), vec![0; 100]).expect("in bounds");
    let why = CosignatureError::Length(100);
    assert_eq!(with(short), Err(ProofError::Signature { signer: signer.clone(), why }));
    let dated_1 = ProofError::Dated { signer: signer.clone(), timestamp: 1_679_315_147 };
    assert_eq!(with(dated(2, 1_679_315_147)), Err(dated_1));
    let late = u64::MAX;
    let why = CosignatureError::Timestamp(late);
    assert_eq!(with(dated(2, late)), Err(ProofError::Signature { signer, why }));
    assert!(with(dated(2, 0)).is_ok());
}

#[test]
fn a_member_counts_once_and_twice_is_refused() {
    let federation = federation();
    for signers in [&[0, 1, 1][..], &[0, 1, 2, 0]] {
        let error = federation.proof(INDEX, signers).verify(&policy(), Some(&entry(INDEX)));
        let twice = *signers.last().expect("one");
        let signer = federation.signers[twice].cosigner().name().clone();
        assert_eq!(error, Err(ProofError::SignerTwice { signer }));
    }
}

#[test]
fn too_few_signers_are_counted_and_the_missing_named() {
    let federation = federation();
    let error = federation.proof(INDEX, &[3, 1]).verify(&policy(), Some(&entry(INDEX)));
    let name = |at: usize| federation.signers[at].cosigner().name().clone();
    let missing = vec![name(0), name(2)];
    let too_few = ProofError::TooFewSigners { signed: 2, needed: 3, missing };
    assert!(too_few.to_string().starts_with("2 of 3 have signed; exo-federation/"), "{too_few}");
    assert_eq!(error, Err(too_few));
}

#[test]
fn a_signer_outside_the_policy_does_not_count_and_does_no_harm() {
    let federation = federation();
    let outside = outsider().cosign(&federation.checkpoint()).expect("signs");
    let with = |signers: &[usize]| {
        let mut signatures = federation.cosigned(signers);
        signatures.insert(1, outside.clone());
        let proof =
            CommitProof::new(federation.checkpoint(), INDEX, federation.path(INDEX), signatures);
        proof.expect("in bounds").verify(&policy(), Some(&entry(INDEX)))
    };
    assert_eq!(with(&[0, 1, 3]).expect("holds").signers().len(), 3);
    let signer = outside.name().clone();
    let refused = ProofError::SignerOutsidePolicy { signer, signed: 2, needed: 3 };
    assert_eq!(with(&[0, 1]), Err(refused));
}

#[test]
fn a_member_under_another_name_or_another_key_does_not_count() {
    let federation = federation();
    let renamed = CheckpointSigner::new(
        federation.signers[3].cosigner().name().clone(),
        Arc::clone(&keypair(2)),
    );
    let rekeyed =
        CheckpointSigner::new(federation.signers[2].cosigner().name().clone(), keypair(77));
    for signer in [renamed, rekeyed] {
        let mut signatures = federation.cosigned(&[0, 1]);
        signatures.push(signer.cosign(&federation.checkpoint()).expect("signs"));
        let proof =
            CommitProof::new(federation.checkpoint(), INDEX, federation.path(INDEX), signatures);
        assert_eq!(code(&proof.expect("in bounds"), Some(&entry(INDEX))), "signer-outside");
    }
}

#[test]
fn a_policy_of_witnesses_who_are_no_members_of_one_log_has_no_proofs() {
    let witness = |signer: &CheckpointSigner, name: &str| {
        format!("witness {name} {}\n", signer.cosigner().verifier_key())
    };
    let other = Federation::new(2, 5, SIZE);
    for text in [
        witness(&outsider(), "a") + "quorum a\n",
        witness(&federation().signers[0], "a") + &witness(&other.signers[4], "b") + "quorum a\n",
    ] {
        let policy = Policy::parse(text.as_bytes()).expect("a policy");
        let error = proof().verify(&policy, Some(&entry(INDEX))).expect_err("no origin");
        assert_eq!(error, ProofError::PolicyWithoutOrigin);
    }
}

#[test]
fn parts_out_of_bounds_make_no_proof() {
    let federation = federation();
    let make = |index, path, signatures| {
        CommitProof::new(federation.checkpoint(), index, path, signatures).map(|_| ())
    };
    let good = || federation.cosigned(&[0]);
    let size = SIZE;
    assert_eq!(make(SIZE, vec![], good()), Err(CommitProofError::Index { index: SIZE, size }));
    assert_eq!(make(0, vec![TreeHash::EMPTY; 64], good()), Err(CommitProofError::Path));
    assert!(matches!(make(0, vec![], vec![]), Err(CommitProofError::Note(_))));
    let many = vec![good().remove(0); 273];
    assert!(matches!(make(0, vec![], many), Err(CommitProofError::Note(_))));
    for len in [0, 65_536] {
        assert_eq!(proof().with_entry(vec![1; len]), Err(CommitProofError::EntryLength(len)));
    }
    let largest = proof().with_entry(vec![1; 65_535]).expect("fits");
    assert_eq!(CommitProof::from_bytes(&largest.to_bytes()), Ok(largest));
}

#[test]
fn the_largest_federation_has_a_proof_and_a_policy_within_their_bounds() {
    let origin = Federation::new(1, 0, 1).origin;
    let signers: Vec<_> = (0..=255_u8)
        .map(|at| {
            let peer = exo_types::PeerId::new([at; 32]);
            (peer, CheckpointSigner::new(origin.member(&peer).expect("a name"), keypair(at)))
        })
        .collect();
    let members: Vec<_> =
        signers.iter().map(|(peer, signer)| (*peer, signer.cosigner().key().clone())).collect();
    let policy = Policy::for_members(&origin, &members, 171).expect("a policy");
    assert_eq!(Policy::parse(&policy.to_bytes()), Ok(policy.clone()));
    let log = crate::log(3);
    let checkpoint = Checkpoint::new(origin, 3, log.root()).expect("in bounds");
    let signatures: Vec<_> =
        signers.iter().map(|(_, signer)| signer.cosign(&checkpoint).expect("signs")).collect();
    let path = exo_log::inclusion_path(0, 3, &log).expect("in the log");
    let proof = CommitProof::new(checkpoint, 0, path, signatures).expect("in bounds");
    let proof = CommitProof::from_bytes(&proof.to_bytes()).expect("a proof");
    assert_eq!(proof.verify(&policy, Some(&entry(0))).expect("holds").signers().len(), 256);
}

#[test]
fn an_origin_of_the_longest_name_has_members_only_where_their_names_fit() {
    let peer = exo_types::PeerId::new([1; 32]);
    let origin = Origin::new("o".repeat(202)).expect("a name");
    let name = origin.member(&peer).expect("255 bytes");
    assert_eq!(Origin::of_member(&name), Some((origin, peer)));
    assert!(Origin::new("o".repeat(203)).expect("a name").member(&peer).is_err());
    assert!(Origin::new("o".repeat(256)).is_err() && Origin::new("").is_err());
    assert!(Origin::new("with space").expect("a name").member(&peer).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_altered_byte_of_a_proof_is_refused(at in any::<prop::sample::Index>(), xor in 1..=255_u8) {
        static FILE: OnceLock<(Vec<u8>, Policy)> = OnceLock::new();
        let (file, policy) = FILE.get_or_init(|| {
            (proof().with_entry(entry(INDEX)).expect("fits").to_bytes(), policy())
        });
        let mut file = file.clone();
        let at = at.index(file.len());
        file[at] ^= xor;
        if let Ok(proof) = CommitProof::from_bytes(&file) {
            prop_assert!(proof.to_bytes() == file, "a proof has one form");
            prop_assert!(proof.verify(policy, Some(&entry(INDEX))).is_err());
            prop_assert!(proof.verify(policy, None).is_err());
        }
    }

    #[test]
    fn any_cut_of_a_proof_is_refused(at in any::<prop::sample::Index>()) {
        static FILE: OnceLock<Vec<u8>> = OnceLock::new();
        let file = FILE.get_or_init(|| proof().to_bytes());
        let cut = &file[..at.index(file.len())];
        let outcome = CommitProof::from_bytes(cut).map(|proof| proof.verify(&policy(), Some(&entry(INDEX))));
        prop_assert!(outcome.is_err() || outcome.is_ok_and(|verified| verified.is_err()));
    }
}
