//! The thread that writes the stores: all that waits, with one sync of each collection.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use exo_crdt::{Store, WriteBatch};
use exo_node::share::{Input, own_end};
use exo_types::CollectionName;
use exo_types::limits::SHARED_UNSAVED_BYTES_MAX;
use tokio::sync::watch;

use super::ends::{Ends, collections_in};
use super::error::{StoreError, io_error};
use super::host::Keeper;
use super::log::SharedLog;

/// What waits to be written, in order.
#[derive(Debug, Default)]
pub(super) struct Disk {
    waiting: Mutex<Waiting>,
    more: Condvar,
    /// Bytes that wait or are being written.
    bytes: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Waiting {
    work: Vec<Work>,
    closed: bool,
}

/// Something to be done with one collection's store.
#[derive(Debug)]
pub(super) enum Work {
    /// A write; where it erases, what it deletes leaves the files.
    Commit { number: u64, collection: CollectionName, write: WriteBatch, erase: bool },
    /// What was deleted leaves the files.
    Compact(CollectionName),
}

impl Disk {
    /// Does this after all before it.
    pub(super) fn push(&self, work: Work) {
        self.bytes.send_modify(|bytes| *bytes += work.bytes());
        self.lock().work.push(work);
        self.more.notify_one();
    }

    /// Waits until so much has been written that more may come from other members.
    pub(super) async fn room(&self) {
        // The sender is here: it does not end.
        let _ = self.bytes.subscribe().wait_for(|bytes| *bytes < SHARED_UNSAVED_BYTES_MAX).await;
    }

    /// What waits is written, then no more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.more.notify_one();
    }

    /// Waits for work; `None` when there will be none.
    fn take(&self) -> Option<Vec<Work>> {
        let mut waiting = self.lock();
        while waiting.work.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        Some(std::mem::take(&mut waiting.work))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    fn bytes(&self) -> usize {
        let Self::Commit { write, .. } = self else { return 0 };
        let of = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| {
            key.len() + value.as_ref().map_or(0, Vec::len)
        };
        write.changes.iter().map(of).sum()
    }
}

/// The stores of all collections, each in a directory of its own.
#[derive(Debug)]
pub(crate) struct Logs {
    dir: PathBuf,
    open: BTreeMap<CollectionName, SharedLog>,
    pub(super) ends: Ends,
}

impl Logs {
    /// Opens those there are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error(dir))?;
        let ends = Ends::beside(dir)?;
        let mut logs = Self { dir: dir.to_owned(), open: BTreeMap::new(), ends };
        for name in collections_in(dir, SUFFIX)? {
            let log = SharedLog::open(&logs.path(&name))?;
            if let Some(repaired) = log.repaired() {
                tracing::info!(
                    collection = %name, bytes = repaired.bytes,
                    "the store of a shared collection was repaired after a crash"
                );
            }
            logs.open.insert(name, log);
        }
        Ok(logs)
    }

    /// The stores.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&CollectionName, &SharedLog)> {
        self.open.iter()
    }

    /// No name is that of a directory above.
    fn path(&self, name: &CollectionName) -> PathBuf {
        self.dir.join(format!("{name}{SUFFIX}"))
    }

    fn of(&mut self, name: &CollectionName) -> Result<&mut SharedLog, StoreError> {
        if !self.open.contains_key(name) {
            let log = SharedLog::open(&self.path(name))?;
            let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
            synced.map_err(io_error(&self.dir))?;
            self.open.insert(name.clone(), log);
        }
        self.open.get_mut(name).ok_or_else(|| StoreError::Missing { path: self.dir.clone() })
    }

    /// Does all of this; gives the number of the last commit. Writes of one collection become one: the
    /// order between collections means nothing, for nothing is told before all are on the disk.
    fn carry_out(&mut self, work: Vec<Work>) -> Result<Option<u64>, StoreError> {
        let (mut last, mut writes) = (None, BTreeMap::<CollectionName, WriteBatch>::new());
        for work in work {
            match work {
                Work::Commit { number, collection, write, erase } => {
                    last = Some(number);
                    if erase {
                        self.commit(&collection, writes.remove(&collection))?;
                        self.of(&collection)?.erase(&write)?;
                    } else {
                        writes.entry(collection).or_default().append(write);
                    }
                }
                Work::Compact(collection) => {
                    self.commit(&collection, writes.remove(&collection))?;
                    self.of(&collection)?.compact()?;
                }
            }
        }
        for (collection, write) in writes {
            self.commit(&collection, Some(write))?;
        }
        Ok(last)
    }

    fn commit(
        &mut self,
        collection: &CollectionName,
        write: Option<WriteBatch>,
    ) -> Result<(), StoreError> {
        let Some(write) = write else { return Ok(()) };
        let log = self.of(collection)?;
        log.commit(&write)?;
        metrics::counter!("exo_shared_saves_total").increment(1);
        log.tidy()?;
        match own_end(&write) {
            Some(end) => self.ends.note(collection, end, false),
            None => Ok(()),
        }
    }
}

/// Starts the thread. It ends when the disk is closed, or after the first failure.
pub(super) fn spawn(keeper: &Arc<Keeper>, logs: Logs) -> std::io::Result<JoinHandle<()>> {
    let keeper = Arc::clone(keeper);
    std::thread::Builder::new().name("exo-shared".to_owned()).spawn(move || run(&keeper, logs))
}

fn run(keeper: &Keeper, mut logs: Logs) {
    while let Some(work) = keeper.disk.take() {
        let (began, bytes) = (Instant::now(), work.iter().map(Work::bytes).sum::<usize>());
        let done = logs.carry_out(work);
        keeper.disk.bytes.send_modify(|waiting| *waiting = waiting.saturating_sub(bytes));
        match done {
            Ok(last) => {
                let took = began.elapsed().as_secs_f64();
                metrics::histogram!("exo_shared_save_seconds").record(took);
                if let Some(last) = last
                    && !keeper.closed.load(Ordering::Relaxed)
                {
                    keeper.input(Input::Saved(last));
                }
            }
            Err(error) => {
                return keeper.halt(format!("shared collections cannot be kept: {error}"));
            }
        }
    }
}

/// What the directories' names end with.
const SUFFIX: &str = ".log";
