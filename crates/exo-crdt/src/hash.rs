//! The hash of shared collections: BLAKE3 in its key-derivation mode, with a label as the context.
//!
//! The newtypes keep an entry's id, a header's hash and a commitment from being taken for each other.

use std::fmt;

use exo_crypto::Label;
use serde::{Deserialize, Serialize};

/// BLAKE3 `derive_key(label, parts one after another)`. Every part but the last has a fixed length or
/// carries its own.
pub fn digest(label: Label, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(label.as_str());
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let [a, b, c, d, ..] = self.0;
                write!(f, concat!(stringify!($name), "({:02x}{:02x}{:02x}{:02x}…)"), a, b, c, d)
            }
        }
    };
}

hash_type!(
    /// The id of an entry: the hash of its author, collection and canonical encoding.
    EntryId
);
hash_type!(
    /// The hash of a batch's header, without its signature.
    HeaderHash
);
hash_type!(
    /// The root of the Merkle tree over a batch's entries.
    BatchRoot
);
hash_type!(
    /// A salted commitment to a value.
    Commitment
);
hash_type!(
    /// The hash of a checkpoint, by which batches name it.
    CutHash
);
hash_type!(
    /// The id of a proof of double signing.
    EvidenceId
);
hash_type!(
    /// The hash of all that a replica holds.
    StateRoot
);
