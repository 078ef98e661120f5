//! The end of the journal after a crash, and what looks like it.

use std::fs;
use std::path::{Path, PathBuf};

use exo_consensus::Record;

use super::super::{Journal, JournalError, Opened, Part};
use super::sample::{Rng, Script, directory};

fn file(dir: &Path) -> PathBuf {
    dir.join("journal/journal-00000001")
}

/// Where the bytes of the journal end.
fn end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).expect("there are some") + 1
}

/// A journal of groups that are synced one by one; gives its bytes and where each group ends.
fn written(dir: &Path, groups: &[usize]) -> (Script, Vec<u8>, Vec<usize>) {
    let mut script = Script::new(11);
    let mut journal = Journal::open(dir).expect("opens").journal;
    let mut ends = Vec::new();
    for group in groups {
        journal.append(&script.group(*group)).expect("writes");
        journal.sync().expect("syncs");
        ends.push(end(&fs::read(file(dir)).expect("reads")).next_multiple_of(32));
    }
    let bytes = fs::read(file(dir)).expect("reads");
    (script, bytes, ends)
}

fn reopen(dir: &Path, bytes: &[u8]) -> Result<Opened, JournalError> {
    fs::write(file(dir), bytes).expect("writes");
    Journal::open(dir)
}

fn is_damage<T>(opened: &Result<T, JournalError>) -> bool {
    matches!(opened, Err(JournalError::Damaged { part: Part::Journal, .. }))
}

#[test]
fn a_last_record_that_was_written_in_part_is_cut_off_at_whatever_byte_it_ends() {
    let dir = directory();
    let (script, bytes, ends) = written(dir.path(), &[12, 1]);
    let whole = script.records();
    let (from, to) = (ends[0], end(&bytes));
    for at in from..to {
        for cut in [false, true] {
            let mut torn = bytes.clone();
            torn[at..].fill(0);
            if cut {
                torn.truncate(at);
            }
            let opened = reopen(dir.path(), &torn).expect("a tear is put right");
            assert_eq!(opened.records, whole[..12], "at {at}");
            assert_eq!(opened.repaired.is_some(), end(&torn) > from, "at {at}");
            let mut journal = opened.journal;
            let again = (1, Record::Role(exo_consensus::Role::Joining));
            journal.append(std::slice::from_ref(&again)).expect("writes");
            journal.sync().expect("syncs");
            let opened = Journal::open(dir.path()).expect("opens");
            assert_eq!((opened.records.len(), opened.repaired), (13, None), "at {at}");
            assert_eq!(opened.records[12], again.1);
        }
    }
}

#[test]
fn of_a_group_that_was_not_synced_any_sectors_may_be_missing() {
    let dir = directory();
    let (script, bytes, ends) = written(dir.path(), &[5, 60]);
    let whole = script.records();
    let sectors: Vec<usize> = (ends[0] / 512..=ends[1] / 512).collect();
    assert!(sectors.len() > 8, "{} sectors", sectors.len());
    let mut rng = Rng(77);
    for _ in 0..200 {
        let mut torn = bytes.clone();
        for sector in &sectors {
            if rng.below(3) == 0 {
                let from = (sector * 512).max(ends[0]);
                torn[from..(sector + 1) * 512].fill(0);
            }
        }
        let opened = reopen(dir.path(), &torn).expect("a tear is put right");
        assert!(opened.records.len() >= 5);
        assert_eq!(opened.records, whole[..opened.records.len()]);
    }
}

#[test]
fn a_wrong_byte_anywhere_is_found_and_shortens_nothing() {
    let dir = directory();
    let (script, bytes, ends) = written(dir.path(), &[2, 6, 1, 4]);
    let mut found = 0;
    for at in 0..end(&bytes) + 70 {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1 << (at % 8);
        let opened = reopen(dir.path(), &wrong);
        if is_damage(&opened) {
            found += 1;
        } else {
            // What fills a record up to its place's multiple says nothing.
            let opened = opened.expect("not damaged");
            assert_eq!(opened.records, script.records(), "at {at}");
        }
    }
    assert!(found > ends[3] * 8 / 10, "{found} of {}", ends[3]);
}

#[test]
fn records_that_are_lost_before_others_that_know_of_them_are_damage() {
    let dir = directory();
    let (_, bytes, ends) = written(dir.path(), &[3, 6, 2]);
    // As after a write that the disk confirmed and lost.
    for at in (ends[0]..ends[1]).step_by(32) {
        for len in [32, ends[1] - at] {
            let mut lost = bytes.clone();
            lost[at..(at + len).min(ends[1])].fill(0);
            if lost != bytes {
                let opened = reopen(dir.path(), &lost);
                assert!(is_damage(&opened), "at {at}: {opened:?}");
            }
        }
    }
}

