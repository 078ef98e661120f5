//! Connections of the API: how many, how long, and how they end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use exo_types::limits::{
    API_CONNECTION_LIFE_MILLIS_MAX, API_CONNECTIONS_MAX, API_HEAD_BYTES_MAX,
    API_HEAD_READ_TIMEOUT_MILLIS,
};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::Api;

/// A listener that is bound and not yet served.
pub(crate) struct Server {
    listener: TcpListener,
    listen: SocketAddr,
}

impl Server {
    /// Binds the address; port 0 takes a free one.
    pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let listen = listener.local_addr()?;
        Ok(Self { listener, listen })
    }

    /// Where it really listens.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Serves until `stop` turns true, then lets requests under way finish.
    pub(crate) async fn serve(self, api: Api, stop: watch::Receiver<bool>) {
        let router = api.router();
        let mut stopped = stop.clone();
        let slots = Arc::new(Semaphore::new(API_CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = accept(&self.listener, &slots) => {
                    let Some((stream, slot)) = accepted else { continue };
                    let service = TowerToHyperService::new(router.clone());
                    connections.spawn(connection(stream, service, stop.clone(), slot));
                }
            }
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
    }
}

/// Takes the next connection once there is a place for it; until then it waits with the kernel.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            metrics::counter!("exo_api_connections_total").increment(1);
            // Answers are small and waited for.
            let _ = stream.set_nodelay(true);
            Some((stream, slot))
        }
        Err(error) => {
            // Out of file descriptors, most likely: waiting lets some be closed.
            tracing::warn!(%error, "the API cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Serves one connection until it ends, is idle too long, is too old, or the node stops.
async fn connection(
    stream: TcpStream,
    service: TowerToHyperService<axum::Router>,
    mut stop: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(API_HEAD_READ_TIMEOUT_MILLIS))
        .max_buf_size(API_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let life = tokio::time::sleep(Duration::from_millis(API_CONNECTION_LIFE_MILLIS_MAX));
    tokio::pin!(life);
    tokio::select! {
        // A connection's own fault concerns nobody but its other end.
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => {}
        () = &mut life => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(CLOSE_GRACE, connection).await;
}

/// Wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection that is to end may take to finish its request.
const CLOSE_GRACE: Duration = Duration::from_millis(exo_types::limits::DRAIN_MILLIS_MAX);
