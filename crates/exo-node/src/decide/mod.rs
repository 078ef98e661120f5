//! Decisions: the replica of a member joined with what its log means.
//!
//! [`Decisions`] is pure like the replica inside it: it takes [`Input`]s, carries committed updates into
//! the [`Charter`], and gives [`Output`]s. It also wishes for the changes of seats by which the voters
//! follow what is decided: nobody is asked for that again.

mod charter;
mod decision;
mod keys;
mod ledger;
mod outcome;
mod shares;
mod wishes;

use std::sync::Arc;
use std::time::Duration;

use exo_consensus::{
    Change, Config, Directory, Effect, Input, Ledger, LoggedBatch, REJOIN_TICKET, Record, Replica,
    Role, Start, Update,
};
use exo_crypto::CosignerKey;
use exo_types::limits::SEAT_WISH_MILLIS;
use exo_types::{CodecError, Epoch, FederationId, PeerId};

pub use charter::{Charter, CharterError};
pub use decision::{Admission, Decision, Kind, Rules, summary};
pub use keys::{Keys, cosigner_key, voter};
pub use ledger::LogTree;
pub use outcome::{Decided, Outcome, Void};
pub use wishes::Wish;

use crate::roster::{Roster, RosterBody};
use crate::share::Rights;

/// A member's replica and the charter that its log makes.
///
/// Calling order: make it with [`begin`](Self::begin), or with [`recover`](Self::recover) from its
/// journal and its log; then give it every [`Input`] through [`step`](Self::step), carry out the outputs
/// in order, and call `step` with [`Input::Tick`] by [`next_wake`](Self::next_wake).
#[derive(Debug)]
pub struct Decisions {
    federation: FederationId,
    me: PeerId,
    replica: Replica<LogTree>,
    charter: Charter,
    /// The change of seats that the charter wants, unless it is to be found out anew.
    wanted: Option<Option<Change>>,
    /// What we wished for last, in which epoch of consensus.
    wished: Option<(Epoch, Change)>,
    /// When a wish that found no room may be said again.
    wish_again: Option<Duration>,
}

/// What is to be done, or has happened.
#[derive(Clone, Debug)]
pub enum Output {
    /// Carry this out. Effects are in order; [`Effect::Apply`] is not among them.
    Do(Effect),
    /// These leaves were applied: a batch's updates, in order.
    Decided(Vec<Decided>),
    /// Members or votes are others from here on. The epoch of membership grows with members alone.
    Roster(Arc<Roster>),
}

/// Why a constitution gives no replica.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// It is another federation's.
    #[error("the constitution is that of {0}")]
    OtherFederation(FederationId),
    /// It does not hold.
    #[error(transparent)]
    Constitution(#[from] CharterError),
}

/// Why journal and log do not give decisions back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The constitution gives no replica.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The journal does not give the replica back: it is lost.
    #[error(transparent)]
    Journal(#[from] exo_consensus::RecoverError),
    /// The log lacks leaves that the journal speaks of.
    #[error("the log has {actual} leaves, and the journal speaks of {expected}")]
    LogShort {
        /// Leaves that the replica has carried out.
        expected: u64,
        /// Leaves that were there, from the first on and without a gap.
        actual: u64,
    },
    /// The log is not the one that the replica has carried out.
    #[error("the log is not the one that the journal speaks of")]
    LogDiffers,
}

impl Decisions {
    /// A replica without a journal.
    ///
    /// # Errors
    /// [`BeginError`].
    pub fn begin(
        federation: FederationId,
        me: PeerId,
        constitution: &RosterBody,
        start: Start,
    ) -> Result<Self, BeginError> {
        let charter = founded(federation, constitution)?;
        let config = Config::new(federation, me);
        let replica = Replica::start(config, Arc::clone(charter.seats()), start);
        let (wanted, wished, wish_again) = (None, None, None);
        Ok(Self { federation, me, replica, charter, wanted, wished, wish_again })
    }

