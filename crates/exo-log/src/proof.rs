//! Proofs as files (c2sp.org/tlog-proof): an index, a path, and the checkpoint that they lead to.

use std::fmt;

use data_encoding::BASE64;
use exo_types::limits::{
    LOG_ENTRIES_MAX, LOG_ENTRY_BYTES_MAX, LOG_PATH_HASHES_MAX, LOG_PROOF_BYTES_MAX,
};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::note::{Note, NoteError};
use crate::text::{base64, decimal};
use crate::tree::TreeHash;

/// What a proof's file says. Nothing about it is checked but its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Data beside the proof, which nothing authenticates; not empty, at most an entry's bytes.
    pub extra: Option<Vec<u8>>,
    /// Which entry.
    pub index: u64,
    /// The inclusion path, from the leaf's sibling up.
    pub path: Vec<TreeHash>,
    /// The checkpoint and its signatures.
    pub note: Note,
}

/// Why bytes are not a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofFileError {
    /// Longer than the bound.
    #[error("{0} bytes are more than the {LOG_PROOF_BYTES_MAX} of a proof")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("a proof is text in UTF-8")]
    NotUtf8,
    /// Another first line.
    #[error("a proof begins with the line {FIRST_LINE}")]
    FirstLine,
    /// The extra line is not base64, or empty, or too long.
    #[error("the extra line is not the base64 of 1 to {LOG_ENTRY_BYTES_MAX} bytes")]
    Extra,
    /// The index line is missing or not a number.
    #[error("the index line is not a decimal number below {LOG_ENTRIES_MAX}")]
    Index,
    /// A line of the path is not a hash.
    #[error("hash {0} of the path is not the base64 of a hash")]
    Path(usize),
    /// More hashes than any path has.
    #[error("a path has at most {LOG_PATH_HASHES_MAX} hashes")]
    PathLength,
    /// The checkpoint is not a signed note.
    #[error("the proof's checkpoint: {0}")]
    Note(#[source] NoteError),
    /// The signed note is not a checkpoint.
    #[error("the proof's checkpoint: {0}")]
    Checkpoint(#[source] CheckpointError),
}

impl ProofFileError {
    /// The reason in one word that never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "file-length",
            Self::NotUtf8 | Self::FirstLine => "file",
            Self::Extra => "file-extra",
            Self::Index => "file-index",
            Self::Path(_) | Self::PathLength => "file-path",
            Self::Note(_) => "file-note",
            Self::Checkpoint(_) => "file-checkpoint",
        }
    }
}

impl TlogProof {
    /// Reads a proof and the checkpoint in it.
    ///
    /// # Errors
    /// [`ProofFileError`].
    pub fn parse(bytes: &[u8]) -> Result<(Self, Checkpoint), ProofFileError> {
        if bytes.len() > LOG_PROOF_BYTES_MAX {
            return Err(ProofFileError::TooLong(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ProofFileError::NotUtf8)?;
        let (first, mut rest) = text.split_once('\n').ok_or(ProofFileError::FirstLine)?;
        if first != FIRST_LINE {
            return Err(ProofFileError::FirstLine);
        }
        let mut extra = None;
        if let Some(line) = rest.strip_prefix(EXTRA) {
            let (text, after) = line.split_once('\n').ok_or(ProofFileError::Extra)?;
            extra = Some(parse_extra(text).ok_or(ProofFileError::Extra)?);
            rest = after;
        }
        let line = rest.strip_prefix(INDEX).ok_or(ProofFileError::Index)?;
        let (index, mut rest) = line.split_once('\n').ok_or(ProofFileError::Index)?;
        let index = decimal(index).filter(|index| *index < LOG_ENTRIES_MAX);
        let index = index.ok_or(ProofFileError::Index)?;
        let mut path = Vec::new();
        loop {
            let wrong = ProofFileError::Path(path.len());
            let (line, after) = rest.split_once('\n').ok_or(wrong)?;
            rest = after;
            if line.is_empty() {
                break;
            }
            if path.len() == LOG_PATH_HASHES_MAX {
                return Err(ProofFileError::PathLength);
            }
            path.push(line.parse().map_err(|_| wrong)?);
        }
        let note = Note::parse(rest.as_bytes()).map_err(ProofFileError::Note)?;
        let checkpoint = note.text().parse().map_err(ProofFileError::Checkpoint)?;
        Ok((Self { extra, index, path, note }, checkpoint))
    }
}

impl fmt::Display for TlogProof {
    /// The proof's file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "{EXTRA}{}", BASE64.encode(extra))?;
        }
        writeln!(f, "{INDEX}{}", self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.note)
    }
}

fn parse_extra(text: &str) -> Option<Vec<u8>> {
    let bounded = text.len() <= LOG_ENTRY_BYTES_MAX.div_ceil(3) * 4;
    let bytes = bounded.then(|| base64(text))??;
    (1..=LOG_ENTRY_BYTES_MAX).contains(&bytes.len()).then_some(bytes)
}

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
const EXTRA: &str = "extra ";
const INDEX: &str = "index ";
