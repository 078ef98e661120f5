//! Checkpoints: the cut that a quorum agreed on, and the filter that it is.
//!
//! # Requirements
//! Whoever hands a checkpoint in has seen to it that a quorum committed it and attested to **hold** every
//! batch under its cut, and that `time` is not behind an honest clock. This crate does not agree on
//! anything.
//!
//! # Why nothing comes back
//! An entry that is not under the cut counts only while it names one of the latest checkpoints, and then
//! its effective time is after that checkpoint's. A tombstone is dropped once it is not after the oldest
//! checkpoint that an entry may still name: whatever arrives later is after it, or void, or under the
//! cut and not alive. No age by any clock takes part.

use std::collections::BTreeMap;

use exo_crypto::Label;
use exo_types::codec::{CodecError, Wire, bound, invalid};
use exo_types::limits::{
    COLLECTION_NAME_BYTES_MAX, CRDT_STATE_BYTES_MAX, EPOCHS_LATE_MAX, LIVE_ENTRIES_MAX, MEMBERS_MAX,
};
use exo_types::{CollectionName, PeerId, Timestamp, bounded};
use serde::{Deserialize, Serialize};

use crate::batch::{BatchHeader, EpochRef};
use crate::hash::{CutHash, EntryId, HeaderHash, digest};
use crate::stamp::Hlc;
use crate::writer::ChainEnd;

/// What a shared collection's entries mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CollectionKind {
    /// Of each key the last write counts.
    LastWriter,
    /// A removal takes away the writes it observed; concurrent ones stay.
    ObservedRemove,
    /// The first write of each key counts and nothing is removed.
    GrowOnly,
}

/// A cut through a shared collection. The same bytes on every replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The collection.
    pub collection: CollectionName,
    /// What its entries mean.
    pub kind: CollectionKind,
    /// The checkpoint's number; 0 stands before the first one.
    pub epoch: u64,
    /// The time that was agreed, after that of every checkpoint before.
    pub time: Timestamp,
    /// The checkpoints before with their times, newest first, at most [`EPOCHS_LATE_MAX`].
    #[serde(deserialize_with = "bounded::list::<_, _, EPOCHS_LATE_MAX>")]
    pub recent: Vec<(CutHash, Timestamp)>,
    /// The last batch of each author that is under the cut, by author.
    #[serde(deserialize_with = "bounded::list::<_, _, MEMBERS_MAX>")]
    pub frontier: Vec<FrontierBatch>,
    /// Hash of the [`LiveSet`].
    pub live_root: [u8; 32],
    /// Entries in it.
    pub live_count: u64,
}

/// Where an author's chain stands under a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontierBatch {
    /// The author.
    pub author: PeerId,
    /// Its last batch under the cut.
    pub seq: u64,
    /// That batch's header. Of an author with two histories, this picks one.
    pub hash: HeaderHash,
    /// Entries up to there.
    pub total_entries: u64,
    /// Bytes up to there.
    pub total_bytes: u64,
}

/// How the checkpoint that a batch names stands to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is that one or one of the latest before it, of this time.
    Known(Timestamp),
    /// It is later: the batch is held, and counts when the checkpoint has come.
    Ahead,
    /// It is too old, or there never was one like it.
    Void,
}

/// What becomes of an entry under a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Kept,
    /// It is under the cut and superseded, or of the history that was not picked.
    Dead,
    /// It came too late: the checkpoint it names is too old. Its author signs it again as a new write.
    Void,
}

impl Checkpoint {
    /// What stands before the first checkpoint of a collection. Its hash is zeros.
    pub fn genesis(collection: CollectionName, kind: CollectionKind) -> Self {
        Self {
            collection,
            kind,
            epoch: 0,
            time: Timestamp(0),
            recent: Vec::new(),
            frontier: Vec::new(),
            live_root: LiveSet::default().root(),
            live_count: 0,
        }
    }

    /// The hash by which batches and later checkpoints name this one.
    ///
    /// # Errors
    /// [`CodecError`] for a checkpoint that breaks a rule.
    pub fn hash(&self) -> Result<CutHash, CodecError> {
        if self.epoch == 0 {
            return Ok(CutHash([0; 32]));
        }
        Ok(CutHash(digest(Label::CUT, &[&self.to_wire()?])))
    }

    /// Where an author's chain stands under the cut.
    pub fn end_of(&self, author: &PeerId) -> ChainEnd {
        match self.frontier.binary_search_by(|batch| batch.author.cmp(author)) {
            Ok(at) => {
                let FrontierBatch { seq, hash, total_entries, total_bytes, .. } = self.frontier[at];
                ChainEnd { seq, hash, total_entries, total_bytes }
            }
            Err(_) => ChainEnd::START,
        }
    }

    /// Whether a batch is under the cut, on whichever history.
    pub fn covers(&self, author: &PeerId, seq: u64) -> bool {
        seq <= self.end_of(author).seq
    }

