//! Deciding together: this node's replica of the log of decisions, its journal, and what joins both to
//! the node and the network.
//!
//! One lock holds the replica and its charter. Whoever brings an input, the task that reads a peer's
//! lane, the thread of the journal or a caller, takes the lock, steps, and carries out the outputs before
//! it lets go: so they are carried out in order, without a thread between. What takes time is done
//! outside: the disk by one thread, which writes all that waits with one sync; signing by another; big
//! messages are checked and the log is read on the runtime's threads for blocking work. Nothing here
//! takes the node's lock while it holds this one.
//!
//! - [`Host`]: what runs. `start`: from the disk, or for the first time. `outputs`: carrying out.
//! - `disk`: the journal's thread. `signer`: the thread that signs. `hear`: messages of peers.
//! - `unbegun`: the mark of a node that has not begun. `lanes`: over which session a peer is reached.
//! - `tickets`: who waits for what was proposed.
//! - `show`: reading the log.

mod disk;
#[cfg(feature = "liar")]
mod failpoint;
mod hear;
mod lanes;
#[cfg(feature = "liar")]
mod liar;
mod metric;
mod node;
mod outcomes;
mod outputs;
mod serve;
mod show;
mod signer;
mod start;
#[cfg(test)]
mod tests;
mod tickets;
mod unbegun;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use exo_consensus::{Decline, Directory, Input, Voters};
use exo_crypto::PostQuantumKeypair;
use exo_node::decide::{Decided, Decision, Decisions, Keys};
use exo_node::effect::Input as NodeInput;
use exo_node::roster::{Roster, RosterBody};
use exo_types::limits::{CHECKS_AT_ONCE_MAX, DECISIONS_WATCHED_MAX, SERVES_AT_ONCE_MAX};
use exo_types::{Epoch, PeerId, View};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, broadcast, oneshot, watch};
use tokio::task::AbortHandle;

use super::clock::Clock;
use super::core::Core;
use super::journal::Archive;
use super::shared::Mailbox;
use disk::Disk;
pub(crate) use hear::Checks;
pub(crate) use lanes::Lanes;
use outcomes::Outcomes;
pub(crate) use signer::Cosigners;
use signer::Signer;
pub(crate) use start::{Life, Place, Ready};
pub(crate) use tickets::Settled;
use tickets::Tickets;
pub(crate) use unbegun::Unbegun;

/// What runs of deciding together. When it is dropped its threads have ended, and nothing of the data
/// directory is in use by them.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    tasks: Vec<AbortHandle>,
}

/// What the tasks and threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    closed: AtomicBool,
    clock: Clock,
    runtime: Handle,
    pub(crate) me: PeerId,
    pub(crate) keys: Keys,
    constitution: Arc<RosterBody>,
    /// Against whose keys messages are checked.
    directory: RwLock<Arc<Directory>>,
    pub(crate) archive: Archive,
    /// The last batch that is certified as far as this node was told.
    certified: AtomicU64,
    disk: Disk,
    signer: Signer,
    lanes: Arc<Lanes>,
    mailbox: Arc<Mailbox>,
    roster: watch::Sender<Told>,
    events: broadcast::Sender<Arc<Decided>>,
    checks: Arc<Semaphore>,
    serves: Arc<Semaphore>,
    served: Arc<serve::Served>,
    /// The replica wants its tick earlier than it is set for.
    earlier: Notify,
    /// Voters of epochs that are over, as far as somebody asked for them.
    former: Mutex<BTreeMap<Epoch, Arc<Voters>>>,
    #[cfg(feature = "liar")]
    liar: liar::Liar,
}

/// What is under the lock.
#[derive(Debug)]
struct Inner {
    decisions: Decisions,
    /// Why nothing is done any more.
    halted: Option<String>,
    tickets: Tickets,
    outcomes: Outcomes,
    /// Applied and not yet certified.
    fresh: VecDeque<Arc<Decided>>,
    /// This node's own, applied and not yet settled.
    own: BTreeMap<u64, Arc<Decided>>,
    /// Leaves with which the last change of members came, until they are certified.
    changed: Option<u64>,
    /// For when the tick is set.
    armed: Duration,
    /// What the log was told of last.
    seen: (Epoch, View, bool),
    /// What the shared collections were told of last.
    rights: Option<u64>,
}

/// What the node is told, the newest alone.
#[derive(Clone, Debug, Default)]
struct Told {
    roster: Option<Arc<Roster>>,
    certified: bool,
    /// What is decided from here on is not known here.
    halted: bool,
}

/// What a host is run with.
pub(crate) struct Means {
    pub(crate) clock: Clock,
    pub(crate) runtime: Handle,
    pub(crate) identity: Arc<PostQuantumKeypair>,
    pub(crate) cosigners: Cosigners,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) node: Weak<Core>,
}

