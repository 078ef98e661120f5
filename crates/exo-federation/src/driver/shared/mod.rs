//! Shared collections: on disk as a log of atomic writes from which a replica starts again, and at work
//! between the disk, the members and the callers.
//!
//! - [`SharedLog`], [`SharedCollection`]: the disk. `disk`: the thread that writes it.
//! - `ends`: how far this member has signed, kept beside the disk's stores against their loss.
//! - `Host`: what runs. `start`: from the disk. `outputs`: carrying out.
//! - `mailbox`: what the node and the log of decisions leave for it. `lane`: the way to one member.
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
mod disk;
mod ends;
mod error;
mod frame;
mod host;
mod lane;
mod log;
mod mailbox;
mod metric;
mod node;
mod outputs;
mod segment;
mod start;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use collection::{SharedCollection, SharedError, Taken, VerifiedWrites};
pub use error::StoreError;
pub(crate) use host::{Host, Noted};
pub use log::{Repaired, SharedLog};
pub(crate) use mailbox::Mailbox;
pub(crate) use start::Restored;

/// The shared collections of a running node.
pub(crate) type SharedHost = Arc<host::Keeper>;
