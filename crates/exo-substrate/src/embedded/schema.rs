//! The file: opening it alone, its tables, its version, and the settings of its connections.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::SubstrateError;

/// Where a store lies; turns what goes wrong there into errors that name it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    path: PathBuf,
}

impl Place {
    /// The place of a store's file.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The store's file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What a failure of the database means while `action` was done.
    pub(super) fn failed(
        &self,
        action: &'static str,
    ) -> impl Fn(rusqlite::Error) -> SubstrateError + Copy + '_ {
        move |error| match &error {
            rusqlite::Error::SqliteFailure(failure, _)
                if matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) =>
            {
                self.damaged(error.to_string())
            }
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..) => self.damaged(error.to_string()),
            // A table that should be there and is not: the schema itself is damaged.
            rusqlite::Error::SqliteFailure(failure, Some(text))
                if failure.code == ErrorCode::Unknown && text.starts_with("no such") =>
            {
                self.damaged(text.clone())
            }
            _ => SubstrateError::Storage {
                path: self.path.clone(),
                action,
                reason: error.to_string(),
            },
        }
    }

    /// The file holds what it cannot hold.
    pub(super) fn damaged(&self, reason: impl Into<String>) -> SubstrateError {
        SubstrateError::Damaged { path: self.path.clone(), reason: reason.into() }
    }

    fn io(&self, action: &'static str) -> impl Fn(io::Error) -> SubstrateError + '_ {
        move |error| SubstrateError::Storage {
            path: self.path.clone(),
            action,
            reason: error.to_string(),
        }
    }

    /// Takes the store for this process alone, for as long as the file returned is open.
    pub(super) fn lock(&self) -> Result<File, SubstrateError> {
        let file = private(&self.beside(".lock")).map_err(self.io("making its lock file"))?;
        let until = Instant::now() + LOCK_WAIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                // A process that is being started has its parent's files until it runs its own program, so a
                // lock that was given back may be held for a moment more.
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::sleep(LOCK_AGAIN);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(SubstrateError::InUse { path: self.path.clone() });
                }
                Err(TryLockError::Error(error)) => return Err(self.io("taking its lock")(error)),
            }
        }
    }

    /// Opens the connection that writes; makes the file when there is none.
    pub(super) fn open_writer(&self) -> Result<Connection, SubstrateError> {
        if !self.path.exists() {
            self.make()?;
        }
        let connection = self.connect(&self.path)?;
        let failed = self.failed("preparing it");
        self.check_format(&connection)?;
        let mode: String = connection
            .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
            .map_err(failed)?;
        if mode != "wal" {
            return Err(SubstrateError::Storage {
                path: self.path.clone(),
                action: "turning on its write-ahead log",
                reason: format!("journal mode stays {mode:?}"),
            });
        }
        // FULL: the log is synced before a commit returns.
        connection.pragma_update(None, "synchronous", "full").map_err(failed)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(failed)?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT).map_err(failed)?;
        Ok(connection)
    }

    /// Opens a connection that only reads.
    pub(super) fn open_reader(&self) -> Result<Connection, SubstrateError> {
        // Not read-only to the file system: a reader of a write-ahead log writes its index.
        let connection = self.connect(&self.path)?;
        connection.pragma_update(None, "query_only", true).map_err(self.failed("opening it"))?;
        Ok(connection)
    }

    /// Bytes of the file and its log.
    pub(super) fn disk_bytes(&self) -> u64 {
        let len = |path: &Path| fs::metadata(path).map_or(0, |data| data.len());
        len(&self.path) + len(&self.beside("-wal"))
    }

    fn connect(&self, path: &Path) -> Result<Connection, SubstrateError> {
        let failed = self.failed("opening it");
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
        // A file's schema cannot be trusted to call functions that it should not.
        connection.pragma_update(None, "trusted_schema", false).map_err(failed)?;
        connection.pragma_update(None, "cell_size_check", true).map_err(failed)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
        connection.pragma_update(None, "cache_size", CACHE_KIBIBYTES).map_err(failed)?;
        Ok(connection)
    }

    /// Refuses a file of another program and one of a newer version.
    fn check_format(&self, connection: &Connection) -> Result<(), SubstrateError> {
        let failed = self.failed("reading its format");
        let read = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (owner, found) = (read("application_id"), read("user_version"));
        let (owner, found) = (owner.map_err(failed)?, found.map_err(failed)?);
        if owner != APPLICATION_ID {
            return Err(self.damaged("it was not written by this program"));
        }
        if found > FORMAT {
            return Err(SubstrateError::NewerFormat {
                path: self.path.clone(),
                found,
                known: FORMAT,
            });
        }
        if found < 1 {
            return Err(self.damaged(format!("it has the impossible format {found}")));
        }
        Ok(())
    }

    /// Makes a store under another name and gives it its own when it is whole: a file that is
    /// empty or cut short is damage then, never a store that is being made.
    fn make(&self) -> Result<(), SubstrateError> {
        let log = self.beside("-wal");
        if log.exists() {
            return Err(self.damaged("it is missing, and its log is there"));
        }
        let failed = self.failed("making it");
        let making = self.beside(".new");
        // What an earlier attempt left, its journal too: it would be played back.
        for left in [&making, &self.beside(".new-journal")] {
            if left.exists() {
                fs::remove_file(left).map_err(self.io("removing one half made"))?;
            }
        }
        drop(private(&making).map_err(self.io("making it"))?);
        let mut connection = self.connect(&making)?;
        connection.pragma_update(None, "page_size", PAGE_BYTES).map_err(failed)?;
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(TABLES).map_err(failed)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        transaction.pragma_update(None, "user_version", FORMAT).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        connection.close().map_err(|(_, error)| failed(error))?;
        fs::rename(&making, &self.path).map_err(self.io("making it"))?;
        self.sync_folder()
    }

    /// The path of a file that belongs to the store: its own with an ending.
    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(ending);
        PathBuf::from(path)
    }

    /// Makes the file's name durable, not only its content.
    fn sync_folder(&self) -> Result<(), SubstrateError> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(self.io("syncing its folder"))
    }
}

