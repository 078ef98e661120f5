//! The right edge of the log's tree in memory, and the full tiles to the left of it in files.
//!
//! Tiles follow from the log, so they are not synced: a tile that is read has to lead to its node in the
//! tile above, up to the edge, and the edge to a root that is known. One that does not, or is not there,
//! is made anew from what is beneath it.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use exo_log::{
    Frontier, LogFull, TILE_HEIGHT, TILE_WIDTH, TREE_HASH_BYTES, Tile, TileKind, TileNodes,
    TileReader, TreeHash, node_hash,
};

use super::disk::Disk;
use super::error::JournalError;

/// The hashes of the tiles that are not full, and the peaks.
#[derive(Clone, Debug, Default)]
pub(super) struct Edge {
    frontier: Frontier,
    /// For each level of tiles the hashes of its last one, fewer than 256.
    levels: Vec<Vec<TreeHash>>,
}

/// A tile that is full.
#[derive(Clone, Debug)]
pub(super) struct FullTile {
    pub(super) level: u8,
    pub(super) index: u64,
    pub(super) hashes: Vec<TreeHash>,
}

/// The edge does not have the tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotOnTheEdge;

impl Edge {
    /// The edge of a log of this size from the hashes of its partial tiles, lowest level first; `None`
    /// when they are not as many as it has.
    pub(super) fn from_levels(size: u64, levels: Vec<Vec<TreeHash>>) -> Option<Self> {
        let fits = |level: usize| {
            let level = u8::try_from(level).ok()?;
            Some(width(level, size) == levels.get(usize::from(level))?.len())
        };
        if !(0..levels.len()).all(|level| fits(level).unwrap_or(false)) {
            return None;
        }
        let mut edge = Self { frontier: Frontier::new(), levels };
        edge.frontier = Frontier::read(size, &TileNodes::new(&edge, size)).ok()?;
        Some(edge)
    }

    /// Appends a leaf; gives the tiles that are full now.
    pub(super) fn append(&mut self, leaf: TreeHash) -> Result<Vec<FullTile>, LogFull> {
        let mut full = Vec::new();
        let levels = &mut self.levels;
        self.frontier.append(leaf, |level, index, hash| {
            if !level.is_multiple_of(TILE_HEIGHT) {
                return;
            }
            let level = level / TILE_HEIGHT;
            while levels.len() <= usize::from(level) {
                levels.push(Vec::new());
            }
            let hashes = &mut levels[usize::from(level)];
            hashes.push(hash);
            if hashes.len() as u64 == TILE_WIDTH {
                let hashes = std::mem::take(hashes);
                full.push(FullTile { level, index: index / TILE_WIDTH, hashes });
            }
        })?;
        Ok(full)
    }

    /// Leaves.
    pub(super) fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Root over them.
    pub(super) fn root(&self) -> TreeHash {
        self.frontier.root()
    }

    /// The hashes of the partial tile, if this is its index.
    pub(super) fn partial(&self, level: u8, index: u64) -> Option<&[TreeHash]> {
        let here = count(level, self.size()) / TILE_WIDTH == index;
        self.levels.get(usize::from(level)).filter(|_| here).map(Vec::as_slice)
    }
}

impl TileReader for &Edge {
    type Error = NotOnTheEdge;

    fn tile(&self, tile: &Tile) -> Result<Vec<u8>, NotOnTheEdge> {
        let TileKind::Hashes { level } = tile.kind() else { return Err(NotOnTheEdge) };
        // While the edge is put together its size is not known yet: the tiles are those it was given.
        let hashes = self.levels.get(usize::from(level)).ok_or(NotOnTheEdge)?;
        if hashes.len() != tile.width() || tile.is_full() {
            return Err(NotOnTheEdge);
        }
        Ok(bytes(hashes))
    }
}

/// The full tiles: of each level one file, tile behind tile. A file for each tile would be a file for 256
/// entries, and making one takes longer than all else that is done for them.
#[derive(Clone, Debug)]
pub(super) struct TileFiles {
    dir: PathBuf,
    disk: Disk,
}

impl TileFiles {
    /// Those in a directory, in which `hashes-0` has those of the lowest level.
    pub(super) fn new(dir: &Path, disk: Disk) -> Self {
        Self { dir: dir.to_owned(), disk }
    }

    /// Writes a tile. One writer at a time.
    pub(super) fn write(&self, tile: &FullTile) -> Result<(), JournalError> {
        let path = self.path(tile.level);
        let (_, at) =
            place(tile.level, tile.index).map_err(|error| JournalError::io(&path, error))?;
        self.disk.open(&path)?.write_at(&bytes(&tile.hashes), at)
    }

    /// The hashes of a tile, which nothing vouches for; `None` when there is no such file or it ends
    /// before.
    pub(super) fn read(&self, level: u8, index: u64) -> io::Result<Option<Vec<TreeHash>>> {
        let (tile, at) = place(level, index)?;
        let file = match fs::File::open(self.path(level)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = [0; TILE_BYTES];
        match file.read_exact_at(&mut bytes, at) {
            Ok(()) => Ok(tile.hashes(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn path(&self, level: u8) -> PathBuf {
        self.dir.join(format!("{FILE}-{level}"))
    }
}

/// The root over the hashes of a full tile.
pub(super) fn tile_root(hashes: &[TreeHash]) -> TreeHash {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => node_hash(left, right),
                _ => pair[0],
            })
            .collect();
    }
    level.first().copied().unwrap_or(TreeHash::EMPTY)
}

/// The bytes of a tile with these hashes.
pub(super) fn bytes(hashes: &[TreeHash]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(hashes.len() * TREE_HASH_BYTES);
    for hash in hashes {
        bytes.extend_from_slice(hash.as_bytes());
    }
    bytes
}

/// Hashes that a log of this size has in a level of tiles.
pub(super) fn count(level: u8, size: u64) -> u64 {
    size.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT)).unwrap_or(0)
}

/// Hashes in the partial tile of a level.
pub(super) fn width(level: u8, size: u64) -> usize {
    (count(level, size) % TILE_WIDTH) as usize
}

/// A full tile, and where it stands in the file of its level.
fn place(level: u8, index: u64) -> io::Result<(Tile, u64)> {
    let tiles = index.checked_add(1).and_then(|tiles| tiles.checked_mul(TILE_WIDTH));
    let leaves = 1_u64.checked_shl(u32::from(level) * u32::from(TILE_HEIGHT));
    let size = tiles.zip(leaves).and_then(|(tiles, leaves)| tiles.checked_mul(leaves));
    let tile = size.and_then(|size| Tile::in_log(TileKind::Hashes { level }, index, size));
    let missing = || io::Error::other(format!("no log has tile {index} of level {level}"));
    let at = index.checked_mul(TILE_BYTES as u64);
    tile.filter(Tile::is_full).zip(at).ok_or_else(missing)
}

const TILE_BYTES: usize = TILE_WIDTH as usize * TREE_HASH_BYTES;
const FILE: &str = "hashes";
