//! Tests of the store: against an oracle in memory, under every damaged byte, cut and kill.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use exo_crdt::checkpoint::CollectionKind;
use exo_crdt::sim::Members;
use exo_crdt::store::MemoryStore;
use exo_crdt::{Clock, Replica, Store, Value, VerifiedBatch, WriteBatch, Writer};
use exo_types::codec::Wire;
use exo_types::{CollectionName, RecordId, Timestamp};
use proptest::prelude::*;

use super::{SharedCollection, SharedLog, StoreError, VerifiedWrites};

type Saved = BTreeMap<Vec<u8>, Vec<u8>>;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A store whose segments are full soon.
fn open(dir: &Path) -> SharedLog {
    SharedLog::with_segments_of(dir, 300).expect("opens")
}

fn put(key: u8, value: Vec<u8>) -> (Vec<u8>, Option<Vec<u8>>) {
    (vec![key], Some(value))
}

fn batch(changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> WriteBatch {
    WriteBatch { changes }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("reads").map(|entry| entry.expect("reads").path());
    let mut files: Vec<_> = entries.collect();
    files.sort();
    files
}

fn contains(dir: &Path, needle: &[u8]) -> bool {
    files(dir).iter().any(|path| {
        let bytes = fs::read(path).expect("reads");
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}

/// Reads what a directory holds, or the error by which it says that it is damaged.
fn read(dir: &Path) -> Result<Saved, StoreError> {
    SharedLog::with_segments_of(dir, 300)?.load()
}

fn copy(from: &Path, to: &Path) {
    files(to).iter().for_each(|path| fs::remove_file(path).expect("removes"));
    for path in files(from) {
        fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copies");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Option<Vec<u8>>)>),
    Erase(u8),
    Compact,
    Tidy,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = proptest::option::weighted(0.8, proptest::collection::vec(any::<u8>(), 0..90));
    let change = (0..12u8, value);
    let step = prop_oneof![
        8 => proptest::collection::vec(change, 1..6).prop_map(Step::Commit),
        2 => (0..12u8).prop_map(Step::Erase),
        1 => Just(Step::Compact),
        1 => Just(Step::Tidy),
        2 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

fn agrees(steps: &[Step]) {
    let dir = directory();
    let (mut log, mut oracle) = (open(dir.path()), MemoryStore::default());
    for step in steps {
        match step {
            Step::Commit(changes) => {
                let changes = changes.iter().map(|(key, value)| (vec![*key], value.clone()));
                let write = batch(changes.collect());
                log.commit(&write).expect("saves");
                oracle.commit(&write).expect("saves");
            }
            Step::Erase(key) => {
                let write = batch(vec![(vec![*key], None), put(200 + key, vec![])]);
                log.erase(&write).expect("erases");
                oracle.erase(&write).expect("erases");
            }
            Step::Compact => log.compact().expect("compacts"),
            Step::Tidy => log.tidy().expect("tidies"),
            Step::Reopen => {
                drop(log);
                log = open(dir.path());
                assert_eq!(log.repaired(), None);
            }
        }
        let expected = oracle.load().expect("loads");
        assert_eq!(log.load().expect("loads"), expected, "after {step:?}");
        let live: usize = expected.values().map(Vec::len).sum();
        assert_eq!((log.live_bytes(), log.keys()), (live as u64, expected.len()));
    }
    let (live, dead) = (log.live_bytes(), log.dead_bytes());
    drop(log);
    let log = open(dir.path());
    assert_eq!((log.live_bytes(), log.dead_bytes()), (live, dead), "accounts after a start");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_log_and_the_oracle_agree_after_every_step_of_random_histories(steps in steps()) {
        agrees(&steps);
    }
}

const WRITES: u64 = 14;

/// A log of several segments with puts, replacements, deletions and an erased value.
fn sample(dir: &Path) -> Saved {
    let mut log = open(dir);
    for n in 0..12u8 {
        let write = batch(vec![put(n, vec![n; 40]), put(n / 2, vec![n; 9]), (vec![n / 3], None)]);
        log.commit(&write).expect("saves");
    }
    log.erase(&batch(vec![(vec![9], None)])).expect("erases");
    log.commit(&batch(vec![put(30, vec![1; 30])])).expect("saves");
    log.load().expect("loads")
}

#[test]
fn every_flipped_bit_is_an_error_or_changes_nothing() {
    let (dir, work) = (directory(), directory());
    let saved = sample(dir.path());
    let (mut found, mut harmless) = (0, 0);
    for path in files(dir.path()) {
        let bytes = fs::read(&path).expect("reads");
        let target = work.path().join(path.file_name().expect("a name"));
        for at in 0..bytes.len() {
            copy(dir.path(), work.path());
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&target, flipped).expect("writes");
            match read(work.path()) {
                Ok(read) => {
                    assert_eq!(read, saved, "{} at {at}", path.display());
                    harmless += 1;
                }
                Err(StoreError::Damaged { .. }) => found += 1,
                Err(error) => panic!("{} at {at}: {error}", path.display()),
            }
        }
    }
    let log = open(dir.path());
    // What nobody reads: seals that have something behind them, and what is dead.
    let unread = log.dead_bytes() + 32 * WRITES;
    assert!(found > 1000 && harmless <= unread, "{found} found, {harmless} not, {unread} unread");
}

#[test]
fn a_write_that_is_cut_off_anywhere_is_forgotten_whole_and_the_next_ones_are_kept() {
    let (dir, work) = (directory(), directory());
    let log = |dir: &Path| SharedLog::open(dir).expect("opens");
    let (one, two) =
        (batch(vec![put(1, vec![1; 50])]), batch(vec![put(2, vec![2; 50]), put(3, vec![3; 5])]));
    let mut store = log(dir.path());
    store.commit(&one).expect("saves");
    let path = files(dir.path())[0].clone();
    let whole = fs::metadata(&path).expect("a file").len() as usize;
    store.commit(&two).expect("saves");
    drop(store);
    let bytes = fs::read(&path).expect("reads");
    for cut in whole + 1..bytes.len() {
        // A crash leaves the file short, or with zeros where nothing has arrived.
        for fill in [false, true] {
            let mut torn = bytes[..cut].to_vec();
            torn.resize(if fill { bytes.len() } else { cut }, 0);
            copy(dir.path(), work.path());
            fs::write(&files(work.path())[0], &torn).expect("writes");
            let mut store = log(work.path());
            let sealed = cut >= bytes.len() - 32;
            assert_eq!(store.repaired().is_some(), !sealed, "{cut}");
            assert_eq!(store.keys(), if sealed { 3 } else { 1 }, "{cut}");
            store.commit(&batch(vec![put(9, vec![9])])).expect("saves");
            drop(store);
            let store = log(work.path());
            assert_eq!((store.repaired(), store.keys()), (None, if sealed { 4 } else { 2 }));
            store.load().expect("loads");
        }
    }
}

#[test]
fn a_sector_that_never_arrived_in_the_middle_of_a_write_undoes_the_whole_write() {
    let dir = directory();
    let mut store = SharedLog::open(dir.path()).expect("opens");
    store.commit(&batch(vec![put(1, vec![1; 50])])).expect("saves");
    let whole = fs::metadata(&files(dir.path())[0]).expect("a file").len() as usize;
    store.commit(&batch((10..14).map(|n| put(n, vec![n; 1000])).collect())).expect("saves");
    drop(store);
    let path = &files(dir.path())[0];
    let mut bytes = fs::read(path).expect("reads");
    // Its seal cannot have been written: the write was not durable.
    bytes.truncate(bytes.len() - 32);
    bytes[whole + 1500..whole + 2012].fill(0);
    fs::write(path, bytes).expect("writes");
    let store = SharedLog::open(dir.path()).expect("opens");
    assert!(store.repaired().is_some() && store.keys() == 1);
}

#[test]
fn a_missing_file_is_an_error() {
    let (dir, work) = (directory(), directory());
    sample(dir.path());
    let count = files(dir.path()).len();
    assert!(count > 3, "{count} segments");
    for missing in 0..count - 1 {
        copy(dir.path(), work.path());
        fs::remove_file(&files(work.path())[missing]).expect("removes");
        assert!(matches!(read(work.path()), Err(StoreError::Missing { .. })), "{missing}");
    }
}

#[test]
fn what_another_member_wrote_is_never_taken_for_a_frame() {
    // A value that is the very bytes of the store's own file, in a write that is cut off.
    let dir = directory();
    let mut store = SharedLog::open(dir.path()).expect("opens");
    store.commit(&batch(vec![put(1, vec![1; 50])])).expect("saves");
    let own = fs::read(&files(dir.path())[0]).expect("reads");
    store.commit(&batch(vec![put(2, own[64..].to_vec()), put(3, vec![7; 64])])).expect("saves");
    drop(store);
    let path = &files(dir.path())[0];
    let bytes = fs::read(path).expect("reads");
    fs::write(path, &bytes[..bytes.len() - 40]).expect("writes");
    let store = SharedLog::open(dir.path()).expect("a cut, not damage");
    assert!(store.repaired().is_some() && store.keys() == 1);
}

#[test]
fn erased_and_pruned_bytes_leave_the_files() {
    let dir = directory();
    let mut log = open(dir.path());
    let secret = b"to be forgotten".to_vec();
    for n in 0..6 {
        log.commit(&batch(vec![put(n, vec![n; 100])])).expect("saves");
    }
    log.commit(&batch(vec![put(100, secret.clone()), put(101, b"stays".to_vec())])).expect("saves");
    log.commit(&batch(vec![put(102, b"pruned later".to_vec())])).expect("saves");
    assert!(contains(dir.path(), &secret));
    log.erase(&batch(vec![(vec![100], None), put(103, vec![])])).expect("erases");
    assert!(!contains(dir.path(), &secret) && contains(dir.path(), b"stays"));
    log.commit(&batch(vec![(vec![102], None)])).expect("saves");
    assert!(contains(dir.path(), b"pruned later"), "a deletion alone is only a line in the log");
    log.compact().expect("compacts");
    assert!(!contains(dir.path(), b"pruned later") && log.dead_bytes() == 0);
    let saved = log.load().expect("loads");
    drop(log);
    assert_eq!(read(dir.path()).expect("reads"), saved);
    assert_eq!(saved.len(), 8);
}

#[test]
fn an_erasure_that_a_crash_interrupted_is_finished_at_the_next_start() {
    let dir = directory();
    let mut log = open(dir.path());
    let secret = b"to be forgotten".to_vec();
    log.commit(&batch(vec![put(1, secret.clone()), put(2, vec![2; 9])])).expect("saves");
    let before = fs::read(&files(dir.path())[0]).expect("reads");
    let at = before.windows(secret.len()).position(|bytes| bytes == secret).expect("is there");
    log.erase(&batch(vec![(vec![1], None)])).expect("erases");
    drop(log);
    // The erasure is in the log; the overwriting never came to the disk.
    let path = &files(dir.path())[0];
    let mut bytes = fs::read(path).expect("reads");
    bytes[at..at + secret.len()].copy_from_slice(&secret);
    fs::write(path, bytes).expect("writes");
    assert_eq!(read(dir.path()).expect("reads").len(), 1);
    assert!(!contains(dir.path(), &secret));
}

#[test]
fn a_write_that_is_too_long_for_a_key_changes_nothing() {
    let dir = directory();
    let mut log = open(dir.path());
    let long = batch(vec![put(1, vec![1]), (vec![0; 65], Some(vec![]))]);
    assert!(matches!(log.commit(&long), Err(StoreError::Key { bytes: 65 })));
    log.commit(&batch(vec![put(2, vec![2])])).expect("saves");
    assert_eq!(log.load().expect("loads").len(), 1);
}

// ---- a collection, killed ----

const RECORDS: usize = 8;

fn name() -> CollectionName {
    CollectionName::new("shared").expect("a name")
}

fn members() -> Members {
    Members::new(1).expect("keys")
}

fn signed(
    writer: &mut Writer,
    clock: &mut Clock,
    members: &Members,
    replica: &Replica,
) -> (VerifiedBatch, Vec<(u8, Value)>) {
    let seq = writer.end().seq + 1;
    let mut values = Vec::new();
    for n in 0..RECORDS {
        let value = Value { salt: [n as u8; 32], bytes: format!("{seq}/{n}").into_bytes() };
        let key = RecordId::new(format!("{seq}-{n}")).expect("a key");
        let now = Timestamp(1_800_000_000_000 + seq);
        writer.write(key, value.put(), Vec::new(), clock, now).expect("writes");
        values.push((n as u8, value));
    }
    let batch = writer.flush(members.keypair(0), replica.epoch_ref()).expect("signs");
    (batch.expect("a batch"), values)
}

fn collection(dir: &Path, members: &Members) -> SharedCollection<SharedLog> {
    let store = SharedLog::with_segments_of(dir, 64 * 1024).expect("opens");
    SharedCollection::open(store, name(), CollectionKind::LastWriter, members).expect("restores")
}

/// What the parent kills: writes, and says on its output what was acknowledged.
#[test]
#[ignore = "a part of the tests that kill, which start it"]
fn child() {
    let Some(dir) = std::env::var_os("SHARED_LOG_DIR") else { return };
    let members = members();
    let mut collection = collection(Path::new(&dir), &members);
    let author = members.keypair(0).peer_id();
    let mut writer = Writer::new(author, name(), collection.replica().chain_end(&author));
    let mut clock = Clock::default();
    for round in 0.. {
        let (batch, values) = signed(&mut writer, &mut clock, &members, collection.replica());
        let (seq, first) = (batch.header().seq, batch.ids()[0]);
        // As from another member: encoded, decoded and verified again.
        let wire = batch.to_batch().to_wire().expect("encodes");
        let batch = exo_crdt::Batch::from_wire(&wire).expect("decodes");
        let writes = VerifiedWrites::verify(batch, values, &name(), &members).expect("verifies");
        collection.apply([writes], WriteBatch::default()).expect("saves");
        println!("acknowledged {seq}");
        match round % 8 {
            3 => {
                collection.erase(first).expect("erases");
                println!("erased {seq}");
            }
            6 => collection.store_mut().tidy().expect("tidies"),
            7 => collection.store_mut().compact().expect("compacts"),
            _ => {}
        }
    }
}

fn kills(count: u64) {
    let dir = directory();
    let members = members();
    let author = members.keypair(0).peer_id();
    let (mut acknowledged, mut erased) = (0, Vec::new());
    let test = format!("{}::child", module_path!().split_once("::").expect("a path").1);
    for kill in 0..count {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", &test, "--ignored", "--nocapture"])
            .env("SHARED_LOG_DIR", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut read = |line: Option<Result<String, _>>| {
            let line: String = line?.ok()?;
            if let Some((_, seq)) = line.rsplit_once("acknowledged ") {
                acknowledged = seq.parse().expect("a number");
            } else if let Some((_, seq)) = line.rsplit_once("erased ") {
                erased.push(seq.parse::<u64>().expect("a number"));
            }
            Some(())
        };
        // Killed after so many lines and a moment, so that it comes at any place of the work.
        for _ in 0..3 + kill % 11 {
            read(lines.next()).expect("it works until it is killed");
        }
        std::thread::sleep(std::time::Duration::from_micros(kill * 7919 % 3000));
        child.kill().expect("kills");
        child.wait().expect("ends");
        while read(lines.next()).is_some() {}
        let collection = collection(dir.path(), &members);
        let replica = collection.replica();
        let end = replica.chain_end(&author).seq;
        assert!(
            end >= acknowledged,
            "kill {kill}: {acknowledged} was acknowledged, {end} is there"
        );
        assert_eq!(replica.entries() as u64, end * RECORDS as u64, "kill {kill}: a half batch");
        let ids = replica.author_entries(author);
        for ((id, seq), entry) in ids.iter().filter(|((_, seq), _)| *seq <= acknowledged) {
            let first = entry.key.to_string().ends_with("-0");
            let lost = replica.value(id).is_none();
            assert!(first || !lost, "kill {kill}: the value of {:?} is lost", entry.key);
            assert!(lost || !(first && erased.contains(seq)), "kill {kill}: {seq} came back");
        }
    }
    assert!(acknowledged > count, "{acknowledged} acknowledged");
    println!("{count} kills, {acknowledged} batches acknowledged, {} values erased", erased.len());
}

#[test]
fn twelve_kills_lose_nothing_that_was_acknowledged() {
    kills(12);
}

#[test]
#[ignore = "two hundred kills"]
fn two_hundred_kills_lose_nothing_that_was_acknowledged() {
    kills(200);
}
