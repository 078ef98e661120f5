//! Tests over real sockets and files.

mod net;
