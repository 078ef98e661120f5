//! Whole nodes over loopback sockets: they join, ask, fail and come back, beside peers that keep no
//! rule.

mod actor;
mod asking;
mod crowd;
mod decisions;
mod failing;
mod joining;
mod lane;
mod liars;
mod nodes;
mod onion;
mod policies;
mod raw;
mod removal;
mod rights;
mod shared;
mod tap;
mod tokens;
mod wires;
