//! `exo completions`: completions for a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Context;
use crate::cli::Cli;
use crate::exit::{Exit, Failure, Outcome};

/// Arguments of `exo completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes the completions to standard output.
pub(crate) fn run(context: &Context, args: &Args) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "exo", &mut text);
    let text = String::from_utf8(text).map_err(|error| {
        Failure::new(exo_federation::ErrorCode::Internal, format!("completions: {error}"))
    })?;
    context.output.line(text.trim_end())?;
    Ok(Exit::Ok)
}
