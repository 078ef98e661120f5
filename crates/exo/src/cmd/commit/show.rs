//! `exo commit list`, `show` and `policy`: the log read.

use std::path::PathBuf;

use data_encoding::BASE64;
use exo_federation::ErrorCode;
use exo_types::limits::DECISIONS_PER_PAGE_MAX;
use serde_json::json;

use super::{Commit, member, outcome, row, style, write_policy, write_proof, wrote};
use crate::api::dto::Document;
use crate::api::dto::decision::CommitsDoc;
use crate::cmd::Context;
use crate::escape::visible;
use crate::exit::{Exit, Failure, Outcome};
use crate::files::write_whole;
use crate::output::{Style, table};

/// Arguments of `exo commit list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// The entry to begin with, oldest first; without it the newest decisions are listed, newest first
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    /// Decisions at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = limit)]
    limit: usize,
}

/// Arguments of `exo commit show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The decision's place in the log
    index: u64,
    /// Write its proof, a .tlog-proof file
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
    /// Write its entry, the bytes of which the proof speaks
    #[arg(long, value_name = "FILE")]
    entry: Option<PathBuf>,
    /// Write the policy that checks the proof
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// Arguments of `exo commit policy`.
#[derive(Debug, clap::Args)]
pub(crate) struct PolicyArgs {
    /// The epoch of voters [default: the one in force]
    #[arg(long, value_name = "N")]
    epoch: Option<u64>,
}

/// Lists decisions.
pub(super) fn list(context: &Context, args: &ListArgs) -> Outcome {
    let client = context.client()?;
    let output = &context.output;
    let path = match args.from {
        Some(from) => format!("/v1/decisions?from={from}&limit={}", args.limit),
        None => format!("/v1/decisions?newest=true&limit={}", args.limit),
    };
    let page: Document<CommitsDoc> = client.get(&path)?;
    if output.json {
        output.json(&page)?;
        return Ok(Exit::Ok);
    }
    if page.body.commits.is_empty() {
        output.note("Nothing is committed there: `exo commit propose` proposes something.");
        return Ok(Exit::Ok);
    }
    let mut rows = vec![["COMMIT", "BY", "KIND", "OUTCOME", "WHAT"].map(str::to_owned).to_vec()];
    rows.extend(page.body.commits.iter().map(row));
    let styles = page.body.commits.iter().map(|commit| style(commit.outcome));
    for (line, style) in table(&rows).iter().zip(std::iter::once(Style::Dim).chain(styles)) {
        output.line(&output.style(line, style))?;
    }
    output.note(&format!(
        "{} entries in the log, {} of them cosigned by a quorum",
        page.body.size, page.body.certified
    ));
    if let (Some(next), Some(_)) = (page.body.next, args.from) {
        output.note(&format!("More: --from {next}"));
    }
    Ok(Exit::Ok)
}

/// Shows one decision and writes what proves it.
pub(super) fn show(context: &Context, args: &ShowArgs) -> Outcome {
    let client = context.client()?;
    let output = &context.output;
    let commit: Commit = client.get(&format!("/v1/decisions/{}", args.index))?;
    let entry = commit.body.entry.as_deref().map(|text| BASE64.decode(text.as_bytes()));
    let entry = entry.transpose().map_err(|error| {
        Failure::new(ErrorCode::Internal, format!("the entry is no base64: {error}"))
    })?;
    if let Some(path) = &args.proof {
        write_proof(&client, args.index, path)?;
        wrote(output, "the proof is", path);
    }
    if let Some(path) = &args.entry {
        let bytes = entry.as_deref().ok_or_else(|| {
            Failure::new(ErrorCode::Internal, "the node gave the decision without its entry")
        })?;
        write_whole(path, bytes)?;
        wrote(output, "the entry is", path);
    }
    if let Some(path) = &args.policy {
        write_policy(&client, commit.body.epoch, path)?;
        wrote(output, "the policy is", path);
    }
    if output.json {
        output.json(&commit)?;
        return Ok(Exit::Ok);
    }
    let commit = &commit.body;
    output.line(&output.style(&format!("commit #{}", commit.index), Style::Strong))?;
    let certified = if commit.certified { "by a quorum" } else { "not yet" };
    let mut rows = vec![
        vec!["  what".into(), visible(&commit.summary)],
        vec!["  kind".into(), commit.kind.clone()],
        vec!["  outcome".into(), outcome(commit)],
        vec!["  proposed by".into(), format!("{} ({})", member(commit), commit.member)],
        vec!["  batch".into(), format!("{}, epoch {}", commit.sequence, commit.epoch)],
        vec!["  cosigned".into(), certified.into()],
        vec!["  entry".into(), format!("{} bytes", commit.bytes)],
    ];
    if let Some(reason) = &commit.reason {
        rows.push(vec!["  reason".into(), visible(reason)]);
    }
    table(&rows).iter().try_for_each(|line| output.line(line))?;
    Ok(Exit::Ok)
}

/// Prints a policy.
pub(super) fn policy(context: &Context, args: &PolicyArgs) -> Outcome {
    let client = context.client()?;
    let output = &context.output;
    let query = args.epoch.map_or(String::new(), |epoch| format!("?epoch={epoch}"));
    let policy = client.text(&format!("/v1/decisions/policy{query}"))?;
    if output.json {
        output.json(&json!({
            "schema": "exo.policy/1", "epoch": args.epoch, "policy": policy,
        }))?;
    } else {
        output.line(policy.trim_end_matches('\n'))?;
    }
    Ok(Exit::Ok)
}

fn limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(limit) if (1..=DECISIONS_PER_PAGE_MAX).contains(&limit) => Ok(limit),
        _ => Err(format!("must be 1 to {DECISIONS_PER_PAGE_MAX}")),
    }
}
