//! `exo bench query`: a federation of node processes on this machine, asked.
//!
//! One node lives in this process and asks through the library, so that the local API is not in the
//! figures; the others are `exo serve` as people run it. What a source takes for its own search is
//! measured in the same run, between the federated queries.

mod embedded;
mod latency;
mod load;

use std::path::PathBuf;
use std::time::Duration;

use exo_types::limits::DIMENSIONS_MAX;

use super::federation::Stage;
use super::report::{Report, Unit};
use super::{data, federation, within};
use crate::cmd::Context;
use crate::exit::Failure;
use crate::span;

/// Arguments of `exo bench query`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Nodes, the one that asks among them
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = nodes)]
    nodes: usize,
    /// Made-up records of all nodes together
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = records)]
    records: usize,
    /// Dimensions of made-up vectors
    #[arg(long, value_name = "N", default_value_t = 384, value_parser = dims)]
    dims: usize,
    /// Queries whose latency is measured
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = queries)]
    queries: usize,
    /// How long each number of queries at once is kept up
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = load_for)]
    load_for: Duration,
    /// Real records instead: a directory of NAME.jsonl with NAME.f16.npy or NAME.f32.npy, and
    /// _queries.jsonl with _queries.f32.npy
    #[arg(long, value_name = "DIR", conflicts_with_all = ["records", "dims"])]
    data: Option<PathBuf>,
}

/// Measures.
pub(super) fn run(context: &Context, args: &Args) -> Result<Report, Failure> {
    let output = &context.output;
    let stage = Stage::set(*output)?;
    let (root, runtime) = (&stage.root, &stage.runtime);
    let data = match &args.data {
        Some(directory) => data::files(directory)?,
        None => data::made_up(root, args.nodes, args.records, args.dims)?,
    };
    let mut report = Report::new("query");
    report.param("nodes", args.nodes);
    report.param("data", if args.data.is_some() { "files" } else { "made up" });
    report.param("dimensions", data.spec.dimensions);
    report.param("queries", args.queries);
    report.param("top_k", TOP);
    report.param("load_seconds", args.load_for.as_secs_f64());
    report.param("cpus", std::thread::available_parallelism().map_or(1, usize::from));

    output.note("One collection of all records, embedded …");
    let records = runtime.block_on(embedded::measure(&mut report, root, &data, args.queries))?;
    report.param("records", records);
    output.note("Nodes start, join and import …");
    let federation = federation::start(&stage, context, &data, args.nodes, &|_| ())?;
    report.samples("http.import", Unit::RecordsPerSecond, &federation.import_rates);
    output.note("Queries, one at a time …");
    latency::measure(&mut report, runtime, &federation, &data, args.queries)?;
    output.note("Queries, many at a time …");
    runtime.block_on(load::measure(&mut report, &federation, &data, args.load_for))?;
    runtime.block_on(federation.asker.shutdown());
    Ok(report)
}

fn load_for(text: &str) -> Result<Duration, String> {
    let each = span::parse(text)?;
    if (LOAD_FOR_MIN..=LOAD_FOR_MAX).contains(&each) {
        return Ok(each);
    }
    Err(format!("must be {} to {}", span::show(LOAD_FOR_MIN), span::show(LOAD_FOR_MAX)))
}

fn nodes(text: &str) -> Result<usize, String> {
    within(text, 2, 64)
}

fn records(text: &str) -> Result<usize, String> {
    within(text, 100, 10_000_000)
}

fn dims(text: &str) -> Result<usize, String> {
    within(text, 2, DIMENSIONS_MAX)
}

fn queries(text: &str) -> Result<usize, String> {
    within(text, 10, 1_000_000)
}

/// Results of every query.
const TOP: usize = 10;
/// Queries that are thrown away first: connections, caches and congestion windows grow warm.
const WARM_UP: usize = 30;
/// Shortest time of one number of queries at once that says anything.
const LOAD_FOR_MIN: Duration = Duration::from_millis(100);
/// Longest time that is of use.
const LOAD_FOR_MAX: Duration = Duration::from_secs(600);
