//! The files of a data directory that belong to the binary: the API's token and its address.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use exo_crypto::{ApiToken, KeyFileError, WriteMode};
use exo_federation::ErrorCode;
use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// The data directory of a node.
#[derive(Clone, Debug)]
pub(crate) struct DataDir(PathBuf);

/// Where a running node's API listens; `api.json` of the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ApiFile {
    /// Always `exo.api/1`.
    pub(crate) schema: String,
    /// The address.
    pub(crate) listen: SocketAddr,
    /// The process that listens.
    pub(crate) pid: u32,
}

impl DataDir {
    /// The directory chosen, or the usual place: `$XDG_DATA_HOME/exo` or `~/.local/share/exo`.
    pub(crate) fn resolve(chosen: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(path) = chosen {
            return Ok(Self(path));
        }
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
            .map(|base| Self(base.join("exo")))
            .ok_or_else(|| {
                Failure::new(
                    ErrorCode::InvalidArgument,
                    "there is no home directory to keep a node in",
                )
                .with_remedy("Name a directory with `--data-dir` or EXO_DATA_DIR.")
            })
    }

    /// Wraps a path.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where keys are.
    pub(crate) fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// Where the API's token is.
    pub(crate) fn token_path(&self) -> PathBuf {
        self.keys().join("api.token")
    }

    fn api_path(&self) -> PathBuf {
        self.0.join("api.json")
    }

    /// Draws the API's token and keeps it, 0600; one that is there is kept.
    pub(crate) fn make_token(&self) -> Result<(), Failure> {
        let token = ApiToken::generate()
            .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
        match token.save(&self.token_path(), WriteMode::Create) {
            Ok(()) | Err(KeyFileError::Exists { .. }) => Ok(()),
            Err(error) => Err(key_file(&error)),
        }
    }

    /// Reads the API's token; refuses a file that others can read.
    pub(crate) fn token(&self) -> Result<ApiToken, Failure> {
        ApiToken::load(&self.token_path()).map_err(|error| key_file(&error))
    }

    /// Announces where the API listens, for the command line.
    pub(crate) fn announce(&self, listen: SocketAddr) -> Result<(), Failure> {
        let file = ApiFile { schema: "exo.api/1".into(), listen, pid: std::process::id() };
        let text = serde_json::to_vec(&file)
            .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
        write_whole(&self.api_path(), &text)
    }

    /// Takes the announcement back.
    pub(crate) fn retract(&self) {
        // A file that is left names a port that refuses: the reader copes with that.
        let _ = std::fs::remove_file(self.api_path());
    }

    /// Where the API was announced to listen; `None` when no node announced itself.
    pub(crate) fn announced(&self) -> Result<Option<ApiFile>, Failure> {
        let path = self.api_path();
        if !path.exists() {
            return Ok(None);
        }
        let text = read_small(&path)?;
        let file: ApiFile = serde_json::from_str(&text).map_err(|error| {
            Failure::new(ErrorCode::DataCorrupt, format!("{}: {error}", path.display()))
        })?;
        Ok(Some(file))
    }
}

impl ApiFile {
    /// Whether the process that announced itself is still there, as far as the system tells.
    pub(crate) fn runs(&self) -> bool {
        let processes = Path::new("/proc");
        !processes.join("self").exists() || processes.join(self.pid.to_string()).exists()
    }
}

/// Writes a file, 0600: made beside the target, then renamed, so that a reader sees all or nothing.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let _ = std::fs::remove_file(&temporary);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        Failure::file(path, &error)
    })
}

/// Reads a small text file; refuses a long one before it is in memory.
pub(crate) fn read_small(path: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::file(path, &error);
    let mut text = String::new();
    let read = File::open(path)
        .map_err(failed)?
        .take(SMALL_FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if read as u64 > SMALL_FILE_BYTES_MAX {
        return Err(Failure::new(
            ErrorCode::DataCorrupt,
            format!("{} is longer than {SMALL_FILE_BYTES_MAX} bytes", path.display()),
        ));
    }
    Ok(text)
}

/// Reads a file of bounded length.
pub(crate) fn read_bytes(path: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::file(path, &error))?;
    if bytes.len() > most {
        return Err(Failure::new(
            ErrorCode::InvalidArgument,
            format!("{} is longer than {most} bytes", path.display()),
        ));
    }
    Ok(bytes)
}

fn key_file(error: &KeyFileError) -> Failure {
    let code = match error {
        KeyFileError::FileMode { .. } | KeyFileError::DirectoryMode { .. } => {
            ErrorCode::KeyPermissions
        }
        KeyFileError::Missing { .. } => ErrorCode::NotInitialised,
        KeyFileError::Io { .. } => ErrorCode::Io,
        _ => ErrorCode::DataCorrupt,
    };
    Failure::new(code, error.to_string())
}

/// Longest small file of the binary, bytes.
const SMALL_FILE_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn directory() -> (tempfile::TempDir, DataDir) {
        let temporary = tempfile::tempdir().expect("temporary directory");
        exo_crypto::private_directory(&temporary.path().join("keys")).expect("keys");
        let data_dir = DataDir::new(temporary.path());
        (temporary, data_dir)
    }

    #[test]
    fn a_token_is_private_kept_and_read_back() {
        let (_keep, data_dir) = directory();
        data_dir.make_token().expect("makes");
        let first = data_dir.token().expect("reads");
        let mode = std::fs::metadata(data_dir.token_path()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        data_dir.make_token().expect("keeps");
        assert!(data_dir.token().expect("reads again") == first);
    }

    #[test]
    fn a_token_that_others_can_read_is_refused() {
        let (_keep, data_dir) = directory();
        data_dir.make_token().expect("makes");
        let path = data_dir.token_path();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("chmod");
        assert_eq!(data_dir.token().expect_err("refused").code, "key-permissions");
    }

    #[test]
    fn an_announcement_is_found_until_it_is_taken_back() {
        let (_keep, data_dir) = directory();
        assert_eq!(data_dir.announced(), Ok(None));
        let listen = SocketAddr::from(([127, 0, 0, 1], 7780));
        data_dir.announce(listen).expect("announces");
        let found = data_dir.announced().expect("reads").expect("there");
        assert_eq!((found.listen, found.pid), (listen, std::process::id()));
        assert!(found.runs() && !ApiFile { pid: u32::MAX, ..found }.runs());
        data_dir.retract();
        assert_eq!(data_dir.announced(), Ok(None));
    }
}
