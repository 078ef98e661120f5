//! The key with which a member cosigns a log: ML-DSA-44 (FIPS 204), as c2sp.org/tlog-cosignature has it.
//!
//! What is signed carries no [`Label`](crate::Label): the format of the signed message is not ours, and
//! begins with a domain-separation string of its own. A cosigner key therefore signs nothing but
//! cosignatures, and is not the identity's key.
//!
//! Signing is hedged (FIPS 204 section 3.4); the library offers no deterministic signing. Two
//! signatures on one message differ, and both hold.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand;
use aws_lc_rs::signature::{
    KeyPair, ML_DSA_44, ML_DSA_44_SIGNING, PqdsaKeyPair, UnparsedPublicKey,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::fixed;
use crate::identity::{BadSignature, IdentityError, SignError};

/// A cosigner's secret. Not `Clone`; share it behind an [`Arc`].
pub struct CosignerKeypair {
    seed: Zeroizing<[u8; COSIGNER_SEED_BYTES]>,
    signer: PqdsaKeyPair,
    public: CosignerKey,
}

impl CosignerKeypair {
    /// Makes a new key from the operating system's randomness.
    ///
    /// # Errors
    /// [`IdentityError`] when there is no randomness or the library fails.
    pub fn generate() -> Result<Self, IdentityError> {
        let mut seed = Zeroizing::new([0; COSIGNER_SEED_BYTES]);
        rand::fill(seed.as_mut_slice()).map_err(|_| IdentityError::Randomness)?;
        Self::from_seed(&seed)
    }

    /// Expands a seed, FIPS 204 algorithm 6; the same seed gives the same key.
    ///
    /// # Errors
    /// [`IdentityError::Seed`] when the library fails.
    pub fn from_seed(seed: &[u8; COSIGNER_SEED_BYTES]) -> Result<Self, IdentityError> {
        let signer =
            PqdsaKeyPair::from_seed(&ML_DSA_44_SIGNING, seed).map_err(|_| IdentityError::Seed)?;
        let public =
            CosignerKey::from_bytes(signer.public_key().as_ref()).ok_or(IdentityError::Seed)?;
        Ok(Self { seed: Zeroizing::new(*seed), signer, public })
    }

    /// The public half.
    pub fn public(&self) -> &CosignerKey {
        &self.public
    }

    /// Signs a cosigned message. The caller has built it as c2sp.org/tlog-cosignature says: nothing
    /// else is signed with this key.
    ///
    /// # Errors
    /// [`SignError`] when the library fails; no message causes it.
    pub fn sign(&self, message: &[u8]) -> Result<CosignerSignature, SignError> {
        let mut bytes = Box::new([0; COSIGNER_SIGNATURE_BYTES]);
        self.signer.sign(message, bytes.as_mut_slice()).map_err(|_| SignError)?;
        Ok(CosignerSignature(bytes))
    }

    /// The seed, for the key file alone. It is the whole secret: never log, print or send it.
    pub fn expose_seed(&self) -> &[u8; COSIGNER_SEED_BYTES] {
        &self.seed
    }
}

impl fmt::Debug for CosignerKeypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CosignerKeypair").field("public", &self.public).finish_non_exhaustive()
    }
}

/// A cosigner's public key: ML-DSA-44, 1312 bytes. Cheap to clone.
///
/// Every string of that length is an encoding of some key (FIPS 204 algorithm 23).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CosignerKey(Arc<[u8; COSIGNER_KEY_BYTES]>);

impl CosignerKey {
    /// Wraps the raw bytes of a key; `None` for another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Arc::new(bytes)))
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; COSIGNER_KEY_BYTES] {
        &self.0
    }

    /// Checks a signature by this key on the message.
    ///
    /// # Errors
    /// [`BadSignature`], whatever the reason.
    pub fn verify(
        &self,
        message: &[u8],
        signature: &CosignerSignature,
    ) -> Result<(), BadSignature> {
        UnparsedPublicKey::new(&ML_DSA_44, self.0.as_slice())
            .verify(message, signature.0.as_slice())
            .map_err(|_| BadSignature)
    }
}

