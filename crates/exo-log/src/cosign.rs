//! Cosignatures of checkpoints (c2sp.org/tlog-cosignature), of the ML-DSA-44 kind.
//!
//! A cosignature here says: this prefix of the log is committed. It makes no statement of time, so its
//! timestamp is zero, and all cosignatures of a member on one checkpoint are over the same bytes.

use std::sync::Arc;

use exo_crypto::{
    COSIGNER_SIGNATURE_BYTES, CosignerKey, CosignerKeypair, CosignerSignature, SignError,
};

use crate::checkpoint::{Checkpoint, Origin};
use crate::note::{KeyId, KeyName, NoteSignature, VerifierKey};
use crate::tree::TreeHash;

/// Somebody who cosigns logs, as others know them: a name and a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cosigner {
    name: KeyName,
    key: CosignerKey,
    id: KeyId,
}

/// Why a verifier key is not a cosigner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotACosigner {
    /// It verifies signatures of another type.
    #[error("signature type {0:#04x} is not that of ML-DSA-44 cosignatures, 0x06")]
    SignatureType(u8),
    /// Not the length of an ML-DSA-44 public key.
    #[error("an ML-DSA-44 public key does not have {0} bytes")]
    KeyLength(usize),
}

/// Why a signature is not the cosigner's on the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosignatureError {
    /// Its name and number are another key's.
    #[error("it is the signature of another key")]
    OtherSigner,
    /// Not the length of a timestamp and an ML-DSA-44 signature.
    #[error("{0} bytes are not a timestamp and an ML-DSA-44 signature")]
    Length(usize),
    /// The timestamp is larger than any time.
    #[error("timestamp {0} is over 2^63 - 1")]
    Timestamp(u64),
    /// The signature does not hold for this name, timestamp, origin, size and root.
    #[error("the signature does not hold")]
    BadSignature,
}

impl Cosigner {
    /// Puts a cosigner together.
    pub fn new(name: KeyName, key: CosignerKey) -> Self {
        let id = KeyId::of(&name, SIGNATURE_TYPE, key.as_bytes());
        Self { name, key, id }
    }

    /// Takes a verifier key for a cosigner's.
    ///
    /// # Errors
    /// [`NotACosigner`].
    pub fn from_verifier_key(key: &VerifierKey) -> Result<Self, NotACosigner> {
        if key.signature_type() != SIGNATURE_TYPE {
            return Err(NotACosigner::SignatureType(key.signature_type()));
        }
        let public = CosignerKey::from_bytes(key.public_key())
            .ok_or(NotACosigner::KeyLength(key.public_key().len()))?;
        Ok(Self::new(key.name().clone(), public))
    }

    /// The cosigner as a verifier key, whose text others can read.
    pub fn verifier_key(&self) -> VerifierKey {
        VerifierKey::of_bounded(self.name.clone(), SIGNATURE_TYPE, self.key.as_bytes())
    }

    /// Name of the key.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Number beside the name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key.
    pub fn key(&self) -> &CosignerKey {
        &self.key
    }

    /// Whether the signature says that it is this cosigner's.
    pub fn is_named_by(&self, signature: &NoteSignature) -> bool {
        self.id == signature.id() && self.name == *signature.name()
    }

    /// Checks a signature line on a checkpoint and gives its timestamp: seconds since the Unix epoch, or
    /// zero where it makes no statement of time.
    ///
    /// # Errors
    /// [`CosignatureError`].
    pub fn verify(
        &self,
        checkpoint: &Checkpoint,
        signature: &NoteSignature,
    ) -> Result<u64, CosignatureError> {
        if !self.is_named_by(signature) {
            return Err(CosignatureError::OtherSigner);
        }
        let (timestamp, signature) = split(signature.signature())?;
        let message = checkpoint_message(&self.name, timestamp, checkpoint);
        match self.key.verify(&message, &signature) {
            Ok(()) => Ok(timestamp),
            Err(_) => Err(CosignatureError::BadSignature),
        }
    }

    /// Checks a bare signature on a checkpoint, made without a statement of time: what members send each
    /// other.
    ///
    /// # Errors
    /// [`CosignatureError::BadSignature`].
    pub fn verify_bare(
        &self,
        checkpoint: &Checkpoint,
        signature: &CosignerSignature,
    ) -> Result<(), CosignatureError> {
        let message = checkpoint_message(&self.name, 0, checkpoint);
        self.key.verify(&message, signature).map_err(|_| CosignatureError::BadSignature)
    }

