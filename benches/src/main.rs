//! The embedded search beside an exact scan and a well-known index library, in one run over the same
//! vectors: time to build, recall of the ten best, latency of one query at a time.
//!
//! The scan and the index give positions and scores. The embedded search gives whole hits, with
//! title, text and metadata from its durable store: that is in its figures.

mod data;
mod engine;
mod report;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;

use crate::data::Data;
use crate::engine::{Embedded, Engine, Graph, Scan};
use crate::report::Report;

/// Compares the embedded search with an exact scan and with hnsw_rs.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Args {
    /// Directory of NAME.jsonl with NAME.f16.npy, and _queries.f32.npy [default:
    /// ../shared/data/dev below the working directory where it is there, made-up vectors otherwise]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Vectors: made up, or all of the directory's and seeded perturbations of them up to so many
    #[arg(long, value_name = "N")]
    records: Option<usize>,
    /// Passes over the queries
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Print one JSON document, exo.bench/1
    #[arg(long)]
    json: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let args = Args::parse();
    let usual = PathBuf::from(USUAL_DATA);
    let data = match args.data.or_else(|| usual.is_dir().then_some(usual)) {
        Some(directory) => Data::read(&directory, args.records)?,
        None => Data::make_up(args.records.unwrap_or(RECORDS)),
    };
    let mut report = Report::new("search");
    report.param("data", data.origin);
    report.param("records", data.records.len());
    report.param("dimensions", data.dimensions);
    report.param("queries", data.queries.len());
    report.param("rounds", args.rounds);
    report.param("top_k", TOP);
    report.param("cpus", std::thread::available_parallelism().map_or(1, usize::from));

    let bars = data.bars();
    let root = tempfile::tempdir()?;
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(Scan::build(&data))];
    for (name, exact) in [("embedded_exact", true), ("embedded_two_stage", false)] {
        eprintln!("building {name} …");
        let began = Instant::now();
        let path = root.path().join(format!("{name}.db"));
        let engine = Embedded::build(name, &path, exact, &data).await?;
        report.seconds(format!("{name}.build"), began.elapsed());
        engines.push(Box::new(engine));
    }
    eprintln!("building hnsw …");
    let began = Instant::now();
    let graph = Graph::build(&data);
    report.seconds("hnsw.build", began.elapsed());
    engines.extend(EF.map(|ef| Box::new(graph.clone().with_ef(ef)) as Box<dyn Engine>));

    eprintln!("searching …");
    let mut times = vec![Vec::new(); engines.len()];
    let mut right = vec![0_usize; engines.len()];
    // Query by query, engine by engine: whatever disturbs the machine disturbs all of them.
    for round in 0..=args.rounds {
        for (query, bar) in data.queries.iter().zip(&bars) {
            for (at, engine) in engines.iter().enumerate() {
                let began = Instant::now();
                let found = engine.search(query).await?;
                let took = began.elapsed();
                if round == 0 {
                    // The first pass warms caches and is checked, not timed.
                    right[at] += found.iter().filter(|id| data.score(query, **id) >= *bar).count();
                } else {
                    times[at].push(took);
                }
            }
        }
    }
    for ((engine, times), right) in engines.iter().zip(&times).zip(right) {
        let recall = right as f64 / (TOP * data.queries.len()) as f64;
        report.share(format!("{}.recall_at_10", engine.name()), recall);
        report.millis(engine.name(), times);
    }
    for engine in &engines[1..] {
        report.ratio(format!("{}.over_scan", engine.name()), &engine.name(), "scan");
    }
    report.print(args.json)
}

/// Where real records are looked for.
const USUAL_DATA: &str = "../shared/data/dev";
/// Made-up vectors unless asked otherwise.
const RECORDS: usize = 18_760;
/// Results of every query.
const TOP: usize = 10;
/// How widely the index looks: more finds more and takes longer.
const EF: [usize; 3] = [64, 128, 256];
