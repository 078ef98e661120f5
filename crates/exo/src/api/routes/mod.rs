//! The routes, by what they are about.

pub(crate) mod collections;
pub(crate) mod decisions;
pub(crate) mod health;
pub(crate) mod log;
pub(crate) mod node;
pub(crate) mod peers;
pub(crate) mod proofs;
pub(crate) mod queries;
pub(crate) mod records;
pub(crate) mod shared;
