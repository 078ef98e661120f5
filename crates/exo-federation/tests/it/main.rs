//! Tests over real sockets and files.

mod mesh;
mod net;
