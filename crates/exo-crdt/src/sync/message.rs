//! What synchronising replicas say to each other.

use exo_crypto::Signed;
use exo_types::bounded;
use exo_types::codec::{CodecError, Wire, bound};
use exo_types::limits::{BATCH_ENTRIES_MAX, MEMBERS_MAX, SYNC_MESSAGE_BYTES_MAX, SYNC_WANTS_MAX};
use serde::{Deserialize, Serialize};

use super::set::{Opening, SetMessage};
use super::short::Nonce;
use crate::batch::{Batch, BatchHeader, ShownEntry};
use crate::entry::{Entry, Value};
use crate::evidence::Evidence;
use crate::hash::StateRoot;
use crate::merkle::InclusionPath;

/// A message of a synchronisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncMessage {
    /// The asker: what it holds, in a hash.
    Hello {
        /// [`Replica::state_root`](crate::replica::Replica::state_root).
        root: StateRoot,
        /// Number of its checkpoint.
        epoch: u64,
        /// Its part of the key.
        nonce: Nonce,
    },
    /// The answerer: we hold the same.
    Same,
    /// The answerer: our checkpoints differ. Whose is older takes the newer one over first.
    Epoch(u64),
    /// The answerer: where its chains end, and a sketch of the rest.
    Differs {
        /// Chains above the cut that are unbroken and not of double signers.
        #[serde(deserialize_with = "bounded::list::<_, _, MEMBERS_MAX>")]
        tips: Vec<ChainTip>,
        /// Of everything else.
        rest: Opening,
    },
    /// The asker: its own chains' ends where they differ.
    Tips(#[serde(deserialize_with = "bounded::list::<_, _, MEMBERS_MAX>")] Vec<ChainTip>),
    /// About the rest.
    Set(SetMessage),
    /// What the sender lacks, by the first four bytes of the short ids, and the authors of whom it wants
    /// everything above the cut.
    Want {
        /// Items.
        #[serde(deserialize_with = "bounded::list::<_, _, SYNC_WANTS_MAX>")]
        shorts: Vec<u32>,
        /// Authors, by [`ChainTip::author`].
        #[serde(deserialize_with = "bounded::list::<_, _, MEMBERS_MAX>")]
        authors: Vec<[u8; 8]>,
    },
    /// What the receiver lacks.
    Items(#[serde(deserialize_with = "bounded::list::<_, _, ITEMS_MAX>")] Vec<Item>),
    /// The sender has sent everything that was asked for.
    Done,
}

/// Where an author's chain ends: at most 28 bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainTip {
    /// The first eight bytes of the author's id.
    pub author: [u8; 8],
    /// The last batch.
    pub seq: u64,
    /// The first sixteen bytes of its hash. Two histories that agree in them would take 2^64 work, and
    /// their author could only hide its own double signing from this comparison, not from the root.
    pub hash: [u8; 16],
}

/// Something that a replica holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// A batch above the cut, with the values that the sender has, each with the index of its entry.
    Batch {
        /// The batch.
        batch: Batch,
        /// Values.
        #[serde(deserialize_with = "bounded::list::<_, _, BATCH_ENTRIES_MAX>")]
        values: Vec<(u8, Value)>,
    },
    /// A void batch above the cut.
    Void(Signed<BatchHeader>),
    /// Entries of one batch under the cut.
    Shown(ShownGroup),
    /// A proof of double signing.
    Evidence(Evidence),
}

/// Entries of one batch with their proofs, under its header once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownGroup {
    /// The header.
    pub header: Signed<BatchHeader>,
    /// Index, entry, proof and, where the sender has it, value.
    #[serde(deserialize_with = "bounded::list::<_, _, BATCH_ENTRIES_MAX>")]
    pub entries: Vec<(u8, Entry, InclusionPath, Option<Value>)>,
}

impl ShownGroup {
    /// The entries one by one, each with its value.
    pub fn entries(self) -> impl Iterator<Item = (ShownEntry, Option<Value>)> {
        let header = self.header;
        self.entries.into_iter().map(move |(index, entry, path, value)| {
            (ShownEntry { header: header.clone(), entry, index, path }, value)
        })
    }
}

impl Item {
    /// About how many bytes the item has on the wire.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Batch { batch, values } => {
                let values = values.iter().map(|(_, value)| value.bytes.len() + 40);
                HEADER_BYTES
                    + batch.entries.iter().map(entry_bytes).sum::<usize>()
                    + values.sum::<usize>()
            }
            Self::Void(_) => HEADER_BYTES,
            Self::Shown(_) => HEADER_BYTES + self.bytes_joined(),
            Self::Evidence(_) => 2 * HEADER_BYTES,
        }
    }

    /// The same without the header, which stands there already where the entries join others of their batch.
    pub(crate) fn bytes_joined(&self) -> usize {
        let Self::Shown(group) = self else { return self.bytes() };
        let one = |(_, entry, path, value): &(u8, Entry, InclusionPath, Option<Value>)| {
            let value = value.as_ref().map_or(0, |value| value.bytes.len() + 40);
            entry_bytes(entry) + 32 * path.0.len() + 2 + value
        };
        group.entries.iter().map(one).sum()
    }

    /// Whether another item's entries are of the same batch and find room beside those of this one.
    pub(crate) fn takes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Shown(group), Self::Shown(other)) => {
                group.entries.len() < BATCH_ENTRIES_MAX && group.header == other.header
            }
            _ => false,
        }
    }

    fn check(&self) -> Result<(), CodecError> {
        match self {
            Self::Batch { batch, values } => {
                batch.check()?;
                values.iter().try_for_each(|(_, value)| value.check())
            }
            Self::Void(header) => header.check(),
            Self::Shown(group) => {
                group.header.check()?;
                group.entries.iter().try_for_each(|(_, entry, path, value)| {
                    entry.check()?;
                    path.check()?;
                    value.as_ref().map_or(Ok(()), Value::check)
                })
            }
            Self::Evidence(evidence) => evidence.check(),
        }
    }
}

impl Wire for SyncMessage {
    const BYTES_MAX: usize = SYNC_MESSAGE_BYTES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        match self {
            Self::Hello { .. } | Self::Same | Self::Epoch(_) | Self::Done => Ok(()),
            Self::Differs { tips, .. } | Self::Tips(tips) => bound(tips.len(), MEMBERS_MAX),
            Self::Set(message) => message.check(),
            Self::Want { shorts, authors } => {
                bound(shorts.len(), SYNC_WANTS_MAX)?;
                bound(authors.len(), MEMBERS_MAX)
            }
            Self::Items(items) => {
                bound(items.len(), ITEMS_MAX)?;
                items.iter().try_for_each(Item::check)
            }
        }
    }
}

/// The id as short as it stands in a tip.
pub(crate) fn tip_author(author: &exo_types::PeerId) -> [u8; 8] {
    let mut short = [0; 8];
    short.copy_from_slice(&author.as_bytes()[..8]);
    short
}

fn entry_bytes(entry: &Entry) -> usize {
    64 + entry.key.as_str().len() + 40 * entry.observed.len()
}

const HEADER_BYTES: usize = 3_550;
/// Items in one message.
pub(crate) const ITEMS_MAX: usize = 4096;
