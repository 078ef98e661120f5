//! One UDP socket that dials and is dialled.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use exo_crypto::PostQuantumKeypair;
use exo_types::PeerId;
use exo_types::limits::{MEMBERS_MAX, SOCKET_BUFFER_BYTES};
use quinn::udp::UdpSocketState;
use quinn::{ConnectionError, Incoming, TokenMemoryCache, TransportErrorCode, VarInt};
use tokio::sync::{Mutex, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::admission::{Admission, NetLimits, Slot, Verdict};
use super::channel::{EncryptedChannel, NodePools};
use super::close::{CloseReason, tls_alert};
use super::tls::{Admit, TlsIdentity};
use super::{Purpose, metric, transport};

/// How an endpoint is opened.
#[derive(Clone)]
pub struct BindConfig {
    /// The local UDP address; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Who this node is.
    pub identity: Arc<PostQuantumKeypair>,
    /// The gate in the handshake of whoever dials.
    pub admit: Admit,
    /// The bounds.
    pub limits: NetLimits,
}

/// Why an endpoint was not opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be bound.
    #[error("{listen} cannot be bound: {source}")]
    Socket {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The identity key or the algorithms were not accepted by the library.
    #[error("the TLS configuration was refused: {0}")]
    Tls(String),
    /// Called outside of a tokio runtime.
    #[error("an endpoint needs a tokio runtime")]
    NoRuntime,
}

/// Why there is no connection to a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// This endpoint cannot send there: port 0, an unspecified address, or IPv6 from an IPv4 socket.
    #[error("{addr} cannot be dialled from this endpoint")]
    Address {
        /// The address dialled.
        addr: SocketAddr,
    },
    /// The endpoint is closed.
    #[error("the endpoint is closed")]
    Closed,
    /// The library refused the configuration.
    #[error("the connection was not begun: {0}")]
    Config(String),
    /// Another key answered than the expected one; nothing was sent to it.
    #[error("{addr} answers with the key of {found}, not of {expected}")]
    WrongPeer {
        /// The address dialled.
        addr: SocketAddr,
        /// Who should have answered.
        expected: PeerId,
        /// Who answered; the key is presented, not proven.
        found: PeerId,
    },
    /// What answered did not prove the expected key with the required algorithms.
    #[error("{addr} did not prove the key of {expected}: {cause}")]
    Untrusted {
        /// The address dialled.
        addr: SocketAddr,
        /// Who should have answered.
        expected: PeerId,
        /// What the library says.
        cause: String,
    },
    /// The handshake did not end in time; nothing may be listening there.
    #[error("{addr} did not complete a handshake within {millis} ms")]
    Timeout {
        /// The address dialled.
        addr: SocketAddr,
        /// The time allowed, milliseconds.
        millis: u128,
    },
    /// The other side ended the handshake.
    #[error("{addr}: {reason}")]
    Lost {
        /// The address dialled.
        addr: SocketAddr,
        /// Why; [`CloseReason::Refused`] when the other side accepts no such peer or protocol.
        reason: CloseReason,
    },
}

/// One UDP socket that dials and is dialled. Cheap to clone; handshakes of callers run in the
/// background from [`bind`](Self::bind) on, and stop when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Endpoint(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    quinn: quinn::Endpoint,
    tls: TlsIdentity,
    limits: NetLimits,
    pools: NodePools,
    address_tokens: Arc<TokenMemoryCache>,
    ready: Mutex<mpsc::Receiver<EncryptedChannel>>,
    acceptor: AbortHandle,
}

