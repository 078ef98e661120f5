//! The command as its users meet it.

mod cli;
mod system;
