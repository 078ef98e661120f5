//! From what arrives to what the core accepts: signatures, hashes and shapes, without any state of the
//! protocol, so that it can be done on any thread.

use std::sync::Arc;

use exo_crypto::{IDENTITY_KEY_BYTES, IdentityKey, Signed};
use exo_types::{Epoch, FederationId, PeerId};

use crate::blob::Root;
use crate::certificate::Certificate;
use crate::entry::Point;
use crate::ledger::Ledger;
use crate::message::{
    BatchContent, Cosignature, FetchBatch, FetchLog, LogPiece, Message, NewView, NewViewMessage,
    PrePrepare, Statement, Status, ViewChange, ViewChangeMessage, Vote, statement_digest,
};
use crate::update::{Batch, Bundle, BundleHead, CheckedBatch, CheckedBundle};
use crate::voter::{Seat, Voter, Voters};

/// How signatures are checked. The methods that are given check a member's identity, which stands first
/// in the voter's keys; cosignatures are the log's affair.
pub trait Verifier {
    /// What a voter signed, if the signature holds.
    fn statement(&self, voter: &Voter, signed: &Signed<Statement>) -> Option<Statement> {
        signed.verify(&identity(voter)?).ok().map(exo_crypto::Verified::into_inner)
    }

    /// The head that a voter signed, if the signature holds.
    fn head(&self, voter: &Voter, signed: &Signed<BundleHead>) -> Option<BundleHead> {
        signed.verify(&identity(voter)?).ok().map(exo_crypto::Verified::into_inner)
    }

    /// Whether a voter cosigned the log of `size` leaves under `root`.
    fn cosignature(&self, voter: &Voter, size: u64, root: Root, signature: &[u8]) -> bool;
}

/// The identity key at the beginning of a voter's keys; `None` unless it is the key of that name.
pub fn identity(voter: &Voter) -> Option<IdentityKey> {
    let bytes = voter.keys.as_bytes().get(..IDENTITY_KEY_BYTES)?;
    IdentityKey::from_bytes(bytes).ok().filter(|key| key.peer_id() == voter.id)
}

/// Whose messages are accepted: see [`Replica::directory`](crate::Replica::directory).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// The federation.
    pub federation: FederationId,
    /// The epoch.
    pub epoch: Epoch,
    /// Its voters.
    pub voters: Arc<Voters>,
}

/// Why a message was refused. Nothing of it reached the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is of another epoch: early or late, not wrong.
    #[error("the message is of epoch {0}")]
    Epoch(Epoch),
    /// The sender has no vote in this epoch.
    #[error("{0:?} has no vote")]
    NoVote(PeerId),
    /// A signature, hash or shape does not hold.
    #[error("{from:?} sent a message that does not hold: {what}")]
    False {
        /// Who sent it.
        from: PeerId,
        /// What does not hold.
        what: &'static str,
    },
}

/// A message whose signatures, hashes and shape hold, and who sent it.
#[derive(Clone, Debug)]
pub struct Checked {
    pub(crate) from: PeerId,
    pub(crate) body: Body,
}

impl Checked {
    /// Who sent it.
    pub fn from(&self) -> PeerId {
        self.from
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Request(CheckedBundle),
    PrePrepare { vote: Vote, batch: Arc<CheckedBatch> },
    Prepare(Vote),
    Commit(Vote),
    Cosignature(Cosignature),
    ViewChange(CheckedViewChange, Option<Arc<Certificate>>),
    NewView(CheckedNewView),
    Status(Status),
    FetchBatch(FetchBatch),
    BatchContent(Epoch, Arc<CheckedBatch>),
    FetchLog(FetchLog),
    LogPiece(Box<LogPiece>),
}

/// A view change whose signature held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckedViewChange {
    pub(crate) seat: Seat,
    pub(crate) value: Arc<ViewChange>,
    pub(crate) signed: Signed<Statement>,
}

/// A new view whose signatures held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckedNewView {
    pub(crate) value: NewView,
    pub(crate) signed: Signed<Statement>,
    pub(crate) view_changes: Vec<CheckedViewChange>,
    pub(crate) certificate: Option<Arc<Certificate>>,
}

/// Checks a message from a peer.
///
/// # Errors
/// [`Refused`].
pub fn check<L: Ledger>(
    from: PeerId,
    message: Message,
    directory: &Directory,
    verifier: &impl Verifier,
) -> Result<Checked, Refused> {
    let checker = Checker { from, directory, verifier };
    let body = match message {
        Message::Request(bundle) => {
            Body::Request(checker.bundle(bundle).ok_or(checker.no("a request"))?)
        }
        Message::PrePrepare(PrePrepare { epoch, view, sequence, batch }) => {
            checker.votes(epoch)?;
            let batch = checker.batch(&batch)?;
            let vote = Vote { epoch, view, sequence, digest: batch.digest() };
            Body::PrePrepare { vote, batch }
        }
        Message::Prepare(vote) => {
            checker.votes(vote.epoch)?;
            Body::Prepare(vote)
        }
        Message::Commit(vote) => {
            checker.votes(vote.epoch)?;
            Body::Commit(vote)
        }
        Message::Cosignature(of) => {
            let voter = checker.votes(of.epoch)?;
            let Point { size, root, .. } = of.point;
            if !verifier.cosignature(voter, size, root, of.signature.as_bytes()) {
                return Err(checker.no("a cosignature"));
            }
            Body::Cosignature(of)
        }
        Message::ViewChange(of) => checker.view_change_message::<L>(*of)?,
        Message::NewView(of) => Body::NewView(checker.new_view::<L>(*of)?),
        Message::Status(status) => Body::Status(status),
        Message::FetchBatch(of) => {
            checker.votes(of.epoch)?;
            Body::FetchBatch(of)
        }
        Message::BatchContent(BatchContent { epoch, batch }) => {
            checker.epoch(epoch)?;
            Body::BatchContent(epoch, checker.batch(&batch)?)
        }
        Message::FetchLog(of) => Body::FetchLog(of),
        Message::LogPiece(of) => {
            checker.certificate::<L>(&of.certificate)?;
            Body::LogPiece(of)
        }
    };
    Ok(Checked { from, body })
}

