//! Sealing: one message for the holder of a KEM key, unreadable and unalterable on the way.
//!
//! X-Wing makes a secret, HKDF-SHA-256 makes a key of it, ChaCha20-Poly1305 (RFC 8439) seals the
//! message. Each key seals one message, so the nonce is always zero. Sealing says nothing about who
//! sealed: sign inside when that matters.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use exo_types::codec::{CodecError, Wire, bound, invalid};
use exo_types::limits::SEALED_BYTES_MAX;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::kdf::kdf;
use crate::kem::{KEM_CIPHERTEXT_BYTES, KemCiphertext, KemError, KemKeypair, KemPublicKey};
use crate::label::Label;
use crate::secret::SharedSecret;

/// A sealed message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    kem: KemCiphertext,
    #[serde(with = "crate::body")]
    body: Vec<u8>,
}

impl Sealed {
    /// Length of the sealed message in all, bytes: the plaintext and [`SEAL_OVERHEAD_BYTES`].
    pub fn len_bytes(&self) -> usize {
        KEM_CIPHERTEXT_BYTES + self.body.len()
    }
}

impl Wire for Sealed {
    const BYTES_MAX: usize = KEM_CIPHERTEXT_BYTES + SEALED_BYTES_MAX + 5;

    fn check(&self) -> Result<(), CodecError> {
        if self.body.len() < SEAL_TAG_BYTES {
            return Err(invalid("a sealed message is shorter than its tag"));
        }
        bound(self.body.len(), SEALED_BYTES_MAX)
    }
}

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key to seal for is of no use, or there is no randomness.
    #[error("the message was not sealed: {0}")]
    Kem(KemError),
    /// The plaintext is longer than the bound.
    #[error("the message was not sealed: {actual} bytes where at most {max} are allowed")]
    TooLong {
        /// The bound, bytes.
        max: usize,
        /// The length found, bytes.
        actual: usize,
    },
}

/// The message was not sealed for this key, label and additional data, or was altered.
///
/// One error for every cause, so that it tells an attacker nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed message does not open")]
pub struct OpenError;

