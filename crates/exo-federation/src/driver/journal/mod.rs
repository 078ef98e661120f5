//! What a replica of the commit protocol keeps on the disk: its journal, which says what it has said, and
//! the committed log.
//!
//! ```text
//! journal/journal-00000007   the records since the journal was begun anew last
//! log/batches                the committed batches
//! log/ends                   for each epoch the certificate with which it ended
//! log/latest                 the newest certificate when the journal was begun anew
//! log/hashes-0               hashes of the leaves by full tiles (c2sp.org/tlog-tiles); -1 above them
//! ```
//!
//! # Requirements
//!
//! - One process at a time opens the directory.
//! - The file system keeps the order that syncs ask for, and a sector of 512 bytes is written whole or
//!   not at all.
//!
//! # Provided
//!
//! - What [`Journal::sync`] has reported is there after a crash, and of what it has not, a first part.
//! - A journal or log that is not what was written is refused, or repaired from the other, never
//!   shortened. The exceptions are in `segment`.
//! - At all times the log holds every batch of the journal, and what is read from it is checked.
//!
//! # Not provided
//!
//! - Protection from somebody who writes to the disk: an older copy of the directory is taken for the
//!   newest one.
//!
//! - `frame`: how bytes stand in a file. `disk`: changes of files. `error`: what goes wrong.
//! - `segment`: a file of the journal; what is torn and what is damaged. `named`: batches that stand in it
//!   once.
//! - `batches`, `certificates`, `edge`: the files of the log. `archive`, `tiles`: reading it.

mod archive;
mod batches;
mod certificates;
mod disk;
mod edge;
mod error;
mod frame;
mod named;
mod segment;
#[cfg(test)]
mod tests;
mod tiles;

use std::path::{Path, PathBuf};

use exo_consensus::Record;
use exo_log::{Frontier, TreeHash};
use exo_types::codec::Wire;

pub(crate) use archive::Archive;
use archive::Known;
use disk::Disk;
pub(crate) use error::{JournalError, Part};
use named::Contents;
use segment::Segment;

/// A journal that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    /// To be written on.
    pub(crate) journal: Journal,
    /// The log.
    pub(crate) archive: Archive,
    /// What is left of the journal, in order: all of it is durable. Empty when there is none: in the
    /// directory of a replica that has been started before it is lost.
    pub(crate) records: Vec<Record>,
    /// What a crash had left unfinished and was put right.
    pub(crate) repaired: Option<String>,
}

/// A replica's journal. Records are numbered by the replica, from 1 in each life.
///
/// Calling order: [`append`](Self::append) and [`rotate`](Self::rotate) in the order of the numbers;
/// then [`sync`](Self::sync), whose answer is reported to the replica. After an error everything else
/// fails, for after a sync that failed nobody knows what is on the disk; the journal has to be opened
/// again, and what was not reported durable may be lost.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Disk,
    dir: PathBuf,
    segment: Segment,
    contents: Contents,
    archive: Archive,
    /// Leaves in the log as far as this journal has come.
    position: u64,
    /// The last number written.
    written: u64,
    failed: bool,
}

impl Journal {
    /// Opens the journal and the log in a directory, or makes them, for this user alone.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] when a file is not what was written: the part it names has to be
    /// [set aside](Self::set_aside), and the replica begins as one that lost its journal.
    pub(crate) fn open(dir: &Path) -> Result<Opened, JournalError> {
        Self::open_on(&Disk::default(), dir)
    }

    fn open_on(disk: &Disk, dir: &Path) -> Result<Opened, JournalError> {
        for dir in [dir, &journal_dir(dir), &log_dir(dir)] {
            if !dir.exists() {
                disk.make_dir(dir)?;
                disk.sync_dir(dir.parent().unwrap_or(dir))?;
            }
        }
        let read = Segment::open(disk, &journal_dir(dir))?;
        let known = known(read.as_ref())?;
        let archive = Archive::open(disk, &log_dir(dir), known)?;
        let (segment, records, repaired) = match read {
            Some(read) => (read.segment, read.records, read.repaired),
            None => (Segment::create(disk, &journal_dir(dir), 1, 0, &[])?, Vec::new(), None),
        };
        let dir = dir.to_owned();
        let disk = disk.clone();
        let mut journal = Self {
            disk,
            dir,
            segment,
            contents: Contents::after(&records),
            archive: archive.clone(),
            position: 0,
            written: 0,
            failed: false,
        };
        for record in &records {
            let body = match record {
                Record::Append(_) | Record::Certified(_) => record.to_wire(),
                _ => Ok(Vec::new()),
            };
            journal.note(record, &body.map_err(JournalError::Record)?)?;
        }
        Ok(Opened { journal, archive, records, repaired })
    }

