//! What voters have proposed and others have not yet: per voter, bounded, the oldest forgotten first.

use std::collections::{BTreeMap, VecDeque};

use exo_types::PeerId;
use exo_types::limits::DECISIONS_WISHED_PER_VOTER_MAX;

use super::decision::Decision;

/// One voter's proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Index of the leaf with which the voter first proposed it.
    pub leaf: u64,
    /// What it said last.
    pub decision: Decision,
}

/// The proposals of all voters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes(BTreeMap<PeerId, VecDeque<Wish>>);

/// What the voters who propose the same say together.
pub(super) struct Chorus {
    /// How many they are.
    pub(super) have: usize,
    /// Who of them was the first.
    pub(super) first: PeerId,
    /// One of them says that words were not compared.
    pub(super) unverified: bool,
}

impl Wishes {
    /// A voter proposes. Who proposes the same again keeps the place, and says it anew.
    pub(super) fn add(&mut self, voter: PeerId, leaf: u64, decision: &Decision) {
        let wishes = self.0.entry(voter).or_default();
        if let Some(old) = wishes.iter_mut().find(|wish| wish.decision.agrees_with(decision)) {
            old.decision = decision.clone();
            return;
        }
        if wishes.len() >= DECISIONS_WISHED_PER_VOTER_MAX {
            wishes.pop_front();
        }
        wishes.push_back(Wish { leaf, decision: decision.clone() });
    }

    /// Who proposes this.
    pub(super) fn for_decision(
        &self,
        decision: &Decision,
    ) -> impl Iterator<Item = (&PeerId, &Wish)> {
        self.all().filter(|(_, wish)| wish.decision.agrees_with(decision))
    }

    /// Those who propose this together; `None` when nobody does.
    pub(super) fn chorus(&self, decision: &Decision) -> Option<Chorus> {
        let first = self.for_decision(decision).min_by_key(|(_, wish)| wish.leaf)?;
        let without = |wish: &Wish| matches!(&wish.decision, Decision::Admit(of) if of.unverified);
        Some(Chorus {
            have: self.for_decision(decision).count(),
            first: *first.0,
            unverified: self.for_decision(decision).any(|(_, wish)| without(wish)),
        })
    }

    /// Keeps those for which this holds.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&PeerId, &Wish) -> bool) {
        self.0.retain(|voter, wishes| {
            wishes.retain(|wish| keep(voter, wish));
            !wishes.is_empty()
        });
    }

    /// All of them, by voter and age.
    pub(super) fn all(&self) -> impl Iterator<Item = (&PeerId, &Wish)> {
        self.0.iter().flat_map(|(voter, wishes)| wishes.iter().map(move |wish| (voter, wish)))
    }
}
