//! A process killed in mid-write: everything acknowledged is there after it, nothing is half there.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, io, thread};

use exo_substrate::contract::Numbers;
use exo_substrate::{
    EmbeddedSubstrate, ImportMark, NewRecord, OpenOptions, SearchRequest, Substrate,
};
use exo_types::{
    CollectionName, CollectionSpec, ContentHash, Metric, QueryTarget, Record, RecordId,
};

/// Set for the process that is killed: the store's folder.
const FOLDER: &str = "EXO_SUBSTRATE_CRASH_FOLDER";
/// How many kills; more may be asked for.
const KILLS: &str = "EXO_SUBSTRATE_CRASH_KILLS";
/// Records of a batch: each batch adds ten, replaces ten of the one before, and a deletion follows.
const BATCH: u64 = 20;

const KILLS_PER_STORE: u64 = 12;

fn name() -> CollectionName {
    CollectionName::new("c").expect("a good name")
}

fn id(batch: u64, i: u64) -> RecordId {
    RecordId::new(format!("b{batch} r{i}")).expect("a good id")
}

/// Record `i` of a batch as the batch `by` wrote it.
fn record(batch: u64, i: u64, by: u64) -> NewRecord {
    let record = Record {
        id: id(batch, i),
        title: String::new(),
        text: format!("batch{batch} by{by} {}", "filler ".repeat((i as usize * 37) % 400)),
        metadata: Default::default(),
    };
    let vector = Some(Numbers(batch * 1000 + i + by * 7).vector(16));
    NewRecord { record, vector, content: ContentHash([by as u8; 32]) }
}

async fn open(folder: &Path) -> EmbeddedSubstrate {
    let options = OpenOptions {
        // Codes are made and remade on the way.
        exact_scan_records_max: 100,
        ..OpenOptions::new(folder.join("store.db"))
    };
    EmbeddedSubstrate::open(options).await.expect("opens")
}

/// Batches that are there; the last may have lost its deletion.
async fn batches(store: &EmbeddedSubstrate) -> u64 {
    let done = store.import_progress(&name(), [1; 32]).await.expect("reads");
    done.unwrap_or(0) / BATCH
}

/// Writes until it is killed, and says on its output what was acknowledged.
async fn write_forever(folder: &Path) {
    let store = open(folder).await;
    let spec = CollectionSpec {
        name: name(),
        dimensions: 16,
        metric: Metric::L2,
        embedder: String::new(),
    };
    store.create(spec).await.expect("creates");
    for batch in batches(&store).await + 1.. {
        let mut records: Vec<_> = (0..BATCH / 2).map(|i| record(batch, i, batch)).collect();
        records.extend((0..BATCH / 2).map(|i| match batch {
            1 => record(1, BATCH / 2 + i, 1),
            _ => record(batch - 1, i, batch),
        }));
        let mark = ImportMark { import_id: [1; 32], rows_done: batch * BATCH };
        store.put(&name(), records, Some(mark)).await.expect("puts");
        println!("put {batch}");
        store.delete(&name(), vec![id(batch, 0)]).await.expect("deletes");
        println!("deleted {batch}");
    }
}

/// Not a test of its own: what the killed process runs.
#[test]
fn a_writer_to_be_killed() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(write_forever(Path::new(&folder)));
}

/// Runs the writer for a while; answers the last batch put and the last deletion it acknowledged.
fn kill_after(folder: &Path, time: Duration) -> io::Result<(u64, u64)> {
    let mut child = Command::new(env::current_exe()?)
        .args(["--exact", "crash::a_writer_to_be_killed", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let reader = thread::spawn(move || {
        let mut last = (0, 0);
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let number = |text: &str| line.rsplit_once(text).and_then(|(_, n)| n.parse().ok());
            last.0 = number("put ").unwrap_or(last.0);
            last.1 = number("deleted ").unwrap_or(last.1);
        }
        last
    });
    thread::sleep(time);
    // SIGKILL on Unix.
    child.kill()?;
    child.wait()?;
    reader.join().map_err(|_| io::Error::other("the reader of its output failed"))
}

async fn check(folder: &Path, put: u64, deleted: u64) -> u64 {
    let store = open(folder).await;
    if store.collections().await.expect("lists").is_empty() {
        assert_eq!(put, 0);
        return 0;
    }
    let there = batches(&store).await;
    assert!(there >= put, "batch {put} was acknowledged, {there} are there");
    assert!(there <= put + 1);
    let mut records = 0;
    for batch in 1..=there {
        let mut of_batch = 0;
        let rows = if batch == 1 { BATCH } else { BATCH / 2 };
        for i in 0..rows {
            let found = store.get(&name(), &id(batch, i)).await.expect("reads");
            // A later batch wrote the first ten again, after the first of them was deleted.
            let by = if i < BATCH / 2 && batch < there { batch + 1 } else { batch };
            match found {
                Some(stored) => {
                    let wanted = record(batch, i, by);
                    assert_eq!(stored.record, wanted.record);
                    assert_eq!((stored.vector, stored.content), (wanted.vector, wanted.content));
                    of_batch += 1;
                }
                None => {
                    assert!(i == 0 && batch == there, "batch {batch} lacks record {i}");
                }
            }
        }
        let first = store.get(&name(), &id(batch, 0)).await.expect("reads");
        assert!(batch != deleted || batch < there || first.is_none(), "deletion {deleted} is lost");
        let text = QueryTarget::text(format!("batch{batch}"));
        let request = SearchRequest { top_k: 100, ..SearchRequest::new(text) };
        let answer = store.search(&name(), request).await.expect("searches");
        assert_eq!(answer.legs[0].hits.len() as u64, of_batch, "text of batch {batch}");
        records += of_batch;
    }
    let info = store.info(&name()).await.expect("known");
    assert_eq!((info.records, info.vectors), (records, records));
    let request =
        SearchRequest { top_k: 1000, ..SearchRequest::new(QueryTarget::vector(vec![0.1; 16])) };
    let answer = store.search(&name(), request).await.expect("searches");
    assert_eq!(answer.legs[0].hits.len() as u64, records.min(1000));
    there
}

#[test]
fn a_killed_process_loses_nothing_it_acknowledged() {
    let kills: u64 = env::var(KILLS).ok().and_then(|kills| kills.parse().ok()).unwrap_or(12);
    let mut folder = tempfile::tempdir().expect("a folder");
    let mut moments = Numbers(kills);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut there = 0;
    for kill in 0..kills {
        // A new store now and then: the whole store is looked through after every kill.
        if kill % KILLS_PER_STORE == 0 && kill > 0 {
            folder = tempfile::tempdir().expect("a folder");
            there = 0;
        }
        let time = Duration::from_micros(20_000 + moments.below(180_000));
        let (put, deleted) = kill_after(folder.path(), time).expect("runs the writer");
        // A process killed before its first batch acknowledged nothing new.
        there = runtime.block_on(check(folder.path(), put.max(there), deleted));
        println!("kill {kill} after {time:?}: {there} batches");
    }
    assert!(there > 0, "no batch was ever written");
}
