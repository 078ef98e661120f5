//! The identity of a member: an ML-DSA-65 key pair (FIPS 204), its public key, and signatures.
//!
//! Signatures carry a [`Label`]: what is signed is the label behind its length byte and then the
//! message, because the library's ML-DSA takes no context string. Signing is hedged (FIPS 204
//! section 3.4), so two signatures on one message differ.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand;
use aws_lc_rs::signature::{
    KeyPair, ML_DSA_65, ML_DSA_65_SIGNING, PqdsaKeyPair, UnparsedPublicKey,
};
use exo_types::PeerId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::fixed;
use crate::hash::hash;
use crate::kdf::kdf;
use crate::label::Label;
use crate::secret::SharedSecret;

/// A member's secret: it signs as the member. Not `Clone`; share it behind an [`Arc`].
pub struct PostQuantumKeypair {
    seed: Zeroizing<[u8; IDENTITY_SEED_BYTES]>,
    signer: PqdsaKeyPair,
    public: IdentityKey,
    peer_id: PeerId,
}

/// Why there is no identity key pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The operating system gave no random bytes.
    #[error("the operating system gave no randomness for an identity key")]
    Randomness,
    /// The library did not expand the seed.
    #[error("the identity key's seed was not accepted by the library")]
    Seed,
}

/// The library did not sign; it ran out of memory or failed its own checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message was not signed: the library reported an internal failure")]
pub struct SignError;

/// The signature is not this key's under this label on this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not hold")]
pub struct BadSignature;

/// Why bytes are not an identity key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityKeyError {
    /// The length is not that of an ML-DSA-65 public key.
    #[error("an identity key has {IDENTITY_KEY_BYTES} bytes, not {0}")]
    Length(usize),
    /// Not the SubjectPublicKeyInfo of an ML-DSA-65 key in DER (RFC 9881).
    #[error("the key is not an ML-DSA-65 SubjectPublicKeyInfo")]
    NotMlDsa65,
}

impl PostQuantumKeypair {
    /// Makes a new identity from the operating system's randomness.
    ///
    /// # Errors
    /// [`IdentityError`] when there is no randomness or the library fails.
    pub fn generate() -> Result<Self, IdentityError> {
        let mut seed = Zeroizing::new([0; IDENTITY_SEED_BYTES]);
        rand::fill(seed.as_mut_slice()).map_err(|_| IdentityError::Randomness)?;
        Self::from_seed(&seed)
    }

    /// Expands a seed, FIPS 204 algorithm 6; the same seed gives the same identity.
    ///
    /// # Errors
    /// [`IdentityError::Seed`] when the library fails.
    pub fn from_seed(seed: &[u8; IDENTITY_SEED_BYTES]) -> Result<Self, IdentityError> {
        let signer =
            PqdsaKeyPair::from_seed(&ML_DSA_65_SIGNING, seed).map_err(|_| IdentityError::Seed)?;
        let public = IdentityKey::from_bytes(signer.public_key().as_ref())
            .map_err(|_| IdentityError::Seed)?;
        let peer_id = public.peer_id();
        Ok(Self { seed: Zeroizing::new(*seed), signer, public, peer_id })
    }

    /// The public half.
    pub fn public(&self) -> &IdentityKey {
        &self.public
    }

    /// The name that the public half proves.
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Signs the message for one purpose.
    ///
    /// # Errors
    /// [`SignError`] when the library fails; no message causes it.
    pub fn sign(&self, label: Label, message: &[u8]) -> Result<Signature, SignError> {
        let mut bytes = Box::new([0; SIGNATURE_BYTES]);
        self.signer
            .sign(&signed_message(label, message), bytes.as_mut_slice())
            .map_err(|_| SignError)?;
        Ok(Signature(bytes))
    }

    /// The seed, for the key file alone. It is the whole secret: never log, print or send it.
    pub fn expose_seed(&self) -> &[u8; IDENTITY_SEED_BYTES] {
        &self.seed
    }

    /// A secret of this member for its own use, such as the key of its stateless resets. It is the same
    /// after every restart and says nothing about the identity.
    pub fn derive(&self, label: Label) -> SharedSecret {
        let mut seed = Zeroizing::new(*self.seed);
        kdf(&SharedSecret::take(&mut seed), label, &[])
    }

    /// The private key as PKCS#8 DER in the seed form of RFC 9881, 54 bytes, for TLS.
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        // Written here rather than by the library so that no copy is left unerased.
        let mut der = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + IDENTITY_SEED_BYTES));
        der.extend_from_slice(&PKCS8_PREFIX);
        der.extend_from_slice(self.seed.as_slice());
        der
    }
}