impl Host {
    /// Runs what is ready.
    ///
    /// # Errors
    /// The system starts no thread.
    pub(crate) fn run(ready: Ready, means: Means) -> std::io::Result<Self> {
        let Ready {
            federation,
            me,
            decisions,
            outputs,
            opened,
            outcomes,
            constitution,
            unbegun,
            ..
        } = ready;
        metric::describe();
        let keys = decisions.keys();
        let directory = RwLock::new(Arc::new(decisions.directory()));
        let replica = decisions.replica();
        let seen = (replica.epoch(), replica.view(), replica.is_active());
        let certified = replica.stable().sequence.0;
        tracing::info!(
            epoch = %seen.0, view = %seen.1.0, executed = %replica.state().executed,
            "deciding by consensus"
        );
        let inner = Inner {
            decisions,
            halted: None,
            tickets: Tickets::new(means.clock.now().wall),
            outcomes,
            fresh: VecDeque::new(),
            own: BTreeMap::new(),
            changed: None,
            armed: Duration::MAX,
            seen,
            rights: None,
        };
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            closed: AtomicBool::new(false),
            clock: means.clock,
            runtime: means.runtime.clone(),
            me,
            keys: keys.clone(),
            constitution,
            directory,
            archive: opened.archive,
            certified: AtomicU64::new(certified),
            disk: Disk::default(),
            signer: Signer::new(federation, me, means.identity, means.cosigners),
            lanes: means.lanes,
            mailbox: means.mailbox,
            roster: watch::Sender::default(),
            events: broadcast::Sender::new(DECISIONS_WATCHED_MAX),
            checks: Arc::new(Semaphore::new(CHECKS_AT_ONCE_MAX)),
            serves: Arc::new(Semaphore::new(SERVES_AT_ONCE_MAX)),
            served: Arc::default(),
            earlier: Notify::new(),
            former: Mutex::default(),
            #[cfg(feature = "liar")]
            liar: liar::Liar::of_environment(),
        });
        let told = shared.roster.subscribe();
        // The node may have been killed between what was decided and what it does about it.
        let roster = Arc::new(shared.lock().decisions.charter().roster());
        shared.roster.send_modify(|told| told.roster = Some(roster));
        let threads = vec![disk::spawn(&shared, opened.journal, unbegun)?, signer::spawn(&shared)?];
        let tasks = vec![
            means.runtime.spawn(keep_time(Arc::downgrade(&shared))).abort_handle(),
            means.runtime.spawn(tell_node(told, means.node)).abort_handle(),
        ];
        {
            let mut inner = shared.lock();
            shared.carry_out(&mut inner, outputs);
            shared.settle(&mut inner);
        }
        Ok(Self { shared, threads, tasks })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        for task in &self.tasks {
            task.abort();
        }
        self.shared.disk.close();
        self.shared.signer.close();
        for thread in self.threads.drain(..) {
            // A thread that panicked has ended as well.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Gives the replica an input and carries out what it wants.
    pub(crate) fn input(&self, input: Input) {
        self.act(|decisions, now| decisions.step(now, input));
    }

    /// Proposes a decision; what becomes of it is told to `to`, where somebody waits. It is in the log
    /// for ever once it is told as settled; before that nothing is claimed.
    pub(crate) fn propose(
        &self,
        decision: &Decision,
        to: Option<oneshot::Sender<Settled>>,
    ) -> Result<(), Decision> {
        let mut inner = self.lock();
        if let Some(cause) = &inner.halted {
            if let Some(to) = to {
                let _ = to.send(Settled::Halted(cause.clone()));
            }
            return Ok(());
        }
        let now = self.clock.now().mono;
        let ticket = inner.tickets.issue(now, to);
        let Ok(outputs) = inner.decisions.submit(now, ticket, decision) else {
            inner.tickets.settle(ticket);
            return Err(decision.clone());
        };
        self.carry_out(&mut inner, outputs);
        self.settle(&mut inner);
        Ok(())
    }

    /// Proposes all of these or none: whether the pool has room is looked at before the first, and nobody
    /// else comes between. What becomes of each is told to `to`, in their order.
    pub(crate) fn propose_all(
        &self,
        decisions: &[Decision],
    ) -> Result<Vec<oneshot::Receiver<Settled>>, Settled> {
        let mut inner = self.lock();
        if let Some(cause) = &inner.halted {
            return Err(Settled::Halted(cause.clone()));
        }
        if decisions.iter().any(|decision| decision.to_update().is_err()) {
            return Err(Settled::Declined(Decline::TooLong));
        }
        let replica = inner.decisions.replica();
        if !replica.has_seat() {
            return Err(Settled::Declined(Decline::NoVote));
        }
        if decisions.len() + OWN_SUBMISSIONS > replica.submissions_room() {
            return Err(Settled::Declined(Decline::Busy));
        }
        let mut waiting = Vec::with_capacity(decisions.len());
        for decision in decisions {
            let now = self.clock.now().mono;
            let (to, settled) = oneshot::channel();
            let ticket = inner.tickets.issue(now, Some(to));
            match inner.decisions.submit(now, ticket, decision) {
                Ok(outputs) => self.carry_out(&mut inner, outputs),
                // It encoded a moment ago.
                Err(_) => drop(inner.tickets.settle(ticket)),
            }
            waiting.push(settled);
        }
        self.settle(&mut inner);
        Ok(waiting)
    }

    /// Certified decisions from now on.
    pub(crate) fn watch(&self) -> broadcast::Receiver<Arc<Decided>> {
        self.events.subscribe()
    }

    fn act(&self, step: impl FnOnce(&mut Decisions, Duration) -> Vec<exo_node::decide::Output>) {
        let mut inner = self.lock();
        if inner.halted.is_some() || self.closed.load(Ordering::Relaxed) {
            return;
        }
        let outputs = step(&mut inner.decisions, self.clock.now().mono);
        self.carry_out(&mut inner, outputs);
        self.settle(&mut inner);
    }

    /// Whatever follows every step.
    fn settle(&self, inner: &mut Inner) {
        let replica = inner.decisions.replica();
        let seen = (replica.epoch(), replica.view(), replica.is_active());
        if seen != inner.seen {
            inner.seen = seen;
            let primary = replica.primary().map(|peer| peer.short()).unwrap_or_default();
            if seen.2 {
                tracing::info!(epoch = %seen.0, view = %seen.1.0, primary, "a view has begun");
            } else {
                tracing::info!(epoch = %seen.0, view = %seen.1.0, primary, "left for another view");
            }
            metrics::gauge!("exo_consensus_view").set(seen.1.0 as f64);
            metrics::gauge!("exo_consensus_epoch").set(seen.0.0 as f64);
        }
        let rights = inner.decisions.charter().share_changes();
        if inner.rights.replace(rights) != Some(rights) {
            self.mailbox.rights(inner.decisions.rights());
        }
        if self.next_tick(inner) < inner.armed {
            inner.armed = Duration::ZERO;
            self.earlier.notify_one();
        }
    }

    /// When the replica is to have its tick: a little late, so that what is over by then asks for none. A
    /// quiet replica that gets something to do wants to say its status at once, and mostly it is done
    /// sooner than others could answer.
    fn next_tick(&self, inner: &Inner) -> Duration {
        inner.decisions.next_wake().max(self.clock.now().mono + TICK_LATE)
    }

    /// Does nothing any more: what is said could not be kept, or contradicts what others certified.
    fn halt(&self, inner: &mut Inner, cause: String) {
        tracing::error!(%cause, "this node decides nothing any more");
        metrics::gauge!("exo_consensus_halted").set(1.0);
        inner.tickets.halt(&cause);
        // Who is removed from here on would keep its access.
        self.roster.send_modify(|told| told.halted = true);
        inner.halted = Some(cause);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| {
            let mut inner = poisoned.into_inner();
            self.panicked(&mut inner);
            inner
        })
    }

    /// What was left half made must not be said or decided on.
    fn panicked(&self, inner: &mut Inner) {
        if inner.halted.is_none() {
            self.halt(inner, PANICKED.to_owned());
        }
    }

    fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Why a replica does nothing any more whose step, or whose thread, did not come to its end.
