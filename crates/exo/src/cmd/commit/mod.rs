//! `exo commit`: what the federation decides together.

pub(crate) mod propose;
mod show;
mod watch;

use std::path::Path;

use clap::Subcommand;

use super::Context;
use crate::api::dto::Document;
use crate::api::dto::decision::{CommitDoc, OutcomeDoc};
use crate::client::Client;
use crate::escape::visible;
use crate::exit::{Failure, Outcome};
use crate::files::write_whole;
use crate::output::{Output, Style};

/// Commands of `exo commit`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Propose something, and wait until a quorum has committed it
    Propose(propose::Args),
    /// List what is committed
    List(show::ListArgs),
    /// Show one decision; write its proof, its entry and the policy that checks it
    Show(show::ShowArgs),
    /// Print decisions as they are committed, until stopped
    Watch,
    /// Print the policy: whose signatures count in a proof, and how many of them
    Policy(show::PolicyArgs),
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Propose(args) => propose::run(context, args),
        Command::List(args) => show::list(context, &args),
        Command::Show(args) => show::show(context, &args),
        Command::Watch => watch::run(context),
        Command::Policy(args) => show::policy(context, &args),
    }
}

/// The row of a decision in a list.
fn row(commit: &CommitDoc) -> Vec<String> {
    vec![
        format!("#{}", commit.index),
        member(commit),
        commit.kind.clone(),
        outcome(commit),
        visible(&crate::escape::cut(&commit.summary, SUMMARY_CHARS)),
    ]
}

/// Who proposed it, for people.
fn member(commit: &CommitDoc) -> String {
    let name = commit.member_name.as_ref().map(|name| name.as_str().to_owned());
    name.unwrap_or_else(|| commit.member.short())
}

/// What came of a decision, for people.
fn outcome(commit: &CommitDoc) -> String {
    match (commit.outcome, commit.have, commit.need) {
        (OutcomeDoc::Wished, Some(have), Some(need)) => format!("wished by {have} of {need}"),
        (outcome, _, _) => outcome.as_str().to_owned(),
    }
}

/// The colour of an outcome.
fn style(outcome: OutcomeDoc) -> Style {
    match outcome {
        OutcomeDoc::Recorded | OutcomeDoc::Effective => Style::Good,
        OutcomeDoc::Wished => Style::Warn,
        OutcomeDoc::Void => Style::Bad,
    }
}

/// Writes the proof of a decision into a file.
fn write_proof(client: &Client, index: u64, path: &Path) -> Result<(), Failure> {
    let proof = client.text(&format!("/v1/decisions/{index}/proof"))?;
    write_whole(path, proof.as_bytes())
}

/// Writes the policy of an epoch into a file.
fn write_policy(client: &Client, epoch: u64, path: &Path) -> Result<(), Failure> {
    let policy = client.text(&format!("/v1/decisions/policy?epoch={epoch}"))?;
    write_whole(path, policy.as_bytes())
}

/// Says where a file went.
fn wrote(output: &Output, what: &str, path: &Path) {
    output.note(&format!("{what} written to {}", path.display()));
}

/// One decision as the API gives it.
type Commit = Document<CommitDoc>;

/// Characters of a summary in a list.
const SUMMARY_CHARS: usize = 60;
