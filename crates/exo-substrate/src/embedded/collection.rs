//! One open collection: its declaration and the state that searches see.

use std::sync::{Arc, PoisonError, RwLock};

use exo_types::{CollectionInfo, CollectionSpec};

use super::state::State;

/// An open collection.
#[derive(Debug)]
pub(super) struct Collection {
    /// Its number on disk.
    pub(super) number: i64,
    /// Its declaration.
    pub(super) spec: CollectionSpec,
    state: RwLock<Arc<State>>,
}

impl Collection {
    /// A collection in a state.
    pub(super) fn new(number: i64, spec: CollectionSpec, state: State) -> Self {
        Self { number, spec, state: RwLock::new(Arc::new(state)) }
    }

    /// The newest state.
    pub(super) fn state(&self) -> Arc<State> {
        // Nothing is half-made under this lock: a panic elsewhere does not spoil it.
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a state in place, once the write that made it is committed.
    pub(super) fn set(&self, state: Arc<State>) {
        let before = {
            let mut current = self.state.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, state)
        };
        // Freed outside the lock: it may be large.
        drop(before);
    }

    /// Its declaration and what it holds.
    pub(super) fn info(&self) -> CollectionInfo {
        let state = self.state();
        CollectionInfo {
            spec: self.spec.clone(),
            records: state.records as u64,
            vectors: state.vectors as u64,
        }
    }
}
