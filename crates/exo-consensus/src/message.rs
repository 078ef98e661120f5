//! What replicas say to each other, and what they sign.
//!
//! Channels authenticate both ends, so votes carry no signature. VIEW-CHANGE and NEW-VIEW are shown to
//! third parties and are signed. No type here contains itself.

use std::sync::Arc;

use exo_crypto::{Label, Signed, SignedBody, hash};
use exo_types::codec::{CodecError, Wire, bound, invalid};
use exo_types::limits::{
    ACCEPTED_DIGESTS_PER_SEQUENCE_MAX, ACCEPTED_SEQUENCES_MAX, BATCH_BYTES_MAX,
    COSIGNATURE_BYTES_MAX, FRAME_BYTES_MAX, TRANSFER_BATCHES_MAX, TRANSFER_BYTES_MAX,
    TREE_HASHES_MAX, VOTERS_MAX,
};
use exo_types::{Epoch, FederationId, PeerId, Sequence, View, bounded};
use serde::{Deserialize, Serialize};

use crate::blob::{Blob, Digest, Root};
use crate::certificate::Certificate;
use crate::entry::{LoggedBatch, Point};
use crate::update::{Batch, Bundle};
use crate::voter::Seat;

/// One message between two replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Updates that their member asks to have committed.
    Request(Arc<Bundle>),
    /// PRE-PREPARE: the primary gives a batch its place.
    PrePrepare(PrePrepare),
    /// PREPARE: the sender accepted that place for that batch in that view.
    Prepare(Vote),
    /// COMMIT: the sender saw a quorum accept it.
    Commit(Vote),
    /// CHECKPOINT: the sender's cosignature on its log.
    Cosignature(Cosignature),
    /// VIEW-CHANGE, and the certificate of the checkpoint it names unless that is the epoch's beginning.
    ViewChange(Box<ViewChangeMessage>),
    /// NEW-VIEW and the view changes that it stands on.
    NewView(Box<NewViewMessage>),
    /// What the sender has, so that others send what it lacks.
    Status(Status),
    /// The sender needs the content of a batch.
    FetchBatch(FetchBatch),
    /// The content of a batch.
    BatchContent(BatchContent),
    /// The sender needs the log from a size on.
    FetchLog(FetchLog),
    /// A piece of the log.
    LogPiece(Box<LogPiece>),
}

/// See [`Message::PrePrepare`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrePrepare {
    /// Epoch of the view.
    pub epoch: Epoch,
    /// The view.
    pub view: View,
    /// The place.
    pub sequence: Sequence,
    /// The batch.
    pub batch: Batch,
}

/// PREPARE and COMMIT have this shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Vote {
    /// Epoch of the view.
    pub epoch: Epoch,
    /// The view.
    pub view: View,
    /// The place.
    pub sequence: Sequence,
    /// Name of the batch.
    pub digest: Digest,
}

/// See [`Message::Cosignature`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cosignature {
    /// Epoch of the batch.
    pub epoch: Epoch,
    /// What is cosigned: the signature is on size and root.
    pub point: Point,
    /// The cosignature.
    pub signature: Blob<COSIGNATURE_BYTES_MAX>,
}

/// What is signed with a member's identity in this protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Statement {
    /// The signer left for a view.
    ViewChange(ViewChange),
    /// The signer leads a view.
    NewView(NewView),
}

/// VIEW-CHANGE (Castro & Liskov 2002, section 4.5.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ViewChange {
    /// The federation.
    pub federation: FederationId,
    /// The epoch.
    pub epoch: Epoch,
    /// The view that the sender is ready for.
    pub view: View,
    /// Who says so.
    pub sender: PeerId,
    /// The last certified checkpoint that it knows.
    pub stable: Point,
    /// P: for each place the batch that it prepared last, and in which view. By place.
    #[serde(deserialize_with = "bounded::list::<_, _, PREPARED_MAX>")]
    pub prepared: Vec<Claim>,
    /// Q: for each place the batches that it accepted, each with the last view. By place and digest.
    #[serde(deserialize_with = "bounded::list::<_, _, ACCEPTED_MAX>")]
    pub accepted: Vec<Claim>,
}

/// One element of P or Q.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// The place.
    pub sequence: Sequence,
    /// Name of the batch.
    pub digest: Digest,
    /// The view.
    pub view: View,
}

/// NEW-VIEW (Castro & Liskov 2002, section 4.5.1): which view changes it stands on. What is proposed
/// again follows from them, so it is not said.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NewView {
    /// The federation.
    pub federation: FederationId,
    /// The epoch.
    pub epoch: Epoch,
    /// The view.
    pub view: View,
    /// Its primary.
    pub sender: PeerId,
    /// The view changes by seat and [`statement_digest`].
    #[serde(deserialize_with = "bounded::list::<_, _, VOTERS_MAX>")]
    pub view_changes: Vec<(Seat, Digest)>,
}

/// A view change as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewChangeMessage {
    /// The signed statement.
    pub signed: Signed<Statement>,
    /// Proof of its checkpoint; none at the beginning of an epoch.
    pub certificate: Option<Arc<Certificate>>,
}

/// A new view as it travels, from its primary or from anybody who has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewViewMessage {
    /// The signed statement.
    pub signed: Signed<Statement>,
    /// The view changes, in the order in which the statement names them.
    #[serde(deserialize_with = "bounded::list::<_, _, VOTERS_MAX>")]
    pub view_changes: Vec<Signed<Statement>>,
    /// Proof of the highest checkpoint among them; none at the beginning of an epoch.
    pub certificate: Option<Arc<Certificate>>,
}

