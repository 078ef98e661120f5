//! The shared collections that the log knows: declared, and cut by checkpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use exo_crdt::Checkpoint;
use exo_types::limits::SHARED_DECLARED_MAX;
use exo_types::{CollectionName, PeerId};

use super::outcome::Void;
use crate::roster::Roster;
use crate::share::{ShareSpec, Terms};

/// What the log has decided about shared collections.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shares {
    terms: Arc<BTreeMap<CollectionName, Terms>>,
}

impl Shares {
    pub(super) fn terms(&self) -> &Arc<BTreeMap<CollectionName, Terms>> {
        &self.terms
    }

    fn has_room_for(&self, name: &CollectionName) -> Result<(), Void> {
        let room = self.terms.contains_key(name) || self.terms.len() < SHARED_DECLARED_MAX;
        if room { Ok(()) } else { Err(Void::TooManyCollections) }
    }

    /// Whether a declaration is the first of its name.
    pub(super) fn judge(&self, name: &CollectionName, spec: &ShareSpec) -> Result<bool, Void> {
        self.has_room_for(name)?;
        match self.terms.get(name) {
            None => Ok(true),
            Some(terms) if terms.spec.kind != spec.kind => Err(Void::OtherKind),
            Some(terms) if terms.spec == *spec => Err(Void::Unchanged),
            Some(_) => Ok(false),
        }
    }

    /// Whether a checkpoint follows the last one of its collection.
    pub(super) fn judge_cut(&self, cut: &Checkpoint) -> Result<(), Void> {
        self.has_room_for(&cut.collection)?;
        let terms = self.terms.get(&cut.collection);
        let kind = terms.map_or(ShareSpec::OPEN.kind, |terms| terms.spec.kind);
        if kind != cut.kind {
            return Err(Void::OtherKind);
        }
        let follows = match terms.and_then(|terms| terms.cut.as_deref()) {
            Some(last) => last.check_next(cut),
            None => Checkpoint::genesis(cut.collection.clone(), kind).check_next(cut),
        };
        follows.map_err(|_| Void::NotNext)
    }

    /// A declaration takes effect: a first one, or one for others.
    pub(super) fn declare(&mut self, roster: &Roster, name: &CollectionName, spec: ShareSpec) {
        let all = Arc::make_mut(&mut self.terms);
        match all.get_mut(name) {
            Some(terms) => terms.respecify(roster, spec),
            None => drop(all.insert(name.clone(), Terms { spec, ..Terms::default() })),
        }
    }

    /// A checkpoint takes effect. With the first one of an undeclared collection the log comes to know it:
    /// it is open, and the removed have left it.
    pub(super) fn cut(&mut self, roster: &Roster, cut: Checkpoint) {
        let all = Arc::make_mut(&mut self.terms);
        let terms = all.entry(cut.collection.clone()).or_insert_with(|| {
            let removed = roster.all().filter(|(_, member)| member.revoked.is_some());
            let leaving = removed.map(|(peer, _)| *peer).collect();
            Terms { leaving, ..Terms::default() }
        });
        terms.cut(Arc::new(cut));
    }

    /// A member is removed.
    pub(super) fn remove(&mut self, peer: &PeerId) {
        if !self.terms.is_empty() {
            Arc::make_mut(&mut self.terms).values_mut().for_each(|terms| terms.removed(peer));
        }
    }
}
