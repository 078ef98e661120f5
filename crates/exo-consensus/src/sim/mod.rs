//! A seeded simulator of whole groups of replicas: the real cores in one process, over simulated links,
//! clocks and disks.
//!
//! All chance comes from the seed, so a seed that fails is replayed by its number alone. Signatures are
//! cheap tags in the places of the real ones ([`Tags`]).
//!
//! A run has two parts. In the storm members submit updates while messages are lost, delayed, repeated
//! and reordered, links are cut in one or both directions, nodes crash between any two effects and
//! restart from what their disk kept, lose their disk, join, leave; up to `f` nodes lie. Then the weather
//! calms, though liars go on: within a bound every update of a correct node must be committed and
//! certified, and all correct nodes agree to the end. Invariants are checked after every event.

mod auth;
mod disk;
mod fault;
mod host;
mod invariant;
mod liar;
mod rng;
mod tree;
mod world;

use std::fmt;

pub use auth::{Tags, cosign, sign};
pub use tree::{Tree, consistency};

/// What a simulation is run with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// How many voters at first; drawn from 4, 7 and 10 unless said.
    pub nodes: Option<usize>,
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
    /// What happened, counted.
    pub stats: Stats,
    /// The events, where they were to be kept.
    pub log: Vec<String>,
}

/// What happened in a simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Voters at first.
    pub nodes: u64,
    /// Nodes that lie.
    pub liars: u64,
    /// Events.
    pub events: u64,
    /// Messages that arrived.
    pub messages: u64,
    /// Messages refused by the checks.
    pub refused: u64,
    /// Batches committed.
    pub batches: u64,
    /// Updates committed.
    pub updates: u64,
    /// Crashes.
    pub crashes: u64,
    /// Journals lost.
    pub wipes: u64,
    /// Views entered by NEW-VIEW, at all nodes.
    pub views: u64,
    /// Turns of an epoch.
    pub epochs: u64,
    /// Pieces of the log taken over.
    pub pieces: u64,
    /// Simulated milliseconds from the calm to the end.
    pub calm_millis: u64,
    /// A digest of all events: equal for equal seeds.
    pub digest: u64,
}

impl Stats {
    /// Adds another simulation's numbers; of the times the longest is kept.
    pub fn add(&mut self, other: &Self) {
        self.liars += other.liars;
        self.events += other.events;
        self.messages += other.messages;
        self.refused += other.refused;
        self.batches += other.batches;
        self.updates += other.updates;
        self.crashes += other.crashes;
        self.wipes += other.wipes;
        self.views += other.views;
        self.epochs += other.epochs;
        self.pieces += other.pieces;
        self.calm_millis = self.calm_millis.max(other.calm_millis);
    }
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
    let mut world = world::World::new(seed, options);
    let violation = world.play().err();
    world.outcome(violation)
}
