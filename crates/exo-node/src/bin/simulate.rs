//! Runs the simulator: seeds of federations in bad weather, or one big crowd.
//!
//! ```text
//! simulate --seeds A..B [--seconds S]
//! simulate --crowd MEMBERS [--askers N] [--draws N] [--hops N] [--seed S]
//! ```
//! A seed that fails is printed with the command that replays it. The exit code is 1 when one failed.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use exo_node::sim::crowd::{Crowd, CrowdOptions, Spread};
use exo_node::sim::{self, Options};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("--seeds") => seeds(&arguments),
        Some("--crowd") => crowd(&arguments),
        _ => Err("simulate --seeds A..B [--seconds S] | --crowd MEMBERS [--askers N] [--draws N] \
                  [--hops N] [--seed S]"
            .to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The value after an option.
fn value(arguments: &[String], option: &str) -> Option<String> {
    let at = arguments.iter().position(|argument| argument == option)?;
    arguments.get(at + 1).cloned()
}

fn number<T: std::str::FromStr>(arguments: &[String], option: &str, usual: T) -> Result<T, String> {
    match value(arguments, option) {
        None => Ok(usual),
        Some(text) => text.parse().map_err(|_| format!("{option} {text}: not a number")),
    }
}

fn seeds(arguments: &[String]) -> Result<(), String> {
    let range = value(arguments, "--seeds").unwrap_or_default();
    let ends = range.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let (first, end): (u64, u64) = ends.ok_or_else(|| format!("--seeds {range}: not A..B"))?;
    let until =
        Instant::now() + Duration::from_secs(number(arguments, "--seconds", u32::MAX)?.into());
    let next = AtomicU64::new(first);
    let failed = AtomicU64::new(0);
    let work = || {
        while Instant::now() < until {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            if let Some(violation) = sim::run(seed, &Options::default()).violation {
                failed.fetch_add(1, Ordering::Relaxed);
                println!("seed {seed}: {violation}");
                println!("  replay: simulate --seeds {seed}..{}", seed + 1);
            }
        }
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let run = next.load(Ordering::Relaxed).min(end) - first;
    let failed = failed.load(Ordering::Relaxed);
    println!("{run} seeds in {:.1} s, {failed} failed", began.elapsed().as_secs_f64());
    if failed == 0 { Ok(()) } else { Err(format!("{failed} seeds failed")) }
}

fn crowd(arguments: &[String]) -> Result<(), String> {
    let options = CrowdOptions {
        members: number(arguments, "--crowd", 1000)?,
        askers: number(arguments, "--askers", 20)?,
        draws: number(arguments, "--draws", 1000)?,
        hops: number(arguments, "--hops", 5)?,
        seed: number(arguments, "--seed", 1)?,
    };
    let before = resident_bytes();
    let mut crowd = Crowd::new(options).map_err(|error| error.to_string())?;
    let shared = resident_bytes();
    crowd.own_directory(0).map_err(|error| error.to_string())?;
    let own = resident_bytes();
    let began = Instant::now();
    let report = crowd.play().map_err(|error| error.to_string())?;
    let after = resident_bytes();
    let members = options.members as u64;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("{options:?}");
    println!(
        "memory of a member: {:.2} MiB with its own roster and directory, {:.3} MiB where the crowd \
         shares them, {:.2} MiB more on average after the queries",
        mib(own.saturating_sub(shared)),
        mib(shared.saturating_sub(before) / members),
        mib(after.saturating_sub(own) / members),
    );
    println!(
        "queries: {} of {} sources answered, {} packets sent on, slowest {:.0} ms of simulated time",
        report.answered.0,
        report.answered.1,
        report.forwarded,
        report.slowest.as_secs_f64() * 1000.0
    );
    for (at, counts) in report.positions.iter().enumerate() {
        let Spread { fair, worst, chi_squared } = Spread::of(counts);
        println!(
            "position {}: {fair:.0} times a member, at most {:.1} % off, chi-squared {chi_squared:.3}",
            at + 1,
            100.0 * worst
        );
    }
    let free = report.positions.iter().skip(1);
    let mut load = vec![0; options.members];
    free.for_each(|counts| load.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count));
    let spread = Spread::of(&load);
    println!(
        "load a relay after the first position: {:.0} packets, at most {:.1} % off",
        spread.fair,
        100.0 * spread.worst
    );
    println!("{:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// Memory of this process (Linux; elsewhere zero).
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    pages * 4096
}
