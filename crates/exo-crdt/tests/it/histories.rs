//! Simulated histories: partitions, crashes, wrong clocks, checkpoints and liars.

use exo_crdt::sim::{Plan, Report, run, run_plan};

use crate::support::members;

#[test]
fn replicas_agree_after_the_faults_of_any_of_240_histories() {
    let mut all = Report::default();
    for seed in 0..240 {
        let report = run(seed, members()).unwrap_or_else(|broken| panic!("{broken}"));
        all.checkpoints += report.checkpoints;
        all.crashes += report.crashes;
        all.accused += report.accused;
        all.deleted += report.deleted;
        all.refused += report.refused;
        all.void += report.void;
    }
    // The histories are worth running: everything that can happen did.
    assert!(all.checkpoints > 100 && all.crashes > 100 && all.accused > 10, "{all:?}");
    assert!(all.deleted > 500 && all.refused > 50 && all.void > 100, "{all:?}");
}

#[test]
fn one_seed_is_one_history() {
    for seed in [3, 17, 40] {
        assert_eq!(run(seed, members()), run(seed, members()));
    }
}

#[test]
#[ignore = "twenty thousand histories; run with --release, or the simulate-crdt binary"]
fn replicas_agree_after_the_faults_of_twenty_thousand_histories() {
    for seed in 1_000..21_000 {
        run(seed, members()).unwrap_or_else(|broken| panic!("{broken}"));
    }
}

#[test]
fn a_long_history_with_checkpoint_after_checkpoint_leaves_no_more_than_what_lives() {
    let plan = Plan { events: 2_000, ..Plan::MANY_CUTS };
    for seed in 0..8 {
        let report = run_plan(seed, members(), plan).unwrap_or_else(|broken| panic!("{broken}"));
        assert!(report.entries < 600, "{report:?}");
    }
}
