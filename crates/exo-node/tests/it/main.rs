//! The node from outside: simulated federations, single flows, frozen encodings.

mod seeds;