impl fmt::Debug for PostQuantumKeypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostQuantumKeypair").field("peer_id", &self.peer_id).finish_non_exhaustive()
    }
}

/// A member's public key: ML-DSA-65, 1952 bytes. Cheap to clone.
///
/// Every string of that length is an encoding of some key (FIPS 204 algorithm 23), so there is
/// nothing more to validate than the length.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdentityKey(Arc<[u8; IDENTITY_KEY_BYTES]>);

impl IdentityKey {
    /// Wraps the raw bytes of a key.
    ///
    /// # Errors
    /// [`IdentityKeyError::Length`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IdentityKeyError> {
        let key = bytes.try_into().map_err(|_| IdentityKeyError::Length(bytes.len()))?;
        Ok(Self(Arc::new(key)))
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; IDENTITY_KEY_BYTES] {
        &self.0
    }

    /// The name that this key proves: the labelled SHA-256 of its bytes.
    pub fn peer_id(&self) -> PeerId {
        PeerId::new(hash(Label::PEER_ID, &[self.0.as_slice()]))
    }

    /// Checks a signature by this key, for one purpose, on the message.
    ///
    /// # Errors
    /// [`BadSignature`], whatever the reason.
    pub fn verify(
        &self,
        label: Label,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        UnparsedPublicKey::new(&ML_DSA_65, self.0.as_slice())
            .verify(&signed_message(label, message), signature.0.as_slice())
            .map_err(|_| BadSignature)
    }

    /// The key as SubjectPublicKeyInfo in DER (RFC 9881), 1974 bytes: the raw public key of TLS.
    pub fn spki_der(&self) -> Vec<u8> {
        [SPKI_PREFIX.as_slice(), self.0.as_slice()].concat()
    }

    /// Reads a SubjectPublicKeyInfo. Only the one DER encoding of an ML-DSA-65 key is accepted.
    ///
    /// # Errors
    /// [`IdentityKeyError`].
    pub fn from_spki_der(der: &[u8]) -> Result<Self, IdentityKeyError> {
        let key = der.strip_prefix(&SPKI_PREFIX).ok_or(IdentityKeyError::NotMlDsa65)?;
        Self::from_bytes(key)
    }
}

impl From<Box<[u8; IDENTITY_KEY_BYTES]>> for IdentityKey {
    fn from(bytes: Box<[u8; IDENTITY_KEY_BYTES]>) -> Self {
        Self(Arc::from(bytes))
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey({})", self.peer_id().short())
    }
}

impl Serialize for IdentityKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fixed::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for IdentityKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fixed::deserialize(deserializer)
    }
}

/// An ML-DSA-65 signature, 3309 bytes. Nothing is known about it until a key verifies it.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature(Box<[u8; SIGNATURE_BYTES]>);

impl Signature {
    /// Wraps the raw bytes; `None` for another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Box::new(bytes)))
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.0
    }
}

