//! Nodes that are killed at random while they write and while they catch up.

use std::time::{Duration, Instant};

use super::book::{check_all, wait_same};
use super::voters::Voters;
use super::writers::{Writers, below};

#[test]
fn nodes_killed_while_they_write_and_catch_up_lose_nothing_acknowledged() {
    kill_at_random(5, 3);
}

#[test]
#[ignore = "long: two hundred kills"]
fn nodes_killed_two_hundred_times_while_they_write_and_catch_up_lose_nothing_acknowledged() {
    let kills = std::env::var("EXO_KILLS").ok().and_then(|text| text.parse().ok());
    kill_at_random(kills.unwrap_or(200), 4);
}

/// Half of the time the one dies that has just come back, and so mostly in the middle of catching up.
fn kill_at_random(kills: usize, seed: u64) {
    let mut voters = Voters::start(COUNT);
    let writers = Writers::start(&voters, seed);
    let (mut random, mut last) = (seed, 0);
    for kill in 0..kills {
        std::thread::sleep(Duration::from_millis(below(&mut random, 700) as u64));
        let before = writers.acknowledged();
        let again = kill > 0 && below(&mut random, 2) == 0;
        last = if again { last } else { below(&mut random, COUNT) };
        voters.nodes[last].kill();
        std::thread::sleep(Duration::from_millis(below(&mut random, 1_000) as u64));
        assert!(writers.acknowledged() >= before);
        voters.nodes[last].serve();
    }
    let book = writers.finish();
    let took = wait_same(&voters, Instant::now(), Duration::from_secs(60));
    check_all(&voters, &book);
    println!("{kills} kills: the same digests {took:?} after the last writer ended");
}

const COUNT: usize = 4;