    /// A replica from its journal, and the charter from the whole log: every batch from the first on,
    /// with the index of its first leaf. What the log has beyond the journal is not looked at. Each leaf
    /// of the past is told to `told`, in order; the outputs are what comes after. The roster in force is
    /// the [charter](Self::charter)'s.
    ///
    /// # Errors
    /// [`RecoverError`]. After one of the journal's the member begins as [`Start::Wiped`].
    pub fn recover(
        federation: FederationId,
        me: PeerId,
        now: Duration,
        constitution: &RosterBody,
        records: Vec<Record>,
        log: impl Iterator<Item = (u64, LoggedBatch)>,
        mut told: impl FnMut(Decided),
    ) -> Result<(Self, Vec<Output>), RecoverError> {
        let mut charter = founded(federation, constitution)?;
        let config = Config::new(federation, me);
        let (replica, effects) = Replica::recover(config, now, records)?;
        // What is applied yet by the first effects is not the past.
        let applied = effects.iter().find_map(|effect| match effect {
            Effect::Apply { first, .. } => Some(*first),
            _ => None,
        });
        let expected = applied.unwrap_or_else(|| replica.point().size);
        let mut tree = LogTree::empty();
        for (first, batch) in log {
            if tree.size() >= expected {
                break;
            }
            if first != tree.size() || batch.seal.epoch != charter.term() {
                return Err(RecoverError::LogDiffers);
            }
            batch.leaves().for_each(|leaf| tree.append(LogTree::leaf_hash(&leaf)));
            charter.carry_out(first, &batch).into_iter().for_each(&mut told);
        }
        if tree.size() < expected {
            return Err(RecoverError::LogShort { expected, actual: tree.size() });
        }
        let whole = applied.is_none();
        if tree.size() > expected || (whole && tree.root() != replica.point().root) {
            return Err(RecoverError::LogDiffers);
        }
        let turning = replica.state().turn.is_some();
        if whole && !turning && replica.state().voters != *charter.seats() {
            return Err(RecoverError::LogDiffers);
        }
        let (wanted, wished, wish_again) = (None, None, None);
        let mut decisions = Self { federation, me, replica, charter, wanted, wished, wish_again };
        let mut outputs = Vec::new();
        decisions.digest(effects, &mut outputs);
        decisions.follow(now, &mut outputs);
        Ok((decisions, outputs))
    }

