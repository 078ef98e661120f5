//! A register whose last write wins.

use std::cmp::Ordering;

use exo_types::codec::{CodecError, Wire};
use exo_types::limits::CRDT_DELTA_BYTES_MAX;
use serde::{Deserialize, Serialize};

use crate::delta::Delta;
use crate::merge::{Canonical, Merge};
use crate::stamp::Stamp;

/// A value under the stamp of its last write (Shapiro et al. 2011, specification 8).
///
/// Of two writes the one with the later stamp wins; of two with one stamp, which one author can only
/// make by breaking the rules or a clock, the one with the greater canonical bytes. So the join
/// commutes even then: a register that kept its own on a tie would not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LWWRegister<V> {
    stamp: Stamp,
    value: V,
}

impl<V: Canonical> LWWRegister<V> {
    /// A register with its first value.
    pub fn new(value: V, stamp: Stamp) -> Self {
        Self { stamp, value }
    }

    /// Writes a value, unless what is there won already; whether the value is new.
    pub fn set(&mut self, value: V, stamp: Stamp) -> bool {
        let written = Self { stamp, value };
        let wins = written.order(self) == Ordering::Greater;
        if wins {
            *self = written;
        }
        wins
    }

    /// The value that won.
    pub fn get(&self) -> &V {
        &self.value
    }

    /// The stamp of the value that won.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    fn order(&self, other: &Self) -> Ordering {
        self.stamp
            .cmp(&other.stamp)
            .then_with(|| self.value.canonical().cmp(&other.value.canonical()))
    }
}

impl<V: Canonical> Merge for LWWRegister<V> {
    fn merge(&mut self, other: Self) {
        self.set(other.value, other.stamp);
    }

    fn joined_len(&self, _: &Self) -> usize {
        1
    }
}

impl<V: Canonical> Delta for LWWRegister<V> {
    type Delta = Option<Self>;

    fn delta_since(&self, base: &Self) -> Option<Self> {
        (self.order(base) == Ordering::Greater).then(|| self.clone())
    }

    fn merge_delta(&mut self, delta: Option<Self>) {
        if let Some(newer) = delta {
            self.merge(newer);
        }
    }
}

impl<V: Canonical> Wire for LWWRegister<V> {
    const BYTES_MAX: usize = CRDT_DELTA_BYTES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        Ok(())
    }
}
