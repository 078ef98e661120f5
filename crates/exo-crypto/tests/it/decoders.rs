//! Every decoder of the crate on arbitrary bytes and on altered good ones: an error or a value, never
//! a panic, and what decodes encodes to bytes that decode to the same.

use exo_crypto::{
    ApiToken, IdentityKey, KemCiphertext, KemEpochKey, KemKeypair, KemKeyring, KemPublicKey,
    KeyFileKind, Label, PostQuantumKeypair, Sealed, Signature, Signed, Words, keyfile, open, seal,
};
use exo_types::codec::Wire;
use exo_types::{PeerId, Timestamp};
use proptest::prelude::*;
use proptest::sample::Index;

/// Gives the bytes to every decoder.
fn decode_all(bytes: &[u8]) {
    if let Ok(key) = IdentityKey::from_spki_der(bytes) {
        assert_eq!(key.spki_der(), bytes);
    }
    let _ = IdentityKey::from_bytes(bytes);
    let _ = Signature::from_bytes(bytes);
    if let Some(key) = KemPublicKey::from_bytes(bytes) {
        let _ = key.encapsulate();
    }
    let _ = KemCiphertext::from_bytes(bytes);
    if let Ok(sealed) = Sealed::from_wire(bytes) {
        let again = sealed.to_wire().expect("what decodes encodes");
        assert_eq!(Sealed::from_wire(&again), Ok(sealed));
    }
    if let Ok(signed) = Signed::<KemEpochKey>::from_wire(bytes) {
        let _ = signed.claimed();
        let again = signed.to_wire().expect("what decodes encodes");
        assert_eq!(Signed::from_wire(&again), Ok(signed));
    }
    if let Ok(key) = KemEpochKey::from_wire(bytes) {
        let again = key.to_wire().expect("what decodes encodes");
        assert_eq!(KemEpochKey::from_wire(&again), Ok(key));
    }
    if let Ok(ring) = KemKeyring::from_secret_bytes(bytes) {
        assert_eq!(ring.to_secret_bytes().as_slice(), bytes);
    }
    for kind in [KeyFileKind::Identity, KeyFileKind::KemKeyring] {
        let _ = keyfile::decode(bytes, kind);
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(words) = text.parse::<Words>() {
        assert_eq!(words.to_string().parse(), Ok(words));
    }
    let _ = ApiToken::parse(&text);
}

/// One good encoding for each decoder.
fn good() -> Vec<Vec<u8>> {
    let identity = PostQuantumKeypair::from_seed(&[1; 32]).expect("a seed expands");
    let ring = KemKeyring::generate(Timestamp(1_800_000_000_000)).expect("a ring");
    let [announced, _] = ring.announce(&identity).expect("signs");
    let sealed = seal(&announced.key, Label::SEAL, b"", b"message").expect("seals");
    vec![
        identity.public().spki_der(),
        announced.key.as_bytes().to_vec(),
        announced.to_wire().expect("encodes"),
        announced.signed().to_wire().expect("encodes"),
        sealed.to_wire().expect("encodes"),
        ring.to_secret_bytes().to_vec(),
        b"zoo able about abandon".to_vec(),
        ApiToken::generate().expect("randomness").expose_text().as_bytes().to_vec(),
    ]
}

#[test]
fn every_good_encoding_decodes_and_every_prefix_of_it_is_harmless() {
    for bytes in good() {
        decode_all(&bytes);
        for len in (0..bytes.len()).step_by(7) {
            decode_all(&bytes[..len]);
        }
    }
}

#[test]
fn a_sealed_message_for_nobody_in_particular_does_not_open() {
    let pair = KemKeypair::generate().expect("a key pair");
    let mut wire = vec![0x42; 1120];
    wire.extend_from_slice(&[32]);
    wire.extend_from_slice(&[0; 32]);
    let sealed = Sealed::from_wire(&wire).expect("the form is right");
    assert!(open(&pair, Label::SEAL, b"", &sealed).is_err());
}

#[test]
fn an_announced_length_reserves_nothing() {
    // A body of 2^64 - 1 bytes, of which three are there.
    let lie = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 1, 2, 3];
    assert!(Signed::<KemEpochKey>::from_wire(&lie).is_err());
    let sealed = [vec![0; 1120], lie.to_vec()].concat();
    assert!(Sealed::from_wire(&sealed).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        decode_all(&bytes);
    }

    #[test]
    fn arbitrary_bytes_of_a_fitting_length_are_harmless(
        byte in any::<u8>(),
        len in prop::sample::select(vec![1120usize, 1137, 1216, 1952, 1974, 3309, 4912, 7368]),
    ) {
        decode_all(&vec![byte; len]);
    }

    #[test]
    fn altered_good_encodings_are_harmless(
        which in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let good = good();
        let mut bytes = which.get(&good).clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        decode_all(&bytes);
    }

    #[test]
    fn an_epoch_key_takes_every_time_without_overflow(
        not_before in any::<u64>(),
        not_after in any::<u64>(),
        now in any::<u64>(),
    ) {
        let pair = KemKeyring::generate(Timestamp(now)).expect("a ring");
        let identity = PostQuantumKeypair::from_seed(&[1; 32]).expect("a seed expands");
        let mut ring = pair;
        let _ = ring.rotate(Timestamp(not_before));
        let _ = ring.next_change();
        let _ = ring.announce(&identity);
        let key = KemEpochKey {
            peer: PeerId::new([0; 32]),
            epoch: exo_crypto::KemEpoch(u64::MAX),
            not_before: Timestamp(not_before),
            not_after: Timestamp(not_after),
            key: KemPublicKey::from_bytes(&[0; 1216]).expect("the length is right"),
        };
        let _ = key.usable_at(Timestamp(now));
        let _ = key.to_wire();
    }
}
