//! The asker's side of a reply: find who speaks, strip its layers, put together.

use std::fmt;

use aws_lc_rs::aead::Aad;
use exo_types::PeerId;
use zeroize::Zeroizing;

use super::{ANSWER, CHUNK_TAG_BYTES, FAILURE, ReplyClass, ReplyFailure};
use crate::keys::{ReplyPair, apply, cipher, nonce};

/// What the asker keeps of a packet it sent: the keys to open its one reply.
pub struct ReplyKeys {
    class: ReplyClass,
    /// The hops, the nearest first.
    hops: Vec<Hop>,
    /// The chunk due.
    next: u8,
    /// Who has spoken last: an index into `hops`.
    speaker: Option<usize>,
    /// What that hop has said.
    text: Zeroizing<Vec<u8>>,
}

struct Hop {
    peer: PeerId,
    keys: ReplyPair,
}

/// A complete reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// Who speaks.
    pub from: PeerId,
    /// What it says.
    pub outcome: ReplyOutcome,
}

/// What a reply says.
#[derive(PartialEq, Eq)]
pub enum ReplyOutcome {
    /// The answer of the member that the packet was for.
    Answer(Zeroizing<Vec<u8>>),
    /// No answer.
    Failure(ReplyFailure),
}

/// Why a reply is of no use. It is over then: the keys open nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Not the length of a chunk.
    #[error("a chunk of {actual} bytes where {expected} are due")]
    Length {
        /// The length due, bytes.
        expected: usize,
        /// The length found, bytes.
        actual: usize,
    },
    /// The reply is complete, or failed before.
    #[error("a chunk after the end of the reply")]
    Over,
    /// The chunk opens at no depth that may still speak: somebody on the path altered it.
    #[error("chunk {chunk} of the reply was altered on its way")]
    Altered {
        /// Which chunk.
        chunk: u8,
    },
    /// A hop sealed something that is no reply of its own to give.
    #[error("the reply of {0:?} is malformed")]
    Malformed(PeerId),
}

impl ReplyKeys {
    pub(crate) fn new(class: ReplyClass, hops: impl Iterator<Item = (PeerId, ReplyPair)>) -> Self {
        Self {
            class,
            hops: hops.map(|(peer, keys)| Hop { peer, keys }).collect(),
            next: 0,
            speaker: None,
            text: Zeroizing::default(),
        }
    }

    /// How long the reply is.
    pub fn class(&self) -> ReplyClass {
        self.class
    }

    /// Opens the next chunk as the first hop sent it; `None` while more are due. The chunk is used up.
    ///
    /// # Errors
    /// [`ReplyError`].
    pub fn open(&mut self, chunk: &mut [u8]) -> Result<Option<Reply>, ReplyError> {
        let opened = self.open_chunk(chunk);
        if opened.is_err() || self.next == self.class.chunks() {
            self.end();
        }
        opened
    }

    fn open_chunk(&mut self, chunk: &mut [u8]) -> Result<Option<Reply>, ReplyError> {
        if self.hops.is_empty() {
            return Err(ReplyError::Over);
        }
        let (expected, actual) = (self.class.chunk_bytes(), chunk.len());
        if expected != actual {
            return Err(ReplyError::Length { expected, actual });
        }
        let (depth, text) = self.find(chunk).ok_or(ReplyError::Altered { chunk: self.next })?;
        if self.speaker != Some(depth) {
            // A relay nearer by speaks instead of the one that was lost.
            self.speaker = Some(depth);
            let chunks = usize::from(self.class.chunks() - self.next);
            self.text = Zeroizing::new(Vec::with_capacity(chunks * self.class.text_bytes()));
        }
        self.text.extend_from_slice(&text);
        self.next += 1;
        if self.next < self.class.chunks() {
            return Ok(None);
        }
        let hop = self.hops.get(depth).ok_or(ReplyError::Over)?;
        let from = hop.peer;
        let is_last = depth + 1 == self.hops.len();
        let outcome = parse(&self.text, is_last).ok_or(ReplyError::Malformed(from))?;
        Ok(Some(Reply { from, outcome }))
    }

    /// Finds who speaks: the farthest hop that may, which nearly always does, or one before it that gave
    /// up, by stripping layer by layer and trying the key of each depth.
    fn find(&self, chunk: &mut [u8]) -> Option<(usize, Zeroizing<Vec<u8>>)> {
        let last = self.speaker.unwrap_or(self.hops.len().checked_sub(1)?);
        let mut stripped = chunk.to_vec();
        self.hops.iter().take(last).for_each(|hop| self.strip(hop, &mut stripped));
        if let Some(text) = self.unseal(last, &stripped) {
            return Some((last, text));
        }
        for (depth, hop) in self.hops.iter().enumerate().take(last) {
            if let Some(text) = self.unseal(depth, chunk) {
                return Some((depth, text));
            }
            self.strip(hop, chunk);
        }
        None
    }

    fn strip(&self, hop: &Hop, chunk: &mut [u8]) {
        apply(hop.keys.layer.expose(), u32::from(self.next), chunk);
    }

    /// The text of a chunk that the hop at this depth sealed.
    fn unseal(&self, depth: usize, chunk: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut text = Zeroizing::new(vec![0; self.class.text_bytes()]);
        let (sealed, tag) = chunk.split_at(chunk.len().checked_sub(CHUNK_TAG_BYTES)?);
        let nonce = nonce(u32::from(self.next));
        let aad = Aad::from(self.class.aad(self.next));
        let cipher = cipher(self.hops.get(depth)?.keys.end.expose());
        cipher.open_separate_gather(nonce, aad, sealed, tag, &mut text).ok()?;
        Some(text)
    }

    /// Erases the keys and what was said.
    fn end(&mut self) {
        self.hops.clear();
        self.text = Zeroizing::default();
    }
}

/// Reads what a hop said. Only the last one may give an answer.
fn parse(text: &[u8], is_last: bool) -> Option<ReplyOutcome> {
    let ([kind, cause, 0, 0, a, b, c, d], rest) = text.split_first_chunk()? else { return None };
    let len = u32::from_be_bytes([*a, *b, *c, *d]);
    let (answer, padding) = rest.split_at_checked(len as usize)?;
    if padding.iter().any(|byte| *byte != 0) {
        return None;
    }
    match (*kind, *cause) {
        (ANSWER, 0) if is_last => Some(ReplyOutcome::Answer(Zeroizing::new(answer.to_vec()))),
        (FAILURE, cause) if answer.is_empty() => {
            Some(ReplyOutcome::Failure(ReplyFailure::from_wire(cause)))
        }
        _ => None,
    }
}

impl fmt::Debug for ReplyKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyKeys").field("class", &self.class).finish_non_exhaustive()
    }
}

impl fmt::Debug for ReplyOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(answer) => write!(f, "Answer({} bytes)", answer.len()),
            Self::Failure(failure) => write!(f, "Failure({failure:?})"),
        }
    }
}
