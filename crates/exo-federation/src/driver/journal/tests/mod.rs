//! Tests of the journal and the log. Each says what a reader of the directory relies on.

mod crash;
pub(super) mod fuse;
mod kill;
mod log;
mod named;
mod sample;
mod torn;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use exo_consensus::Archive as _;
use exo_types::Epoch;
use sample::{Script, directory};

use super::*;

#[test]
fn records_and_the_log_come_back_as_they_were_written() {
    let dir = directory();
    let opened = Journal::open(&dir.path().join("new/er")).expect("makes it");
    assert!(opened.records.is_empty() && opened.archive.size() == 0);
    let mut journal = opened.journal;
    let mut script = Script::new(1);
    for group in 0..40 {
        journal.append(&script.group(1 + group % 5)).expect("writes");
        assert_eq!(journal.sync().expect("syncs"), script.number());
    }
    script.check(&opened.archive);
    drop(journal);
    let opened = Journal::open(&dir.path().join("new/er")).expect("opens");
    assert_eq!(opened.records, script.records());
    assert_eq!(opened.repaired, None);
    script.check(&opened.archive);
}

#[test]
fn a_journal_begun_anew_holds_the_new_records_alone_and_the_log_all_batches() {
    let dir = directory();
    let mut script = Script::new(2);
    for life in 0..3 {
        let Opened { mut journal, archive, records, .. } =
            Journal::open(dir.path()).expect("opens");
        assert_eq!(records, script.records(), "life {life}");
        script.begin_life();
        for _ in 0..30 {
            journal.append(&script.group(4)).expect("writes");
        }
        let (number, records) = script.rotate();
        journal.rotate(number, &records).expect("begins anew");
        assert_eq!(journal.sync().expect("syncs"), number, "it is durable as a whole");
        journal.append(&script.group(9)).expect("writes");
        assert_eq!(journal.sync().expect("syncs"), number + 9);
        script.check(&archive);
    }
    let files = fs::read_dir(dir.path().join("journal")).expect("lists").count();
    assert_eq!(files, 1, "old ones are removed");
    let opened = Journal::open(dir.path()).expect("opens");
    assert_eq!(opened.records, script.records());
    script.check(&opened.archive);
}

#[test]
fn a_journal_is_not_begun_anew_with_records_that_do_not_say_where_the_log_ends() {
    let dir = directory();
    let mut script = Script::new(3);
    let mut journal = Journal::open(dir.path()).expect("opens").journal;
    journal.append(&script.group(20)).expect("writes");
    let (number, records) = script.rotate();
    journal.append(&script.batch_of(3)).expect("writes");
    let refused = journal.rotate(number, &records);
    assert!(matches!(refused, Err(JournalError::OtherBase { .. })), "{refused:?}");
    assert!(matches!(journal.sync(), Err(JournalError::Failed)), "nothing more is written");
}

#[test]
fn everything_is_private_to_its_user() {
    let dir = directory();
    let root = dir.path().join("consensus");
    let mut journal = Journal::open(&root).expect("opens").journal;
    let mut script = Script::new(4);
    journal.append(&script.group(300)).expect("writes");
    let (number, records) = script.rotate();
    journal.rotate(number, &records).expect("begins anew");
    let mut seen = 0;
    let mut look = vec![root];
    while let Some(path) = look.pop() {
        let meta = fs::metadata(&path).expect("is there");
        let expected = if meta.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(meta.permissions().mode() & 0o777, expected, "{}", path.display());
        seen += 1;
        if meta.is_dir() {
            look.extend(
                fs::read_dir(&path).expect("lists").map(|entry| entry.expect("one").path()),
            );
        }
    }
    assert!(seen > 7, "{seen} files and directories");
}

#[test]
fn certificates_are_kept_for_the_end_of_each_epoch_and_the_newest() {
    let dir = directory();
    let mut script = Script::new(5);
    for life in 0..4 {
        let Opened { mut journal, archive, .. } = Journal::open(dir.path()).expect("opens");
        assert_eq!(archive.latest(), script.latest(), "life {life}");
        script.begin_life();
        for _ in 0..3 {
            journal.append(&script.group(12)).expect("writes");
            journal.append(&script.end_epoch()).expect("writes");
        }
        if life % 2 == 1 {
            let (number, records) = script.rotate();
            journal.rotate(number, &records).expect("begins anew");
        }
        journal.append(&script.group(3)).expect("writes");
        assert!(script.ends().len() >= 3);
        for archive in [archive, Journal::open(dir.path()).expect("opens").archive] {
            for (epoch, certificate) in script.ends() {
                assert_eq!(archive.end_of(*epoch).as_ref(), Some(certificate), "{epoch}");
            }
            assert_eq!(archive.end_of(Epoch(1000)), None);
            assert_eq!(archive.latest(), script.latest());
        }
    }
}

#[test]
fn a_certificate_ahead_of_the_log_covers_nothing_before_the_log_is_there() {
    let dir = directory();
    let mut script = Script::new(6);
    let Opened { mut journal, archive, .. } = Journal::open(dir.path()).expect("opens");
    journal.append(&script.group(1)).expect("writes");
    journal.append(&script.batch_of(2)).expect("writes");
    assert_eq!(archive.covered(), None);
    let first = script.certificate();
    let number = script.number();
    journal.append(&[(number, Record::Certified(Arc::clone(&first)))]).expect("writes");
    assert_eq!(archive.covered(), Some(Arc::clone(&first)));
    let later = [script.batch_of(3), script.batch_of(1)];
    let ahead = script.certificate();
    let number = script.number();
    journal.append(&[(number, Record::Certified(Arc::clone(&ahead)))]).expect("writes");
    assert_eq!(archive.latest(), Some(Arc::clone(&ahead)));
    for batch in later {
        assert_eq!(archive.covered(), Some(Arc::clone(&first)));
        assert!(archive.size() < ahead.size);
        journal.append(&batch).expect("writes");
    }
    assert_eq!(archive.covered(), Some(ahead));
}
