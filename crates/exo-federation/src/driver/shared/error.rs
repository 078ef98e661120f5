//! What goes wrong with a store.

use std::io;
use std::path::{Path, PathBuf};

/// Why a shared collection's store did not open, save or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Bytes that were saved are not what was saved.
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// A file of the log is not there.
    #[error("{} is missing", path.display())]
    Missing {
        /// Which one.
        path: PathBuf,
    },
    /// One write is longer than a frame may be.
    #[error("{bytes} bytes are too many for one write")]
    TooLong {
        /// Its length, bytes.
        bytes: usize,
    },
    /// A key is longer than keys are.
    #[error("a key of {bytes} bytes is too long")]
    Key {
        /// Its length, bytes.
        bytes: usize,
    },
    /// A write failed before. What the disk has is known again after opening the store anew.
    #[error("{} is not written to any more, for a write failed", path.display())]
    Failed {
        /// The store's directory.
        path: PathBuf,
    },
}

pub(super) fn io_error(path: &Path) -> impl Fn(io::Error) -> StoreError + Copy + '_ {
    move |error| StoreError::Io { path: path.to_owned(), error }
}

pub(super) fn damaged(path: &Path, offset: u64, what: &'static str) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), offset, what }
}