    /// The signature line of a bare signature.
    pub fn line(&self, signature: &CosignerSignature) -> NoteSignature {
        let bytes = [0_u64.to_be_bytes().as_slice(), signature.as_bytes()].concat();
        NoteSignature::of_bounded(self.name.clone(), self.id, bytes)
    }
}

/// Somebody who cosigns checkpoints, with the key to do it.
#[derive(Clone, Debug)]
pub struct CheckpointSigner {
    cosigner: Cosigner,
    keypair: Arc<CosignerKeypair>,
}

impl CheckpointSigner {
    /// Signs under this name.
    pub fn new(name: KeyName, keypair: Arc<CosignerKeypair>) -> Self {
        Self { cosigner: Cosigner::new(name, keypair.public().clone()), keypair }
    }

    /// The one who signs, as others know them.
    pub fn cosigner(&self) -> &Cosigner {
        &self.cosigner
    }

    /// Signs a checkpoint without a statement of time. The caller has made sure that the prefix is
    /// committed and that this is durable: the statement cannot be taken back.
    ///
    /// # Errors
    /// [`SignError`] when the library fails.
    pub fn sign(&self, checkpoint: &Checkpoint) -> Result<CosignerSignature, SignError> {
        self.keypair.sign(&checkpoint_message(&self.cosigner.name, 0, checkpoint))
    }

    /// Signs a checkpoint as [`sign`](Self::sign) does and gives the line for a note.
    ///
    /// # Errors
    /// [`SignError`] when the library fails.
    pub fn cosign(&self, checkpoint: &Checkpoint) -> Result<NoteSignature, SignError> {
        Ok(self.cosigner.line(&self.sign(checkpoint)?))
    }
}

/// The bytes that an ML-DSA-44 cosignature signs: the `cosigned_message` of c2sp.org/tlog-cosignature
/// over the entries from `start` to `end`. A checkpoint is the range from zero to its size.
pub fn cosigned_message(
    cosigner: &KeyName,
    timestamp: u64,
    origin: &Origin,
    start: u64,
    end: u64,
    root: &TreeHash,
) -> Vec<u8> {
    let mut message = Vec::with_capacity(2 * 256 + 80);
    message.extend_from_slice(MESSAGE_LABEL);
    push_name(&mut message, cosigner.as_str());
    message.extend_from_slice(&timestamp.to_be_bytes());
    push_name(&mut message, origin.as_str());
    message.extend_from_slice(&start.to_be_bytes());
    message.extend_from_slice(&end.to_be_bytes());
    message.extend_from_slice(root.as_bytes());
    message
}

fn checkpoint_message(cosigner: &KeyName, timestamp: u64, checkpoint: &Checkpoint) -> Vec<u8> {
    let (size, root) = (checkpoint.size(), checkpoint.root());
    cosigned_message(cosigner, timestamp, checkpoint.origin(), 0, size, root)
}

/// Takes a `timestamped_signature` apart.
fn split(bytes: &[u8]) -> Result<(u64, CosignerSignature), CosignatureError> {
    let wrong = CosignatureError::Length(bytes.len());
    let (timestamp, signature) = bytes.split_first_chunk::<8>().ok_or(wrong)?;
    let timestamp = u64::from_be_bytes(*timestamp);
    let signature = CosignerSignature::from_bytes(signature).ok_or(wrong)?;
    if timestamp > i64::MAX as u64 {
        return Err(CosignatureError::Timestamp(timestamp));
    }
    Ok((timestamp, signature))
}

fn push_name(message: &mut Vec<u8>, name: &str) {
    // Names have at most 255 bytes by their types.
    message.push(name.len() as u8);
    message.extend_from_slice(name.as_bytes());
}

/// Signature type of ML-DSA-44 cosignatures.
pub const SIGNATURE_TYPE: u8 = 0x06;
/// Length of a cosignature on a note without the key's number, bytes.
pub const COSIGNATURE_BYTES: usize = 8 + COSIGNER_SIGNATURE_BYTES;
/// What every signed message begins with.
const MESSAGE_LABEL: &[u8; 12] = b"subtree/v1\n\0";

const _: () = assert!(COSIGNATURE_BYTES < exo_types::limits::NOTE_SIGNATURE_BYTES_MAX);
