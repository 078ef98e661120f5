//! The committed log for those who read it, and for the journal's thread, which appends to it.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use exo_consensus::{Appended, Certificate, LoggedBatch, Record, Root};
use exo_log::{
    TILE_WIDTH, Tile, TileKind, TileNodes, TreeHash, consistency_path, inclusion_path, leaf_hash,
};
use exo_types::Epoch;
use exo_types::limits::TRANSFER_BYTES_MAX;

use super::batches::{Batches, Index};
use super::certificates::{Ends, EndsIndex, read_latest, write_latest};
use super::disk::Disk;
use super::edge::{Edge, FullTile, TileFiles, bytes, count, tile_root};
use super::error::JournalError;
use super::tiles::CachedTiles;

/// The committed log. It has what the journal's thread has written, durable or not; whoever is shown
/// more than a certificate covers is shown what this replica alone says.
///
/// Reading is checked: what is damaged on the disk is an error, and never given out.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    batches: Batches,
    ends: Ends,
    tiles: TileFiles,
    state: RwLock<State>,
    /// One at a time writes tiles.
    writing_tiles: Mutex<()>,
}

/// 16 bytes for a batch, twice that while the list grows.
#[derive(Debug)]
struct State {
    index: Index,
    edge: Edge,
    ends: EndsIndex,
    latest: Option<Arc<Certificate>>,
    /// The newest one of which the whole log is here.
    covered: Option<Arc<Certificate>>,
}

/// What the journal says of the log at its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Leaves that were on the disk.
    pub(super) size: u64,
    /// Root over them.
    pub(super) root: TreeHash,
    /// Length of the file of the ends of epochs; `None` without a journal.
    pub(super) ends: Option<u64>,
}

impl Archive {
    /// Leaves.
    pub(crate) fn size(&self) -> u64 {
        self.state().index.size()
    }

    /// The newest certificate of which the whole log is here. (One that is ahead of the log, while that is
    /// fetched from others, says nothing of it yet: no entry has a path to its root.)
    pub(crate) fn covered(&self) -> Option<Arc<Certificate>> {
        self.state().covered.clone()
    }

    /// The newest certificate, which may be ahead of the log.
    #[cfg(test)]
    pub(crate) fn latest(&self) -> Option<Arc<Certificate>> {
        self.state().latest.clone()
    }

    /// Batches from the one on that has the leaf, each with the index of its first leaf: at most `max`,
    /// and no more than one piece of a state transfer, but one at least if there is one.
    ///
    /// # Errors
    /// A batch cannot be read or is damaged.
    pub(crate) fn batches(
        &self,
        from_leaf: u64,
        max: usize,
    ) -> io::Result<Vec<(u64, LoggedBatch)>> {
        let places = {
            let state = self.state();
            let Some(at) = state.index.of(from_leaf) else { return Ok(Vec::new()) };
            let places = &state.index.places()[at..];
            places[..places.len().min(max)].to_vec()
        };
        let mut batches = Vec::new();
        let mut taken = 0;
        for place in places {
            let batch = self.shared.batches.read(place)?;
            taken += batch.bytes();
            if taken > TRANSFER_BYTES_MAX && !batches.is_empty() {
                break;
            }
            batches.push((place.first, batch));
        }
        Ok(batches)
    }

    /// The leaf as it was hashed; `None` when the log does not have it.
    ///
    /// # Errors
    /// Its batch cannot be read or is damaged.
    pub(crate) fn entry(&self, leaf: u64) -> io::Result<Option<Vec<u8>>> {
        let mut found = None;
        self.leaves(leaf, leaf.saturating_add(1), |entry| found = Some(entry))?;
        Ok(found)
    }

    /// The path that shows a leaf to be in the log of a size; `None` when the log has no such leaf or
    /// size, or a tile is not to be had.
    pub(crate) fn inclusion(&self, leaf: u64, size: u64) -> Option<Vec<TreeHash>> {
        self.with_nodes(size, |nodes| inclusion_path(leaf, size, nodes))
    }

    /// The root of the log of a size; `None` when it never had it, or a tile is not to be had.
    #[cfg(test)]
    pub(crate) fn root(&self, size: u64) -> Option<TreeHash> {
        self.with_nodes(size, |nodes| exo_log::root_at(size, nodes))
    }

