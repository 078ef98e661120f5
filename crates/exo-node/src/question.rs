//! What an onion packet carries to the member that answers, and what its reply carries back.

use exo_crypto::{Label, Signed, SignedBody, hash};
use exo_types::limits::ONION_REPLY_LARGE_BYTES;
use exo_types::{CodecError, Leg, PeerId, TermStats, Timestamp, Wire, bounded, codec::bound};
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;
use crate::wire::{LEGS_MAX, SearchFor, TermsOf};

/// What somebody asks who does not say who it is. The order of variants and fields is the encoding:
/// append only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Question {
    /// Asks for term statistics.
    Terms(TermsOf),
    /// Asks for results.
    Search(Box<SearchFor>),
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Not done, and why.
    Refused(Refusal),
    /// Term statistics over what anybody may read.
    Terms(TermStats),
    /// Ranked hits.
    Answer(Box<Signed<AnswerSet>>),
}

/// Ranked hits, signed by the member that holds them: whoever carries them, they prove where they come
/// from, and what was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerSet {
    /// Who answers.
    pub peer: PeerId,
    /// Hash of the question ([`Question::hash`]).
    pub question: [u8; 32],
    /// When.
    pub at: Timestamp,
    /// Whether something was left out for want of room: vectors first, then the ends of texts, then
    /// the lowest ranks.
    pub trimmed: bool,
    /// One list per collection and part of the query.
    #[serde(deserialize_with = "bounded::list::<_, _, LEGS_MAX>")]
    pub legs: Vec<Leg>,
}

impl Question {
    /// The hash of a question as it is encoded.
    pub fn hash(encoded: &[u8]) -> [u8; 32] {
        hash(Label::QUESTION, &[encoded])
    }
}

impl Wire for Question {
    const BYTES_MAX: usize = exo_onion::PacketClass::Large.content_bytes_max();

    fn check(&self) -> Result<(), CodecError> {
        match self {
            Self::Terms(of) => of.check(),
            Self::Search(search) => search.check(),
        }
    }
}

impl Wire for Reply {
    const BYTES_MAX: usize = ONION_REPLY_LARGE_BYTES;

    fn check(&self) -> Result<(), CodecError> {
        match self {
            Self::Terms(stats) => stats.check(),
            Self::Refused(_) | Self::Answer(_) => Ok(()),
        }
    }
}

impl Wire for AnswerSet {
    const BYTES_MAX: usize = ONION_REPLY_LARGE_BYTES;

    fn check(&self) -> Result<(), CodecError> {
        bound(self.legs.len(), LEGS_MAX)?;
        self.legs.iter().try_for_each(Leg::check)
    }
}

impl SignedBody for AnswerSet {
    const LABEL: Label = Label::ANSWER;

    fn signer(&self) -> Option<PeerId> {
        Some(self.peer)
    }
}
