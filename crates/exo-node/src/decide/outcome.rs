//! What becomes of the updates of a log, and why one does nothing.

use exo_consensus::Logged;
use exo_types::{Epoch, Sequence};

use super::decision::Kind;

/// What became of an update of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It stands in the log, which is all that it takes.
    Recorded,
    /// It waits for more voters to propose the same.
    Wished {
        /// How many have.
        have: u8,
        /// How many it takes.
        need: u8,
    },
    /// It has taken effect.
    Effective,
    /// It does nothing.
    Void(Void),
}

/// Why an update does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Void {
    /// Bytes that are no decision, or one out of its bounds.
    #[error("it is no decision")]
    NotADecision,
    /// Who proposes it has no seat or is no member any more.
    #[error("its proposer has no vote")]
    NoVote,
    /// It is about somebody who never was a member.
    #[error("there is no such member")]
    NoSuchMember,
    /// It is about somebody who is a member already.
    #[error("that is a member already")]
    AlreadyMember,
    /// It is about somebody who was removed, which is for ever.
    #[error("that member was removed")]
    Revoked,
    /// An active member has the name.
    #[error("an active member has the name")]
    NameTaken,
    /// A member or a voter has, or had, the cosigner key.
    #[error("the cosigner key is another member's")]
    KeyTaken,
    /// There are as many members, present and past, as there may be.
    #[error("there are too many members")]
    TooManyMembers,
    /// The member has a vote already.
    #[error("the member has a vote already")]
    HasVote,
    /// The member has no vote.
    #[error("the member has no vote")]
    HasNoVote,
    /// Those who remain could not decide anything.
    #[error("too few voters would be left")]
    TooFewVoters,
    /// As many vote as may.
    #[error("there are too many voters")]
    TooManyVoters,
    /// It changes nothing.
    #[error("it is so already")]
    Unchanged,
    /// The number of changes is exhausted.
    #[error("there were too many changes of membership")]
    TooManyChanges,
    /// The log knows as many shared collections as it may.
    #[error("there are too many shared collections")]
    TooManyCollections,
    /// What a collection's entries mean never changes.
    #[error("the collection is of another kind")]
    OtherKind,
    /// A checkpoint that does not follow the last one.
    #[error("the checkpoint does not follow the last one")]
    NotNext,
}

impl Void {
    /// Every reason.
    pub const ALL: [Self; 17] = [
        Self::NotADecision,
        Self::NoVote,
        Self::NoSuchMember,
        Self::AlreadyMember,
        Self::Revoked,
        Self::NameTaken,
        Self::KeyTaken,
        Self::TooManyMembers,
        Self::HasVote,
        Self::HasNoVote,
        Self::TooFewVoters,
        Self::TooManyVoters,
        Self::Unchanged,
        Self::TooManyChanges,
        Self::TooManyCollections,
        Self::OtherKind,
        Self::NotNext,
    ];

    /// The reason in one word that never changes.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotADecision => "not-a-decision",
            Self::NoVote => "no-vote",
            Self::NoSuchMember => "no-such-member",
            Self::AlreadyMember => "already-member",
            Self::Revoked => "revoked",
            Self::NameTaken => "name-taken",
            Self::KeyTaken => "key-taken",
            Self::TooManyMembers => "too-many-members",
            Self::HasVote => "has-vote",
            Self::HasNoVote => "has-no-vote",
            Self::TooFewVoters => "too-few-voters",
            Self::TooManyVoters => "too-many-voters",
            Self::Unchanged => "unchanged",
            Self::TooManyChanges => "too-many-changes",
            Self::TooManyCollections => "too-many-collections",
            Self::OtherKind => "other-kind",
            Self::NotNext => "not-next",
        }
    }
}

/// One leaf of the log and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// Index of the leaf.
    pub index: u64,
    /// The batch in which it was committed.
    pub sequence: Sequence,
    /// The epoch of consensus in which it was committed.
    pub epoch: Epoch,
    /// The update and whose it is.
    pub logged: Logged,
    /// What it is about.
    pub kind: Kind,
    /// What became of it.
    pub outcome: Outcome,
}
