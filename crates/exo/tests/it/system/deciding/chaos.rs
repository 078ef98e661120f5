//! One process after the other is killed while clients append.

use std::time::{Duration, Instant};

use super::clients::{Clients, Load};
use super::log::{check_all, entries, halted};
use super::voters::Voters;

/// From one SIGKILL to the next.
const EVERY: Duration = Duration::from_secs(3);
/// How long a killed process stays dead.
const DEAD: Duration = Duration::from_millis(700);
/// Progress has to resume within two view-change timeouts.
const RESUME_WITHIN: Duration = Duration::from_secs(2);
/// What a busy machine may add.
const MARGIN: Duration = Duration::from_secs(1);

#[test]
fn while_one_voter_after_the_other_is_killed_nothing_acknowledged_is_lost_or_doubled() {
    kill_in_turn(Duration::from_secs(24));
}

#[test]
#[ignore = "long: five minutes of kills"]
fn while_voters_are_killed_for_five_minutes_nothing_acknowledged_is_lost_or_doubled() {
    kill_in_turn(Duration::from_secs(300));
}

/// Kills in the order of seats, which is the order in which primaries follow each other: so it is mostly
/// the primary, the worst case. What is counted is the time from the SIGKILL until the first
/// acknowledgement of an append that was invoked after it, at whatever node.
fn kill_in_turn(lasts: Duration) {
    let mut voters = Voters::start(4);
    let turns = voters.by_seat();
    let clients = Clients::start(&voters.doors(), Load::default());
    std::thread::sleep(Duration::from_secs(1));
    let (mut resumed, mut primaries, mut late) = (Vec::new(), 0, 0);
    let mut snapshots = Vec::new();
    let began = Instant::now();
    for turn in 0.. {
        let round = Instant::now();
        if began.elapsed() >= lasts {
            break;
        }
        let victim = turns[turn % turns.len()];
        primaries += usize::from(voters.primary() == Some(victim));
        if turn % 4 == 0 {
            snapshots.push(entries(&voters.nodes[victim].door));
        }
        let killed = clients.now();
        voters.nodes[victim].kill();
        std::thread::sleep(DEAD);
        voters.nodes[victim].serve();
        let first = clients.first_after(killed, Duration::from_secs(30));
        let first = first.expect("deciding goes on") - killed;
        resumed.push(first);
        // With two away nothing could go on: the next one dies when this one is back.
        voters.wait_whole();
        late += usize::from(round.elapsed() > EVERY);
        std::thread::sleep(EVERY.saturating_sub(round.elapsed()));
    }
    assert!(voters.nodes.iter().all(|node| !halted(&node.door.consensus())));
    check_all(&voters, clients, &snapshots);

    resumed.sort();
    let over = resumed.iter().filter(|took| **took > RESUME_WITHIN).count();
    let most = *resumed.last().expect("a kill");
    println!(
        "{} kills, {primaries} of the primary, {late} later than every {EVERY:?}: deciding went on after \
         {:?} (median), {most:?} at most, {over} times later than {RESUME_WITHIN:?}",
        resumed.len(),
        resumed[resumed.len() / 2]
    );
    assert!(primaries > 0, "the primary was never killed: nothing was shown");
    assert!(most <= RESUME_WITHIN + MARGIN, "deciding went on only after {most:?}");
}
