//! The proof that an entry is committed: its place in the log, and the cosignatures of a quorum.

use std::collections::{BTreeMap, BTreeSet};

use exo_types::limits::{LOG_DIAGNOSED_ENTRIES_MAX, LOG_ENTRY_BYTES_MAX, LOG_PATH_HASHES_MAX};

use crate::checkpoint::{Checkpoint, Origin};
use crate::cosign::CosignatureError;
use crate::note::{KeyName, Note, NoteError, NoteSignature};
use crate::policy::Policy;
use crate::proof::{ProofFileError, TlogProof};
use crate::tree::{TreeHash, leaf_hash};
use crate::verify::{InclusionError, root_from_path};

/// Says that the entry at an index of a federation's log is committed. Nothing about it is checked until
/// [`verify`](Self::verify) has been asked.
///
/// As a file it is a c2sp.org/tlog-proof; the entry, where it is carried, is the file's extra data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitProof {
    index: u64,
    entry: Option<Vec<u8>>,
    path: Vec<TreeHash>,
    checkpoint: Checkpoint,
    note: Note,
}

/// Why parts do not make a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitProofError {
    /// The index is not in a log of the checkpoint's size.
    #[error("number {index} is not in a log of {size} entries")]
    Index {
        /// The index.
        index: u64,
        /// Entries of the log.
        size: u64,
    },
    /// More hashes than any path has.
    #[error("a path has at most {LOG_PATH_HASHES_MAX} hashes")]
    Path,
    /// The entry is empty or too long to be carried.
    #[error("an entry of {0} bytes is not carried: 1 to {LOG_ENTRY_BYTES_MAX} are")]
    EntryLength(usize),
    /// No cosignatures, or too many.
    #[error("{0}")]
    Note(#[source] NoteError),
}

/// What a proof has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCommit {
    origin: Origin,
    index: u64,
    size: u64,
    root: TreeHash,
    leaf: TreeHash,
    signers: Vec<KeyName>,
}

impl VerifiedCommit {
    /// The log.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Place of the entry in the log.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Entries of the log that the signers have seen committed.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root of the log at that size.
    pub fn root(&self) -> &TreeHash {
        &self.root
    }

    /// Hash of the entry in the log.
    pub fn leaf(&self) -> &TreeHash {
        &self.leaf
    }

    /// Names of the policy's witnesses whose cosignatures hold, in the proof's order.
    pub fn signers(&self) -> &[KeyName] {
        &self.signers
    }
}

/// Why a proof does not show that the entry is committed.
///
/// A signature tells that something was altered, not always what. Where it is not plain, the reason is
/// found by trying: [`RootAltered`](Self::RootAltered), [`IndexAltered`](Self::IndexAltered) and
/// [`CheckpointAltered`](Self::CheckpointAltered) are the best explanation of one alteration. Every proof
/// that is altered in more ways is refused too, for one of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The policy's witnesses are not members of one log.
    #[error("the policy's witnesses are not the members of one federation")]
    PolicyWithoutOrigin,
    /// The proof is of another log.
    #[error("the proof is of the log {actual:?}, not of {expected:?}")]
    ForeignOrigin {
        /// The log of the policy.
        expected: Origin,
        /// The log of the proof.
        actual: Origin,
    },
    /// The proof carries no entry and none was given.
    #[error("the proof carries no entry and none was given")]
    EntryMissing,
    /// The proof carries another entry than the one that was given.
    #[error("the entry is not the one that the proof carries")]
    EntryAltered,
    /// The log has no such entry.
    #[error("index {index} is not in a log of {size} entries")]
    IndexOutOfRange {
        /// The proof's index.
        index: u64,
        /// Entries of the proof's checkpoint.
        size: u64,
    },
    /// The path is too short or too long for the index and the size.
    #[error("the path has {actual} hashes where index and size demand {expected}")]
    PathLength {
        /// Hashes that it should have.
        expected: usize,
        /// Hashes that it has.
        actual: usize,
    },
    /// The entry is in the log, at another index.
    #[error("the index is {claimed}, but the entry is at {actual}")]
    IndexAltered {
        /// The proof's index.
        claimed: u64,
        /// Where the path leads from the entry to the root.
        actual: u64,
    },
    /// The path does not lead from the entry to the root, though two copies of the entry agree.
    #[error("the path does not lead from the entry to the root")]
    PathAltered,
    /// Entry and path do not lead to the root, and one of them is to blame.
    #[error("the entry and the path do not lead to the root")]
    NotIncluded,
    /// The signatures hold for the root to which entry and path lead, not for the one that is written.
    #[error("the checkpoint's root is not the one that was signed")]
    RootAltered,
    /// No signature holds: origin, size or root are not what was signed.
    #[error("no signature holds for the checkpoint: it is not the one that was signed")]
    CheckpointAltered,
    /// A witness's signature does not hold.
    #[error("the signature of {signer}: {why}")]
    Signature {
        /// Whose it should be.
        signer: KeyName,
        /// What is wrong with it.
        why: CosignatureError,
    },
    /// A witness's signature makes a statement of time, as no member's does.
    #[error("the signature of {signer} is dated {timestamp}, where members do not date")]
    Dated {
        /// Who signed.
        signer: KeyName,
        /// Seconds since the Unix epoch.
        timestamp: u64,
    },
    /// A witness has signed twice.
    #[error("{signer} has signed twice")]
    SignerTwice {
        /// Who.
        signer: KeyName,
    },
    /// Too few witnesses have signed, and somebody else has: outsiders do not count.
    #[error("{signer} is not in the policy, and without it {signed} of {needed} have signed")]
    SignerOutsidePolicy {
        /// The first who is not in the policy.
        signer: KeyName,
        /// Witnesses who have signed.
        signed: usize,
        /// The fewest who can make the quorum.
        needed: usize,
    },
    /// Too few witnesses have signed.
    #[error("{signed} of {needed} have signed; {} not", list(missing))]
    TooFewSigners {
        /// Witnesses who have signed.
        signed: usize,
        /// The fewest who can make the quorum.
        needed: usize,
        /// Witnesses who have not.
        missing: Vec<KeyName>,
    },
}

