//! X-Wing: a key encapsulation that holds while either ML-KEM-768 (FIPS 203) or X25519 (RFC 7748)
//! does. draft-connolly-cfrg-xwing-kem, composed from the library's two parts and SHA3-256.
//!
//! Two departures from the draft, neither visible on the wire. A key pair is stored expanded, because
//! the library makes ML-KEM keys from no seed. And an X25519 share of low order, whose product is zero,
//! is refused where the draft goes on.

use std::fmt;

use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};
use aws_lc_rs::digest::{Context, SHA3_256, digest};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::fixed;
use crate::secret::{Secret, SharedSecret};

/// A pair of keys for sealing. Its secret half is erased when dropped.
pub struct KemKeypair {
    secret: Secret<KEM_SECRET_BYTES>,
    ml_kem: DecapsulationKey,
    x25519: agreement::PrivateKey,
    public: KemPublicKey,
}

/// Why an encapsulation key pair, a ciphertext or a public key was of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KemError {
    /// The library made no key; it ran out of memory or randomness.
    #[error("no encapsulation key was made: the library reported an internal failure")]
    Generate,
    /// The stored secret is not one that [`KemKeypair::secret_bytes`] gave.
    #[error("the stored encapsulation key is damaged")]
    Secret,
    /// The public key fails the checks of FIPS 203 section 7.2 or has an X25519 part of low order.
    #[error("the public encapsulation key is not valid")]
    PublicKey,
    /// The ciphertext has an X25519 part of low order.
    #[error("the encapsulation is not valid")]
    Ciphertext,
}

impl KemKeypair {
    /// Makes a new pair from the operating system's randomness.
    ///
    /// # Errors
    /// [`KemError::Generate`].
    pub fn generate() -> Result<Self, KemError> {
        let ml_kem = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| KemError::Generate)?;
        let bytes = ml_kem.key_bytes().map_err(|_| KemError::Generate)?;
        let mut secret = Zeroizing::new([0; KEM_SECRET_BYTES]);
        let (dk, sk) = secret.split_at_mut(ML_KEM_SECRET_BYTES);
        dk.copy_from_slice(bytes.as_ref());
        aws_lc_rs::rand::fill(sk).map_err(|_| KemError::Generate)?;
        Self::from_secret_bytes(&secret)
    }

    /// Restores a pair from [`secret_bytes`](Self::secret_bytes).
    ///
    /// # Errors
    /// [`KemError::Secret`] when the hash inside the key does not match (FIPS 203 section 7.3).
    pub fn from_secret_bytes(bytes: &[u8; KEM_SECRET_BYTES]) -> Result<Self, KemError> {
        let (dk, sk) = bytes.split_at(ML_KEM_SECRET_BYTES);
        // FIPS 203 algorithm 16: dk = dk_PKE || ek || H(ek) || z.
        let (ek, rest) = dk[ML_KEM_PKE_SECRET_BYTES..].split_at(ML_KEM_PUBLIC_BYTES);
        if digest(&SHA3_256, ek).as_ref() != &rest[..32] {
            return Err(KemError::Secret);
        }
        let ml_kem = DecapsulationKey::new(&ML_KEM_768, dk).map_err(|_| KemError::Secret)?;
        let x25519 =
            agreement::PrivateKey::from_private_key(&X25519, sk).map_err(|_| KemError::Secret)?;
        let share = x25519.compute_public_key().map_err(|_| KemError::Secret)?;
        let mut public = Box::new([0; KEM_PUBLIC_BYTES]);
        public[..ML_KEM_PUBLIC_BYTES].copy_from_slice(ek);
        public[ML_KEM_PUBLIC_BYTES..].copy_from_slice(share.as_ref());
        let secret = Secret::from_slice(bytes).ok_or(KemError::Secret)?;
        Ok(Self { secret, ml_kem, x25519, public: KemPublicKey(public) })
    }

    /// The expanded secret, for a key file alone: the ML-KEM decapsulation key of FIPS 203 (2400
    /// bytes), then the X25519 scalar (32). It holds the public key too.
    pub fn secret_bytes(&self) -> &Secret<KEM_SECRET_BYTES> {
        &self.secret
    }

    /// The public half.
    pub fn public(&self) -> &KemPublicKey {
        &self.public
    }

    /// The secret that the maker of the ciphertext has too.
    ///
    /// A ciphertext made for another key gives another secret and no error (implicit rejection, FIPS
    /// 203 section 6.3): what is sealed under the secret must itself be authenticated.
    ///
    /// # Errors
    /// [`KemError::Ciphertext`].
    pub fn decapsulate(&self, ciphertext: &KemCiphertext) -> Result<SharedSecret, KemError> {
        let (ct_m, ct_x) = ciphertext.0.split_at(ML_KEM_CIPHERTEXT_BYTES);
        let (_, pk_x) = self.public.0.split_at(ML_KEM_PUBLIC_BYTES);
        let ss_m =
            self.ml_kem.decapsulate(Ciphertext::from(ct_m)).map_err(|_| KemError::Ciphertext)?;
        let peer = UnparsedPublicKey::new(&X25519, ct_x);
        agreement::agree(&self.x25519, peer, KemError::Ciphertext, |ss_x| {
            Ok(combine(ss_m.as_ref(), ss_x, ct_x, pk_x))
        })
    }
}