impl Endpoint {
    /// Opens the socket and begins to accept. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(config: BindConfig) -> Result<Self, BindError> {
        let BindConfig { listen, identity, admit, limits } = config;
        metric::describe();
        let runtime = quinn::default_runtime().ok_or(BindError::NoRuntime)?;
        let tls = TlsIdentity::new(&identity).map_err(|error| BindError::Tls(error.to_string()))?;
        let server = tls.server_config(admit).map_err(|error| BindError::Tls(error.to_string()))?;
        let server = transport::server_config(server, &identity, &limits)
            .map_err(|error| BindError::Tls(error.to_string()))?;
        let of_socket = |source| BindError::Socket { listen, source };
        let socket = UdpSocket::bind(listen).map_err(of_socket)?;
        widen_buffers(&socket);
        let endpoint = transport::endpoint_config(&identity);
        let quinn =
            quinn::Endpoint::new(endpoint, Some(server), socket, runtime).map_err(of_socket)?;
        let pools = NodePools::new(&limits);
        let (to_ready, ready) = mpsc::channel(limits.ready_max.max(1));
        let acceptor = Acceptor { limits: limits.clone(), pools: pools.clone(), ready: to_ready };
        let acceptor = tokio::spawn(acceptor.run(quinn.clone())).abort_handle();
        Ok(Self(Arc::new(Inner {
            quinn,
            tls,
            limits,
            pools,
            address_tokens: Arc::new(TokenMemoryCache::new(MEMBERS_MAX as u32, 2)),
            ready: Mutex::new(ready),
            acceptor,
        })))
    }

    /// The address the socket is bound to.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.quinn.local_addr()
    }

    /// Dials `addr`, where `expect` must answer: another key is refused before this node sends its own.
    ///
    /// The channel may be returned before the other side has admitted this node; the first request
    /// then fails with [`CloseReason::Refused`].
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(
        &self,
        addr: SocketAddr,
        expect: PeerId,
        purpose: Purpose,
    ) -> Result<EncryptedChannel, ConnectError> {
        let inner = &self.0;
        let found = Arc::new(OnceLock::new());
        let tls = inner
            .tls
            .client_config(expect, purpose, found.clone())
            .map_err(|error| ConnectError::Config(error.to_string()))?;
        let mut config = transport::client_config(tls, &inner.limits)
            .map_err(|error| ConnectError::Config(error.to_string()))?;
        config.token_store(inner.address_tokens.clone());
        // The name is never sent; it keeps one peer's address tokens apart from another's.
        let connecting = inner
            .quinn
            .connect_with(config, addr, &expect.to_string())
            .map_err(|error| begin_error(addr, error))?;
        let allowed = inner.limits.handshake_timeout;
        let conn = match timeout(allowed, connecting).await {
            Ok(Ok(conn)) => conn,
            Ok(Err(ConnectionError::TimedOut)) | Err(_) => {
                return Err(ConnectError::Timeout { addr, millis: allowed.as_millis() });
            }
            Ok(Err(error)) => {
                return Err(match found.get() {
                    Some(found) => {
                        ConnectError::WrongPeer { addr, expected: expect, found: *found }
                    }
                    None => handshake_error(addr, expect, error),
                });
            }
        };
        let channel =
            EncryptedChannel::new(conn, true, &inner.limits, inner.pools.clone()).map_err(
                |cause| ConnectError::Untrusted { addr, expected: expect, cause: cause.to_owned() },
            )?;
        metric::connected(true);
        Ok(channel)
    }

    /// The next caller whose key is proven and passed the gate; `None` when the endpoint is closed.
    /// The caller of this method checks the peer again by [`EncryptedChannel::purpose`].
    ///
    /// Safe to drop and call again: nothing is lost.
    pub async fn accept(&self) -> Option<EncryptedChannel> {
        self.0.ready.lock().await.recv().await
    }

    /// Connections in whatever state, dialled and accepted.
    pub fn connections(&self) -> usize {
        self.0.quinn.open_connections()
    }

    /// Closes every connection at once and accepts no more.
    pub fn close(&self, code: u32, reason: &str) {
        self.0.quinn.close(VarInt::from_u32(code), reason.as_bytes());
    }

    /// Waits until the peers of a closed endpoint know of it, `patience` at most.
    pub async fn wait_idle(&self, patience: Duration) {
        // Whoever has not heard by then finds out by a timeout or a reset.
        let _ = timeout(patience, self.0.quinn.wait_idle()).await;
    }
}

/// Makes room for bursts: a flood of first packets must not push an honest one out of the system's
/// buffer. A system that allows less is still usable.
fn widen_buffers(socket: &UdpSocket) {
    let widened = UdpSocketState::new(socket.into()).and_then(|state| {
        state.set_recv_buffer_size(socket.into(), SOCKET_BUFFER_BYTES)?;
        state.set_send_buffer_size(socket.into(), SOCKET_BUFFER_BYTES)
    });
    if let Err(error) = widened {
        tracing::info!(%error, "the socket keeps the system's buffer sizes");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.acceptor.abort();
        // Connections may outlive the endpoint; new callers find nobody.
        self.quinn.set_server_config(None);
    }
}

/// Runs the handshakes of callers.
struct Acceptor {
    limits: NetLimits,
    pools: NodePools,
    ready: mpsc::Sender<EncryptedChannel>,
}

