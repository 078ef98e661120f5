//! The words two people compare when one joins the other's federation: a short authentication string
//! after commit and reveal (Vaudenay, CRYPTO 2005; the shape of ZRTP, RFC 6189 section 4.4).
//!
//! Somebody in the middle holds two sessions with two exporters and must make both show the same words.
//! The joiner commits to its nonce before it sees the inviter's, and the inviter gives its own before it
//! sees the joiner's, so neither side of the middle can search for a nonce that fits: it has one try, and
//! it succeeds once in 2^44.
//!
//! ```text
//! joiner                              inviter
//!    | -------- Commitment ------------> |   JoinerSas::start, InviterSas::start
//!    | <------- inviter's nonce -------- |
//!    | -------- joiner's nonce --------> |   JoinerSas::reveal, InviterSas::reveal
//!  words                               words
//! ```

use std::fmt;

use exo_types::PeerId;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::hash::{HASH_BYTES, hash};
use crate::label::Label;
use crate::words::Words;

/// A random number of one side for one try: 32 bytes, never used again.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SasNonce([u8; 32]);

/// The joiner's promise of its nonce.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment([u8; HASH_BYTES]);

/// The revealed nonce is not the one committed to: somebody is in the middle, or the other side is
/// broken. End the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side revealed another number than it had committed to")]
pub struct SasMismatch;

impl SasNonce {
    /// Takes 32 bytes fresh from a cryptographic random source.
    pub const fn new(random: [u8; 32]) -> Self {
        Self(random)
    }
}

impl Commitment {
    /// The raw bytes.
    pub const fn to_bytes(self) -> [u8; HASH_BYTES] {
        self.0
    }
}

impl fmt::Debug for SasNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Before the reveal it is a secret.
        f.write_str("SasNonce(…)")
    }
}

impl fmt::Debug for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Commitment({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// What both sides know of the session in which they compare words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SasSession {
    /// Exported from the handshake under [`Label::EXPORTER`]: different in every session.
    pub exporter: [u8; 32],
    /// Who joins.
    pub joiner: PeerId,
    /// Whose federation it joins.
    pub inviter: PeerId,
}

impl fmt::Debug for SasSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SasSession")
            .field("joiner", &self.joiner)
            .field("inviter", &self.inviter)
            .finish_non_exhaustive()
    }
}

/// The joiner between its commitment and its reveal.
#[derive(Debug)]
pub struct JoinerSas {
    session: SasSession,
    nonce: SasNonce,
}

impl JoinerSas {
    /// Begins: send the commitment.
    pub fn start(session: SasSession, nonce: SasNonce) -> (Self, Commitment) {
        (Self { session, nonce }, commit(&nonce, &session.exporter))
    }

    /// Ends with the inviter's nonce: send the joiner's and show the words.
    pub fn reveal(self, inviter_nonce: &SasNonce) -> (SasNonce, Words) {
        let SasSession { exporter, joiner, inviter } = self.session;
        (self.nonce, words(&exporter, joiner, inviter, &self.nonce, inviter_nonce))
    }
}

/// The inviter between the joiner's commitment and its reveal.
#[derive(Debug)]
pub struct InviterSas {
    session: SasSession,
    nonce: SasNonce,
    commitment: Commitment,
}

impl InviterSas {
    /// Begins with the joiner's commitment: send the nonce given back.
    pub fn start(session: SasSession, nonce: SasNonce, commitment: Commitment) -> (Self, SasNonce) {
        (Self { session, nonce, commitment }, nonce)
    }

    /// Ends with the joiner's nonce: show the words.
    ///
    /// # Errors
    /// [`SasMismatch`].
    pub fn reveal(self, joiner_nonce: &SasNonce) -> Result<Words, SasMismatch> {
        let SasSession { exporter, joiner, inviter } = self.session;
        verify_commit(&self.commitment, joiner_nonce, &exporter)?;
        Ok(words(&exporter, joiner, inviter, joiner_nonce, &self.nonce))
    }
}

/// Commits to a nonce in the session of this exporter.
pub fn commit(nonce: &SasNonce, exporter: &[u8; 32]) -> Commitment {
    Commitment(hash(Label::SAS_COMMIT, &[exporter, &nonce.0]))
}

