//! What goes into [`Shared`](super::Shared) and comes out of it.

use exo_crdt::stamp::Hlc;
use exo_crdt::{EntryId, StateRoot, WriteBatch};
use exo_types::{CollectionName, PeerId, RecordId};

use super::message::{Closed, ShareMessage};
use super::spec::Rights;
use crate::decide::Decision;

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Members, declarations or checkpoints are others from here on.
    Rights(Box<Rights>),
    /// Messages can be sent to a member, which proved who it is, from here on: none has been sent over this
    /// lane yet.
    Lane(PeerId),
    /// The lane is gone with everything that was on it.
    NoLane(PeerId),
    /// A member has opened another lane of its own: it knows of nothing that was under way before.
    Began(PeerId),
    /// A message came over a member's lane.
    Message {
        /// Whose.
        peer: PeerId,
        /// The message, decoded.
        message: ShareMessage,
    },
    /// One of the messages of [`Output::Send`] to this member has left: there is room for another.
    Sent(PeerId),
    /// Somebody here writes.
    Write {
        /// Comes back in [`Output::Done`].
        ticket: u64,
        /// The collection: an undeclared one is made.
        collection: CollectionName,
        /// The key.
        key: RecordId,
        /// What.
        change: Change,
    },
    /// Somebody here asks to destroy the values that were ever written at a key.
    Erase {
        /// Comes back in [`Output::Done`].
        ticket: u64,
        /// The collection.
        collection: CollectionName,
        /// The key.
        key: RecordId,
    },
    /// Every [`Output::Commit`] up to this number is on the disk.
    Saved(u64),
    /// Time has passed.
    Tick,
}

/// A write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This value.
    Put(Vec<u8>),
    /// No value any more.
    Remove,
}

/// What is to be done, or has happened.
#[derive(Clone, Debug)]
pub enum Output {
    /// Make this durable, whole or not at all, one after another by their numbers, and say so with
    /// [`Input::Saved`].
    Commit {
        /// From 1 on, without gaps.
        number: u64,
        /// Whose store.
        collection: CollectionName,
        /// What.
        write: WriteBatch,
        /// What it deletes must not be readable from the disk afterwards:
        /// [`Store::erase`](exo_crdt::Store::erase).
        erase: bool,
    },
    /// Send this over the member's lane, in order, and say when it has left with [`Input::Sent`]. There are
    /// never more than [`SHARED_WINDOW_MESSAGES`](exo_types::limits::SHARED_WINDOW_MESSAGES) of one member
    /// that have not.
    Send {
        /// To whom.
        peer: PeerId,
        /// What.
        message: ShareMessage,
    },
    /// Propose this to the voters. Whatever becomes of it shows in the next rights; it is said again when
    /// nothing does.
    Propose(Box<Decision>),
    /// A write or erasure was carried out, and is on the disk, or was not.
    Done {
        /// The caller's.
        ticket: u64,
        /// What came of it.
        result: Result<Written, ShareRefusal>,
    },
    /// A collection has changed.
    Changed {
        /// Which one.
        collection: CollectionName,
        /// The keys that were written to.
        keys: Vec<RecordId>,
        /// There are others.
        more: bool,
    },
    /// Something that an operator may want to know.
    Event(ShareEvent),
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// This entry.
    Entry(EntryId),
    /// Nothing: there was nothing to remove.
    Nothing,
    /// So many values were destroyed here.
    Erased(usize),
}

