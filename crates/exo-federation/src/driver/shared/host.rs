//! What runs of shared collections: one lock around [`Shared`], the thread of the disk, and who brings it
//! its inputs.
//!
//! Whoever brings an input takes the lock, steps, and carries out the outputs before it lets go, so they
//! are carried out in order. Messages of members are verified under it, on the runtime's threads for
//! blocking work. What the node and the log of decisions have to say is left in a [`Mailbox`] and taken in
//! before whatever comes next; nothing here takes the node's lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use exo_node::decide::Decision;
use exo_node::share::{Input, ShareMessage, ShareRefusal, Shared, Written};
use exo_types::limits::{SHARED_CHANGES_WATCHED_MAX, SHARED_PROPOSALS_MAX, SHARED_WATCHED_MAX};
use exo_types::{CollectionName, Now, PeerId, RecordId, Wire};
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::disk::{self, Disk};
use super::lane::Outgoing;
use super::mailbox::{Letters, Mailbox};
use super::metric;
use super::start::Restored;
use crate::driver::clock::Clock;
use crate::driver::core::Core;
use crate::driver::net::LaneMessage;
use crate::error::{ErrorCode, FederationError};

/// What runs. When it is dropped its thread has ended, and nothing of the data directory is in use by it.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) keeper: Arc<Keeper>,
    thread: Option<JoinHandle<()>>,
    tasks: Vec<AbortHandle>,
}

/// What the tasks and the thread share.
#[derive(Debug)]
pub(crate) struct Keeper {
    inner: Mutex<Inner>,
    pub(super) closed: AtomicBool,
    clock: Clock,
    runtime: Handle,
    pub(super) disk: Disk,
    mailbox: Arc<Mailbox>,
    proposals: mpsc::Sender<Box<Decision>>,
    watchers: Mutex<HashMap<CollectionName, broadcast::Sender<Noted>>>,
    /// A tick is wanted earlier than it is set for.
    earlier: Notify,
}

/// What is under the lock.
#[derive(Debug)]
pub(super) struct Inner {
    shared: Shared,
    /// Why nothing is done any more.
    halted: Option<String>,
    /// Who waits for what was written, by ticket.
    pub(super) tickets: HashMap<u64, oneshot::Sender<Result<Written, ShareRefusal>>>,
    next_ticket: u64,
    pub(super) lanes: HashMap<PeerId, Outgoing>,
    next_lane: u64,
    /// For when the tick is set.
    armed: Duration,
}

/// Keys of a collection that were written to.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    /// The keys.
    pub(crate) keys: Arc<[RecordId]>,
    /// There are others.
    pub(crate) more: bool,
}

/// What a host is run with.
pub(crate) struct Means {
    pub(crate) clock: Clock,
    pub(crate) runtime: Handle,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) node: Weak<Core>,
}

impl Host {
    /// Runs what was read.
    ///
    /// # Errors
    /// The system starts no thread.
    pub(crate) fn run(restored: Restored, means: Means) -> std::io::Result<Self> {
        metric::describe();
        let (proposals, proposed) = mpsc::channel(SHARED_PROPOSALS_MAX);
        let inner = Inner {
            shared: restored.shared,
            halted: None,
            tickets: HashMap::new(),
            next_ticket: 0,
            lanes: HashMap::new(),
            next_lane: 0,
            armed: Duration::MAX,
        };
        let keeper = Arc::new(Keeper {
            inner: Mutex::new(inner),
            closed: AtomicBool::new(false),
            clock: means.clock,
            runtime: means.runtime.clone(),
            disk: Disk::default(),
            mailbox: Arc::clone(&means.mailbox),
            proposals,
            watchers: Mutex::default(),
            earlier: Notify::new(),
        });
        let thread = disk::spawn(&keeper, restored.logs)?;
        let tasks = vec![
            means.runtime.spawn(keep_time(Arc::downgrade(&keeper))).abort_handle(),
            means.runtime.spawn(look_in(Arc::downgrade(&keeper), means.mailbox)).abort_handle(),
            means.runtime.spawn(propose(proposed, means.node)).abort_handle(),
        ];
        Ok(Self { keeper, thread: Some(thread), tasks })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.keeper.closed.store(true, Ordering::SeqCst);
        for task in &self.tasks {
            task.abort();
        }
        self.keeper.disk.close();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has ended as well.
            let _ = thread.join();
        }
        // Lanes and those who wait hear that this is over.
        let mut inner = self.keeper.lock();
        inner.lanes.clear();
        inner.tickets.clear();
        drop(inner);
        self.keeper.watchers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Keeper {
    /// Gives an input and carries out what it leads to.
    pub(super) fn input(&self, input: Input) {
        let mut inner = self.lock();
        self.act(&mut inner, Some(input));
    }

    /// Writes or erases; returns when that is on the disk, or refused.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        input: impl FnOnce(u64) -> Input + Send + 'static,
    ) -> Result<Result<Written, ShareRefusal>, FederationError> {
        let (to, done) = oneshot::channel();
        self.with(move |keeper, inner| {
            let ticket = inner.next_ticket;
            inner.next_ticket += 1;
            inner.tickets.insert(ticket, to);
            keeper.act(inner, Some(input(ticket)));
        })
        .await?;
        let Ok(result) = done.await else {
            // Why, where that is known.
            self.with(|_, _| ()).await?;
            return Err(stopped());
        };
        match &result {
            Ok(_) => metrics::counter!("exo_shared_writes_total").increment(1),
            Err(_) => metrics::counter!("exo_shared_writes_refused_total").increment(1),
        }
        Ok(result)
    }

