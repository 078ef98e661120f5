//! A map in which each key's last write wins, removals included.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;

use exo_types::PeerId;
use exo_types::codec::{CodecError, Wire, bound};
use exo_types::limits::{CRDT_ITEMS_MAX, CRDT_STATE_BYTES_MAX};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::delta::Delta;
use crate::merge::{Canonical, Merge};
use crate::stamp::{Hlc, Stamp};
use crate::table::{self, State};

/// A map of last-writer-wins registers. A removal is a write like any other and leaves a tombstone: who
/// drops tombstones by age sees deleted keys come back. Shared collections drop them at a checkpoint
/// ([`replica`](crate::replica)); this map alone keeps them.
///
/// Its encoding is the list of (key, stamp, value or tombstone) in the order of the keys.
#[derive(Clone)]
pub struct LWWMap<K, V> {
    cells: HashMap<K, Slot<V>, State>,
    /// Every author whose write stands, or stood, at a key: a slot names its author by its place here.
    /// Joins are bound by memory, and an id is three times as long as the rest of a slot.
    authors: Vec<PeerId>,
    places: HashMap<PeerId, u32, State>,
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

#[derive(Clone)]
struct Slot<V> {
    time: Hlc,
    author: u32,
    value: Option<V>,
}

impl<K: Hash + Ord, V: Canonical> LWWMap<K, V> {
    /// An empty map.
    pub fn new() -> Self {
        Self {
            cells: HashMap::with_hasher(table::state()),
            authors: Vec::new(),
            places: HashMap::with_hasher(table::state()),
        }
    }

    /// Writes a value, unless a later write stands there; whether it won.
    pub fn put(&mut self, key: K, value: V, stamp: Stamp) -> bool {
        self.write(key, stamp, Some(value))
    }

    /// Removes a key, unless a later write stands there; whether it won. The tombstone stays.
    pub fn remove(&mut self, key: K, stamp: Stamp) -> bool {
        self.write(key, stamp, None)
    }

    /// The value at a key that is not removed.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.cells.get(key)?.value.as_ref()
    }

    /// What stands at a key, a tombstone included.
    pub fn cell(&self, key: &K) -> Option<Cell<&V>> {
        self.cells.get(key).map(|slot| self.shown(slot))
    }

    /// Keys that are not removed. Walks the map.
    pub fn len(&self) -> usize {
        self.cells.values().filter(|slot| slot.value.is_some()).count()
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
        self.cells.iter().filter_map(|(key, slot)| Some((key, slot.value.as_ref()?)))
    }

    /// Keys and cells in the order of the keys, tombstones included.
    pub fn sorted(&self) -> Vec<(&K, Cell<&V>)> {
        let mut slots: Vec<_> = self.cells.iter().collect();
        slots.sort_unstable_by_key(|(key, _)| *key);
        slots.into_iter().map(|(key, slot)| (key, self.shown(slot))).collect()
    }

    fn write(&mut self, key: K, stamp: Stamp, value: Option<V>) -> bool {
        let author = place(&mut self.authors, &mut self.places, stamp.author);
        self.join(key, Slot { time: stamp.time, author, value })
    }

    fn shown<'a>(&self, slot: &'a Slot<V>) -> Cell<&'a V> {
        let stamp = Stamp::new(slot.time, author(&self.authors, slot.author));
        Cell { stamp, value: slot.value.as_ref() }
    }

    fn join(&mut self, key: K, slot: Slot<V>) -> bool {
        match self.cells.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(slot);
                true
            }
            Entry::Occupied(mut held) => {
                let wins = order(&slot, &self.authors, held.get(), &self.authors).is_gt();
                if wins {
                    held.insert(slot);
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
        let mut here = Vec::with_capacity(other.authors.len());
        for author in &other.authors {
            here.push(place(&mut self.authors, &mut self.places, *author));
        }
        for (key, slot) in other.cells {
            let author = here.get(slot.author as usize).copied().unwrap_or(slot.author);
            self.join(key, Slot { author, ..slot });
        }
    }

    fn joined_len(&self, other: &Self) -> usize {
        self.cells.len() + other.cells.keys().filter(|key| !self.cells.contains_key(key)).count()
    }
}

impl<K: Hash + Ord + Clone, V: Canonical> Delta for LWWMap<K, V> {
    type Delta = Self;

    fn delta_since(&self, base: &Self) -> Self {
        let newer = |(key, slot): &(&K, &Slot<V>)| {
            let known = base.cells.get(key);
            known.is_none_or(|known| order(slot, &self.authors, known, &base.authors).is_gt())
        };
        let mut delta = Self::new();
        for (key, slot) in self.cells.iter().filter(newer) {
            let stamp = Stamp::new(slot.time, author(&self.authors, slot.author));
            delta.write(key.clone(), stamp, slot.value.clone());
        }
        delta
    }

    fn merge_delta(&mut self, delta: Self) {
        self.merge(delta);
    }
}

/// The order of writes of two maps. On one stamp a removal wins over a value, so that no tie brings back
/// what was deleted, and of two values the one with the greater canonical bytes.
fn order<V: Canonical>(a: &Slot<V>, a_in: &[PeerId], b: &Slot<V>, b_in: &[PeerId]) -> Ordering {
    a.time.cmp(&b.time).then_with(|| {
        author(a_in, a.author).cmp(&author(b_in, b.author)).then_with(|| {
            match (&a.value, &b.value) {
                (Some(a), Some(b)) => a.canonical().cmp(&b.canonical()),
                (a, b) => a.is_none().cmp(&b.is_none()),
            }
        })
    })
}

/// The author that a slot names. Slots are made with places that exist.
fn author(authors: &[PeerId], place: u32) -> PeerId {
    authors.get(place as usize).copied().unwrap_or(PeerId::new([0; 32]))
}

/// The place of an author, given one if it has none.
fn place(
    authors: &mut Vec<PeerId>,
    places: &mut HashMap<PeerId, u32, State>,
    author: PeerId,
) -> u32 {
    *places.entry(author).or_insert_with(|| {
        authors.push(author);
        // A map holds fewer cells than this, and only cells bring authors.
        u32::try_from(authors.len() - 1).unwrap_or(u32::MAX)
    })
}

impl<K: Hash + Ord, V: Canonical> FromIterator<(K, Cell<V>)> for LWWMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, Cell<V>)>>(cells: I) -> Self {
        let cells = cells.into_iter();
        let mut map = Self::new();
        map.cells.reserve(cells.size_hint().0);
        for (key, cell) in cells {
            map.write(key, cell.stamp, cell.value);
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
        let same = |(key, slot): (&K, &Slot<V>)| {
            let there = other.cells.get(key);
            there.is_some_and(|there| order(slot, &self.authors, there, &other.authors).is_eq())
        };
        self.cells.len() == other.cells.len() && self.cells.iter().all(same)
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
