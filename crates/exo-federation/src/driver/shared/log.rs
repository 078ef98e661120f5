//! The store of one shared collection: an append-only log with an index in memory.
//!
//! # Provided
//! - A write is durable, whole, when [`commit`](exo_crdt::Store::commit) returns; after a crash it is there
//!   or, if nobody was told of it, perhaps not.
//! - A damaged byte of anything that is saved is an error when the store is opened or read, never a shorter
//!   or other history. Damage to what is dead changes nothing.
//! - What was erased cannot be read from the files, whenever a crash comes: it is overwritten with zeros, and
//!   again at the next start if it was not finished. Copies that the file system or the disk keep for
//!   themselves (snapshots, copy-on-write, wear levelling) cannot be reached from here.
//!
//! # Not provided
//! - Two processes at once. The node's data directory has a lock.
//! - A log whose newest file was taken away, or that was put back from a copy, looks like an older one.
//!
//! Memory: 40 bytes and a third for each key that is saved.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use exo_crdt::{Store, WriteBatch};
use exo_types::limits::{SHARED_MOVE_BYTES, SHARED_SEGMENT_BYTES};

use super::error::{StoreError, damaged, io_error};
use super::frame::{self, FrameBuilder, Op, Piece};
use super::segment::{self, Segment};

/// The store of one shared collection.
pub struct SharedLog {
    dir: PathBuf,
    /// By number, without gaps; the last one is written to.
    segments: BTreeMap<u32, Segment>,
    /// Where each key's value is, by a digest of the key.
    places: HashMap<KeyDigest, Place>,
    digests: Digests,
    /// The last write's number.
    number: u64,
    /// Of each segment the bytes of its values.
    accounts: BTreeMap<u32, Account>,
    repaired: Option<Repaired>,
    segment_bytes: u64,
    failed: bool,
}

/// What opening a store put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The file whose end a crash had cut off.
    pub path: PathBuf,
    /// Bytes of a write that nobody was told of.
    pub bytes: u64,
}

/// A key's digest under a random key of this process: ids are chosen by other members.
type KeyDigest = [u8; 16];

struct Digests(blake3::Hasher);

impl Digests {
    fn new() -> Self {
        Self(blake3::Hasher::new_keyed(&rand::random()))
    }

    fn of(&self, key: &[u8]) -> KeyDigest {
        let mut digest = [0; 16];
        digest.copy_from_slice(&self.0.clone().update(key).finalize().as_bytes()[..16]);
        digest
    }
}

/// A key with its value.
type Item = (Vec<u8>, Vec<u8>);

/// Bytes of a segment's values, and of those that are still the newest of their keys.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    all: u64,
    live: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    segment: u32,
    piece: Piece,
}