    /// Takes an input at a time of a clock that never goes back; gives what is to be done, in order.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Output> {
        let effects = self.replica.step(now, input);
        let mut outputs = Vec::new();
        self.digest(effects, &mut outputs);
        self.follow(now, &mut outputs);
        outputs
    }

    /// Proposes a decision: [`Effect::Done`] or [`Effect::Declined`] tell of the ticket, which is below
    /// [`SEAT_WISH_TICKET`], and [`Output::Decided`] of what became of it.
    ///
    /// # Errors
    /// [`CodecError`] when the decision breaks a bound.
    pub fn submit(
        &mut self,
        now: Duration,
        ticket: u64,
        decision: &Decision,
    ) -> Result<Vec<Output>, CodecError> {
        let update = decision.to_update()?;
        Ok(self.step(now, Input::Submit { ticket, update }))
    }

    /// When [`Input::Tick`] is due, on the clock given to [`step`](Self::step).
    pub fn next_wake(&self) -> Duration {
        let again = self.wish_again.unwrap_or(Duration::MAX);
        self.replica.next_wake().min(again)
    }

    /// Whose messages [`check`](exo_consensus::check()) accepts now.
    pub fn directory(&self) -> Directory {
        self.replica.directory()
    }

    /// How signatures of the federation's voters are checked.
    pub fn keys(&self) -> Keys {
        Keys::new(&self.federation)
    }

    /// The cosigner key with which this member cosigns in this epoch: that of its seat, which follows a
    /// rotation an epoch later.
    pub fn cosigner(&self) -> Option<CosignerKey> {
        self.replica.state().voters.named(&self.me).and_then(cosigner_key)
    }

    /// What the log has decided, up to the last leaf that was told.
    pub fn charter(&self) -> &Charter {
        &self.charter
    }

    /// Who may do what with shared collections, and which checkpoints wait for further voters: to be given
    /// to [`Shared`](crate::share::Shared) whenever [`Charter::share_changes`] is another number.
    pub fn rights(&self) -> Rights {
        self.charter.rights()
    }

    /// The replica.
    pub fn replica(&self) -> &Replica<LogTree> {
        &self.replica
    }

    /// Carries committed updates into the charter and passes everything else on.
    fn digest(&mut self, effects: Vec<Effect>, outputs: &mut Vec<Output>) {
        for effect in effects {
            match effect {
                Effect::Apply { first, batch } => {
                    let votes = |charter: &Charter| charter.entitled().copied().collect::<Vec<_>>();
                    let before = (self.charter.epoch(), votes(&self.charter));
                    let decided = self.charter.carry_out(first, &batch);
                    if !decided.is_empty() {
                        outputs.push(Output::Decided(decided));
                    }
                    if batch.seal.turn.is_some() {
                        self.wanted = None;
                    }
                    if before != (self.charter.epoch(), votes(&self.charter)) {
                        self.wanted = None;
                        outputs.push(Output::Roster(Arc::new(self.charter.roster())));
                    }
                }
                // What this node asks for by itself is nobody's ticket.
                Effect::Done { ticket: SEAT_WISH_TICKET | REJOIN_TICKET, .. }
                | Effect::Declined { ticket: REJOIN_TICKET, .. } => {}
                Effect::Declined { ticket: SEAT_WISH_TICKET, .. } => self.wished = None,
                effect => outputs.push(Output::Do(effect)),
            }
        }
    }

    /// Wishes for the change of seats that the charter wants, once in an epoch unless the charter wants
    /// another meanwhile. What is in the log already is not said again, so a restart repeats at most what
    /// was on its way.
    fn follow(&mut self, now: Duration, outputs: &mut Vec<Output>) {
        let Some(change) = self.due_wish() else {
            self.wish_again = None;
            return;
        };
        if self.wish_again.is_some_and(|at| now < at) {
            return;
        }
        // Should it be declined, it is said again after a while.
        self.wish_again = Some(now + Duration::from_millis(SEAT_WISH_MILLIS));
        self.wished = Some((self.replica.epoch(), change.clone()));
        let wish = Input::Submit { ticket: SEAT_WISH_TICKET, update: Update::Wish(change) };
        let effects = self.replica.step(now, wish);
        self.digest(effects, outputs);
    }

    /// The change to wish for, unless it was.
    fn due_wish(&mut self) -> Option<Change> {
        let state = self.replica.state();
        let votes = self.replica.role() == Role::Voter && state.voters.seat(&self.me).is_some();
        let same_epoch = self.charter.term() == state.epoch && state.turn.is_none();
        if !votes
            || !same_epoch
            || self.charter.standing(&self.me) != crate::roster::Standing::Active
        {
            return None;
        }
        let charter = &self.charter;
        let wanted = self.wanted.get_or_insert_with(|| charter.wanted_change(&state.voters));
        let change = wanted.clone()?;
        let logged = state.wishes.get(&self.me) == Some(&change);
        let on_its_way = self.wished.as_ref() == Some(&(state.epoch, change.clone()));
        (!logged && !on_its_way).then_some(change)
    }
}

fn founded(federation: FederationId, constitution: &RosterBody) -> Result<Charter, BeginError> {
    if constitution.federation != federation {
        return Err(BeginError::OtherFederation(constitution.federation));
    }
    Ok(Charter::new(constitution)?)
}

/// The ticket of a wish for a change of seats, which no caller made. Callers' tickets are below.
pub const SEAT_WISH_TICKET: u64 = REJOIN_TICKET - 1;
