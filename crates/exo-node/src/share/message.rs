//! What members say to each other about shared collections. The encoding is in
//! `docs/protocol/replication.md`.

use exo_crdt::stamp::Hlc;
use exo_crdt::sync::SyncMessage;
use exo_crdt::{CutHash, EntryId, StateRoot, Value};
use exo_types::codec::{CodecError, Wire, bound, invalid};
use exo_types::limits::{
    FRAME_BYTES_MAX, SHARED_ERASED_PER_MESSAGE_MAX, SHARED_LIVE_PIECE_ENTRIES, SHARED_VALUES_MAX,
};
use exo_types::{CollectionName, RecordId, bounded};
use serde::{Deserialize, Serialize};

/// A message about shared collections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShareMessage {
    /// What the sender holds.
    News {
        /// Of which collection.
        collection: CollectionName,
        /// The state.
        state: Held,
    },
    /// The sender asks to synchronise. Its first message of the session follows.
    Open {
        /// The session's number, by which both name it until it is closed: even from the member with the
        /// lesser id, odd from the other.
        session: u64,
        /// The collection.
        collection: CollectionName,
        /// Drawn for this session: the key of its short ids.
        secret: [u8; 32],
    },
    /// A message of a session.
    Sync {
        /// Which session.
        session: u64,
        /// The message.
        message: SyncMessage,
    },
    /// A session ends before its time, or does not begin.
    Close {
        /// Which one.
        session: u64,
        /// Why.
        reason: Closed,
    },
    /// The sender asks which entries live under a checkpoint.
    AskLive {
        /// Of which collection.
        collection: CollectionName,
        /// The checkpoint.
        cut: CutHash,
        /// How many it has.
        from: u64,
    },
    /// Entries that live under a checkpoint with their effective times, by id; none: the sender is not at
    /// that checkpoint.
    Live {
        /// Of which collection.
        collection: CollectionName,
        /// The checkpoint.
        cut: CutHash,
        /// How many come before these.
        from: u64,
        /// So many as fit.
        #[serde(deserialize_with = "bounded::list::<_, _, SHARED_LIVE_PIECE_ENTRIES>")]
        entries: Vec<(EntryId, Hlc)>,
    },
    /// The author of these entries asks to destroy the values behind them.
    Erase {
        /// Of which collection.
        collection: CollectionName,
        /// Entries of the sender, with their keys.
        #[serde(deserialize_with = "bounded::list::<_, _, SHARED_ERASED_PER_MESSAGE_MAX>")]
        entries: Vec<(RecordId, EntryId)>,
    },
    /// The sender lacks the values behind these entries.
    AskValues {
        /// Of which collection.
        collection: CollectionName,
        /// Entries, with their keys.
        #[serde(deserialize_with = "bounded::list::<_, _, SHARED_VALUES_MAX>")]
        entries: Vec<(RecordId, EntryId)>,
    },
    /// Values of those that were asked for.
    Values {
        /// Of which collection.
        collection: CollectionName,
        /// Each with its key and entry.
        #[serde(deserialize_with = "bounded::list::<_, _, SHARED_VALUES_MAX>")]
        values: Vec<(RecordId, EntryId, Value)>,
    },
}

/// What somebody holds of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The hash of everything.
    pub root: StateRoot,
    /// The checkpoint's number.
    pub epoch: u64,
    /// Batches above it.
    pub batches: u64,
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Closed {
    /// There is no such collection for the other end.
    Unknown,
    /// There is a session about the collection already, or there are too many.
    Busy,
    /// It took too long.
    TimedOut,
    /// The other end did not keep to the protocol.
    Broken,
}

impl ShareMessage {
    /// Whether it is about a session that has begun.
    pub(super) fn of_session(&self) -> bool {
        matches!(self, Self::Sync { .. } | Self::Close { .. })
    }
}

impl Wire for ShareMessage {
    const BYTES_MAX: usize = FRAME_BYTES_MAX - 512;

    fn check(&self) -> Result<(), CodecError> {
        match self {
            Self::Sync { message, .. } => message.check(),
            Self::Live { entries, .. } => {
                bound(entries.len(), SHARED_LIVE_PIECE_ENTRIES)?;
                match entries.is_sorted_by(|a, b| a.0 < b.0) {
                    true => Ok(()),
                    false => Err(invalid("live entries come by id, each once")),
                }
            }
            Self::Erase { entries, .. } => bound(entries.len(), SHARED_ERASED_PER_MESSAGE_MAX),
            Self::AskValues { entries, .. } => bound(entries.len(), SHARED_VALUES_MAX),
            Self::Values { values, .. } => {
                bound(values.len(), SHARED_VALUES_MAX)?;
                values.iter().try_for_each(|(.., value)| value.check())
            }
            Self::News { .. } | Self::Open { .. } | Self::Close { .. } | Self::AskLive { .. } => {
                Ok(())
            }
        }
    }
}
