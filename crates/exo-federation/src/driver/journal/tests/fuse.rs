//! A disk whose power ends after some number of changes.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::disk::Step;

/// Lets some changes through, and none after them.
#[derive(Debug)]
pub(crate) struct Fuse {
    left: AtomicUsize,
    /// What stood where something was written that is not synced, oldest first, and how long the file
    /// was.
    unsynced: Mutex<BTreeMap<PathBuf, Vec<Old>>>,
}

#[derive(Debug)]
struct Old {
    at: u64,
    bytes: Vec<u8>,
    len: u64,
}

impl Fuse {
    pub(crate) fn new(changes: usize) -> Self {
        Self { left: AtomicUsize::new(changes), unsynced: Mutex::default() }
    }

    /// Changes that would still be let through.
    pub(crate) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    pub(crate) fn step(&self, step: Step<'_>) -> io::Result<()> {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        let mut unsynced = self.unsynced.lock().expect("no panic while it is held");
        match step {
            Step::Write(file, path, at, len) => {
                unsynced.entry(path.to_owned()).or_default().push(old(file, at, len)?);
            }
            Step::Length(file, path, at) => {
                let len = file.metadata()?.len().saturating_sub(at) as usize;
                unsynced.entry(path.to_owned()).or_default().push(old(file, at, len)?);
            }
            Step::Sync(path) if left > 0 => {
                unsynced.remove(path);
            }
            Step::Sync(_) | Step::Name => {}
        }
        if left == 0 { Err(io::Error::other("the power ended")) } else { Ok(()) }
    }

    /// The power ended: of each sector that was written and not synced the disk has what it had before,
    /// if `lost` says so. Files that have another name by now have it durably, as what is in them.
    pub(crate) fn lose(&self, mut lost: impl FnMut() -> bool) {
        let unsynced = std::mem::take(&mut *self.unsynced.lock().expect("not poisoned"));
        for (path, olds) in unsynced {
            let Ok(file) = OpenOptions::new().write(true).read(true).open(&path) else { continue };
            let mut fates = BTreeMap::new();
            for old in olds.iter().rev() {
                let mut at = old.at;
                let mut bytes = old.bytes.as_slice();
                while !bytes.is_empty() {
                    let here = bytes.len().min(512 - (at % 512) as usize);
                    if *fates.entry(at / 512).or_insert_with(&mut lost) {
                        file.write_all_at(&bytes[..here], at).expect("writes");
                    }
                    at += here as u64;
                    bytes = &bytes[here..];
                }
            }
            if lost() {
                file.set_len(olds[0].len).expect("cuts");
            }
        }
    }
}

fn old(file: &File, at: u64, len: usize) -> io::Result<Old> {
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        match file.read_at(&mut bytes[done..], at + done as u64)? {
            0 => break,
            read => done += read,
        }
    }
    Ok(Old { at, bytes, len: file.metadata()?.len() })
}
