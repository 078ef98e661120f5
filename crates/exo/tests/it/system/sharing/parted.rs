//! Seven nodes far from each other over a way that loses things, parted at random while all of them write.

use std::time::{Duration, Instant};

use super::book::{check_all, wait_same};
use super::proxy::{Proxy, Way};
use super::spaces::{Spaces, host, within};
use super::voters::{Place, Voters};
use super::writers::{Writers, below};

const COUNT: usize = 7;
/// From healing to the same digests everywhere.
const SAME_WITHIN: Duration = Duration::from_secs(10);
/// When a run that never comes to the same gives up, so that it can say how far it came. The bound of the short
/// form, which runs beside other tests.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn members_parted_at_random_over_a_lossy_way_hold_the_same_soon_after_they_meet() {
    part_at_random(Duration::from_secs(15), PATIENCE, 1);
}

#[test]
#[ignore = "long: five minutes of partitions"]
fn members_parted_at_random_for_five_minutes_hold_the_same_soon_after_each_time_they_meet() {
    let seconds = std::env::var("EXO_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    part_at_random(Duration::from_secs(seconds.unwrap_or(300)), SAME_WITHIN, 2);
}

/// Each datagram is 100 ms late, up to 20 ms more, and 5 of 100 are lost, on each way. The writers pause
/// from the moment in which the partition ends: what is measured is how soon all hold the same then.
fn part_at_random(lasts: Duration, bound: Duration, seed: u64) {
    let Some(spaces) = Spaces::make_or_say(COUNT) else { return };
    let way = Way { delay: Duration::from_millis(100), jitter: Duration::from_millis(20), lost: 5 };
    let (mut places, mut proxies) = (Vec::new(), Vec::new());
    for at in 0..COUNT {
        let address = |port: u16| format!("{}:{port}", host(at)).parse().expect("an address");
        let (mesh, near) = (address(7700), address(7701));
        let space = spaces.name(at);
        proxies.push(within(&space, || Proxy::within(near, mesh, way, seed + at as u64)));
        places.push(Place { mesh, advertise: Some(near), space: Some(space) });
    }
    let voters = Voters::start_at(places);
    proxies.iter().for_each(Proxy::rough);
    let writers = Writers::start(&voters, seed);
    let (mut random, mut took) = (seed, Vec::new());
    let began = Instant::now();
    while began.elapsed() < lasts {
        std::thread::sleep(Duration::from_secs(1));
        part(&spaces, &mut random);
        let before = writers.acknowledged();
        std::thread::sleep(Duration::from_millis(3_000 + below(&mut random, 9_000) as u64));
        assert!(writers.acknowledged() > before, "a write waits for nobody");
        writers.pause(true);
        let met = Instant::now();
        spaces.heal();
        took.push(wait_same(&voters, met, PATIENCE));
        println!("the same after {:?}, {} written", took[took.len() - 1], writers.acknowledged());
        writers.pause(false);
    }
    let book = writers.finish();
    check_all(&voters, &book);
    took.sort();
    let (carried, lost) = proxies.iter().fold((0, 0), |(carried, lost), proxy| {
        let counts = proxy.counts();
        (carried + counts.0, lost + counts.1)
    });
    let most = *took.last().expect("a partition");
    println!(
        "{} partitions: the same digests after {:?} (median), {most:?} at most; {carried} datagrams carried, \
         {lost} lost",
        took.len(),
        took[took.len() / 2]
    );
    assert!(lost > 0, "nothing was lost: nothing was shown");
    assert!(most <= bound, "the same only after {most:?}");
    // The processes end before the namespaces they are in.
    drop(voters);
    drop(spaces);
}

/// Two groups, three groups, or ways that are closed one by one and in one direction.
fn part(spaces: &Spaces, random: &mut u64) {
    let kind = below(random, 3);
    let groups: Vec<usize> = (0..COUNT).map(|_| below(random, 2 + kind % 2)).collect();
    for from in 0..COUNT {
        for to in (0..COUNT).filter(|to| *to != from) {
            let closed = match kind {
                2 => below(random, 3) == 0,
                _ => groups[from] != groups[to],
            };
            if closed {
                spaces.lose(from, to);
            }
        }
    }
}
