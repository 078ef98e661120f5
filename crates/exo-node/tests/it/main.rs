//! The node from outside: simulated federations, single flows, frozen encodings.

mod abuse;
mod codec;
mod constitution;
mod crowd;
mod decide;
mod frozen;
mod joining;
mod onion;
mod queries;
mod samples;
mod seeds;
mod sessions;
mod share;
mod wires;
