//! A set with removal: what is removed is what was observed.

use std::collections::{BTreeMap, BTreeSet};

use exo_types::PeerId;
use exo_types::bounded;
use exo_types::codec::{CodecError, Wire, bound, invalid};
use exo_types::limits::{CRDT_DOTS_PER_ELEMENT_MAX, CRDT_ITEMS_MAX, CRDT_STATE_BYTES_MAX};
use serde::{Deserialize, Serialize};

use crate::delta::Delta;
use crate::dot::{Dot, DotContext};
use crate::merge::{Canonical, Merge};

/// An observed-remove set without tombstones (Bieniusa et al. 2012). An addition that a removal had not
/// seen survives it.
///
/// The events that a state says it has seen are believed: whoever hands one in can remove anything with
/// it. Between members that may lie, removals are signed entries that name their dots
/// ([`entry`](crate::entry)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ORSet<T: Ord> {
    #[serde(
        bound(deserialize = "T: Deserialize<'de> + Ord"),
        deserialize_with = "bounded::map_of_sets::<_, _, _, CRDT_ITEMS_MAX, CRDT_DOTS_PER_ELEMENT_MAX>"
    )]
    elements: BTreeMap<T, BTreeSet<Dot>>,
    seen: DotContext,
}

/// A change of an [`ORSet`]: a small set whose events are those of the change.
pub type ORSetDelta<T> = ORSet<T>;

/// The author has no further event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} has come to its last event")]
pub struct EventsAtEnd(pub PeerId);

impl<T: Ord + Clone> ORSet<T> {
    /// An empty set.
    pub fn new() -> Self {
        Self { elements: BTreeMap::new(), seen: DotContext::default() }
    }

    /// Adds an element and gives the change to send. Its earlier dots are superseded.
    ///
    /// # Errors
    /// [`EventsAtEnd`].
    pub fn insert(&mut self, element: T, author: PeerId) -> Result<ORSetDelta<T>, EventsAtEnd> {
        let dot = self.seen.next(author).ok_or(EventsAtEnd(author))?;
        let mut delta = Self::new();
        for observed in self.elements.get(&element).into_iter().flatten() {
            delta.seen.insert(*observed);
        }
        delta.seen.insert(dot);
        delta.elements.insert(element.clone(), [dot].into());
        self.seen.insert(dot);
        self.elements.insert(element, [dot].into());
        Ok(delta)
    }

    /// Removes an element as it is observed here and gives the change to send.
    pub fn remove(&mut self, element: &T) -> ORSetDelta<T> {
        let mut delta = Self::new();
        for dot in self.elements.remove(element).into_iter().flatten() {
            delta.seen.insert(dot);
        }
        delta
    }

    /// Whether the element is in the set.
    pub fn contains(&self, element: &T) -> bool {
        self.elements.contains_key(element)
    }

    /// Elements in the set.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The elements in their order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.elements.keys()
    }

    /// The events seen.
    pub fn seen(&self) -> &DotContext {
        &self.seen
    }
}

impl<T: Ord + Clone> Merge for ORSet<T> {
    /// A dot survives when both hold it, or one holds it and the other has not seen it.
    fn merge(&mut self, other: Self) {
        let none = BTreeSet::new();
        let mut joined = BTreeMap::new();
        for (element, dots) in &self.elements {
            let theirs = other.elements.get(element).unwrap_or(&none);
            let kept = |dot: &&Dot| theirs.contains(dot) || !other.seen.contains(**dot);
            joined.insert(element.clone(), dots.iter().filter(kept).copied().collect());
        }
        for (element, dots) in other.elements {
            let unseen = dots.into_iter().filter(|dot| !self.seen.contains(*dot));
            joined.entry(element).or_insert_with(BTreeSet::new).extend(unseen);
        }
        joined.retain(|_, dots: &mut BTreeSet<Dot>| !dots.is_empty());
        self.elements = joined;
        self.seen.merge(other.seen);
    }

    /// What either side has seen removed does not count: a removal must come through when a set is full.
    fn joined_len(&self, other: &Self) -> usize {
        let none = BTreeSet::new();
        let stays = |element: &T| {
            let ours = self.elements.get(element).unwrap_or(&none);
            let theirs = other.elements.get(element).unwrap_or(&none);
            ours.iter().any(|dot| theirs.contains(dot) || !other.seen.contains(*dot))
                || theirs.iter().any(|dot| !self.seen.contains(*dot))
        };
        let fresh = other.elements.keys().filter(|element| !self.contains(element));
        self.elements.keys().chain(fresh).filter(|element| stays(element)).count()
    }
}

impl<T: Ord + Clone> Delta for ORSet<T> {
    type Delta = Self;

    /// New dots, and as seen also those that `base` still holds and this state does not. The whole state
    /// when there are more events than a delta may name.
    fn delta_since(&self, base: &Self) -> Self {
        let Some(seen) = self.seen.since(&base.seen) else { return self.clone() };
        let mut delta = Self { elements: BTreeMap::new(), seen };
        for (element, dots) in &self.elements {
            let fresh: BTreeSet<_> =
                dots.iter().filter(|dot| !base.seen.contains(**dot)).copied().collect();
            if !fresh.is_empty() {
                delta.elements.insert(element.clone(), fresh);
            }
        }
        for (element, dots) in &base.elements {
            let held = self.elements.get(element);
            for dot in dots {
                if self.seen.contains(*dot) && held.is_none_or(|held| !held.contains(dot)) {
                    delta.seen.insert(*dot);
                }
            }
        }
        delta
    }

    fn merge_delta(&mut self, delta: Self) {
        self.merge(delta);
    }
}

impl<T: Ord + Clone> Default for ORSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Ord + Canonical> Wire for ORSet<T> {
    const BYTES_MAX: usize = CRDT_STATE_BYTES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        bound(self.elements.len(), CRDT_ITEMS_MAX)?;
        self.seen.check()?;
        let mut dots = BTreeSet::new();
        for dot in self.elements.values().flatten() {
            if !self.seen.contains(*dot) || !dots.insert(*dot) {
                return Err(invalid("a dot is not among the events seen, or stands twice"));
            }
        }
        if self.elements.values().any(BTreeSet::is_empty) {
            return Err(invalid("an element stands on no dot"));
        }
        Ok(())
    }
}
