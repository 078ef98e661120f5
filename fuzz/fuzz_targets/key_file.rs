//! A key file's frame, as it is and with a right check value.
#![no_main]

use exo_crypto::keyfile::{KeyFileKind, decode};
use exo_crypto::{Label, hash};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let kinds = [KeyFileKind::Identity, KeyFileKind::KemKeyring];
    let mut fixed = data.to_vec();
    if let Some((header, payload)) = data.split_at_checked(HEADER_BYTES) {
        fixed.extend_from_slice(&hash(Label::KEY_FILE, &[header, payload]));
    }
    let mut accepted = 0;
    for kind in kinds {
        if let Ok(payload) = decode(data, kind) {
            assert_eq!(payload.len() + HEADER_BYTES + 32, data.len());
        }
        if let Ok(payload) = decode(&fixed, kind) {
            accepted += 1;
            assert_eq!(payload, &data[HEADER_BYTES..]);
            let mut damaged = fixed.clone();
            let at = payload.first().map_or(0, |first| usize::from(*first)) % damaged.len();
            damaged[at] ^= 1;
            assert!(decode(&damaged, kind).is_err(), "byte {at} is not covered");
        }
    }
    assert!(accepted <= 1, "a file is of one kind");
});

/// Bytes of a key file before its payload.
const HEADER_BYTES: usize = 16;
