//! The node from outside: simulated federations, single flows, frozen encodings.

mod joining;
mod queries;
mod seeds;
mod sessions;
mod wires;
