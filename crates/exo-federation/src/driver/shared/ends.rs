//! Notes of how far this member has signed in each shared collection, beside the stores.
//!
//! Who loses a store, or puts an old one back, must not sign its numbers a second time: that would prove it
//! a liar. The notes lie outside the stores' directory, so that whoever deletes that does not delete them.
//!
//! A note is brought up to date after the store's write and before anything of it is told to others, so it
//! is never ahead of the store, and behind it by nothing that others have seen. It is not synced each time:
//! a crash of the system can leave an old note, but not take the store as well. When a node starts, notes are
//! made from the stores and synced.
//!
//! ```text
//! <data directory>/shared.ends/<collection>.end     the chain's end, 56 bytes; its CRC-32, big-endian
//! ```

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use exo_types::CollectionName;

use super::error::{StoreError, damaged, io_error};
use super::segment::sync_directory;

/// The notes of all collections.
#[derive(Debug)]
pub(super) struct Ends {
    dir: PathBuf,
    open: BTreeMap<CollectionName, File>,
}

impl Ends {
    /// Opens the notes beside a directory of stores.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn beside(stores: &Path) -> Result<Self, StoreError> {
        let ends = Self { dir: stores.with_extension("ends"), open: BTreeMap::new() };
        ends.make_dir()?;
        Ok(ends)
    }

    fn make_dir(&self) -> Result<(), StoreError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
        made.map_err(io_error(&self.dir))
    }

    /// The collections of which there is a note.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn names(&self) -> Result<Vec<CollectionName>, StoreError> {
        collections_in(&self.dir, SUFFIX)
    }

    /// What was noted; `None` when nothing was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn read(&self, name: &CollectionName) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path)(error)),
        };
        let split = bytes.len().checked_sub(size_of::<u32>()).map(|at| bytes.split_at(at));
        match split {
            Some((end, crc)) if crc == crc32fast::hash(end).to_be_bytes() => Ok(Some(end.to_vec())),
            _ => Err(damaged(&path, 0, "it does not say how far this member has signed")),
        }
    }

    /// Notes an end, and the first time or where `sync` asks for it waits for the disk.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn note(
        &mut self,
        name: &CollectionName,
        end: &[u8],
        sync: bool,
    ) -> Result<(), StoreError> {
        let path = self.path(name);
        let mut sync = sync;
        if !self.open.contains_key(name) {
            sync |= !path.exists();
            self.make_dir()?;
            let mut options = OpenOptions::new();
            let options = options.create(true).truncate(false).write(true).mode(0o600);
            self.open.insert(name.clone(), options.open(&path).map_err(io_error(&path))?);
        }
        let Some(file) = self.open.get(name) else { return Ok(()) };
        let note = [end, crc32fast::hash(end).to_be_bytes().as_slice()].concat();
        file.write_all_at(&note, 0).map_err(io_error(&path))?;
        if sync {
            file.sync_all().map_err(io_error(&path))?;
            sync_directory(&self.dir)?;
        }
        Ok(())
    }

    fn path(&self, name: &CollectionName) -> PathBuf {
        self.dir.join(format!("{name}{SUFFIX}"))
    }
}

/// The collections of which a directory has a file with this ending.
///
/// # Errors
/// [`StoreError::Io`].
pub(super) fn collections_in(dir: &Path, suffix: &str) -> Result<Vec<CollectionName>, StoreError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error(dir))? {
        let name = entry.map_err(io_error(dir))?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(suffix));
        names.extend(name.and_then(|name| CollectionName::new(name).ok()));
    }
    Ok(names)
}

/// What the files' names end with.
const SUFFIX: &str = ".end";
