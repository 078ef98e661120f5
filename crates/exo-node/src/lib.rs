//! The pure node: sessions, membership, tokens and query flow as a state machine without I/O.

pub mod policy;
