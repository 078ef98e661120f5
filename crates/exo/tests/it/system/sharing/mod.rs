//! Shared collections of real processes that are parted, killed and robbed of memory under writes.
//!
//! - `book`: what the writers wrote, and what must stand at the end. `writers`: the load.
//! - `parted`, `kills`: the tests.

mod book;
mod kills;
mod parted;
mod writers;

use super::{door, proxy, spaces, voters};
