//! The command line and the local API of real processes: shapes, exit codes, guards.

mod anonymous;
mod bench;
mod commit;
mod demo;
mod exits;
mod guard;
pub(crate) mod http;
mod import;
mod join;
mod node;
mod query;
mod serve;
mod shapes;
mod shared;
mod verify;