impl ProofError {
    /// The reason in one word that never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::PolicyWithoutOrigin => "policy-origin",
            Self::ForeignOrigin { .. } => "origin",
            Self::EntryMissing => "entry-missing",
            Self::EntryAltered => "entry",
            Self::IndexOutOfRange { .. } => "index-range",
            Self::PathLength { .. } => "path-length",
            Self::IndexAltered { .. } => "index",
            Self::PathAltered => "path",
            Self::NotIncluded => "inclusion",
            Self::RootAltered => "root",
            Self::CheckpointAltered => "checkpoint",
            Self::Signature { .. } => "signature",
            Self::Dated { .. } => "timestamp",
            Self::SignerTwice { .. } => "signer-twice",
            Self::SignerOutsidePolicy { .. } => "signer-outside",
            Self::TooFewSigners { .. } => "too-few-signers",
        }
    }
}

impl CommitProof {
    /// Puts a proof together. It holds as much as its parts; to be of use, the cosignatures are those of
    /// a quorum, one of each, in any order.
    ///
    /// # Errors
    /// [`CommitProofError`].
    pub fn new(
        checkpoint: Checkpoint,
        index: u64,
        path: Vec<TreeHash>,
        cosignatures: Vec<NoteSignature>,
    ) -> Result<Self, CommitProofError> {
        let size = checkpoint.size();
        if index >= size {
            return Err(CommitProofError::Index { index, size });
        }
        if path.len() > LOG_PATH_HASHES_MAX {
            return Err(CommitProofError::Path);
        }
        let note =
            Note::new(checkpoint.to_string(), cosignatures).map_err(CommitProofError::Note)?;
        Ok(Self { index, entry: None, path, checkpoint, note })
    }

    /// The proof with the entry in it.
    ///
    /// # Errors
    /// [`CommitProofError::EntryLength`].
    pub fn with_entry(mut self, entry: Vec<u8>) -> Result<Self, CommitProofError> {
        if !(1..=LOG_ENTRY_BYTES_MAX).contains(&entry.len()) {
            return Err(CommitProofError::EntryLength(entry.len()));
        }
        self.entry = Some(entry);
        Ok(self)
    }

    /// The proof without the entry, for a reader who has it.
    #[must_use]
    pub fn without_entry(mut self) -> Self {
        self.entry = None;
        self
    }

