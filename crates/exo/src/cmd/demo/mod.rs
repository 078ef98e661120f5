//! `exo demo`: a whole federation on this machine. Every node is a process of its own with its own
//! keys, data and sockets; nothing is simulated, and every step is verified.

mod anonymous;
mod ask;
mod corpus;
mod decide;
pub(super) mod fleet;
mod join;
mod report;
pub(super) mod shared;
mod steps;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use exo_federation::ErrorCode;

use super::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Style;
use crate::signals::{Stopped, exit_on_signal};

use fleet::{EndOnDrop, Processes};
use report::Report;

/// Arguments of `exo demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Node processes
    #[arg(long, default_value_t = NODES_MIN, value_parser = nodes, value_name = "N")]
    nodes: usize,
    /// End after the last step instead of keeping the federation up
    #[arg(long)]
    no_wait: bool,
    /// Keep the nodes' data in this new directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Runs the demo; exits with 0 only if every step held.
pub(crate) fn run(context: &Context, args: &Args) -> Outcome {
    let root = root(args.keep.as_deref())?;
    let processes = Processes::new(args.keep.is_none().then(|| root.clone()));
    let _end = EndOnDrop(processes.clone());
    let waiting = Arc::new(AtomicBool::new(false));
    let (ending, done) = (processes.clone(), Arc::clone(&waiting));
    exit_on_signal(
        context.output,
        Arc::new(move || {
            ending.end();
            // After the last step, being stopped is how the demo ends.
            if done.load(Ordering::SeqCst) { Stopped::Done } else { Stopped::Early }
        }),
    )?;

    let report = Report::new(context.output);
    report.banner(args.nodes)?;
    let ran = steps::all(&report, &processes, &root, args.nodes);
    if processes.ended_by_signal() {
        // What failed now failed for that. The signal's thread ends the process.
        park();
    }
    let Some(federation) = ran? else { return Ok(Exit::Failure) };
    report.summary(decide::LIARS)?;
    if !args.no_wait {
        waiting.store(true, Ordering::SeqCst);
        stay(context, &federation);
    }
    Ok(Exit::Ok)
}

/// Keeps the federation up and says how to ask it.
fn stay(context: &Context, nodes: &[fleet::Node]) {
    let output = &context.output;
    let program = std::env::current_exe().map_or("exo".into(), |path| path.display().to_string());
    output.note("");
    output.note("The federation stays up until Ctrl-C. Ask it from another terminal:");
    if let Some(node) = nodes.last() {
        let directory = node.data_dir.path().display();
        let question = "query \"recursive acronym\"";
        let anonymous = format!("{question} --anonymous");
        for command in [
            question,
            &anonymous,
            "commit list",
            "shared list",
            "peers list",
            "status --watch",
            "doctor",
        ] {
            output.note(&format!("  {program} --data-dir {directory} {command}"));
        }
    }
    output.note(&output.note_style("Nodes, one directory each:", Style::Dim));
    for node in nodes {
        let line = format!("  {:<16} {}", node.name.as_str(), node.data_dir.path().display());
        output.note(&output.note_style(&line, Style::Dim));
    }
    park();
}

/// Waits for the signal's thread to end the process.
fn park() -> ! {
    loop {
        std::thread::park();
    }
}

/// Where the nodes' directories are: a new one.
fn root(keep: Option<&std::path::Path>) -> Result<PathBuf, Failure> {
    let Some(path) = keep else {
        let made = tempfile::Builder::new().prefix("exo-demo-").tempdir();
        // Removed with the processes, by whatever way the demo is left.
        return made.map(tempfile::TempDir::keep).map_err(|error| {
            Failure::new(ErrorCode::Io, format!("a temporary directory: {error}"))
        });
    };
    std::fs::create_dir_all(path).map_err(|error| Failure::file(path, &error))?;
    let mut entries = std::fs::read_dir(path).map_err(|error| Failure::file(path, &error))?;
    if entries.next().is_some() {
        return Err(Failure::new(
            ErrorCode::InvalidArgument,
            format!("{} is not empty", path.display()),
        )
        .with_remedy("Name a new directory."));
    }
    path.canonicalize().map_err(|error| Failure::file(path, &error))
}

fn nodes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(nodes) if (NODES_MIN..=NODES_MAX).contains(&nodes) => Ok(nodes),
        _ => Err(format!("must be {NODES_MIN} to {NODES_MAX}")),
    }
}

/// Nodes at least: fewer are no federation to look at.
const NODES_MIN: usize = 5;
/// Nodes at most: each is a process on this machine.
const NODES_MAX: usize = 16;
