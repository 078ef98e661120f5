//! Runs simulated histories: `simulate-crdt FIRST COUNT`. It stops at the first seed whose invariants do not
//! hold and prints it; the seed replays.

use std::process::ExitCode;

use exo_crdt::sim::{Members, Report, run};

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let (Some(Ok(first)), Some(Ok(count))) = (numbers.next(), numbers.next()) else {
        eprintln!("usage: simulate-crdt FIRST COUNT");
        return ExitCode::from(2);
    };
    let members = match Members::new(4) {
        Ok(members) => members,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut all = Report::default();
    for seed in first..first.saturating_add(count) {
        match run(seed, &members) {
            Ok(report) => add(&mut all, report),
            Err(broken) => {
                eprintln!("{broken}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{count} histories hold: {all:?}");
    ExitCode::SUCCESS
}

fn add(all: &mut Report, one: Report) {
    all.events += one.events;
    all.entries += one.entries;
    all.checkpoints += one.checkpoints;
    all.syncs += one.syncs;
    all.crashes += one.crashes;
    all.accused += one.accused;
    all.deleted += one.deleted;
    all.void += one.void;
    all.refused += one.refused;
}
