//! Proofs of double signing: two headers that no honest author signs, enough by themselves.

use std::collections::BTreeMap;

use exo_crypto::{IdentityKey, Label, Signed, VerifyError};
use exo_types::PeerId;
use exo_types::codec::{CodecError, Wire};
use exo_types::limits::EVIDENCE_PER_AUTHOR_MAX;
use serde::{Deserialize, Serialize};

use crate::batch::{BatchHeader, header_hash};
use crate::hash::{EvidenceId, digest};
use crate::merge::Merge;

/// Two signed headers of one author, collection and number with different content. Whoever has the
/// author's key can check it offline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The header with the lesser hash.
    pub first: Signed<BatchHeader>,
    /// The header with the greater hash.
    pub second: Signed<BatchHeader>,
}

/// Why something is no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEvidence {
    /// A part of it is no header.
    #[error("this is no header: {0}")]
    Header(CodecError),
    /// The headers are of different authors, collections or numbers.
    #[error("the headers may both be signed: they are not of one place")]
    Apart,
    /// The headers are the same.
    #[error("the headers are the same, or not in the order of their hashes")]
    Same,
    /// A signature does not hold.
    #[error(transparent)]
    Signature(VerifyError),
}

impl Evidence {
    /// Puts two headers together, if they contradict each other. Signatures are not checked.
    ///
    /// # Errors
    /// [`NoEvidence`].
    pub fn of(a: Signed<BatchHeader>, b: Signed<BatchHeader>) -> Result<Self, NoEvidence> {
        let (first, second) =
            if header_hash(a.body()) < header_hash(b.body()) { (a, b) } else { (b, a) };
        let evidence = Self { first, second };
        evidence.place()?;
        Ok(evidence)
    }

    /// Author and number that the headers contradict each other about; nothing else is checked.
    ///
    /// # Errors
    /// [`NoEvidence`].
    pub fn place(&self) -> Result<(PeerId, u64), NoEvidence> {
        let a = self.first.claimed().map_err(NoEvidence::Header)?;
        let b = self.second.claimed().map_err(NoEvidence::Header)?;
        if (a.author, a.seq) != (b.author, b.seq) || a.collection != b.collection {
            return Err(NoEvidence::Apart);
        }
        // Two encodings of one header would be a way to frame its author.
        if a == b || header_hash(self.first.body()) >= header_hash(self.second.body()) {
            return Err(NoEvidence::Same);
        }
        Ok((a.author, a.seq))
    }

    /// Checks the proof against the author's key.
    ///
    /// # Errors
    /// [`NoEvidence`].
    pub fn verify(&self, key: &IdentityKey) -> Result<(PeerId, u64), NoEvidence> {
        let place = self.place()?;
        self.first.verify(key).map_err(NoEvidence::Signature)?;
        self.second.verify(key).map_err(NoEvidence::Signature)?;
        Ok(place)
    }

    /// The proof's id: over the two headers without their signatures.
    pub fn id(&self) -> EvidenceId {
        let hashes = [header_hash(self.first.body()).0, header_hash(self.second.body()).0];
        EvidenceId(digest(Label::EVIDENCE_ID, &[&hashes[0], &hashes[1]]))
    }

    fn order(&self) -> [[u8; 32]; 2] {
        [header_hash(self.first.body()).0, header_hash(self.second.body()).0]
    }
}

impl Wire for Evidence {
    const BYTES_MAX: usize = 2 * <Signed<BatchHeader> as Wire>::BYTES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        self.first.check()?;
        self.second.check()
    }
}

/// The proofs a replica holds. It only grows, up to a bound that is a join too: of one author and number
/// the proof with the least hashes, of one author the [`EVIDENCE_PER_AUTHOR_MAX`] least numbers. More
/// would prove nothing further.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvidenceSet {
    proofs: BTreeMap<(PeerId, u64), Evidence>,
}

impl EvidenceSet {
    /// Adds a proof that was verified, or made from headers that were; whether the set changed.
    pub fn insert(&mut self, evidence: Evidence) -> bool {
        let Ok(place) = evidence.place() else { return false };
        if self.proofs.get(&place).is_some_and(|held| held.order() <= evidence.order()) {
            return false;
        }
        self.proofs.insert(place, evidence);
        let (author, _) = place;
        let of_author = || (author, 0)..=(author, u64::MAX);
        if self.proofs.range(of_author()).count() > EVIDENCE_PER_AUTHOR_MAX {
            let last = self.proofs.range(of_author()).next_back().map(|(place, _)| *place);
            if let Some(last) = last {
                self.proofs.remove(&last);
                return last != place;
            }
        }
        true
    }

    /// Whether an author is proved to have signed two histories.
    pub fn accuses(&self, author: &PeerId) -> bool {
        self.proofs.range((*author, 0)..=(*author, u64::MAX)).next().is_some()
    }

    /// The proofs by author and number.
    pub fn iter(&self) -> impl Iterator<Item = (&(PeerId, u64), &Evidence)> {
        self.proofs.iter()
    }

    /// The proof about one author and number.
    pub fn get(&self, author: &PeerId, seq: u64) -> Option<&Evidence> {
        self.proofs.get(&(*author, seq))
    }

    /// Proofs held.
    pub fn len(&self) -> usize {
        self.proofs.len()
    }

    /// Whether nobody is accused.
    pub fn is_empty(&self) -> bool {
        self.proofs.is_empty()
    }
}

impl Merge for EvidenceSet {
    fn merge(&mut self, other: Self) {
        for evidence in other.proofs.into_values() {
            self.insert(evidence);
        }
    }

    fn joined_len(&self, other: &Self) -> usize {
        let mut joined = self.clone();
        joined.merge(other.clone());
        joined.len()
    }
}
