//! A replica from its journal: it knows all that it said, and says nothing that contradicts it.
//!
//! Its own votes are counted again, as when it cast them; what it had not yet said it says now. Votes of
//! others were not journaled: they are asked for by status.

use std::sync::Arc;
use std::time::Duration;

use exo_types::{FederationId, PeerId, Sequence};

use crate::check::{CheckedNewView, CheckedViewChange};
use crate::effect::{Effect, Input};
use crate::guard::{Base, Guard, JournaledNewView, Record};
use crate::handle::new_view::Entering;
use crate::ledger::Ledger;
use crate::message::{Statement, ViewChange};
use crate::replica::{Config, Phase, Replica};
use crate::slot::Ballot;
use crate::update::{CheckedBatch, CheckedBundle};
use crate::voter::Seat;

/// Why a journal does not give a replica back. Such a replica's journal is lost: it begins as
/// [`Start::Wiped`](crate::Start::Wiped).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The journal does not begin with a record that says whose it is.
    #[error("the journal does not say whose it is")]
    NoBeginning,
    /// It is another replica's or another federation's.
    #[error("the journal is of {replica:?} in {federation:?}")]
    OtherReplica {
        /// Whose it is.
        replica: PeerId,
        /// Of which federation.
        federation: FederationId,
    },
    /// A record does not follow from those before it.
    #[error("record {number} of the journal, a {kind}, does not follow from those before it")]
    Record {
        /// Its place, from 1.
        number: usize,
        /// What it is.
        kind: &'static str,
    },
}

