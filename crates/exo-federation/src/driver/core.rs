//! The one node of this process, its lock and its timer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use exo_crypto::PostQuantumKeypair;
use exo_node::Node;
use exo_node::effect::{CallId, ExchangeId, Input, SessionId};
use exo_substrate::SubstrateInstance;
use exo_types::{Now, QueryId};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};

use super::clock::Clock;
use super::decide::{Cosigners, Host, Lanes};
use super::net::{EncryptedChannel, Endpoint, Responder};
use super::shared::{Host as Sharing, Mailbox};
use super::store::Store;
use crate::error::{ErrorCode, FederationError};
use crate::view::QueryEvent;

/// What every task of the driver shares.
pub(crate) struct Core {
    node: Mutex<Node>,
    pub(crate) clock: Clock,
    pub(crate) runtime: Handle,
    pub(crate) endpoint: OnceLock<Endpoint>,
    pub(crate) substrate: SubstrateInstance,
    pub(crate) keys: Keys,
    pub(crate) lanes: Arc<Lanes>,
    /// Set once the node knows of a constitution. Its threads end before the directory is let go.
    pub(crate) decide: OnceLock<Host>,
    /// Set once the node is a member. Its thread ends before the directory is let go.
    pub(crate) sharing: OnceLock<Sharing>,
    pub(crate) mailbox: Arc<Mailbox>,
    /// The epoch of membership that the shared collections were told of last.
    pub(crate) members_of: AtomicU64,
    pub(crate) store: Store,
    pub(crate) channels: Mutex<HashMap<SessionId, EncryptedChannel>>,
    pub(crate) responders: Mutex<HashMap<ExchangeId, Responder>>,
    pub(crate) queries: Mutex<HashMap<QueryId, mpsc::Sender<QueryEvent>>>,
    pub(crate) pings: Mutex<HashMap<CallId, oneshot::Sender<Result<Duration, String>>>>,
    /// Set for ever once the state could not be made durable: nothing is sent after that.
    broken: OnceLock<String>,
    next_number: AtomicU64,
    wake: Notify,
}

/// The keys with which this node signs for its replica.
pub(crate) struct Keys {
    pub(crate) identity: Arc<PostQuantumKeypair>,
    pub(crate) cosigners: Cosigners,
}

impl Core {
    pub(crate) fn new(
        node: Node,
        clock: Clock,
        substrate: SubstrateInstance,
        keys: Keys,
        store: Store,
        runtime: Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            node: Mutex::new(node),
            clock,
            runtime,
            endpoint: OnceLock::new(),
            substrate,
            keys,
            lanes: Arc::default(),
            decide: OnceLock::new(),
            sharing: OnceLock::new(),
            mailbox: Arc::default(),
            members_of: AtomicU64::new(u64::MAX),
            store,
            channels: Mutex::default(),
            responders: Mutex::default(),
            queries: Mutex::default(),
            pings: Mutex::default(),
            broken: OnceLock::new(),
            next_number: AtomicU64::new(1),
            wake: Notify::new(),
        })
    }

    /// Does something with the node and carries out what it wants, before anybody else does.
    pub(crate) fn drive<R>(self: &Arc<Self>, act: impl FnOnce(&mut Node, Now) -> R) -> R {
        let mut node = lock(&self.node);
        let woken = node.next_wake();
        let result = act(&mut node, self.clock.now());
        self.follow_members(&node);
        while let Some(effect) = node.poll_effect() {
            self.carry_out(effect);
        }
        if node.next_wake() != woken {
            self.wake.notify_one();
        }
        result
    }

    /// Gives the node an input.
    pub(crate) fn input(self: &Arc<Self>, input: Input) {
        self.drive(|node, now| node.handle(now, input));
    }

    /// Looks at the node without changing it.
    pub(crate) fn look<R>(&self, at: impl FnOnce(&Node, Now) -> R) -> R {
        at(&lock(&self.node), self.clock.now())
    }

    /// A verb that changes durable state: refused once the state cannot be saved, and not reported
    /// as done when saving it just failed.
    pub(crate) fn durably<R, E: Into<FederationError>>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut Node, Now) -> Result<R, E>,
    ) -> Result<R, FederationError> {
        self.check()?;
        let result = self.drive(act).map_err(Into::into)?;
        self.check()?;
        Ok(result)
    }

    /// Whether the node is in working order.
    pub(crate) fn check(&self) -> Result<(), FederationError> {
        match self.broken.get() {
            None => Ok(()),
            Some(cause) => Err(FederationError::new(ErrorCode::Io, cause.clone())),
        }
    }

    /// The state could not be made durable: from here on the node sends nothing, so that it never
    /// contradicts what it will remember after a restart.
    pub(crate) fn break_down(&self, cause: String) {
        tracing::error!(%cause, "the node's state cannot be saved; it answers nothing from here on");
        // A second failure adds nothing to the first.
        let _ = self.broken.set(cause);
        // Whoever waits hears it now, for nothing else will come.
        lock(&self.queries).clear();
        lock(&self.pings).clear();
        lock(&self.responders).clear();
        self.isolate();
    }

    /// Talks to nobody any more: who belongs by now is not known here, or nothing can be kept.
    pub(crate) fn isolate(&self) {
        if let Some(endpoint) = self.endpoint.get() {
            let reason = exo_node::wire::CloseReason::Shutdown;
            endpoint.close(reason.code(), reason.says());
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends the node its ticks, for as long as somebody holds it.
    pub(crate) async fn run_timer(core: std::sync::Weak<Self>) {
        loop {
            let Some(held) = core.upgrade() else { return };
            let next = held.look(|node, _| node.next_wake());
            let due = next.map(|at| held.clock.instant(at));
            let wait = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let ticked = tokio::select! {
                () = wait => true,
                () = held.wake.notified() => false,
            };
            if ticked {
                held.input(Input::Tick);
            }
        }
    }
}

/// Locks; a panic elsewhere does not take the whole node down.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
