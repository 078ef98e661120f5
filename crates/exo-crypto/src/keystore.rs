//! The secrets a node keeps in files: its identity, its sealing keys, and the token of its API.

use std::fmt;
use std::path::Path;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use zeroize::Zeroizing;

use crate::cosigner::{COSIGNER_SEED_BYTES, CosignerKeypair};
use crate::identity::{IDENTITY_SEED_BYTES, PostQuantumKeypair};
use crate::kem_epoch::{KEYRING_BYTES_MAX, KemKeyring};
use crate::keyfile::{
    KeyFileError, KeyFileKind, WriteMode, read_key_file, read_secret, write_key_file, write_secret,
};
use crate::secret::{NoRandomness, SharedSecret};

/// Writes an identity to a new file; one that exists is kept, for it cannot be made again.
///
/// # Errors
/// [`KeyFileError`].
pub fn save_identity(path: &Path, identity: &PostQuantumKeypair) -> Result<(), KeyFileError> {
    write_key_file(path, KeyFileKind::Identity, identity.expose_seed(), WriteMode::Create)
}

/// Reads an identity.
///
/// # Errors
/// [`KeyFileError`].
pub fn load_identity(path: &Path) -> Result<PostQuantumKeypair, KeyFileError> {
    let seed = read_key_file(path, KeyFileKind::Identity)?;
    let seed: &[u8; IDENTITY_SEED_BYTES] =
        seed.as_slice().try_into().map_err(|_| damaged(path, "a seed has 32 bytes"))?;
    PostQuantumKeypair::from_seed(seed).map_err(|error| damaged(path, error))
}

/// Writes a cosigner's key to a new file; one that exists is kept.
///
/// # Errors
/// [`KeyFileError`].
pub fn save_cosigner(path: &Path, cosigner: &CosignerKeypair) -> Result<(), KeyFileError> {
    write_key_file(path, KeyFileKind::Cosigner, cosigner.expose_seed(), WriteMode::Create)
}

/// Reads a cosigner's key.
///
/// # Errors
/// [`KeyFileError`].
pub fn load_cosigner(path: &Path) -> Result<CosignerKeypair, KeyFileError> {
    let seed = read_key_file(path, KeyFileKind::Cosigner)?;
    let seed: &[u8; COSIGNER_SEED_BYTES] =
        seed.as_slice().try_into().map_err(|_| damaged(path, "a seed has 32 bytes"))?;
    CosignerKeypair::from_seed(seed).map_err(|error| damaged(path, error))
}

/// Writes a ring of sealing keys over the one before, so that what it no longer holds is gone from the
/// file. Whether the disk still holds the old blocks is the disk's affair.
///
/// # Errors
/// [`KeyFileError`].
pub fn save_keyring(path: &Path, ring: &KemKeyring) -> Result<(), KeyFileError> {
    write_key_file(path, KeyFileKind::KemKeyring, &ring.to_secret_bytes(), WriteMode::Replace)
}

/// Reads a ring of sealing keys.
///
/// # Errors
/// [`KeyFileError`].
pub fn load_keyring(path: &Path) -> Result<KemKeyring, KeyFileError> {
    let bytes = read_key_file(path, KeyFileKind::KemKeyring)?;
    KemKeyring::from_secret_bytes(&bytes).map_err(|error| damaged(path, error))
}

/// The token that a client of a node's own API shows: 32 random bytes.
///
/// In text `exotoken1`, 52 characters and a check sum of six (Bech32m, BIP-350), so that a token cut in
/// pasting is told from a wrong one and scanners for leaked secrets can find it.
#[derive(PartialEq, Eq)]
pub struct ApiToken(SharedSecret);

/// The text is no token: cut, mistyped or something else. The text is not repeated, for it may be a
/// secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no API token: a token begins with \"{TOKEN_PREFIX}1\" and is 67 characters long")]
pub struct NotAToken;

