//! What users see: a pure function of the entries, the checkpoint and the time.

use std::collections::{BTreeMap, BTreeSet};

use exo_types::{PeerId, RecordId, Timestamp};

use super::Replica;
use crate::checkpoint::{CollectionKind, Standing, not_before};
use crate::clock::ahead;
use crate::dot::Dot;
use crate::entry::{Entry, Operation};
use crate::hash::EntryId;
use crate::stamp::Hlc;
use crate::writer::Observed;

/// A collection as it is seen at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The keys that have a value.
    pub keys: BTreeMap<RecordId, Visible>,
    /// Entries whose stamp is too far ahead: they are held, and seen later.
    pub deferred: usize,
    /// Entries of proven double signers that wait for a checkpoint.
    pub frozen: usize,
}

/// What is seen at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visible {
    /// The entry that counts.
    pub id: EntryId,
    /// Who wrote it.
    pub author: PeerId,
    /// When it counts from.
    pub effective: Hlc,
    /// What it wrote.
    pub operation: Operation,
    /// All writes that stand at the key: what the next write or removal observes.
    pub observed: Observed,
}

/// An entry with all that decides between it and others.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) id: EntryId,
    pub(super) dot: Dot,
    pub(super) effective: Hlc,
    pub(super) entry: &'a Entry,
}

impl Candidate<'_> {
    /// The total order of writes: effective time, author, number, id.
    fn order(&self) -> (Hlc, PeerId, u64, EntryId) {
        (self.effective, self.dot.author, self.dot.seq(), self.id)
    }

    fn is_put(&self) -> bool {
        matches!(self.entry.operation, Operation::Put { .. })
    }
}

impl Replica {
    /// The collection as it is seen at `now`: by two replicas with the same items and checkpoint alike.
    pub fn view(&self, now: Timestamp) -> View {
        let mut view = View::default();
        let mut candidates = self.candidates_under();
        for author in self.authors_above() {
            let frozen = self.evidence.accuses(&author);
            for candidate in self.candidates_above(author) {
                if frozen {
                    view.frozen += 1;
                } else if ahead(candidate.effective, now).is_some() {
                    view.deferred += 1;
                } else {
                    candidates.push(candidate);
                }
            }
        }
        for (key, group) in by_key(candidates) {
            if let Some(visible) = visible(self.cut.kind, &group) {
                view.keys.insert(key.clone(), visible);
            }
        }
        view
    }

    pub(super) fn candidates_under(&self) -> Vec<Candidate<'_>> {
        let of = |(id, effective): (&EntryId, &Hlc)| {
            let under = self.under.get(id)?;
            let dot = under.header.dot(under.index);
            Some(Candidate { id: *id, dot, effective: *effective, entry: &under.entry })
        };
        self.live.iter().filter_map(of).collect()
    }

    fn candidates_above(&self, author: PeerId) -> impl Iterator<Item = Candidate<'_>> {
        self.chain(author).flat_map(|(_, batch)| self.candidates_of(batch))
    }

    pub(super) fn candidates_of<'a>(
        &'a self,
        batch: &'a super::Above,
    ) -> impl Iterator<Item = Candidate<'a>> {
        let epoch_time = match self.cut.standing(self.cut_hash, batch.header.epoch_ref) {
            Standing::Known(time) => Some(time),
            Standing::Ahead | Standing::Void => None,
        };
        let entries = batch.ids.iter().zip(&batch.entries).zip(0..=u8::MAX);
        entries.filter_map(move |((id, entry), index)| {
            let effective = not_before(entry.stamp, epoch_time?);
            Some(Candidate { id: *id, dot: batch.header.dot(index), effective, entry })
        })
    }
}

/// Groups candidates by key.
pub(super) fn by_key(candidates: Vec<Candidate<'_>>) -> BTreeMap<&RecordId, Vec<Candidate<'_>>> {
    let mut groups: BTreeMap<&RecordId, Vec<Candidate<'_>>> = BTreeMap::new();
    for candidate in candidates {
        groups.entry(&candidate.entry.key).or_default().push(candidate);
    }
    groups
}

/// The entries of one key that later entries must still be held against.
///
/// `covered` says whether a dot is under the cut that is being made, `horizon` is that cut's.
pub(super) fn living<'a>(
    kind: CollectionKind,
    group: &[Candidate<'a>],
    covered: impl Fn(&Dot) -> bool,
    horizon: Hlc,
) -> Vec<Candidate<'a>> {
    match kind {
        CollectionKind::LastWriter => {
            let last = group.iter().max_by_key(|c| c.order()).copied();
            // No entry that can still come is before the horizon, so none loses to this tombstone.
            last.filter(|c| c.is_put() || c.effective > horizon).into_iter().collect()
        }
        CollectionKind::ObservedRemove => {
            let removed = removed(group);
            let stands = |c: &&Candidate<'_>| c.is_put() && !removed.contains(&c.dot);
            // What it observed and has not come yet would otherwise come back.
            let waits = |c: &&Candidate<'_>| {
                c.effective > horizon && c.entry.observed.iter().any(|dot| !covered(dot))
            };
            group.iter().filter(|c| stands(c) || waits(c)).copied().collect()
        }
        CollectionKind::GrowOnly => first(group).into_iter().collect(),
    }
}

pub(super) fn visible(kind: CollectionKind, group: &[Candidate<'_>]) -> Option<Visible> {
    let standing: Vec<_> = match kind {
        CollectionKind::LastWriter => {
            group.iter().max_by_key(|c| c.order()).filter(|c| c.is_put()).into_iter().collect()
        }
        CollectionKind::ObservedRemove => {
            let removed = removed(group);
            group.iter().filter(|c| c.is_put() && !removed.contains(&c.dot)).collect()
        }
        CollectionKind::GrowOnly => return first(group).map(|c| shown(&c, vec![c.dot])),
    };
    let mut observed: Vec<_> = standing.iter().map(|c| c.dot).collect();
    observed.sort_unstable();
    standing.into_iter().max_by_key(|c| c.order()).map(|c| shown(c, observed))
}

fn first<'a>(group: &[Candidate<'a>]) -> Option<Candidate<'a>> {
    group.iter().filter(|c| c.is_put()).min_by_key(|c| c.order()).copied()
}

/// The dots of one key that its entries observed. An entry says nothing about other keys.
fn removed(group: &[Candidate<'_>]) -> BTreeSet<Dot> {
    let own = |c: &Candidate<'_>, dot: &Dot| *dot != c.dot;
    group.iter().flat_map(|c| c.entry.observed.iter().filter(|dot| own(c, dot)).copied()).collect()
}

fn shown(candidate: &Candidate<'_>, dots: Vec<Dot>) -> Visible {
    // The one that counts is the last of those that stand; of a first write nothing else stands.
    let observed = Observed { dots, latest: candidate.effective };
    Visible {
        id: candidate.id,
        author: candidate.dot.author,
        effective: candidate.effective,
        operation: candidate.entry.operation,
        observed,
    }
}