const PANICKED: &str = "a step of the replica panicked: its state is not to be trusted any more";

/// Halts the replica when its thread panics: without it nothing would be kept or signed any more.
struct EndsWith<'a>(&'a Shared);

impl Drop for EndsWith<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked(&mut self.0.lock());
        }
    }
}

/// Places among the updates that wait which are left to what the replica submits by itself: a wish for a
/// change of seats, a request to rejoin.
const OWN_SUBMISSIONS: usize = 2;
/// How late a tick may come.
const TICK_LATE: Duration = Duration::from_millis(20);

/// Gives the replica its ticks. A tick that comes early does nothing; so it is set anew only when it
/// would come late.
async fn keep_time(shared: Weak<Shared>) {
    loop {
        let Some(held) = shared.upgrade() else { return };
        let due = {
            let mut inner = held.lock();
            inner.armed = held.next_tick(&inner);
            held.clock.instant(inner.armed)
        };
        let ticked = tokio::select! {
            () = tokio::time::sleep_until(due.into()) => true,
            () = held.earlier.notified() => false,
        };
        if ticked {
            held.input(Input::Tick);
        }
    }
}

/// Tells the node of its members, outside of the replica's lock.
async fn tell_node(mut told: watch::Receiver<Told>, node: Weak<Core>) {
    while told.changed().await.is_ok() {
        let Told { roster, certified, halted } = told.borrow_and_update().clone();
        let Some(core) = node.upgrade() else { return };
        if let Some(roster) = roster {
            core.input(NodeInput::Decided(roster));
        }
        if certified {
            core.input(NodeInput::Certified);
        }
        if halted {
            core.isolate();
        }
    }
}
