//! Checkpoints (c2sp.org/tlog-checkpoint): which log, how many entries, which root.

use std::fmt;
use std::str::FromStr;

use exo_types::limits::{LOG_CHECKPOINT_BYTES_MAX, LOG_ENTRIES_MAX, LOG_NAME_BYTES_MAX};
use exo_types::{FederationId, PeerId};

use crate::note::{KeyName, NotAKeyName};
use crate::text::{decimal, has_control};
use crate::tree::TreeHash;

/// The name of a log, 1 to 255 bytes on one line.
///
/// The log of a federation is named `exo-federation/` and the federation's id, and a member of it signs
/// as that, a slash and the member's id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(String);

/// The text cannot name a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log's origin has 1 to {LOG_NAME_BYTES_MAX} bytes and no control character")]
pub struct NotAnOrigin;

impl Origin {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NotAnOrigin`].
    pub fn new(name: impl Into<String>) -> Result<Self, NotAnOrigin> {
        let name = name.into();
        let length = (1..=LOG_NAME_BYTES_MAX).contains(&name.len());
        if length && !has_control(&name) { Ok(Self(name)) } else { Err(NotAnOrigin) }
    }

    /// The log of a federation.
    pub fn of_federation(federation: &FederationId) -> Self {
        Self(format!("exo-federation/{federation}"))
    }

    /// The name under which a member cosigns this log.
    ///
    /// # Errors
    /// [`NotAKeyName`] for an origin that is too long for it or has spaces or plus signs; none of a
    /// federation has.
    pub fn member(&self, member: &PeerId) -> Result<KeyName, NotAKeyName> {
        KeyName::new(format!("{}/{member}", self.0))
    }

    /// Takes a member's name apart; `None` for a name of another form.
    pub fn of_member(name: &KeyName) -> Option<(Self, PeerId)> {
        let (origin, member) = name.as_str().rsplit_once('/')?;
        let peer: PeerId = member.parse().ok()?;
        // One member has one name.
        let canonical = peer.to_string() == member;
        canonical.then_some((Self::new(origin).ok()?, peer))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({:?})", self.0)
    }
}

/// The head of a log: so many entries with this root. It has no extension lines, which an ML-DSA-44
/// cosignature would not cover.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    origin: Origin,
    size: u64,
    root: TreeHash,
}

/// Why a text is not a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Longer than the bound.
    #[error("{0} bytes are more than the {LOG_CHECKPOINT_BYTES_MAX} of a checkpoint")]
    TooLong(usize),
    /// Not three lines.
    #[error("a checkpoint has three lines")]
    Lines,
    /// Lines behind the third, which no cosignature would cover.
    #[error("a checkpoint with extension lines is not taken: cosignatures do not cover them")]
    Extension,
    /// The first line names no log.
    #[error("{0}")]
    Origin(#[source] NotAnOrigin),
    /// The second line is not a number of entries.
    #[error("the checkpoint's size is not a decimal number up to {LOG_ENTRIES_MAX}")]
    Size,
    /// The third line is not a hash.
    #[error("the checkpoint's root is not the base64 of a hash")]
    Root,
    /// No entries, but not the root of the empty tree.
    #[error("a log without entries has the root of the empty tree")]
    EmptyRoot,
}

impl Checkpoint {
    /// Puts a checkpoint together.
    ///
    /// # Errors
    /// [`CheckpointError::Size`], [`CheckpointError::EmptyRoot`].
    pub fn new(origin: Origin, size: u64, root: TreeHash) -> Result<Self, CheckpointError> {
        if size > LOG_ENTRIES_MAX {
            return Err(CheckpointError::Size);
        }
        if size == 0 && root != TreeHash::EMPTY {
            return Err(CheckpointError::EmptyRoot);
        }
        Ok(Self { origin, size, root })
    }

    /// Which log.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Entries of the log.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root of its tree.
    pub fn root(&self) -> &TreeHash {
        &self.root
    }
}

impl fmt::Display for Checkpoint {
    /// The text that is signed: three whole lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, self.root)
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        if text.len() > LOG_CHECKPOINT_BYTES_MAX {
            return Err(CheckpointError::TooLong(text.len()));
        }
        let text = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?;
        let mut lines = text.split('\n');
        let mut line = || lines.next().ok_or(CheckpointError::Lines);
        let (origin, size, root) = (line()?, line()?, line()?);
        if lines.next().is_some() {
            return Err(CheckpointError::Extension);
        }
        let origin = Origin::new(origin).map_err(CheckpointError::Origin)?;
        let size = decimal(size).ok_or(CheckpointError::Size)?;
        Self::new(origin, size, root.parse().map_err(|_| CheckpointError::Root)?)
    }
}
