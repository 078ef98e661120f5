//! Tiles that are read while one answer is made, each once.

use std::cell::RefCell;
use std::collections::BTreeMap;

use exo_log::{Tile, TileKind, TileReader};

use super::archive::Archive;
use super::edge::bytes;

/// The tiles of a log. One answer reads two for each level of them.
#[derive(Debug)]
pub(super) struct CachedTiles<'a> {
    archive: &'a Archive,
    read: RefCell<BTreeMap<(u8, u64), Vec<u8>>>,
}

/// The tile is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoTile;

impl<'a> CachedTiles<'a> {
    /// Those of a log.
    pub(super) fn new(archive: &'a Archive) -> Self {
        Self { archive, read: RefCell::default() }
    }
}

impl TileReader for &CachedTiles<'_> {
    type Error = NoTile;

    fn tile(&self, tile: &Tile) -> Result<Vec<u8>, NoTile> {
        let TileKind::Hashes { level } = tile.kind() else { return Err(NoTile) };
        let key = (level, tile.index());
        if let Some(bytes) = self.read.borrow().get(&key) {
            return Ok(bytes.clone());
        }
        let hashes = self.archive.tile_hashes(level, tile.index());
        let bytes = bytes(&self.archive.report("a tile", hashes).ok_or(NoTile)?);
        self.read.borrow_mut().insert(key, bytes.clone());
        Ok(bytes)
    }
}
