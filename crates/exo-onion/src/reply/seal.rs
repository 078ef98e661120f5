//! What a hop says itself: the answer at the end of the path, or a failure on the way.

use std::fmt;

use aws_lc_rs::aead::Aad;
use exo_crypto::SharedSecret;
use zeroize::Zeroizing;

use super::{ANSWER, FAILURE, REPLY_HEADER_BYTES, ReplyClass, ReplyFailure};
use crate::keys::{cipher, nonce};

/// Seals the one reply of the member that a packet was for.
pub struct ReplySealer {
    class: ReplyClass,
    key: SharedSecret,
    /// The first chunk that is this hop's own.
    first: u8,
}

/// The answer is longer than the asker's reply class carries.
#[derive(Debug, thiserror::Error)]
#[error("an answer of {actual} bytes where at most {max} fit")]
pub struct AnswerTooLong {
    /// What fits, bytes.
    pub max: usize,
    /// The length given, bytes.
    pub actual: usize,
    /// The sealer, for a shorter answer.
    pub sealer: ReplySealer,
}

impl ReplySealer {
    pub(crate) fn new(class: ReplyClass, key: SharedSecret, first: u8) -> Self {
        Self { class, key, first }
    }

    /// How long the reply is, and so the answer at most.
    pub fn class(&self) -> ReplyClass {
        self.class
    }

    /// The chunks to send back, in this order. The answer is padded to the reply's length.
    ///
    /// # Errors
    /// [`AnswerTooLong`]: leave out the lowest ranks and try again.
    pub fn answer(self, answer: &[u8]) -> Result<Vec<Vec<u8>>, AnswerTooLong> {
        let (max, actual) = (self.class.answer_bytes_max(), answer.len());
        if actual > max {
            return Err(AnswerTooLong { max, actual, sealer: self });
        }
        Ok(self.seal(ANSWER, 0, answer))
    }

    /// The chunks that say why there is no answer, as many and as long as those of an answer.
    pub fn failure(self, failure: ReplyFailure) -> Vec<Vec<u8>> {
        self.seal(FAILURE, failure.to_wire(), &[])
    }

    /// Seals the chunks from the first one of this hop's own. The key is used up.
    fn seal(self, kind: u8, cause: u8, answer: &[u8]) -> Vec<Vec<u8>> {
        let chunks = usize::from(self.class.chunks() - self.first);
        let mut text = Zeroizing::new(vec![0; chunks * self.class.text_bytes()]);
        let [a, b, c, d] = (answer.len() as u32).to_be_bytes();
        let header: [u8; REPLY_HEADER_BYTES] = [kind, cause, 0, 0, a, b, c, d];
        let whole = header.iter().chain(answer);
        text.iter_mut().zip(whole).for_each(|(to, from)| *to = *from);
        let cipher = cipher(self.key.expose());
        (self.first..self.class.chunks())
            .zip(text.chunks(self.class.text_bytes()))
            .map(|(index, text)| {
                let mut chunk = Vec::with_capacity(self.class.chunk_bytes());
                chunk.extend_from_slice(text);
                let nonce = nonce(u32::from(index));
                let aad = Aad::from(self.class.aad(index));
                // The library refuses lengths alone, of gigabytes.
                let tag = cipher
                    .seal_in_place_separate_tag(nonce, aad, &mut chunk)
                    .expect("a chunk is not too long to be sealed");
                chunk.extend_from_slice(tag.as_ref());
                chunk
            })
            .collect()
    }
}

impl fmt::Debug for ReplySealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplySealer").field("class", &self.class).finish_non_exhaustive()
    }
}
