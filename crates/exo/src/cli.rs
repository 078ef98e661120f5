//! The command line: global options and one variant a command.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::cmd;

/// Ask every organisation's data one question, without pooling the data.
///
/// Each organisation runs a node beside its own collections. Nodes find and prove each other over
/// a post-quantum network, and a query is answered by every member that may answer it. There is
/// no telemetry.
#[derive(Debug, Parser)]
#[command(name = "exo", version, propagate_version = false, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Directory of the node [default: $XDG_DATA_HOME/exo or ~/.local/share/exo]
    #[arg(long, global = true, env = "EXO_DATA_DIR", value_name = "DIR", hide_env_values = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print data as JSON, one document a line; an error is one too, with schema exo.error/1
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What is logged to standard error, for example info or exo_federation=debug
    /// [default: info for serve, warn otherwise]
    #[arg(long, global = true, env = "EXO_LOG", value_name = "FILTER", hide_env_values = true)]
    pub(crate) log: Option<String>,
    /// How logs are written
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Human, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A whole federation on this machine: real processes, real cryptography, real text
    Demo(cmd::demo::Args),
    /// Make a node: its keys and its configuration
    Init(cmd::init::Args),
    /// Run the node in the foreground
    Serve(cmd::serve::Args),
    /// Show the node's state
    Status(cmd::status::Args),
    /// Show, approve and remove peers
    #[command(subcommand)]
    Peers(cmd::peers::Command),
    /// Make, list and revoke invites
    #[command(subcommand)]
    Invite(cmd::invite::Command),
    /// Join a federation with a ticket
    Join(cmd::join::Args),
    /// Add, show and drop collections, and say who may read them
    #[command(subcommand)]
    Collection(cmd::collection::Command),
    /// Import records, with or without vectors
    Import(cmd::import::Args),
    /// Ask the federation
    Query(cmd::query::Args),
    /// Propose, list and watch what the federation decides together
    #[command(subcommand)]
    Commit(cmd::commit::Command),
    /// Write, read and watch what members share: every write is local first and reaches all readers
    #[command(subcommand)]
    Shared(cmd::shared::Command),
    /// Check a commit proof offline: no node, no configuration, no network
    Verify(cmd::verify::Args),
    /// Measure this machine: cryptography, or queries over a federation of processes
    #[command(subcommand)]
    Bench(cmd::bench::Command),
    /// Look for what could keep the node from working
    Doctor(cmd::doctor::Args),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(cmd::config::Command),
    /// Explain error codes
    Errors(cmd::errors::Args),
    /// Write completions for a shell
    Completions(cmd::completions::Args),
}