impl Acceptor {
    async fn run(self, quinn: quinn::Endpoint) {
        let admission = Admission::new(self.limits.clone());
        while let Some(incoming) = quinn.accept().await {
            if quinn.open_connections() >= self.limits.connections_max {
                metric::refused("full");
                incoming.ignore();
                continue;
            }
            let address = incoming.remote_address().ip();
            match admission.decide(address, incoming.remote_address_validated()) {
                Verdict::Begin(slot) => self.begin(incoming, slot),
                Verdict::Validate => match incoming.retry() {
                    Ok(()) => metric::retried(),
                    Err(error) => error.into_incoming().ignore(),
                },
                Verdict::Ignore => {
                    metric::refused("busy");
                    incoming.ignore();
                }
            }
        }
    }

    /// Runs one handshake beside the others; `slot` bounds how many there are, the timeout how long.
    fn begin(&self, incoming: Incoming, slot: Slot) {
        let (limits, pools) = (self.limits.clone(), self.pools.clone());
        let ready = self.ready.clone();
        tokio::spawn(async move {
            let allowed = limits.handshake_timeout;
            match timeout(allowed, handshake(incoming, &limits, pools)).await {
                Ok(Some(channel)) => hand_over(&ready, channel),
                Ok(None) => {}
                Err(_) => metric::refused("slow_handshake"),
            }
            drop(slot);
        });
    }
}

async fn handshake(
    incoming: Incoming,
    limits: &NetLimits,
    pools: NodePools,
) -> Option<EncryptedChannel> {
    let conn = match incoming.await {
        Ok(conn) => conn,
        Err(error) => {
            if let Some(cause) = refusal_cause(&error) {
                metric::refused(cause);
            }
            return None;
        }
    };
    EncryptedChannel::new(conn, false, limits, pools).map_err(metric::refused).ok()
}

/// Gives the channel to whoever accepts; a node that does not keep up sheds callers.
fn hand_over(ready: &mpsc::Sender<EncryptedChannel>, channel: EncryptedChannel) {
    metric::connected(false);
    if let Err(refused) = ready.try_send(channel) {
        metric::refused("not_taken");
        let channel = match refused {
            mpsc::error::TrySendError::Full(channel)
            | mpsc::error::TrySendError::Closed(channel) => channel,
        };
        channel.close(CODE_BUSY, "busy");
    }
}

/// The operator's word for a failed handshake; `None` where the verifier has already counted it.
fn refusal_cause(error: &ConnectionError) -> Option<&'static str> {
    match error {
        ConnectionError::TransportError(error) => match tls_alert(error.code) {
            Some(ALERT_ACCESS_DENIED) => None,
            Some(ALERT_HANDSHAKE_FAILURE) => Some("no_common_algorithm"),
            Some(ALERT_CERTIFICATE_REQUIRED) => Some("no_key"),
            Some(ALERT_NO_APPLICATION_PROTOCOL) => Some("no_common_protocol"),
            Some(_) => Some("bad_handshake"),
            None => Some("bad_transport"),
        },
        ConnectionError::ConnectionClosed(_) | ConnectionError::ApplicationClosed(_) => {
            Some("refused_by_caller")
        }
        ConnectionError::TimedOut => Some("slow_handshake"),
        _ => Some("bad_transport"),
    }
}

fn begin_error(addr: SocketAddr, error: quinn::ConnectError) -> ConnectError {
    match error {
        quinn::ConnectError::InvalidRemoteAddress(_) => ConnectError::Address { addr },
        quinn::ConnectError::EndpointStopping => ConnectError::Closed,
        other => ConnectError::Config(other.to_string()),
    }
}

fn handshake_error(addr: SocketAddr, expected: PeerId, error: ConnectionError) -> ConnectError {
    match error {
        ConnectionError::TransportError(error) if is_tls(error.code) => {
            ConnectError::Untrusted { addr, expected, cause: error.reason }
        }
        ConnectionError::LocallyClosed => ConnectError::Closed,
        error => ConnectError::Lost { addr, reason: error.into() },
    }
}

fn is_tls(code: TransportErrorCode) -> bool {
    tls_alert(code).is_some()
}

/// Close code of a node that sheds callers because its own side does not keep up; apart from the codes
/// that a node gives for its sessions.
const CODE_BUSY: u32 = 16;
// Alerts of RFC 8446 section 6 and RFC 7301 section 3.2.
const ALERT_HANDSHAKE_FAILURE: u8 = 40;
const ALERT_ACCESS_DENIED: u8 = 49;
const ALERT_CERTIFICATE_REQUIRED: u8 = 116;
const ALERT_NO_APPLICATION_PROTOCOL: u8 = 120;
