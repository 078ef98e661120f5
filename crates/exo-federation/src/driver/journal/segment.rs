//! One file of the journal, and what is made of its end after a crash.
//!
//! A record stands in a frame whose mark says how much of the file was known to be on the disk when the
//! record was written. New records are written over zeroes or at the end of the file; what is on the disk
//! is never written again, apart from the sector in which it ends.
//!
//! # Torn or damaged
//!
//! A crash may lose any part of what was written since the last sync, in any order: of a group of
//! records the last may be there and the first not. Nobody was told that they are durable, so they are
//! cut off (a tear). What was on the disk and is not any more (damage) must never be cut off: the
//! replica would come back without knowing what it said. At the first place `x` where there is no whole
//! record, in this order:
//!
//! 1. Nothing but zeroes from `x` on: the journal ends here.
//! 2. `x` lies in what was on the disk before the file got its name: damage.
//! 3. A head behind `x` says that more than `x` bytes were on the disk when it was written: damage.
//! 4. Everything from `x` on is of the last group, of which nobody may have been told. A sector of 512
//!    bytes is written whole or not at all, and a process that is killed leaves the beginning of what it
//!    was writing. So a tear leaves zeroes where a frame was to be: its head is zero, or all is zero
//!    after a part of the head, or a whole sector of its body is, or the byte that ends it. That is cut.
//! 5. All was written and it is wrong: damage.
//!
//! Not found is damage of the last group that looks like 4, such as a sector that reads as zeroes on a
//! disk that lost it after it had confirmed it; and in 1 a last group that is gone as a whole.
//! A file that other software cut at the end of a record is such a one.

use std::path::{Path, PathBuf};

use exo_consensus::Record;
use exo_types::codec::Wire;
use exo_types::limits::{JOURNAL_BYTES_MAX, JOURNAL_STEP_BYTES};

use super::disk::{Disk, DiskFile};
use super::error::{JournalError, Part};
use super::frame::{
    FILE_HEAD_BYTES, FRAME_ALIGN_BYTES, FRAME_HEAD_BYTES, FileHead, Found, FrameHead, damaged,
};
use super::named::Contents;

/// The file that is written.
#[derive(Debug)]
pub(super) struct Segment {
    file: DiskFile,
    head: FileHead,
    /// Where the next record is to stand.
    end: u64,
    /// How much is known to be on the disk.
    synced: u64,
    /// Length of the file.
    room: u64,
}

/// What a file of the journal gave.
#[derive(Debug)]
pub(super) struct Read {
    /// To be written on.
    pub(super) segment: Segment,
    /// Its records, in order.
    pub(super) records: Vec<Record>,
    /// What was cut off.
    pub(super) repaired: Option<String>,
}

impl Segment {
    /// Makes a file with these records: it has its name, durably, when it is whole.
    pub(super) fn create(
        disk: &Disk,
        dir: &Path,
        number: u64,
        ends: u64,
        records: &[Record],
    ) -> Result<Self, JournalError> {
        let mut head = FileHead::new(number, ends);
        let mut bytes = vec![0; FILE_HEAD_BYTES];
        for record in records {
            let body = record.to_wire().map_err(JournalError::Record)?;
            let at = bytes.len() as u64;
            head.key.frame(&mut bytes, at, (0, 0), &body);
        }
        let end = bytes.len() as u64;
        head.whole = end;
        bytes[..FILE_HEAD_BYTES].copy_from_slice(&head.to_bytes(MAGIC));
        let room = (end + 1).next_multiple_of(JOURNAL_STEP_BYTES);
        if room > JOURNAL_BYTES_MAX {
            return Err(JournalError::Full(dir.to_owned()));
        }
        bytes.resize(room as usize, 0);
        let beside = dir.join(BESIDE);
        let file = disk.create(&beside)?;
        file.write_at(&bytes, 0)?;
        file.sync()?;
        let path = dir.join(name(number));
        disk.rename(&beside, &path)?;
        disk.sync_dir(dir)?;
        let file = disk.open(&path)?;
        Ok(Self { file, head, end, synced: end, room })
    }