/// Why a caller is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareRefusal {
    /// There is no such collection, or it is not this member's to read.
    #[error("there is no shared collection {0}")]
    NoCollection(CollectionName),
    /// There are as many as there may be.
    #[error("there are too many shared collections")]
    TooManyCollections,
    /// This member may not write to it.
    #[error("this member may not write to {0}")]
    NotAWriter(CollectionName),
    /// Nothing is removed from a collection that only grows.
    #[error("{0} only grows: nothing is removed from it")]
    OnlyGrows(CollectionName),
    /// The value is too long.
    #[error("a value has at most {max} bytes, this one has {actual}")]
    TooLong {
        /// The bound, bytes.
        max: usize,
        /// The length, bytes.
        actual: usize,
    },
    /// As many writes wait as may.
    #[error("too many writes to {0} wait for the disk")]
    Busy(CollectionName),
    /// This member has signed as much above the checkpoint as others take.
    #[error(
        "this member has written as much to {0} as others take before its next checkpoint; a collection \
         has checkpoints once it is declared"
    )]
    Quota(CollectionName),
    /// Batches that this member has signed are missing here: signing further ones would make two histories.
    #[error("batches that this member wrote to {0} have not come back yet")]
    OwnHistory(CollectionName),
    /// The clock is at its end, or nothing could be signed.
    #[error("the write could not be signed: {0}")]
    Failed(String),
}

/// Something that an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareEvent {
    /// A member has signed two histories: the proof is held and passed on.
    TwoHistories {
        /// Of which collection.
        collection: CollectionName,
        /// Who.
        author: PeerId,
    },
    /// A member is not listened to for a while.
    CutOff {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: CutOff,
    },
    /// Things that came were not taken.
    Refused {
        /// Over whose lane.
        peer: PeerId,
        /// Of which collection.
        collection: CollectionName,
        /// Why.
        reason: Refused,
        /// How many.
        count: usize,
    },
    /// A session ended before its time.
    Closed {
        /// With whom.
        peer: PeerId,
        /// About what.
        collection: CollectionName,
        /// Why.
        reason: Closed,
    },
    /// A checkpoint was taken over.
    Adopted {
        /// Of which collection.
        collection: CollectionName,
        /// Its number.
        epoch: u64,
        /// This member's entries that came too late and were signed again.
        again: usize,
    },
    /// A checkpoint is due and cannot be proposed.
    NoCut {
        /// Of which collection.
        collection: CollectionName,
        /// Why.
        reason: String,
    },
}

/// Why a member is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CutOff {
    /// It broke the protocol of a session.
    Broken,
    /// It sent something with a signature or content that does not hold.
    Forged,
    /// It sent more than its share.
    TooMuch,
    /// Its sessions bring nothing and do not end.
    NeverEnds,
}

/// Why something that came was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// Its author never was a member, as far as is known here.
    Unknown,
    /// Its author may not write, or not any more.
    NoRight,
    /// It has more above the checkpoint than one author may.
    Quota,
    /// It does not hold.
    Forged,
}

/// A key as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The key.
    pub key: RecordId,
    /// The entry that counts.
    pub entry: EntryId,
    /// Who wrote it.
    pub author: PeerId,
    /// When it counts from.
    pub at: Hlc,
    /// The value; `None`: it was erased, or has not come yet.
    pub value: Option<Vec<u8>>,
}

/// A collection as its member sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectionView {
    /// Its name.
    pub name: CollectionName,
    /// What it is and whose.
    pub spec: super::ShareSpec,
    /// The log knows it.
    pub declared: bool,
    /// This member may write.
    pub writes: bool,
    /// The number of its checkpoint here.
    pub epoch: u64,
    /// The hash of everything held.
    pub root: StateRoot,
    /// Batches above the checkpoint.
    pub batches: usize,
    /// Entries held.
    pub entries: usize,
    /// Entries under the checkpoint that have not come yet.
    pub missing: usize,
    /// Members with two histories.
    pub accused: Vec<PeerId>,
    /// Where its other readers are.
    pub lag: Vec<Lag>,
}

/// Where another reader of a collection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Who.
    pub peer: PeerId,
    /// Messages can be sent to it.
    pub connected: bool,
    /// It holds the same, as far as it has said. `None`: it has not said anything yet.
    pub same: Option<bool>,
    /// Milliseconds since it last held the same, or was first heard of; 0 when it does.
    pub behind_millis: u64,
    /// Batches above the checkpoint that are held here beyond those it said it holds; less than zero when
    /// it holds more.
    pub behind_batches: i64,
    /// A synchronisation with it is under way.
    pub syncing: bool,
}
