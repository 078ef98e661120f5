//! The sealing keys of a key file: their epochs and windows around fixed secrets, and any bytes.
#![no_main]

use exo_crypto::KemKeyring;
use exo_fuzz::keyring_bytes;
use exo_types::Timestamp;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check(data);
    // A secret holds a hash of itself that no mutation finds: give the mutations the numbers alone.
    let mut ring = keyring_bytes().to_vec();
    let entry = ring.len() / 2;
    if data.len() > 2 * NUMBERS_BYTES {
        ring.extend_from_within(..entry);
    }
    for (entry, numbers) in ring.chunks_mut(entry).zip(data.chunks(NUMBERS_BYTES)) {
        entry[..numbers.len()].copy_from_slice(numbers);
    }
    check(&ring);
});

fn check(bytes: &[u8]) {
    let Ok(mut ring) = KemKeyring::from_secret_bytes(bytes) else { return };
    assert_eq!(ring.to_secret_bytes().as_slice(), bytes, "a ring has one encoding");
    let entry = exo_fuzz::keyring_bytes().len() / 2;
    let far = bytes.chunks(entry).any(|entry| {
        let (numbers, _) = entry[..NUMBERS_BYTES].as_chunks::<8>();
        numbers.iter().any(|number| u64::from_be_bytes(*number) > u64::MAX / 2)
    });
    let change = ring.next_change();
    for now in [Timestamp(change.0.saturating_sub(1)), change, Timestamp(u64::MAX)] {
        ring.rotate(now).expect("rotates");
        let stored = ring.to_secret_bytes();
        // At the end of time no window is left to begin in; no clock gets there.
        if !far && now < Timestamp(u64::MAX / 2) {
            KemKeyring::from_secret_bytes(&stored).expect("what was stored is read");
        }
    }
}

/// Bytes of a key's epoch, beginning and end.
const NUMBERS_BYTES: usize = 24;
