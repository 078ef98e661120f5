//! Simulated groups. `EXO_SIM_SEEDS=A..B` chooses the seeds; a failing one prints how to replay it.

use exo_consensus::sim::{Options, run};

fn seeds() -> std::ops::Range<u64> {
    let given = std::env::var("EXO_SIM_SEEDS").ok();
    let parsed = given.as_deref().and_then(|text| {
        let (from, to) = text.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    parsed.unwrap_or(0..512)
}

#[test]
fn every_seed_keeps_every_invariant() {
    let seeds = seeds();
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let failed = std::sync::Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Some(violation) = run(seed, &Options::default()).violation {
                        failed.lock().expect("no panic").push(format!(
                            "seed {seed}: {violation}\n  replay: cargo run --release -p \
                             exo-consensus --features sim --bin simulate-consensus -- --seeds {seed}..{} --log",
                            seed + 1
                        ));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn groups_of_thirty_one_agree_too() {
    for seed in 0..2 {
        let outcome = run(seed, &Options { nodes: Some(31), log: false });
        assert_eq!(outcome.violation, None, "seed {seed} with 31 replicas");
    }
}

#[test]
fn a_seed_replays_to_the_same_events() {
    for seed in [3, 17, 40] {
        let [once, again] = [false, true].map(|log| run(seed, &Options { nodes: None, log }));
        assert_eq!(once.stats, again.stats);
        assert!(!again.log.is_empty());
    }
}
