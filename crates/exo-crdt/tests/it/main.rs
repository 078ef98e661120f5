//! Tests of the crate from outside: laws, refusals, compaction, synchronisation, frozen encodings and
//! simulated histories.

mod batches;
mod bounds;
mod compaction;
mod frozen;
mod histories;
mod laws;
mod models;
mod reconcile;
mod small;
mod support;
mod sync;
