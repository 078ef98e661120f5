//! The command line and the local API of real processes: shapes, exit codes, guards.

mod bench;
mod demo;
mod exits;
mod guard;
mod http;
mod import;
mod join;
mod node;
mod query;
mod serve;
mod shapes;
