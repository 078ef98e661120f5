//! One connection to one proven peer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use exo_crypto::{IdentityKey, Label};
use exo_types::PeerId;
use exo_types::limits::{
    ANSWER_BYTES_PER_CONNECTION_MAX, FRAME_BYTES_MAX, LANE_INBOX_BYTES_MAX, LANES_BYTES_MAX,
    REQUEST_BYTES_MAX, SHARED_INBOX_BYTES_MAX, SHARED_INBOXES_BYTES_MAX,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use quinn::VarInt;
use quinn::crypto::rustls::HandshakeData;
use rustls::pki_types::CertificateDer;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore, watch};

use super::Purpose;
use super::admission::NetLimits;
use super::close::CloseReason;
use super::lane::{Inboxes, Lane, LaneKind, LaneLost, LaneReader, LaneWriter};
use super::request::{Answer, Budget, IncomingRequest, RequestError, read_request, send_request};

/// An encrypted connection to one peer whose key is proven. Cheap to clone; the connection closes
/// when the last clone is dropped.
///
/// Call [`accept_request`](Self::accept_request) in a loop to serve the peer, and
/// [`request`](Self::request) to ask it. On a dialled channel the peer may still refuse this node: the
/// first request then fails with [`CloseReason::Refused`].
#[derive(Clone, Debug)]
pub struct EncryptedChannel(Arc<Channel>);

#[derive(Debug)]
struct Channel {
    conn: quinn::Connection,
    peer: PeerId,
    key: IdentityKey,
    purpose: Purpose,
    dialed: bool,
    request_bytes: Arc<Semaphore>,
    answer_bytes: [Arc<Semaphore>; 2],
    lane_in_bytes: Inboxes,
    shared_in_bytes: Inboxes,
    /// Whether the peer may have lanes.
    lanes: watch::Sender<bool>,
    lane_out_bytes: Arc<Semaphore>,
    request_read_timeout: Duration,
    reading: Mutex<FuturesUnordered<BoxFuture<'static, Option<IncomingRequest>>>>,
    streams_max: usize,
}

/// Counts of one connection since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames sent that the peer must acknowledge, each time they were sent.
    pub asks: u64,
    /// Acknowledgements received.
    pub acknowledgements: u64,
}

/// The library gave no key material; the connection is closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection gave no key material")]
pub struct ExporterError;

