//! Where a term occurs, decoded from the text index and kept for the searches of one state.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use exo_types::limits::POSTINGS_CACHED_MAX;

/// One record that contains a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Posting {
    /// The record's position within the state.
    pub(super) at: u32,
    /// How often it contains the term.
    pub(super) count: u32,
}

/// The records that contain a term, ascending.
pub(super) type Postings = Arc<[Posting]>;

/// Postings already decoded, by term. It belongs to one state and goes with it.
#[derive(Debug, Default)]
pub(super) struct PostingsCache {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    terms: HashMap<String, Postings>,
    postings: usize,
}

impl PostingsCache {
    /// The postings of a term, where they are known.
    pub(super) fn get(&self, term: &str) -> Option<Postings> {
        self.lock().terms.get(term).cloned()
    }

    /// Keeps the postings of a term. When there is no room, everything kept before goes.
    pub(super) fn keep(&self, term: &str, postings: &Postings) {
        let cost = postings.len() + ENTRY_POSTINGS;
        if cost > POSTINGS_CACHED_MAX {
            return;
        }
        let mut inner = self.lock();
        if inner.postings + cost > POSTINGS_CACHED_MAX {
            *inner = Inner::default();
        }
        if inner.terms.insert(term.to_owned(), Arc::clone(postings)).is_none() {
            inner.postings += cost;
        }
    }

    /// Memory, bytes, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.lock().postings * size_of::<Posting>()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // The cache holds no half-made state: a panic elsewhere does not spoil it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the entry of a term costs beside its postings, in postings.
const ENTRY_POSTINGS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_postings_stay_within_their_bound() {
        let cache = PostingsCache::default();
        let many: Postings = vec![Posting { at: 0, count: 1 }; POSTINGS_CACHED_MAX / 3].into();
        for term in ["a", "b", "c", "d"] {
            cache.keep(term, &many);
            assert!(cache.get(term).is_some());
            assert!(cache.bytes() <= POSTINGS_CACHED_MAX * size_of::<Posting>());
        }
        assert!(cache.get("a").is_none());
    }
}
