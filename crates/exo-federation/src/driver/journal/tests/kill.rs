//! A process killed in mid-write: every record that it said is durable is there after it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, io, thread};

use exo_consensus::{Digest, Guard, Record};
use exo_types::{Epoch, Sequence, View};

use super::super::Journal;
use super::sample::{Rng, Script, directory};

/// Set for the process that is killed: the journal's folder.
const FOLDER: &str = "EXO_JOURNAL_CRASH_FOLDER";

/// A record that says its number.
fn numbered(number: u64) -> Record {
    let digest = Digest([number as u8; 32]);
    let guard = Guard { epoch: Epoch(0), view: View(0), sequence: Sequence(number), digest };
    Record::Accepted(guard)
}

fn number_of(record: &Record) -> Option<u64> {
    match record {
        Record::Accepted(guard) if guard.view == View(0) => Some(guard.sequence.0),
        _ => None,
    }
}

/// Writes until it is killed, and says on its output what is durable.
fn write_forever(folder: &Path) {
    let opened = Journal::open(folder).expect("opens");
    let mut journal = opened.journal;
    let mut next = 1 + opened.records.iter().filter_map(number_of).next_back().unwrap_or(0);
    let mut rng = Rng(next * 2 + 1);
    loop {
        let count = 1 + rng.below(70);
        let group: Vec<_> = (next..next + count).map(|n| (n, numbered(n))).collect();
        journal.append(&group).expect("writes");
        next += count;
        assert_eq!(journal.sync().expect("syncs"), next - 1);
        println!("durable {}", next - 1);
    }
}

/// Not a test of its own: what the killed process runs.
#[test]
fn a_writer_to_be_killed() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    write_forever(Path::new(&folder));
}

/// Runs the writer for a while; gives the last number that it said is durable.
fn kill_after(folder: &Path, time: Duration) -> io::Result<u64> {
    let name = module_path!().split_once("::").map_or("", |(_, path)| path);
    let mut child = Command::new(env::current_exe()?)
        .args(["--exact", &format!("{name}::a_writer_to_be_killed"), "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let reader = thread::spawn(move || {
        let number = |line: String| line.rsplit_once("durable ")?.1.parse().ok();
        BufReader::new(output).lines().map_while(Result::ok).filter_map(number).last().unwrap_or(0)
    });
    thread::sleep(time);
    // SIGKILL on Unix.
    child.kill()?;
    child.wait()?;
    reader.join().map_err(|_| io::Error::other("the reader of its output failed"))
}

#[test]
fn a_killed_writer_leaves_every_record_that_it_said_is_durable() {
    let dir = directory();
    let mut journal = Journal::open(dir.path()).expect("opens").journal;
    let mut script = Script::new(1);
    journal.append(&script.group(1)).expect("writes");
    journal.sync().expect("syncs");
    drop(journal);
    let mut rng = Rng(5);
    let mut last = 0;
    for kill in 0..36 {
        let time = Duration::from_millis(20 + rng.below(60));
        let said: u64 = kill_after(dir.path(), time).expect("runs and is killed");
        let records = Journal::open(dir.path()).expect("opens").records;
        let numbers: Vec<u64> = records.iter().filter_map(number_of).collect();
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "kill {kill}: without a gap");
        assert!(numbers.len() as u64 >= said, "kill {kill}: {said} was durable");
        assert!(numbers.len() as u64 >= last, "kill {kill}: {last} was there before");
        last = numbers.len() as u64;
    }
    assert!(last > 100, "{last} records were written");
}
