//! Dots: names of single events, and the sets of them that a replica has seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use exo_types::PeerId;
use exo_types::bounded;
use exo_types::codec::{CodecError, invalid};
use exo_types::limits::{CRDT_DELTA_ITEMS_MAX, MEMBERS_MAX};
use serde::{Deserialize, Serialize};

/// One event of one author: its number counts from 1. In signed collections the number is
/// `256 * seq + index` of the entry in its batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// Whose event.
    pub author: PeerId,
    /// Which one.
    pub counter: u64,
}

impl Dot {
    /// The dot of an event.
    pub const fn new(author: PeerId, counter: u64) -> Self {
        Self { author, counter }
    }

    /// The dot of the entry at `index` of batch `seq`.
    pub const fn of_entry(author: PeerId, seq: u64, index: u8) -> Self {
        Self { author, counter: seq << 8 | index as u64 }
    }

    /// The batch of an entry's dot.
    pub const fn seq(self) -> u64 {
        self.counter >> 8
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.author.short(), self.counter)
    }
}

/// The events a state has seen: for each author all up to a number, and single ones beyond. Always in
/// its shortest form, so that equal sets have equal encodings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DotContext {
    #[serde(deserialize_with = "bounded::map::<_, _, _, MEMBERS_MAX>")]
    upto: BTreeMap<PeerId, u64>,
    #[serde(deserialize_with = "bounded::set::<_, _, CRDT_DELTA_ITEMS_MAX>")]
    beyond: BTreeSet<Dot>,
}

impl DotContext {
    /// Whether the event has been seen.
    pub fn contains(&self, dot: Dot) -> bool {
        self.upto.get(&dot.author).is_some_and(|upto| dot.counter <= *upto)
            || self.beyond.contains(&dot)
    }

    /// Notes an event.
    pub fn insert(&mut self, dot: Dot) {
        if dot.counter > 0 && !self.contains(dot) {
            self.beyond.insert(dot);
            self.shorten();
        }
    }

    /// The next event of an author who has made all of its events here; `None` after the last.
    pub fn next(&self, author: PeerId) -> Option<Dot> {
        let seen = self.upto.get(&author).copied().unwrap_or(0);
        let beyond = self.beyond.range(Dot::new(author, 0)..=Dot::new(author, u64::MAX));
        let last = beyond.map(|dot| dot.counter).max().unwrap_or(0).max(seen);
        last.checked_add(1).map(|counter| Dot::new(author, counter))
    }

    /// Adds all that another has seen.
    pub fn merge(&mut self, other: Self) {
        for (author, upto) in other.upto {
            let held = self.upto.entry(author).or_default();
            *held = upto.max(*held);
        }
        self.beyond.extend(other.beyond);
        self.shorten();
    }

    /// The events seen here and not there; `None` when there are more than a delta may name.
    pub(crate) fn since(&self, base: &Self) -> Option<Self> {
        let mut fresh = BTreeSet::new();
        for (author, upto) in &self.upto {
            let from = base.upto.get(author).copied().unwrap_or(0);
            if upto.saturating_sub(from) > CRDT_DELTA_ITEMS_MAX as u64 {
                return None;
            }
            fresh.extend((from + 1..=*upto).map(|counter| Dot::new(*author, counter)));
        }
        fresh.extend(&self.beyond);
        fresh.retain(|dot| !base.contains(*dot));
        let mut since = Self { upto: BTreeMap::new(), beyond: fresh };
        since.shorten();
        (since.beyond.len() <= CRDT_DELTA_ITEMS_MAX).then_some(since)
    }

    fn shorten(&mut self) {
        let upto = &mut self.upto;
        // In order, so that a run of events is taken up from its beginning.
        self.beyond.retain(|dot| {
            let seen = upto.get(&dot.author).copied().unwrap_or(0);
            if dot.counter.checked_sub(1) == Some(seen) {
                upto.insert(dot.author, dot.counter);
                return false;
            }
            dot.counter > seen
        });
    }

    /// Refuses a form that is not the shortest.
    pub(crate) fn check(&self) -> Result<(), CodecError> {
        let mut shortest = self.clone();
        shortest.shorten();
        let no_zero = self.upto.values().all(|upto| *upto > 0);
        if no_zero && shortest == *self && self.beyond.iter().all(|dot| dot.counter > 0) {
            Ok(())
        } else {
            Err(invalid("the events seen are not in their shortest form"))
        }
    }
}
