//! A crash after every change of a file, with and without what was not synced.

use std::path::Path;
use std::sync::Arc;

use exo_consensus::Record;

use super::super::disk::Disk;
use super::super::{Journal, JournalError, Opened};
use super::fuse::Fuse;
use super::sample::{Rng, Script, directory};

/// What may be found after a crash: the records of a journal, of which so many must be there.
struct Expected {
    journals: Vec<(Vec<Record>, usize)>,
    script: Script,
}

/// Writes, syncs and begins anew until the power ends.
fn run(
    dir: &Path,
    fuse: &Arc<Fuse>,
    script: &mut Script,
    rng: &mut Rng,
    steps: usize,
) -> (Expected, Option<JournalError>) {
    let disk = Disk { fuse: Some(Arc::clone(fuse)) };
    let kept = script.records().len();
    let mut expected =
        Expected { journals: vec![(script.records().to_vec(), kept)], script: script.clone() };
    let mut go = || -> Result<(), JournalError> {
        let mut journal = Journal::open_on(&disk, dir)?.journal;
        script.begin_life();
        for _ in 0..steps {
            if rng.below(4) == 0 && script.records().len() > 3 {
                let (number, records) = script.rotate();
                let kept = records.len();
                expected.journals.push((records.clone(), kept));
                expected.script = script.clone();
                journal.rotate(number, &records)?;
                expected.journals.drain(..expected.journals.len() - 1);
            } else {
                let count = 1 + rng.below(20) as usize;
                let group = if rng.below(9) == 0 && !script.records().is_empty() {
                    script.end_epoch()
                } else {
                    script.group(count)
                };
                let (records, _) = expected.journals.last_mut().expect("there is one");
                *records = script.records().to_vec();
                expected.script = script.clone();
                journal.append(&group)?;
                if rng.below(3) > 0 {
                    assert_eq!(journal.sync()?, script.number());
                    expected.journals.last_mut().expect("there is one").1 = script.records().len();
                }
            }
        }
        Ok(())
    };
    let failed = go().err();
    (expected, failed)
}

fn check(dir: &Path, expected: &Expected, context: &str) {
    let Opened { records, archive, .. } =
        Journal::open(dir).unwrap_or_else(|error| panic!("{context}: {error}"));
    let fits = |(all, kept): &(Vec<Record>, usize)| {
        records.len() >= *kept && records.len() <= all.len() && records == all[..records.len()]
    };
    assert!(expected.journals.iter().any(fits), "{context}: {} records", records.len());
    expected.script.check_prefix(&archive);
    let position = records.iter().fold(0, |size, record| match record {
        Record::Base(base) => base.size,
        Record::Append(batch) => size + batch.size(),
        _ => size,
    });
    // A crash while the journal was begun anew may leave the certificate that was to go with it.
    let certified = archive.latest().map_or(0, |latest| latest.size);
    let size = archive.size();
    assert!(
        size == position || size > position && size == certified,
        "{context}: the log has {size} leaves, the journal says {position}, {certified} are certified"
    );
    let ends = expected.script.ends();
    for (epoch, certificate) in ends {
        let found = exo_consensus::Archive::end_of(&archive, *epoch);
        let due = certificate.size <= position
            && records.iter().any(|record| match record {
                Record::Certified(of) => of == certificate,
                Record::Base(base) => base.size >= certificate.size,
                _ => false,
            });
        assert!(!due || found.as_ref() == Some(certificate), "{context}: epoch {epoch}");
    }
}

#[test]
fn a_crash_after_any_change_of_a_file_loses_nothing_that_was_reported_durable() {
    for seed in [3, 4] {
        let mut whole = usize::MAX;
        let mut changes = 0;
        while changes < whole {
            let dir = directory();
            let dir = dir.path().join("journal");
            std::fs::create_dir(&dir).expect("directory");
            let fuse = Arc::new(Fuse::new(changes));
            let mut script = Script::new(seed);
            let (expected, failed) = run(&dir, &fuse, &mut script, &mut Rng(seed), 14);
            match failed {
                Some(JournalError::Io { .. }) => {}
                Some(error) => panic!("after {changes} changes: {error}"),
                None => whole = changes,
            }
            check(&dir, &expected, &format!("seed {seed}, {changes} changes"));
            changes += 1;
        }
        assert!(changes > 40, "{changes} changes");
    }
}

#[test]
fn a_power_cut_at_a_thousand_places_loses_nothing_that_was_reported_durable() {
    let from: u64 =
        std::env::var("EXO_JOURNAL_SEED").map_or(0, |seed| seed.parse().expect("number"));
    let mut cut = 0;
    for seed in from..from + 1000 {
        let dir = directory();
        let mut rng = Rng(seed * 2 + 1);
        rng.below(9);
        let fuse = Arc::new(Fuse::new(15 + rng.below(60) as usize));
        let mut script = Script::new(seed);
        let (expected, _) = run(dir.path(), &fuse, &mut script, &mut rng, 20);
        let most = 1 + rng.below(4);
        fuse.lose(|| rng.below(4) < most);
        check(dir.path(), &expected, &format!("seed {seed}"));
        cut += usize::from(fuse.left() == 0);
    }
    assert!(cut > 500, "{cut} of 1000 were cut");
}

#[test]
fn lives_that_end_in_crashes_follow_each_other() {
    for seed in 0..20 {
        let dir = directory();
        let mut rng = Rng(seed * 2 + 1);
        rng.below(9);
        let mut script = Script::new(seed);
        for life in 0..12 {
            let before = script.clone();
            let fuse = Arc::new(Fuse::new(10 + rng.below(50) as usize));
            let (expected, _) = run(dir.path(), &fuse, &mut script, &mut rng, 20);
            fuse.lose(|| rng.below(2) == 0);
            let context = format!("seed {seed}, life {life}");
            check(dir.path(), &expected, &context);
            // The next life goes on from a state that is known: with all or with nothing of this one.
            let records = Journal::open(dir.path()).expect("opens").records;
            if records != script.records() {
                std::fs::remove_dir_all(dir.path()).expect("removes");
                std::fs::create_dir(dir.path()).expect("makes");
                script = Script::new(seed * 100 + life);
            } else {
                assert!(records.len() >= before.records().len().min(1));
            }
        }
    }
}
