//! Identity keys, sealing, signatures and key files of exo-federation, over well-kept libraries.
//!
//! Nothing here implements a primitive: ML-DSA, ML-KEM, X25519, SHA-2, SHA-3, HMAC, HKDF and
//! ChaCha20-Poly1305 are the library's (aws-lc-rs). What is here is how they are put together, named
//! ([`label`]), encoded, and kept from being confused.
//!
//! # Requirements
//!
//! - The operating system's random source is good. It is used for key generation, signing and
//!   encapsulation alone; every other function is pure, and time is an argument.
//! - The caller gives [`sas`] a session exporter that no other session has, and fresh nonces.
//! - The caller checks that a [`Verified`] statement's signer may say what it says: a signature shows
//!   who, not by what right.
//! - Key files lie on a file system with Unix permissions, hard links and a working `fsync`, and in a
//!   directory that nobody but the node and root can enter.
//! - [`kdf`](kdf()) and [`mac`] are given secrets of full entropy, not passwords.
//!
//! # Provided
//!
//! - Names that prove themselves: a peer id is the hash of the key that signs.
//! - Signatures bound to one purpose, and one type for what nobody has checked, another for what
//!   holds ([`Signed`], [`Verified`]).
//! - The key that cosigns a log, in the form that others verify ([`cosigner`]).
//! - Sealing that stays secret as long as ML-KEM-768 or X25519 does ([`kem`], [`seal`](mod@seal)), under keys
//!   that are erased when their epoch's grace is over ([`kem_epoch`]).
//! - Words for two people to compare that somebody in the middle matches once in 2^44 tries, with one
//!   try a session ([`sas`]).
//! - Secret files written whole or not at all, and refused when others had rights to them
//!   ([`keyfile`]).
//! - Decoders bounded before they allocate, that answer any bytes with a value or an error:
//!   [`IdentityKey::from_spki_der`], [`IdentityKey::from_bytes`], [`Signature::from_bytes`],
//!   [`CosignerKey::from_bytes`], [`CosignerSignature::from_bytes`],
//!   [`KemPublicKey::from_bytes`], [`KemCiphertext::from_bytes`], [`KemKeyring::from_secret_bytes`],
//!   [`ApiToken::parse`], [`keyfile::decode`], `Words::from_str`, and `from_wire` of [`Sealed`],
//!   [`Signed`] and [`KemEpochKey`].
//! - Secrets erased on drop, compared in constant time, and absent from `Debug`.
//!
//! # Not provided
//!
//! - Hybrid signatures: an identity stands on ML-DSA-65 alone. A forged one needs a break of it today;
//!   no recorded traffic is endangered by a break tomorrow.
//! - Forward secrecy within a sealing epoch: who steals an epoch's key opens what was sealed for it.
//! - The sealer's identity. Sign inside the seal where it matters.
//! - Hidden lengths: a sealed message shows the length of its plaintext.
//! - Encryption of key files at rest, or erasure of blocks that a disk has moved.
//! - Protection from root, from a debugger on the node, from swap or hibernation, or from faults and
//!   power measurements. Copies that the library's own code or the compiler makes on the stack are
//!   beyond our reach.

mod body;
pub mod cosigner;
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

pub use cosigner::{
    COSIGNER_KEY_BYTES, COSIGNER_SEED_BYTES, COSIGNER_SIGNATURE_BYTES, CosignerKey,
    CosignerKeypair, CosignerSignature,
};
pub use hash::{content_hash, hash};
pub use identity::{
    BadSignature, IDENTITY_KEY_BYTES, IDENTITY_SEED_BYTES, IdentityError, IdentityKey,
    IdentityKeyError, PostQuantumKeypair, SIGNATURE_BYTES, SignError, Signature,
};
pub use kdf::{BadMac, kdf, mac, mac_verify};
pub use kem::{KemCiphertext, KemError, KemKeypair, KemPublicKey};
pub use kem_epoch::{KemEpoch, KemEpochKey, KemKeyring, KeyringError};
pub use keyfile::{KeyFileError, KeyFileKind, WriteMode, private_directory};
pub use keystore::{
    ApiToken, NotAToken, load_cosigner, load_identity, load_keyring, save_cosigner, save_identity,
    save_keyring,
};
pub use label::Label;
pub use sas::{Commitment, InviterSas, JoinerSas, SasMismatch, SasNonce, SasSession};
pub use seal::{
    OpenError, SealError, Sealed, open, open_once, open_request, seal, seal_once, seal_request,
};
pub use secret::{NoRandomness, Secret, SharedSecret};
pub use signed::{SignBodyError, Signed, SignedBody, Verified, VerifyError};
pub use words::{Words, WordsError, fingerprint_words};
