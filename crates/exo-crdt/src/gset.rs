//! A set that only grows.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;

use exo_types::codec::{CodecError, Wire, bound};
use exo_types::limits::{CRDT_ITEMS_MAX, CRDT_STATE_BYTES_MAX};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::delta::Delta;
use crate::merge::{Canonical, Merge};
use crate::table::{self, State};

/// A grow-only set (Shapiro et al. 2011, specification 11). The join is the union.
///
/// Its encoding is the list of its items in their order.
#[derive(Clone)]
pub struct GSet<T> {
    items: HashSet<T, State>,
}

/// Items that one replica added and another may lack.
pub type GSetDelta<T> = GSet<T>;

impl<T: Hash + Ord> GSet<T> {
    /// An empty set.
    pub fn new() -> Self {
        Self { items: HashSet::with_hasher(table::state()) }
    }

    /// Adds an item; whether it is new.
    pub fn insert(&mut self, item: T) -> bool {
        self.items.insert(item)
    }

    /// Whether the item is in the set.
    pub fn contains(&self, item: &T) -> bool {
        self.items.contains(item)
    }

    /// Items in the set.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The items in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }

    /// The items in their order.
    pub fn sorted(&self) -> Vec<&T> {
        let mut items: Vec<_> = self.items.iter().collect();
        items.sort_unstable();
        items
    }
}

impl<T: Hash + Ord> Merge for GSet<T> {
    fn merge(&mut self, mut other: Self) {
        // The larger one takes the smaller one's items; a union has no sides.
        if other.items.len() > self.items.len() {
            std::mem::swap(self, &mut other);
        }
        self.items.extend(other.items);
    }

    fn joined_len(&self, other: &Self) -> usize {
        self.len() + other.items.iter().filter(|item| !self.items.contains(item)).count()
    }
}

impl<T: Hash + Ord + Clone> Delta for GSet<T> {
    type Delta = Self;

    fn delta_since(&self, base: &Self) -> Self {
        self.items.iter().filter(|item| !base.contains(item)).cloned().collect()
    }

    fn merge_delta(&mut self, delta: Self) {
        self.merge(delta);
    }
}

impl<T: Hash + Ord> Default for GSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Hash + Ord> FromIterator<T> for GSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut set = Self::new();
        set.items.extend(items);
        set
    }
}

impl<T: Hash + Ord> PartialEq for GSet<T> {
    fn eq(&self, other: &Self) -> bool {
        self.items == other.items
    }
}

impl<T: Hash + Ord> Eq for GSet<T> {}

impl<T: Hash + Ord + fmt::Debug> fmt::Debug for GSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.sorted()).finish()
    }
}

impl<T: Hash + Ord + Serialize> Serialize for GSet<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.sorted())
    }
}

impl<'de, T: Hash + Ord + Deserialize<'de>> Deserialize<'de> for GSet<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        table::sorted_list::<D, T, CRDT_ITEMS_MAX>(deserializer, T::cmp)
            .map(|items| items.into_iter().collect())
    }
}

impl<T: Hash + Ord + Canonical> Wire for GSet<T> {
    const BYTES_MAX: usize = CRDT_STATE_BYTES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        bound(self.len(), CRDT_ITEMS_MAX)
    }
}