    /// The filter: what becomes of an entry. It depends on the checkpoint and the entry alone, so
    /// filtering a union is the union of what was filtered, and filtering again changes nothing.
    pub fn fate(&self, own: CutHash, live: &LiveSet, header: &BatchHeader, id: &EntryId) -> Fate {
        if self.covers(&header.author, header.seq) {
            if live.contains(id) { Fate::Kept } else { Fate::Dead }
        } else if self.standing(own, header.epoch_ref) == Standing::Void {
            Fate::Void
        } else {
            Fate::Kept
        }
    }

    /// How a checkpoint that a batch names stands to this one, whose hash is `own`.
    pub fn standing(&self, own: CutHash, named: EpochRef) -> Standing {
        if named.epoch > self.epoch {
            return Standing::Ahead;
        }
        let own = (own, self.time);
        let mut latest = std::iter::once(&own).chain(&self.recent);
        let back = usize::try_from(self.epoch - named.epoch).ok();
        match back.and_then(|back| latest.nth(back)) {
            Some((hash, time)) if *hash == named.hash => Standing::Known(*time),
            _ => Standing::Void,
        }
    }

    /// The latest time of a tombstone that can be dropped: that of the oldest checkpoint that an entry
    /// may still name.
    pub fn horizon(&self) -> Hlc {
        let oldest = self.recent.last().map_or(self.time, |(_, time)| *time);
        end_of_milli(oldest)
    }

    /// Refuses a checkpoint that does not follow this one.
    ///
    /// # Errors
    /// [`CodecError::Invalid`] with the rule it breaks.
    pub fn check_next(&self, next: &Self) -> Result<(), CodecError> {
        let mut recent = vec![(self.hash()?, self.time)];
        recent.extend(&self.recent);
        recent.truncate(EPOCHS_LATE_MAX);
        if (&next.collection, next.kind) != (&self.collection, self.kind) {
            return Err(invalid("the checkpoint is of another collection"));
        }
        if Some(next.epoch) != self.epoch.checked_add(1) || next.time <= self.time {
            return Err(invalid("the checkpoint's number or time does not follow"));
        }
        if next.recent != recent {
            return Err(invalid("the checkpoint names other ones before it"));
        }
        if self.frontier.iter().any(|held| next.end_of(&held.author).seq < held.seq) {
            return Err(invalid("the checkpoint's cut goes back"));
        }
        Ok(())
    }
}

impl Wire for Checkpoint {
    const BYTES_MAX: usize =
        COLLECTION_NAME_BYTES_MAX + 128 + 48 * EPOCHS_LATE_MAX + (64 + 30) * MEMBERS_MAX;

    fn check(&self) -> Result<(), CodecError> {
        bound(self.recent.len(), EPOCHS_LATE_MAX)?;
        bound(self.frontier.len(), MEMBERS_MAX)?;
        if !self.frontier.is_sorted_by(|a, b| a.author < b.author) {
            return Err(invalid("the frontier must be sorted by author, without repeats"));
        }
        if !self.recent.is_sorted_by(|a, b| a.1 > b.1) {
            return Err(invalid("checkpoints before must be newest first"));
        }
        if self.frontier.iter().any(|batch| batch.seq == 0) {
            return Err(invalid("an author without batches is not in the frontier"));
        }
        if self.live_count > LIVE_ENTRIES_MAX as u64 {
            return Err(invalid("more entries live than are allowed"));
        }
        Ok(())
    }
}

/// The entries that live under a cut, each with the effective time that was fixed when it first came
/// under one: a stamp from the future is worth no more than the time that was agreed then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveSet {
    #[serde(deserialize_with = "bounded::map::<_, _, _, LIVE_ENTRIES_MAX>")]
    live: BTreeMap<EntryId, Hlc>,
}

impl LiveSet {
    /// Whether an entry lives.
    pub fn contains(&self, id: &EntryId) -> bool {
        self.live.contains_key(id)
    }

    /// An entry's fixed effective time.
    pub fn effective(&self, id: &EntryId) -> Option<Hlc> {
        self.live.get(id).copied()
    }

    /// The entries and times by id.
    pub fn iter(&self) -> impl Iterator<Item = (&EntryId, &Hlc)> {
        self.live.iter()
    }

    /// Entries in the set.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether nothing lives.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// The hash that a checkpoint carries: over the ids and times by id.
    pub fn root(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(Label::LIVE_SET.as_str());
        for (id, effective) in &self.live {
            hasher.update(&id.0);
            hasher.update(&effective.to_bits().to_be_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}

impl FromIterator<(EntryId, Hlc)> for LiveSet {
    fn from_iter<I: IntoIterator<Item = (EntryId, Hlc)>>(entries: I) -> Self {
        Self { live: entries.into_iter().collect() }
    }
}

impl Wire for LiveSet {
    const BYTES_MAX: usize = CRDT_STATE_BYTES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        bound(self.live.len(), LIVE_ENTRIES_MAX)
    }
}

/// The effective time of an entry that names a checkpoint of this time: after it, whatever the stamp.
pub fn not_before(stamp: Hlc, epoch_time: Timestamp) -> Hlc {
    if epoch_time.0 == 0 { stamp } else { stamp.max(Hlc::at(epoch_time.plus_millis(1))) }
}

/// The last point of a millisecond.
pub(crate) fn end_of_milli(time: Timestamp) -> Hlc {
    Hlc::new(time.0, u16::MAX)
}
