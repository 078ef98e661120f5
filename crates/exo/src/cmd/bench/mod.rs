//! `exo bench`: measures this machine and prints figures, `exo.bench/1`.

mod consensus;
mod cpu;
mod crypto;
mod data;
mod federation;
mod onion;
mod process;
mod query;
mod report;
mod sync;

use std::sync::Arc;

use clap::Subcommand;
use exo_federation::ErrorCode;

use super::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::signals::{Stopped, exit_on_signal};

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Cryptographic operations and handshakes, beside the same stack with classical keys
    Crypto(crypto::Args),
    /// Federated queries over node processes, beside each source's own search
    Query(query::Args),
    /// Onion packets: building and unwrapping, relaying by a node process, queries through relays
    Onion(onion::Args),
    /// Decisions of voting node processes: how many a second, how long one takes, what it costs
    Consensus(consensus::Args),
    /// Shared collections: durable writes, a node that returns, and finding out what differs
    Sync(sync::Args),
}

/// Runs a benchmark and prints its figures.
pub(crate) fn run(context: &Context, command: Command) -> Outcome {
    if cfg!(debug_assertions) {
        context.output.note("This is not a release build: the figures say nothing about one.");
    }
    let report = match command {
        Command::Crypto(args) => {
            exit_on_signal(context.output, Arc::new(|| Stopped::Early))?;
            crypto::run(context, &args)?
        }
        Command::Query(args) => query::run(context, &args)?,
        Command::Onion(args) => onion::run(context, &args)?,
        Command::Consensus(args) => consensus::run(context, &args)?,
        Command::Sync(args) => sync::run(context, &args)?,
    };
    report.print(&context.output)?;
    Ok(Exit::Ok)
}

/// A part of a benchmark broke down; what it measures is in order otherwise.
fn broken(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorCode::Internal, format!("{what}: {error}"))
}

/// Parses a number that an argument bounds.
fn within(text: &str, least: usize, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("must be {least} to {most}")),
    }
}
