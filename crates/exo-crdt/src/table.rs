//! What the hashed sets and maps share: one hash function for all of them, and ordered encodings.
//!
//! One hash function means that joining two large tables walks both in the order of their slots, which
//! memory likes. It is seeded once a process, from nothing that a peer sees, so that no peer can choose
//! keys that fall on one slot; no order of slots ever leaves a table.

use std::cmp::Ordering;

use exo_types::bounded;
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// The hash function of every table.
pub(crate) type State = SeedableRandomState;

/// A set with the one hash function.
pub(crate) type Set<T> = std::collections::HashSet<T, OneState>;

/// The one hash function, as a default.
#[derive(Clone, Debug)]
pub(crate) struct OneState(State);

impl Default for OneState {
    fn default() -> Self {
        Self(state())
    }
}

impl std::hash::BuildHasher for OneState {
    type Hasher = <State as std::hash::BuildHasher>::Hasher;

    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

/// The one hash function.
pub(crate) fn state() -> State {
    SeedableRandomState::with_seed(0x6578_6f2d_6372_6474, SharedSeed::global_random())
}

/// Decodes a list of at most `MAX` items that is strictly ordered: the one encoding of a set or map.
pub(crate) fn sorted_list<'de, D, T, const MAX: usize>(
    deserializer: D,
    order: fn(&T, &T) -> Ordering,
) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let items = bounded::list::<D, T, MAX>(deserializer)?;
    if items.is_sorted_by(|a, b| order(a, b) == Ordering::Less) {
        Ok(items)
    } else {
        Err(D::Error::custom("items must be sorted and without repeats"))
    }
}