    /// Looks at the collections.
    pub(crate) async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        at: impl FnOnce(&mut Shared, Now) -> T + Send + 'static,
    ) -> Result<T, FederationError> {
        self.with(move |keeper, inner| {
            // What is seen is seen with the rights in force.
            keeper.act(inner, None);
            at(&mut inner.shared, keeper.clock.now())
        })
        .await
    }

    /// Changes of a collection from now on; `None` when too many are watched.
    pub(crate) fn watch(&self, collection: &CollectionName) -> Option<broadcast::Receiver<Noted>> {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if watchers.len() >= SHARED_WATCHED_MAX {
            watchers.retain(|_, to| to.receiver_count() > 0);
        }
        if let Some(to) = watchers.get(collection) {
            return Some(to.subscribe());
        }
        if watchers.len() >= SHARED_WATCHED_MAX || self.closed.load(Ordering::SeqCst) {
            return None;
        }
        let to = broadcast::Sender::new(SHARED_CHANGES_WATCHED_MAX);
        let changes = to.subscribe();
        watchers.insert(collection.clone(), to);
        Some(changes)
    }

    /// A peer begins to send over a lane.
    pub(crate) async fn began(self: &Arc<Self>, peer: PeerId) {
        let keeper = Arc::clone(self);
        // Should it panic, what was under way with the peer is given up when nothing comes of it.
        let _ = self.runtime.spawn_blocking(move || keeper.input(Input::Began(peer))).await;
    }

    /// Takes one message of a peer; the next one is read when this is dealt with and the disk keeps up.
    pub(crate) async fn hear(self: &Arc<Self>, peer: PeerId, message: LaneMessage) {
        self.disk.room().await;
        let keeper = Arc::clone(self);
        let taking = move || {
            metric::received(message.body.len());
            match ShareMessage::from_wire(&message.body) {
                Ok(decoded) => keeper.input(Input::Message { peer, message: decoded }),
                Err(error) => {
                    tracing::debug!(peer = peer.short(), %error, "a message does not decode");
                    metric::malformed();
                }
            }
        };
        // One that panicked is a message that was lost.
        let _ = self.runtime.spawn_blocking(taking).await;
    }

    /// Takes in what was left for it, then an input; and carries out what both lead to.
    fn act(&self, inner: &mut Inner, input: Option<Input>) {
        if inner.halted.is_some() || self.closed.load(Ordering::Relaxed) {
            return;
        }
        self.take_in(inner);
        if let Some(input) = input {
            self.step(inner, input);
        }
        if self.next_tick(inner) < inner.armed {
            inner.armed = Duration::ZERO;
            self.earlier.notify_one();
        }
    }

    /// When the next tick is due: never at once, for what waits for the disk would be due again and again.
    fn next_tick(&self, inner: &Inner) -> Duration {
        inner.shared.next_wake().max(self.clock.now().mono + TICK_LATE)
    }

    fn step(&self, inner: &mut Inner, input: Input) {
        let outputs = inner.shared.step(self.clock.now(), input);
        for output in outputs {
            self.carry_out(inner, output);
        }
    }

    fn take_in(&self, inner: &mut Inner) {
        let Letters { rights, ways, sent, stopped } = self.mailbox.take();
        if let Some(rights) = rights {
            self.step(inner, Input::Rights(rights));
        }
        for (peer, way) in ways {
            let session = |lane: &Outgoing| Some(lane.session);
            let present = inner.lanes.get(&peer).and_then(session);
            if present == way.as_ref().map(|(session, _)| *session) {
                continue;
            }
            if inner.lanes.remove(&peer).is_some() {
                self.step(inner, Input::NoLane(peer));
            }
            if let Some((session, channel)) = way {
                self.open_lane(inner, session, channel);
            }
        }
        for (peer, (lane, count)) in sent {
            if inner.lanes.get(&peer).is_some_and(|of| of.number == lane) {
                (0..count).for_each(|_| self.step(inner, Input::Sent(peer)));
            }
        }
        for (peer, lane) in stopped {
            if inner.lanes.get(&peer).is_some_and(|of| of.number == lane)
                && let Some(former) = inner.lanes.remove(&peer)
            {
                self.step(inner, Input::NoLane(peer));
                self.open_lane(inner, former.session, former.channel.clone());
            }
        }
    }

    fn open_lane(
        &self,
        inner: &mut Inner,
        session: exo_node::effect::SessionId,
        channel: crate::driver::net::EncryptedChannel,
    ) {
        let (peer, number) = (channel.peer(), inner.next_lane);
        inner.next_lane += 1;
        let mailbox = Arc::clone(&self.mailbox);
        let lane = Outgoing::open(number, session, channel, mailbox, &self.runtime);
        inner.lanes.insert(peer, lane);
        self.step(inner, Input::Lane(peer));
    }

    /// Hands a checkpoint to who proposes it. One that finds no room is said again.
    pub(super) fn propose(&self, decision: Box<Decision>) {
        let _ = self.proposals.try_send(decision);
    }

    /// Tells those who watch a collection.
    pub(super) fn tell(&self, collection: &CollectionName, keys: Vec<RecordId>, more: bool) {
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(to) = watchers.get(collection) {
            // They may have gone.
            let _ = to.send(Noted { keys: keys.into(), more });
        }
    }

    /// Does nothing any more: what is said could not be kept.
    pub(super) fn halt(&self, cause: String) {
        halt(&mut self.lock(), cause);
    }

    /// Does something under the lock: at once where it is free, on a thread that may wait otherwise.
    async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&Self, &mut Inner) -> T + Send + 'static,
    ) -> Result<T, FederationError> {
        // The guard ends before anything is waited for, so that a caller's future can change threads.
        let act = match self.at_once(act) {
            Ok(done) => return done,
            Err(act) => act,
        };
        let keeper = Arc::clone(self);
        let acting = move || {
            let mut inner = keeper.lock();
            keeper.working(&inner).map(|()| act(&keeper, &mut inner))
        };
        self.runtime.spawn_blocking(acting).await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Does something if the lock is free; gives it back where it is not.
    fn at_once<T, F>(&self, act: F) -> Result<Result<T, FederationError>, F>
    where
        F: FnOnce(&Self, &mut Inner) -> T,
    {
        let mut inner = match self.inner.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(poisoned)) => self.panicked(poisoned),
            Err(TryLockError::WouldBlock) => return Err(act),
        };
        Ok(self.working(&inner).map(|()| act(self, &mut inner)))
    }

    fn working(&self, inner: &Inner) -> Result<(), FederationError> {
        match &inner.halted {
            Some(cause) => Err(FederationError::new(ErrorCode::Io, cause.clone())),
            None if self.closed.load(Ordering::SeqCst) => Err(stopped()),
            None => Ok(()),
        }
    }

    /// A step panicked: what it left half made is not shared any more.
    fn panicked<'a>(&self, poisoned: PoisonError<MutexGuard<'a, Inner>>) -> MutexGuard<'a, Inner> {
        let mut inner = poisoned.into_inner();
        let cause = "a step of the shared collections panicked: their state is not to be trusted";
        halt(&mut inner, cause.to_owned());
        inner
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| self.panicked(poisoned))
    }
}

