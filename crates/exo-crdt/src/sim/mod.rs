//! A seeded simulator: replicas on bad links, with crashes, wrong clocks, checkpoints and liars.
//!
//! One seed is one history: it replays exactly. After the faults the links heal, and then must hold:
//! every correct replica has the same bytes and the same view, holds a proof against everybody of whom
//! two histories reached correct replicas, and shows no key that was deleted.

mod liar;
mod node;
mod world;

use exo_crypto::PostQuantumKeypair;
use exo_types::PeerId;

use crate::batch::{Author, Authors};

pub use world::{Plan, run, run_plan};

/// What one history came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events.
    pub events: u64,
    /// Entries that the replicas hold at the end.
    pub entries: u64,
    /// Checkpoints that were agreed.
    pub checkpoints: u64,
    /// Synchronisations that ran to their end.
    pub syncs: u64,
    /// Crashes.
    pub crashes: u64,
    /// Authors that were proved to have signed two histories.
    pub accused: u64,
    /// Keys that were deleted and stayed so.
    pub deleted: u64,
    /// Batches that came too late and were signed again.
    pub void: u64,
    /// Things a peer sent that were refused.
    pub refused: u64,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}, event {event}: {what}")]
pub struct Broken {
    /// The history.
    pub seed: u64,
    /// After which event.
    pub event: u64,
    /// What did not hold.
    pub what: String,
}

/// The members of a simulated federation, the same in every history.
#[derive(Debug)]
pub struct Members {
    keys: Vec<PostQuantumKeypair>,
}

impl Members {
    /// So many members.
    ///
    /// # Errors
    /// When the library makes no keys.
    pub fn new(count: u8) -> Result<Self, exo_crypto::IdentityError> {
        let keys = (1..=count).map(|n| PostQuantumKeypair::from_seed(&[n; 32]));
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }

    /// A member's keys; the first one's for a number that is too high.
    pub fn keypair(&self, at: usize) -> &PostQuantumKeypair {
        &self.keys[if at < self.keys.len() { at } else { 0 }]
    }

    /// Members.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Authors for Members {
    fn author(&self, id: &PeerId) -> Option<Author<'_>> {
        let member = self.keys.iter().find(|key| key.peer_id() == *id)?;
        Some(Author { key: member.public(), last_seq: None })
    }
}
