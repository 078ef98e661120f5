//! Files that hold secrets: written whole or not at all, readable by their owner alone, and refused
//! when anybody else could have read or changed them.
//!
//! A file of keys is a header of 16 bytes (`exo-key` and a zero byte, version, kind, two zero bytes, the
//! payload's length in four big-endian bytes), the payload, and a check value of 32 bytes, the labelled
//! SHA-256 of all before it. The check value finds damage: a flipped bit in a seed would otherwise be
//! another identity. The API's token is the exception: its file is the token's text and a line end, for
//! shells to read. Unix only.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use exo_types::limits::KEY_FILE_BYTES_MAX;
use zeroize::Zeroizing;

use crate::hash::{HASH_BYTES, hash};
use crate::label::Label;

/// What a key file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFileKind {
    /// The seed of an identity, 32 bytes.
    Identity,
    /// The sealing keys of a member.
    KemKeyring,
    /// The seed of a cosigner's key, 32 bytes.
    Cosigner,
}

impl KeyFileKind {
    const fn code(self) -> u8 {
        match self {
            Self::Identity => 1,
            Self::KemKeyring => 2,
            Self::Cosigner => 3,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Identity => "an identity key",
            Self::KemKeyring => "sealing keys",
            Self::Cosigner => "a cosigner key",
        }
    }
}

/// Why a secret file was not written or not accepted. Every message names the path.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is no such file.
    #[error("{path} does not exist")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There is one already, and it is not to be overwritten.
    #[error("{path} exists already; it is kept as it is")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The path is a symbolic link.
    #[error("{path} is a symbolic link; give the path of the file itself")]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// The path is a directory, a device or the like.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file's directory is none.
    #[error("{path} is not a directory")]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Others than the owner have rights to the file.
    #[error(
        "{path} has mode {mode:04o}, so others than its owner may have seen or changed the secret in \
         it; if you are sure they have not, run: chmod 600 {}",
        shell_word(path)
    )]
    FileMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others than the owner have rights to the directory.
    #[error(
        "the directory {path} has mode {mode:04o}, so others than its owner may exchange the secrets \
         in it; run: chmod 700 {}",
        shell_word(path)
    )]
    DirectoryMode {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The length is impossible.
    #[error("{path} has {actual} bytes where {expected} are expected; restore it from a backup")]
    Length {
        /// The file.
        path: PathBuf,
        /// The lengths that are possible, in words.
        expected: String,
        /// The length found, bytes.
        actual: u64,
    },
    /// The file holds something else.
    #[error("{path} does not hold {expected}")]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The file is of a version that this program does not know.
    #[error("{path} is of version {found}; this program reads version {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u8,
    },
    /// The content is damaged.
    #[error("{path} is damaged: {reason}; restore it from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What it said.
        error: io::Error,
    },
}

/// Whether an existing file may be overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// Refuse: for what cannot be made again.
    Create,
    /// Overwrite in one step: a reader, or a crash, finds the old file or the new one.
    Replace,
}

/// Makes a directory for secrets, mode 0700, with those above it; one that exists is checked.
///
/// # Errors
/// [`KeyFileError`].
pub fn private_directory(path: &Path) -> Result<(), KeyFileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| io_error(path, "make the directory", error))?;
    check_directory(path)
}

/// Writes a key file.
///
/// # Errors
/// [`KeyFileError`].
pub fn write_key_file(
    path: &Path,
    kind: KeyFileKind,
    payload: &[u8],
    mode: WriteMode,
) -> Result<(), KeyFileError> {
    write_secret(path, &encode(kind, payload), mode)
}

/// Reads a key file's payload.
///
/// # Errors
/// [`KeyFileError`].
pub fn read_key_file(path: &Path, kind: KeyFileKind) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let bytes = read_secret(path)?;
    decode(&bytes, kind)
        .map(|payload| Zeroizing::new(payload.to_vec()))
        .map_err(|error| error.at(path, kind, bytes.len() as u64))
}

/// Why bytes are no key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The length is not that of the header, the payload it announces and the check value.
    #[error("the length is not the one announced")]
    Length,
    /// Not a key file, or one of another kind.
    #[error("the header is of another kind of file")]
    Kind,
    /// Of another version.
    #[error("version {0} is not known")]
    Version(u8),
    /// The check value does not match.
    #[error("the check value does not match")]
    Check,
}

/// Takes a key file's bytes apart; gives the payload.
///
/// # Errors
/// [`FormatError`].
pub fn decode(bytes: &[u8], kind: KeyFileKind) -> Result<&[u8], FormatError> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(FormatError::Length)?;
    let (payload, check) = rest.split_last_chunk::<HASH_BYTES>().ok_or(FormatError::Length)?;
    let [magic @ .., version, code, 0, 0, a, b, c, d] = header else {
        return Err(FormatError::Kind);
    };
    if *magic != MAGIC {
        return Err(FormatError::Kind);
    }
    if *version != VERSION {
        return Err(FormatError::Version(*version));
    }
    if *code != kind.code() {
        return Err(FormatError::Kind);
    }
    if u32::from_be_bytes([*a, *b, *c, *d]) as usize != payload.len() {
        return Err(FormatError::Length);
    }
    if hash(Label::KEY_FILE, &[header, payload]) != *check {
        return Err(FormatError::Check);
    }
    Ok(payload)
}