impl SharedLog {
    /// Opens the store in a directory, or makes one where there is none. The end that a crash has cut off
    /// is repaired, and what was erased is overwritten if that was not finished.
    ///
    /// # Errors
    /// [`StoreError`]; of damage here only what is in the order of writes is found, the values are checked
    /// by [`load`](Store::load).
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::with_segments_of(dir, SHARED_SEGMENT_BYTES)
    }

    pub(super) fn with_segments_of(dir: &Path, segment_bytes: u64) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error(dir))?;
        let mut log = Self {
            dir: dir.to_owned(),
            segments: BTreeMap::new(),
            places: HashMap::new(),
            digests: Digests::new(),
            number: 0,
            accounts: BTreeMap::new(),
            repaired: None,
            segment_bytes,
            failed: false,
        };
        let mut numbers = segment::list(dir)?;
        if let Some(newest) = numbers.last().copied()
            && Segment::open(dir, newest)?.is_none()
        {
            let path = segment::path_of(dir, newest);
            fs::remove_file(&path).map_err(io_error(&path))?;
            numbers.pop();
        }
        log.read(&numbers)?;
        if log.segments.is_empty() {
            log.segments.insert(1, Segment::create(dir, 1)?);
        }
        Ok(log)
    }

    /// What opening put right.
    pub fn repaired(&self) -> Option<&Repaired> {
        self.repaired.as_ref()
    }

    /// Keys that have a value.
    pub fn keys(&self) -> usize {
        self.places.len()
    }

    /// Bytes of the values that are saved.
    pub fn live_bytes(&self) -> u64 {
        self.accounts.values().map(|account| account.live).sum()
    }

    /// Bytes in the files of values that were deleted or replaced.
    pub fn dead_bytes(&self) -> u64 {
        self.accounts.values().map(|account| account.all - account.live).sum()
    }

    /// Frees the oldest segments while more than half of the log is dead. Each step writes what still lives
    /// of one segment again, so a byte is written about twice over its life.
    ///
    /// # Errors
    /// [`StoreError`]; the store must be opened anew then.
    pub fn tidy(&mut self) -> Result<(), StoreError> {
        while self.dead_bytes() > self.live_bytes() + self.segment_bytes && self.segments.len() > 1
        {
            self.drop_oldest()?;
        }
        Ok(())
    }

    fn read(&mut self, numbers: &[u32]) -> Result<(), StoreError> {
        let first = numbers.first().copied().unwrap_or(1);
        let (mut oldest, mut erased) = (first, Vec::new());
        for (expected, number) in (first..).zip(numbers.iter().copied()) {
            if number != expected {
                return Err(StoreError::Missing { path: segment::path_of(&self.dir, expected) });
            }
            let mut segment = Segment::open(&self.dir, number)?.ok_or_else(|| {
                damaged(&segment::path_of(&self.dir, number), 0, "the header does not hold")
            })?;
            let newest = numbers.last() == Some(&number);
            let walked = segment.walk(newest, |found| {
                if self.number != 0 && found.number != self.number + 1 {
                    return Err("a write is missing before this one");
                }
                (self.number, oldest) = (found.number, found.oldest);
                erased.extend(self.account(number, found.ops.iter().map(|(key, op)| (*key, *op))));
                Ok(())
            })?;
            if newest {
                segment.repair(&walked)?;
                let repaired = Repaired { path: segment.path.clone(), bytes: walked.torn };
                self.repaired = (walked.torn > 0).then_some(repaired);
            }
            self.segments.insert(number, segment);
        }
        if oldest < first {
            return Err(StoreError::Missing { path: segment::path_of(&self.dir, oldest) });
        }
        self.scrub(&erased)?;
        while self.oldest() < oldest {
            self.unlink_oldest()?;
        }
        Ok(())
    }

    /// Takes what a frame does into the index. Gives the places of values that must not be in the files any
    /// more: of what was erased, and of what was moved, which a crash may have left in its old segment.
    fn account<'a>(
        &mut self,
        segment: u32,
        ops: impl Iterator<Item = (&'a [u8], Op)>,
    ) -> Vec<Place> {
        let mut gone = Vec::new();
        for (key, op) in ops {
            let digest = self.digests.of(key);
            let before = match op {
                Op::Put(piece) | Op::Move(piece) => {
                    let account = self.accounts.entry(segment).or_default();
                    account.all += u64::from(piece.len);
                    account.live += u64::from(piece.len);
                    self.places.insert(digest, Place { segment, piece })
                }
                Op::Delete | Op::Erase => self.places.remove(&digest),
            };
            let Some(place) = before else { continue };
            if let Some(account) = self.accounts.get_mut(&place.segment) {
                account.live = account.live.saturating_sub(u64::from(place.piece.len));
            }
            gone.extend(matches!(op, Op::Erase | Op::Move(_)).then_some(place));
        }
        gone
    }

    /// Writes a frame at the end, and it is durable when this returns.
    fn write(&mut self, frame: FrameBuilder, oldest: u32) -> Result<Vec<Place>, StoreError> {
        self.check()?;
        let full = |segment: &Segment| segment.end >= self.segment_bytes;
        if self.segments.last_key_value().is_none_or(|(_, segment)| full(segment)) {
            self.roll()?;
        }
        let failed = StoreError::Failed { path: self.dir.clone() };
        let Some(newest) = self.segments.last_entry() else { return Err(failed) };
        let (number, last) = (self.number + 1, *newest.key());
        let segment = newest.into_mut();
        // One that is refused for what it is leaves the store as it was.
        let (bytes, ops) = frame.finish(&segment.key, segment.end, number, oldest)?;
        self.failed = true;
        segment.file.write_all_at(&bytes, segment.end).map_err(io_error(&segment.path))?;
        segment.file.sync_data().map_err(io_error(&segment.path))?;
        let end = segment.end + bytes.len() as u64;
        // It need not be durable: it says that the frame is.
        let seal = frame::seal(&segment.key, end);
        segment.file.write_all_at(&seal, end).map_err(io_error(&segment.path))?;
        segment.end = end + seal.len() as u64;
        self.number = number;
        let gone = self.account(last, ops.iter().map(|(key, op)| (key.as_slice(), *op)));
        self.failed = false;
        Ok(gone)
    }

    /// Begins a new segment.
    fn roll(&mut self) -> Result<(), StoreError> {
        let last = self.segments.last_key_value().map_or(0, |(number, _)| *number);
        let next = last.checked_add(1).ok_or(StoreError::TooLong { bytes: usize::MAX })?;
        self.failed = true;
        self.segments.insert(next, Segment::create(&self.dir, next)?);
        self.failed = false;
        Ok(())
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.failed { Err(StoreError::Failed { path: self.dir.clone() }) } else { Ok(()) }
    }

    fn oldest(&self) -> u32 {
        self.segments.first_key_value().map_or(1, |(number, _)| *number)
    }

    fn builder(batch: &WriteBatch, erase: bool) -> Result<FrameBuilder, StoreError> {
        let mut frame = FrameBuilder::default();
        for (key, value) in &batch.changes {
            match value {
                Some(value) => frame.put(key, value)?,
                None if erase => frame.erase(key)?,
                None => frame.delete(key)?,
            }
        }
        Ok(frame)
    }

    /// Overwrites what was erased, durably.
    fn scrub(&mut self, erased: &[Place]) -> Result<(), StoreError> {
        let mut written = std::collections::BTreeSet::new();
        for place in erased {
            let Some(segment) = self.segments.get(&place.segment) else { continue };
            if segment.scrub(place.piece)? {
                written.insert(place.segment);
            }
        }
        for segment in written.iter().filter_map(|number| self.segments.get(number)) {
            segment.file.sync_data().map_err(io_error(&segment.path))?;
        }
        Ok(())
    }

    /// Writes what lives of the oldest segment again, and drops it. No segment before it exists, so what
    /// it says of deletions is not needed any more.
    fn drop_oldest(&mut self) -> Result<(), StoreError> {
        let oldest = self.oldest();
        let mut frame = FrameBuilder::default();
        for (key, value) in self.living(oldest)? {
            if frame.values_len() > 0 && frame.values_len() + value.len() > SHARED_MOVE_BYTES {
                self.write(std::mem::take(&mut frame), oldest)?;
            }
            frame.moved(&key, &value)?;
        }
        // The last one says that the segment is not needed, so that a crash leaves all of it or nothing.
        self.write(frame, oldest + 1)?;
        self.failed = true;
        self.unlink_oldest()?;
        self.failed = false;
        Ok(())
    }

    fn unlink_oldest(&mut self) -> Result<(), StoreError> {
        if let Some((number, segment)) = self.segments.pop_first() {
            fs::remove_file(&segment.path).map_err(io_error(&segment.path))?;
            self.accounts.remove(&number);
            segment::sync_directory(&self.dir)?;
        }
        Ok(())
    }

    /// The keys whose newest value is in a segment, with their values, each checked.
    fn living(&self, number: u32) -> Result<Vec<Item>, StoreError> {
        let Some(segment) = self.segments.get(&number) else { return Ok(Vec::new()) };
        let mut pieces = Vec::new();
        segment.walk(false, |found| {
            for (key, op) in &found.ops {
                let (Op::Put(piece) | Op::Move(piece)) = op else { continue };
                let place = Place { segment: number, piece: *piece };
                if self.places.get(&self.digests.of(key)) == Some(&place) {
                    pieces.push((key.to_vec(), *piece));
                }
            }
            Ok(())
        })?;
        let value = |(key, piece)| Ok((key, segment.value(piece)?));
        pieces.into_iter().map(value).collect()
    }
}

