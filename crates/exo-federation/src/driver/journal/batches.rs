//! The batches of the log, one frame after the other in one file. A frame's count is the batch's leaves,
//! its mark the first leaf's index; its body is the record with which the journal appended it.
//!
//! The file is not synced when a batch is written, since the journal has the batch too. Before a journal
//! is begun anew the file is synced; so when it is opened, what stands before the size that the journal
//! begins with was on the disk, and what stands behind it is written again from the journal.

use std::path::Path;

use exo_consensus::{LoggedBatch, Record};

use super::disk::{Disk, DiskFile};
use super::error::{JournalError, Part};
use super::frame::{FILE_HEAD_BYTES, FileHead, Key, damaged};

/// The file.
#[derive(Debug)]
pub(super) struct Batches {
    file: DiskFile,
    key: Key,
}

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of its first leaf.
    pub(super) first: u64,
    /// Where its frame is in the file.
    pub(super) at: u64,
}

/// Where all batches are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index {
    places: Vec<Place>,
    /// Leaves of all of them.
    size: u64,
    /// Where the next frame is to stand.
    end: u64,
}

impl Index {
    fn empty() -> Self {
        Self { places: Vec::new(), size: 0, end: FILE_HEAD_BYTES as u64 }
    }

    /// Leaves of all batches.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The batches.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Where the next frame is to stand.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The batch that has the leaf.
    pub(super) fn of(&self, leaf: u64) -> Option<usize> {
        let after = self.places.partition_point(|place| place.first <= leaf);
        after.checked_sub(1).filter(|_| leaf < self.size)
    }

    /// The beginning of it with so many leaves; `None` when no batch ends there.
    pub(super) fn cut(&self, size: u64) -> Option<Self> {
        if size == self.size {
            return Some(self.clone());
        }
        let at = self.places.binary_search_by_key(&size, |place| place.first).ok()?;
        Some(Self { places: self.places[..at].to_vec(), size, end: self.places[at].at })
    }

    fn push(&mut self, leaves: u64, span: u64) {
        self.places.push(Place { first: self.size, at: self.end });
        self.size += leaves;
        self.end += span;
    }
}

impl Batches {
    /// Opens the file, or makes it.
    pub(super) fn open(disk: &Disk, dir: &Path) -> Result<Self, JournalError> {
        let (file, head) = open_or_make(disk, dir, FILE, MAGIC)?;
        Ok(Self { file, key: head.key })
    }

    /// Finds the batches up to a size, or as far as their heads hold.
    pub(super) fn walk(&self, size: u64) -> Result<Index, JournalError> {
        let len = self.file.len()?;
        let mut index = Index::empty();
        while index.size < size {
            let Some(head) = self.key.read_head(&self.file, index.end)? else { break };
            let whole = index.end + head.span() <= len;
            if head.mark != index.size || head.count == 0 || !whole {
                break;
            }
            index.push(u64::from(head.count), head.span());
        }
        Ok(index)
    }

    /// Reads the batch at a place.
    pub(super) fn read(&self, place: Place) -> Result<LoggedBatch, JournalError> {
        let (head, record) = self.key.record(&self.file, place.at, Part::Log)?;
        match record {
            Record::Append(batch)
                if head.mark == place.first && u64::from(head.count) == batch.size() =>
            {
                Ok(batch.into_batch())
            }
            _ => Err(self.damaged(place.at, "another record stands where a batch should")),
        }
    }

    /// Writes a batch, whose record has this encoding, at the end.
    pub(super) fn push(
        &self,
        index: &mut Index,
        batch: &LoggedBatch,
        body: &[u8],
    ) -> Result<(), JournalError> {
        let mut bytes = Vec::with_capacity(body.len() + 64);
        let head = (batch.size() as u32, index.size);
        let span = self.key.frame(&mut bytes, index.end, head, body);
        self.file.write_at(&bytes, index.end)?;
        index.push(batch.size(), span);
        Ok(())
    }

    /// Cuts off what stands behind the last batch.
    pub(super) fn cut(&self, index: &Index) -> Result<(), JournalError> {
        if self.file.len()? > index.end { self.file.cut(index.end) } else { Ok(()) }
    }

    /// Makes all batches durable.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        self.file.sync()
    }

    /// The error of this file.
    pub(super) fn damaged(&self, offset: u64, what: &'static str) -> JournalError {
        damaged(Part::Log, &self.file, offset, what)
    }
}

/// Opens a file of frames that is written at its end, or makes an empty one.
pub(super) fn open_or_make(
    disk: &Disk,
    dir: &Path,
    name: &str,
    magic: [u8; 8],
) -> Result<(DiskFile, FileHead), JournalError> {
    let path = dir.join(name);
    if !path.exists() {
        let beside = dir.join(format!("{name}-beside"));
        let file = disk.create(&beside)?;
        file.write_at(&FileHead::new(0, 0).to_bytes(magic), 0)?;
        file.sync()?;
        disk.rename(&beside, &path)?;
        disk.sync_dir(dir)?;
    }
    let file = disk.open(&path)?;
    let head = FileHead::read(&file, magic)?;
    let head = head.ok_or_else(|| damaged(Part::Log, &file, 0, "its head does not hold"))?;
    Ok((file, head))
}

const FILE: &str = "batches";
const MAGIC: [u8; 8] = *b"exobtch1";
