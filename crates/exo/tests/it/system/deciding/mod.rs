//! Voters as real processes that decide together while they are killed, parted, flooded and robbed.
//!
//! - `history`: what clients saw, and whether an append-only log explains it. Pure.
//! - `voters`: node processes. `door`: their API. `clients`: the load. `log`: what the nodes hold.
//! - `chaos`, `partitions`, `distance`, `floods`, `restarts`: the tests.

mod chaos;
mod clients;
mod distance;
mod door;
mod floods;
mod history;
mod log;
mod partitions;
mod proxy;
mod restarts;
mod rogue;
mod spaces;
mod voters;
