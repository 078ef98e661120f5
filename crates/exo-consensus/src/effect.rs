//! What goes into a replica and what it wants done.

use std::collections::VecDeque;
use std::sync::Arc;

use exo_crypto::Signed;
use exo_types::limits::CONSENSUS_OUTBOX_MAX;
use exo_types::{Epoch, PeerId, Sequence};

use crate::blob::Root;
use crate::certificate::Certificate;
use crate::check::Checked;
use crate::entry::LoggedBatch;
use crate::guard::Record;
use crate::message::{FetchLog, Message, Statement};
use crate::update::{BundleHead, Update};
use crate::voter::Voters;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed: due by [`Replica::next_wake`](crate::Replica::next_wake).
    Tick,
    /// A message whose signatures held.
    Received(Box<Checked>),
    /// This node asks for an update to be committed. The ticket is told back; it is the caller's.
    Submit {
        /// The caller's name for it.
        ticket: u64,
        /// The update.
        update: Update,
    },
    /// The answer to [`Effect::Sign`].
    Signed(Box<Signed<Statement>>),
    /// The answer to [`Effect::SignBundle`].
    BundleSigned(Box<Signed<BundleHead>>),
    /// The answer to [`Effect::Cosign`].
    Cosigned {
        /// As asked.
        size: u64,
        /// As asked.
        root: Root,
        /// The cosignature.
        signature: Vec<u8>,
    },
    /// A piece of the log from this peer was asked for and refused by [`check`](crate::check()): somebody
    /// else is asked.
    FalsePiece(PeerId),
    /// All records up to this number that [bind](Record::binds) are on the disk.
    Durable(u64),
    /// This node heard that a peer has news: say our status to it now, so that it tells what it has. As
    /// an answer to a status it is said so often and no more.
    Poke(PeerId),
}

/// Something to be done. Effects are carried out in order. One that must not happen before something is
/// on the disk is not given out before [`Input::Durable`] says so: it cannot be sent too early.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write a record to the journal. Records are written in order; after a crash those that are left
    /// are the first ones.
    Persist {
        /// Its number, for [`Input::Durable`].
        number: u64,
        /// The record.
        record: Record,
    },
    /// Begin the journal anew with these records, which say all that the old one does: the old one may
    /// be removed when they are on the disk. Batches appended so far stay in the log.
    Rotate {
        /// The number under which the whole is reported durable.
        number: u64,
        /// The records.
        records: Vec<Record>,
    },
    /// Send a message to a voter.
    Send {
        /// To whom.
        to: PeerId,
        /// What.
        message: Message,
    },
    /// Send a message to every other voter of the epoch.
    Broadcast(Message),
    /// Sign a statement with the identity key, and answer with [`Input::Signed`].
    Sign(Box<Statement>),
    /// Sign the head of a bundle with the identity key, and answer with [`Input::BundleSigned`].
    SignBundle(BundleHead),
    /// Cosign the log, and answer with [`Input::Cosigned`]. One at a time: under load later requests
    /// cover more batches.
    Cosign {
        /// Leaves.
        size: u64,
        /// Root over them.
        root: Root,
    },
    /// Hand committed updates to the application.
    Apply {
        /// Index of the first leaf.
        first: u64,
        /// The batch as it stands in the log.
        batch: Arc<LoggedBatch>,
    },
    /// A longer prefix of the log is certified: whatever was applied up to its size has a proof now.
    Certified(Arc<Certificate>),
    /// An update of this node's own is committed and certified.
    Done {
        /// The caller's name for it.
        ticket: u64,
        /// Index of its leaf.
        leaf: u64,
        /// The last batch under the certificate that covers it.
        certified: Sequence,
    },
    /// An update of this node's own will not be committed.
    Declined {
        /// The caller's name for it.
        ticket: u64,
        /// Why.
        why: Decline,
    },
    /// Read the log from a size on and send it as a [`Message::LogPiece`]:
    /// [`log_piece`](crate::log_piece) makes it.
    Serve {
        /// To whom.
        to: PeerId,
        /// What it has.
        asked: FetchLog,
        /// Under which certificate; `None` for the last one of the epoch asked for, which the archive
        /// holds.
        certificate: Option<Arc<Certificate>>,
    },
    /// An epoch begins: messages are checked against these voters from now on.
    Epoch {
        /// Its number.
        epoch: Epoch,
        /// Who votes.
        voters: Arc<Voters>,
    },
    /// Certified and own log contradict each other: more replicas are faulty than tolerated, or this
    /// one's disk changed. The replica does nothing any more.
    Halted(Contradiction),
}

/// Why an update of this node's own is declined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Decline {
    /// Too many wait already.
    #[error("too many updates are waiting to be committed")]
    Busy,
    /// The update is over its bound.
    #[error("the update is too long")]
    TooLong,
    /// This node has no vote, and only voters ask.
    #[error("this node has no vote")]
    NoVote,
}

/// What should never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a quorum certified another log than the one committed here, at batch {sequence}")]
pub struct Contradiction {
    /// Where.
    pub sequence: Sequence,
}

/// Effects on their way out, and the number of records before each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    recorded: u64,
    durable: u64,
    waiting: VecDeque<(u64, Effect)>,
    ready: Vec<Effect>,
    /// While a journal is read back nothing is written or sent.
    pub(crate) muted: bool,
}

impl Outbox {
    /// Writes a record.
    pub(crate) fn record(&mut self, record: Record) {
        if !self.muted {
            self.recorded += 1;
            self.ready.push(Effect::Persist { number: self.recorded, record });
        }
    }

    /// Begins the journal anew.
    pub(crate) fn rotate(&mut self, records: Vec<Record>) {
        self.recorded += 1;
        self.ready.push(Effect::Rotate { number: self.recorded, records });
    }

    /// Lets something out once all that is recorded so far is durable. A message that finds no room is
    /// dropped, as the network might: it is sent again when somebody lacks it.
    pub(crate) fn emit(&mut self, effect: Effect) {
        if self.muted {
            return;
        }
        let message = matches!(effect, Effect::Send { .. } | Effect::Broadcast(_));
        if self.recorded <= self.durable {
            self.ready.push(effect);
        } else if !message || self.waiting.len() < CONSENSUS_OUTBOX_MAX {
            self.waiting.push_back((self.recorded, effect));
        }
    }

    /// Lets out what says nothing of this replica's votes at once.
    pub(crate) fn emit_now(&mut self, effect: Effect) {
        if !self.muted {
            self.ready.push(effect);
        }
    }

    /// The disk has come so far.
    pub(crate) fn durable(&mut self, number: u64) {
        self.durable = self.durable.max(number.min(self.recorded));
        while let Some((after, _)) = self.waiting.front()
            && *after <= self.durable
        {
            self.ready.extend(self.waiting.pop_front().map(|(_, effect)| effect));
        }
    }

    /// How many records were written.
    pub(crate) fn recorded(&self) -> u64 {
        self.recorded
    }

    /// How many effects wait for the disk.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What may be done now.
    pub(crate) fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.ready)
    }
}