impl fmt::Debug for KemKeypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KemKeypair").field("public", &self.public).finish_non_exhaustive()
    }
}

/// A public key to seal for: ML-KEM-768's 1184 bytes, then X25519's 32.
#[derive(Clone, PartialEq, Eq)]
pub struct KemPublicKey(Box<[u8; KEM_PUBLIC_BYTES]>);

impl KemPublicKey {
    /// Wraps the raw bytes; `None` for another length. The key is checked when it is used.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Box::new(bytes)))
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; KEM_PUBLIC_BYTES] {
        &self.0
    }

    /// Makes a fresh secret that the holder of the secret key alone can recover from the ciphertext.
    ///
    /// # Errors
    /// [`KemError::PublicKey`], or [`KemError::Generate`] when there is no randomness.
    pub fn encapsulate(&self) -> Result<(KemCiphertext, SharedSecret), KemError> {
        let (pk_m, pk_x) = self.0.split_at(ML_KEM_PUBLIC_BYTES);
        let ml_kem = EncapsulationKey::new(&ML_KEM_768, pk_m).map_err(|_| KemError::PublicKey)?;
        let (ct_m, ss_m) = ml_kem.encapsulate().map_err(|_| KemError::PublicKey)?;
        let ephemeral = agreement::PrivateKey::generate(&X25519).map_err(|_| KemError::Generate)?;
        let ct_x = ephemeral.compute_public_key().map_err(|_| KemError::Generate)?;
        let peer = UnparsedPublicKey::new(&X25519, pk_x);
        let secret = agreement::agree(&ephemeral, peer, KemError::PublicKey, |ss_x| {
            Ok(combine(ss_m.as_ref(), ss_x, ct_x.as_ref(), pk_x))
        })?;
        let mut ciphertext = Box::new([0; KEM_CIPHERTEXT_BYTES]);
        ciphertext[..ML_KEM_CIPHERTEXT_BYTES].copy_from_slice(ct_m.as_ref());
        ciphertext[ML_KEM_CIPHERTEXT_BYTES..].copy_from_slice(ct_x.as_ref());
        Ok((KemCiphertext(ciphertext), secret))
    }
}

/// An encapsulated secret: ML-KEM-768's ciphertext of 1088 bytes, then an X25519 share of 32.
#[derive(Clone, PartialEq, Eq)]
pub struct KemCiphertext(Box<[u8; KEM_CIPHERTEXT_BYTES]>);

impl KemCiphertext {
    /// Wraps the raw bytes; `None` for another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Box::new(bytes)))
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; KEM_CIPHERTEXT_BYTES] {
        &self.0
    }
}

/// Gives a boxed byte string its conversion, its serialised form and a short `Debug`.
macro_rules! boxed_bytes {
    ($name:ident, $len:expr) => {
        impl From<Box<[u8; $len]>> for $name {
            fn from(bytes: Box<[u8; $len]>) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let [a, b, c, d, ..] = *self.0;
                write!(f, concat!(stringify!($name), "({:02x}{:02x}{:02x}{:02x}…)"), a, b, c, d)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                fixed::serialize(&self.0, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                fixed::deserialize(deserializer)
            }
        }
    };
}

boxed_bytes!(KemPublicKey, KEM_PUBLIC_BYTES);
boxed_bytes!(KemCiphertext, KEM_CIPHERTEXT_BYTES);

/// The draft's combiner. It leaves out ML-KEM's ciphertext and key, which ML-KEM binds by itself.
fn combine(ss_m: &[u8], ss_x: &[u8], ct_x: &[u8], pk_x: &[u8]) -> SharedSecret {
    let mut context = Context::new(&SHA3_256);
    for part in [ss_m, ss_x, ct_x, pk_x, X_WING_LABEL] {
        context.update(part);
    }
    let mut secret = Zeroizing::new([0; 32]);
    secret.copy_from_slice(context.finish().as_ref());
    SharedSecret::take(&mut secret)
}

