//! The layer that a relay puts on the chunks of a reply that pass it.

use std::fmt;

use super::{ReplyClass, ReplyFailure, ReplySealer};
use crate::keys::{ReplyPair, apply};

/// All that a relay keeps of a packet that it sent on, beside the stream that the packet came by.
///
/// Each chunk has its own number and each number is used once.
pub struct RelayReply {
    class: ReplyClass,
    keys: ReplyPair,
    next: u8,
}

/// Why a chunk does not go back: the next hop does not keep to the format. [`RelayReply::fail`] ends the
/// reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayerError {
    /// Not the length of a chunk.
    #[error("a chunk of {actual} bytes where {expected} are due")]
    Length {
        /// The length due, bytes.
        expected: usize,
        /// The length found, bytes.
        actual: usize,
    },
    /// All chunks of the reply have passed.
    #[error("a chunk more than the reply has")]
    Complete,
}

impl RelayReply {
    pub(crate) fn new(class: ReplyClass, keys: ReplyPair) -> Self {
        Self { class, keys, next: 0 }
    }

    /// How long the reply is.
    pub fn class(&self) -> ReplyClass {
        self.class
    }

    /// Whether all chunks have passed.
    pub fn is_complete(&self) -> bool {
        self.next == self.class.chunks()
    }

    /// Puts this relay's layer on the next chunk, in place; its length stays.
    ///
    /// # Errors
    /// [`LayerError`]; the chunk is as it was and no number is used.
    pub fn layer(&mut self, chunk: &mut [u8]) -> Result<(), LayerError> {
        if self.is_complete() {
            return Err(LayerError::Complete);
        }
        let (expected, actual) = (self.class.chunk_bytes(), chunk.len());
        if expected != actual {
            return Err(LayerError::Length { expected, actual });
        }
        apply(self.keys.layer.expose(), u32::from(self.next), chunk);
        self.next += 1;
        Ok(())
    }

    /// Gives up: the chunks to send back in place of those that have not come. None when all have.
    pub fn fail(self, failure: ReplyFailure) -> Vec<Vec<u8>> {
        ReplySealer::new(self.class, self.keys.end, self.next).failure(failure)
    }
}

impl fmt::Debug for RelayReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayReply")
            .field("class", &self.class)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
