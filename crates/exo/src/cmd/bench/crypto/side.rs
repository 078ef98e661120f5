//! The two ends of a connection, each on a thread of its own with a runtime of its own, so that the
//! processor time of the thread is that of the end: its TLS, its QUIC and its system calls.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use super::super::broken;
use super::super::cpu::thread_time;
use crate::exit::Failure;

/// An end that dials.
pub(super) trait Dial {
    /// One whole connection: connect, one echo, close.
    fn once(&self) -> impl Future<Output = Result<(), Failure>>;

    /// Waits until closed connections are forgotten.
    fn idle(&self) -> impl Future<Output = ()>;
}

/// The accepting end; it ends with this handle.
pub(super) struct Listener {
    /// Where it listens.
    pub(super) address: SocketAddr,
    orders: mpsc::Sender<oneshot::Sender<Duration>>,
}

/// The dialling end; it ends with this handle.
pub(super) struct Dialler {
    orders: mpsc::Sender<Batch>,
}

struct Batch {
    connections: usize,
    done: oneshot::Sender<Result<Duration, Failure>>,
}

impl Listener {
    /// Starts the thread. `open` runs on it, inside its runtime, and gives where it listens and what
    /// serves.
    pub(super) fn start<S: Future<Output = ()>>(
        open: impl FnOnce() -> Result<(SocketAddr, S), Failure> + Send + 'static,
    ) -> Result<Self, Failure> {
        let (orders, mut ordered) = mpsc::channel::<oneshot::Sender<Duration>>(1);
        let (opened, open_result) = oneshot::channel();
        let runtime = runtime()?;
        thread::spawn(move || {
            runtime.block_on(async move {
                let (address, serve) = match open() {
                    Ok(open) => open,
                    Err(failure) => return drop(opened.send(Err(failure))),
                };
                // Nobody waits for an end whose starter has failed.
                let _ = opened.send(Ok(address));
                let mut serve = pin!(serve);
                loop {
                    tokio::select! {
                        () = &mut serve => return,
                        order = ordered.recv() => match order {
                            Some(tell) => drop(tell.send(thread_time())),
                            None => return,
                        },
                    }
                }
            });
        });
        let address = open_result.blocking_recv().map_err(|error| broken(LISTENER, error))??;
        Ok(Self { address, orders })
    }

    /// Processor time that the end has used so far.
    pub(super) fn thread_time(&self) -> Result<Duration, Failure> {
        let (tell, told) = oneshot::channel();
        self.orders.blocking_send(tell).map_err(|error| broken(LISTENER, error))?;
        told.blocking_recv().map_err(|error| broken(LISTENER, error))
    }
}

impl Dialler {
    /// Starts the thread. `open` runs on it, inside its runtime.
    pub(super) fn start<D: Dial>(
        open: impl FnOnce() -> Result<D, Failure> + Send + 'static,
    ) -> Result<Self, Failure> {
        let (orders, mut ordered) = mpsc::channel::<Batch>(1);
        let (opened, open_result) = oneshot::channel();
        let runtime = runtime()?;
        thread::spawn(move || {
            runtime.block_on(async move {
                let end = match open() {
                    Ok(end) => end,
                    Err(failure) => return drop(opened.send(Err(failure))),
                };
                // Nobody waits for an end whose starter has failed.
                let _ = opened.send(Ok(()));
                while let Some(batch) = ordered.recv().await {
                    let done = run(&end, batch.connections).await;
                    let _ = batch.done.send(done);
                }
            });
        });
        open_result.blocking_recv().map_err(|error| broken(DIALLER, error))??;
        Ok(Self { orders })
    }

    /// Makes so many connections, one after the other, and tells the processor time of all.
    pub(super) fn batch(&self, connections: usize) -> Result<Duration, Failure> {
        let (done, told) = oneshot::channel();
        let batch = Batch { connections, done };
        self.orders.blocking_send(batch).map_err(|_| broken(DIALLER, "it has ended"))?;
        told.blocking_recv().map_err(|error| broken(DIALLER, error))?
    }
}

async fn run<D: Dial>(end: &D, connections: usize) -> Result<Duration, Failure> {
    let before = thread_time();
    for _ in 0..connections {
        end.once().await?;
    }
    end.idle().await;
    Ok(thread_time().saturating_sub(before))
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| broken("a runtime", error))
}

const LISTENER: &str = "the accepting end";
const DIALLER: &str = "the dialling end";