/// Length of a public key, bytes.
pub const KEM_PUBLIC_BYTES: usize = ML_KEM_PUBLIC_BYTES + X25519_BYTES;
/// Length of a ciphertext, bytes.
pub const KEM_CIPHERTEXT_BYTES: usize = ML_KEM_CIPHERTEXT_BYTES + X25519_BYTES;
/// Length of a stored secret key, bytes.
pub const KEM_SECRET_BYTES: usize = ML_KEM_SECRET_BYTES + X25519_BYTES;

const X_WING_LABEL: &[u8] = br"\.//^\";
const X25519_BYTES: usize = 32;
// FIPS 203 table 3 and, for the first, algorithm 13 with k = 3.
const ML_KEM_PKE_SECRET_BYTES: usize = 384 * 3;
const ML_KEM_SECRET_BYTES: usize = 2400;
const ML_KEM_PUBLIC_BYTES: usize = 1184;
const ML_KEM_CIPHERTEXT_BYTES: usize = 1088;

const _: () = assert!(KEM_PUBLIC_BYTES == 1216 && KEM_CIPHERTEXT_BYTES == 1120);
const _: () =
    assert!(ML_KEM_SECRET_BYTES == ML_KEM_PKE_SECRET_BYTES + ML_KEM_PUBLIC_BYTES + 32 + 32);

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> KemKeypair {
        KemKeypair::generate().expect("a key pair")
    }

    #[test]
    fn both_sides_get_one_secret_and_a_restored_key_gets_it_too() {
        let pair = pair();
        let (ciphertext, ours) = pair.public().encapsulate().expect("encapsulates");
        assert_eq!(pair.decapsulate(&ciphertext), Ok(ours));
        let restored = KemKeypair::from_secret_bytes(pair.secret_bytes().expose()).expect("reads");
        assert_eq!(restored.public(), pair.public());
        assert_eq!(restored.decapsulate(&ciphertext), pair.decapsulate(&ciphertext));
    }

    #[test]
    fn another_key_or_another_ciphertext_gives_another_secret() {
        let (pair, other) = (pair(), pair());
        let (ciphertext, secret) = pair.public().encapsulate().expect("encapsulates");
        assert_ne!(other.decapsulate(&ciphertext).as_ref(), Ok(&secret));
        for at in [0, 500, 1087, 1088, 1119] {
            let mut bytes = *ciphertext.as_bytes();
            bytes[at] ^= 4;
            let bad = KemCiphertext::from_bytes(&bytes).expect("the length is right");
            assert_ne!(pair.decapsulate(&bad).as_ref(), Ok(&secret), "byte {at}");
        }
    }

    #[test]
    fn low_order_shares_are_refused_on_both_sides() {
        let pair = pair();
        let mut public = *pair.public().as_bytes();
        public[ML_KEM_PUBLIC_BYTES..].fill(0);
        let public = KemPublicKey::from_bytes(&public).expect("the length is right");
        assert_eq!(public.encapsulate().err(), Some(KemError::PublicKey));
        let (ciphertext, _) = pair.public().encapsulate().expect("encapsulates");
        let mut bytes = *ciphertext.as_bytes();
        bytes[ML_KEM_CIPHERTEXT_BYTES..].fill(0);
        let bad = KemCiphertext::from_bytes(&bytes).expect("the length is right");
        assert_eq!(pair.decapsulate(&bad).err(), Some(KemError::Ciphertext));
    }

    #[test]
    fn a_public_key_out_of_range_is_refused() {
        // FIPS 203 section 7.2: every coefficient is below q = 3329; these are 4095.
        let mut public = *pair().public().as_bytes();
        public[..3].fill(0xff);
        let public = KemPublicKey::from_bytes(&public).expect("the length is right");
        assert_eq!(public.encapsulate().err(), Some(KemError::PublicKey));
    }

    #[test]
    fn a_damaged_stored_public_key_is_noticed() {
        let pair = pair();
        for at in [ML_KEM_PKE_SECRET_BYTES, ML_KEM_PKE_SECRET_BYTES + ML_KEM_PUBLIC_BYTES] {
            let mut bytes = *pair.secret_bytes().expose();
            bytes[at] ^= 1;
            assert_eq!(KemKeypair::from_secret_bytes(&bytes).err(), Some(KemError::Secret));
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let pair = pair();
        let text = format!("{pair:?}");
        assert!(
            text.starts_with("KemKeypair { public: KemPublicKey(") && text.len() < 64,
            "{text}"
        );
    }
}