impl From<Box<[u8; COSIGNER_KEY_BYTES]>> for CosignerKey {
    fn from(bytes: Box<[u8; COSIGNER_KEY_BYTES]>) -> Self {
        Self(Arc::from(bytes))
    }
}

impl fmt::Debug for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = *self.0;
        write!(f, "CosignerKey({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

impl Serialize for CosignerKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fixed::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for CosignerKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fixed::deserialize(deserializer)
    }
}

/// An ML-DSA-44 signature, 2420 bytes. Nothing is known about it until a key verifies it.
#[derive(Clone, PartialEq, Eq)]
pub struct CosignerSignature(Box<[u8; COSIGNER_SIGNATURE_BYTES]>);

impl CosignerSignature {
    /// Wraps the raw bytes; `None` for another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Box::new(bytes)))
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; COSIGNER_SIGNATURE_BYTES] {
        &self.0
    }
}

impl From<Box<[u8; COSIGNER_SIGNATURE_BYTES]>> for CosignerSignature {
    fn from(bytes: Box<[u8; COSIGNER_SIGNATURE_BYTES]>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for CosignerSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = *self.0;
        write!(f, "CosignerSignature({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

impl Serialize for CosignerSignature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fixed::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for CosignerSignature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fixed::deserialize(deserializer)
    }
}

/// Length of a cosigner's seed, bytes (FIPS 204 algorithm 1).
pub const COSIGNER_SEED_BYTES: usize = 32;
/// Length of a cosigner's public key, bytes (FIPS 204 table 2).
pub const COSIGNER_KEY_BYTES: usize = 1312;
/// Length of a cosigner's signature, bytes (FIPS 204 table 2).
pub const COSIGNER_SIGNATURE_BYTES: usize = 2420;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keypair() -> CosignerKeypair {
        CosignerKeypair::from_seed(&[7; 32]).expect("a seed expands")
    }

    #[test]
    fn a_seed_always_gives_the_same_key_and_generation_never_does() {
        assert_eq!(keypair().public(), keypair().public());
        let fresh = [(); 2].map(|()| CosignerKeypair::generate().expect("randomness"));
        assert_ne!(fresh[0].public(), fresh[1].public());
        let again = CosignerKeypair::from_seed(fresh[0].expose_seed()).expect("expands");
        assert_eq!(again.public(), fresh[0].public());
    }

    #[test]
    fn a_signature_holds_for_its_key_and_message_alone() {
        let signature = keypair().sign(b"message").expect("signs");
        assert_eq!(keypair().public().verify(b"message", &signature), Ok(()));
        assert_eq!(keypair().public().verify(b"massage", &signature), Err(BadSignature));
        let other = CosignerKeypair::from_seed(&[8; 32]).expect("expands");
        assert_eq!(other.public().verify(b"message", &signature), Err(BadSignature));
    }

    #[test]
    fn other_lengths_are_neither_keys_nor_signatures() {
        for len in [0, COSIGNER_KEY_BYTES - 1, COSIGNER_KEY_BYTES + 1] {
            assert!(CosignerKey::from_bytes(&vec![0; len]).is_none(), "{len}");
        }
        for len in [0, COSIGNER_SIGNATURE_BYTES - 1, COSIGNER_SIGNATURE_BYTES + 1] {
            assert!(CosignerSignature::from_bytes(&vec![0; len]).is_none(), "{len}");
        }
    }

    #[test]
    fn debug_shows_nothing_of_the_seed() {
        let keypair = CosignerKeypair::from_seed(&[0xab; 32]).expect("expands");
        let text = format!("{keypair:?}");
        assert!(text.starts_with("CosignerKeypair { public: CosignerKey("), "{text}");
        assert!(!text.to_lowercase().contains("abab") && !text.contains("171"), "{text}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_flipped_bit_of_a_signature_is_refused(
            message in proptest::collection::vec(any::<u8>(), 0..300),
            bit in 0..COSIGNER_SIGNATURE_BYTES * 8,
        ) {
            let keypair = keypair();
            let mut signature = keypair.sign(&message).expect("signs");
            prop_assert!(keypair.public().verify(&message, &signature).is_ok());
            signature.0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(keypair.public().verify(&message, &signature).is_err());
        }
    }
}
