//! From the disk to shared collections that are ready to run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use exo_crdt::Store;
use exo_crypto::PostQuantumKeypair;
use exo_node::share::{Rights, Shared, saved_end};
use exo_types::CollectionName;
use rand::TryRng;

use super::disk::Logs;
use super::error::StoreError;
use crate::driver::clock::Clock;
use crate::error::{ErrorCode, FederationError};

/// Collections as their stores hold them.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(super) shared: Shared,
    pub(super) logs: Logs,
}

impl Restored {
    /// Reads all stores of a directory and verifies what they hold. A node without all of its history must
    /// not write: it would sign numbers a second time. So one store that is damaged keeps it from starting.
    ///
    /// # Errors
    /// [`ErrorCode::DataCorrupt`], [`ErrorCode::Io`].
    pub(crate) fn read(
        dir: &Path,
        keypair: Arc<PostQuantumKeypair>,
        rights: Rights,
        clock: Clock,
    ) -> Result<Self, FederationError> {
        let mut logs = Logs::open(dir).map_err(|error| refused(&error))?;
        let mut shared = Shared::new(keypair, rights, clock.now(), Box::new(entropy));
        let mut ends = BTreeMap::new();
        for (name, log) in logs.iter() {
            let saved = log.load().map_err(|error| refused(&error))?;
            if let Some(end) = saved_end(&saved) {
                ends.insert(name.clone(), end.to_vec());
            }
            if !saved.is_empty() {
                shared.restore(name.clone(), saved).map_err(|error| damaged(name, &error))?;
            }
        }
        recall(&mut shared, &mut logs, &ends).map_err(|error| refused(&error))?;
        Ok(Self { shared, logs })
    }
}

/// Compares the stores with what was noted beside them, and brings the notes up to date.
fn recall(
    shared: &mut Shared,
    logs: &mut Logs,
    stored: &BTreeMap<CollectionName, Vec<u8>>,
) -> Result<(), StoreError> {
    for name in logs.ends.names()? {
        let noted = match logs.ends.read(&name) {
            // A crash of the system spoiled the note, and the store knows better.
            Err(StoreError::Damaged { .. }) if stored.contains_key(&name) => continue,
            noted => noted?,
        };
        let Some(noted) = noted else { continue };
        if shared.recall(&name, &noted) == Some(true) {
            tracing::warn!(
                collection = %name,
                "the store of this shared collection has lost what this node wrote to it: nothing can be \
                 written to it here until that has come back from other members, for it would look like \
                 two histories"
            );
        }
    }
    for (name, end) in stored {
        let known = logs.ends.read(name);
        // A note that is ahead of the store stays.
        if known.is_ok_and(|noted| noted.is_some_and(|noted| noted >= *end)) {
            continue;
        }
        logs.ends.note(name, end, true)?;
    }
    Ok(())
}

fn damaged(name: &CollectionName, error: &exo_node::share::RestoreError) -> FederationError {
    let message = format!("the shared collection {name} is damaged: {error}");
    FederationError::new(ErrorCode::DataCorrupt, message)
}

fn refused(error: &StoreError) -> FederationError {
    let code = match error {
        StoreError::Damaged { .. } | StoreError::Missing { .. } => ErrorCode::DataCorrupt,
        _ => ErrorCode::Io,
    };
    FederationError::new(code, format!("a shared collection: {error}"))
}

fn entropy(bytes: &mut [u8]) {
    // As for every other random number of a node: before the system's generator is seeded nothing goes
    // on.
    if rand::rngs::SysRng.try_fill_bytes(bytes).is_err() {
        std::process::abort();
    }
}