    /// Moves what is damaged out of the way, as `journal.damaged` or `log.damaged` in the directory,
    /// so that it can be looked at; one from before is removed. With the log the journal goes, since it
    /// stands on it.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub(crate) fn set_aside(dir: &Path, part: Part) -> Result<(), JournalError> {
        let disk = Disk::default();
        let parts: &[PathBuf] = match part {
            Part::Journal => &[journal_dir(dir)],
            Part::Log => &[journal_dir(dir), log_dir(dir)],
        };
        for part in parts.iter().filter(|part| part.exists()) {
            let aside = part.with_extension("damaged");
            disk.remove_dir(&aside)?;
            disk.rename(part, &aside)?;
        }
        disk.sync_dir(dir)
    }

    /// Writes records; they are not durable yet.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(crate) fn append(&mut self, records: &[(u64, Record)]) -> Result<(), JournalError> {
        self.unless_failed(|journal| {
            let mut bodies = Vec::with_capacity(records.len());
            let mut named = Vec::with_capacity(records.len());
            for (_, record) in records {
                bodies.push(record.encoded().map_err(JournalError::Record)?);
                named.push(journal.contents.name(record));
                journal.contents.note(record);
            }
            let written = bodies.iter().zip(&named);
            journal
                .segment
                .append(written.map(|(body, named)| named.as_deref().unwrap_or(body)))?;
            for ((number, record), body) in records.iter().zip(&bodies) {
                journal.note(record, body)?;
                journal.written = journal.written.max(*number);
            }
            Ok(())
        })
    }

    /// Begins the journal anew with these records, which say all that those before say; they and the log
    /// are durable when it returns.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(crate) fn rotate(&mut self, number: u64, records: &[Record]) -> Result<(), JournalError> {
        self.unless_failed(|journal| {
            let size = journal.position;
            let Some(Record::Base(base)) = records.first().filter(|first| begins_at(first, size))
            else {
                return Err(JournalError::OtherBase { size });
            };
            if let Some(certificate) = &base.certificate {
                journal.archive.begins_with(certificate);
            }
            let ends = journal.archive.sync(&journal.disk, &log_dir(&journal.dir))?;
            let next = journal.segment.number() + 1;
            let dir = journal_dir(&journal.dir);
            let segment = Segment::create(&journal.disk, &dir, next, ends, records)?;
            let old = std::mem::replace(&mut journal.segment, segment);
            journal.contents = Contents::after(records);
            journal.disk.remove(old.path())?;
            journal.written = journal.written.max(number);
            Ok(())
        })
    }

    /// Makes all that was written durable and gives the last number of it, 0 before the first.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(crate) fn sync(&mut self) -> Result<u64, JournalError> {
        self.unless_failed(|journal| {
            journal.segment.sync()?;
            Ok(journal.written)
        })
    }

    /// The last number written; it is on the disk after the next [`sync`](Self::sync).
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// What a record means for the log.
    fn note(&mut self, record: &Record, body: &[u8]) -> Result<(), JournalError> {
        self.archive.note(self.position, record, body)?;
        match record {
            Record::Append(batch) => self.position += batch.size(),
            Record::Base(base) => {
                self.position = base.size;
                if let Some(certificate) = &base.certificate {
                    self.archive.begins_with(certificate);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn unless_failed<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        if self.failed {
            return Err(JournalError::Failed);
        }
        let done = act(self);
        self.failed = done.is_err();
        done
    }
}

fn begins_at(record: &Record, size: u64) -> bool {
    matches!(record, Record::Base(base) if base.size == size)
}

/// What a journal says of the log at its beginning.
fn known(read: Option<&segment::Read>) -> Result<Known, JournalError> {
    let ends = read.map(|read| read.segment.ends());
    let nothing = Known { size: 0, root: TreeHash::EMPTY, ends };
    let Some((read, Record::Base(base))) =
        read.and_then(|read| Some((read, read.records.first()?)))
    else {
        return Ok(nothing);
    };
    let peaks = base.peaks.iter().map(|peak| TreeHash::new(peak.0)).collect();
    let edge = Frontier::from_parts(base.size, peaks).ok_or_else(|| JournalError::Damaged {
        part: Part::Journal,
        path: read.segment.path().to_owned(),
        offset: 0,
        what: "its state does not fit the log's size",
    })?;
    Ok(Known { size: base.size, root: edge.root(), ends })
}

fn journal_dir(dir: &Path) -> PathBuf {
    dir.join("journal")
}

fn log_dir(dir: &Path) -> PathBuf {
    dir.join("log")
}
