//! A replica's whole state, and the one function by which it changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use exo_types::limits::{
    ACCEPTED_SEQUENCES_MAX, STATUS_BUSY_MILLIS, STATUS_IDLE_MILLIS, SUBMISSIONS_WAITING_MAX,
    VIEW_TIMEOUT_MILLIS,
};
use exo_types::{Epoch, FederationId, PeerId, Sequence, View};

use crate::batch::{Pending, Window};
use crate::blob::Digest;
use crate::certificate::Certificate;
use crate::check::{Body, Checked, CheckedNewView, Directory};
use crate::client::Client;
use crate::effect::{Effect, Input, Outbox};
use crate::entry::Point;
use crate::guard::{Leaving, Past, Record, Role};
use crate::handle::new_view::Entering;
use crate::handle::state_transfer::Transfer;
use crate::handle::status::Answers;
use crate::handle::view_change::Leaver;
use crate::ledger::Ledger;
use crate::message::Cosignature;
use crate::slot::Slot;
use crate::state::Replicated;
use crate::timer::Timers;
use crate::update::CheckedBatch;
use crate::voter::{Seat, Voters};

/// What a replica is run with. All replicas of a federation should have the same times.
#[derive(Clone, Debug)]
pub struct Config {
    /// The federation.
    pub federation: FederationId,
    /// This replica's member.
    pub me: PeerId,
    /// How long a view may take at first.
    pub view_timeout: Duration,
    /// How often the status is said while something is outstanding.
    pub status_busy: Duration,
    /// How often the status is said otherwise.
    pub status_idle: Duration,
    /// After how many records the journal is begun anew.
    pub rotate_records: u64,
}

impl Config {
    /// The usual times.
    pub fn new(federation: FederationId, me: PeerId) -> Self {
        Self {
            federation,
            me,
            view_timeout: Duration::from_millis(VIEW_TIMEOUT_MILLIS),
            status_busy: Duration::from_millis(STATUS_BUSY_MILLIS),
            status_idle: Duration::from_millis(STATUS_IDLE_MILLIS),
            rotate_records: 4096,
        }
    }
}

/// Whether a replica is in its view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It takes part in the view.
    Active,
    /// It left for the view, which has not begun.
    Changing,
}

/// One replica of PBFT.
///
/// Calling order: make it with [`start`](Self::start), or with [`recover`](Self::recover) from its
/// journal; then give it every [`Input`] through [`step`](Self::step) and carry out the effects in
/// order; call `step` with [`Input::Tick`] by [`next_wake`](Self::next_wake), which may change with
/// every step.
#[derive(Clone, Debug)]
pub struct Replica<L> {
    pub(crate) config: Config,
    pub(crate) role: Role,
    pub(crate) now: Duration,
    pub(crate) halted: bool,

    pub(crate) state: Replicated,
    pub(crate) ledger: L,
    /// What was carried out after the last certified checkpoint.
    pub(crate) past: BTreeMap<Sequence, Past>,
    /// The last certified checkpoint: the low watermark.
    pub(crate) stable: Point,
    /// Its proof; of the epoch before when the epoch has just begun.
    pub(crate) certificate: Option<Arc<Certificate>>,

    pub(crate) view: View,
    pub(crate) phase: Phase,
    pub(crate) slots: BTreeMap<Sequence, Slot>,
    /// Contents of the batches that slots name.
    pub(crate) batches: BTreeMap<Digest, Arc<CheckedBatch>>,
    pub(crate) cosignatures: BTreeMap<Sequence, BTreeMap<Seat, Cosignature>>,
    /// What we asked to cosign last, and whether the answer is still to come.
    pub(crate) cosigned: Sequence,
    pub(crate) cosigning: Option<Point>,
    /// Our last cosignature, to be said again.
    pub(crate) our_cosignature: Option<Cosignature>,

    /// The last view change of each replica.
    pub(crate) view_changes: BTreeMap<Seat, Leaver>,
    /// Our own on the way to a view.
    pub(crate) leaving: Option<Box<Leaving>>,
    /// The view that we are about to lead: its statement is being signed.
    pub(crate) entering: Option<Box<Entering>>,
    /// How the current view began, to show to others; none in the first.
    pub(crate) new_view: Option<Box<CheckedNewView>>,

