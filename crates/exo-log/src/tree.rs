//! The Merkle tree of RFC 6962 section 2.1: hashes, appending, roots and the paths of proofs.
//!
//! A **node** is a complete subtree: `(level, index)` is the one over the entries from
//! `index << level` on, `1 << level` of them. Whoever keeps nodes, or what they can be computed from,
//! is a [`NodeReader`]; everything that the tree is asked for is made of nodes.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::BASE64;
use exo_types::limits::LOG_ENTRIES_MAX;

use crate::text::base64;

/// A hash of the tree: SHA-256, 32 bytes. In text standard base64 with padding (RFC 4648 section 4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeHash([u8; TREE_HASH_BYTES]);

impl TreeHash {
    /// Root of the tree without entries: the hash of the empty string.
    pub const EMPTY: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9,
        0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52,
        0xb8, 0x55,
    ]);

    /// Wraps the raw bytes.
    pub const fn new(bytes: [u8; TREE_HASH_BYTES]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; TREE_HASH_BYTES] {
        &self.0
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "TreeHash({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// The text is not the base64 of 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the base64 of a hash of {TREE_HASH_BYTES} bytes")]
pub struct NotAHash;

impl FromStr for TreeHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        base64(text).and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(NotAHash)
    }
}

/// Hash of an entry: `SHA-256(0x00 || entry)`.
pub fn leaf_hash(entry: &[u8]) -> TreeHash {
    digest(&[&[0x00], entry])
}

/// Hash of two subtrees side by side: `SHA-256(0x01 || left || right)`.
pub fn node_hash(left: &TreeHash, right: &TreeHash) -> TreeHash {
    digest(&[&[0x01], &left.0, &right.0])
}

/// Gives the nodes of a tree.
pub trait NodeReader {
    /// Why a node is not to be had.
    type Error;

    /// The hash of the complete subtree `(level, index)`. It is asked only for nodes of the tree that
    /// the caller named; what it gives is believed, so a reader of foreign data has to be followed by a
    /// check of what was made.
    ///
    /// # Errors
    /// The reader's own, when it does not have the node.
    fn node(&self, level: u8, index: u64) -> Result<TreeHash, Self::Error>;
}

impl<R: NodeReader + ?Sized> NodeReader for &R {
    type Error = R::Error;

    fn node(&self, level: u8, index: u64) -> Result<TreeHash, R::Error> {
        (**self).node(level, index)
    }
}

/// Why the tree does not give a root or a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError<E> {
    /// What was asked for is not in a tree of this size.
    #[error("number {index} is not in a tree of {size} entries")]
    OutOfRange {
        /// The entry, node or earlier size that was asked for.
        index: u64,
        /// Entries of the tree.
        size: u64,
    },
    /// The reader did not have a node.
    #[error("a node of the tree was not read")]
    Read(E),
}

/// The log has as many entries as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log is full")]
pub struct LogFull;

/// The right edge of a growing tree: the roots of its complete subtrees from the left, at most 62. It is
/// enough to append and to know the root, and to go on from after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<TreeHash>,
}

impl Frontier {
    /// The edge of the empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an edge together from what [`size`](Self::size) and [`peaks`](Self::peaks) gave; `None` when
    /// they do not fit each other.
    pub fn from_parts(size: u64, peaks: Vec<TreeHash>) -> Option<Self> {
        let fits = size <= LOG_ENTRIES_MAX && peaks.len() == size.count_ones() as usize;
        fits.then_some(Self { size, peaks })
    }

    /// Reads the edge of a tree of this size.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn read<R: NodeReader>(size: u64, nodes: &R) -> Result<Self, TreeError<R::Error>> {
        if size > LOG_ENTRIES_MAX {
            return Err(TreeError::OutOfRange { index: size, size: LOG_ENTRIES_MAX });
        }
        let peaks = peaks(0, size, nodes).map_err(TreeError::Read)?;
        Ok(Self { size, peaks })
    }

    /// Entries of the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, the largest first: one for each bit set in the size.
    pub fn peaks(&self) -> &[TreeHash] {
        &self.peaks
    }

    /// Appends an entry by its hash and gives its index. Every node that it completes is shown to
    /// `complete` as level, index and hash, the leaf itself first.
    ///
    /// # Errors
    /// [`LogFull`].
    pub fn append(
        &mut self,
        leaf: TreeHash,
        mut complete: impl FnMut(u8, u64, TreeHash),
    ) -> Result<u64, LogFull> {
        if self.size >= LOG_ENTRIES_MAX {
            return Err(LogFull);
        }
        let at = self.size;
        let mut hash = leaf;
        complete(0, at, hash);
        // Each one at the end of the old size is a peak that the new entry makes twice as large.
        for level in 0..at.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
                complete(level as u8 + 1, at >> (level + 1), hash);
            }
        }
        self.peaks.push(hash);
        self.size = at + 1;
        Ok(at)
    }

    /// Root of the tree.
    pub fn root(&self) -> TreeHash {
        join_peaks(&self.peaks)
    }
}

/// Root of the tree as it was with `size` entries.
///
/// # Errors
/// [`TreeError::Read`].
pub fn root_at<R: NodeReader>(size: u64, nodes: &R) -> Result<TreeHash, TreeError<R::Error>> {
    range_hash(0, size, nodes).map_err(TreeError::Read)
}

