//! One file of a store: its header, and the walk over its frames.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::{StoreError, damaged, io_error};
use super::frame::{self, HEAD_BYTES, Head, MAGIC, Op, Piece, SEAL_BYTES, SegmentKey};

/// An open segment.
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) key: SegmentKey,
    /// Where the next frame goes.
    pub(super) end: u64,
}

/// What a walk came to.
#[derive(Clone, Debug)]
pub(super) struct Walked {
    /// Where the last frame that holds ends, and its seal belongs.
    pub(super) last: Option<u64>,
    /// Where the next frame goes.
    pub(super) end: u64,
    /// Bytes behind it that a crash left of a write.
    pub(super) torn: u64,
}

/// A frame that holds, as the walk finds it.
pub(super) struct Found<'a> {
    pub(super) number: u64,
    pub(super) oldest: u32,
    pub(super) ops: Vec<(&'a [u8], Op)>,
}

impl Segment {
    /// Makes a segment, durable with its name.
    pub(super) fn create(dir: &Path, number: u32) -> Result<Self, StoreError> {
        let path = path_of(dir, number);
        let key = SegmentKey(rand::random());
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&SEGMENT_MAGIC);
        header[8..12].copy_from_slice(&number.to_be_bytes());
        header[16..48].copy_from_slice(&key.0);
        let check = blake3::hash(&header[..48]);
        header[48..].copy_from_slice(&check.as_bytes()[..16]);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(io_error(&path))?;
        file.write_all_at(&header, 0).and_then(|()| file.sync_all()).map_err(io_error(&path))?;
        sync_directory(dir)?;
        Ok(Self { path, file, key, end: HEADER_BYTES as u64 })
    }

    /// Opens a segment; `None` when it has no header because a crash came between its making and its
    /// first frame.
    pub(super) fn open(dir: &Path, number: u32) -> Result<Option<Self>, StoreError> {
        let path = path_of(dir, number);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(io_error(&path))?;
        let len = file.metadata().map_err(io_error(&path))?.len();
        let mut header = [0; HEADER_BYTES];
        if len < HEADER_BYTES as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut header, 0).map_err(io_error(&path))?;
        let whole = header[48..] == blake3::hash(&header[..48]).as_bytes()[..16]
            && header[..8] == SEGMENT_MAGIC
            && header[8..12] == number.to_be_bytes();
        if !whole && len == HEADER_BYTES as u64 {
            return Ok(None);
        }
        if !whole {
            return Err(damaged(&path, 0, "the header does not hold"));
        }
        let mut key = [0; 32];
        key.copy_from_slice(&header[16..48]);
        Ok(Some(Self { path, file, key: SegmentKey(key), end: HEADER_BYTES as u64 }))
    }

    /// Walks over the frames, the newest last. Of a segment that is written to (`open`) the end may be cut
    /// off; anything else that does not hold is damage.
    pub(super) fn walk(
        &self,
        open: bool,
        mut each: impl FnMut(Found<'_>) -> Result<(), &'static str>,
    ) -> Result<Walked, StoreError> {
        let len = self.file.metadata().map_err(io_error(&self.path))?.len();
        let (mut at, mut last, mut index) = (HEADER_BYTES as u64, None, Vec::new());
        while let Some(head) = self.head_at(at, len, &mut index)? {
            let values_at = at + (HEAD_BYTES + head.index_len) as u64;
            let end = at + head.len();
            let ops = frame::read_index(&index, values_at, head.values_len)
                .ok_or_else(|| damaged(&self.path, at, "the index of a write does not decode"))?;
            let found = Found { number: head.number, oldest: head.oldest, ops };
            if open && !self.behind(end, len)? && !self.values_hold(&found.ops)? {
                // The last write, not known to be durable, and not whole.
                break;
            }
            each(found).map_err(|what| damaged(&self.path, at, what))?;
            last = Some(end);
            at = end + SEAL_BYTES as u64;
        }
        if at >= len {
            return Ok(Walked { last, end: at, torn: 0 });
        }
        if !open || self.anything_valid(at, len)? {
            return Err(damaged(&self.path, at, "a write does not hold that was durable"));
        }
        Ok(Walked { last, end: at, torn: len - at })
    }

    /// A value, checked.
    pub(super) fn value(&self, piece: Piece) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; piece.len as usize];
        let read = self.file.read_exact_at(&mut bytes, u64::from(piece.offset));
        read.map_err(io_error(&self.path))?;
        if crc32fast::hash(&bytes) == piece.crc {
            Ok(bytes)
        } else {
            Err(damaged(&self.path, u64::from(piece.offset), "a value is not what was saved"))
        }
    }

    /// The head at a place, with its index; `None` where no frame holds.
    fn head_at(&self, at: u64, len: u64, index: &mut Vec<u8>) -> Result<Option<Head>, StoreError> {
        let mut bytes = [0; HEAD_BYTES];
        if at.saturating_add(HEAD_BYTES as u64) > len {
            return Ok(None);
        }
        self.file.read_exact_at(&mut bytes, at).map_err(io_error(&self.path))?;
        let Some(head) = Head::read(&bytes).filter(|head| at + head.len() <= len) else {
            return Ok(None);
        };
        index.resize(head.index_len, 0);
        self.file.read_exact_at(index, at + HEAD_BYTES as u64).map_err(io_error(&self.path))?;
        Ok(head.holds(&self.key, at, index).then_some(head))
    }

    /// Whether a frame's seal or another frame stands right behind it.
    fn behind(&self, end: u64, len: u64) -> Result<bool, StoreError> {
        Ok(self.sealed(end, len)?
            || self.head_at(end + SEAL_BYTES as u64, len, &mut Vec::new())?.is_some())
    }

    fn sealed(&self, at: u64, len: u64) -> Result<bool, StoreError> {
        let mut seal = [0; SEAL_BYTES];
        if at.saturating_add(SEAL_BYTES as u64) > len {
            return Ok(false);
        }
        self.file.read_exact_at(&mut seal, at).map_err(io_error(&self.path))?;
        Ok(seal == frame::seal(&self.key, at))
    }

    fn values_hold(&self, ops: &[(&[u8], Op)]) -> Result<bool, StoreError> {
        let mut bytes = Vec::new();
        for (_, op) in ops {
            let (Op::Put(piece) | Op::Move(piece)) = op else { continue };
            bytes.resize(piece.len as usize, 0);
            let read = self.file.read_exact_at(&mut bytes, u64::from(piece.offset));
            read.map_err(io_error(&self.path))?;
            if crc32fast::hash(&bytes) != piece.crc {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether behind a place there is the seal of the next frame, or any later frame: then what stands
    /// at the place was durable.
    fn anything_valid(&self, from: u64, len: u64) -> Result<bool, StoreError> {
        let mut window = vec![0; WINDOW_BYTES];
        let mut at = from;
        while at < len {
            let count = usize::try_from(len - at).unwrap_or(usize::MAX).min(WINDOW_BYTES);
            let bytes = &mut window[..count];
            self.file.read_exact_at(bytes, at).map_err(io_error(&self.path))?;
            for place in memchr::memmem::find_iter(bytes, &MAGIC) {
                let place = at + place as u64;
                let later = place > from && self.head_at(place, len, &mut Vec::new())?.is_some();
                if later || self.sealed(place, len)? {
                    return Ok(true);
                }
            }
            // A magic may lie across the windows' border.
            let step = if count == WINDOW_BYTES { count - MAGIC.len() } else { count };
            at += step as u64;
        }
        Ok(false)
    }

    /// Cuts off what stands behind the last frame that holds, and seals that one: it has been read back.
    pub(super) fn repair(&mut self, walked: &Walked) -> Result<(), StoreError> {
        self.end = walked.end;
        let io = io_error(&self.path);
        self.file.set_len(self.end).map_err(io)?;
        if let Some(end) = walked.last {
            self.file.write_all_at(&frame::seal(&self.key, end), end).map_err(io)?;
        }
        self.file.sync_all().map_err(io)
    }

    /// Overwrites a value with zeros unless that was done before; whether anything was written.
    pub(super) fn scrub(&self, piece: Piece) -> Result<bool, StoreError> {
        let io = io_error(&self.path);
        let mut bytes = vec![0; piece.len as usize];
        self.file.read_exact_at(&mut bytes, u64::from(piece.offset)).map_err(io)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(false);
        }
        bytes.fill(0);
        self.file.write_all_at(&bytes, u64::from(piece.offset)).map_err(io)?;
        Ok(true)
    }
}

/// Where a segment lies.
pub(super) fn path_of(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("log-{number:08x}"))
}

/// The numbers of the segments in a directory, in order.
pub(super) fn list(dir: &Path) -> Result<Vec<u32>, StoreError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error(dir))? {
        let name = entry.map_err(io_error(dir))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("log-"));
        numbers.extend(number.and_then(|number| u32::from_str_radix(number, 16).ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) fn sync_directory(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error(dir))
}

/// Length of a segment's header, bytes.
const HEADER_BYTES: usize = 64;
const SEGMENT_MAGIC: [u8; 8] = *b"exo-log1";
/// How much is searched at once, bytes.
const WINDOW_BYTES: usize = 1024 * 1024;
