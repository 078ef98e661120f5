//! Public keys as TLS and signed statements carry them.
#![no_main]

use exo_crypto::{BadSignature, IdentityKey, KemCiphertext, KemPublicKey, Label, Signature};
use exo_fuzz::{kem_pair, keypair};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(key) = IdentityKey::from_spki_der(data) {
        assert_eq!(key.spki_der(), data, "a key has one encoding");
    }
    let mut prefixed = keypair().public().spki_der();
    prefixed.truncate(22);
    prefixed.extend_from_slice(data);
    if let Ok(key) = IdentityKey::from_spki_der(&prefixed) {
        assert_eq!(key.as_bytes(), data);
    }
    if let Some((key, rest)) = data.split_at_checked(exo_crypto::IDENTITY_KEY_BYTES)
        && let Ok(key) = IdentityKey::from_bytes(key)
        && let Some((signature, message)) = rest.split_at_checked(exo_crypto::SIGNATURE_BYTES)
        && let Some(signature) = Signature::from_bytes(signature)
    {
        let _ = key.verify(Label::ROSTER, message, &signature);
    }
    if let Some((signature, message)) = data.split_at_checked(exo_crypto::SIGNATURE_BYTES)
        && let Some(signature) = Signature::from_bytes(signature)
    {
        let key = keypair().public();
        assert_eq!(key.verify(Label::ROSTER, message, &signature), Err(BadSignature));
    }
    if let Some(key) = KemPublicKey::from_bytes(data) {
        assert_eq!(key.as_bytes(), data);
        let _ = key.encapsulate();
    }
    if let Some(ciphertext) = KemCiphertext::from_bytes(data) {
        let _ = kem_pair().decapsulate(&ciphertext);
    }
});
