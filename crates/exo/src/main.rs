//! The exo command: a node, its API and its tools.

mod api;
mod cli;
mod client;
mod cmd;
mod escape;
mod exit;
mod files;
mod logs;
mod npy;
mod output;
mod progress;
mod signals;
mod span;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::{Cli, Command};
use crate::cmd::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::files::DataDir;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let output = Output::new(cli.global.json);
    let exit = match run(cli, output) {
        Ok(exit) => exit,
        Err(failure) => {
            output.failure(&failure);
            failure.exit
        }
    };
    ExitCode::from(exit as u8)
}

/// Runs the command.
fn run(cli: Cli, output: Output) -> Outcome {
    let usual = if matches!(cli.command, Command::Serve(_)) { "info" } else { "warn" };
    logs::start(cli.global.log.as_deref().unwrap_or(usual), cli.global.log_format)?;
    let context = Context { output, data_dir: DataDir::resolve(cli.global.data_dir)? };
    if !matches!(cli.command, Command::Serve(_) | Command::Demo(_) | Command::Bench(_)) {
        signals::exit_on_signal(output, std::sync::Arc::new(|| signals::Stopped::Early))?;
    }
    match cli.command {
        Command::Demo(args) => cmd::demo::run(&context, &args),
        Command::Init(args) => cmd::init::run(&context, args),
        Command::Serve(args) => cmd::serve::run(&context, args),
        Command::Status(args) => cmd::status::run(&context, &args),
        Command::Peers(command) => cmd::peers::run(&context, command),
        Command::Invite(command) => cmd::invite::run(&context, command),
        Command::Join(args) => cmd::join::run(&context, &args),
        Command::Collection(command) => cmd::collection::run(&context, command),
        Command::Import(args) => cmd::import::run(&context, &args),
        Command::Query(args) => cmd::query::run(&context, args),
        Command::Commit(command) => cmd::commit::run(&context, command),
        Command::Shared(command) => cmd::shared::run(&context, command),
        Command::Verify(args) => cmd::verify::run(&context, &args),
        Command::Bench(command) => cmd::bench::run(&context, command),
        Command::Doctor(args) => cmd::doctor::run(&context, &args),
        Command::Config(command) => cmd::config::run(&context, &command),
        Command::Errors(args) => cmd::errors::run(&context, &args),
        Command::Completions(args) => cmd::completions::run(&context, &args),
    }
}

/// A command line that does not parse; or that asked for help, which is data and no failure.
fn usage(error: &clap::Error) -> ExitCode {
    let helps = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // Nobody is left to tell when printing fails.
    let _ = error.print();
    if helps {
        return ExitCode::from(Exit::Ok as u8);
    }
    // The arguments did not parse, so the flag is looked for as it stands.
    if std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json") {
        let text = error.render().to_string();
        let line = text.lines().next().unwrap_or_default();
        let message = line.strip_prefix("error: ").unwrap_or(line);
        let failure = Failure::new(exo_federation::ErrorCode::InvalidArgument, message)
            .with_remedy("`exo help COMMAND` shows the usage.");
        let _ = Output::new(true).json(&failure.doc());
    }
    ExitCode::from(Exit::Usage as u8)
}