/// The first cause stays.
fn halt(inner: &mut Inner, cause: String) {
    if inner.halted.is_some() {
        return;
    }
    tracing::error!(%cause, "this node shares nothing any more");
    metrics::gauge!("exo_shared_halted").set(1.0);
    inner.halted = Some(cause);
    inner.tickets.clear();
    inner.lanes.clear();
}

fn stopped() -> FederationError {
    FederationError::new(ErrorCode::Io, "the node stopped")
}

/// How late a tick may come.
const TICK_LATE: Duration = Duration::from_millis(5);

/// Gives the collections their ticks.
async fn keep_time(keeper: Weak<Keeper>) {
    loop {
        let Some(held) = keeper.upgrade() else { return };
        let arming = Arc::clone(&held);
        let arm = move || {
            let mut inner = arming.lock();
            inner.armed = arming.next_tick(&inner);
            inner.halted.is_none().then_some(inner.armed)
        };
        let Ok(Some(due)) = held.runtime.spawn_blocking(arm).await else { return };
        let due = held.clock.instant(due);
        let ticked = tokio::select! {
            () = tokio::time::sleep_until(due.into()) => true,
            () = held.earlier.notified() => false,
        };
        if ticked {
            let ticking = Arc::clone(&held);
            let _ = held.runtime.spawn_blocking(move || ticking.input(Input::Tick)).await;
        }
    }
}

/// Takes in what is left in the mailbox.
async fn look_in(keeper: Weak<Keeper>, mailbox: Arc<Mailbox>) {
    loop {
        mailbox.more.notified().await;
        let Some(held) = keeper.upgrade() else { return };
        let taking = Arc::clone(&held);
        let take = move || taking.act(&mut taking.lock(), None);
        let _ = held.runtime.spawn_blocking(take).await;
    }
}

/// Proposes checkpoints to the voters.
async fn propose(mut proposals: mpsc::Receiver<Box<Decision>>, node: Weak<Core>) {
    while let Some(decision) = proposals.recv().await {
        let Some(core) = node.upgrade() else { return };
        core.propose(&decision);
    }
}