    pub(crate) pending: Pending,
    pub(crate) window: Window,
    pub(crate) client: Client,
    pub(crate) timers: Timers,
    pub(crate) transfer: Transfer,
    pub(crate) answers: Answers,
    pub(crate) outbox: Outbox,
    /// Records up to the last time the journal was begun anew.
    pub(crate) rotated: u64,
}

/// How a replica begins without a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A voter of the first epoch at the founding, once in its life.
    Founding,
    /// A member that has never voted.
    Joining,
    /// A member whose journal is lost.
    Wiped {
        /// Drawn anew.
        nonce: u64,
    },
}

impl<L: Ledger> Replica<L> {
    /// A replica without a journal, which knows the voters of the first epoch.
    pub fn start(config: Config, voters: Arc<Voters>, start: Start) -> Self {
        let role = match start {
            Start::Founding => Role::Voter,
            Start::Joining => Role::Joining,
            Start::Wiped { nonce } => Role::Wiped { nonce },
        };
        let mut replica = Self::blank(config, voters, role);
        let founded = Record::Founded {
            federation: replica.config.federation,
            replica: replica.config.me,
            voters: Arc::clone(&replica.state.voters),
            role,
        };
        replica.outbox.record(founded);
        replica
    }

    pub(crate) fn blank(config: Config, voters: Arc<Voters>, role: Role) -> Self {
        let ledger = L::empty();
        let empty = Point { sequence: Sequence::ZERO, size: 0, root: ledger.root() };
        let null = Arc::new(CheckedBatch::null());
        Self {
            config,
            role,
            now: Duration::ZERO,
            halted: false,
            state: Replicated::genesis(voters, empty),
            ledger,
            past: BTreeMap::new(),
            stable: empty,
            certificate: None,
            view: View::FIRST,
            phase: Phase::Active,
            slots: BTreeMap::new(),
            batches: [(null.digest(), null)].into(),
            cosignatures: BTreeMap::new(),
            cosigned: Sequence::ZERO,
            cosigning: None,
            our_cosignature: None,
            view_changes: BTreeMap::new(),
            leaving: None,
            entering: None,
            new_view: None,
            pending: Pending::default(),
            window: Window::default(),
            client: Client::default(),
            timers: Timers::default(),
            transfer: Transfer::default(),
            answers: Answers::default(),
            outbox: Outbox::default(),
            rotated: 0,
        }
    }

