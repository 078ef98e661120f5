//! Whole nodes over loopback sockets: they join, ask, fail and come back, beside peers that keep no
//! rule.

mod joining;
mod nodes;
mod raw;
mod removal;
mod tokens;
