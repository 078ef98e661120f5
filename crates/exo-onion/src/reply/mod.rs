//! The reply: it goes back over the streams that the packet came by, in chunks of fixed number and
//! length.
//!
//! Whoever speaks, the member that answers or a relay that cannot go on, seals its chunks with
//! ChaCha20-Poly1305 (RFC 8439) under a key that it shares with the asker alone. Every relay on the way
//! back puts a ChaCha20 layer on them, so that no two links carry the same bytes. The asker strips layer
//! by layer and tries the key of each depth: from outside, one reply looks like another.

mod open;
mod relay;
mod seal;

use exo_types::limits::{
    ONION_REPLY_CHUNK_BYTES_MAX, ONION_REPLY_LARGE_BYTES, ONION_REPLY_MEDIUM_BYTES,
    ONION_REPLY_SMALL_BYTES,
};

pub use open::{Reply, ReplyError, ReplyKeys, ReplyOutcome};
pub use relay::{LayerError, RelayReply};
pub use seal::{AnswerTooLong, ReplySealer};

/// The three sizes of a reply; the asker chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReplyClass {
    /// 4 KiB in one chunk.
    Small,
    /// 16 KiB in one chunk.
    Medium,
    /// 64 KiB in four chunks.
    Large,
}

impl ReplyClass {
    /// All, the smallest first.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// Length of the reply on every link, bytes.
    pub const fn reply_bytes(self) -> usize {
        match self {
            Self::Small => ONION_REPLY_SMALL_BYTES,
            Self::Medium => ONION_REPLY_MEDIUM_BYTES,
            Self::Large => ONION_REPLY_LARGE_BYTES,
        }
    }

    /// Length of each chunk, bytes.
    pub const fn chunk_bytes(self) -> usize {
        let reply = self.reply_bytes();
        if reply < ONION_REPLY_CHUNK_BYTES_MAX { reply } else { ONION_REPLY_CHUNK_BYTES_MAX }
    }

    /// Chunks of the reply.
    pub const fn chunks(self) -> u8 {
        match self {
            Self::Small | Self::Medium => 1,
            Self::Large => 4,
        }
    }

    /// Longest answer that fits, bytes.
    pub const fn answer_bytes_max(self) -> usize {
        self.chunks() as usize * self.text_bytes() - REPLY_HEADER_BYTES
    }

    /// The smallest class that carries so many bytes of answer.
    pub fn for_answer(bytes: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|class| bytes <= class.answer_bytes_max())
    }

    /// Plaintext of one chunk, bytes.
    const fn text_bytes(self) -> usize {
        self.chunk_bytes() - CHUNK_TAG_BYTES
    }

    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::Small => 0,
            Self::Medium => 1,
            Self::Large => 2,
        }
    }

    pub(crate) const fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Small),
            1 => Some(Self::Medium),
            2 => Some(Self::Large),
            _ => None,
        }
    }

    /// What is authenticated beside a chunk: class, index, number of chunks, whether it is the last.
    const fn aad(self, index: u8) -> [u8; 4] {
        [self.to_wire(), index, self.chunks(), (index + 1 == self.chunks()) as u8]
    }
}

/// Why there is no answer, as the asker is told by the member that gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyFailure {
    /// The next hop was not reached, or was lost before its reply was complete.
    Unreachable,
    /// Too much to do.
    Busy,
    /// This member does not do it for somebody unknown.
    Denied,
    /// The content was not understood.
    Malformed,
    /// It failed for a reason of its own.
    Failed,
    /// A cause that this version does not know.
    Other(u8),
}

impl ReplyFailure {
    const fn to_wire(self) -> u8 {
        match self {
            Self::Unreachable => 1,
            Self::Busy => 2,
            Self::Denied => 3,
            Self::Malformed => 4,
            Self::Failed => 5,
            Self::Other(code) => code,
        }
    }

    const fn from_wire(code: u8) -> Self {
        match code {
            1 => Self::Unreachable,
            2 => Self::Busy,
            3 => Self::Denied,
            4 => Self::Malformed,
            5 => Self::Failed,
            other => Self::Other(other),
        }
    }
}

/// Length of a chunk's authentication code, bytes.
const CHUNK_TAG_BYTES: usize = 16;
/// Length of kind, cause, reserved bytes and length, which stand before what a reply says.
const REPLY_HEADER_BYTES: usize = 8;

const ANSWER: u8 = 1;
const FAILURE: u8 = 2;

const _: () = assert!(
    ReplyClass::Large.chunks() as usize * ReplyClass::Large.chunk_bytes()
        == ONION_REPLY_LARGE_BYTES
);
const _: () = assert!(
    ReplyClass::Medium.chunks() as usize * ReplyClass::Medium.chunk_bytes()
        == ONION_REPLY_MEDIUM_BYTES
);
const _: () = assert!(
    ReplyClass::Small.chunks() as usize * ReplyClass::Small.chunk_bytes()
        == ONION_REPLY_SMALL_BYTES
);
