//! `exo bench onion`: the onion packet by itself, then in a federation of node processes.
//!
//! The relays and the members that answer are `exo serve` as people run it. A query through relays asks
//! every member; what one source costs is measured by a member of this process that speaks the wire
//! itself ([`probe`]) and asks one source alone.

mod cover;
mod latency;
mod mixing;
mod packet;
mod probe;
mod relay;

use std::sync::Arc;
use std::time::Duration;

use exo_federation::Config;
use exo_types::limits::{DIMENSIONS_MAX, HOPS_MAX, ONION_PACKETS_PER_SECOND_MAX};

use super::federation::{self, Stage};
use super::report::Report;
use super::{data, within};
use crate::cmd::Context;
use crate::exit::Failure;
use crate::span;

/// Arguments of `exo bench onion`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds of building and unwrapping, each a few packets of every length and path
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = rounds)]
    rounds: usize,
    /// Packets that a node process relays, for each length of reply
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = packets)]
    packets: usize,
    /// Queries whose latency is measured, for each length of path
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = queries)]
    queries: usize,
    /// Queries whose packets are held back on their way, for each mean time
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = queries)]
    mix_queries: usize,
    /// How long cover traffic is measured, and how long its absence
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = cover_for)]
    cover_for: Duration,
    /// Made-up records of all nodes together
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = records)]
    records: usize,
    /// Dimensions of made-up vectors
    #[arg(long, value_name = "N", default_value_t = 384, value_parser = dims)]
    dims: usize,
}

/// Measures.
pub(super) fn run(context: &Context, args: &Args) -> Result<Report, Failure> {
    let output = &context.output;
    let stage = Stage::set(*output)?;
    let mut report = Report::new("onion");
    report.param("nodes", NODES);
    report.param("rounds", args.rounds);
    report.param("packets", args.packets);
    report.param("queries", args.queries);
    report.param("mix_queries", args.mix_queries);
    report.param("cover_seconds", args.cover_for.as_secs_f64());
    report.param("records", args.records);
    report.param("dimensions", args.dims);
    report.param("top_k", TOP);
    report.param("cpus", std::thread::available_parallelism().map_or(1, usize::from));

    output.note("Packets, built and unwrapped …");
    packet::measure(&mut report, args.rounds)?;
    output.note("Nodes start, join and import …");
    let data = data::made_up(&stage.root, NODES, args.records, args.dims)?;
    let configure = |config: &mut Config| {
        config.onion.packets_per_second = ONION_PACKETS_PER_SECOND_MAX;
    };
    let mut federation = federation::start(&stage, context, &data, NODES, &configure)?;
    output.note("Queries of every source, their packets held back …");
    stage.runtime.block_on(mixing::measure(&mut report, &federation, &data, args.mix_queries))?;
    output.note("Queries of one source …");
    let probe = stage.runtime.block_on(probe::Probe::join(&stage.root, &federation))?;
    latency::measure(&mut report, &stage.runtime, &federation, &probe, &data, args.queries)?;
    output.note("Packets relayed by a node process …");
    let probe = Arc::new(probe);
    let mut relayed = relay::Bench { report: &mut report, stage: &stage, probe: &probe };
    relayed.measure(&federation, args.packets)?;
    stage.runtime.block_on(probe.leave(&federation))?;
    output.note("Cover traffic …");
    cover::measure(&mut report, &stage, &mut federation, args.cover_for)?;
    stage.runtime.block_on(federation.asker.shutdown());
    report.remark(BESIDE_OTHERS);
    Ok(report)
}

fn rounds(text: &str) -> Result<usize, String> {
    within(text, 1, 10_000)
}

fn packets(text: &str) -> Result<usize, String> {
    within(text, relay::RUNS * relay::AT_ONCE, PACKETS_MAX)
}

fn queries(text: &str) -> Result<usize, String> {
    within(text, 1, 100_000)
}

fn records(text: &str) -> Result<usize, String> {
    within(text, 100, 10_000_000)
}

fn dims(text: &str) -> Result<usize, String> {
    within(text, 2, DIMENSIONS_MAX)
}

fn cover_for(text: &str) -> Result<Duration, String> {
    let each = span::parse(text)?;
    if (COVER_FOR_MIN..=COVER_FOR_MAX).contains(&each) {
        return Ok(each);
    }
    Err(format!("must be {} to {}", span::show(COVER_FOR_MIN), span::show(COVER_FOR_MAX)))
}

/// The one that asks, and processes enough for the longest path.
const NODES: usize = 1 + HOPS_MAX as usize;
/// Results of every query, the usual number.
const TOP: usize = 10;
/// Packets relayed at most: the relay remembers each for a while, and so many at once.
const PACKETS_MAX: usize = 400_000;
/// Shortest time in which a cover packet is likely.
const COVER_FOR_MIN: Duration = Duration::from_secs(1);
/// Longest time that is of use.
const COVER_FOR_MAX: Duration = Duration::from_secs(600);
/// Other projects' packets are no part of this program.
const BESIDE_OTHERS: &str = "beside sphinx-packet and nym-outfox, in one run: \
     cargo run --release --manifest-path benches/Cargo.toml --bin onion";
