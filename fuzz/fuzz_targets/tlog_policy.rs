//! A policy as a file: any bytes are refused or are read again as they are written; a policy asks for
//! somebody, and is met by more where it is met by fewer.
#![no_main]

use std::collections::BTreeSet;
use std::sync::OnceLock;

use exo_crypto::CosignerKeypair;
use exo_fuzz::log::{origin, peer};
use exo_log::{Cosigner, Policy};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check(data);
    // The same with keys, which mutations find nothing like: some control characters stand for them.
    let mut text = Vec::new();
    for byte in data {
        match byte {
            1..=6 => text.extend_from_slice(keys()[usize::from(byte - 1)].as_bytes()),
            7 => text.extend_from_slice(b"\nwitness "),
            8 => text.extend_from_slice(b"\ngroup "),
            11 => text.extend_from_slice(b"\nquorum "),
            byte => text.push(*byte),
        }
    }
    check(&text);
});

fn check(bytes: &[u8]) {
    let policy = match Policy::parse(bytes) {
        Ok(policy) => policy,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let written = policy.to_bytes();
    assert_eq!(Policy::parse(&written).as_ref(), Ok(&policy));
    let count = policy.witnesses().len();
    let needed = policy.signatures_needed();
    assert!((1..=count).contains(&needed));
    let all: BTreeSet<usize> = (0..count).collect();
    assert!(policy.is_met_by(&all));
    let mut met = false;
    for fewer in 0..=count {
        let some = (0..fewer).collect();
        let now_met = policy.is_met_by(&some);
        assert!(now_met || !met, "more signatures, and no longer met");
        assert!(!now_met || fewer >= needed);
        met = now_met;
    }
    if let Some(of) = policy.origin() {
        let names = policy.witnesses().iter().map(|witness| witness.cosigner().name().as_str());
        assert!(names.into_iter().all(|name| name.starts_with(of.as_str())));
    }
}

fn keys() -> &'static Vec<String> {
    static KEYS: OnceLock<Vec<String>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let key = |at| {
            let keypair = CosignerKeypair::from_seed(&[at; 32]).expect("expands");
            let name = origin().member(&peer(at)).expect("a name");
            Cosigner::new(name, keypair.public().clone()).verifier_key().to_string()
        };
        (0..6).map(key).collect()
    })
}
