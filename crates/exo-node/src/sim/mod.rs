//! A seeded simulator of a whole federation: the real cores in one process, over simulated links,
//! clocks and disks.
//!
//! All chance comes from the seed, so a seed that fails is replayed by its number alone. Signatures
//! are randomised by their library; nothing the simulation does depends on their bytes.
//!
//! A run has three parts. In the storm nodes found, join, approve, ask, crash, lie and are cut off
//! from each other. Then the weather calms: everything must converge. At last every member asks
//! everybody and must get the exact answer, and what the nodes hold must shrink to what an idle node
//! holds. Invariants are checked after every event.
//!
//! # Faults
//! Delay, reordering, lost connections, reset streams, partitions of one or both directions, crashes
//! between any two effects, crashes at rest, failing saves, slow and failing searches, clocks that
//! are off and jump, refused and unanswered dials, closes that arrive late or never, a member that
//! changes, replays and invents messages, an outsider with recordings of everything said.

mod clock;
pub mod crowd;
mod data;
mod deliver;
mod effects;
mod end;
mod exact;
mod fault;
mod host;
mod invariant;
mod liar;
mod net;
mod people;
mod rng;
mod watch;
mod world;

use std::fmt;

pub use watch::Stats;

/// What a simulation is run with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Keep a line for every event, to be read when the seed fails.
    pub log: bool,
}

/// How a simulation ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What went wrong, if anything.
    pub violation: Option<Violation>,
    /// A digest of all events: equal for equal seeds.
    pub digest: u64,
    /// What happened, counted.
    pub stats: Stats,
    /// The events, where they were to be kept.
    pub log: Vec<String>,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub(crate) String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A step of a simulation.
type Step = Result<(), Violation>;

/// Simulates one seed from beginning to end.
pub fn run(seed: u64, options: &Options) -> Outcome {
    match world::World::new(seed, options) {
        Ok(mut world) => {
            let violation = world.play().err();
            world.outcome(violation)
        }
        Err(violation) => Outcome {
            seed,
            violation: Some(violation),
            digest: 0,
            stats: Stats::default(),
            log: Vec::new(),
        },
    }
}