/// Checks a revealed nonce.
///
/// # Errors
/// [`SasMismatch`].
pub fn verify_commit(
    commitment: &Commitment,
    nonce: &SasNonce,
    exporter: &[u8; 32],
) -> Result<(), SasMismatch> {
    let holds = commit(nonce, exporter).0.ct_eq(&commitment.0);
    if holds.into() { Ok(()) } else { Err(SasMismatch) }
}

/// The words of a session. [`JoinerSas`] and [`InviterSas`] keep the order that makes them safe.
pub fn words(
    exporter: &[u8; 32],
    joiner: PeerId,
    inviter: PeerId,
    joiner_nonce: &SasNonce,
    inviter_nonce: &SasNonce,
) -> Words {
    let parts: [&[u8]; 5] =
        [exporter, joiner.as_bytes(), inviter.as_bytes(), &joiner_nonce.0, &inviter_nonce.0];
    Words::from_hash(&hash(Label::SAS_WORDS, &parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOINER: SasNonce = SasNonce::new([1; 32]);
    const INVITER: SasNonce = SasNonce::new([2; 32]);

    fn session(exporter: u8) -> SasSession {
        SasSession {
            exporter: [exporter; 32],
            joiner: PeerId::new([3; 32]),
            inviter: PeerId::new([4; 32]),
        }
    }

    #[test]
    fn both_sides_of_one_session_see_the_same_words() {
        let (joiner, commitment) = JoinerSas::start(session(9), JOINER);
        let (inviter, inviter_nonce) = InviterSas::start(session(9), INVITER, commitment);
        let (joiner_nonce, words) = joiner.reveal(&inviter_nonce);
        assert_eq!(inviter.reveal(&joiner_nonce), Ok(words));
    }

    #[test]
    fn somebody_in_the_middle_who_passes_all_messages_on_is_found_at_the_reveal() {
        let (joiner, commitment) = JoinerSas::start(session(9), JOINER);
        let (inviter, inviter_nonce) = InviterSas::start(session(8), INVITER, commitment);
        let (joiner_nonce, _) = joiner.reveal(&inviter_nonce);
        assert_eq!(inviter.reveal(&joiner_nonce), Err(SasMismatch));
    }

    #[test]
    fn somebody_in_the_middle_with_nonces_of_its_own_shows_other_words() {
        let middle = SasNonce::new([7; 32]);
        let (joiner, _) = JoinerSas::start(session(9), JOINER);
        let (_, at_the_joiner) = joiner.reveal(&middle);
        let (_, commitment) = JoinerSas::start(session(8), middle);
        let (inviter, _) = InviterSas::start(session(8), INVITER, commitment);
        assert_ne!(inviter.reveal(&middle), Ok(at_the_joiner));
    }

    #[test]
    fn another_nonce_than_the_committed_is_refused() {
        let commitment = commit(&JOINER, &[9; 32]);
        assert_eq!(verify_commit(&commitment, &JOINER, &[9; 32]), Ok(()));
        assert_eq!(verify_commit(&commitment, &INVITER, &[9; 32]), Err(SasMismatch));
        assert_eq!(verify_commit(&commitment, &JOINER, &[8; 32]), Err(SasMismatch));
    }

    #[test]
    fn every_part_of_a_session_counts_and_the_roles_do_not_swap() {
        let of = |exporter: u8, joiner: u8, inviter: u8, a: SasNonce, b: SasNonce| {
            words(&[exporter; 32], PeerId::new([joiner; 32]), PeerId::new([inviter; 32]), &a, &b)
        };
        let base = of(9, 3, 4, JOINER, INVITER);
        let others = [
            of(8, 3, 4, JOINER, INVITER),
            of(9, 4, 3, JOINER, INVITER),
            of(9, 5, 4, JOINER, INVITER),
            of(9, 3, 5, JOINER, INVITER),
            of(9, 3, 4, INVITER, JOINER),
            of(9, 3, 4, JOINER, JOINER),
        ];
        assert!(others.iter().all(|other| *other != base));
    }

    #[test]
    fn debug_shows_neither_nonce_nor_exporter() {
        let (joiner, _) = JoinerSas::start(session(0xab), SasNonce::new([0xcd; 32]));
        let text = format!("{joiner:?}").to_lowercase();
        assert!(!text.contains("171") && !text.contains("205"), "{text}");
        assert!(!text.contains("abab") && !text.contains("cdcd"), "{text}");
    }
}
