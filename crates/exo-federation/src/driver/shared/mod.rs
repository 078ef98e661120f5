//! Shared collections on disk: a log of atomic writes from which a replica starts again.
//!
//! [`SharedLog`] is the [`Store`](exo_crdt::Store) of one collection; [`SharedCollection`] is a replica with
//! its store, which saves before it says that something is done.
//!
//! ```text
//! <directory of the collection>
//!   log-00000001     segments of some 64 MiB, each a header and then frames; the oldest ones are
//!   log-00000002     dropped once what they held is dead or has been written again at the end
//! ```
//!
//! A replica holds all that it saves in memory, so the store is never asked for one key; what counts is
//! that a write is one piece of sequential disk and one `fdatasync`, and that a damaged byte is noticed.

mod collection;
mod error;
mod frame;
mod log;
mod segment;
#[cfg(test)]
mod tests;

pub use collection::{SharedCollection, SharedError, Taken, VerifiedWrites};
pub use error::StoreError;
pub use log::{Repaired, SharedLog};
