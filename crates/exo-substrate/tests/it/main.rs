//! Tests of the crate from outside, in one binary.

mod approximate;
mod contract;
mod crash;
mod damage;
mod import;
mod model;