impl ApiToken {
    /// Makes a new token.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        SharedSecret::generate().map(Self)
    }

    /// Reads a token's text, in lower case or in upper case.
    ///
    /// # Errors
    /// [`NotAToken`].
    pub fn parse(text: &str) -> Result<Self, NotAToken> {
        if text.len() != TOKEN_CHARS {
            return Err(NotAToken);
        }
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| NotAToken)?;
        if checked.hrp() != TOKEN_HRP {
            return Err(NotAToken);
        }
        let mut bytes = Zeroizing::new([0; 32]);
        let mut decoded = checked.byte_iter();
        for slot in bytes.iter_mut() {
            *slot = decoded.next().ok_or(NotAToken)?;
        }
        // The bits that fill up the last character must be zero: one token has one text.
        let token = Self(SharedSecret::take(&mut bytes));
        if token.expose_text().eq_ignore_ascii_case(text) { Ok(token) } else { Err(NotAToken) }
    }

    /// The token's text, for its owner alone.
    pub fn expose_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_CHARS));
        // Fails when the buffer does, which a string never does, or past the longest code length.
        bech32::encode_lower_to_fmt::<Bech32m, _>(&mut *text, TOKEN_HRP, self.0.expose())
            .expect("67 characters are within Bech32m's bound");
        text
    }

    /// Whether a client showed this token; the comparison takes the same time wherever they differ.
    pub fn matches(&self, shown: &str) -> bool {
        Self::parse(shown).is_ok_and(|shown| shown == *self)
    }

    /// Writes the token's text and a line end, for its owner's programs to read.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn save(&self, path: &Path, mode: WriteMode) -> Result<(), KeyFileError> {
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_CHARS + 1));
        text.push_str(&self.expose_text());
        text.push('\n');
        write_secret(path, text.as_bytes(), mode)
    }

    /// Reads a token's file.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let bytes = read_secret(path)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| damaged(path, NotAToken))?;
        Self::parse(text.trim_end()).map_err(|error| damaged(path, error))
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken(…)")
    }
}

fn damaged(path: &Path, reason: impl fmt::Display) -> KeyFileError {
    KeyFileError::Damaged { path: path.to_owned(), reason: reason.to_string() }
}

const TOKEN_PREFIX: &str = "exotoken";
const TOKEN_HRP: Hrp = Hrp::parse_unchecked(TOKEN_PREFIX);
/// The prefix, `1`, 52 characters of five bits each, and the check sum.
const TOKEN_CHARS: usize = TOKEN_PREFIX.len() + 1 + 52 + 6;

const _: () = assert!(TOKEN_CHARS == 67);
const _: () = assert!(KEYRING_BYTES_MAX + 48 <= exo_types::limits::KEY_FILE_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_matches_its_own_text_alone() {
        let [token, other] = [(); 2].map(|()| ApiToken::generate().expect("randomness"));
        let text = token.expose_text();
        assert!(text.starts_with("exotoken1") && text.len() == TOKEN_CHARS, "the form is wrong");
        assert!(token.matches(&text) && token.matches(&text.to_uppercase()));
        assert!(!other.matches(&text));
        for bad in ["", "exotoken1", &text[1..], &text[..66], &format!("{} ", text.as_str())] {
            assert!(!token.matches(bad));
        }
    }

    #[test]
    fn every_mistyped_character_is_found() {
        let text = ApiToken::generate().expect("randomness").expose_text();
        for at in 0..TOKEN_CHARS {
            let mut bad = text.as_bytes().to_vec();
            bad[at] = if bad[at] == b'q' { b'p' } else { b'q' };
            let bad = String::from_utf8(bad).expect("ASCII");
            assert_eq!(ApiToken::parse(&bad), Err(NotAToken), "character {at}");
        }
    }

    #[test]
    fn filling_bits_that_are_not_zero_are_refused() {
        use bech32::Fe32;
        use bech32::primitives::iter::{ByteIterExt, Fe32IterExt};
        let mut groups: Vec<Fe32> = [5; 32].iter().copied().bytes_to_fes().collect();
        *groups.last_mut().expect("52 groups") = Fe32::try_from(1 | 1 << 4).expect("five bits");
        let hrp = TOKEN_HRP;
        let text: String = groups.into_iter().with_checksum::<Bech32m>(&hrp).chars().collect();
        assert_eq!(text.len(), TOKEN_CHARS);
        assert_eq!(ApiToken::parse(&text), Err(NotAToken));
    }

    #[test]
    fn debug_shows_no_token() {
        let token = ApiToken::generate().expect("randomness");
        assert_eq!(format!("{token:?}"), "ApiToken(…)");
    }
}