    /// Opens the last file of the journal in a directory and removes what is left of others; `None` when
    /// there is no journal.
    pub(super) fn open(disk: &Disk, dir: &Path) -> Result<Option<Read>, JournalError> {
        let numbers = numbers(dir)?;
        let Some((number, older)) = numbers.split_last() else { return Ok(None) };
        let path = dir.join(name(*number));
        let file = disk.open(&path)?;
        let read = read(file, *number)?;
        disk.remove(&dir.join(BESIDE))?;
        for number in older {
            disk.remove(&dir.join(name(*number)))?;
        }
        Ok(Some(read))
    }

    /// Writes records in one piece.
    pub(super) fn append<'a>(
        &mut self,
        bodies: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), JournalError> {
        let mut bytes = Vec::new();
        let mut end = self.end;
        for body in bodies {
            end += self.head.key.frame(&mut bytes, end, (0, self.synced), body);
        }
        if end > JOURNAL_BYTES_MAX {
            return Err(JournalError::Full(self.file.path().to_owned()));
        }
        if end > self.room {
            // Zeroes in front of small records save the file system an entry for each sync; before
            // large ones they would be as much work again.
            let large = bytes.len() as u64 > JOURNAL_STEP_BYTES / 8;
            let room = if large { end } else { end.next_multiple_of(JOURNAL_STEP_BYTES) };
            bytes.resize((room - self.end) as usize, 0);
            self.room = room;
        }
        if !bytes.is_empty() {
            self.file.write_at(&bytes, self.end)?;
        }
        self.end = end;
        Ok(())
    }

    /// Makes all that was written durable.
    pub(super) fn sync(&mut self) -> Result<(), JournalError> {
        if self.synced < self.end {
            self.file.sync()?;
            self.synced = self.end;
        }
        Ok(())
    }

    /// Its number.
    pub(super) fn number(&self) -> u64 {
        self.head.number
    }

    /// How long the file of the ends of epochs was when this one was made, bytes.
    pub(super) fn ends(&self) -> u64 {
        self.head.ends
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }
}

/// Reads a file, cuts a torn end off, and makes durable what is left: whoever comes back from these
/// records says what follows from them at once.
fn read(file: DiskFile, number: u64) -> Result<Read, JournalError> {
    let len = file.len()?;
    let head = FileHead::read(&file, MAGIC)?.filter(|head| head.number == number);
    let head = head.ok_or_else(|| damaged(Part::Journal, &file, 0, "its head does not hold"))?;
    if len > JOURNAL_BYTES_MAX {
        return Err(damaged(Part::Journal, &file, JOURNAL_BYTES_MAX, "it is too long"));
    }
    let mut at = FILE_HEAD_BYTES as u64;
    let mut records = Vec::new();
    let mut contents = Contents::default();
    let found = loop {
        match head.key.read(&file, at)? {
            Found::Frame(frame, body) => {
                let bad = |_| damaged(Part::Journal, &file, at, "a record does not decode");
                let record = contents.read(&body).map_err(bad)?;
                contents.note(&record);
                records.push(record);
                at += frame.span();
            }
            found => break found,
        }
    };
    let last = last_byte(&file, at, len)?;
    let mut room = len;
    let mut repaired = None;
    if at < head.whole {
        return Err(damaged(Part::Journal, &file, at, "a record is lost that was on the disk"));
    }
    if let Some(last) = last {
        judge(&file, &head, at, last, &found)?;
        file.cut(at)?;
        room = at;
        let path = file.path().display();
        repaired = Some(format!("{} bytes of a torn write cut off {path} at {at}", last + 1 - at));
    }
    file.sync()?;
    let segment = Segment { file, head, end: at, synced: at, room };
    Ok(Read { segment, records, repaired })
}

