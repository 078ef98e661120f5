//! What deciding costs in processor time: four replicas with real signatures, messages as bytes and journals
//! on a disk, in one thread and without a network, so that runs can be held against each other also where
//! other work is done meanwhile:
//! `cargo run --release --manifest-path benches/consensus/Cargo.toml -- --help`, or
//! `valgrind --tool=callgrind --toggle-collect='*measured*' …/consensus --batch 950 --rounds 20` for the
//! instructions.
//!
//! In a round one member, each in its turn, has a bundle of so many updates committed and certified; the
//! primary is one of four. What is counted: decoding and checking what is received, both signatures, the
//! replica, the charter, encoding what is sent once for all peers, the journal and the log. What is not:
//! the network, system calls of other threads, the driver's tickets.

mod world;

/// The driver's own, which it does not give out.
#[path = "../../../crates/exo-federation/src/driver/journal/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "what only the driver needs of it")]
mod journal;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use world::World;

/// Processor time of the commit protocol for each update and each batch.
#[derive(Parser)]
struct Args {
    /// Updates in a batch, at most as many as one bundle holds.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 950])]
    batch: Vec<usize>,
    /// Length of an update, bytes.
    #[arg(long, default_value_t = 256)]
    bytes: usize,
    /// Batches to count.
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// Where to keep the journals; the system's directory for temporary files otherwise.
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    for batch in &args.batch {
        let dir = match &args.dir {
            Some(dir) => tempfile::tempdir_in(dir)?,
            None => tempfile::tempdir()?,
        };
        let mut world = World::new(dir.path(), args.bytes)?;
        world.prepare(*batch)?;
        world.rounds(*batch, args.rounds.div_ceil(10))?;
        let before = (cpu_millis(), world.counts());
        measured(&mut world, *batch, args.rounds)?;
        let millis = cpu_millis() - before.0;
        let (batches, updates) = world.counts();
        let (batches, updates) = (batches - before.1.0, updates - before.1.1);
        ensure!(updates == batch * args.rounds, "{updates} updates were committed");
        let figures = json!({
            "updates_per_batch": updates as f64 / batches as f64,
            "batches": batches,
            "cpu_ms_per_batch": millis / batches as f64,
            "cpu_us_per_update": millis * 1000.0 / updates as f64,
        });
        println!("{figures}");
    }
    Ok(())
}

/// A function of its own, so that a profiler can be told to look at nothing else.
#[inline(never)]
fn measured(world: &mut World, batch: usize, rounds: usize) -> Result<()> {
    world.rounds(batch, rounds)
}

/// Processor time of this process, user and system, milliseconds.
fn cpu_millis() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}
