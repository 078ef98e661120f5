//! `exo bench consensus`: four voting node processes on this machine decide, as fast as they can and
//! one thing at a time.
//!
//! The load comes in lists over one node's API, so that parsing HTTP is a small part of it; what the
//! voters spend on it counts in their processor time all the same.

pub(super) mod disk;
mod latency;
mod load;

use std::time::{Duration, Instant};

use exo_federation::Config;
use exo_types::NodeName;
use exo_types::limits::{API_PROPOSALS_MAX, VOTERS_MAX, VOTERS_MIN};

use super::federation::{JOIN_WITHIN, LOOK_EVERY, Stage};
use super::report::Report;
use super::{broken, within};
use crate::api::dto::Document;
use crate::api::dto::decision::ConsensusDoc;
use crate::api::dto::node::{InviteRequest, JoinDoc, JoinRequest, NewInviteDoc, StatusDoc};
use crate::cmd::Context;
use crate::cmd::demo::fleet::{self, Node};
use crate::exit::Failure;
use crate::span;

/// Arguments of `exo bench consensus`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Voting nodes
    #[arg(long, value_name = "N", default_value_t = VOTERS_MIN, value_parser = voters)]
    nodes: usize,
    /// Length of an update, bytes
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = bytes)]
    bytes: usize,
    /// Updates that are proposed together; may be repeated [default: 1, 100 and 1000]
    #[arg(long, value_name = "N", value_parser = batch)]
    batch: Vec<usize>,
    /// How long each of them is kept up
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = load_for)]
    load_for: Duration,
    /// Lists that are under way at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = in_flight)]
    in_flight: usize,
    /// Decisions whose latency is measured, one at a time
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = commits)]
    commits: usize,
}

/// Measures.
pub(super) fn run(context: &Context, args: &Args) -> Result<Report, Failure> {
    let output = &context.output;
    let stage = Stage::set(*output)?;
    let batches = if args.batch.is_empty() { &BATCHES[..] } else { &args.batch };
    let mut report = Report::new("consensus");
    report.param("nodes", args.nodes);
    report.param("update_bytes", args.bytes);
    report.param("load_seconds", args.load_for.as_secs_f64());
    report.param("in_flight", args.in_flight);
    report.param("commits", args.commits);
    report.param("cpus", std::thread::available_parallelism().map_or(1, usize::from));

    output.note("What the disk takes for a write that lasts …");
    disk::measure(&mut report, &stage.root)?;
    output.note("Nodes start, join and found …");
    let nodes = decide(&stage, args.nodes)?;
    output.note("Decisions, one at a time …");
    latency::measure(&mut report, &stage, &nodes, args)?;
    for batch in batches {
        output.note(&format!("Decisions, {batch} at a time …"));
        load::measure(&mut report, &stage, &nodes, args, *batch)?;
    }
    report.remark(
        "Updates are proposed over HTTP at one node; batches/s and CPU are those of the log and of all voters.",
    );
    Ok(report)
}

/// Starts voters and waits until they decide together.
fn decide(stage: &Stage, count: usize) -> Result<Vec<Node>, Failure> {
    let names: Vec<NodeName> = (1..=count)
        .map(|node| NodeName::new(format!("node-{node}")))
        .collect::<Result<_, _>>()
        .map_err(|error| broken("a name", error))?;
    let configure = |config: &mut Config| config.founding_voters = count;
    let nodes = fleet::start_with(&stage.processes, &stage.root, &names, &configure)?;
    let (founder, joiners) = nodes.split_first().ok_or_else(|| broken("nodes", "none"))?;
    for joiner in joiners {
        let request = InviteRequest { expires_ms: None, auto_approve: true };
        let invite: Document<NewInviteDoc> = founder.client.post("/v1/invites", &request)?;
        let request = JoinRequest { ticket: invite.body.ticket };
        let _: Document<JoinDoc> = joiner.client.post("/v1/join", &request)?;
    }
    let began = Instant::now();
    for node in &nodes {
        while !ready(node, count)? {
            if began.elapsed() > JOIN_WITHIN {
                let what = format!("{} does not decide with the others", node.name);
                return Err(broken("nodes", what));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
    Ok(nodes)
}

/// Whether a node votes and reaches all others.
fn ready(node: &Node, voters: usize) -> Result<bool, Failure> {
    let consensus = status(node)?;
    let active = |consensus: &ConsensusDoc| {
        consensus.voters.iter().filter(|voter| voter.active).count() == voters
    };
    Ok(consensus.as_ref().is_some_and(active))
}

/// How deciding stands at a node.
fn status(node: &Node) -> Result<Option<ConsensusDoc>, Failure> {
    let status: Document<StatusDoc> = node.client.get("/v1/status")?;
    Ok(status.body.consensus)
}

/// How deciding stands at a node of a federation that decides.
fn standing(node: &Node) -> Result<ConsensusDoc, Failure> {
    status(node)?.ok_or_else(|| broken(node.name.as_str(), "does not decide any more"))
}

fn load_for(text: &str) -> Result<Duration, String> {
    let each = span::parse(text)?;
    if (LOAD_FOR_MIN..=LOAD_FOR_MAX).contains(&each) {
        return Ok(each);
    }
    Err(format!("must be {} to {}", span::show(LOAD_FOR_MIN), span::show(LOAD_FOR_MAX)))
}

fn voters(text: &str) -> Result<usize, String> {
    within(text, VOTERS_MIN, VOTERS_MAX)
}

fn bytes(text: &str) -> Result<usize, String> {
    within(text, 16, 4096)
}

fn batch(text: &str) -> Result<usize, String> {
    within(text, 1, API_PROPOSALS_MAX)
}

fn in_flight(text: &str) -> Result<usize, String> {
    within(text, 1, 64)
}

fn commits(text: &str) -> Result<usize, String> {
    within(text, 10, 1_000_000)
}

/// Updates that are proposed together.
const BATCHES: [usize; 3] = [1, 100, 1000];
/// Shortest load that says anything.
const LOAD_FOR_MIN: Duration = Duration::from_millis(100);
/// Longest load that is of use.
const LOAD_FOR_MAX: Duration = Duration::from_secs(600);
