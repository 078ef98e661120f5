//! Entries: the signed writes of a shared collection, each named by the hash of its encoding.

use exo_crypto::Label;
use exo_types::codec::{CodecError, Wire, bound, invalid};
use exo_types::limits::{ENTRY_BYTES_MAX, ENTRY_VALUE_BYTES_MAX, OBSERVED_DOTS_MAX};
use exo_types::{CollectionName, PeerId, RecordId, bounded};
use serde::{Deserialize, Serialize};

use crate::dot::Dot;
use crate::hash::{Commitment, EntryId, digest};
use crate::stamp::Hlc;

/// One write. Its author and collection stand once, in the header of its batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What is written to.
    pub key: RecordId,
    /// What is written.
    pub operation: Operation,
    /// When, by the author's clock.
    pub stamp: Hlc,
    /// The entries of this key that the author had seen and this one supersedes: sorted, no repeats.
    #[serde(deserialize_with = "bounded::list::<_, _, OBSERVED_DOTS_MAX>")]
    pub observed: Vec<Dot>,
}

/// What an entry does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Writes a value, which is not part of the entry: it can be erased and the entry stay.
    Put {
        /// The salted commitment to the value.
        commitment: Commitment,
        /// Length of the value, bytes.
        value_bytes: u32,
    },
    /// Removes the key, or of an observed-remove collection the entries observed.
    Remove,
}

impl Entry {
    /// The entry's id: who wrote what, where. The encoding of author and collection is that of the
    /// codec, so that nothing runs into each other.
    ///
    /// # Errors
    /// [`CodecError`] for an entry that breaks a rule.
    pub fn id(&self, author: &PeerId, collection: &CollectionName) -> Result<EntryId, CodecError> {
        Ok(Self::id_of(author, collection, &self.to_wire()?))
    }

    /// The id of an entry by its canonical encoding.
    pub(crate) fn id_of(author: &PeerId, collection: &CollectionName, encoding: &[u8]) -> EntryId {
        let name = collection.as_str().as_bytes();
        // A collection's name has at most 64 bytes, so its length is one byte, as the codec writes it.
        let length = [u8::try_from(name.len()).unwrap_or(u8::MAX)];
        EntryId(digest(Label::ENTRY_ID, &[author.as_bytes(), &length, name, encoding]))
    }

    /// Bytes that the value behind the entry has; 0 for a removal.
    pub fn value_bytes(&self) -> u32 {
        match self.operation {
            Operation::Put { value_bytes, .. } => value_bytes,
            Operation::Remove => 0,
        }
    }
}

impl Wire for Entry {
    const BYTES_MAX: usize = ENTRY_BYTES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        bound(self.value_bytes() as usize, ENTRY_VALUE_BYTES_MAX)?;
        bound(self.observed.len(), OBSERVED_DOTS_MAX)?;
        if self.observed.is_sorted_by(|a, b| a < b) {
            Ok(())
        } else {
            Err(invalid("observed dots must be sorted and without repeats"))
        }
    }
}

/// A value with the salt of its commitment: what erasure destroys.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// Random bytes of this value alone, so that a guess cannot be checked against the commitment.
    pub salt: [u8; 32],
    /// The value.
    #[serde(
        serialize_with = "bounded::write_bytes",
        deserialize_with = "bounded::bytes::<_, ENTRY_VALUE_BYTES_MAX>"
    )]
    pub bytes: Vec<u8>,
}

impl Value {
    /// The commitment that an entry carries.
    pub fn commitment(&self) -> Commitment {
        Commitment(digest(Label::VALUE_COMMITMENT, &[&self.salt, &self.bytes]))
    }

    /// The operation that writes this value.
    pub fn put(&self) -> Operation {
        let value_bytes = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        Operation::Put { commitment: self.commitment(), value_bytes }
    }

    /// Whether this is the value that an entry commits to.
    pub fn opens(&self, entry: &Entry) -> bool {
        self.bytes.len() <= ENTRY_VALUE_BYTES_MAX && self.put() == entry.operation
    }
}

impl Wire for Value {
    const BYTES_MAX: usize = 32 + 5 + ENTRY_VALUE_BYTES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        bound(self.bytes.len(), ENTRY_VALUE_BYTES_MAX)
    }
}

// Values are users' data and stay out of logs.
impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({} bytes)", self.bytes.len())
    }
}
