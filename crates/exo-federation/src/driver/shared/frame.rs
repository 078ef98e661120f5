//! The frames of a segment: one atomic write each.
//!
//! ```text
//! Frame   magic: 8 bytes, number: u64, oldest: u32, index length: u32, values length: u32, zeros: 4 bytes,
//!         check: 16 bytes, index, values
//! index   list of: operation: u8, length of the key: u8, key; of a put and a move: length of the value:
//!         u32, CRC-32 of the value: u32
//! Seal    magic: 8 bytes, zeros: 8 bytes, check: 16 bytes
//! ```
//!
//! All numbers are big-endian. The check of a frame is BLAKE3, keyed with the segment's own random key, over
//! its place in the file, its head and its index; a value has a CRC-32 of its own, so that the value can be
//! destroyed and the frame still hold. Values come from other members, who must not be able to write what
//! looks like a frame: hence the key, which never leaves the file. Against whoever can write the file nothing
//! here helps, and nothing need: a replica verifies signatures and commitments again when it starts.
//!
//! A seal stands behind each frame, written once the frame is durable and before the next one is. A frame
//! that does not hold and has its seal, or anything valid behind it, was acknowledged and is damaged; without
//! either it is a write that a crash cut off, which nobody was told of.

use exo_types::limits::{SHARED_FRAME_BYTES_MAX, SHARED_KEY_BYTES_MAX};

use super::error::StoreError;

/// The secret of a segment's checks.
#[derive(Clone)]
pub(super) struct SegmentKey(pub(super) [u8; 32]);

/// What a frame does to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Takes it away.
    Delete,
    /// Gives it a value.
    Put(Piece),
    /// Takes it away, and its value's bytes out of the file.
    Erase,
    /// Gives it the value it has: from a segment that is dropped then.
    Move(Piece),
}

/// Keys with what a frame does to each, in order.
pub(super) type Ops = Vec<(Vec<u8>, Op)>;

/// A value in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it begins in the file.
    pub(super) offset: u32,
    /// Its length, bytes.
    pub(super) len: u32,
    /// Its CRC-32.
    pub(super) crc: u32,
}

/// A frame in the making.
#[derive(Debug, Default)]
pub(super) struct FrameBuilder {
    index: Vec<u8>,
    values: Vec<u8>,
    ops: Ops,
}

impl FrameBuilder {
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let piece = self.piece(value)?;
        self.push(key, Op::Put(piece))
    }

    pub(super) fn moved(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let piece = self.piece(value)?;
        self.push(key, Op::Move(piece))
    }

    pub(super) fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.push(key, Op::Delete)
    }

    pub(super) fn erase(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.push(key, Op::Erase)
    }

    /// Bytes of the values so far.
    pub(super) fn values_len(&self) -> usize {
        self.values.len()
    }

    fn piece(&mut self, value: &[u8]) -> Result<Piece, StoreError> {
        let too_long = StoreError::TooLong { bytes: self.values.len() + value.len() };
        let (Ok(offset), Ok(len)) = (u32::try_from(self.values.len()), u32::try_from(value.len()))
        else {
            return Err(too_long);
        };
        if self.values.len() + value.len() > SHARED_FRAME_BYTES_MAX {
            return Err(too_long);
        }
        self.values.extend_from_slice(value);
        Ok(Piece { offset, len, crc: crc32fast::hash(value) })
    }

    fn push(&mut self, key: &[u8], op: Op) -> Result<(), StoreError> {
        let len = u8::try_from(key.len()).ok().filter(|_| key.len() <= SHARED_KEY_BYTES_MAX);
        let Some(len) = len else { return Err(StoreError::Key { bytes: key.len() }) };
        let (code, piece) = match op {
            Op::Delete => (DELETE, None),
            Op::Put(piece) => (PUT, Some(piece)),
            Op::Erase => (ERASE, None),
            Op::Move(piece) => (MOVE, Some(piece)),
        };
        self.index.extend_from_slice(&[code, len]);
        self.index.extend_from_slice(key);
        if let Some(piece) = piece {
            self.index.extend_from_slice(&piece.len.to_be_bytes());
            self.index.extend_from_slice(&piece.crc.to_be_bytes());
        }
        self.ops.push((key.to_vec(), op));
        Ok(())
    }

    /// The frame for a place in a file, and what it does, with the values' places in the file.
    pub(super) fn finish(
        self,
        key: &SegmentKey,
        at: u64,
        number: u64,
        oldest: u32,
    ) -> Result<(Vec<u8>, Ops), StoreError> {
        let len = HEAD_BYTES + self.index.len() + self.values.len();
        let end = usize::try_from(at).ok().and_then(|at| at.checked_add(len + SEAL_BYTES));
        if len > SHARED_FRAME_BYTES_MAX || end.is_none_or(|end| u32::try_from(end).is_err()) {
            return Err(StoreError::TooLong { bytes: len });
        }
        let mut frame = Vec::with_capacity(len);
        frame.extend_from_slice(&FRAME_MAGIC);
        frame.extend_from_slice(&number.to_be_bytes());
        frame.extend_from_slice(&oldest.to_be_bytes());
        frame.extend_from_slice(&(self.index.len() as u32).to_be_bytes());
        frame.extend_from_slice(&(self.values.len() as u32).to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        let check = check(key, at, &frame, &self.index);
        frame.extend_from_slice(&check);
        frame.extend_from_slice(&self.index);
        let values_at = at as u32 + frame.len() as u32;
        frame.extend_from_slice(&self.values);
        let mut ops = self.ops;
        for (_, op) in &mut ops {
            if let Op::Put(piece) | Op::Move(piece) = op {
                piece.offset += values_at;
            }
        }
        Ok((frame, ops))
    }
}

