//! The thread that writes the journal: all that waits, with one sync, or with none where nothing of it binds.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use exo_consensus::{Input, Record};

use super::{EndsWith, Shared, Unbegun};
use crate::driver::journal::{Journal, JournalError};

/// What waits to be written, in order. It is bounded by what the replica has under way.
#[derive(Debug, Default)]
pub(super) struct Disk {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    work: Vec<Work>,
    closed: bool,
}

/// Something to be written.
#[derive(Debug)]
pub(super) enum Work {
    /// Records.
    Append(Vec<(u64, Record)>),
    /// A new journal.
    Rotate(u64, Vec<Record>),
}

impl Disk {
    /// Writes a record after all before it.
    pub(super) fn append(&self, number: u64, record: Record) {
        let mut waiting = self.lock();
        let idle = waiting.work.is_empty();
        match waiting.work.last_mut() {
            Some(Work::Append(records)) => records.push((number, record)),
            _ => waiting.work.push(Work::Append(vec![(number, record)])),
        }
        drop(waiting);
        // Waking is a system call: once is enough.
        if idle {
            self.more.notify_one();
        }
    }

    /// Begins the journal anew after all before it.
    pub(super) fn rotate(&self, number: u64, records: Vec<Record>) {
        self.lock().work.push(Work::Rotate(number, records));
        self.more.notify_one();
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

/// Starts the thread. It ends when the disk is closed, or after the first failure.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    journal: Journal,
    unbegun: Unbegun,
) -> std::io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name("exo-journal".to_owned())
        .spawn(move || run(&shared, journal, unbegun))
}

fn run(shared: &Shared, mut journal: Journal, unbegun: Unbegun) {
    let _ends = EndsWith(shared);
    let mut unbegun = Some(unbegun);
    while let Some(work) = shared.disk.take() {
        let began = Instant::now();
        let written = write(&mut journal, work).map_err(|error| error.to_string());
        let written = written.and_then(|durable| match &unbegun {
            // Before anything that the records allow is said.
            Some(mark) => mark.end().map(|()| durable).map_err(|error| error.message),
            None => Ok(durable),
        });
        match written {
            Ok(durable) => {
                unbegun = None;
                metrics::histogram!("exo_consensus_sync_seconds")
                    .record(began.elapsed().as_secs_f64());
                if !shared.closed.load(Ordering::Relaxed) {
                    shared.input(Input::Durable(durable));
                }
            }
            Err(error) => {
                let mut inner = shared.lock();
                return shared.halt(&mut inner, format!("the journal cannot be written: {error}"));
            }
        }
    }
    if let Err(error) = journal.sync() {
        tracing::warn!(%error, "the end of the journal is not on the disk; nothing that binds is in it");
    }
}

fn write(journal: &mut Journal, work: Vec<Work>) -> Result<u64, JournalError> {
    let mut binds = false;
    for work in work {
        match work {
            Work::Append(records) => {
                binds |= records.iter().any(|(_, record)| record.binds());
                journal.append(&records)?;
            }
            Work::Rotate(number, records) => {
                binds = true;
                journal.rotate(number, &records)?;
            }
        }
    }
    // What does not bind is synced with the next that does; all before it is already.
    if binds { journal.sync() } else { Ok(journal.written()) }
}