/// The path that shows entry `index` to be in the tree of `size` entries: from the leaf's sibling up to
/// the root's child (RFC 6962 section 2.1.1).
///
/// # Errors
/// [`TreeError`].
pub fn inclusion_path<R: NodeReader>(
    index: u64,
    size: u64,
    nodes: &R,
) -> Result<Vec<TreeHash>, TreeError<R::Error>> {
    subtree_path(0, index, size, nodes)
}

/// The path that shows node `(level, index)` to be in the tree of `size` entries, as
/// [`inclusion_path`] does for a leaf: with it a piece of a log is checked before the rest is there.
///
/// # Errors
/// [`TreeError`].
pub fn subtree_path<R: NodeReader>(
    level: u8,
    index: u64,
    size: u64,
    nodes: &R,
) -> Result<Vec<TreeHash>, TreeError<R::Error>> {
    let first = node_start(level, index, size).ok_or(TreeError::OutOfRange { index, size })?;
    let (mut lo, mut hi) = (0, size);
    let mut path = Vec::new();
    while hi - lo > 1 << level {
        let middle = lo + split(hi - lo);
        let sibling = if first < middle {
            range_hash(middle, hi, nodes)
        } else {
            range_hash(lo, middle, nodes)
        };
        path.push(sibling.map_err(TreeError::Read)?);
        if first < middle {
            hi = middle;
        } else {
            lo = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The path that shows the tree of `old` entries to be the beginning of the one of `new` entries
/// (RFC 6962 section 2.1.2). It is empty for equal sizes and for the empty tree.
///
/// # Errors
/// [`TreeError`].
pub fn consistency_path<R: NodeReader>(
    old: u64,
    new: u64,
    nodes: &R,
) -> Result<Vec<TreeHash>, TreeError<R::Error>> {
    if old > new {
        return Err(TreeError::OutOfRange { index: old, size: new });
    }
    let mut path = Vec::new();
    if old == 0 || old == new {
        return Ok(path);
    }
    let (mut lo, mut hi) = (0, new);
    while old != hi {
        let middle = lo + split(hi - lo);
        let sibling = if old <= middle {
            range_hash(middle, hi, nodes)
        } else {
            range_hash(lo, middle, nodes)
        };
        path.push(sibling.map_err(TreeError::Read)?);
        if old <= middle {
            hi = middle;
        } else {
            lo = middle;
        }
    }
    // The old tree itself is what the verifier has; any other subtree has to be given.
    if lo != 0 {
        path.push(range_hash(lo, hi, nodes).map_err(TreeError::Read)?);
    }
    path.reverse();
    Ok(path)
}

/// First entry of a node; `None` when the tree of this size does not have it.
pub(crate) fn node_start(level: u8, index: u64, size: u64) -> Option<u64> {
    let width = 1_u64.checked_shl(u32::from(level))?;
    let first = index.checked_mul(width)?;
    let end = first.checked_add(width)?;
    (end <= size).then_some(first)
}

/// Root over `1 << n` hashes that lie side by side.
pub(crate) fn join_complete(hashes: &[TreeHash]) -> TreeHash {
    match hashes {
        [] => TreeHash::EMPTY,
        [one] => *one,
        many => {
            let (left, right) = many.split_at(many.len() / 2);
            node_hash(&join_complete(left), &join_complete(right))
        }
    }
}

/// Largest power of two below `count`, which is at least two.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// Root over the entries from `lo` to `hi`, where `lo` is a multiple of the largest power of two that
/// the range holds, as in every split of the tree.
fn range_hash<R: NodeReader>(lo: u64, hi: u64, nodes: &R) -> Result<TreeHash, R::Error> {
    peaks(lo, hi, nodes).map(|peaks| join_peaks(&peaks))
}

/// Roots of the complete subtrees of a range, the largest first.
fn peaks<R: NodeReader>(lo: u64, hi: u64, nodes: &R) -> Result<Vec<TreeHash>, R::Error> {
    let mut peaks = Vec::new();
    let mut at = lo;
    while at < hi {
        let level = (hi - at).ilog2();
        peaks.push(nodes.node(level as u8, at >> level)?);
        at += 1 << level;
    }
    Ok(peaks)
}

fn join_peaks(peaks: &[TreeHash]) -> TreeHash {
    let joined = peaks.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
    joined.unwrap_or(TreeHash::EMPTY)
}

fn digest(parts: &[&[u8]]) -> TreeHash {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut gathered = [0; GATHERED_BYTES];
    let digest = if let Some(bytes) = gathered.get_mut(..len) {
        let mut at = 0;
        for part in parts {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        aws_lc_rs::digest::digest(&SHA256, bytes)
    } else {
        let mut context = Context::new(&SHA256);
        parts.iter().for_each(|part| context.update(part));
        context.finish()
    };
    let mut out = [0; TREE_HASH_BYTES];
    out.copy_from_slice(digest.as_ref());
    TreeHash(out)
}

/// Up to this length parts are put together and hashed in one call: a context is kept on the heap, which
/// takes as long as hashing a short entry. Bytes.
const GATHERED_BYTES: usize = 512;

/// Length of a hash, bytes.
pub const TREE_HASH_BYTES: usize = 32;
