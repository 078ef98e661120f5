//! Signed notes and verifier keys (c2sp.org/signed-note): text, and lines that sign it.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::BASE64;
use exo_types::limits::{
    LOG_NAME_BYTES_MAX, NOTE_BYTES_MAX, NOTE_SIGNATURE_BYTES_MAX, NOTE_SIGNATURES_MAX,
};

use crate::text::{base64, has_control};

/// Name of a key that signs notes: not empty, at most 255 bytes, without Unicode spaces, plus signs and
/// control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

/// The text cannot name a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key name has 1 to {LOG_NAME_BYTES_MAX} bytes, no space, no plus and no control character"
)]
pub struct NotAKeyName;

impl KeyName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NotAKeyName`].
    pub fn new(name: impl Into<String>) -> Result<Self, NotAKeyName> {
        let name = name.into();
        let length = (1..=LOG_NAME_BYTES_MAX).contains(&name.len());
        let spaced = name.chars().any(|c| c.is_whitespace() || c == '+');
        if length && !spaced && !has_control(&name) { Ok(Self(name)) } else { Err(NotAKeyName) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyName({:?})", self.0)
    }
}

/// Number that a key has beside its name: the first four bytes of
/// `SHA-256(name || "\n" || signature type || public key)`. It tells keys apart and proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u32);

impl KeyId {
    /// The number of the key of this name, signature type and public key.
    pub fn of(name: &KeyName, signature_type: u8, public_key: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(name.0.as_bytes());
        context.update(&[b'\n', signature_type]);
        context.update(public_key);
        let digest = context.finish();
        Self(digest.as_ref().iter().take(4).fold(0, |id, byte| id << 8 | u32::from(*byte)))
    }

    /// Wraps a number as it is in a signature.
    pub const fn new(id: u32) -> Self {
        Self(id)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A public key in text, a vkey: `name+key id+base64(signature type || public key)`. What the key is
/// for, the signature type says; [`Cosigner`](crate::Cosigner) takes the one type that this crate checks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VerifierKey {
    name: KeyName,
    signature_type: u8,
    public_key: Vec<u8>,
}

/// Why a text is not a verifier key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierKeyError {
    /// Not three parts with a plus between them.
    #[error("a verifier key is name+id+key")]
    Parts,
    /// The name names no key.
    #[error("{0}")]
    Name(#[source] NotAKeyName),
    /// The key is not base64, has no bytes or too many of them.
    #[error("the verifier key's last part is not the base64 of a key")]
    Key,
    /// The number is not the one of this name and key.
    #[error("the verifier key's number should be {expected}")]
    Id {
        /// What its name and key give.
        expected: KeyId,
    },
}

impl VerifierKey {
    /// Puts a verifier key together.
    ///
    /// # Errors
    /// [`VerifierKeyError::Key`] when the key is empty or longer than a note's signature may be.
    pub fn new(
        name: KeyName,
        signature_type: u8,
        public_key: Vec<u8>,
    ) -> Result<Self, VerifierKeyError> {
        let fits = (1..=NOTE_SIGNATURE_BYTES_MAX).contains(&public_key.len());
        if fits {
            Ok(Self { name, signature_type, public_key })
        } else {
            Err(VerifierKeyError::Key)
        }
    }

    /// For a key whose length is known to be within the bound.
    pub(crate) fn of_bounded(name: KeyName, signature_type: u8, public_key: &[u8]) -> Self {
        Self { name, signature_type, public_key: public_key.to_vec() }
    }

    /// Name of the key.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Which signatures it verifies.
    pub fn signature_type(&self) -> u8 {
        self.signature_type
    }

    /// The key, in the encoding of its signature type.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The number beside the name.
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.name, self.signature_type, &self.public_key)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let material = [&[self.signature_type], self.public_key.as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, self.id(), BASE64.encode(&material))
    }
}

impl FromStr for VerifierKey {
    type Err = VerifierKeyError;

    fn from_str(text: &str) -> Result<Self, VerifierKeyError> {
        // The base64 may have plus signs of its own.
        let (name, rest) = text.split_once('+').ok_or(VerifierKeyError::Parts)?;
        let (id, material) = rest.split_once('+').ok_or(VerifierKeyError::Parts)?;
        let name = KeyName::new(name).map_err(VerifierKeyError::Name)?;
        if material.len() > 2 * NOTE_SIGNATURE_BYTES_MAX {
            return Err(VerifierKeyError::Key);
        }
        let material = base64(material).ok_or(VerifierKeyError::Key)?;
        let (signature_type, public_key) = material.split_first().ok_or(VerifierKeyError::Key)?;
        let key = Self::new(name, *signature_type, public_key.to_vec())?;
        let expected = key.id();
        if id == expected.to_string() { Ok(key) } else { Err(VerifierKeyError::Id { expected }) }
    }
}

/// One signature on a note, of which nothing is known until its key verifies it.
#[derive(Clone, PartialEq, Eq)]
pub struct NoteSignature {
    name: KeyName,
    id: KeyId,
    signature: Vec<u8>,
}

impl NoteSignature {
    /// Puts a signature together; `None` when it is empty or too long.
    pub fn new(name: KeyName, id: KeyId, signature: Vec<u8>) -> Option<Self> {
        let fits = (1..=NOTE_SIGNATURE_BYTES_MAX).contains(&signature.len());
        fits.then_some(Self { name, id, signature })
    }

    /// For a signature whose length is known to be within the bound.
    pub(crate) fn of_bounded(name: KeyName, id: KeyId, signature: Vec<u8>) -> Self {
        Self { name, id, signature }
    }

    /// Name of the key that is said to have signed.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Number of that key.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The signature, in the encoding of its type, without the key's number.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// A signature line without its newline.
    fn parse(line: &str) -> Option<Self> {
        let (name, text) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
        if text.len() > 2 * NOTE_SIGNATURE_BYTES_MAX {
            return None;
        }
        let bytes = base64(text)?;
        let (id, signature) = bytes.split_first_chunk::<4>()?;
        let name = KeyName::new(name).ok()?;
        Self::new(name, KeyId(u32::from_be_bytes(*id)), signature.to_vec())
    }
}

impl fmt::Display for NoteSignature {
    /// The signature's line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.id.0.to_be_bytes().as_slice(), &self.signature].concat();
        write!(f, "{SIGNATURE_PREFIX}{} {}", self.name, BASE64.encode(&bytes))
    }
}

impl fmt::Debug for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteSignature({}+{}, {} bytes)", self.name, self.id, self.signature.len())
    }
}

/// A signed note: text of whole lines, and at least one signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// Why bytes are not a signed note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than the bound.
    #[error("{0} bytes are more than the {NOTE_BYTES_MAX} of a signed note")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("a signed note is UTF-8")]
    NotUtf8,
    /// A control character other than the newline.
    #[error("a signed note has no control characters")]
    Control,
    /// The text is empty or its last line has no end.
    #[error("a signed note's text is of whole lines")]
    Text,
    /// No blank line, or nothing behind the last one.
    #[error("the note has no signatures")]
    Unsigned,
    /// A line behind the last blank line is not a signature.
    #[error("line {0} behind the note's text is not a signature")]
    Signature(usize),
    /// More signatures than the bound.
    #[error("the note has more than {NOTE_SIGNATURES_MAX} signatures")]
    TooManySignatures,
}

impl Note {
    /// Puts a note together.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn new(text: String, signatures: Vec<NoteSignature>) -> Result<Self, NoteError> {
        if text.is_empty() || !text.ends_with('\n') {
            return Err(NoteError::Text);
        }
        if text.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteError::Control);
        }
        if signatures.is_empty() {
            return Err(NoteError::Unsigned);
        }
        if signatures.len() > NOTE_SIGNATURES_MAX {
            return Err(NoteError::TooManySignatures);
        }
        Ok(Self { text, signatures })
    }

    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong(bytes.len()));
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::NotUtf8)?;
        let (_, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Unsigned)?;
        let text = &note[..note.len() - lines.len() - 1];
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Unsigned)?;
        let mut signatures = Vec::new();
        for (at, line) in (1..).zip(lines.split('\n')) {
            if signatures.len() == NOTE_SIGNATURES_MAX {
                return Err(NoteError::TooManySignatures);
            }
            signatures.push(NoteSignature::parse(line).ok_or(NoteError::Signature(at))?);
        }
        Self::new(text.to_owned(), signatures)
    }

    /// What is signed, the last newline included.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, in their order.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }
}

impl fmt::Display for Note {
    /// The note as it is parsed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

/// Em dash and space, with which a signature line begins.
const SIGNATURE_PREFIX: &str = "\u{2014} ";
