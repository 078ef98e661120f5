//! How bytes stand in the files of the journal and the log: behind a head that says how many there are.
//!
//! A file begins with [`FileHead`], 96 bytes. After it frame stands behind frame, each from a multiple
//! of 32 bytes on:
//!
//! | bytes | content, numbers little-endian |
//! |---|---|
//! | 4 | length of the body |
//! | 4 | a count, whose meaning is the file's |
//! | 8 | a mark, likewise |
//! | 8 | check of the body |
//! | 8 | check of these 24 bytes |
//! | n | body |
//! | 1 | `0xa5` |
//! | to the next multiple of 32 | zeroes |
//!
//! A check is the beginning of keyed BLAKE3 over what it is of (0 a head, 1 a body), the place in the
//! file and the bytes. The key is the file's own, drawn when it is made. A CRC would find accidents as
//! well; but bodies hold what other members wrote, and nobody who cannot read the disk makes bytes that
//! look like a frame, which the search for frames behind damage must not be led astray by.
//!
//! Two things are for telling a write that did not happen from one that went wrong ([`super::segment`]):
//! a head never lies across two sectors, and a frame that was written whole does not end with zero.

use blake3::Hasher;
use exo_consensus::Record;
use exo_types::codec::Wire;

use super::disk::DiskFile;
use super::error::{JournalError, Part};

/// How a file begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileHead {
    /// Its number among those of its kind.
    pub(super) number: u64,
    /// How much of it was on the disk before it had its name, bytes.
    pub(super) whole: u64,
    /// How long the file of the ends of epochs was at that time, bytes.
    pub(super) ends: u64,
    /// The key of its checks.
    pub(super) key: Key,
}

/// A file's key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    len: u32,
    /// See the module.
    pub(super) count: u32,
    /// See the module.
    pub(super) mark: u64,
    check: [u8; CHECK_BYTES],
}

/// What is at a place of a file.
#[derive(Debug)]
pub(super) enum Found {
    /// A frame and its body.
    Frame(FrameHead, Vec<u8>),
    /// The head does not hold; it is given as it stands there.
    NoHead([u8; FRAME_HEAD_BYTES]),
    /// The head holds and the body does not; the body is given with the byte after it.
    NoBody(Vec<u8>),
}

impl FileHead {
    /// A head with a key of its own.
    pub(super) fn new(number: u64, ends: u64) -> Self {
        Self { number, whole: 0, ends, key: Key(rand::random()) }
    }

    /// The head as it stands in a file.
    pub(super) fn to_bytes(&self, magic: [u8; 8]) -> [u8; FILE_HEAD_BYTES] {
        let mut bytes = [0; FILE_HEAD_BYTES];
        let (fields, check) = bytes.split_at_mut(64);
        fields[..8].copy_from_slice(&magic);
        fields[8..16].copy_from_slice(&self.number.to_le_bytes());
        fields[16..24].copy_from_slice(&self.whole.to_le_bytes());
        fields[24..32].copy_from_slice(&self.ends.to_le_bytes());
        fields[32..].copy_from_slice(&self.key.0);
        check.copy_from_slice(blake3::hash(fields).as_bytes());
        bytes
    }

    /// Reads a head; `None` when it does not hold.
    pub(super) fn read(file: &DiskFile, magic: [u8; 8]) -> Result<Option<Self>, JournalError> {
        let mut bytes = [0; FILE_HEAD_BYTES];
        file.read_at(&mut bytes, 0)?;
        let (fields, check) = bytes.split_at(64);
        if fields[..8] != magic || blake3::hash(fields).as_bytes() != check {
            return Ok(None);
        }
        let mut key = [0; 32];
        key.copy_from_slice(&fields[32..]);
        Ok(Some(Self {
            number: number(&fields[8..16]),
            whole: number(&fields[16..24]),
            ends: number(&fields[24..32]),
            key: Key(key),
        }))
    }
}

impl FrameHead {
    /// Length of the whole frame, bytes.
    pub(super) fn span(&self) -> u64 {
        span(self.len as usize)
    }
}

