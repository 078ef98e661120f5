//! What must be on the disk before what depends on it leaves: the records of a replica's journal.
//!
//! Whatever a replica says that binds it is preceded by a record of it: a batch it accepted (before its
//! PRE-PREPARE or PREPARE), what it prepared (before its COMMIT), its view changes and new views, what it
//! appended to the log and cosigned, the requests it signed. The [outbox](crate::effect) gives a message
//! out only when all records before it are durable, so no path of the code can forget to wait.
//!
//! One record [binds](Record::binds) nobody: a certified checkpoint. What depends on it may leave before it
//! is on the disk.
//!
//! The log's batches are records of the same journal, in the same order: a driver that keeps them in a
//! file of their own reports a number durable when both files are.

use std::borrow::Cow;
use std::sync::Arc;

use exo_types::limits::{
    ACCEPTED_SEQUENCES_MAX, BUNDLE_UPDATES_MAX, FRAME_BYTES_MAX, SUBMISSIONS_WAITING_MAX,
    TREE_HASHES_MAX, VOTERS_MAX,
};
use exo_types::{Epoch, FederationId, PeerId, Sequence, View, bounded};
use serde::{Deserialize, Serialize};

use exo_crypto::Signed;
use exo_types::codec::{CodecError, Wire, bound};

use crate::blob::{Digest, Root};
use crate::certificate::Certificate;
use crate::entry::{Appended, Point, Seal};
use crate::ledger::Ledger;
use crate::message::{NewView, Statement, ViewChange};
use crate::replica::{Phase, Replica};
use crate::state::Replicated;
use crate::update::{Batch, Bundle};
use crate::voter::{Seat, Voters};

/// One record of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The first record of all: whose journal it is, and how it began.
    Founded {
        /// The federation.
        federation: FederationId,
        /// The replica.
        replica: PeerId,
        /// The voters of the first epoch.
        voters: Arc<Voters>,
        /// What it may do.
        role: Role,
    },
    /// The first record of a journal that was begun anew.
    Base(Box<Base>),
    /// What the replica may do has changed.
    Role(Role),
    /// The content of a batch that later records name.
    Batch(Batch),
    /// It accepted a batch: the guard of PRE-PREPARE and PREPARE.
    Accepted(Guard),
    /// It is prepared: the guard of COMMIT.
    Prepared(Guard),
    /// It left for a view: the guard of VIEW-CHANGE.
    ViewChange(Box<Leaving>),
    /// It goes into a view, or leads into it: the guard of NEW-VIEW.
    NewView(Box<JournaledNewView>),
    /// The leaves of a committed batch.
    Append(Appended),
    /// It asks for its cosignature on a checkpoint.
    Cosigned(Point),
    /// A checkpoint is certified.
    Certified(Arc<Certificate>),
    /// A bundle of its own, and whose updates are in it.
    Submitted {
        /// The bundle.
        bundle: Arc<Bundle>,
        /// The callers' names for its updates.
        #[serde(deserialize_with = "bounded::list::<_, _, BUNDLE_UPDATES_MAX>")]
        tickets: Vec<u64>,
    },
}

/// Whether a replica votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// It votes where it has a seat.
    Voter,
    /// It has never voted, and votes from the first certified checkpoint on with which an epoch begins
    /// that it has a seat in.
    Joining,
    /// It lost its journal and does not know what it said. It votes from the epoch on that its own
    /// request to rejoin begins: what it said before was in epochs that are over by then.
    Wiped {
        /// Of its request.
        nonce: u64,
    },
}

/// What a vote is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Guard {
    /// The epoch.
    pub epoch: Epoch,
    /// The view.
    pub view: View,
    /// The place.
    pub sequence: Sequence,
    /// Name of the batch.
    pub digest: Digest,
}

/// A view change in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// What is signed.
    pub change: ViewChange,
    /// Proof of its checkpoint; none at the beginning of an epoch.
    pub certificate: Option<Arc<Certificate>>,
}

/// A new view in the journal: before its primary has signed it, or as it was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournaledNewView {
    /// What is signed.
    pub statement: NewView,
    /// The signature's carrier, once there is one.
    pub signed: Option<Signed<Statement>>,
    /// The view changes it stands on.
    #[serde(deserialize_with = "bounded::list::<_, _, VOTERS_MAX>")]
    pub view_changes: Vec<(Seat, Signed<Statement>)>,
    /// Proof of the highest checkpoint among them.
    pub certificate: Option<Arc<Certificate>>,
}

