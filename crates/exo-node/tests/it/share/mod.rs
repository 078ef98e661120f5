//! Shared collections: several nodes with disks and lanes, a log that decides, and members that lie.

mod access;
mod cuts;
mod faults;
mod lies;
mod vectors;
mod world;
mod writes;

pub(crate) use world::{World, collection, key};