struct Checker<'a, V> {
    from: PeerId,
    directory: &'a Directory,
    verifier: &'a V,
}

impl<'a, V: Verifier> Checker<'a, V> {
    fn no(&self, what: &'static str) -> Refused {
        Refused::False { from: self.from, what }
    }

    fn epoch(&self, epoch: Epoch) -> Result<(), Refused> {
        if epoch == self.directory.epoch { Ok(()) } else { Err(Refused::Epoch(epoch)) }
    }

    fn votes(&self, epoch: Epoch) -> Result<&'a Voter, Refused> {
        self.epoch(epoch)?;
        self.directory.voters.named(&self.from).ok_or(Refused::NoVote(self.from))
    }

    fn bundle(&self, bundle: Arc<Bundle>) -> Option<CheckedBundle> {
        let claimed = bundle.head.claimed().ok()?;
        let voter = self.directory.voters.named(&claimed.member)?;
        let head = self.verifier.head(voter, &bundle.head)?;
        let ours = head.federation == self.directory.federation && head.member == voter.id;
        ours.then(|| CheckedBundle::new(head, bundle)).flatten()
    }

    fn batch(&self, batch: &Batch) -> Result<Arc<CheckedBatch>, Refused> {
        let no = self.no("a batch");
        batch.check().map_err(|_| no)?;
        let bundles = batch.bundles.iter().map(|bundle| self.bundle(Arc::clone(bundle)));
        Ok(Arc::new(CheckedBatch::new(bundles.collect::<Option<_>>().ok_or(no)?)))
    }

    fn statement(&self, signed: &Signed<Statement>) -> Result<(Seat, Statement), Refused> {
        let no = self.no("a signed statement");
        let claimed = signed.claimed().map_err(|_| no)?;
        let (epoch, federation) = match &claimed {
            Statement::ViewChange(of) => (of.epoch, of.federation),
            Statement::NewView(of) => (of.epoch, of.federation),
        };
        self.epoch(epoch)?;
        let seat = self.directory.voters.seat(&claimed.sender()).ok_or(no)?;
        let voter = self.directory.voters.voter(seat).ok_or(no)?;
        if federation != self.directory.federation {
            return Err(no);
        }
        let statement = self.verifier.statement(voter, signed).ok_or(no)?;
        if statement == claimed { Ok((seat, statement)) } else { Err(no) }
    }

    fn view_change(&self, signed: Signed<Statement>) -> Result<CheckedViewChange, Refused> {
        match self.statement(&signed)? {
            (seat, Statement::ViewChange(value)) => {
                Ok(CheckedViewChange { seat, value: Arc::new(value), signed })
            }
            _ => Err(self.no("a view change")),
        }
    }

    fn view_change_message<L: Ledger>(&self, of: ViewChangeMessage) -> Result<Body, Refused> {
        let change = self.view_change(of.signed)?;
        if let Some(certificate) = &of.certificate {
            self.certificate::<L>(certificate)?;
            if certificate.point() != change.value.stable {
                return Err(self.no("a view change's certificate"));
            }
        }
        Ok(Body::ViewChange(change, of.certificate))
    }

    fn new_view<L: Ledger>(&self, of: NewViewMessage) -> Result<CheckedNewView, Refused> {
        let (seat, Statement::NewView(value)) = self.statement(&of.signed)? else {
            return Err(self.no("a new view"));
        };
        if seat != self.directory.voters.primary(value.view)
            || of.view_changes.len() != value.view_changes.len()
            || !self.directory.voters.quorum().is_quorum(of.view_changes.len())
        {
            return Err(self.no("a new view"));
        }
        let mut view_changes = Vec::with_capacity(of.view_changes.len());
        for (signed, (seat, digest)) in of.view_changes.into_iter().zip(&value.view_changes) {
            if statement_digest(&signed) != *digest {
                return Err(self.no("a new view's view change"));
            }
            let change = self.view_change(signed)?;
            if change.seat != *seat || change.value.view != value.view {
                return Err(self.no("a new view's view change"));
            }
            view_changes.push(change);
        }
        let highest = view_changes.iter().map(|c| c.value.stable).max_by_key(|p| p.sequence);
        if let Some(certificate) = &of.certificate {
            self.certificate::<L>(certificate)?;
            if Some(certificate.point()) != highest {
                return Err(self.no("a new view's certificate"));
            }
        }
        Ok(CheckedNewView { value, signed: of.signed, view_changes, certificate: of.certificate })
    }

    fn certificate<L: Ledger>(&self, certificate: &Certificate) -> Result<(), Refused> {
        self.epoch(certificate.epoch())?;
        let no = self.no("a certificate");
        certificate.check().map_err(|_| no)?;
        let voters = &self.directory.voters;
        // Cosignatures are counted only when each holds, and by seats that differ.
        let holds = |of: &crate::certificate::SeatSignature| {
            voters.voter(of.seat).is_some_and(|voter| {
                let signature = of.signature.as_bytes();
                self.verifier.cosignature(voter, certificate.size, certificate.root, signature)
            })
        };
        let certified = voters.quorum().is_quorum(certificate.signatures.len())
            && certificate.signatures.iter().all(holds)
            && certificate.shows_its_seal::<L>();
        if certified { Ok(()) } else { Err(no) }
    }
}
