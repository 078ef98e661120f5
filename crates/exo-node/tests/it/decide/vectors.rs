//! Encodings of decisions, frozen: they stand in logs for ever.
//!
//! `EXO_VECTORS_FREEZE=1` writes the files anew.

use std::fs;
use std::path::{Path, PathBuf};

use exo_consensus::{Change, Update};
use exo_crdt::checkpoint::FrontierBatch;
use exo_crdt::{Checkpoint, CollectionKind, CutHash, HeaderHash};
use exo_node::decide::{Decision, Kind, Void, summary, voter};
use exo_node::share::{Access, ShareSpec};
use exo_types::{CollectionName, Timestamp, Wire};

use super::{admit, cosigner, grant, id, key, revoke, rotate, rules, withdraw};

fn samples() -> Vec<(&'static str, Decision)> {
    let mut unverified = admit(6);
    if let Decision::Admit(of) = &mut unverified {
        of.unverified = true;
    }
    vec![
        ("statement", Decision::statement(b"We meet on Monday.".to_vec()).expect("short")),
        ("admit", admit(5)),
        ("admit-unverified", unverified),
        ("revoke", revoke(5)),
        ("grant-vote", grant(5)),
        ("withdraw-vote", withdraw(5)),
        ("rotate", rotate(9)),
        ("rules", rules(2)),
        ("share", share()),
        ("cut", cut()),
    ]
}

fn share() -> Decision {
    let spec = ShareSpec {
        kind: CollectionKind::ObservedRemove,
        readers: Access::only([id(1), id(2), id(3)]),
        writers: Access::only([id(1), id(2)]),
    };
    Decision::Share { name: CollectionName::new("notes").expect("a name"), spec }
}

fn cut() -> Decision {
    let name = CollectionName::new("notes").expect("a name");
    let first = Checkpoint::genesis(name, CollectionKind::ObservedRemove);
    Decision::Cut(Box::new(Checkpoint {
        epoch: 1,
        time: Timestamp(1_800_000_000_000),
        recent: vec![(CutHash([0; 32]), Timestamp(0))],
        frontier: vec![FrontierBatch {
            author: id(1),
            seq: 2,
            hash: HeaderHash([3; 32]),
            total_entries: 300,
            total_bytes: 40_000,
        }],
        ..first
    }))
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(format!("decision-{name}.bin"))
}

fn description() -> String {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol/decisions.md");
    fs::read_to_string(text).expect("the description is there")
}

#[test]
fn every_decision_keeps_its_encoding() {
    let mut numbers = Vec::new();
    for (name, decision) in samples() {
        let bytes = decision.to_wire().expect("encodes");
        if std::env::var_os("EXO_VECTORS_FREEZE").is_some() {
            fs::write(path(name), &bytes).expect("writes");
        }
        let frozen = fs::read(path(name)).expect("reads");
        assert!(frozen == bytes, "the encoding of {name} has changed");
        assert_eq!(Decision::from_wire(&frozen).expect("decodes"), decision, "{name}");
        numbers.push(frozen[0]);
    }
    numbers.dedup();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8], "a variant has no vector");
}

#[test]
fn the_description_names_every_kind_and_reason() {
    let text = description();
    for (_, decision) in samples() {
        let number = decision.to_wire().expect("encodes")[0];
        let row = format!("| {number} | `{}` |", decision.kind());
        assert!(text.contains(&row), "the description lacks: {row}");
    }
    for kind in Kind::ALL {
        assert!(text.contains(&format!("`{kind}`")), "the description lacks the kind {kind}");
    }
    for void in Void::ALL {
        let code = format!("| `{}` |", void.code());
        assert!(text.contains(&code), "the description lacks the reason {code}");
    }
}

#[test]
fn a_kind_is_told_from_the_update_and_said_in_a_line() {
    for (_, decision) in samples() {
        let update = decision.to_update().expect("fits");
        assert_eq!(Kind::of(&update), decision.kind());
        assert_eq!(summary(&update), decision.summary());
        assert!(!decision.summary().contains('\n'));
    }
    let unknown = Update::Data(exo_consensus::Blob::new(vec![99]).expect("short"));
    assert_eq!(
        (Kind::of(&unknown), summary(&unknown)),
        (Kind::Unknown, "1 bytes that are no decision".to_owned())
    );
    let wish = Update::Wish(Change::Rotate(voter(&key(1), &cosigner(2))));
    assert_eq!(Kind::of(&wish), Kind::Seats);
    assert_eq!(Kind::of(&Update::Rejoin { nonce: 1 }), Kind::Rejoin);
    let ugly = Decision::Revoke { peer: id(1), reason: "a\nb\u{1b}[2J".to_owned() };
    assert_eq!(ugly.summary(), format!("remove {}: a\\nb\\u{{1b}}[2J", id(1).short()));
    assert!(admit(5).summary().starts_with("admit lab-5 ("));
}

#[test]
fn a_decision_out_of_bounds_is_neither_written_nor_read() {
    let long = Decision::Revoke { peer: id(1), reason: "x".repeat(513) };
    assert!(long.to_update().is_err());
    assert!(Decision::statement(vec![0; exo_types::limits::STATEMENT_BYTES_MAX + 1]).is_err());
    let largest = Decision::statement(vec![0; exo_types::limits::STATEMENT_BYTES_MAX]);
    let update = largest.expect("fits").to_update().expect("fits");
    assert!(update.bytes() <= exo_types::limits::UPDATE_BYTES_MAX);
    for admit in [0, 33] {
        assert!(rules(admit).to_wire().is_err());
    }
}