    /// Takes an input at a time of a clock that never goes back; gives what is to be done, in order.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Effect> {
        self.now = self.now.max(now);
        if self.halted {
            return Vec::new();
        }
        match input {
            Input::Tick => self.on_tick(),
            Input::Received(checked) => self.on_received(*checked),
            Input::Submit { ticket, update } => self.on_submit(ticket, update),
            Input::Signed(signed) => self.on_signed(*signed),
            Input::BundleSigned(signed) => self.on_bundle_signed(*signed),
            Input::Cosigned { size, root, signature } => self.on_cosigned(size, root, signature),
            Input::FalsePiece(peer) => self.on_false_piece(peer),
            Input::Durable(number) => self.outbox.durable(number),
            Input::Poke(peer) => self.on_poke(peer),
        }
        self.settle();
        self.outbox.take()
    }

    fn on_received(&mut self, checked: Checked) {
        let Checked { from, body } = checked;
        // A message checked against the voters of an epoch that has ended since is stale.
        match body {
            Body::Request(bundle) => self.on_request(bundle),
            Body::PrePrepare { vote, batch } => self.on_pre_prepare(from, vote, batch),
            Body::Prepare(vote) => self.on_prepare(from, vote),
            Body::Commit(vote) => self.on_commit(from, vote),
            Body::Cosignature(of) => self.on_cosignature(from, of),
            Body::ViewChange(change, certificate) => self.on_view_change(change, certificate),
            Body::NewView(of) => self.on_new_view(of),
            Body::Status(status) => self.on_status(from, status),
            Body::FetchBatch(of) => self.on_fetch_batch(from, of),
            Body::BatchContent(epoch, batch) => self.on_batch_content(epoch, batch),
            Body::FetchLog(of) => self.on_fetch_log(from, of),
            Body::LogPiece(piece) => self.on_log_piece(from, *piece),
        }
    }

    /// Whatever follows from the state alone, after every input.
    fn settle(&mut self) {
        self.execute();
        self.certify();
        self.turn_epoch();
        self.ask_to_rejoin();
        self.pump_client();
        self.propose();
        self.cosign();
        self.client_certified();
        self.rotate();
    }

    /// Whose messages [`check`](crate::check()) accepts for this replica now.
    pub fn directory(&self) -> Directory {
        Directory {
            federation: self.config.federation,
            epoch: self.state.epoch,
            voters: Arc::clone(&self.state.voters),
        }
    }

    /// The replicated state.
    pub fn state(&self) -> &Replicated {
        &self.state
    }

    /// The view it is in or on the way to.
    pub fn view(&self) -> View {
        self.view
    }

    /// Whether it takes part in its view.
    pub fn is_active(&self) -> bool {
        self.phase == Phase::Active
    }

    /// The last certified checkpoint it knows.
    pub fn stable(&self) -> Point {
        self.stable
    }

    /// The log after the last batch carried out.
    pub fn point(&self) -> Point {
        let (size, root) = (self.ledger.size(), self.ledger.root());
        Point { sequence: self.state.executed, size, root }
    }

    /// Who leads the view, as far as this replica knows.
    pub fn primary(&self) -> Option<PeerId> {
        self.state.voters.voter(self.state.voters.primary(self.view)).map(|voter| voter.id)
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.state.epoch
    }

    /// How many more updates of this member it takes now: none without a seat.
    pub fn submissions_room(&self) -> usize {
        match self.seat() {
            Some(_) => SUBMISSIONS_WAITING_MAX.saturating_sub(self.client.len()),
            None => 0,
        }
    }

    /// Whether this member has a seat.
    pub fn has_seat(&self) -> bool {
        self.seat().is_some()
    }

    /// What it may do.
    pub fn role(&self) -> Role {
        self.role
    }

    /// How much it holds.
    pub fn load(&self) -> Load {
        let votes = |slot: &Slot| slot.prepares.len() + slot.commits.len() + slot.accepted.len();
        Load {
            slots: self.slots.len(),
            votes: self.slots.values().map(votes).sum(),
            batches: self.batches.len(),
            cosignatures: self.cosignatures.values().map(BTreeMap::len).sum(),
            past: self.past.len(),
            view_changes: self.view_changes.len(),
            pending: self.pending.len(),
            submitted: self.client.len(),
            waiting: self.outbox.waiting(),
        }
    }

    /// Our seat in this epoch.
    pub(crate) fn seat(&self) -> Option<Seat> {
        self.state.voters.seat(&self.config.me)
    }

    /// Whether we vote at all.
    pub(crate) fn votes(&self) -> bool {
        self.role == Role::Voter && self.seat().is_some()
    }

    /// Whether we lead the view we are in.
    pub(crate) fn leads(&self) -> bool {
        self.votes() && self.seat() == Some(self.state.voters.primary(self.view))
    }

    /// Whether a place is between the watermarks (Castro & Liskov 1999, section 4.2). A replica votes on
    /// twice what a primary proposes, so that a primary whose checkpoint is ahead is heard.
    pub(crate) fn in_window(&self, sequence: Sequence) -> bool {
        let past = sequence.since(self.stable.sequence);
        (1..=ACCEPTED_SEQUENCES_MAX).contains(&past)
    }

    pub(crate) fn send(&mut self, to: PeerId, message: crate::message::Message) {
        if to != self.config.me {
            self.outbox.emit(Effect::Send { to, message });
        }
    }

    pub(crate) fn broadcast(&mut self, message: crate::message::Message) {
        self.outbox.emit(Effect::Broadcast(message));
    }
}

/// How much a replica holds: each is bounded by `exo_types::limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Places with votes.
    pub slots: usize,
    /// Votes on them.
    pub votes: usize,
    /// Contents of batches.
    pub batches: usize,
    /// Cosignatures.
    pub cosignatures: usize,
    /// Batches carried out and not certified.
    pub past: usize,
    /// View changes.
    pub view_changes: usize,
    /// Requests that wait.
    pub pending: usize,
    /// Own updates that are not done.
    pub submitted: usize,
    /// Effects that wait for the disk.
    pub waiting: usize,
}