/// Opens or makes a file that its owner alone may read: it holds the organisation's data.
fn private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The statements that make and drop the tables of one collection. Their names are numbers of our
/// own: no name that a person gave becomes part of a statement.
pub(super) fn collection_tables(number: i64) -> String {
    format!(
        "CREATE TABLE record_{number} (
            row INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            tokens INTEGER NOT NULL,
            record_sum INTEGER NOT NULL,
            vector_sum INTEGER,
            content BLOB NOT NULL,
            metadata BLOB NOT NULL,
            vector BLOB,
            title TEXT NOT NULL,
            body TEXT NOT NULL
        ) STRICT;
        CREATE VIRTUAL TABLE text_{number} USING fts5(
            title, body, content='', contentless_delete=1, tokenize='{TOKENIZER}'
        );
        CREATE VIRTUAL TABLE term_{number} USING fts5vocab(text_{number}, instance);"
    )
}

/// See [`collection_tables`].
pub(super) fn drop_collection_tables(number: i64) -> String {
    format!("DROP TABLE term_{number}; DROP TABLE text_{number}; DROP TABLE record_{number};")
}

/// How texts and queries are split into terms: runs of letters and digits of any script, without
/// case and diacritics, English word endings cut (Porter 1980). Part of the format.
pub(super) const TOKENIZER: &str = "porter unicode61 remove_diacritics 2";

const TABLES: &str = "
    CREATE TABLE collection (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        dimensions INTEGER NOT NULL,
        metric TEXT NOT NULL,
        embedder TEXT NOT NULL,
        generation INTEGER NOT NULL,
        next_row INTEGER NOT NULL,
        records INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE import_mark (
        collection INTEGER NOT NULL REFERENCES collection (number) ON DELETE CASCADE,
        import_id BLOB NOT NULL,
        rows_done INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        PRIMARY KEY (collection, import_id)
    ) STRICT, WITHOUT ROWID;";

/// Marks the file as this program's: `exoS`.
const APPLICATION_ID: i64 = 0x6578_6f53;
/// The format this program writes.
const FORMAT: i64 = 1;
/// Pages hold a few records each with a vector of some hundred dimensions.
const PAGE_BYTES: i64 = 8192;
/// How long a connection waits for another one of this process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the store's lock is waited for, and how often it is tried.
const LOCK_WAIT: Duration = Duration::from_millis(300);
const LOCK_AGAIN: Duration = Duration::from_millis(10);
/// Prepared statements each connection keeps.
const STATEMENTS_CACHED: usize = 64;
/// Page cache of each connection; negative numbers are kibibytes to SQLite.
const CACHE_KIBIBYTES: i64 = -4096;
/// The log is written back into the file when it has so many pages.
const CHECKPOINT_PAGES: i64 = 2000;
/// Bytes of the log's file that are kept after it was written back.
const LOG_BYTES_KEPT: i64 = 64 * 1024 * 1024;
