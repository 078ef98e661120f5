//! A sealing key as a member announces it.
#![no_main]

use exo_crypto::KemEpochKey;
use exo_types::Wire;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    exo_fuzz::signed::<KemEpochKey>(data);
    if let Ok(key) = KemEpochKey::from_wire(data) {
        assert!(!key.usable_at(key.not_after));
        // Any bytes may be announced; sealing for them gives an error or a message.
        let _ = key.key.encapsulate();
    }
});
