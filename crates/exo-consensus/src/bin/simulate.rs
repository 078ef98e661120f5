//! Runs ranges of simulator seeds: `simulate --seeds A..B [--nodes N] [--threads T] [--log]`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use exo_consensus::sim::{Options, Stats, run};

fn main() -> ExitCode {
    let Some(args) = Args::read() else {
        eprintln!("usage: simulate --seeds A..B [--nodes N] [--threads T] [--log]");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let next = AtomicU64::new(args.from);
    let failed = Mutex::new(Vec::new());
    let sum = Mutex::new((0u64, Stats::default()));
    std::thread::scope(|scope| {
        for _ in 0..args.threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= args.to {
                        return;
                    }
                    let outcome = run(seed, &args.options);
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.0 += 1;
                    sum.1.add(&outcome.stats);
                    if args.options.log {
                        outcome.log.iter().for_each(|line| println!("{line}"));
                    }
                    if let Some(violation) = outcome.violation {
                        println!("seed {seed}: {violation}");
                        let nodes = args.options.nodes.map(|n| format!(" --nodes {n}"));
                        println!(
                            "  replay: cargo run --release -p exo-consensus --features sim --bin \
                             simulate -- --seeds {seed}..{}{} --log",
                            seed + 1,
                            nodes.unwrap_or_default()
                        );
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.push(seed);
                    }
                }
            });
        }
    });
    let (seeds, stats) = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = began.elapsed().as_secs_f64();
    println!("{seeds} seeds in {seconds:.1} s, {} failed {failed:?}", failed.len());
    println!("{stats:?}");
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Args {
    from: u64,
    to: u64,
    threads: usize,
    options: Options,
}

impl Args {
    fn read() -> Option<Self> {
        let mut args = std::env::args().skip(1);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut read = Self { from: 0, to: 0, threads, options: Options::default() };
        while let Some(name) = args.next() {
            match name.as_str() {
                "--seeds" => {
                    let value = args.next()?;
                    let (from, to) = value.split_once("..")?;
                    (read.from, read.to) = (from.parse().ok()?, to.parse().ok()?);
                }
                "--nodes" => read.options.nodes = Some(args.next()?.parse().ok()?),
                "--threads" => read.threads = args.next()?.parse().ok()?,
                "--log" => {
                    read.options.log = true;
                    read.threads = 1;
                }
                _ => return None,
            }
        }
        (read.from < read.to && read.threads > 0).then_some(read)
    }
}
