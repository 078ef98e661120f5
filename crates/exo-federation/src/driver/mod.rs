//! What touches the outside world: sockets, disk, the clock and the operating system's randomness.

pub mod net;
