//! Why the journal or the log does not do what it is asked.

use std::io;
use std::path::{Path, PathBuf};

/// Which of the two is damaged, for what is done about it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The journal: what the replica has said is not known any more.
    Journal,
    /// The log or its certificates, which other replicas have too.
    Log,
}

/// An operation of the journal failed. After one while records are written nothing more is written:
/// what is on the disk is only known when the journal is opened again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// The system did not do it.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Damaged {
        /// Of what it is a part.
        part: Part,
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// In which way.
        what: &'static str,
    },
    /// A batch is appended where the log has another one that is certified.
    #[error("the log has another batch at leaf {leaf} than the one that is appended there")]
    OtherLog {
        /// Index of the first leaf.
        leaf: u64,
    },
    /// A journal is begun anew with records that do not say where the log ends.
    #[error("the records do not begin with the state at {size} leaves, where the log ends")]
    OtherBase {
        /// Leaves.
        size: u64,
    },
    /// A record is over its bound.
    #[error("a record is not encoded: {0}")]
    Record(exo_types::codec::CodecError),
    /// The journal or the log is as long as it may be.
    #[error("{} is full", .0.display())]
    Full(PathBuf),
    /// Something failed before.
    #[error("the journal failed before and has to be opened again")]
    Failed,
}

impl JournalError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

impl From<JournalError> for io::Error {
    fn from(error: JournalError) -> Self {
        let kind = match &error {
            JournalError::Io { source, .. } => source.kind(),
            JournalError::Damaged { .. } => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
