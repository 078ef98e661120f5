//! What stands in the log: each update as a leaf, and a seal after each batch.
//!
//! Checkpoints are made after seals alone, so the last leaf under a certified root tells which batch it
//! is, in which epoch, and whether the epoch ends there: a size proves its sequence number.

use std::ops::Deref;
use std::sync::Arc;

use exo_types::codec::{CodecError, Wire, bound, encode_onto};
use exo_types::limits::{
    BATCH_BUNDLES_MAX, BATCH_BYTES_MAX, BUNDLE_UPDATES_MAX, LOG_ENTRY_BYTES_MAX, UPDATE_BYTES_MAX,
};
use exo_types::{Epoch, PeerId, Sequence, bounded};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::blob::{Digest, Root};
use crate::ledger::Ledger;
use crate::update::Update;
use crate::voter::Change;

/// One leaf of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Entry {
    /// A committed update.
    Update(Logged),
    /// The end of a batch.
    Seal(Seal),
}

/// A committed update and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Logged {
    /// Who asked for it.
    pub member: PeerId,
    /// The number of its bundle among the member's.
    pub number: u64,
    /// Its place in the bundle.
    pub index: u32,
    /// The update.
    pub update: Update,
}

/// What ends a batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seal {
    /// The epoch in which the batch was committed.
    pub epoch: Epoch,
    /// Its place.
    pub sequence: Sequence,
    /// Its name.
    pub digest: Digest,
    /// Set when the epoch ends with this batch.
    pub turn: Option<Turn>,
}

/// Why an epoch ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Turn {
    /// A quorum wishes for this change of who votes.
    Change(Change),
    /// A voter that lost its journal comes back; nothing else changes.
    Rejoin {
        /// Who.
        member: PeerId,
        /// Of its request.
        nonce: u64,
    },
}

/// All leaves of one batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LoggedBatch {
    /// The updates in order.
    #[serde(deserialize_with = "bounded::list::<_, _, BATCH_UPDATES_MAX>")]
    pub updates: Vec<Logged>,
    /// The seal after them.
    pub seal: Seal,
}

/// A place in the log that can be certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Point {
    /// The last batch before it.
    pub sequence: Sequence,
    /// Leaves before it.
    pub size: u64,
    /// Root over them.
    pub root: Root,
}

impl LoggedBatch {
    /// The leaves as they are hashed, in order.
    pub fn leaves(&self) -> impl Iterator<Item = Vec<u8>> {
        let updates = self.updates.iter().map(Leaf::Update);
        updates.chain(std::iter::once(Leaf::Seal(&self.seal))).map(|leaf| {
            let mut bytes = Vec::with_capacity(leaf.room());
            // What was checked on its way in encodes.
            let _ = encode_onto(&mut bytes, &leaf);
            bytes
        })
    }

    /// How many leaves.
    pub fn size(&self) -> u64 {
        self.updates.len() as u64 + 1
    }

    /// Length that counts towards the bounds, bytes.
    pub fn bytes(&self) -> usize {
        128 + self.updates.iter().map(|logged| 48 + logged.update.bytes()).sum::<usize>()
    }

    /// Checks the bounds that the encoding alone does not.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn check(&self) -> Result<(), CodecError> {
        bound(self.updates.len(), BATCH_UPDATES_MAX)?;
        let bytes = self.updates.iter().map(|logged| logged.update.bytes()).sum();
        bound(bytes, BATCH_BYTES_MAX)
    }
}

/// An [`Entry`] that is another's, with the same encoding.
#[derive(Serialize)]
enum Leaf<'a> {
    Update(&'a Logged),
    Seal(&'a Seal),
}

impl Leaf<'_> {
    fn room(&self) -> usize {
        match self {
            Self::Update(logged) => 64 + logged.update.bytes(),
            Self::Seal(_) => 64,
        }
    }
}

/// A batch on its way into the log. One that was just carried out has with it what is needed more than
/// once, its record's encoding and the hashes of its leaves; one that was read back has neither. It is
/// encoded and compared as the batch alone.
#[derive(Clone, Debug)]
pub struct Appended {
    batch: Arc<LoggedBatch>,
    made: Arc<Made>,
}

/// See [`Appended`].
#[derive(Debug, Default)]
struct Made {
    record: Vec<u8>,
    leaves: Vec<Root>,
}

impl Appended {
    /// Encodes and hashes a batch. Leaves of one bundle begin alike, with the member and the number.
    pub(crate) fn hashed<L: Ledger>(batch: Arc<LoggedBatch>) -> Self {
        let mut record = Vec::with_capacity(batch.bytes());
        let mut leaves = Vec::with_capacity(batch.updates.len() + 1);
        record.push(APPEND);
        // What was checked on its way in encodes.
        let _ = encode_onto(&mut record, &batch.updates.len());
        let mut leaf = Vec::new();
        let mut bundle = None;
        let mut begun = 0;
        for logged in &batch.updates {
            let Logged { member, number, index, update } = logged;
            if bundle != Some((member, number)) {
                bundle = Some((member, number));
                leaf.clear();
                leaf.push(ENTRY_UPDATE);
                let _ = encode_onto(&mut leaf, &(member, number));
                begun = leaf.len();
            }
            leaf.truncate(begun);
            let _ = encode_onto(&mut leaf, &(index, update));
            leaves.push(L::leaf_hash(&leaf));
            record.extend_from_slice(&leaf[1..]);
        }
        leaf.clear();
        let _ = encode_onto(&mut leaf, &Leaf::Seal(&batch.seal));
        leaves.push(L::leaf_hash(&leaf));
        record.extend_from_slice(&leaf[1..]);
        Self { batch, made: Arc::new(Made { record, leaves }) }
    }