impl Key {
    /// Puts a frame that is to stand at a place behind what is in the buffer; gives its length.
    pub(super) fn frame(&self, out: &mut Vec<u8>, at: u64, head: (u32, u64), body: &[u8]) -> u64 {
        debug_assert!(body.len() <= BODY_BYTES_MAX, "the codec bounds it");
        let begun = out.len();
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&head.0.to_le_bytes());
        out.extend_from_slice(&head.1.to_le_bytes());
        out.extend_from_slice(&self.check(1, at, body));
        let check = self.check(0, at, &out[begun..]);
        out.extend_from_slice(&check);
        out.extend_from_slice(body);
        out.push(END);
        let span = span(body.len());
        out.resize(begun + span as usize, 0);
        span
    }

    /// The head in these bytes; `None` when it does not hold.
    pub(super) fn head(&self, at: u64, bytes: &[u8; FRAME_HEAD_BYTES]) -> Option<FrameHead> {
        let (fields, check) = bytes.split_at(24);
        if fields[..4] == [0; 4] || self.check(0, at, fields) != check {
            return None;
        }
        let len = number(&fields[..4]) as u32;
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&fields[16..24]);
        let head = FrameHead {
            len,
            count: number(&fields[4..8]) as u32,
            mark: number(&fields[8..16]),
            check,
        };
        (len as usize <= BODY_BYTES_MAX).then_some(head)
    }

    /// Reads the head at a place.
    pub(super) fn read_head(
        &self,
        file: &DiskFile,
        at: u64,
    ) -> Result<Option<FrameHead>, JournalError> {
        let mut bytes = [0; FRAME_HEAD_BYTES];
        file.read_at(&mut bytes, at)?;
        Ok(self.head(at, &bytes))
    }

    /// Reads the frame at a place.
    pub(super) fn read(&self, file: &DiskFile, at: u64) -> Result<Found, JournalError> {
        let mut bytes = [0; FRAME_HEAD_BYTES];
        file.read_at(&mut bytes, at)?;
        let Some(head) = self.head(at, &bytes) else { return Ok(Found::NoHead(bytes)) };
        let mut body = vec![0; head.len as usize + 1];
        file.read_at(&mut body, at + FRAME_HEAD_BYTES as u64)?;
        let whole = body
            .split_last()
            .is_some_and(|(end, body)| *end == END && self.check(1, at, body) == head.check);
        if !whole {
            return Ok(Found::NoBody(body));
        }
        body.pop();
        Ok(Found::Frame(head, body))
    }

    /// Reads the record at a place of a file of which all was durable.
    pub(super) fn record(
        &self,
        file: &DiskFile,
        at: u64,
        part: Part,
    ) -> Result<(FrameHead, Record), JournalError> {
        let damaged = |what| damaged(part, file, at, what);
        match self.read(file, at)? {
            Found::Frame(head, body) => match Record::from_wire(&body) {
                Ok(record) => Ok((head, record)),
                Err(_) => Err(damaged("a record does not decode")),
            },
            Found::NoHead(_) => Err(damaged("the head of a record does not hold")),
            Found::NoBody(_) => Err(damaged("a record's check does not hold")),
        }
    }

    fn check(&self, of: u8, at: u64, bytes: &[u8]) -> [u8; CHECK_BYTES] {
        let mut hasher = Hasher::new_keyed(&self.0);
        hasher.update(&[of]).update(&at.to_le_bytes()).update(bytes);
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK_BYTES]);
        check
    }
}

/// The error of a file that is not what was written.
pub(super) fn damaged(
    part: Part,
    file: &DiskFile,
    offset: u64,
    what: &'static str,
) -> JournalError {
    JournalError::Damaged { part, path: file.path().to_owned(), offset, what }
}

fn span(len: usize) -> u64 {
    (FRAME_HEAD_BYTES + len + 1).next_multiple_of(FRAME_ALIGN_BYTES) as u64
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// Length of a file's head, bytes.
pub(super) const FILE_HEAD_BYTES: usize = 96;
/// Length of a frame's head, bytes.
pub(super) const FRAME_HEAD_BYTES: usize = 32;
/// What places of frames are multiples of, bytes.
pub(super) const FRAME_ALIGN_BYTES: usize = 32;
/// What a frame that was written whole ends with.
pub(super) const END: u8 = 0xa5;
const CHECK_BYTES: usize = 8;
const BODY_BYTES_MAX: usize = <Record as Wire>::BYTES_MAX;

const _: () = assert!(FILE_HEAD_BYTES.is_multiple_of(FRAME_ALIGN_BYTES));
const _: () = assert!(BODY_BYTES_MAX < u32::MAX as usize);