impl EncryptedChannel {
    /// Wraps a connection whose handshake is over; the error names what the handshake lacks.
    pub(super) fn new(
        conn: quinn::Connection,
        dialed: bool,
        limits: &NetLimits,
        node: NodePools,
    ) -> Result<Self, &'static str> {
        let key = peer_key(&conn).ok_or("no_key")?;
        let purpose = purpose(&conn).ok_or("no_purpose")?;
        let peer = key.peer_id();
        let ours = pool(LANE_INBOX_BYTES_MAX);
        Ok(Self(Arc::new(Channel {
            conn,
            peer,
            key,
            purpose,
            dialed,
            request_bytes: pool(limits.request_bytes_max.max(REQUEST_BYTES_MAX)),
            // The connection's own bound comes first, so that one peer never holds all of the node's.
            answer_bytes: [pool(ANSWER_BYTES_PER_CONNECTION_MAX), node.answers],
            lane_in_bytes: Inboxes {
                // Whatever connections a voter has: it has its share once, and nobody else has of it.
                of_voter: vec![Arc::clone(&ours), node.voters_in.of(peer)],
                of_other: vec![ours, node.lanes_in],
            },
            shared_in_bytes: Inboxes::same(vec![pool(SHARED_INBOX_BYTES_MAX), node.shared_in]),
            lanes: watch::Sender::new(false),
            lane_out_bytes: node.lanes_out,
            request_read_timeout: limits.request_read_timeout,
            reading: Mutex::default(),
            streams_max: limits.streams_max as usize,
        })))
    }

    /// The peer, named by its proven key.
    pub fn peer(&self) -> PeerId {
        self.0.peer
    }

    /// The peer's proven key.
    pub fn peer_key(&self) -> &IdentityKey {
        &self.0.key
    }

    /// What the dialling side opened the channel for.
    pub fn purpose(&self) -> Purpose {
        self.0.purpose
    }

    /// Whether this node dialled.
    pub fn dialed(&self) -> bool {
        self.0.dialed
    }

    /// Where the peer's packets come from now.
    pub fn remote_address(&self) -> SocketAddr {
        let address = self.0.conn.remote_address();
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }

    /// The current estimate of the round trip to the peer.
    pub fn round_trip(&self) -> Duration {
        self.0.conn.rtt()
    }

    /// What is sent and acknowledged on it.
    pub fn traffic(&self) -> Traffic {
        let stats = self.0.conn.stats();
        Traffic {
            asks: stats.frame_tx.stream + stats.frame_tx.ping,
            acknowledgements: stats.frame_rx.acks,
        }
    }

    /// Thirty-two bytes that only the two ends of this connection know (RFC 8446 section 7.5), to bind
    /// what is said at a higher layer to this connection.
    ///
    /// # Errors
    /// [`ExporterError`] when the library fails.
    pub fn exporter(&self, label: Label) -> Result<[u8; 32], ExporterError> {
        let mut out = [0; 32];
        self.0
            .conn
            .export_keying_material(&mut out, label.as_str().as_bytes(), &[])
            .map_err(|_| ExporterError)?;
        Ok(out)
    }

    /// Asks, and returns an answer of exactly one frame, at most
    /// [`FRAME_BYTES_MAX`](exo_types::limits::FRAME_BYTES_MAX) bytes. Dropping the future tells the
    /// peer that the answer is no longer awaited.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn request(
        &self,
        body: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<Vec<u8>, RequestError> {
        let mut answer = self.request_stream(body, timeout).await?;
        let frame = answer.next().await?.ok_or(RequestError::Empty)?;
        match answer.next().await? {
            None => Ok(frame),
            Some(_) => Err(RequestError::Malformed(super::FrameError::Trailing)),
        }
    }

    /// Asks, and returns an answer that may have several frames, all within `timeout`.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn request_stream(
        &self,
        body: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<Answer, RequestError> {
        let budget = Budget::new(&self.0.answer_bytes);
        send_request(&self.0.conn, body.into(), timeout, budget).await
    }

    /// The peer's next request; `None` when the connection is over. Requests are read side by side, so
    /// a slow one holds up no other; one that breaks the rules is refused and skipped.
    ///
    /// Safe to drop and call again: nothing is lost.
    pub async fn accept_request(&self) -> Option<IncomingRequest> {
        let channel = &self.0;
        let mut reading = channel.reading.lock().await;
        loop {
            let room = reading.len() < channel.streams_max;
            tokio::select! {
                Some(read) = reading.next() => {
                    if let Some(request) = read {
                        return Some(request);
                    }
                }
                stream = channel.conn.accept_bi(), if room => {
                    let (to, from) = stream.ok()?;
                    let budget = Budget::new(std::slice::from_ref(&channel.request_bytes));
                    let read = read_request(to, from, budget, channel.request_read_timeout);
                    reading.push(Box::pin(read));
                }
            }
        }
    }

    /// Lets the peer open its lanes. Until then it cannot: it has no streams for them.
    pub fn allow_lane(&self) {
        let kinds = u32::try_from(LaneKind::ALL.len()).unwrap_or(1);
        self.0.conn.set_max_concurrent_uni_streams(VarInt::from_u32(kinds));
        self.0.lanes.send_replace(true);
    }

    /// Takes that back: the peer's lanes end, what is under way on them is lost and its memory is given
    /// back, and further ones are not taken.
    pub fn end_lanes(&self) {
        self.0.conn.set_max_concurrent_uni_streams(VarInt::from_u32(0));
        self.0.lanes.send_replace(false);
    }

    /// Opens this node's lane for decisions to the peer, which is usable at once: what is sent before the
    /// peer allows it waits. A channel has one at a time.
    pub fn open_lane(&self, runtime: &Handle) -> Lane {
        Lane::open(self.0.conn.clone(), Arc::clone(&self.0.lane_out_bytes), runtime)
    }

    /// Opens a lane of a kind that waits for the peer, as soon as the peer allows it.
    ///
    /// # Errors
    /// [`LaneLost`].
    pub async fn open_writer(&self, kind: LaneKind) -> Result<LaneWriter, LaneLost> {
        LaneWriter::open(&self.0.conn, kind).await
    }

    /// The peer's lane, once it opens one: the next one when it opens another, of either kind; it may open
    /// a second of one kind and none of the other. `None` when the connection is over.
    pub async fn accept_lane(&self) -> Option<LaneReader> {
        loop {
            let from = self.0.conn.accept_uni().await.ok()?;
            let inboxes = |kind| match kind {
                LaneKind::Decisions => self.0.lane_in_bytes.clone(),
                LaneKind::Shared => self.0.shared_in_bytes.clone(),
            };
            // What the peer may not have is dropped, which stops it.
            let allowed = self.0.lanes.subscribe();
            if !*allowed.borrow() {
                continue;
            }
            if let Some(lane) = LaneReader::begin(from, inboxes, allowed).await {
                return Some(lane);
            }
        }
    }

    /// Closes the connection at once; what is under way is lost. The peer sees the code and the reason.
    pub fn close(&self, code: u32, reason: &str) {
        self.0.conn.close(VarInt::from_u32(code), reason.as_bytes());
    }

    /// Waits until the connection is over and tells why.
    pub async fn closed(&self) -> CloseReason {
        self.0.conn.closed().await.into()
    }

    /// Why the connection is over; `None` while it lives.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.0.conn.close_reason().map(CloseReason::from)
    }

    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        self.0.conn.close_reason().is_some()
    }
}

