//! Whole federations in bad weather, by seed.
//!
//! `EXO_SIM_SEEDS=A..B` runs these seeds instead of the usual ones. A seed that fails is printed; to
//! read its events run it alone with `EXO_SIM_LOG=1`.

use std::ops::Range;

use exo_node::sim::{self, Options, Stats};

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("EXO_SIM_SEEDS") else { return 0..SEEDS };
    let number = |text: &str| text.trim().parse().expect("EXO_SIM_SEEDS is A..B or one seed");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&text)..number(&text) + 1,
    }
}

/// Runs seeds on every core and gives those that failed with their last events.
fn failing(seeds: Range<u64>) -> (Vec<String>, Stats) {
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let worker = || {
        let (mut failures, mut stats) = (Vec::new(), Stats::default());
        loop {
            let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if seed >= seeds.end || failures.len() >= FAILURES_MAX {
                return (failures, stats);
            }
            let outcome = sim::run(seed, &Options::default());
            stats.add(&outcome.stats);
            if let Some(violation) = outcome.violation {
                failures.push(format!("seed {seed}: {violation}"));
                if std::env::var_os("EXO_SIM_LOG").is_some() {
                    let log = sim::run(seed, &Options { log: true }).log;
                    failures.push(log.join("\n"));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        let (mut failures, mut stats) = (Vec::new(), Stats::default());
        for worker in workers {
            let (more, counted) = worker.join().expect("a simulation panicked");
            failures.extend(more);
            stats.add(&counted);
        }
        (failures, stats)
    })
}

#[test]
fn federations_keep_their_promises_in_bad_weather_and_converge_after_it() {
    let seeds = seeds();
    let (failures, stats) = failing(seeds.clone());
    println!("seeds {seeds:?}: {stats:#?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_seed_replays_event_by_event() {
    for seed in 0..6 {
        let (one, two) =
            (sim::run(seed, &Options::default()), sim::run(seed, &Options { log: true }));
        assert_eq!((one.digest, one.stats), (two.digest, two.stats), "seed {seed}");
    }
}

/// Seeds of an ordinary run.
const SEEDS: u64 = 200;
/// Failures after which a run ends.
const FAILURES_MAX: usize = 12;
