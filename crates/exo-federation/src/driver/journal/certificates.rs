//! The certificates that the log needs when the journal does not have them any more: the one with which
//! each epoch ended, and the newest one at the time the journal was begun anew last.
//!
//! The ends of epochs stand in one file, whose frames are marked with their epoch; as with batches, what
//! the journal was begun anew without is on the disk, the rest is written again from it. The newest
//! certificate is a file of its own. It is what shows how much of the log is to be kept if the journal
//! is lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use exo_consensus::{Certificate, Record};
use exo_types::Epoch;
use exo_types::codec::Wire;

use super::batches::open_or_make;
use super::disk::{Disk, DiskFile};
use super::error::{JournalError, Part};
use super::frame::{FILE_HEAD_BYTES, FileHead, Found, Key, damaged};

/// The file of the ends of epochs.
#[derive(Debug)]
pub(super) struct Ends {
    file: DiskFile,
    key: Key,
}

/// Where the ends are.
#[derive(Clone, Debug)]
pub(super) struct EndsIndex {
    places: BTreeMap<Epoch, u64>,
    end: u64,
}

impl EndsIndex {
    /// Length of the file, bytes.
    pub(super) fn end(&self) -> u64 {
        self.end
    }
}

impl Ends {
    /// Opens the file, or makes it. `synced` is how long it was when the journal was begun anew; without
    /// a journal it is read as far as it holds.
    pub(super) fn open(
        disk: &Disk,
        dir: &Path,
        synced: Option<u64>,
    ) -> Result<(Self, EndsIndex), JournalError> {
        let (file, head) = open_or_make(disk, dir, ENDS, ENDS_MAGIC)?;
        let ends = Self { file, key: head.key };
        let mut index = EndsIndex { places: BTreeMap::new(), end: FILE_HEAD_BYTES as u64 };
        let until = synced.unwrap_or(u64::MAX);
        while index.end < until {
            let Found::Frame(head, _) = ends.key.read(&ends.file, index.end)? else { break };
            index.places.insert(Epoch(head.mark), index.end);
            index.end += head.span();
        }
        if synced.is_some_and(|synced| index.end != synced.max(FILE_HEAD_BYTES as u64)) {
            return Err(damaged(Part::Log, &ends.file, index.end, "the end of an epoch is lost"));
        }
        if ends.file.len()? > index.end {
            ends.file.cut(index.end)?;
        }
        Ok((ends, index))
    }

    /// The certificate with which an epoch ended.
    pub(super) fn read(
        &self,
        index: &EndsIndex,
        epoch: Epoch,
    ) -> Result<Option<Arc<Certificate>>, JournalError> {
        let Some(at) = index.places.get(&epoch).copied() else { return Ok(None) };
        match self.key.record(&self.file, at, Part::Log)? {
            (_, Record::Certified(certificate)) if certificate.epoch() == epoch => {
                Ok(Some(certificate))
            }
            _ => Err(damaged(Part::Log, &self.file, at, "another record than an epoch's end")),
        }
    }

    /// Writes the certificate with which an epoch ended, whose record has this encoding, unless it is
    /// there.
    pub(super) fn push(
        &self,
        index: &mut EndsIndex,
        epoch: Epoch,
        body: &[u8],
    ) -> Result<(), JournalError> {
        if index.places.contains_key(&epoch) {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let span = self.key.frame(&mut bytes, index.end, (0, epoch.0), body);
        self.file.write_at(&bytes, index.end)?;
        index.places.insert(epoch, index.end);
        index.end += span;
        Ok(())
    }

    /// Makes all of them durable.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        self.file.sync()
    }
}

/// The newest certificate in a directory. One that does not hold is as good as none: what it would show
/// is asked of others.
pub(super) fn read_latest(
    disk: &Disk,
    dir: &Path,
) -> Result<Option<Arc<Certificate>>, JournalError> {
    let path = latest_path(dir);
    if !path.exists() {
        return Ok(None);
    }
    let file = disk.open(&path)?;
    let Some(head) = FileHead::read(&file, LATEST_MAGIC)? else { return Ok(None) };
    match head.key.record(&file, FILE_HEAD_BYTES as u64, Part::Log) {
        Ok((_, Record::Certified(certificate))) => Ok(Some(certificate)),
        Err(error @ JournalError::Io { .. }) => Err(error),
        _ => Ok(None),
    }
}

/// Replaces the newest certificate; it is durable when the directory has been synced.
pub(super) fn write_latest(
    disk: &Disk,
    dir: &Path,
    certificate: &Arc<Certificate>,
) -> Result<(), JournalError> {
    let record = Record::Certified(Arc::clone(certificate));
    let body = record.to_wire().map_err(JournalError::Record)?;
    let head = FileHead::new(0, 0);
    let mut bytes = head.to_bytes(LATEST_MAGIC).to_vec();
    head.key.frame(&mut bytes, FILE_HEAD_BYTES as u64, (0, 0), &body);
    let beside = dir.join("latest-beside");
    let file = disk.create(&beside)?;
    file.write_at(&bytes, 0)?;
    file.sync()?;
    disk.rename(&beside, &latest_path(dir))
}

fn latest_path(dir: &Path) -> PathBuf {
    dir.join("latest")
}

const ENDS: &str = "ends";
const ENDS_MAGIC: [u8; 8] = *b"exoends1";
const LATEST_MAGIC: [u8; 8] = *b"exolate1";