/// The head of a frame that is in a file.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) number: u64,
    pub(super) oldest: u32,
    pub(super) index_len: usize,
    pub(super) values_len: usize,
    covered: [u8; COVERED_BYTES],
    check: [u8; 16],
}

impl Head {
    /// Reads a head; `None` when there is none, or it announces more than a frame may have.
    pub(super) fn read(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let (covered, check) = bytes.split_first_chunk::<COVERED_BYTES>()?;
        let mut rest = covered.strip_prefix(&FRAME_MAGIC)?;
        let number = u64::from_be_bytes(*take(&mut rest)?);
        let oldest = u32::from_be_bytes(*take(&mut rest)?);
        let index_len = u32::from_be_bytes(*take(&mut rest)?) as usize;
        let values_len = u32::from_be_bytes(*take(&mut rest)?) as usize;
        let fits = HEAD_BYTES + index_len + values_len <= SHARED_FRAME_BYTES_MAX;
        let check = *check.first_chunk()?;
        fits.then_some(Self { number, oldest, index_len, values_len, covered: *covered, check })
    }

    /// Whether this head stands where it was written, before this index.
    pub(super) fn holds(&self, key: &SegmentKey, at: u64, index: &[u8]) -> bool {
        check(key, at, &self.covered, index) == self.check
    }

    /// Length of the frame, bytes.
    pub(super) fn len(&self) -> u64 {
        (HEAD_BYTES + self.index_len + self.values_len) as u64
    }
}

/// Reads an index that holds: each key with what is done to it, places counted from the file's beginning.
/// `None` for one that no builder made.
pub(super) fn read_index(mut index: &[u8], values_at: u64, len: usize) -> Option<Vec<(&[u8], Op)>> {
    let (mut ops, mut offset) = (Vec::new(), u32::try_from(values_at).ok()?);
    let end = offset.checked_add(u32::try_from(len).ok()?)?;
    while !index.is_empty() {
        let [code, key_len] = *take(&mut index)?;
        let (key, rest) = index.split_at_checked(usize::from(key_len))?;
        index = rest;
        let mut piece = || {
            let len = u32::from_be_bytes(*take(&mut index)?);
            let crc = u32::from_be_bytes(*take(&mut index)?);
            let piece = Piece { offset, len, crc };
            offset = offset.checked_add(len)?;
            Some(piece)
        };
        let op = match code {
            DELETE => Op::Delete,
            PUT => Op::Put(piece()?),
            ERASE => Op::Erase,
            MOVE => Op::Move(piece()?),
            _ => return None,
        };
        ops.push((key, op));
    }
    (offset == end).then_some(ops)
}

/// The seal for a place in the file: what stands before it is durable.
pub(super) fn seal(key: &SegmentKey, at: u64) -> [u8; SEAL_BYTES] {
    let mut seal = [0; SEAL_BYTES];
    let (magic, rest) = seal.split_at_mut(SEAL_MAGIC.len());
    magic.copy_from_slice(&SEAL_MAGIC);
    let check = check(key, at, &SEAL_MAGIC, &[]);
    rest[8..].copy_from_slice(&check);
    seal
}

fn check(key: &SegmentKey, at: u64, head: &[u8], index: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(&key.0);
    hasher.update(&at.to_be_bytes()).update(head).update(index);
    let mut check = [0; 16];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    check
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(taken)
}

/// Length of a frame's head, bytes.
pub(super) const HEAD_BYTES: usize = COVERED_BYTES + 16;
/// Length of a seal, bytes.
pub(super) const SEAL_BYTES: usize = 32;
const COVERED_BYTES: usize = 32;

/// Both magics begin alike, so that one search finds either.
pub(super) const MAGIC: [u8; 7] = [0xe7, b'e', b'x', b'o', b'l', b'o', b'g'];
const FRAME_MAGIC: [u8; 8] = [0xe7, b'e', b'x', b'o', b'l', b'o', b'g', b'F'];
const SEAL_MAGIC: [u8; 8] = [0xe7, b'e', b'x', b'o', b'l', b'o', b'g', b'S'];

const DELETE: u8 = 0;
const PUT: u8 = 1;
const ERASE: u8 = 2;
const MOVE: u8 = 3;
