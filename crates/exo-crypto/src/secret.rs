//! Secret byte strings: erased when dropped, compared in constant time, never printed.

use std::fmt;

use aws_lc_rs::rand;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// `N` secret bytes. They stay in one place on the heap, so that moving the value leaves no copy,
/// and are overwritten when it is dropped.
///
/// There is no `Clone`, no serialisation and no access except [`expose`](Self::expose).
pub struct Secret<const N: usize>(Box<[u8; N]>);

/// A secret that two parties share, or a key derived from one: 32 bytes.
pub type SharedSecret = Secret<32>;

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no randomness")]
pub struct NoRandomness;

impl<const N: usize> Secret<N> {
    /// Takes the bytes and overwrites the caller's copy.
    pub fn take(bytes: &mut [u8; N]) -> Self {
        let mut secret = Self(Box::new([0; N]));
        secret.0.copy_from_slice(bytes);
        bytes.zeroize();
        secret
    }

    /// Copies the bytes; `None` for another length. The caller's copy is the caller's to erase.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != N {
            return None;
        }
        let mut secret = Self(Box::new([0; N]));
        secret.0.copy_from_slice(bytes);
        Some(secret)
    }

    /// Makes a new secret from the operating system's randomness.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut secret = Self(Box::new([0; N]));
        rand::fill(secret.0.as_mut_slice()).map_err(|_| NoRandomness)?;
        Ok(secret)
    }

    /// The bytes. Every call is a place to look at in a review.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl<const N: usize> Eq for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({N} bytes)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_bytes_erases_the_source() {
        let mut bytes = [9; 32];
        let secret = SharedSecret::take(&mut bytes);
        assert_eq!(bytes, [0; 32]);
        assert_eq!(secret.expose(), &[9; 32]);
    }

    #[test]
    fn secrets_are_equal_only_byte_for_byte() {
        let of = |bytes: [u8; 32]| SharedSecret::from_slice(&bytes).expect("the length is right");
        assert_eq!(of([1; 32]), of([1; 32]));
        for at in 0..32 {
            let mut other = [1; 32];
            other[at] = 2;
            assert_ne!(of([1; 32]), of(other), "{at}");
        }
        assert!(SharedSecret::from_slice(&[0; 31]).is_none());
    }

    #[test]
    fn debug_shows_the_length_alone() {
        let secret = SharedSecret::from_slice(&[0xab; 32]).expect("the length is right");
        assert_eq!(format!("{secret:?}"), "Secret(32 bytes)");
    }

    #[test]
    fn two_generated_secrets_differ() {
        let [a, b] = [(); 2].map(|()| SharedSecret::generate().expect("randomness"));
        assert_ne!(a, b);
    }
}