impl From<Box<[u8; SIGNATURE_BYTES]>> for Signature {
    fn from(bytes: Box<[u8; SIGNATURE_BYTES]>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = *self.0;
        write!(f, "Signature({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fixed::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fixed::deserialize(deserializer)
    }
}

/// What ML-DSA signs: the label behind its length byte, then the message to the end.
fn signed_message(label: Label, message: &[u8]) -> Vec<u8> {
    let mut bytes = label.prefix();
    bytes.extend_from_slice(message);
    bytes
}

/// Length of an identity's seed, bytes (FIPS 204 algorithm 1).
pub const IDENTITY_SEED_BYTES: usize = 32;
/// Length of an identity's public key, bytes (FIPS 204 table 2).
pub const IDENTITY_KEY_BYTES: usize = 1952;
/// Length of a signature, bytes (FIPS 204 table 2).
pub const SIGNATURE_BYTES: usize = 3309;

/// DER up to the key: SEQUENCE { SEQUENCE { OID 2.16.840.1.101.3.4.3.18 }, BIT STRING of no unused
/// bits }; the algorithm has no parameters (RFC 9881 section 4).
const SPKI_PREFIX: [u8; 22] = [
    0x30, 0x82, 0x07, 0xb2, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03,
    0x12, 0x03, 0x82, 0x07, 0xa1, 0x00,
];
/// DER up to the seed: SEQUENCE { INTEGER 0, SEQUENCE { the same OID }, OCTET STRING { [0] seed } }.
const PKCS8_PREFIX: [u8; 22] = [
    0x30, 0x34, 0x02, 0x01, 0x00, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04,
    0x03, 0x12, 0x04, 0x22, 0x80, 0x20,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keypair() -> PostQuantumKeypair {
        PostQuantumKeypair::from_seed(&[7; 32]).expect("a seed expands")
    }

    #[test]
    fn a_seed_always_gives_the_same_identity_and_generation_never_does() {
        assert_eq!(keypair().public(), keypair().public());
        let fresh = [(); 2].map(|()| PostQuantumKeypair::generate().expect("randomness"));
        assert_ne!(fresh[0].peer_id(), fresh[1].peer_id());
        let again = PostQuantumKeypair::from_seed(fresh[0].expose_seed()).expect("expands");
        assert_eq!(again.peer_id(), fresh[0].peer_id());
    }

    #[test]
    fn a_signature_holds_for_its_key_label_and_message_alone() {
        let keypair = keypair();
        let signature = keypair.sign(Label::TOKEN, b"message").expect("signs");
        let key = keypair.public();
        assert_eq!(key.verify(Label::TOKEN, b"message", &signature), Ok(()));
        assert_eq!(key.verify(Label::ROSTER, b"message", &signature), Err(BadSignature));
        assert_eq!(key.verify(Label::TOKEN, b"messagf", &signature), Err(BadSignature));
        assert_eq!(key.verify(Label::TOKEN, b"", &signature), Err(BadSignature));
        let other = PostQuantumKeypair::from_seed(&[8; 32]).expect("expands");
        assert_eq!(other.public().verify(Label::TOKEN, b"message", &signature), Err(BadSignature));
    }

    #[test]
    fn both_der_forms_are_what_the_library_writes_and_reads() {
        use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
        let keypair = keypair();
        let library: PublicKeyX509Der<'_> =
            keypair.signer.public_key().as_der().expect("the library encodes");
        assert_eq!(keypair.public().spki_der(), library.as_ref());
        let pkcs8 = keypair.signer.to_pkcs8v1().expect("the library encodes");
        assert_eq!(keypair.to_pkcs8().as_slice(), pkcs8.as_ref());
        let read = PqdsaKeyPair::from_pkcs8(&ML_DSA_65_SIGNING, &keypair.to_pkcs8());
        assert_eq!(
            read.expect("the library reads").public_key().as_ref(),
            keypair.public().as_bytes()
        );
    }

    #[test]
    fn only_the_exact_subject_public_key_info_is_read() {
        let key = keypair().public().clone();
        let der = key.spki_der();
        assert_eq!(IdentityKey::from_spki_der(&der), Ok(key));
        for at in 0..SPKI_PREFIX.len() {
            let mut bad = der.clone();
            bad[at] ^= 1;
            assert_eq!(IdentityKey::from_spki_der(&bad), Err(IdentityKeyError::NotMlDsa65), "{at}");
        }
        let long = [der.as_slice(), &[0]].concat();
        assert_eq!(IdentityKey::from_spki_der(&long), Err(IdentityKeyError::Length(1953)));
        assert_eq!(
            IdentityKey::from_spki_der(&der[..der.len() - 1]),
            Err(IdentityKeyError::Length(1951))
        );
        assert!(IdentityKey::from_spki_der(&[]).is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        let keypair = PostQuantumKeypair::from_seed(&[0xab; 32]).expect("expands");
        let text = format!("{keypair:?}");
        assert!(text.contains(&keypair.peer_id().short()), "{text}");
        assert!(!text.to_lowercase().contains("abab") && !text.contains("171"), "{text}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_flipped_bit_of_a_signature_is_refused(
            message in proptest::collection::vec(any::<u8>(), 0..300),
            bit in 0..SIGNATURE_BYTES * 8,
        ) {
            let keypair = keypair();
            let mut signature = keypair.sign(Label::ANSWER, &message).expect("signs");
            prop_assert!(keypair.public().verify(Label::ANSWER, &message, &signature).is_ok());
            signature.0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(keypair.public().verify(Label::ANSWER, &message, &signature).is_err());
        }

        #[test]
        fn any_flipped_bit_of_a_key_changes_its_peer_id(bit in 0..IDENTITY_KEY_BYTES * 8) {
            let key = keypair().public().clone();
            let mut other = *key.as_bytes();
            other[bit / 8] ^= 1 << (bit % 8);
            let other = IdentityKey::from_bytes(&other).expect("the length is right");
            prop_assert_ne!(other.peer_id(), key.peer_id());
        }
    }
}