    /// The batch.
    pub fn batch(&self) -> &Arc<LoggedBatch> {
        &self.batch
    }

    /// Hashes of the leaves, in order; none where the batch was read back.
    pub fn leaf_hashes(&self) -> &[Root] {
        &self.made.leaves
    }

    /// The encoding of the record with which the batch is appended; empty where it was read back.
    pub(crate) fn record(&self) -> &[u8] {
        &self.made.record
    }

    /// The batch as a value.
    pub fn into_batch(self) -> LoggedBatch {
        Arc::unwrap_or_clone(self.batch)
    }
}

impl From<LoggedBatch> for Appended {
    fn from(batch: LoggedBatch) -> Self {
        Self { batch: Arc::new(batch), made: Arc::default() }
    }
}

impl Deref for Appended {
    type Target = LoggedBatch;

    fn deref(&self) -> &LoggedBatch {
        &self.batch
    }
}

impl PartialEq for Appended {
    fn eq(&self, other: &Self) -> bool {
        self.batch == other.batch
    }
}

impl Eq for Appended {}

impl Serialize for Appended {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.batch.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Appended {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        LoggedBatch::deserialize(deserializer).map(Self::from)
    }
}

impl Wire for Entry {
    const BYTES_MAX: usize = UPDATE_BYTES_MAX + 256;

    fn check(&self) -> Result<(), CodecError> {
        Ok(())
    }
}

/// Updates in one batch: as many as the shortest ones that fill it.
pub const BATCH_UPDATES_MAX: usize = {
    let by_bytes = BATCH_BYTES_MAX / 16;
    let by_bundles = BATCH_BUNDLES_MAX * BUNDLE_UPDATES_MAX;
    if by_bytes < by_bundles { by_bytes } else { by_bundles }
};

const _: () = assert!(Entry::BYTES_MAX <= LOG_ENTRY_BYTES_MAX);

/// Number of [`Entry::Update`] in its encoding.
const ENTRY_UPDATE: u8 = 0;
/// Number of [`Record::Append`](crate::Record::Append) in its encoding.
const APPEND: u8 = 8;

#[cfg(all(test, feature = "sim"))]
mod tests {
    use super::*;
    use crate::blob::Blob;
    use crate::guard::Record;
    use crate::sim::Tree;

    fn logged(member: u8, number: u64, index: u32, update: Update) -> Logged {
        Logged { member: PeerId::new([member; 32]), number, index, update }
    }

    #[test]
    fn what_is_made_of_a_batch_at_once_is_what_each_part_is_by_itself() {
        let data = |len| Update::Data(Blob::new(vec![7; len]).expect("short"));
        let updates = vec![
            logged(1, 200, 0, data(0)),
            logged(1, 200, 1, data(300)),
            logged(1, 201, 0, Update::Rejoin { nonce: u64::MAX }),
            logged(2, 201, 0, data(127)),
            logged(2, 201, 130, Update::Wish(Change::Remove(PeerId::new([3; 32])))),
        ];
        let turn = Some(Turn::Rejoin { member: PeerId::new([1; 32]), nonce: 5 });
        let seal =
            Seal { epoch: Epoch(9), sequence: Sequence(1000), digest: Digest([4; 32]), turn };
        for updates in [updates, Vec::new()] {
            let batch = LoggedBatch { updates, seal: seal.clone() };
            let entries = batch.updates.iter().cloned().map(Entry::Update);
            let entries: Vec<Vec<u8>> = entries
                .chain([Entry::Seal(seal.clone())])
                .map(|entry| entry.to_wire().expect("encodes"))
                .collect();
            assert_eq!(batch.leaves().collect::<Vec<_>>(), entries);
            let plain = Record::Append(batch.clone().into());
            assert!(
                plain.encoded().expect("encodes").as_ref() == plain.to_wire().expect("encodes")
            );
            let made = Appended::hashed::<Tree>(Arc::new(batch));
            let hashes: Vec<Root> = entries.iter().map(|leaf| Tree::leaf_hash(leaf)).collect();
            assert_eq!(made.leaf_hashes(), hashes);
            let made = Record::Append(made);
            assert!(matches!(made.encoded(), Ok(std::borrow::Cow::Borrowed(_))));
            assert_eq!(
                made.encoded().expect("encodes").as_ref(),
                plain.to_wire().expect("encodes")
            );
        }
    }
}
