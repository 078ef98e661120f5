//! `exo commit propose`: something is proposed, and what came of it is said.

use std::path::PathBuf;
use std::time::Duration;

use clap::ArgGroup;
use exo_federation::ErrorCode;
use exo_types::limits::{DEADLINE_MILLIS_MAX, STATEMENT_BYTES_MAX, VOTERS_MAX};

use super::{Commit, member, write_policy, write_proof, wrote};
use crate::api::dto::decision::{CommitDoc, OutcomeDoc, ProposeRequest};
use crate::client::Client;
use crate::cmd::Context;
use crate::escape::visible;
use crate::exit::{Exit, Failure, Outcome};
use crate::files::read_bytes;
use crate::output::{Output, Style};
use crate::span;

/// Arguments of `exo commit propose`.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("what").required(true).args([
    "file", "statement", "admit", "revoke", "grant_vote", "withdraw_vote", "admit_needs",
    "rotate_cosigner",
])))]
pub(crate) struct Args {
    /// Commit the content of a file as a statement
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Commit a text as a statement
    #[arg(long, value_name = "TEXT")]
    statement: Option<String>,
    /// Admit a joiner: by its four words as one argument where it waits here, by its id where another
    /// voter has proposed it
    #[arg(long, value_name = "WORDS|ID")]
    admit: Option<String>,
    /// Remove a member: its id, the beginning of its id, or its name
    #[arg(long, value_name = "PEER")]
    revoke: Option<String>,
    /// Why it is removed; everybody can read it in the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Give a member a vote
    #[arg(long, value_name = "PEER")]
    grant_vote: Option<String>,
    /// Take a member's vote
    #[arg(long, value_name = "PEER")]
    withdraw_vote: Option<String>,
    /// Change how many voters admit a member; never more than a quorum are asked for
    #[arg(long, value_name = "N", value_parser = admit_needs)]
    admit_needs: Option<u8>,
    /// Change the key with which this node cosigns the log
    #[arg(long)]
    rotate_cosigner: bool,
    /// How long to wait until a quorum has committed it
    #[arg(long, default_value = "10s", value_parser = deadline, value_name = "DURATION")]
    deadline: Duration,
    /// Write the proof, a .tlog-proof file
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
    /// Write the policy that checks the proof
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// Proposes and waits.
pub(super) fn run(context: &Context, args: Args) -> Outcome {
    let output = &context.output;
    let (proof, policy) = (args.proof.clone(), args.policy.clone());
    let deadline = args.deadline;
    let request = request(args)?;
    let client = context.client()?;
    let commit = propose(&client, &request, deadline)?;
    if let Some(path) = &proof {
        write_proof(&client, commit.body.index, path)?;
        wrote(output, "the proof is", path);
    }
    if let Some(path) = &policy {
        write_policy(&client, commit.body.epoch, path)?;
        wrote(output, "the policy is", path);
    }
    if output.json {
        output.json(&commit)?;
    } else {
        said(output, &commit.body)?;
    }
    Ok(exit(&commit.body))
}

/// Proposes over the node's API.
fn propose(
    client: &Client,
    request: &ProposeRequest,
    deadline: Duration,
) -> Result<Commit, Failure> {
    // The node's own deadline comes first: its error says more.
    client.post_within("/v1/decisions", request, deadline + GRACE)
}

/// A proposal that stands in the log and has no effect has failed.
pub(crate) fn exit(commit: &CommitDoc) -> Exit {
    if commit.outcome == OutcomeDoc::Void { Exit::Failure } else { Exit::Ok }
}

/// Says what came of a proposal.
pub(crate) fn said(output: &Output, commit: &CommitDoc) -> Result<(), Failure> {
    let number = format!("commit #{}", commit.index);
    let took = commit.elapsed_ms.map_or(String::new(), |ms| format!(" ({ms:.1} ms)"));
    let summary = visible(&commit.summary);
    let (text, style) = match commit.outcome {
        OutcomeDoc::Recorded => (format!("Committed: {number}{took}"), Style::Good),
        OutcomeDoc::Effective => (format!("Decided by {number}: {summary}{took}"), Style::Good),
        OutcomeDoc::Wished => {
            let (have, need) = (commit.have.unwrap_or(0), commit.need.unwrap_or(0));
            let text = format!("{have} of {need} voters wish it, by {number}: {summary}{took}");
            (text, Style::Warn)
        }
        OutcomeDoc::Void => {
            let reason = commit.reason.as_deref().unwrap_or("no reason given");
            (format!("Without effect, though {number}: {}", visible(reason)), Style::Bad)
        }
    };
    output.line(&output.style(&text, style))?;
    if commit.outcome == OutcomeDoc::Wished {
        output.note(&format!(
            "It takes effect when others propose the same: what {} did, on their nodes.",
            member(commit)
        ));
    }
    Ok(())
}

/// What is proposed.
fn request(args: Args) -> Result<ProposeRequest, Failure> {
    if args.reason.is_some() && args.revoke.is_none() {
        return Err(Failure::new(ErrorCode::InvalidArgument, "--reason goes with --revoke"));
    }
    let statement = match (&args.file, args.statement) {
        (Some(path), _) => Some(read_bytes(path, STATEMENT_BYTES_MAX)?),
        (None, text) => text.map(String::into_bytes),
    };
    if statement.as_ref().is_some_and(|bytes| bytes.len() > STATEMENT_BYTES_MAX) {
        return Err(Failure::new(
            ErrorCode::UpdateTooLong,
            format!("a statement has at most {STATEMENT_BYTES_MAX} bytes"),
        ));
    }
    if statement.as_ref().is_some_and(Vec::is_empty) {
        return Err(Failure::new(ErrorCode::InvalidArgument, "the statement is empty"));
    }
    Ok(ProposeRequest {
        statement: statement.map(|bytes| data_encoding::BASE64.encode(&bytes)),
        admit: args.admit,
        revoke: args.revoke,
        reason: args.reason,
        grant_vote: args.grant_vote,
        withdraw_vote: args.withdraw_vote,
        admit_needs: args.admit_needs,
        rotate_cosigner: args.rotate_cosigner,
        deadline_ms: u64::try_from(args.deadline.as_millis()).ok(),
        ..ProposeRequest::default()
    })
}

fn admit_needs(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(voters) if (1..=VOTERS_MAX).contains(&usize::from(voters)) => Ok(voters),
        _ => Err(format!("must be 1 to {VOTERS_MAX}")),
    }
}

/// Parses how long a proposal may take.
pub(crate) fn deadline(text: &str) -> Result<Duration, String> {
    let deadline = span::parse(text)?;
    let most = Duration::from_millis(DEADLINE_MILLIS_MAX);
    if deadline.is_zero() || deadline > most {
        return Err(format!("must be more than nothing and at most {}", span::show(most)));
    }
    Ok(deadline)
}

/// What the answer may take past the deadline.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
