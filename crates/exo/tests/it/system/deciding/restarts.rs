//! A voter that dies at every step, and voters whose disk lost or altered what they had said.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::clients::{Clients, Load};
use super::log::{check_all, refusal};
use super::voters::{Voter, Voters};

/// The voter that something happens to.
const VICTIM: usize = 3;
/// What a voter logs that cannot come back as it was.
const REJOINS: &str = "this node rejoins";

#[cfg(feature = "liar")]
#[test]
fn a_voter_that_dies_after_each_of_its_first_outputs_goes_on_as_the_same_voter() {
    die_after_each(25);
}

#[cfg(feature = "liar")]
#[test]
#[ignore = "long: a thousand restarts"]
fn a_voter_that_dies_after_each_of_a_thousand_outputs_goes_on_as_the_same_voter() {
    let runs = std::env::var("EXO_RESTARTS").ok().and_then(|text| text.parse().ok());
    die_after_each(runs.unwrap_or(1_000));
}

/// In its run number N it dies right after the N-th thing that its replica wanted done.
#[cfg(feature = "liar")]
fn die_after_each(runs: usize) {
    let mut voters = Voters::start(4);
    let doors = &voters.doors()[..VICTIM];
    let load = Load { clients: 1, pause: Duration::from_millis(30), ..Load::default() };
    let clients = Clients::start(doors, load);
    for run in 1..=runs {
        let victim = &mut voters.nodes[VICTIM];
        victim.kill();
        victim.serve_with(&[("EXO_FAILPOINT", &format!("decide:{run}"))]);
        let began = std::time::Instant::now();
        while !victim.ended() {
            assert!(began.elapsed() < super::voters::PATIENCE, "it never does {run} things");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let victim = &mut voters.nodes[VICTIM];
    victim.kill();
    victim.serve();
    voters.wait_whole();
    for node in &voters.nodes {
        let consensus = node.door.consensus();
        assert_eq!((&consensus["role"], &consensus["epoch"]), (&"voter".into(), &0.into()));
    }
    let victim = &voters.nodes[VICTIM];
    assert_eq!(refusal(&victim.door, "I am still here", 10_000), None);
    assert!(!victim.log().contains(REJOINS), "{}", victim.log());
    let deaths = victim.log().matches("dies at its failpoint").count();
    assert_eq!(deaths, runs);
    check_all(&voters, clients, &[]);
}

#[test]
fn a_voter_without_its_directory_follows_and_votes_again_only_in_a_later_epoch() {
    lose(|victim| fs::remove_dir_all(victim.dir.join("decisions")).expect("is removed"));
}

#[test]
fn a_voter_whose_journal_has_a_flipped_bit_says_so_and_votes_again_only_in_a_later_epoch() {
    lose(|victim| {
        let path = journal(victim);
        let mut bytes = fs::read(&path).expect("the journal");
        // In the body of the first record, behind the heads of the file and of the record.
        bytes[HEADS + 4] ^= 0x10;
        fs::write(&path, bytes).expect("written");
    });
}

#[test]
fn a_voter_whose_journal_ends_in_a_torn_record_cuts_it_off_and_goes_on() {
    let mut voters = Voters::start(4);
    let clients = Clients::start(&voters.doors(), Load { clients: 1, ..Load::default() });
    std::thread::sleep(Duration::from_secs(1));
    let victim = &mut voters.nodes[VICTIM];
    victim.kill();
    // Half of a record that was being written: the beginning of one that is there, behind the last.
    let path = journal(victim);
    let mut bytes = fs::read(&path).expect("the journal");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("has records") + 1;
    let at = end.next_multiple_of(RECORD_ALIGN);
    bytes.resize(bytes.len().max(at + 512), 0);
    bytes[at..at + 5].copy_from_slice(&[0xA5; 5]);
    fs::write(&path, bytes).expect("written");
    victim.serve();
    voters.wait_whole();
    let victim = &voters.nodes[VICTIM];
    assert!(victim.log().contains("was repaired after a crash"), "{}", victim.log());
    assert!(!victim.log().contains(REJOINS), "{}", victim.log());
    let consensus = victim.door.consensus();
    assert_eq!((&consensus["role"], &consensus["epoch"]), (&"voter".into(), &0.into()));
    assert_eq!(refusal(&victim.door, "I am still here", 10_000), None);
    check_all(&voters, clients, &[]);
}

/// What a voter does whose journal is gone or cannot be believed. Without it and one more there is no
/// quorum: whatever is committed meanwhile would be by its vote.
fn lose(harm: impl FnOnce(&Voter)) {
    let mut voters = Voters::start(4);
    let clients = Clients::start(&voters.doors()[..2], Load { clients: 1, ..Load::default() });
    std::thread::sleep(Duration::from_secs(1));
    let before = voters.nodes[0].door.consensus();
    voters.nodes[VICTIM].kill();
    voters.nodes[2].kill();
    harm(&voters.nodes[VICTIM]);
    voters.nodes[VICTIM].serve();
    let victim = &voters.nodes[VICTIM];
    assert!(victim.log().contains(REJOINS), "{}", victim.log());
    let rejoining = |consensus: &Value| consensus["role"] == "rejoining";
    victim.until("it rejoins", rejoining);
    // It takes over what is certified, and its vote is missed.
    victim.until("it has the log", |consensus| {
        consensus["certified"].as_u64() >= before["certified"].as_u64()
    });
    for _ in 0..2 {
        assert_eq!(refusal(&voters.nodes[0].door, "by two", 1_500).as_deref(), Some("no-quorum"));
        assert!(rejoining(&victim.door.consensus()), "it votes in the epoch that it forgot");
    }
    voters.nodes[2].serve();
    let victim = &voters.nodes[VICTIM];
    let after = victim.until("it votes", |consensus| consensus["role"] == "voter");
    assert!(after["epoch"].as_u64() > before["epoch"].as_u64(), "{after}");
    voters.wait_whole();
    assert_eq!(refusal(&victim.door, "I vote again", 10_000), None);
    // Its vote counts: with another one away it takes it.
    voters.nodes[2].kill();
    let first = &voters.nodes[0].door;
    assert_eq!(refusal(first, "with its vote", 20_000), None);
    voters.nodes[2].serve();
    voters.wait_whole();
    check_all(&voters, clients, &[]);
}

/// The file of the journal that is written.
fn journal(victim: &Voter) -> PathBuf {
    let files = fs::read_dir(victim.dir.join("decisions/journal")).expect("a journal");
    files.map(|file| file.expect("a file").path()).max().expect("a file")
}

/// Where records begin in a file of the journal: at multiples of so many bytes.
const RECORD_ALIGN: usize = 32;
/// What stands before the first record's body, bytes.
const HEADS: usize = 96 + 32;
