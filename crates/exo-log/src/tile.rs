//! Tiles (c2sp.org/tlog-tiles): a log as files that never change, or grow to their full width once.
//!
//! A hash tile of level `l` holds up to 256 nodes of tree level `8 * l`; an entry bundle holds the
//! entries under a tile of level 0. What is read from a tile is not checked here: what is made of it
//! has to lead to a root that is known.

use std::fmt;
use std::str::FromStr;

use exo_types::limits::{LOG_ENTRIES_MAX, LOG_ENTRY_BYTES_MAX};

use crate::text::decimal;
use crate::tree::{NodeReader, TREE_HASH_BYTES, TreeHash, join_complete};

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of the level, 0 to 63.
    Hashes {
        /// Level of the tile: its hashes are nodes of eight times that level.
        level: u8,
    },
    /// Entries.
    Entries,
}

/// A tile or an entry bundle: which one, and how many hashes or entries it has. Its text is the path
/// under a log's prefix, such as `tile/0/x001/067` or `tile/entries/000.p/7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    kind: TileKind,
    index: u64,
    width: u16,
}

impl Tile {
    /// The tile as it is in a log of `size` entries; `None` when that log does not have it.
    pub fn in_log(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        let items = items(kind, size.min(LOG_ENTRIES_MAX));
        let first = index.checked_mul(TILE_WIDTH)?;
        let width = items.checked_sub(first)?.min(TILE_WIDTH);
        (width > 0).then_some(Self { kind, index, width: width as u16 })
    }

    /// What it holds.
    pub fn kind(&self) -> TileKind {
        self.kind
    }

    /// Its number among those of its kind.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Hashes or entries in it, 1 to 256; 256 in a full one.
    pub fn width(&self) -> usize {
        usize::from(self.width)
    }

    /// Whether it will never change.
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == TILE_WIDTH
    }

    /// The bytes of a hash tile, made of the nodes of a tree that has it.
    ///
    /// # Errors
    /// [`TileError::NotHashes`] for an entry bundle, otherwise the reader's error.
    pub fn hash_bytes<R: NodeReader>(&self, nodes: &R) -> Result<Vec<u8>, TileReadError<R::Error>> {
        let TileKind::Hashes { level } = self.kind else {
            return Err(TileReadError::Tile(TileError::NotHashes));
        };
        let mut bytes = Vec::with_capacity(self.width() * TREE_HASH_BYTES);
        for at in 0..u64::from(self.width) {
            let index = self.index * TILE_WIDTH + at;
            let missing = TileReadError::NoSuchNode { level, index };
            let node = nodes.node(level.checked_mul(TILE_HEIGHT).ok_or(missing)?, index);
            bytes.extend_from_slice(node.map_err(TileReadError::Read)?.as_bytes());
        }
        Ok(bytes)
    }

    /// The hashes of a hash tile. A longer tile than this one is taken too, as the specification lets a
    /// log keep a full tile in place of a partial one.
    ///
    /// # Errors
    /// [`TileError`].
    pub fn hashes(&self, bytes: &[u8]) -> Result<Vec<TreeHash>, TileError> {
        if !matches!(self.kind, TileKind::Hashes { .. }) {
            return Err(TileError::NotHashes);
        }
        let (hashes, rest) = bytes.as_chunks::<TREE_HASH_BYTES>();
        if !rest.is_empty() || hashes.len() > TILE_WIDTH as usize {
            return Err(TileError::Length(bytes.len()));
        }
        let hashes = hashes.get(..self.width()).ok_or(TileError::Length(bytes.len()))?;
        Ok(hashes.iter().copied().map(TreeHash::new).collect())
    }

    /// The bytes of an entry bundle: each entry behind its length in two bytes.
    ///
    /// # Errors
    /// [`TileError`].
    pub fn bundle_bytes<E: AsRef<[u8]>>(&self, entries: &[E]) -> Result<Vec<u8>, TileError> {
        if self.kind != TileKind::Entries {
            return Err(TileError::NotEntries);
        }
        if entries.len() != self.width() {
            return Err(TileError::Count(entries.len()));
        }
        let mut bytes = Vec::new();
        for entry in entries {
            let entry = entry.as_ref();
            let len =
                u16::try_from(entry.len()).map_err(|_| TileError::EntryLength(entry.len()))?;
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(entry);
        }
        Ok(bytes)
    }

    /// The entries of an entry bundle. As with hashes, a longer bundle is taken too.
    ///
    /// # Errors
    /// [`TileError`].
    pub fn entries<'a>(&self, mut bytes: &'a [u8]) -> Result<Vec<&'a [u8]>, TileError> {
        if self.kind != TileKind::Entries {
            return Err(TileError::NotEntries);
        }
        let whole = bytes.len();
        let mut entries = Vec::new();
        while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*len));
            let (entry, rest) = rest.split_at_checked(len).ok_or(TileError::Length(whole))?;
            if entries.len() == TILE_WIDTH as usize {
                return Err(TileError::Length(whole));
            }
            entries.push(entry);
            bytes = rest;
        }
        if !bytes.is_empty() || entries.len() < self.width() {
            return Err(TileError::Length(whole));
        }
        entries.truncate(self.width());
        Ok(entries)
    }
}