/// Seals a message for the holder of a key. `aad` is authenticated, not sent.
///
/// # Errors
/// [`SealError`].
pub fn seal(
    key: &KemPublicKey,
    label: Label,
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Sealed, SealError> {
    seal_request(key, label, aad, plaintext).map(|(sealed, _)| sealed)
}

/// Opens what [`seal`] sealed.
///
/// # Errors
/// [`OpenError`].
pub fn open(
    pair: &KemKeypair,
    label: Label,
    aad: &[u8],
    sealed: &Sealed,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    open_request(pair, label, aad, sealed).map(|(plaintext, _)| plaintext)
}

/// Seals a message and keeps the key for its answer: [`open_once`] opens what the receiver seals with
/// [`seal_once`] under the key that [`open_request`] gives it.
///
/// # Errors
/// [`SealError`].
pub fn seal_request(
    key: &KemPublicKey,
    label: Label,
    aad: &[u8],
    plaintext: &[u8],
) -> Result<(Sealed, SharedSecret), SealError> {
    let (kem, secret) = key.encapsulate().map_err(SealError::Kem)?;
    let body = seal_once(kdf(&secret, label, REQUEST), aad, plaintext)?;
    Ok((Sealed { kem, body }, kdf(&secret, label, REPLY)))
}

/// Opens what [`seal_request`] sealed and gives the key for the one answer to it.
///
/// # Errors
/// [`OpenError`].
pub fn open_request(
    pair: &KemKeypair,
    label: Label,
    aad: &[u8],
    sealed: &Sealed,
) -> Result<(Zeroizing<Vec<u8>>, SharedSecret), OpenError> {
    let secret = pair.decapsulate(&sealed.kem).map_err(|_| OpenError)?;
    let plaintext = open_once(kdf(&secret, label, REQUEST), aad, &sealed.body)?;
    Ok((plaintext, kdf(&secret, label, REPLY)))
}

/// Seals the one message of a key; the key is consumed, because a second message under it would
/// reveal both. `aad` is authenticated, not sent.
///
/// # Errors
/// [`SealError::TooLong`].
#[expect(clippy::needless_pass_by_value, reason = "a key seals once")]
pub fn seal_once(key: SharedSecret, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
    let actual = plaintext.len();
    let max = SEALED_BYTES_MAX - SEAL_TAG_BYTES;
    let too_long = SealError::TooLong { max, actual };
    if actual > max {
        return Err(too_long);
    }
    let mut body = Vec::with_capacity(actual + SEAL_TAG_BYTES);
    body.extend_from_slice(plaintext);
    // The library refuses lengths alone, and those are far above the bound just checked.
    let tag = aead(&key)
        .and_then(|aead| aead.seal_in_place_separate_tag(zero_nonce(), Aad::from(aad), &mut body))
        .map_err(|_| too_long)?;
    body.extend_from_slice(tag.as_ref());
    Ok(body)
}

/// Opens what [`seal_once`] sealed under the same key.
///
/// # Errors
/// [`OpenError`].
#[expect(clippy::needless_pass_by_value, reason = "a key opens once")]
pub fn open_once(
    key: SharedSecret,
    aad: &[u8],
    body: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    if body.len() > SEALED_BYTES_MAX {
        return Err(OpenError);
    }
    let mut plaintext = Zeroizing::new(body.to_vec());
    let len = aead(&key)
        .and_then(|aead| {
            aead.open_in_place(zero_nonce(), Aad::from(aad), &mut plaintext).map(|open| open.len())
        })
        .map_err(|_| OpenError)?;
    plaintext.truncate(len);
    Ok(plaintext)
}

fn aead(key: &SharedSecret) -> Result<LessSafeKey, aws_lc_rs::error::Unspecified> {
    UnboundKey::new(&CHACHA20_POLY1305, key.expose()).map(LessSafeKey::new)
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// What sealing adds to a message, bytes.
pub const SEAL_OVERHEAD_BYTES: usize = KEM_CIPHERTEXT_BYTES + SEAL_TAG_BYTES;

const SEAL_TAG_BYTES: usize = 16;
const REQUEST: &[u8] = b"request";
const REPLY: &[u8] = b"reply";

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    static PAIR: LazyLock<KemKeypair> =
        LazyLock::new(|| KemKeypair::generate().expect("a key pair"));

    fn sealed(plaintext: &[u8]) -> Sealed {
        seal(PAIR.public(), Label::SEAL, b"aad", plaintext).expect("seals")
    }

    fn opened(sealed: &Sealed, label: Label, aad: &[u8]) -> Result<Vec<u8>, OpenError> {
        open(&PAIR, label, aad, sealed).map(|plaintext| plaintext.to_vec())
    }

    #[test]
    fn only_the_right_key_label_and_additional_data_open() {
        let sealed = sealed(b"secret");
        assert_eq!(opened(&sealed, Label::SEAL, b"aad").as_deref(), Ok(b"secret".as_slice()));
        assert_eq!(opened(&sealed, Label::RELAY_QUERY, b"aad"), Err(OpenError));
        assert_eq!(opened(&sealed, Label::SEAL, b"aae"), Err(OpenError));
        assert_eq!(opened(&sealed, Label::SEAL, b""), Err(OpenError));
        let other = KemKeypair::generate().expect("a key pair");
        assert_eq!(open(&other, Label::SEAL, b"aad", &sealed).err(), Some(OpenError));
    }

    #[test]
    fn an_answer_opens_for_the_asker_and_is_not_the_request() {
        let (sealed, ask) =
            seal_request(PAIR.public(), Label::RELAY_QUERY, b"", b"question").expect("seals");
        let (question, answer) =
            open_request(&PAIR, Label::RELAY_QUERY, b"", &sealed).expect("opens");
        assert_eq!(question.as_slice(), b"question");
        assert_eq!(ask, answer);
        let body = seal_once(answer, b"aad", b"answer").expect("seals");
        let copy = SharedSecret::from_slice(ask.expose()).expect("the length is right");
        assert_eq!(open_once(copy, b"aad", &sealed.body).err(), Some(OpenError));
        assert_eq!(open_once(ask, b"aad", &body).expect("opens").as_slice(), b"answer");
    }

    #[test]
    fn messages_from_empty_to_the_bound_pass_and_a_byte_more_is_refused() {
        let max = SEALED_BYTES_MAX - SEAL_TAG_BYTES;
        for len in [0, max] {
            let wire = sealed(&vec![7; len]).to_wire().expect("encodes");
            assert!(wire.len() <= Sealed::BYTES_MAX);
            let sealed = Sealed::from_wire(&wire).expect("decodes");
            assert_eq!(opened(&sealed, Label::SEAL, b"aad").map(|open| open.len()), Ok(len));
        }
        let error = seal(PAIR.public(), Label::SEAL, b"", &vec![7; max + 1]).err();
        assert_eq!(error, Some(SealError::TooLong { max, actual: max + 1 }));
        let key = SharedSecret::from_slice(&[1; 32]).expect("the length is right");
        let long = vec![7; SEALED_BYTES_MAX + 1];
        assert_eq!(open_once(key, b"", &long).err(), Some(OpenError));
    }

    #[test]
    fn every_altered_byte_is_refused() {
        let good = sealed(b"a short message");
        let wire = good.to_wire().expect("encodes");
        assert_eq!(wire.len(), good.len_bytes() + 1);
        for at in 0..wire.len() {
            let mut bad = wire.clone();
            bad[at] ^= 0x20;
            let result = Sealed::from_wire(&bad).map(|bad| opened(&bad, Label::SEAL, b"aad"));
            assert!(matches!(result, Err(_) | Ok(Err(OpenError))), "byte {at}: {result:?}");
        }
    }

    #[test]
    fn a_body_shorter_than_its_tag_does_not_decode() {
        let mut short = sealed(b"");
        short.body.truncate(15);
        assert!(short.to_wire().is_err());
        assert_eq!(opened(&short, Label::SEAL, b"aad"), Err(OpenError));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_sealed_opens_to_the_same_bytes(
            plaintext in proptest::collection::vec(any::<u8>(), 0..2000),
            aad in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let sealed = seal(PAIR.public(), Label::SEAL, &aad, &plaintext).expect("seals");
            prop_assert_eq!(sealed.len_bytes(), plaintext.len() + SEAL_OVERHEAD_BYTES);
            let wire = sealed.to_wire().expect("encodes");
            let sealed = Sealed::from_wire(&wire).expect("decodes");
            prop_assert_eq!(opened(&sealed, Label::SEAL, &aad), Ok(plaintext));
        }
    }
}
