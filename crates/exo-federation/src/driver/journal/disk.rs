//! The few things that are done to files, each of which may be the last one before a crash.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::JournalError;

/// The file system, as far as it is changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    /// Ends the power in tests.
    #[cfg(test)]
    pub(super) fuse: Option<std::sync::Arc<super::tests::fuse::Fuse>>,
}

/// A change that is about to be made.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "tests look into it"))]
pub(super) enum Step<'a> {
    /// Bytes are written.
    Write(&'a File, &'a Path, u64, usize),
    /// A file is cut or made longer.
    Length(&'a File, &'a Path, u64),
    /// What was written to a file is made durable.
    Sync(&'a Path),
    /// Anything about a name.
    Name,
}

/// An open file.
#[derive(Debug)]
pub(super) struct DiskFile {
    file: File,
    path: PathBuf,
    disk: Disk,
}

impl Disk {
    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "tests stop here")]
    fn step(&self, _: Step<'_>) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&self, step: Step<'_>) -> io::Result<()> {
        self.fuse.as_ref().map_or(Ok(()), |fuse| fuse.step(step))
    }

    fn named(
        &self,
        path: &Path,
        change: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), JournalError> {
        let changed = self.step(Step::Name).and_then(|()| change());
        changed.map_err(|error| JournalError::io(path, error))
    }

    /// Makes a directory, private to this user, and those above it.
    pub(super) fn make_dir(&self, path: &Path) -> Result<(), JournalError> {
        self.named(path, || DirBuilder::new().recursive(true).mode(0o700).create(path))
    }

    /// Opens a file, or makes an empty one, private to this user.
    pub(super) fn open(&self, path: &Path) -> Result<DiskFile, JournalError> {
        self.open_with(path, OpenOptions::new().create(true).truncate(false))
    }

    /// Makes an empty file, in place of one that is there.
    pub(super) fn create(&self, path: &Path) -> Result<DiskFile, JournalError> {
        // A new file, not the old one cut: somebody may have that open.
        self.remove(path)?;
        self.open_with(path, OpenOptions::new().create_new(true))
    }

    fn open_with(&self, path: &Path, options: &mut OpenOptions) -> Result<DiskFile, JournalError> {
        let opened = self.step(Step::Name).and_then(|()| {
            let file = options.read(true).write(true).mode(0o600).open(path)?;
            Ok(DiskFile { file, path: path.to_owned(), disk: self.clone() })
        });
        opened.map_err(|error| JournalError::io(path, error))
    }

    /// Gives a file another name, in place of whichever has it.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), JournalError> {
        self.named(to, || fs::rename(from, to))
    }

    /// Removes a file if it is there.
    pub(super) fn remove(&self, path: &Path) -> Result<(), JournalError> {
        self.named(path, || match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    }

    /// Removes a directory and what is in it, if it is there.
    pub(super) fn remove_dir(&self, path: &Path) -> Result<(), JournalError> {
        self.named(path, || match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_dir(&self, path: &Path) -> Result<(), JournalError> {
        self.named(path, || File::open(path)?.sync_all())
    }
}

impl DiskFile {
    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length, bytes.
    pub(super) fn len(&self) -> Result<u64, JournalError> {
        self.file.metadata().map(|of| of.len()).map_err(|error| self.error(error))
    }

    /// Writes all of the bytes.
    pub(super) fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), JournalError> {
        let step = self.disk.step(Step::Write(&self.file, &self.path, at, bytes.len()));
        step.and_then(|()| self.file.write_all_at(bytes, at)).map_err(|error| self.error(error))
    }

    /// Fills the buffer; beyond the end of the file with zeroes.
    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<(), JournalError> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, at + done as u64) {
                Ok(0) => {
                    rest.fill(0);
                    break;
                }
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error(error)),
            }
        }
        Ok(())
    }

    /// Cuts the file.
    pub(super) fn cut(&self, len: u64) -> Result<(), JournalError> {
        let step = self.disk.step(Step::Length(&self.file, &self.path, len));
        step.and_then(|()| self.file.set_len(len)).map_err(|error| self.error(error))
    }

    /// Makes what was written durable, with what is needed to find it again.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        let step = self.disk.step(Step::Sync(&self.path));
        step.and_then(|()| self.file.sync_data()).map_err(|error| self.error(error))
    }

    fn error(&self, error: io::Error) -> JournalError {
        JournalError::io(&self.path, error)
    }
}
