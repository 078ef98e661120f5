//! The format is frozen: proofs, policies and entries as files, each case with its outcome.
//!
//! A change that makes these tests fail is a new format. `tests/verifier` reads the same files with other
//! code in another language.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use exo_log::{
    Checkpoint, CheckpointSigner, CommitProof, KeyName, NoteSignature, Policy, cosigned_message,
    root_at,
};
use serde_json::{Value, json};

use crate::{Federation, altered, entry, keypair};

const INDEX: u64 = 5;
const SIZE: u64 = 13;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

fn load(name: &str) -> Vec<u8> {
    let path = file(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn cases() -> Vec<Value> {
    let cases: Value = serde_json::from_slice(&load("cases.json")).expect("JSON");
    cases["cases"].as_array().expect("a list").clone()
}

/// The outcome of a case, as its code.
fn outcome(case: &Value) -> &'static str {
    let name = |key: &str| case[key].as_str();
    let policy = Policy::parse(&load(name("policy").expect("a file"))).expect("a policy");
    let entry = name("entry").map(load);
    let proof = load(name("proof").expect("a file"));
    match CommitProof::from_bytes(&proof) {
        Err(error) => error.code(),
        Ok(read) => {
            assert!(read.to_bytes() == proof, "a proof has one form");
            read.verify(&policy, entry.as_deref()).map_or_else(|error| error.code(), |_| "ok")
        }
    }
}

#[test]
fn every_frozen_case_has_its_outcome() {
    let cases = cases();
    assert!(cases.len() >= 30);
    for case in &cases {
        assert_eq!(outcome(case), case["outcome"].as_str().expect("a code"), "{case}");
    }
}

#[test]
fn every_reason_that_a_file_can_have_is_among_the_cases() {
    let outcomes: BTreeSet<_> = cases().iter().map(outcome).collect();
    let reasons = [
        "ok",
        "policy-origin",
        "origin",
        "entry-missing",
        "entry",
        "index-range",
        "path-length",
        "index",
        "path",
        "inclusion",
        "root",
        "checkpoint",
        "signature",
        "timestamp",
        "signer-twice",
        "signer-outside",
        "too-few-signers",
        "file",
        "file-extra",
        "file-index",
        "file-path",
        "file-note",
        "file-checkpoint",
    ];
    assert_eq!(outcomes, BTreeSet::from(reasons));
}

#[test]
fn the_frozen_policy_is_that_of_its_members() {
    let federation = Federation::new(1, 4, SIZE);
    assert_eq!(load("policy.txt"), federation.policy(3).to_bytes());
    assert_eq!(load("entry.bin"), entry(INDEX));
}

/// Collects cases while it writes their files.
struct Freezer {
    federation: Federation,
    cases: Vec<Value>,
}

impl Freezer {
    fn put(&mut self, name: &str, outcome: &str, proof: &[u8], entry: Option<&str>) {
        self.put_with(name, outcome, proof, entry, "policy.txt");
    }

    fn put_with(
        &mut self,
        name: &str,
        outcome: &str,
        proof: &[u8],
        entry: Option<&str>,
        policy: &str,
    ) {
        let path = format!("proofs/{name}.tlog-proof");
        std::fs::write(file(&path), proof).expect("writes");
        let case = json!({ "proof": path, "policy": policy, "entry": entry, "outcome": outcome });
        self.cases.push(case);
    }

    /// A proof of the entry with these signatures.
    fn with(&self, signatures: Vec<NoteSignature>) -> CommitProof {
        let federation = &self.federation;
        CommitProof::new(federation.checkpoint(), INDEX, federation.path(INDEX), signatures)
            .expect("in bounds")
    }

    fn dated(&self) -> NoteSignature {
        let (checkpoint, cosigner) =
            (self.federation.checkpoint(), self.federation.signers[2].cosigner());
        let (origin, root) = (checkpoint.origin(), checkpoint.root());
        let time = 1_800_000_000_u64;
        let message = cosigned_message(cosigner.name(), time, origin, 0, SIZE, root);
        let signature = keypair(2).sign(&message).expect("signs");
        let bytes = [time.to_be_bytes().as_slice(), signature.as_bytes()].concat();
        NoteSignature::new(cosigner.name().clone(), cosigner.id(), bytes).expect("in bounds")
    }
}

/// Replaces one piece of text, which is there once.
fn edit(proof: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(proof).expect("UTF-8");
    assert_eq!(text.matches(from).count(), 1, "{from:?}");
    text.replace(from, to).into_bytes()
}

/// Writes the files anew: for a new version of the format alone.
#[test]
#[ignore = "writes the vectors"]
fn freeze() {
    let mut freezer = Freezer { federation: Federation::new(1, 4, SIZE), cases: Vec::new() };
    std::fs::create_dir_all(file("proofs")).expect("a directory");
    let store = |name: &str, bytes: &[u8]| std::fs::write(file(name), bytes).expect("writes");
    store("policy.txt", &freezer.federation.policy(3).to_bytes());
    store("entry.bin", &entry(INDEX));
    store("other-entry.bin", b"another entry");
    let good = freezer.with(freezer.federation.cosigned(&[0, 1, 2]));
    freeze_good(&mut freezer, &good);
    freeze_altered(&mut freezer, &good);
    freeze_signers(&mut freezer);
    freeze_foreign(&mut freezer, &good);
    freeze_files(&mut freezer, &good);
    let about = "Proofs with the policy and the entry they are checked against (null: none is given), \
                 and the outcome: ok, or the code of the reason in docs/protocol/proof.md.";
    let cases = json!({ "about": about, "cases": freezer.cases });
    let text = serde_json::to_string_pretty(&cases).expect("JSON") + "\n";
    store("cases.json", text.as_bytes());
}

fn outside() -> CheckpointSigner {
    let name = KeyName::new("witness.example/outside").expect("a name");
    CheckpointSigner::new(name, keypair(99))
}

fn freeze_good(freezer: &mut Freezer, good: &CommitProof) {
    let given = Some("entry.bin");
    let carrying = good.clone().with_entry(entry(INDEX)).expect("fits").to_bytes();
    freezer.put("good", "ok", &good.to_bytes(), given);
    freezer.put("good", "entry-missing", &good.to_bytes(), None);
    freezer.put("good", "inclusion", &good.to_bytes(), Some("other-entry.bin"));
    freezer.put("good-carrying", "ok", &carrying, given);
    freezer.put("good-carrying", "ok", &carrying, None);
    freezer.put("good-carrying", "entry", &carrying, Some("other-entry.bin"));
    let mut signatures = freezer.federation.cosigned(&[3, 2, 1, 0]);
    signatures.insert(0, outside().cosign(&freezer.federation.checkpoint()).expect("signs"));
    freezer.put("good-outsider-ignored", "ok", &freezer.with(signatures).to_bytes(), given);
    let last = freezer.federation.proof(SIZE - 1, &[0, 1, 2]);
    let last = last.with_entry(entry(SIZE - 1)).expect("fits").to_bytes();
    freezer.put("good-last", "ok", &last, None);
    let one = Federation::new(1, 4, 1).proof(0, &[0, 1, 2]).with_entry(entry(0));
    freezer.put("good-only", "ok", &one.expect("fits").to_bytes(), None);
}

fn freeze_altered(freezer: &mut Freezer, good: &CommitProof) {
    let given = Some("entry.bin");
    let carrying = good.clone().with_entry(entry(INDEX)).expect("fits").to_bytes();
    let (good, checkpoint) = (good.to_bytes(), good.checkpoint().clone());
    freezer.put("index", "index", &edit(&good, "index 5\n", "index 4\n"), given);
    freezer.put("index-range", "index-range", &edit(&good, "index 5\n", "index 13\n"), given);
    freezer.put("index-path-length", "path-length", &edit(&good, "index 5\n", "index 12\n"), given);
    let path = freezer.federation.path(INDEX);
    let (hash, other) = (path[1].to_string(), altered(&path[1]).to_string());
    freezer.put("path", "path", &edit(&carrying, &hash, &other), given);
    freezer.put("path", "inclusion", &edit(&carrying, &hash, &other), None);
    let line = format!("{hash}\n");
    freezer.put("path-length", "path-length", &edit(&good, &line, ""), given);
    let root = checkpoint.root();
    let forged = edit(&good, &root.to_string(), &altered(root).to_string());
    freezer.put("root", "root", &forged, given);
    freezer.put("size", "checkpoint", &edit(&good, "\n13\n", "\n14\n"), given);
}

fn freeze_signers(freezer: &mut Freezer) {
    let given = Some("entry.bin");
    let federation = &freezer.federation;
    let (checkpoint, origin) = (federation.checkpoint(), &federation.origin);
    let earlier = root_at(SIZE - 1, &federation.log).expect("in the log");
    let earlier = Checkpoint::new(origin.clone(), SIZE - 1, earlier).expect("in bounds");
    let with = |signers: &[usize], more: Option<NoteSignature>| {
        let mut signatures = federation.cosigned(signers);
        signatures.extend(more);
        freezer.with(signatures).to_bytes()
    };
    let of_earlier = federation.signers[3].cosign(&earlier).expect("signs");
    let rekeyed =
        CheckpointSigner::new(federation.signers[2].cosigner().name().clone(), keypair(77));
    let name = federation.signers[2].cosigner();
    let short = NoteSignature::new(name.name().clone(), name.id(), vec![0; 72]).expect("in bounds");
    let outsider = outside().cosign(&checkpoint).expect("signs");
    let files = [
        ("signature", "signature", with(&[0, 1, 2], Some(of_earlier))),
        ("signature-length", "signature", with(&[0, 1], Some(short))),
        ("timestamp", "timestamp", with(&[0, 1], Some(freezer.dated()))),
        ("signer-twice", "signer-twice", with(&[0, 1, 1], None)),
        ("signer-outside", "signer-outside", with(&[0, 1], Some(outsider))),
        ("signer-key", "signer-outside", {
            with(&[0, 1], Some(rekeyed.cosign(&checkpoint).expect("signs")))
        }),
        ("too-few-signers", "too-few-signers", with(&[0, 3], None)),
    ];
    for (name, outcome, proof) in files {
        freezer.put(name, outcome, &proof, given);
    }
}

fn freeze_foreign(freezer: &mut Freezer, good: &CommitProof) {
    let given = Some("entry.bin");
    let foreign = Federation::new(2, 4, SIZE);
    let proof = foreign.proof(INDEX, &[0, 1, 2]).to_bytes();
    freezer.put("origin", "origin", &proof, given);
    let renamed = edit(
        &good.to_bytes(),
        &format!("\n\n{}\n", freezer.federation.origin),
        &format!("\n\n{}\n", foreign.origin),
    );
    freezer.put("origin-renamed", "origin", &renamed, given);
    // Members of two federations in one policy.
    let members = [&freezer.federation.signers[0], &foreign.signers[1]];
    let line = |(at, signer): (usize, &&CheckpointSigner)| {
        format!("witness w{at} {}\n", signer.cosigner().verifier_key())
    };
    let policy: String = members.iter().enumerate().map(line).collect();
    let policy = policy + "group members 1 w0 w1\nquorum members\n";
    std::fs::write(file("policy-of-two.txt"), policy).expect("writes");
    let good = good.to_bytes();
    freezer.put_with("good", "policy-origin", &good, given, "policy-of-two.txt");
}

fn freeze_files(freezer: &mut Freezer, good: &CommitProof) {
    let given = Some("entry.bin");
    let carrying = good.clone().with_entry(entry(INDEX)).expect("fits").to_bytes();
    let hash = freezer.federation.path(INDEX)[0].to_string();
    let root = good.checkpoint().root().to_string();
    let good = good.to_bytes();
    let files = [
        ("file-version", "file", edit(&good, "@v1\n", "@v2\n")),
        ("file-extra", "file-extra", edit(&carrying, "extra ", "extra =")),
        ("file-index", "file-index", edit(&good, "index 5\n", "index 05\n")),
        ("file-path", "file-path", edit(&good, &hash, &hash[..40])),
        ("file-note-cut", "file-note", good[..good.len() - 1].to_vec()),
        (
            "file-note-dash",
            "file-note",
            good.windows(3).position(|w| w == "\u{2014}".as_bytes()).map_or_else(
                || panic!("a signature"),
                |at| [&good[..at], b"-", &good[at + 3..]].concat(),
            ),
        ),
        ("file-extension", "file-checkpoint", {
            edit(&good, &format!("{root}\n"), &format!("{root}\nextension\n"))
        }),
        ("file-size", "file-checkpoint", edit(&good, "\n13\n", "\n013\n")),
    ];
    for (name, outcome, proof) in files {
        freezer.put(name, outcome, &proof, given);
    }
}
