//! Who reads and writes a shared collection, as the log has decided it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use exo_crdt::{Author, Authors, Checkpoint, CollectionKind};
use exo_types::codec::{CodecError, Wire, bound, invalid};
use exo_types::limits::{SHARE_MEMBERS_MAX, UPDATE_BYTES_MAX};
use exo_types::{CollectionName, PeerId, bounded};
use serde::{Deserialize, Serialize};

use crate::roster::{Roster, Standing};

/// Which members may do something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Every active member.
    All,
    /// Those of these that are active members, in the order of their ids.
    Only(#[serde(deserialize_with = "bounded::list::<_, _, SHARE_MEMBERS_MAX>")] Vec<PeerId>),
}

/// What a shared collection is, and whose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareSpec {
    /// What its entries mean. It never changes.
    pub kind: CollectionKind,
    /// Who is told of it and gets it.
    pub readers: Access,
    /// Whose entries count. Writers are readers.
    pub writers: Access,
}

impl Access {
    /// These members, in order and each once.
    pub fn only(members: impl IntoIterator<Item = PeerId>) -> Self {
        let members: BTreeSet<_> = members.into_iter().collect();
        Self::Only(members.into_iter().collect())
    }

    /// Whether it holds for a member, if that is active.
    pub fn allows(&self, peer: &PeerId) -> bool {
        match self {
            Self::All => true,
            Self::Only(members) => members.binary_search(peer).is_ok(),
        }
    }

    /// Those that are named.
    pub fn named(&self) -> &[PeerId] {
        match self {
            Self::All => &[],
            Self::Only(members) => members,
        }
    }

    fn check(&self) -> Result<(), CodecError> {
        bound(self.named().len(), SHARE_MEMBERS_MAX)?;
        if self.named().is_sorted_by(|a, b| a < b) {
            Ok(())
        } else {
            Err(invalid("members are named in order, each once"))
        }
    }
}

impl ShareSpec {
    /// What an undeclared collection is: every member reads and writes it, and of each key the last write
    /// counts.
    pub const OPEN: Self =
        Self { kind: CollectionKind::LastWriter, readers: Access::All, writers: Access::All };
}

impl Default for ShareSpec {
    fn default() -> Self {
        Self::OPEN
    }
}

impl Wire for ShareSpec {
    const BYTES_MAX: usize = UPDATE_BYTES_MAX - 128;

    fn check(&self) -> Result<(), CodecError> {
        self.readers.check()?;
        self.writers.check()?;
        let read = match (&self.readers, &self.writers) {
            (Access::All, _) => true,
            (Access::Only(_), Access::All) => false,
            (Access::Only(_), Access::Only(writers)) => {
                writers.iter().all(|writer| self.readers.allows(writer))
            }
        };
        if read { Ok(()) } else { Err(invalid("who writes a collection reads it")) }
    }
}

/// What the log knows of one collection.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Terms {
    /// What it is and whose.
    pub spec: ShareSpec,
    /// The last checkpoint that took effect.
    pub cut: Option<Arc<Checkpoint>>,
    /// Who was removed, or lost the right to write, since then. What they write counts until the next
    /// checkpoint.
    pub leaving: BTreeSet<PeerId>,
    /// Of those who have lost it before a checkpoint took effect: the last of their batches under the first
    /// that did.
    pub ended: BTreeMap<PeerId, u64>,
}

impl Terms {
    /// The number of the last checkpoint that took effect.
    pub fn epoch(&self) -> u64 {
        self.cut.as_ref().map_or(0, |cut| cut.epoch)
    }

    /// Whether a member's writes count without an end: it is active and may write.
    fn writes(&self, roster: &Roster, peer: &PeerId) -> bool {
        roster.standing(peer) == Standing::Active && self.spec.writers.allows(peer)
    }

