//! The commands, a file each.

pub(crate) mod bench;
pub(crate) mod collection;
pub(crate) mod commit;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod errors;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod invite;
pub(crate) mod join;
pub(crate) mod peers;
pub(crate) mod query;
pub(crate) mod serve;
pub(crate) mod shared;
pub(crate) mod status;
pub(crate) mod verify;

use crate::client::Client;
use crate::exit::Failure;
use crate::files::DataDir;
use crate::output::Output;

/// What every command is given.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Where it prints.
    pub(crate) output: Output,
    /// The node it is about.
    pub(crate) data_dir: DataDir,
}

impl Context {
    /// The running node of the data directory.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::open(&self.data_dir)
    }
}
