//! What joins the core of consensus to the members' keys: the cosignatures, the policy of an epoch, and
//! the proof of a commit (`docs/protocol/proof.md`).

use exo_consensus::{Blob, Certificate, Root, Verifier, Voter, Voters};
use exo_crypto::{
    COSIGNER_KEY_BYTES, CosignerKey, CosignerSignature, IDENTITY_KEY_BYTES, IdentityKey,
};
use exo_log::{
    Checkpoint, CommitProof, Cosigner, MembersError, NoteSignature, Origin, Policy, TreeHash,
};
use exo_types::limits::VOTER_KEYS_BYTES_MAX;
use exo_types::{FederationId, PeerId};

/// Checks members' signatures: the identity's on statements and requests, the cosigner's on the log of
/// one federation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    origin: Origin,
}

impl Keys {
    /// The keys of a federation's voters.
    pub fn new(federation: &FederationId) -> Self {
        Self { origin: Origin::of_federation(federation) }
    }

    /// The log's name.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The checkpoint that a cosignature on this size and root signs; `None` for a size that no log has.
    pub fn checkpoint(&self, size: u64, root: Root) -> Option<Checkpoint> {
        Checkpoint::new(self.origin.clone(), size, TreeHash::new(root.0)).ok()
    }

    /// A voter as the one who cosigns this log; `None` when its keys are not those of a member.
    pub fn cosigner(&self, voter: &Voter) -> Option<Cosigner> {
        Some(Cosigner::new(self.origin.member(&voter.id).ok()?, cosigner_key(voter)?))
    }

    /// The policy by which proofs of an epoch with these voters are checked.
    ///
    /// # Errors
    /// [`MembersError`]: the [charter](super::Charter) gives no seats for which there is none.
    pub fn policy(&self, voters: &Voters) -> Result<Policy, MembersError> {
        let key = |(_, voter): (_, &Voter)| Some((voter.id, cosigner_key(voter)?));
        let members: Vec<(PeerId, CosignerKey)> = voters.iter().filter_map(key).collect();
        Policy::for_members(&self.origin, &members, voters.quorum().quorum())
    }

    /// The signature lines of a certificate, under the voters of its epoch.
    pub fn lines(&self, certificate: &Certificate, voters: &Voters) -> Vec<NoteSignature> {
        let line = |of: &exo_consensus::SeatSignature| {
            let cosigner = self.cosigner(voters.voter(of.seat)?)?;
            Some(cosigner.line(&CosignerSignature::from_bytes(of.signature.as_bytes())?))
        };
        certificate.signatures.iter().filter_map(line).collect()
    }

    /// The proof that the entry at an index is committed: from a certificate of a larger log, the voters
    /// of the certificate's epoch, and the entry's path in the log of the certificate's size. `None` when
    /// they do not fit each other.
    pub fn proof(
        &self,
        certificate: &Certificate,
        voters: &Voters,
        index: u64,
        path: Vec<TreeHash>,
    ) -> Option<CommitProof> {
        let checkpoint = self.checkpoint(certificate.size, certificate.root)?;
        CommitProof::new(checkpoint, index, path, self.lines(certificate, voters)).ok()
    }
}

impl Verifier for Keys {
    fn cosignature(&self, voter: &Voter, size: u64, root: Root, signature: &[u8]) -> bool {
        let (Some(cosigner), Some(checkpoint)) =
            (self.cosigner(voter), self.checkpoint(size, root))
        else {
            return false;
        };
        let signature = CosignerSignature::from_bytes(signature);
        signature.is_some_and(|signature| cosigner.verify_bare(&checkpoint, &signature).is_ok())
    }
}

/// A member as a voter: its keys are the identity key, 1952 bytes, and behind it the cosigner's, 1312.
pub fn voter(key: &IdentityKey, cosigner: &CosignerKey) -> Voter {
    let keys = [key.as_bytes().as_slice(), cosigner.as_bytes()].concat();
    // The two lengths are fixed, and their sum is below the bound.
    Voter { id: key.peer_id(), keys: Blob::new(keys).unwrap_or_default() }
}

/// The cosigner key of a voter; `None` unless its keys have the one length that there is.
pub fn cosigner_key(voter: &Voter) -> Option<CosignerKey> {
    let (_, cosigner) = voter.keys.as_bytes().split_at_checked(IDENTITY_KEY_BYTES)?;
    CosignerKey::from_bytes(cosigner)
}

const _: () = assert!(IDENTITY_KEY_BYTES + COSIGNER_KEY_BYTES <= VOTER_KEYS_BYTES_MAX);