/// The bounds on bytes that all channels of a node share.
#[derive(Clone, Debug)]
pub(super) struct NodePools {
    answers: Arc<Semaphore>,
    lanes_in: Arc<Semaphore>,
    voters_in: Arc<VoterPools>,
    shared_in: Arc<Semaphore>,
    lanes_out: Arc<Semaphore>,
}

impl NodePools {
    pub(super) fn new(limits: &NetLimits) -> Self {
        Self {
            answers: pool(limits.answer_bytes_max.max(FRAME_BYTES_MAX)),
            lanes_in: pool(LANES_BYTES_MAX),
            voters_in: Arc::default(),
            shared_in: pool(SHARED_INBOXES_BYTES_MAX),
            lanes_out: pool(LANES_BYTES_MAX),
        }
    }
}

/// For each peer with a channel the memory it has as a voter, whatever others take: as many are in use as
/// there are voters.
#[derive(Debug, Default)]
struct VoterPools(std::sync::Mutex<HashMap<PeerId, Weak<Semaphore>>>);

impl VoterPools {
    fn of(&self, peer: PeerId) -> Arc<Semaphore> {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = pools.get(&peer).and_then(Weak::upgrade) {
            return known;
        }
        // No more are kept than there are channels.
        pools.retain(|_, pool| pool.strong_count() > 0);
        let made = pool(LANE_INBOX_BYTES_MAX);
        pools.insert(peer, Arc::downgrade(&made));
        made
    }
}

/// A bound on bytes being received.
fn pool(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)))
}

/// The raw public key that the peer has proven.
fn peer_key(conn: &quinn::Connection) -> Option<IdentityKey> {
    let keys = conn.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    IdentityKey::from_spki_der(keys.first()?).ok()
}

/// The purpose that both sides settled on.
fn purpose(conn: &quinn::Connection) -> Option<Purpose> {
    let data = conn.handshake_data()?.downcast::<HandshakeData>().ok()?;
    Purpose::from_alpn(data.protocol.as_deref()?)
}
