//! A log's hashes in memory, as its tiles hold them: 32 bytes and an eighth an entry.

use exo_types::limits::LOG_MEMORY_ENTRIES_MAX;

use crate::tile::{Place, TILE_HEIGHT};
use crate::tree::{Frontier, LogFull, NodeReader, TreeHash, join_complete};

/// A growing tree whose hashes are in memory. Nodes between the levels of the tiles are computed when
/// they are asked for: a path costs at most 255 hashes for every eight levels.
#[derive(Clone, Debug, Default)]
pub struct MemoryTree {
    frontier: Frontier,
    /// The nodes of every eighth level.
    levels: Vec<Vec<TreeHash>>,
}

/// The tree does not have the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tree does not have node {index} of level {level}")]
pub struct NoSuchNode {
    /// Level of the node.
    pub level: u8,
    /// Its number in the level.
    pub index: u64,
}

impl MemoryTree {
    /// The empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an entry by its hash and gives its index.
    ///
    /// # Errors
    /// [`LogFull`] at [`LOG_MEMORY_ENTRIES_MAX`].
    pub fn append(&mut self, leaf: TreeHash) -> Result<u64, LogFull> {
        if self.frontier.size() >= LOG_MEMORY_ENTRIES_MAX {
            return Err(LogFull);
        }
        let levels = &mut self.levels;
        self.frontier.append(leaf, |level, _, hash| {
            if level.is_multiple_of(TILE_HEIGHT) {
                let level = usize::from(level / TILE_HEIGHT);
                if levels.len() == level {
                    levels.push(Vec::new());
                }
                levels[level].push(hash);
            }
        })
    }

    /// Entries of the tree.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Root of the tree as it is.
    pub fn root(&self) -> TreeHash {
        self.frontier.root()
    }

    /// Its right edge.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }
}

impl NodeReader for MemoryTree {
    type Error = NoSuchNode;

    fn node(&self, level: u8, index: u64) -> Result<TreeHash, NoSuchNode> {
        let find = || {
            let place = Place::of(level, index)?;
            let hashes = self.levels.get(usize::from(place.level))?;
            let first = usize::try_from(place.first).ok()?;
            hashes.get(first..first.checked_add(place.count)?)
        };
        find().map(join_complete).ok_or(NoSuchNode { level, index })
    }
}
