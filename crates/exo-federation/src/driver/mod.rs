//! What touches the outside world: sockets, disk, the clock and the operating system's randomness.
//!
//! - `clock`: the two clocks of a moment.
//! - [`net`]: the endpoint and its channels.
//! - `store`: the data directory: keys, state, lock.
//! - `core`: the one [`Node`](exo_node::Node), its lock, its timer.
//! - `decide`: this node's part in deciding together.
//! - `effects`: carrying out what the node wants.
//! - `journal`: what a replica of the commit protocol keeps on the disk.
//! - `peer`: dialling, accepting and serving connections.
//! - `pulse`: noticing that a peer has fallen silent.
//! - `search`: running searches in the substrate.
//! - [`shared`]: shared collections on disk.

pub(crate) mod clock;
pub(crate) mod core;
pub(crate) mod decide;
mod effects;
mod journal;
pub mod net;
mod peer;
pub(crate) mod pulse;
mod search;
pub mod shared;
pub(crate) mod store;
