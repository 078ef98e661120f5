//! Voters as real processes that decide together while they are killed, parted, flooded and robbed.
//!
//! - `history`: what clients saw, and whether an append-only log explains it. Pure.
//! - `clients`: the load. `log`: what the nodes hold. `rogue`: a voter that the test is.
//! - `chaos`, `partitions`, `distance`, `floods`, `restarts`: the tests.

mod chaos;
mod clients;
mod distance;
mod floods;
mod history;
mod log;
mod partitions;
mod restarts;
mod rogue;

use super::{door, proxy, spaces, voters};