/// The tiles and bundles that are new or wider in a log of `new` entries than in one of `old`: what is
/// written before a checkpoint of the new size is published.
pub fn tiles_to_write(old: u64, new: u64) -> impl Iterator<Item = Tile> {
    let kinds = (0..LEVELS).map(|level| TileKind::Hashes { level });
    std::iter::once(TileKind::Entries).chain(kinds).flat_map(move |kind| {
        let (had, has) = (items(kind, old), items(kind, new));
        let changed = if has > had { had / TILE_WIDTH..has.div_ceil(TILE_WIDTH) } else { 0..0 };
        changed.filter_map(move |index| Tile::in_log(kind, index, new))
    })
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes { level } => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let digits = format!("{:03}", self.index);
        let digits = format!("{digits:0>width$}", width = digits.len().next_multiple_of(3));
        let groups = digits.len() / 3;
        for group in 0..groups {
            let last = group + 1 == groups;
            let end = if last { "" } else { "/" };
            let begin = if last { "" } else { "x" };
            write!(f, "{begin}{}{end}", &digits[3 * group..3 * group + 3])?;
        }
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

/// The text is not the path of a tile or an entry bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a tile")]
pub struct NotATile;

impl FromStr for Tile {
    type Err = NotATile;

    fn from_str(path: &str) -> Result<Self, NotATile> {
        let rest = path.strip_prefix("tile/").ok_or(NotATile)?;
        let (kind, rest) = rest.split_once('/').ok_or(NotATile)?;
        let kind = if kind == "entries" {
            TileKind::Entries
        } else {
            let level = decimal(kind).and_then(|level| u8::try_from(level).ok());
            TileKind::Hashes { level: level.filter(|level| *level < LEVELS).ok_or(NotATile)? }
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, decimal(width).ok_or(NotATile)?),
            None => (rest, TILE_WIDTH),
        };
        if number.len() > NUMBER_BYTES_MAX || !(1..=TILE_WIDTH).contains(&width) {
            return Err(NotATile);
        }
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        let index = digits.parse().map_err(|_| NotATile)?;
        let tile = Self { kind, index, width: width as u16 };
        // One tile has one path: what is not written as it would be is not a path.
        if index <= LOG_ENTRIES_MAX / TILE_WIDTH && tile.to_string() == path {
            Ok(tile)
        } else {
            Err(NotATile)
        }
    }
}