/// See [`Message::Status`] (Castro & Liskov 2002, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Status {
    /// The sender's epoch.
    pub epoch: Epoch,
    /// Its view.
    pub view: View,
    /// Whether it is in that view, or only on the way there.
    pub active: bool,
    /// The last batch it carried out.
    pub executed: Sequence,
    /// The last certified checkpoint it knows.
    pub stable: Sequence,
    /// Bit `i`: it accepted a batch at `executed + 1 + i` in its view.
    pub accepted: u32,
    /// Bit `i`: it is prepared there.
    pub prepared: u32,
    /// Bit `i`: it knows that the place is committed.
    pub committed: u32,
    /// Seats whose view change for its view it has, where it is on the way there.
    pub view_changes: u32,
}

/// See [`Message::FetchBatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FetchBatch {
    /// The epoch.
    pub epoch: Epoch,
    /// Name of the batch.
    pub digest: Digest,
}

/// See [`Message::BatchContent`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchContent {
    /// The epoch.
    pub epoch: Epoch,
    /// The batch.
    pub batch: Batch,
}

/// See [`Message::FetchLog`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FetchLog {
    /// The asker's epoch: what it is sent is certified by this epoch's voters.
    pub epoch: Epoch,
    /// Leaves that it has.
    pub size: u64,
}

/// See [`Message::LogPiece`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPiece {
    /// A checkpoint of the asker's epoch, its last one when that has ended.
    pub certificate: Arc<Certificate>,
    /// Leaves before the batches.
    pub from: u64,
    /// The batches after them; none when the asker only lacked the certificate.
    #[serde(deserialize_with = "bounded::list::<_, _, TRANSFER_BATCHES_MAX>")]
    pub batches: Vec<LoggedBatch>,
    /// That the log up to the last of them is the beginning of the certified one.
    #[serde(deserialize_with = "bounded::list::<_, _, TREE_HASHES_MAX>")]
    pub proof: Vec<Root>,
}

impl Statement {
    /// Who signs it.
    pub fn sender(&self) -> PeerId {
        match self {
            Self::ViewChange(of) => of.sender,
            Self::NewView(of) => of.sender,
        }
    }
}

/// The name of a signed statement: over what is signed, not over the signature.
pub fn statement_digest(signed: &Signed<Statement>) -> Digest {
    Digest(hash(Label::CONSENSUS, &[b"statement", signed.body()]))
}

impl ViewChange {
    fn check(&self) -> Result<(), CodecError> {
        bound(self.prepared.len(), PREPARED_MAX)?;
        bound(self.accepted.len(), ACCEPTED_MAX)?;
        let ordered = self.prepared.windows(2).all(|pair| pair[0].sequence < pair[1].sequence)
            && self.accepted.windows(2).all(|pair| {
                (pair[0].sequence, pair[0].digest) < (pair[1].sequence, pair[1].digest)
            });
        let within = |claim: &Claim| {
            let past = claim.sequence.since(self.stable.sequence);
            (1..=ACCEPTED_SEQUENCES_MAX).contains(&past) && claim.view < self.view
        };
        match ordered && self.prepared.iter().chain(&self.accepted).all(within) {
            true => Ok(()),
            false => Err(invalid("a view change whose claims are out of order or of bounds")),
        }
    }
}

impl Wire for Statement {
    const BYTES_MAX: usize = 256 + (PREPARED_MAX + ACCEPTED_MAX) * 56;

    fn check(&self) -> Result<(), CodecError> {
        match self {
            Self::ViewChange(of) => of.check(),
            Self::NewView(of) => {
                bound(of.view_changes.len(), VOTERS_MAX)?;
                match of.view_changes.windows(2).all(|pair| pair[0].0 < pair[1].0) {
                    true => Ok(()),
                    false => Err(invalid("a new view whose seats are out of order")),
                }
            }
        }
    }
}

impl SignedBody for Statement {
    const LABEL: Label = Label::CONSENSUS;

    fn signer(&self) -> Option<PeerId> {
        Some(self.sender())
    }
}

impl Wire for Message {
    const BYTES_MAX: usize = FRAME_BYTES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        match self {
            Self::Request(bundle) => bundle.check(),
            Self::PrePrepare(of) => of.batch.check(),
            Self::BatchContent(of) => of.batch.check(),
            Self::ViewChange(of) => of.certificate.as_ref().map_or(Ok(()), |c| c.check()),
            Self::NewView(of) => {
                bound(of.view_changes.len(), VOTERS_MAX)?;
                of.certificate.as_ref().map_or(Ok(()), |c| c.check())
            }
            Self::LogPiece(of) => {
                bound(of.batches.len(), TRANSFER_BATCHES_MAX)?;
                of.certificate.check()?;
                of.batches.iter().try_for_each(LoggedBatch::check)?;
                let bytes: usize = of.batches.iter().map(LoggedBatch::bytes).sum();
                bound(bytes, PIECE_BYTES_MAX)
            }
            Self::Prepare(_)
            | Self::Commit(_)
            | Self::Cosignature(_)
            | Self::Status(_)
            | Self::FetchBatch(_)
            | Self::FetchLog(_) => Ok(()),
        }
    }

    fn room(&self) -> usize {
        match self {
            Self::Request(bundle) => bundle.room(),
            Self::PrePrepare(of) => of.batch.room(),
            Self::BatchContent(of) => of.batch.room(),
            _ => 0,
        }
    }
}

/// Places that P may name.
const PREPARED_MAX: usize = ACCEPTED_SEQUENCES_MAX as usize;
/// Elements of Q.
const ACCEPTED_MAX: usize = PREPARED_MAX * ACCEPTED_DIGESTS_PER_SEQUENCE_MAX;
/// Length of the batches in one piece of the log: up to the bound and one batch, with what each leaf
/// takes beside its update, bytes.
const PIECE_BYTES_MAX: usize = TRANSFER_BYTES_MAX + 4 * BATCH_BYTES_MAX;
