//! Encodings are frozen: a change to one is a decision, not an accident.
//!
//! `EXO_FREEZE=1 cargo test -p exo-consensus frozen` writes the vectors anew.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use exo_consensus::{Message, Record, batch_digest, bundle_root};
use exo_types::Wire;
use proptest::prelude::*;

use crate::samples::{leaves, messages, records};

fn all() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = Vec::new();
    for (name, message) in messages() {
        all.push((name, message.to_wire().expect("encodes")));
    }
    for (name, record) in records() {
        all.push((name, record.to_wire().expect("encodes")));
    }
    all.extend(leaves());
    let Some((_, Message::Request(bundle))) = messages().into_iter().next() else {
        panic!("the first sample is a request");
    };
    all.push(("bundle root", bundle_root(&bundle.updates).0.to_vec()));
    all.push(("null batch", batch_digest(&[]).0.to_vec()));
    all
}

/// Signatures are long and mostly zeros here: runs of zeros are written as their number.
fn text(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let zeros = bytes[at..].iter().take_while(|b| **b == 0).count();
        if zeros >= 16 {
            let _ = write!(out, "({zeros})");
            at += zeros;
        } else {
            out.push_str(&HEXLOWER.encode(&bytes[at..=at]));
            at += 1;
        }
    }
    out
}

#[test]
fn encodings_are_those_of_the_vectors() {
    let mut found = String::new();
    for (name, bytes) in all() {
        let _ = writeln!(found, "{name} = {}", text(&bytes));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/encodings.txt");
    if std::env::var_os("EXO_FREEZE").is_some() {
        std::fs::write(path, &found).expect("written");
    }
    let frozen = std::fs::read_to_string(path).expect("the vectors are there");
    for (found, frozen) in found.lines().zip(frozen.lines()) {
        assert_eq!(found, frozen);
    }
    assert_eq!(found.lines().count(), frozen.lines().count());
}

#[test]
fn every_message_and_record_comes_back_whole() {
    for (name, message) in messages() {
        let wire = message.to_wire().expect("encodes");
        assert_eq!(Message::from_wire(&wire), Ok(message), "{name}");
        assert!(Message::from_wire(&[wire.as_slice(), &[0]].concat()).is_err(), "{name}");
        for cut in (0..wire.len()).step_by(wire.len().div_ceil(50)) {
            assert!(Message::from_wire(&wire[..cut]).is_err(), "{name} cut at {cut}");
        }
    }
    for (name, record) in records() {
        let wire = record.to_wire().expect("encodes");
        assert_eq!(Record::from_wire(&wire), Ok(record), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_decode_to_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(message) = Message::from_wire(&bytes) {
            prop_assert!(message.to_wire().is_ok());
        }
        let _ = Record::from_wire(&bytes);
    }

    #[test]
    fn a_changed_message_decodes_to_another_or_an_error(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let samples = messages();
        let (_, message) = &samples[which.index(samples.len())];
        let mut wire = message.to_wire().expect("encodes");
        let at = at.index(wire.len());
        wire[at] ^= 1 << bit;
        if let Ok(other) = Message::from_wire(&wire) {
            prop_assert_ne!(&other, message);
        }
    }
}