    /// The last batch of a member or former member that counts; `None`: all do.
    pub fn last_seq(&self, roster: &Roster, peer: &PeerId) -> Option<u64> {
        if self.writes(roster, peer) || self.leaving.contains(peer) {
            return None;
        }
        Some(self.ended.get(peer).copied().unwrap_or(0))
    }

    /// A member was removed.
    pub(crate) fn removed(&mut self, peer: &PeerId) {
        if self.spec.writers.allows(peer) {
            self.leaving.insert(*peer);
        }
    }

    /// Others read and write from here on.
    pub(crate) fn respecify(&mut self, roster: &Roster, spec: ShareSpec) {
        for (peer, _) in roster.active() {
            match (self.spec.writers.allows(peer), spec.writers.allows(peer)) {
                (true, false) => drop(self.leaving.insert(*peer)),
                (_, true) => {
                    self.leaving.remove(peer);
                    self.ended.remove(peer);
                }
                (false, false) => {}
            }
        }
        self.spec = spec;
    }

    /// A checkpoint takes effect: the histories of those who left end with it.
    pub(crate) fn cut(&mut self, cut: Arc<Checkpoint>) {
        for peer in std::mem::take(&mut self.leaving) {
            self.ended.insert(peer, cut.end_of(&peer).seq);
        }
        self.cut = Some(cut);
    }
}

/// Who may do what with shared collections: a function of the founder's roster, or of the log.
#[derive(Clone, Debug)]
pub struct Rights {
    /// The members, present and past.
    pub roster: Arc<Roster>,
    /// The collections that the log knows.
    pub terms: Arc<BTreeMap<CollectionName, Terms>>,
    /// Who has a seat. Empty before the constitution.
    pub seats: BTreeSet<PeerId>,
    /// Checkpoints that voters have proposed and that have not taken effect.
    pub proposed: Vec<(PeerId, Arc<Checkpoint>)>,
}

static OPEN_TERMS: LazyLock<Terms> = LazyLock::new(Terms::default);

impl Rights {
    /// Those before the constitution: there are no declared collections and no checkpoints.
    pub fn founding(roster: Arc<Roster>) -> Self {
        Self { roster, terms: Arc::default(), seats: BTreeSet::new(), proposed: Vec::new() }
    }

    /// What is known of a collection: of one that the log does not know, that it is
    /// [open](ShareSpec::OPEN).
    pub fn terms(&self, collection: &CollectionName) -> &Terms {
        self.terms.get(collection).unwrap_or(&OPEN_TERMS)
    }

    /// Whether the log knows a collection.
    pub fn knows(&self, collection: &CollectionName) -> bool {
        self.terms.contains_key(collection)
    }

    /// Whether a peer may know of a collection and have it.
    pub fn reads(&self, collection: &CollectionName, peer: &PeerId) -> bool {
        self.roster.standing(peer) == Standing::Active
            && self.terms(collection).spec.readers.allows(peer)
    }

    /// Whether a peer may write to a collection now.
    pub fn writes(&self, collection: &CollectionName, peer: &PeerId) -> bool {
        self.terms(collection).writes(&self.roster, peer)
    }

    /// Whose entries of a collection count, and up to where.
    pub fn authors(&self, collection: &CollectionName) -> Writers<'_> {
        let known = self.terms.get(collection);
        Writers { roster: &self.roster, terms: known }
    }
}

/// Whose entries of one collection count.
#[derive(Clone, Copy, Debug)]
pub struct Writers<'a> {
    roster: &'a Roster,
    /// `None`: every member's, and those that a removed one has signed, for there is nothing yet that
    /// says which these are.
    terms: Option<&'a Terms>,
}

impl Authors for Writers<'_> {
    fn author(&self, id: &PeerId) -> Option<Author<'_>> {
        let member = self.roster.member(id)?;
        let last_seq = self.terms.and_then(|terms| terms.last_seq(self.roster, id));
        Some(Author { key: &member.key, last_seq })
    }
}