/// Why bytes are not a tile, or a tile has no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// An entry bundle was taken for a hash tile.
    #[error("an entry bundle has no hashes")]
    NotHashes,
    /// A hash tile was taken for an entry bundle.
    #[error("a hash tile has no entries")]
    NotEntries,
    /// The bytes are too few, too many, or end within a hash or an entry.
    #[error("{0} bytes are not a tile of this width")]
    Length(usize),
    /// Another number of entries than the bundle has.
    #[error("{0} entries are not what the bundle has")]
    Count(usize),
    /// An entry is too long for a bundle.
    #[error("an entry of {0} bytes is longer than the {LOG_ENTRY_BYTES_MAX} that a bundle holds")]
    EntryLength(usize),
}

/// Why a tile was not made or a node not read from tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileReadError<E> {
    /// The tile is not what it should be.
    #[error("{0}")]
    Tile(TileError),
    /// The log of this size does not have the node.
    #[error("the log does not have node {index} of level {level}")]
    NoSuchNode {
        /// Level of the node.
        level: u8,
        /// Its number in the level.
        index: u64,
    },
    /// The reader beneath did not have what was asked for.
    #[error("a tile was not read")]
    Read(E),
}

/// Gives the bytes of tiles: from a disk, a cache or a peer.
pub trait TileReader {
    /// Why a tile is not to be had.
    type Error;

    /// The bytes of the tile, or of a wider one in its place.
    ///
    /// # Errors
    /// The reader's own, when it does not have the tile.
    fn tile(&self, tile: &Tile) -> Result<Vec<u8>, Self::Error>;
}

/// The nodes of a log of `size` entries, read from its tiles.
#[derive(Clone, Copy, Debug)]
pub struct TileNodes<R> {
    tiles: R,
    size: u64,
}

impl<R: TileReader> TileNodes<R> {
    /// Reads the tiles of a log of this size.
    pub fn new(tiles: R, size: u64) -> Self {
        Self { tiles, size }
    }
}

impl<R: TileReader> NodeReader for TileNodes<R> {
    type Error = TileReadError<R::Error>;

    fn node(&self, level: u8, index: u64) -> Result<TreeHash, Self::Error> {
        let missing = || TileReadError::NoSuchNode { level, index };
        let place = Place::of(level, index).ok_or_else(missing)?;
        let kind = TileKind::Hashes { level: place.level };
        let tile = Tile::in_log(kind, place.first / TILE_WIDTH, self.size).ok_or_else(missing)?;
        let at = (place.first % TILE_WIDTH) as usize;
        let end = at + place.count;
        if end > tile.width() {
            return Err(missing());
        }
        let bytes = self.tiles.tile(&tile).map_err(TileReadError::Read)?;
        let hashes = tile.hashes(&bytes).map_err(TileReadError::Tile)?;
        Ok(join_complete(&hashes[at..end]))
    }
}

/// Where in the tiles a node is: hashes from `first` on in the level, `count` of them.
pub(crate) struct Place {
    pub(crate) level: u8,
    pub(crate) first: u64,
    pub(crate) count: usize,
}

impl Place {
    pub(crate) fn of(level: u8, index: u64) -> Option<Self> {
        let count = 1 << (level % TILE_HEIGHT);
        let first = index.checked_mul(count)?;
        Some(Self { level: level / TILE_HEIGHT, first, count: count as usize })
    }
}

/// Hashes or entries that a log of this size has in a kind of tiles.
fn items(kind: TileKind, size: u64) -> u64 {
    match kind {
        TileKind::Entries => size,
        TileKind::Hashes { level } => {
            size.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT)).unwrap_or(0)
        }
    }
}

/// Levels of the tree that a level of tiles spans.
pub const TILE_HEIGHT: u8 = 8;
/// Hashes or entries in a full tile.
pub const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;
/// Levels of tiles that a path can name.
const LEVELS: u8 = 64;
/// Longest number in a path, bytes: that of the last tile of the largest log.
const NUMBER_BYTES_MAX: usize = 6 * 5 + 3;

const _: () = assert!(LOG_ENTRIES_MAX / TILE_WIDTH < 1_000_000_000_000_000_000);