#[test]
fn what_was_there_when_the_journal_was_begun_anew_is_never_a_tear() {
    let dir = directory();
    let mut script = Script::new(12);
    let mut journal = Journal::open(dir.path()).expect("opens").journal;
    journal.append(&script.group(20)).expect("writes");
    let (number, records) = script.rotate();
    journal.rotate(number, &records).expect("begins anew");
    let file = dir.path().join("journal/journal-00000002");
    let bytes = fs::read(&file).expect("reads");
    for at in (0..end(&bytes)).step_by(7) {
        let mut torn = bytes.clone();
        torn[at..].fill(0);
        fs::write(&file, &torn).expect("writes");
        let opened = Journal::open(dir.path());
        assert!(is_damage(&opened), "at {at}: {opened:?}");
    }
    fs::write(&file, b"").expect("writes");
    assert!(is_damage(&Journal::open(dir.path())));
}

#[test]
fn bytes_in_a_record_that_look_like_records_are_none() {
    let dir = directory();
    let (script, bytes, ends) = written(dir.path(), &[3, 1]);
    // A torn record in whose place stands what another journal has there.
    let other = directory();
    let (_, foreign, _) = written(other.path(), &[3, 1, 1, 1, 1]);
    let mut torn = bytes.clone();
    torn[ends[0]..ends[0] + 32].fill(0);
    let foreign = &foreign[ends[0]..end(&foreign)];
    torn[ends[0] + 32..ends[0] + 32 + foreign.len()].copy_from_slice(foreign);
    let opened = reopen(dir.path(), &torn).expect("it is no record of this journal");
    assert_eq!(opened.records, script.records()[..3]);
}

#[test]
fn what_is_damaged_is_set_aside_and_the_log_stays_as_far_as_it_is_certified() {
    let dir = directory();
    let mut script = Script::new(13);
    let mut journal = Journal::open(dir.path()).expect("opens").journal;
    journal.append(&script.group(100)).expect("writes");
    let certified = script.end_epoch();
    journal.append(&certified).expect("writes");
    let size = script.tree().size();
    let (number, records) = script.rotate();
    journal.rotate(number, &records).expect("begins anew");
    journal.append(&script.group(50)).expect("writes");
    journal.sync().expect("syncs");
    drop(journal);
    let file = dir.path().join("journal/journal-00000002");
    let mut bytes = fs::read(&file).expect("reads");
    bytes[200] ^= 4;
    fs::write(&file, &bytes).expect("writes");
    let opened = Journal::open(dir.path());
    assert!(is_damage(&opened), "{opened:?}");
    Journal::set_aside(dir.path(), Part::Journal).expect("moves");
    assert!(dir.path().join("journal.damaged/journal-00000002").exists());
    let Opened { mut journal, archive, records, .. } = Journal::open(dir.path()).expect("opens");
    assert!(records.is_empty());
    assert_eq!(archive.size(), size, "what is certified is kept");
    assert!(script.check_prefix(&archive) > 10);

    // The replica goes through the log again, crashes on the way, and goes on.
    let mut again: Vec<(u64, Record)> = vec![(1, super::sample::founded())];
    for (at, (_, batch)) in script.batches().iter().enumerate() {
        again.push((at as u64 + 2, Record::Append(batch.clone().into())));
    }
    journal.append(&again[..10]).expect("the same batches");
    journal.sync().expect("syncs");
    let Opened { mut journal, archive, records, .. } = Journal::open(dir.path()).expect("opens");
    assert_eq!(records.len(), 10);
    assert_eq!(archive.size(), size, "what is certified is still kept");
    journal.append(&again[10..]).expect("the same batches, and new ones");
    script.check(&archive);
    let Opened { archive, records, .. } = Journal::open(dir.path()).expect("opens");
    assert_eq!(records.len(), again.len());
    script.check(&archive);
    // Another batch in the place of a certified one is refused.
    Journal::set_aside(dir.path(), Part::Journal).expect("moves");
    let mut journal = Journal::open(dir.path()).expect("opens").journal;
    let other = Script::new(99).group(12);
    let refused = journal.append(&other);
    assert!(matches!(refused, Err(JournalError::OtherLog { .. })), "{refused:?}");
}
