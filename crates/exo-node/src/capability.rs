//! What a member can do, and what two members agree on.
//!
//! Negotiation is a meet: it gives the same on both sides, in any order, any number of times.

use std::collections::{BTreeMap, BTreeSet};

use exo_types::limits::{CAPABILITIES_MAX, DIMENSIONS_MAX, TOP_K_MAX};
use exo_types::{CodecError, bounded, codec::bound};
use serde::{Deserialize, Serialize};

use crate::policy::OnionPolicy;

/// One thing a member can do, with its version and parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// Versions of one major number understand each other.
    pub major: u16,
    /// The smaller of two minor numbers is spoken.
    pub minor: u16,
    /// Numeric parameters: the smaller is agreed.
    #[serde(deserialize_with = "bounded::map::<_, _, _, CAPABILITIES_MAX>")]
    pub numbers: BTreeMap<String, u64>,
    /// Set parameters: the intersection is agreed.
    #[serde(
        deserialize_with = "bounded::map_of_sets::<_, _, _, CAPABILITIES_MAX, CAPABILITIES_MAX>"
    )]
    pub sets: BTreeMap<String, BTreeSet<String>>,
}

/// Capabilities by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySet(
    #[serde(deserialize_with = "bounded::map::<_, _, _, CAPABILITIES_MAX>")]
    pub  BTreeMap<String, Capability>,
);

/// Answering searches.
pub const SEARCH: &str = "search";
/// Telling term statistics, so that text scores are comparable.
pub const TERMS: &str = "terms";
/// Exchanging roster and member descriptors.
pub const DIRECTORY: &str = "directory";
/// Taking onion packets, and answering those that end here.
pub const ONION: &str = "onion";
/// Sending onion packets on for others.
pub const RELAY: &str = "relay";
/// Parameter of [`RELAY`]: packets a second that are taken from one neighbour.
pub const PACKETS_PER_SECOND: &str = "packets_per_second";
/// Parameter of [`ONION`]: whose the member is, where it says so.
pub const ORGANISATION: &str = "organisation";

impl Capability {
    /// What both can do; `None` when the major versions differ.
    pub fn meet(&self, other: &Self) -> Option<Self> {
        if self.major != other.major {
            return None;
        }
        let numbers = self
            .numbers
            .iter()
            .filter_map(|(key, a)| other.numbers.get(key).map(|b| (key.clone(), *a.min(b))));
        let sets = self.sets.iter().filter_map(|(key, a)| {
            other.sets.get(key).map(|b| (key.clone(), a.intersection(b).cloned().collect()))
        });
        Some(Self {
            major: self.major,
            minor: self.minor.min(other.minor),
            numbers: numbers.collect(),
            sets: sets.collect(),
        })
    }
}

impl CapabilitySet {
    /// What this version of the node can do.
    pub fn of_this_version() -> Self {
        let set = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        let plain =
            || Capability { major: 1, minor: 0, numbers: BTreeMap::new(), sets: BTreeMap::new() };
        let search = Capability {
            numbers: BTreeMap::from([
                ("top_k".to_owned(), TOP_K_MAX as u64),
                ("dimensions".to_owned(), DIMENSIONS_MAX as u64),
            ]),
            sets: BTreeMap::from([
                ("legs".to_owned(), set(&["text", "vector"])),
                ("metrics".to_owned(), set(&["cosine", "dot", "l2"])),
            ]),
            ..plain()
        };
        Self(BTreeMap::from([
            (SEARCH.to_owned(), search),
            (TERMS.to_owned(), plain()),
            (DIRECTORY.to_owned(), plain()),
            (ONION.to_owned(), plain()),
        ]))
    }