impl<L: Ledger> Replica<L> {
    /// A replica from the records that are left of its journal, in order: those since the journal was
    /// begun anew last. The first effects are what it had not yet said. Record numbers begin anew, and
    /// waits are counted from `now`.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub fn recover(
        config: Config,
        now: Duration,
        records: Vec<Record>,
    ) -> Result<(Self, Vec<Effect>), RecoverError> {
        let mut records = records.into_iter().enumerate();
        let (_, first) = records.next().ok_or(RecoverError::NoBeginning)?;
        let mut replica = Self::begin(config, first)?;
        replica.outbox.muted = true;
        replica.now = now;
        replica.timers.entered = now;
        replica.timers.status_said = now;
        for (at, record) in records {
            let kind = record.kind();
            replica
                .replay(record)
                .filter(|()| !replica.halted)
                .ok_or(RecoverError::Record { number: at + 1, kind })?;
        }
        replica.outbox.muted = false;
        Ok(replica.resume())
    }

    fn begin(config: Config, first: Record) -> Result<Self, RecoverError> {
        let (federation, replica) = match &first {
            Record::Founded { federation, replica, .. } => (*federation, *replica),
            Record::Base(base) => (base.federation, base.replica),
            _ => return Err(RecoverError::NoBeginning),
        };
        if (federation, replica) != (config.federation, config.me) {
            return Err(RecoverError::OtherReplica { replica, federation });
        }
        match first {
            Record::Founded { voters, role, .. } => Ok(Self::blank(config, voters, role)),
            Record::Base(base) => Self::from_base(config, *base)
                .ok_or(RecoverError::Record { number: 1, kind: "base" }),
            _ => Err(RecoverError::NoBeginning),
        }
    }

    fn from_base(config: Config, base: Base) -> Option<Self> {
        let mut replica = Self::blank(config, Arc::clone(&base.state.voters), base.role);
        replica.ledger = L::restore(base.size, &base.peaks)?;
        replica.state = base.state;
        replica.stable = base.stable;
        replica.certificate = base.certificate;
        replica.past = base.past.into_iter().map(|past| (past.point.sequence, past)).collect();
        replica.client.owes(base.owed);
        Some(replica)
    }

    fn replay(&mut self, record: Record) -> Option<()> {
        match record {
            Record::Founded { .. } | Record::Base(_) => return None,
            Record::Role(role) => self.role = role,
            Record::Batch(batch) => {
                let batch = Arc::new(CheckedBatch::journaled(&batch)?);
                self.batches.insert(batch.digest(), batch);
            }
            Record::Accepted(guard) => self.replay_accepted(guard)?,
            Record::Prepared(guard) => self.replay_prepared(guard)?,
            Record::ViewChange(leaving) => {
                self.view = leaving.change.view;
                self.phase = Phase::Changing;
                self.entering = None;
                self.new_view = None;
                self.leaving = Some(leaving);
            }
            Record::NewView(of) => self.replay_new_view(*of)?,
            Record::Append(batch) => {
                self.state.follow(&batch).ok()?;
                self.append(batch.into_batch());
                self.turn_epoch();
            }
            Record::Cosigned(point) => {
                // What we cosigned must still be our log.
                let past = self.past.get(&point.sequence).map(|past| past.point);
                if point.sequence > self.stable.sequence && past != Some(point) {
                    return None;
                }
            }
            Record::Certified(certificate) => {
                self.adopt(certificate);
                self.turn_epoch();
            }
            Record::Submitted { bundle, tickets } => {
                let bundle = CheckedBundle::journaled(bundle)?;
                let next = self.state.next.get(&self.config.me).copied().unwrap_or(u64::MAX);
                if bundle.head().number >= next {
                    self.client.recovered(bundle, tickets);
                }
            }
        }
        Some(())
    }

    /// Our PREPARE, or PRE-PREPARE, counts again.
    fn replay_accepted(&mut self, guard: Guard) -> Option<()> {
        let Some((seat, ballot)) = self.replayed(guard)? else { return Some(()) };
        let proposed = self.phase == Phase::Active && guard.view == self.view;
        let slot = self.slots.entry(guard.sequence).or_default();
        slot.note_accepted(ballot);
        slot.prepare(seat, ballot);
        if proposed {
            slot.proposal = Some(ballot);
        }
        Some(())
    }

    /// Our COMMIT counts again.
    fn replay_prepared(&mut self, guard: Guard) -> Option<()> {
        let Some((seat, ballot)) = self.replayed(guard)? else { return Some(()) };
        let slot = self.slots.entry(guard.sequence).or_default();
        slot.note_prepared(ballot);
        slot.commit(seat, ballot);
        Some(())
    }

    /// The vote of a guard, unless its place is settled; `None` when it cannot be ours.
    fn replayed(&self, guard: Guard) -> Option<Option<(Seat, Ballot)>> {
        let seat = self.seat()?;
        if guard.epoch != self.state.epoch {
            return None;
        }
        let open = guard.sequence > self.stable.sequence.min(self.state.executed);
        Some(open.then_some((seat, (guard.view, guard.digest))))
    }

    fn replay_new_view(&mut self, of: JournaledNewView) -> Option<()> {
        let JournaledNewView { statement: value, signed, view_changes, certificate } = of;
        let change = |(seat, signed): (Seat, exo_crypto::Signed<Statement>)| {
            let value: ViewChange = match signed.claimed().ok()? {
                Statement::ViewChange(value) => value,
                Statement::NewView(_) => return None,
            };
            Some(CheckedViewChange { seat, value: Arc::new(value), signed })
        };
        let view_changes = view_changes.into_iter().map(change).collect::<Option<Vec<_>>>()?;
        let Some(signed) = signed else {
            self.entering = Some(Box::new(Entering { value, view_changes, certificate }));
            return Some(());
        };
        let of = CheckedNewView { value, signed, view_changes, certificate };
        let selection = of.decide(&self.state.voters)?;
        self.install(of, &selection);
        Some(())
    }

    /// Goes on where the journal ends.
    fn resume(mut self) -> (Self, Vec<Effect>) {
        // Cosignatures are made again: on the same log they say the same.
        self.cosigned = self.stable.sequence;
        if let Some(leaving) = self.leaving.clone() {
            self.ask_statement(Statement::ViewChange(leaving.change));
        }
        if let Some(entering) = self.entering.clone() {
            self.ask_statement(Statement::NewView(entering.value));
        }
        let places: Vec<Sequence> = self.slots.keys().copied().collect();
        for sequence in places {
            self.accept(sequence);
            self.advance(sequence);
        }
        let effects = self.step(self.now, Input::Tick);
        (self, effects)
    }
}

impl Record {
    fn kind(&self) -> &'static str {
        match self {
            Self::Founded { .. } => "beginning",
            Self::Base(_) => "base",
            Self::Role(_) => "role",
            Self::Batch(_) => "batch",
            Self::Accepted(_) => "accepted batch",
            Self::Prepared(_) => "prepared batch",
            Self::ViewChange(_) => "view change",
            Self::NewView(_) => "new view",
            Self::Append(_) => "logged batch",
            Self::Cosigned(_) => "cosigned checkpoint",
            Self::Certified(_) => "certified checkpoint",
            Self::Submitted { .. } => "own bundle",
        }
    }
}