impl Store for SharedLog {
    type Error = StoreError;

    fn commit(&mut self, batch: &WriteBatch) -> Result<(), StoreError> {
        self.check()?;
        if !batch.is_empty() {
            self.write(Self::builder(batch, false)?, self.oldest())?;
        }
        Ok(())
    }

    fn erase(&mut self, batch: &WriteBatch) -> Result<(), StoreError> {
        let gone = self.write(Self::builder(batch, true)?, self.oldest())?;
        self.failed = true;
        self.scrub(&gone)?;
        self.failed = false;
        Ok(())
    }

    fn compact(&mut self) -> Result<(), StoreError> {
        self.check()?;
        if self.dead_bytes() == 0 {
            return Ok(());
        }
        let newest = self.segments.last_key_value().map_or(0, |(number, _)| *number);
        self.roll()?;
        while self.oldest() <= newest {
            self.drop_oldest()?;
        }
        Ok(())
    }

    fn load(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        self.check()?;
        let mut all = BTreeMap::new();
        for number in self.segments.keys() {
            all.extend(self.living(*number)?);
        }
        if all.len() == self.places.len() {
            return Ok(all);
        }
        Err(damaged(&self.dir, 0, "keys are missing that were there when it was opened"))
    }
}

// The files hold what users wrote.
impl std::fmt::Debug for SharedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedLog({}, {} keys)", self.dir.display(), self.keys())
    }
}