    /// Reads a proof's file.
    ///
    /// # Errors
    /// [`ProofFileError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProofFileError> {
        let (proof, checkpoint) = TlogProof::parse(bytes)?;
        let TlogProof { extra: entry, index, path, note } = proof;
        Ok(Self { index, entry, path, checkpoint, note })
    }

    /// The proof's file, for the ending `.tlog-proof`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let proof = TlogProof {
            extra: self.entry.clone(),
            index: self.index,
            path: self.path.clone(),
            note: self.note.clone(),
        };
        proof.to_string().into_bytes()
    }

    /// Which log it is of, as it says.
    pub fn origin(&self) -> &Origin {
        self.checkpoint.origin()
    }

    /// Which entry it is of, as it says.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The entry, where it carries one.
    pub fn entry(&self) -> Option<&[u8]> {
        self.entry.as_deref()
    }

    /// The inclusion path, from the leaf's sibling up.
    pub fn path(&self) -> &[TreeHash] {
        &self.path
    }

    /// The checkpoint that the path leads to.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Its signatures.
    pub fn cosignatures(&self) -> &[NoteSignature] {
        self.note.signatures()
    }

    /// Checks the proof against the policy of a federation. The entry is the one that is given, or else
    /// the one that the proof carries; where both are there they must be equal.
    ///
    /// Signatures of others than the policy's witnesses are ignored, as c2sp.org/signed-note demands.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(
        &self,
        policy: &Policy,
        entry: Option<&[u8]>,
    ) -> Result<VerifiedCommit, ProofError> {
        let expected = policy.origin().ok_or(ProofError::PolicyWithoutOrigin)?;
        if self.origin() != &expected {
            return Err(ProofError::ForeignOrigin { expected, actual: self.origin().clone() });
        }
        let leaf = leaf_hash(match (entry, self.entry()) {
            (Some(given), Some(carried)) if given != carried => {
                return Err(ProofError::EntryAltered);
            }
            (Some(entry), _) | (None, Some(entry)) => entry,
            (None, None) => return Err(ProofError::EntryMissing),
        });
        let root = self.root_from(&leaf, self.index).map_err(|error| match error {
            InclusionError::OutOfRange { index, size } => {
                ProofError::IndexOutOfRange { index, size }
            }
            InclusionError::PathLength { expected, actual } => {
                ProofError::PathLength { expected, actual }
            }
            InclusionError::Root => ProofError::NotIncluded,
        })?;
        let signers = self.signers(policy, root)?;
        if root != *self.checkpoint.root() {
            return Err(self.why_not_included(&leaf, entry.is_some() && self.entry.is_some()));
        }
        let size = self.checkpoint.size();
        Ok(VerifiedCommit { origin: expected, index: self.index, size, root, leaf, signers })
    }

    fn root_from(&self, leaf: &TreeHash, index: u64) -> Result<TreeHash, InclusionError> {
        root_from_path(leaf, 0, index, self.checkpoint.size(), &self.path)
    }

    /// Checks the signatures and gives the names of the witnesses who have signed.
    fn signers(&self, policy: &Policy, led_to: TreeHash) -> Result<Vec<KeyName>, ProofError> {
        let places: BTreeMap<_, _> = (policy.witnesses().iter().enumerate())
            .map(|(at, witness)| ((witness.cosigner().name(), witness.cosigner().id()), at))
            .collect();
        let mut signed = BTreeSet::new();
        let mut signers = Vec::new();
        let mut outside = None;
        let mut wrong = Vec::new();
        for signature in self.cosignatures() {
            let Some(at) = places.get(&(signature.name(), signature.id())) else {
                outside = outside.or(Some(signature.name()));
                continue;
            };
            let signer = signature.name().clone();
            if !signed.insert(*at) {
                return Err(ProofError::SignerTwice { signer });
            }
            match policy.witnesses()[*at].cosigner().verify(&self.checkpoint, signature) {
                Ok(0) => signers.push(signer),
                Ok(timestamp) => return Err(ProofError::Dated { signer, timestamp }),
                Err(why) => wrong.push((*at, signature, why)),
            }
        }
        if let Some((at, signature, why)) = wrong.first() {
            let cosigner = policy.witnesses()[*at].cosigner();
            let only = Checkpoint::new(self.origin().clone(), self.checkpoint.size(), led_to);
            let holds = only.is_ok_and(|other| cosigner.verify(&other, signature).is_ok());
            return Err(if holds {
                ProofError::RootAltered
            } else if signers.is_empty() && wrong.len() > 1 {
                ProofError::CheckpointAltered
            } else {
                ProofError::Signature { signer: cosigner.name().clone(), why: *why }
            });
        }
        if policy.is_met_by(&signed) {
            return Ok(signers);
        }
        let (signed_count, needed) = (signers.len(), policy.signatures_needed());
        if let Some(signer) = outside {
            let signer = signer.clone();
            return Err(ProofError::SignerOutsidePolicy { signer, signed: signed_count, needed });
        }
        let all = policy.witnesses().iter().enumerate();
        let missing = all.filter(|(at, _)| !signed.contains(at));
        let missing = missing.map(|(_, witness)| witness.cosigner().name().clone()).collect();
        Err(ProofError::TooFewSigners { signed: signed_count, needed, missing })
    }

    /// The checkpoint is signed by a quorum, so the entry, the index or the path is to blame.
    fn why_not_included(&self, leaf: &TreeHash, entry_known: bool) -> ProofError {
        let size = self.checkpoint.size();
        let leads = |index: &u64| self.root_from(leaf, *index) == Ok(*self.checkpoint.root());
        if size <= LOG_DIAGNOSED_ENTRIES_MAX
            && let Some(actual) = (0..size).find(leads)
        {
            return ProofError::IndexAltered { claimed: self.index, actual };
        }
        if entry_known { ProofError::PathAltered } else { ProofError::NotIncluded }
    }
}

/// The first of the names, and how many more there are.
fn list(names: &[KeyName]) -> String {
    let shown: Vec<_> = names.iter().take(LISTED).map(KeyName::as_str).collect();
    let more = names.len() - shown.len();
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// Names that a message lists.
const LISTED: usize = 4;