    /// These, and what a node says of itself for the choice of paths.
    #[must_use]
    pub fn with_onion(mut self, policy: &OnionPolicy) -> Self {
        if let (Some(onion), Some(name)) = (self.0.get_mut(ONION), &policy.organisation) {
            let set = BTreeSet::from([name.as_str().to_owned()]);
            onion.sets.insert(ORGANISATION.to_owned(), set);
        }
        if policy.relays {
            let limit = u64::from(policy.packets_per_second);
            let numbers = BTreeMap::from([(PACKETS_PER_SECOND.to_owned(), limit)]);
            let relay = Capability { major: 1, minor: 0, numbers, sets: BTreeMap::new() };
            self.0.insert(RELAY.to_owned(), relay);
        }
        self
    }

    /// Whose the member is that announces these.
    pub fn organisation(&self) -> Option<&str> {
        let names = self.0.get(ONION)?.sets.get(ORGANISATION)?;
        names.first().map(String::as_str)
    }

    /// What both can do.
    #[must_use]
    pub fn negotiate(&self, other: &Self) -> Self {
        let both = self.0.iter().filter_map(|(name, a)| {
            let met = other.0.get(name).and_then(|b| a.meet(b))?;
            Some((name.clone(), met))
        });
        Self(both.collect())
    }

    /// The names alone.
    pub fn names(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    /// A numeric parameter, where it was agreed.
    pub fn number(&self, capability: &str, parameter: &str) -> Option<u64> {
        self.0.get(capability)?.numbers.get(parameter).copied()
    }

    /// Checks bounds.
    pub fn check(&self) -> Result<(), CodecError> {
        bound(self.0.len(), CAPABILITIES_MAX)?;
        for (name, capability) in &self.0 {
            bound(name.len(), WORD_BYTES_MAX)?;
            bound(capability.numbers.len() + capability.sets.len(), CAPABILITIES_MAX)?;
            for key in capability.numbers.keys().chain(capability.sets.keys()) {
                bound(key.len(), WORD_BYTES_MAX)?;
            }
            for items in capability.sets.values() {
                bound(items.len(), CAPABILITIES_MAX)?;
                items.iter().try_for_each(|item| bound(item.len(), WORD_BYTES_MAX))?;
            }
        }
        Ok(())
    }
}

/// Length of a capability's name, parameter or item, bytes.
pub const WORD_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn capability() -> impl Strategy<Value = Capability> {
        let key = prop::sample::select(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]);
        let items = prop::collection::btree_set(key.clone(), 0..3);
        (
            1u16..3,
            0u16..4,
            prop::collection::btree_map(key.clone(), 0u64..9, 0..3),
            prop::collection::btree_map(key, items, 0..3),
        )
            .prop_map(|(major, minor, numbers, sets)| Capability {
                major,
                minor,
                numbers,
                sets,
            })
    }

    fn capabilities() -> impl Strategy<Value = CapabilitySet> {
        let name = prop::sample::select(vec!["x".to_owned(), "y".to_owned()]);
        prop::collection::btree_map(name, capability(), 0..3).prop_map(CapabilitySet)
    }

    proptest! {
        #[test]
        fn negotiation_is_a_meet(a in capabilities(), b in capabilities(), c in capabilities()) {
            prop_assert_eq!(a.negotiate(&b), b.negotiate(&a));
            prop_assert_eq!(a.negotiate(&a), a.clone());
            prop_assert_eq!(a.negotiate(&b).negotiate(&c), a.negotiate(&b.negotiate(&c)));
        }
    }

    #[test]
    fn another_major_version_drops_the_capability_and_minors_meet_at_the_smaller() {
        let ours = CapabilitySet::of_this_version();
        let mut theirs = ours.clone();
        let search = theirs.0.get_mut(SEARCH).expect("search");
        search.minor = 7;
        search.numbers.insert("top_k".into(), 5);
        theirs.0.get_mut(TERMS).expect("terms").major = 2;
        let agreed = ours.negotiate(&theirs);
        assert_eq!(agreed.number(SEARCH, "top_k"), Some(5));
        assert_eq!(agreed.0[SEARCH].minor, 0);
        assert!(!agreed.names().contains(TERMS));
    }
}
