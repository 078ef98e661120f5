//! commonware's simplex consensus under the load of the consensus benchmark: four processes over loopback.

use std::{
    io::Read as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::app::Report;

mod app;
mod node;

/// commonware simplex, as the peer of the consensus benchmark.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Runs one validator and prints what it measured, as one JSON line.
    Node(NodeArgs),
    /// Runs four validators as processes of their own and prints one JSON line for all of them.
    Run(RunArgs),
}

/// What every validator of a run has in common.
#[derive(Args, Clone)]
struct Load {
    /// Updates of 256 B in a block.
    #[arg(long)]
    batch: usize,
    /// Length of the measured window, in seconds.
    #[arg(long)]
    seconds: u64,
    /// Low load: at most this many blocks a second over all validators, of one update each.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: Option<u32>,
    /// Seconds from the start of a process to its measured window.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(4..))]
    warmup: u64,
    /// Pipelined handoff: the next leader proposes before its parent is certified. Off by default, as in
    /// the engine.
    #[arg(long)]
    pipeline: bool,
}

impl Load {
    /// Updates in a block as proposed: one in low load, whatever the batch.
    fn updates(&self) -> usize {
        if self.rate.is_some() { 1 } else { self.batch }
    }
}

#[derive(Args)]
struct NodeArgs {
    #[command(flatten)]
    load: Load,
    /// Index of this validator, from 0.
    #[arg(long)]
    index: u16,
    /// Number of validators.
    #[arg(long)]
    nodes: u16,
    /// Validator i listens on 127.0.0.1 at this port plus i.
    #[arg(long)]
    base_port: u16,
    /// Folder of this validator's journal.
    #[arg(long)]
    dir: PathBuf,
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    load: Load,
    /// First of the four ports on 127.0.0.1.
    #[arg(long, default_value_t = 41_700)]
    base_port: u16,
    /// Folder for the journals, on the disk to be measured; a temporary folder without it. A fresh folder
    /// is made inside and removed afterwards.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Validators of a run.
const NODES: u16 = 4;

fn main() -> Result<()> {
    match Cli::parse().command {
        Mode::Node(args) => {
            // Warnings of the engine go to stderr: a quiet run is silent, so that one that was not is seen.
            tracing_subscriber::fmt()
                .with_env_filter(
                    tracing_subscriber::EnvFilter::try_from_default_env()
                        .unwrap_or_else(|_| "warn".into()),
                )
                .with_writer(std::io::stderr)
                .init();
            let report = node::run(&args)?;
            println!("{}", serde_json::to_string(&report)?);
        }
        Mode::Run(args) => println!("{}", run(&args)?),
    }
    Ok(())
}

/// Runs the validators and sums up what they measured.
fn run(args: &RunArgs) -> Result<serde_json::Value> {
    ensure!(
        args.load.updates() > 0 && args.load.seconds > 0,
        "a batch and a window of at least one are needed"
    );
    let folder = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }
    .context("folder of the journals")?;
    let mut processes = Processes(Vec::new());
    for index in 0..NODES {
        let dir = folder.path().join(index.to_string());
        processes.0.push(spawn(args, index, dir).with_context(|| format!("validator {index}"))?);
    }
    let mut reports = Vec::new();
    for (index, process) in processes.0.iter_mut().enumerate() {
        let mut report = String::new();
        let mut stdout = process.stdout.take().context("the output is piped")?;
        stdout.read_to_string(&mut report).with_context(|| format!("validator {index}"))?;
        let status = process.wait().with_context(|| format!("validator {index}"))?;
        ensure!(status.success(), "validator {index} failed: {status}");
        reports.push(
            serde_json::from_str(&report)
                .with_context(|| format!("report of validator {index}"))?,
        );
    }
    summary(&args.load, &reports)
}

/// One line for all validators: see README.md for what each figure counts.
fn summary(load: &Load, reports: &[Report]) -> Result<serde_json::Value> {
    agree(reports)?;
    let rate = |r: &Report| r.finalized as f64 / r.window_s;
    // The slowest validator counts: a batch is done when all four have seen it final.
    let slowest = reports.iter().min_by(|a, b| rate(a).total_cmp(&rate(b))).context("no report")?;
    let batches_per_s = rate(slowest);
    ensure!(slowest.finalized > 0, "a validator saw nothing final in its window");
    let cpu_ms_per_batch: f64 = reports.iter().map(|r| r.cpu_ms / r.finalized as f64).sum();
    let mut latencies: Vec<u64> =
        reports.iter().flat_map(|r| r.latencies_us.iter().copied()).collect();
    latencies.sort_unstable();
    ensure!(!latencies.is_empty(), "no block was proposed and final within the window");
    let percentile =
        |p: usize| round(latencies[(latencies.len() * p).div_ceil(100).max(1) - 1] as f64 / 1e3);
    Ok(json!({
        "batch": load.updates(),
        "batches_per_s": round(batches_per_s),
        "tx_per_s": round(batches_per_s * load.updates() as f64),
        "latency_ms": { "p50": percentile(50), "p99": percentile(99) },
        "cpu_ms_per_batch": round(cpu_ms_per_batch),
        "finalized": slowest.finalized,
        "nullified": reports.iter().map(|r| r.nullified).max(),
        "gaps": reports.iter().map(|r| r.gaps).sum::<u64>(),
        "rate": load.rate,
        "pipeline": load.pipeline,
    }))
}

/// Fails unless all validators saw the same block final in every view they sampled.
fn agree(reports: &[Report]) -> Result<()> {
    let mut seen = std::collections::BTreeMap::new();
    for (view, digest) in reports.iter().flat_map(|r| &r.samples) {
        if seen.insert(view, digest).is_some_and(|other| other != digest) {
            bail!("two blocks are final in view {view}");
        }
    }
    Ok(())
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn spawn(args: &RunArgs, index: u16, dir: PathBuf) -> Result<Child> {
    let load = &args.load;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["node", "--index", &index.to_string(), "--nodes", &NODES.to_string()]);
    command.args(["--base-port", &args.base_port.to_string(), "--batch", &load.batch.to_string()]);
    command.args(["--seconds", &load.seconds.to_string(), "--warmup", &load.warmup.to_string()]);
    command.arg("--dir").arg(dir);
    if let Some(rate) = load.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    if load.pipeline {
        command.arg("--pipeline");
    }
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
}

/// The validators. They end with a run that fails, so that none is left behind.
struct Processes(Vec<Child>);

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