/// Puts a key file together.
fn encode(kind: KeyFileKind, payload: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER_BYTES + payload.len() + HASH_BYTES));
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[VERSION, kind.code(), 0, 0]);
    // A payload over the bound is refused before it is written.
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    let check = hash(Label::KEY_FILE, &[&bytes[..HEADER_BYTES], payload]);
    bytes.extend_from_slice(&check);
    bytes
}

/// Writes a file of secret bytes: beside its place, synced, then moved there, and the directory synced.
///
/// The directory must be private and there; see [`private_directory`]. One writer at a time.
///
/// # Errors
/// [`KeyFileError`]. After an error the place holds what it held before, unless the error is that the
/// directory was not synced.
pub fn write_secret(path: &Path, bytes: &[u8], mode: WriteMode) -> Result<(), KeyFileError> {
    if bytes.len() > KEY_FILE_BYTES_MAX {
        return Err(KeyFileError::Length {
            path: path.to_owned(),
            expected: format!("at most {KEY_FILE_BYTES_MAX}"),
            actual: bytes.len() as u64,
        });
    }
    let name = path.file_name().ok_or_else(|| KeyFileError::NotAFile { path: path.to_owned() })?;
    let directory = directory_of(path);
    check_directory(directory)?;
    let mut new_name = name.to_owned();
    new_name.push(".new");
    let new = directory.join(new_name);
    // One that a crash left behind.
    remove(&new)?;
    let written = write_new(&new, bytes).and_then(|()| put_in_place(&new, path, mode));
    // Moved away by a replacement; still there after a creation or an error.
    let removed = remove(&new);
    written.and(removed)?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| io_error(directory, "sync the directory", error))
}

fn write_new(new: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(new)
        .map_err(|error| io_error(new, "create", error))?;
    file.write_all(bytes).map_err(|error| io_error(new, "write", error))?;
    file.sync_all().map_err(|error| io_error(new, "sync", error))
}

fn put_in_place(new: &Path, path: &Path, mode: WriteMode) -> Result<(), KeyFileError> {
    let placed = match mode {
        // A link, unlike a rename, refuses a name that is taken.
        WriteMode::Create => fs::hard_link(new, path),
        WriteMode::Replace => fs::rename(new, path),
    };
    placed.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
        _ => io_error(path, "write", error),
    })
}

fn remove(path: &Path) -> Result<(), KeyFileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error(path, "remove", error))
        }
        _ => Ok(()),
    }
}

/// Reads a file of secret bytes, after every check.
///
/// # Errors
/// [`KeyFileError`].
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let found = fs::symlink_metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing { path: path.to_owned() },
        _ => io_error(path, "look at", error),
    })?;
    check_directory(directory_of(path))?;
    check_file(path, &found)?;
    let file = File::open(path).map_err(|error| io_error(path, "open", error))?;
    let opened = file.metadata().map_err(|error| io_error(path, "look at", error))?;
    check_file(path, &opened)?;
    // Exchanged in between, perhaps for a link.
    if (found.dev(), found.ino()) != (opened.dev(), opened.ino()) {
        return Err(KeyFileError::Damaged {
            path: path.to_owned(),
            reason: "it was exchanged while it was read".to_owned(),
        });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES_MAX + 1));
    file.take(KEY_FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| io_error(path, "read", error))?;
    if bytes.len() > KEY_FILE_BYTES_MAX {
        return Err(too_long(path, bytes.len() as u64));
    }
    Ok(bytes)
}

fn check_file(path: &Path, metadata: &Metadata) -> Result<(), KeyFileError> {
    let path = path.to_owned();
    if metadata.is_symlink() {
        return Err(KeyFileError::Symlink { path });
    }
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile { path });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(KeyFileError::FileMode { path, mode });
    }
    if metadata.len() > KEY_FILE_BYTES_MAX as u64 {
        return Err(too_long(&path, metadata.len()));
    }
    Ok(())
}

fn check_directory(path: &Path) -> Result<(), KeyFileError> {
    let metadata = fs::metadata(path).map_err(|error| io_error(path, "look at", error))?;
    let path = path.to_owned();
    if !metadata.is_dir() {
        return Err(KeyFileError::NotADirectory { path });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(KeyFileError::DirectoryMode { path, mode });
    }
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl FormatError {
    /// The error of the file with these bytes.
    fn at(self, path: &Path, kind: KeyFileKind, actual: u64) -> KeyFileError {
        let path = path.to_owned();
        match self {
            Self::Length => {
                let expected = "those that its header announces".to_owned();
                KeyFileError::Length { path, expected, actual }
            }
            Self::Kind => KeyFileError::Kind { path, expected: kind.name() },
            Self::Version(found) => KeyFileError::Version { path, found },
            Self::Check => KeyFileError::Damaged { path, reason: self.to_string() },
        }
    }
}

fn too_long(path: &Path, actual: u64) -> KeyFileError {
    let expected = format!("at most {KEY_FILE_BYTES_MAX}");
    KeyFileError::Length { path: path.to_owned(), expected, actual }
}

fn io_error(path: &Path, action: &'static str, error: io::Error) -> KeyFileError {
    KeyFileError::Io { path: path.to_owned(), action, error }
}

/// The path as one word of a shell.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

const MAGIC: [u8; 8] = *b"exo-key\0";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 16;
/// Every right of the group and of others.
const OTHERS: u32 = 0o077;