/// The error when what is at `at` is no tear. `last` is the last byte of the file that is not zero.
fn judge(
    file: &DiskFile,
    head: &FileHead,
    at: u64,
    last: u64,
    found: &Found,
) -> Result<(), JournalError> {
    let damaged = |what| Err(damaged(Part::Journal, file, at, what));
    if knows_of(file, head, at, last)? {
        return damaged("a record is lost that later ones say was on the disk");
    }
    let torn = match found {
        Found::Frame(..) => false,
        Found::NoHead(bytes) => {
            bytes.iter().all(|byte| *byte == 0) || last < at + FRAME_HEAD_BYTES as u64
        }
        Found::NoBody(body) => is_torn(at, body),
    };
    if torn { Ok(()) } else { damaged("the last record was written whole and is another now") }
}

/// Whether a head behind `at` was written when more than `at` bytes were on the disk.
fn knows_of(file: &DiskFile, head: &FileHead, at: u64, last: u64) -> Result<bool, JournalError> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut from = at + FRAME_ALIGN_BYTES as u64;
    while from <= last {
        file.read_at(&mut chunk, from)?;
        let (heads, _) = chunk.as_chunks::<FRAME_HEAD_BYTES>();
        let knows = |(i, bytes): (usize, &[u8; FRAME_HEAD_BYTES])| {
            let place = from + (i * FRAME_ALIGN_BYTES) as u64;
            let found: Option<FrameHead> = head.key.head(place, bytes);
            found.is_some_and(|found| found.mark > at)
        };
        if heads.iter().enumerate().any(knows) {
            return Ok(true);
        }
        from += CHUNK_BYTES as u64;
    }
    Ok(false)
}

/// Whether a part of a body, which has its end mark, was never written; the frame begins at `at`.
fn is_torn(at: u64, body: &[u8]) -> bool {
    let begins = at as usize + FRAME_HEAD_BYTES;
    let first = begins.next_multiple_of(SECTOR_BYTES) - begins;
    let sectors = body.get(first..).unwrap_or_default().chunks_exact(SECTOR_BYTES);
    let unwritten = |sector: &[u8]| sector.iter().all(|byte| *byte == 0);
    body.last() == Some(&0) || sectors.into_iter().any(unwritten)
}

/// The last byte from `at` on that is not zero.
fn last_byte(file: &DiskFile, at: u64, len: u64) -> Result<Option<u64>, JournalError> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let zeroes = vec![0; CHUNK_BYTES];
    let mut end = len;
    while end > at {
        let from = end.saturating_sub(CHUNK_BYTES as u64).max(at);
        let part = &mut chunk[..(end - from) as usize];
        file.read_at(part, from)?;
        // Nearly all of it is room: the comparison passes over it at once.
        if *part != zeroes[..part.len()]
            && let Some(last) = part.iter().rposition(|byte| *byte != 0)
        {
            return Ok(Some(from + last as u64));
        }
        end = from;
    }
    Ok(None)
}

/// Numbers of the files in a directory, rising.
fn numbers(dir: &Path) -> Result<Vec<u64>, JournalError> {
    let error = |error| JournalError::io(dir, error);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(error)? {
        let file = entry.map_err(error)?.file_name();
        let number = file.to_str().and_then(|file| file.strip_prefix(PREFIX)?.parse().ok());
        numbers.extend(number.filter(|number| name(*number) == file));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn name(number: u64) -> PathBuf {
    PathBuf::from(format!("{PREFIX}{number:08}"))
}

const MAGIC: [u8; 8] = *b"exojrnl1";
const PREFIX: &str = "journal-";
/// The name of a file that is not whole yet.
const BESIDE: &str = "beside";
const CHUNK_BYTES: usize = 64 * 1024;
/// What a disk writes whole or not at all, bytes; larger ones are multiples.
const SECTOR_BYTES: usize = 512;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(FRAME_HEAD_BYTES));
const _: () = assert!(SECTOR_BYTES.is_multiple_of(FRAME_HEAD_BYTES));
const _: () = assert!(FRAME_HEAD_BYTES == FRAME_ALIGN_BYTES);