/// A replica's state where a journal is begun anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The federation.
    pub federation: FederationId,
    /// The replica.
    pub replica: PeerId,
    /// What it may do.
    pub role: Role,
    /// The replicated state.
    pub state: Replicated,
    /// Leaves in the log.
    pub size: u64,
    /// Peaks of the log's tree.
    #[serde(deserialize_with = "bounded::list::<_, _, TREE_HASHES_MAX>")]
    pub peaks: Vec<Root>,
    /// The last certified checkpoint.
    pub stable: Point,
    /// Its proof.
    pub certificate: Option<Arc<Certificate>>,
    /// What is committed after it.
    #[serde(deserialize_with = "bounded::list::<_, _, PAST_MAX>")]
    pub past: Vec<Past>,
    /// Own updates that are committed and not yet certified: the callers' names and the leaves.
    #[serde(deserialize_with = "bounded::list::<_, _, SUBMISSIONS_WAITING_MAX>")]
    pub owed: Vec<(u64, u64)>,
}

/// A batch that was carried out and is not yet certified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// The checkpoint after it.
    pub point: Point,
    /// Its seal.
    pub seal: Seal,
    /// Peaks of the log without the seal.
    #[serde(deserialize_with = "bounded::list::<_, _, TREE_HASHES_MAX>")]
    pub peaks: Vec<Root>,
}

impl Wire for Record {
    const BYTES_MAX: usize = FRAME_BYTES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        match self {
            Self::Batch(batch) => batch.check(),
            Self::Append(batch) => batch.check(),
            Self::Submitted { bundle, .. } => bundle.check(),
            _ => Ok(()),
        }
    }

    fn room(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.room(),
            Self::Submitted { bundle, tickets } => bundle.room() + 10 * tickets.len(),
            _ => 0,
        }
    }
}

impl Record {
    /// Whether a replica would contradict itself without it. A driver may report one that does not durable
    /// as soon as all before it are, and has a sync less to wait for.
    ///
    /// A certified checkpoint can be lost: whoever gave a cosignature for it has its own record of that and
    /// gives it again. The one that ends an epoch is kept like the rest, for the next epoch stands on it.
    pub fn binds(&self) -> bool {
        !matches!(self, Self::Certified(certificate) if certificate.seal.turn.is_none())
    }

    /// Its encoding, without making it anew where it was made already.
    ///
    /// # Errors
    /// As [`Wire::to_wire`].
    pub fn encoded(&self) -> Result<Cow<'_, [u8]>, CodecError> {
        match self {
            Self::Append(batch) if !batch.record().is_empty() => {
                self.check()?;
                bound(batch.record().len(), Self::BYTES_MAX)?;
                Ok(Cow::Borrowed(batch.record()))
            }
            _ => self.to_wire().map(Cow::Owned),
        }
    }
}

impl<L: Ledger> Replica<L> {
    /// Everything that binds this replica, as the records of a new journal.
    pub(crate) fn records(&self) -> Vec<Record> {
        let mut records = vec![Record::Base(Box::new(Base {
            federation: self.config.federation,
            replica: self.config.me,
            role: self.role,
            state: self.state.clone(),
            size: self.ledger.size(),
            peaks: self.ledger.peaks(),
            stable: self.stable,
            certificate: self.certificate.clone(),
            past: self.past.values().cloned().collect(),
            owed: self.client.owed(),
        }))];
        match (&self.leaving, &self.entering, &self.new_view) {
            (Some(change), None, _) => records.push(Record::ViewChange(change.clone())),
            (Some(change), Some(entering), _) => {
                records.push(Record::ViewChange(change.clone()));
                records.push(Record::NewView(Box::new(entering.journaled())));
            }
            (None, _, Some(new_view)) => {
                records.push(Record::NewView(Box::new(new_view.journaled())));
            }
            (None, _, None) => {}
        }
        for batch in self.batches.values() {
            records.push(Record::Batch(batch.to_batch()));
        }
        let guard =
            |sequence, (view, digest)| Guard { epoch: self.state.epoch, view, sequence, digest };
        for (sequence, slot) in &self.slots {
            let mut accepted = slot.accepted.clone();
            accepted.sort_unstable();
            records.extend(accepted.iter().map(|b| Record::Accepted(guard(*sequence, *b))));
            records.extend(slot.prepared.iter().map(|b| Record::Prepared(guard(*sequence, *b))));
        }
        records.extend(self.client.outstanding().map(|(bundle, tickets)| Record::Submitted {
            bundle: Arc::clone(bundle),
            tickets: tickets.to_vec(),
        }));
        records
    }

    /// Begins the journal anew now and then, so that it stays short.
    pub(crate) fn rotate(&mut self) {
        let settled = self.stable.sequence <= self.state.executed;
        if settled && self.outbox.recorded() - self.rotated >= self.config.rotate_records {
            let records = self.records();
            self.outbox.rotate(records);
            self.rotated = self.outbox.recorded();
        }
    }

    pub(crate) fn guard(&self, sequence: Sequence, digest: Digest) -> Guard {
        debug_assert!(self.phase == Phase::Active, "votes are cast in a view");
        Guard { epoch: self.state.epoch, view: self.view, sequence, digest }
    }
}

const PAST_MAX: usize = 2 * ACCEPTED_SEQUENCES_MAX as usize;
