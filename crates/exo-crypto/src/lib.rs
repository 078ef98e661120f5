//! Identity keys, sealing, signatures and key files of exo-federation, over well-kept libraries.

mod body;
mod fixed;
pub mod hash;
pub mod identity;
pub mod kdf;
pub mod kem;
pub mod kem_epoch;
pub mod keyfile;
pub mod keystore;
pub mod label;
pub mod sas;
pub mod seal;
pub mod secret;
pub mod signed;
pub mod words;

pub use hash::{content_hash, hash};
pub use identity::{
    BadSignature, IDENTITY_KEY_BYTES, IDENTITY_SEED_BYTES, IdentityError, IdentityKey,
    IdentityKeyError, PostQuantumKeypair, SIGNATURE_BYTES, SignError, Signature,
};
pub use kdf::{BadMac, kdf, mac, mac_verify};
pub use kem::{KemCiphertext, KemError, KemKeypair, KemPublicKey};
pub use kem_epoch::{KemEpoch, KemEpochKey, KemKeyring, KeyringError};
pub use keyfile::{KeyFileError, KeyFileKind, WriteMode, private_directory};
pub use keystore::{ApiToken, NotAToken, load_identity, load_keyring, save_identity, save_keyring};
pub use label::Label;
pub use sas::{Commitment, InviterSas, JoinerSas, SasMismatch, SasNonce, SasSession};
pub use seal::{
    OpenError, SealError, Sealed, open, open_once, open_request, seal, seal_once, seal_request,
};
pub use secret::{NoRandomness, Secret, SharedSecret};
pub use signed::{SignBodyError, Signed, SignedBody, Verified, VerifyError};
pub use words::{Words, WordsError, fingerprint_words};
