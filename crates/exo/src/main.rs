//! The exo command: a node, its API and its tools.
fn main() {}