    /// The bytes of a tile or an entry bundle (c2sp.org/tlog-tiles) of the width asked for; `None` when
    /// the log does not have it or it is not to be had.
    pub(crate) fn tile(&self, tile: &Tile) -> Option<Vec<u8>> {
        match tile.kind() {
            TileKind::Hashes { .. } => self.hash_tile(tile),
            TileKind::Entries => {
                let first = tile.index().checked_mul(TILE_WIDTH)?;
                let mut entries = Vec::with_capacity(tile.width());
                let read =
                    self.leaves(first, first + tile.width() as u64, |entry| entries.push(entry));
                self.report("an entry bundle", read)?;
                tile.bundle_bytes(&entries).ok()
            }
        }
    }

    /// The bytes of a hash tile of the width asked for.
    pub(crate) fn hash_tile(&self, tile: &Tile) -> Option<Vec<u8>> {
        let TileKind::Hashes { level } = tile.kind() else { return None };
        if count(level, self.size()) / TILE_WIDTH < tile.index() {
            return None;
        }
        let hashes = self.report("a tile", self.tile_hashes(level, tile.index()))?;
        hashes.get(..tile.width()).map(bytes)
    }

    /// The hashes of a tile as many as there are, checked against the edge.
    pub(super) fn tile_hashes(&self, level: u8, index: u64) -> io::Result<Vec<TreeHash>> {
        if let Some(hashes) = self.state().edge.partial(level, index) {
            return Ok(hashes.to_vec());
        }
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the log does not have the tile");
        if count(level, self.size()) / TILE_WIDTH <= index {
            return Err(missing());
        }
        let above = level.checked_add(1).ok_or_else(missing)?;
        let above = self.tile_hashes(above, index / TILE_WIDTH)?;
        let node = above.get((index % TILE_WIDTH) as usize).copied().ok_or_else(missing)?;
        let leads = |hashes: &Vec<TreeHash>| tile_root(hashes) == node;
        if let Some(hashes) = self.shared.tiles.read(level, index)?.filter(leads) {
            return Ok(hashes);
        }
        for from_tiles in [true, false] {
            let hashes = self.make_tile(level, index, from_tiles)?;
            if leads(&hashes) {
                self.write_tile(&FullTile { level, index, hashes: hashes.clone() })?;
                return Ok(hashes);
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the log does not lead to its root"))
    }

    /// Makes a full tile anew from the tiles beneath it or from the leaves.
    fn make_tile(&self, level: u8, index: u64, from_tiles: bool) -> io::Result<Vec<TreeHash>> {
        let first = index * TILE_WIDTH;
        let mut hashes = Vec::with_capacity(TILE_WIDTH as usize);
        let Some(beneath) = level.checked_sub(1) else {
            self.leaves(first, first + TILE_WIDTH, |entry| hashes.push(leaf_hash(&entry)))?;
            return Ok(hashes);
        };
        for at in first..first + TILE_WIDTH {
            let tile = if from_tiles { self.shared.tiles.read(beneath, at)? } else { None };
            let tile = match tile {
                Some(tile) => tile,
                None => self.make_tile(beneath, at, from_tiles)?,
            };
            hashes.push(tile_root(&tile));
        }
        Ok(hashes)
    }

    fn write_tile(&self, tile: &FullTile) -> Result<(), JournalError> {
        let _writing = self.shared.writing_tiles.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.tiles.write(tile)
    }

    /// Shows the leaves of a range that the log has.
    fn leaves(&self, from: u64, to: u64, mut show: impl FnMut(Vec<u8>)) -> io::Result<()> {
        let (places, size) = {
            let state = self.state();
            let Some(first) = state.index.of(from) else { return Ok(()) };
            let places = &state.index.places()[first..];
            let count = places.partition_point(|place| place.first < to);
            (places[..count].to_vec(), state.index.size())
        };
        let to = to.min(size);
        for place in places {
            let batch = self.shared.batches.read(place)?;
            for (leaf, at) in batch.leaves().zip(place.first..to) {
                if at >= from {
                    show(leaf);
                }
            }
        }
        Ok(())
    }

    fn with_nodes<T, E: std::fmt::Display>(
        &self,
        size: u64,
        make: impl FnOnce(&TileNodes<&CachedTiles<'_>>) -> Result<T, E>,
    ) -> Option<T> {
        let has = self.size();
        if size > has {
            return None;
        }
        let tiles = CachedTiles::new(self);
        let made = make(&TileNodes::new(&tiles, has));
        // Why a tile was not to be had is reported where it was read.
        made.ok()
    }

    /// Reports a failure where the caller's answer has no place for it.
    pub(super) fn report<T>(&self, what: &str, read: io::Result<T>) -> Option<T> {
        read.inspect_err(|error| tracing::error!(%error, "the log did not give {what}")).ok()
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.shared.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl exo_consensus::Archive for Archive {
    fn end_of(&self, epoch: Epoch) -> Option<Arc<Certificate>> {
        let read = self.shared.ends.read(&self.state().ends, epoch);
        self.report("the end of an epoch", read.map_err(io::Error::from))?
    }

    fn batch_at(&self, leaf: u64) -> Option<LoggedBatch> {
        let place = {
            let state = self.state();
            state.index.places()[state.index.of(leaf)?]
        };
        if place.first != leaf {
            return None;
        }
        let read = self.shared.batches.read(place);
        self.report("a batch", read.map_err(io::Error::from))
    }

    fn consistency(&self, old: u64, new: u64) -> Option<Vec<Root>> {
        let path = self.with_nodes(new, |nodes| consistency_path(old, new, nodes))?;
        Some(path.iter().map(|hash| Root(*hash.as_bytes())).collect())
    }
}

/// What the journal's thread does.
impl Archive {
    /// Opens the log as the journal knows it, or as its newest certificate does if that says more, and
    /// cuts off what neither vouches for.
    pub(super) fn open(disk: &Disk, dir: &Path, known: Known) -> Result<Self, JournalError> {
        let batches = Batches::open(disk, dir)?;
        let (ends, ends_index) = Ends::open(disk, dir, known.ends)?;
        let latest = read_latest(disk, dir)?;
        let certified = latest.as_ref().map(|of| (of.size, TreeHash::new(of.root.0)));
        let certified = certified.filter(|(size, _)| *size > known.size);
        let index = batches.walk(certified.map_or(known.size, |(size, _)| size))?;
        let lost = batches.damaged(index.end(), "a batch is lost that was on the disk");
        let edge = Edge::default();
        let state = State { index, edge, ends: ends_index, latest, covered: None };
        let tiles = TileFiles::new(dir, disk.clone());
        let state = RwLock::new(state);
        let shared = Shared { batches, ends, tiles, state, writing_tiles: Mutex::new(()) };
        let archive = Self { shared: Arc::new(shared) };
        // A certificate is written after the batches it covers: if it says more than the journal, which
        // then is lost or goes through the log again, they are there.
        let (size, root) = certified.unwrap_or((known.size, known.root));
        if archive.take(size, root)? { Ok(archive) } else { Err(lost) }
    }

    /// Takes the log of a size and root to be the whole; `false` when it is shorter, or has no batch
    /// that ends there.
    fn take(&self, size: u64, root: TreeHash) -> Result<bool, JournalError> {
        let Some(index) = self.state().index.cut(size) else { return Ok(false) };
        let edge = match self.edge_from_tiles(size) {
            Some(edge) if edge.root() == root => edge,
            _ => self.edge_from_leaves(&index)?,
        };
        if edge.root() != root {
            return Err(self.shared.batches.damaged(0, "it does not lead to the root it had"));
        }
        self.shared.batches.cut(&index)?;
        let mut state = self.state_mut();
        state.index = index;
        state.edge = edge;
        state.cover();
        Ok(true)
    }

    /// The edge from the tiles to the left of it, which nothing vouches for yet.
    fn edge_from_tiles(&self, size: u64) -> Option<Edge> {
        let mut leaves = Vec::new();
        let first = size - size % TILE_WIDTH;
        self.leaves(first, size, |entry| leaves.push(leaf_hash(&entry))).ok()?;
        let mut levels = vec![leaves];
        for level in 1.. {
            let has = count(level, size);
            if has == 0 {
                break;
            }
            let root = |index| Some(tile_root(&self.shared.tiles.read(level - 1, index).ok()??));
            let hashes = (has - has % TILE_WIDTH..has).map(root).collect::<Option<_>>()?;
            levels.push(hashes);
        }
        Edge::from_levels(size, levels)
    }

    /// The edge from all leaves; the tiles are written anew.
    fn edge_from_leaves(&self, index: &Index) -> Result<Edge, JournalError> {
        let mut edge = Edge::default();
        for place in index.places() {
            let batch = self.shared.batches.read(*place)?;
            let hashes: Vec<_> = batch.leaves().map(|leaf| leaf_hash(&leaf)).collect();
            self.grow(&mut edge, hashes)?;
        }
        Ok(edge)
    }

    fn grow(
        &self,
        edge: &mut Edge,
        hashes: impl IntoIterator<Item = TreeHash>,
    ) -> Result<(), JournalError> {
        for leaf in hashes {
            let full = edge.append(leaf);
            let full = full.map_err(|_| self.shared.batches.damaged(0, "the log is full"))?;
            for tile in full {
                self.write_tile(&tile)?;
            }
        }
        Ok(())
    }

    /// Takes a batch into the log, unless it is there: a replica that lost its journal goes through the
    /// log again. Its record has the encoding `body`.
    pub(super) fn push(
        &self,
        first: u64,
        batch: &Appended,
        body: &[u8],
    ) -> Result<(), JournalError> {
        let size = self.size();
        if first < size {
            let there = self.state().index.of(first);
            let place = there.map(|at| self.state().index.places()[at]);
            let place = place.filter(|place| place.first == first);
            let place = place.ok_or(JournalError::OtherLog { leaf: first })?;
            let same = self.shared.batches.read(place)? == **batch;
            return if same { Ok(()) } else { Err(JournalError::OtherLog { leaf: first }) };
        }
        if first > size {
            return Err(JournalError::OtherLog { leaf: first });
        }
        let mut state = self.state_mut();
        let state = &mut *state;
        self.shared.batches.push(&mut state.index, batch, body)?;
        match batch.leaf_hashes() {
            // Of a batch that was just carried out they are known.
            [] => self.grow(&mut state.edge, batch.leaves().map(|leaf| leaf_hash(&leaf)))?,
            known => self.grow(&mut state.edge, known.iter().map(|hash| TreeHash::new(hash.0)))?,
        }
        state.cover();
        Ok(())
    }

    /// Takes note of a certificate.
    pub(super) fn certified(
        &self,
        certificate: &Arc<Certificate>,
        body: &[u8],
    ) -> Result<(), JournalError> {
        let mut state = self.state_mut();
        if certificate.seal.turn.is_some() {
            self.shared.ends.push(&mut state.ends, certificate.epoch(), body)?;
        }
        state.newest(certificate);
        Ok(())
    }

    /// Takes note of the certificate with which a journal begins.
    pub(super) fn begins_with(&self, certificate: &Arc<Certificate>) {
        self.state_mut().newest(certificate);
    }

    /// Makes durable what the journal is about to forget; gives the length of the file of the ends of
    /// epochs.
    pub(super) fn sync(&self, disk: &Disk, dir: &Path) -> Result<u64, JournalError> {
        self.shared.batches.sync()?;
        self.shared.ends.sync()?;
        // One that is ahead of the log would say that more is on the disk than is.
        if let Some(covered) = self.covered() {
            write_latest(disk, dir, &covered)?;
            disk.sync_dir(dir)?;
        }
        Ok(self.state().ends.end())
    }

    /// What record a batch or certificate is, for the journal.
    pub(super) fn note(
        &self,
        first: u64,
        record: &Record,
        body: &[u8],
    ) -> Result<(), JournalError> {
        match record {
            Record::Append(batch) => self.push(first, batch, body),
            Record::Certified(certificate) => self.certified(certificate, body),
            _ => Ok(()),
        }
    }
}

impl State {
    fn newest(&mut self, certificate: &Arc<Certificate>) {
        if self.latest.as_ref().is_none_or(|latest| latest.size < certificate.size) {
            self.latest = Some(Arc::clone(certificate));
        }
        self.covers(certificate);
    }

    /// The log grew: it may have come to the newest certificate.
    fn cover(&mut self) {
        if let Some(latest) = self.latest.clone() {
            self.covers(&latest);
        }
    }

    fn covers(&mut self, certificate: &Arc<Certificate>) {
        let newer = self.covered.as_ref().is_none_or(|of| of.size < certificate.size);
        if newer && certificate.size <= self.index.size() {
            self.covered = Some(Arc::clone(certificate));
        }
    }
}
