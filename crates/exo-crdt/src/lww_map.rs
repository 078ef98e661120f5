//! A map in which each key's last write wins, removals included.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;

use exo_types::codec::{CodecError, Wire, bound};
use exo_types::limits::{CRDT_ITEMS_MAX, CRDT_STATE_BYTES_MAX};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::delta::Delta;
use crate::merge::{Canonical, Merge};
use crate::stamp::Stamp;
use crate::table::{self, State};

/// A map of last-writer-wins registers. A removal is a write like any other and leaves a tombstone: who
/// drops tombstones by age sees deleted keys come back. Shared collections drop them at a checkpoint
/// ([`replica`](crate::replica)); this map alone keeps them.
///
/// Its encoding is the list of (key, stamp, value or tombstone) in the order of the keys.
#[derive(Clone)]
pub struct LWWMap<K, V> {
    cells: HashMap<K, Cell<V>, State>,
}

/// Cells that one replica wrote and another may lack.
pub type LWWMapDelta<K, V> = LWWMap<K, V>;

/// What stands at a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell<V> {
    /// The write that won.
    pub stamp: Stamp,
    /// Its value; `None` for a tombstone.
    pub value: Option<V>,
}

impl<V: Canonical> Cell<V> {
    fn order(&self, other: &Self) -> Ordering {
        self.stamp.cmp(&other.stamp).then_with(|| self.tie(other))
    }

    /// On one stamp a removal wins over a value, so that no tie brings back what was deleted.
    #[cold]
    fn tie(&self, other: &Self) -> Ordering {
        match (&self.value, &other.value) {
            (Some(a), Some(b)) => a.canonical().cmp(&b.canonical()),
            (a, b) => a.is_none().cmp(&b.is_none()),
        }
    }
}

impl<K: Hash + Ord, V: Canonical> LWWMap<K, V> {
    /// An empty map.
    pub fn new() -> Self {
        Self { cells: HashMap::with_hasher(table::state()) }
    }

    /// Writes a value, unless a later write stands there; whether it won.
    pub fn put(&mut self, key: K, value: V, stamp: Stamp) -> bool {
        self.join(key, Cell { stamp, value: Some(value) })
    }

    /// Removes a key, unless a later write stands there; whether it won. The tombstone stays.
    pub fn remove(&mut self, key: K, stamp: Stamp) -> bool {
        self.join(key, Cell { stamp, value: None })
    }

    /// The value at a key that is not removed.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.cells.get(key)?.value.as_ref()
    }

    /// What stands at a key, a tombstone included.
    pub fn cell(&self, key: &K) -> Option<&Cell<V>> {
        self.cells.get(key)
    }

    /// Keys that are not removed. Walks the map.
    pub fn len(&self) -> usize {
        self.cells.values().filter(|cell| cell.value.is_some()).count()
    }

    /// Whether no key has a value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys with a value or a tombstone.
    pub fn cells_len(&self) -> usize {
        self.cells.len()
    }

    /// Keys and values in no particular order, removed ones left out.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.cells.iter().filter_map(|(key, cell)| Some((key, cell.value.as_ref()?)))
    }

    /// Keys and cells in the order of the keys, tombstones included.
    pub fn sorted(&self) -> Vec<(&K, &Cell<V>)> {
        let mut cells: Vec<_> = self.cells.iter().collect();
        cells.sort_unstable_by_key(|(key, _)| *key);
        cells
    }

    fn join(&mut self, key: K, cell: Cell<V>) -> bool {
        match self.cells.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(cell);
                true
            }
            Entry::Occupied(mut held) => {
                let wins = cell.order(held.get()) == Ordering::Greater;
                if wins {
                    held.insert(cell);
                }
                wins
            }
        }
    }
}

impl<K: Hash + Ord, V: Canonical> Merge for LWWMap<K, V> {
    fn merge(&mut self, mut other: Self) {
        // The larger one takes the smaller one's cells; the join has no sides.
        if other.cells.len() > self.cells.len() {
            std::mem::swap(self, &mut other);
        }
        for (key, cell) in other.cells {
            self.join(key, cell);
        }
    }

    fn joined_len(&self, other: &Self) -> usize {
        self.cells.len() + other.cells.keys().filter(|key| !self.cells.contains_key(key)).count()
    }
}

impl<K: Hash + Ord + Clone, V: Canonical> Delta for LWWMap<K, V> {
    type Delta = Self;

    fn delta_since(&self, base: &Self) -> Self {
        let newer = |(key, cell): &(&K, &Cell<V>)| {
            base.cells.get(key).is_none_or(|known| cell.order(known) == Ordering::Greater)
        };
        let cells = self.cells.iter().filter(newer);
        cells.map(|(key, cell)| (key.clone(), cell.clone())).collect()
    }

    fn merge_delta(&mut self, delta: Self) {
        self.merge(delta);
    }
}

impl<K: Hash + Ord, V: Canonical> FromIterator<(K, Cell<V>)> for LWWMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, Cell<V>)>>(cells: I) -> Self {
        let cells = cells.into_iter();
        let mut map = Self::new();
        map.cells.reserve(cells.size_hint().0);
        for (key, cell) in cells {
            map.join(key, cell);
        }
        map
    }
}

impl<K: Hash + Ord, V: Canonical> Default for LWWMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Hash + Ord, V: Canonical> PartialEq for LWWMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.cells == other.cells
    }
}

impl<K: Hash + Ord, V: Canonical> Eq for LWWMap<K, V> {}

impl<K: Hash + Ord + fmt::Debug, V: Canonical + fmt::Debug> fmt::Debug for LWWMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.sorted()).finish()
    }
}

impl<K: Hash + Ord + Serialize, V: Canonical> Serialize for LWWMap<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.sorted())
    }
}

impl<'de, K: Hash + Ord + Deserialize<'de>, V: Canonical> Deserialize<'de> for LWWMap<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Item<K, V> = (K, Cell<V>);
        table::sorted_list::<D, Item<K, V>, CRDT_ITEMS_MAX>(deserializer, |a, b| a.0.cmp(&b.0))
            .map(|cells| cells.into_iter().collect())
    }
}

impl<K: Hash + Ord + Canonical, V: Canonical> Wire for LWWMap<K, V> {
    const BYTES_MAX: usize = CRDT_STATE_BYTES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        bound(self.cells.len(), CRDT_ITEMS_MAX)
    }
}
