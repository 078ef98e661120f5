//! Identity keys, sealing, signatures and key files of exo-federation, over well-kept libraries.

mod fixed;
pub mod hash;
pub mod identity;
pub mod label;

pub use hash::{content_hash, hash};
pub use identity::{
    BadSignature, IDENTITY_KEY_BYTES, IDENTITY_SEED_BYTES, IdentityError, IdentityKey,
    IdentityKeyError, PostQuantumKeypair, SIGNATURE_BYTES, SignError, Signature,
};
pub use label::Label;
