//! A voter that floods the others with what they must not take, and one that takes nothing.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::clients::{Clients, Load, latencies};
use super::history::Append;
use super::log::{check_all, halted};
use super::rogue::Rogue;
use super::voters::Voters;

/// The voter whose identity the test takes.
const ROGUE: usize = 3;
/// What a node may grow by, KiB.
const GROWTH_KIB_MAX: u64 = 128 * 1024;
/// Honest commits are to take at most twice as long as without the flood; the rest is what a busy machine
/// does, on which the flood is made as well.
const SLOWER_MAX: f64 = 8.0;

#[test]
fn a_voter_that_floods_costs_bounded_memory_and_the_others_go_on() {
    under(true, Load { clients: 1, ..Load::default() }, |rogue, clients, lasts| {
        let sent = rogue.flood();
        let appends = watch(clients, lasts);
        let of = |count: &std::sync::atomic::AtomicUsize| count.load(Ordering::Relaxed);
        println!(
            "{} forged, future or out of turn, {} replayed, {} over their bounds; {} found no room; {} \
             sessions left",
            of(&sent.small),
            of(&sent.replayed),
            of(&sent.large),
            of(&sent.full),
            rogue.sessions()
        );
        assert!(of(&sent.small) > 1_000, "hardly anything was sent: nothing was shown");
        assert!(of(&sent.replayed) > 1_000 && of(&sent.large) > 10, "of each kind enough was sent");
        appends
    });
}

#[test]
fn a_voter_that_reads_nothing_costs_bounded_memory_and_the_others_go_on() {
    let load = Load { clients: 2, bytes: 8 * 1024, ..Load::default() };
    under(false, load, |_, clients, lasts| watch(clients, lasts));
}

/// Five seconds here; `EXO_SOAK_SECONDS=60` for the long run.
fn under(reads: bool, load: Load, harm: impl FnOnce(&Rogue, &Clients, Duration) -> Vec<Append>) {
    let seconds = std::env::var("EXO_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let lasts = Duration::from_secs(seconds.unwrap_or(5));
    let mut voters = Voters::start(4);
    voters.nodes[ROGUE].kill();
    let clients = Clients::start(&voters.doors()[..ROGUE], load);
    // Where the one that is gone led, another view begins first.
    std::thread::sleep(Duration::from_secs(4));
    let quiet = watch(&clients, lasts);
    let memory = |voters: &Voters| -> Vec<(u64, u64)> {
        voters.nodes[..ROGUE].iter().map(super::voters::Voter::memory_kib).collect()
    };
    let before = memory(&voters);
    let rogue = Rogue::take_over(&voters, &voters.nodes[ROGUE], reads);
    let harmed = harm(&rogue, &clients, lasts);
    let after = memory(&voters);
    drop(rogue);
    assert!(voters.nodes[..ROGUE].iter().all(|node| !halted(&node.door.consensus())));
    voters.nodes[ROGUE].serve();
    voters.wait_whole();
    check_all(&voters, clients, &[]);

    let (quiet, harmed) = (latencies(&quiet), latencies(&harmed));
    println!("quiet: {quiet:?}, under it: {harmed:?} (appends, median ms, most ms)");
    println!("memory before {before:?}, after {after:?} (KiB now, at most)");
    for (before, after) in before.iter().zip(&after) {
        assert!(after.1 < before.0 + GROWTH_KIB_MAX, "memory grew from {before:?} to {after:?}");
    }
    assert!(harmed.0 > 0, "nothing was committed");
    assert!(harmed.1 < quiet.1 * SLOWER_MAX + 100.0, "from {quiet:?} to {harmed:?}");
}

/// What was invoked in the time from now on.
fn watch(clients: &Clients, lasts: Duration) -> Vec<Append> {
    let (from, until) = (clients.now(), Instant::now() + lasts);
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    clients.so_far().into_iter().filter(|append| append.invoked >= from).collect()
}
