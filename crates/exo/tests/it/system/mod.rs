//! Whole federations of real processes: what their users would see.
//!
//! The long ones are ignored by default; docs/testing.md says how to run them. Those that need the
//! real texts and vectors look for them in `EXO_DEV_DATA`, or beside the repository, and say so when
//! they are not there.
//!
//! - `voters`: node processes that decide together. `door`: their API. `spaces`, `proxy`: the ways between
//!   them.

mod anonymous;
mod data;
mod deciding;
mod door;
mod fleet;
mod flood;
mod kill;
mod proxy;
mod recall;
mod relays;
mod sharing;
mod spaces;
mod voters;
