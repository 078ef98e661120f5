//! Lanes: long-lived unidirectional streams, one of each [kind](LaneKind) in each direction, for messages
//! that have no answer. The first byte of a stream says its kind; frames follow.
//!
//! A lane keeps the order of what is sent over it and may lose its end with the connection; whoever uses
//! it says again what matters. A peer may open its lane only once this node has allowed it, so that what
//! has not been judged sends nothing over it. What waits to be sent is bounded: a peer that does not read
//! loses messages and holds up nobody. What is received waits in the peer's own share of memory: a peer
//! that sends too much waits for itself.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use exo_types::CodecError;
use exo_types::codec::{FRAME_HEADER_BYTES, frame_header};
use exo_types::limits::{
    CONSENSUS_MESSAGE_BYTES_MAX, FRAME_BYTES_MAX, LANE_FRAME_COST_BYTES, LANE_OUTBOX_BYTES_MAX,
    LANE_OUTBOX_FRAMES_MAX,
};
use quinn::{RecvStream, SendStream, VarInt, WriteError};
use tokio::io::BufReader;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;

use super::frame::{FrameError, read_lane_frame};
use super::metric;
use super::request::Budget;

/// What a lane carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LaneKind {
    /// Messages of the commit protocol.
    Decisions,
    /// Messages about shared collections.
    Shared,
}

impl LaneKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Decisions, Self::Shared];

    /// The first byte of its streams.
    pub const fn tag(self) -> u8 {
        match self {
            Self::Decisions => 0,
            Self::Shared => 1,
        }
    }

    fn from_tag(tag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.tag() == tag)
    }

    /// The longest message, bytes.
    const fn bytes_max(self) -> usize {
        match self {
            Self::Decisions => CONSENSUS_MESSAGE_BYTES_MAX,
            Self::Shared => FRAME_BYTES_MAX,
        }
    }
}

/// A message as it goes over a lane: made once, whatever the number of peers it is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneFrame(Bytes);

impl LaneFrame {
    /// Frames a message.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] when it is over
    /// [`CONSENSUS_MESSAGE_BYTES_MAX`](exo_types::limits::CONSENSUS_MESSAGE_BYTES_MAX).
    pub fn new(body: &[u8]) -> Result<Self, CodecError> {
        let header = frame_header(body.len(), CONSENSUS_MESSAGE_BYTES_MAX)?;
        let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + body.len());
        frame.extend_from_slice(&header);
        frame.extend_from_slice(body);
        Ok(Self(frame.into()))
    }
}

/// The sending end of this node's lane to a peer. It ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Lane(Arc<Sending>);

#[derive(Debug)]
struct Sending {
    outbox: Arc<Shared>,
    writer: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    outbox: Mutex<Outbox>,
    /// There is something for the writer to do.
    more: Notify,
    /// The node's bound on all that waits.
    pool: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Outbox {
    stream: Option<SendStream>,
    waiting: VecDeque<(Bytes, Option<OwnedSemaphorePermit>)>,
    bytes: usize,
}

impl Lane {
    /// Opens a lane in the background.
    pub(super) fn open(conn: quinn::Connection, pool: Arc<Semaphore>, runtime: &Handle) -> Self {
        let outbox = Arc::new(Shared { outbox: Mutex::default(), more: Notify::new(), pool });
        let writer = runtime.spawn(write(conn, Arc::clone(&outbox))).abort_handle();
        Self(Arc::new(Sending { outbox, writer }))
    }

    /// Sends a message, or keeps it until the peer has room. One that finds no room here is dropped, and
    /// this says so.
    ///
    /// Must be called inside a tokio runtime or beside one: it never waits.
    pub fn send(&self, frame: &LaneFrame) -> bool {
        let shared = &self.0.outbox;
        let mut outbox = lock(&shared.outbox);
        let mut rest = frame.0.clone();
        // Mostly there is room on the way, and no other task needs to be woken.
        if outbox.waiting.is_empty()
            && let Some(stream) = &mut outbox.stream
        {
            let mut unheard = Context::from_waker(Waker::noop());
            match poll_write(stream, &mut rest, &mut unheard) {
                Poll::Ready(Ok(())) => return true,
                Poll::Ready(Err(_)) | Poll::Pending => {}
            }
        }
        let begun = rest.len() < frame.0.len();
        let kept = outbox.keep(rest, begun, &shared.pool);
        drop(outbox);
        if kept {
            shared.more.notify_one();
        } else {
            metric::lane_dropped();
        }
        kept
    }

    /// Bytes that wait for the peer to make room.
    pub fn waiting(&self) -> usize {
        lock(&self.0.outbox.outbox).bytes
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

impl Outbox {
    /// Keeps a message, or the rest of one that is begun: that one must be kept.
    fn keep(&mut self, frame: Bytes, begun: bool, pool: &Arc<Semaphore>) -> bool {
        let permits = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let permit = Arc::clone(pool).try_acquire_many_owned(permits).ok();
        let room = permit.is_some()
            && self.waiting.len() < LANE_OUTBOX_FRAMES_MAX
            && self.bytes + frame.len() <= LANE_OUTBOX_BYTES_MAX;
        if room || begun {
            self.bytes += frame.len();
            self.waiting.push_back((frame, permit));
        }
        room || begun
    }

    /// Writes what waits, in order.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        while let Some((frame, _)) = self.waiting.front_mut() {
            let before = frame.len();
            let written = poll_write(stream, frame, cx);
            self.bytes -= before - frame.len();
            match written {
                Poll::Ready(Ok(())) => drop(self.waiting.pop_front()),
                other => return other,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends a stream. What waits begins inside a message that the next stream would not know.
    fn close(&mut self) {
        *self = Self::default();
    }
}

/// Writes as much as there is room for, and leaves the rest in `frame`.
fn poll_write(
    stream: &mut SendStream,
    frame: &mut Bytes,
    cx: &mut Context<'_>,
) -> Poll<Result<(), WriteError>> {
    while !frame.is_empty() {
        let writing = pin!(stream.write_chunks(std::slice::from_mut(frame)));
        match writing.poll(cx) {
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(Ok(()))
}

/// Opens the stream once the peer allows it, and writes what [`Lane::send`] could not; for as long as
/// the connection lives.
async fn write(conn: quinn::Connection, shared: Arc<Shared>) {
    while let Ok(mut stream) = conn.open_uni().await {
        // Before answers to requests that share the connection: a message is short and somebody waits.
        let _ = stream.set_priority(LANE_PRIORITY);
        let begun = stream.write_all(&[LaneKind::Decisions.tag()]).await;
        lock(&shared.outbox).stream = Some(stream);
        let ended = loop {
            if let Err(error) = begun {
                break error;
            }
            if let Err(error) = poll_fn(|cx| lock(&shared.outbox).poll_flush(cx)).await {
                break error;
            }
            shared.more.notified().await;
        };
        lock(&shared.outbox).close();
        if matches!(ended, WriteError::ConnectionLost(_)) {
            return;
        }
        // The peer stopped the stream; it may have another.
        tokio::time::sleep(REOPEN_AFTER).await;
    }
}

/// The sending end of a lane that waits for the peer instead of dropping what it has no room for.
#[derive(Debug)]
pub struct LaneWriter(SendStream);

/// The peer does not take the lane any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaneLost {
    /// The connection is over.
    #[error("the connection is over")]
    Connection,
    /// The peer stopped this stream; it may take another.
    #[error("the peer stopped the lane")]
    Stopped,
    /// The message is longer than one of its kind may be; nothing was sent.
    #[error("the message is too long: {0}")]
    TooLong(CodecError),
}

impl LaneWriter {
    /// Opens a stream of a kind as soon as the peer allows it.
    pub(super) async fn open(conn: &quinn::Connection, kind: LaneKind) -> Result<Self, LaneLost> {
        let mut stream = conn.open_uni().await.map_err(|_| LaneLost::Connection)?;
        // Behind answers to requests, and behind decisions: a synchronisation takes what is left.
        let _ = stream.set_priority(WRITER_PRIORITY);
        stream.write_all(&[kind.tag()]).await.map_err(|error| lost(&error))?;
        Ok(Self(stream))
    }

    /// Sends a message of at most `FRAME_BYTES_MAX` bytes; returns when the last byte has found room on
    /// the way. Dropped before, it leaves the lane in the middle of a message.
    ///
    /// # Errors
    /// [`LaneLost`].
    pub async fn send(&mut self, body: impl Into<Bytes>) -> Result<(), LaneLost> {
        let body: Bytes = body.into();
        let header =
            frame_header(body.len(), LaneKind::Shared.bytes_max()).map_err(LaneLost::TooLong)?;
        let mut frame = [Bytes::copy_from_slice(&header), body];
        self.0.write_all_chunks(&mut frame).await.map_err(|error| lost(&error))
    }
}

fn lost(error: &WriteError) -> LaneLost {
    match error {
        WriteError::Stopped(_) => LaneLost::Stopped,
        _ => LaneLost::Connection,
    }
}

/// From which bounds what is received is taken: the first is the connection's.
#[derive(Clone, Debug)]
pub(super) struct Inboxes {
    pub(super) of_voter: Vec<Arc<Semaphore>>,
    pub(super) of_other: Vec<Arc<Semaphore>>,
}

impl Inboxes {
    /// The same for everybody.
    pub(super) fn same(pools: Vec<Arc<Semaphore>>) -> Self {
        Self { of_voter: pools.clone(), of_other: pools }
    }
}

/// The receiving end of a peer's lane.
#[derive(Debug)]
pub struct LaneReader {
    from: BufReader<RecvStream>,
    kind: LaneKind,
    inboxes: Inboxes,
    allowed: watch::Receiver<bool>,
    over: bool,
}

/// A message that came over a lane. Its share of memory is given back when it is dropped.
#[derive(Debug)]
pub struct LaneMessage {
    /// What was sent: at most
    /// [`CONSENSUS_MESSAGE_BYTES_MAX`](exo_types::limits::CONSENSUS_MESSAGE_BYTES_MAX) bytes of decisions,
    /// [`FRAME_BYTES_MAX`](exo_types::limits::FRAME_BYTES_MAX) of shared collections.
    pub body: Vec<u8>,
    _budget: Budget,
}

impl LaneReader {
    /// Waits for the first byte; `None` when it does not come or names no kind.
    pub(super) async fn begin(
        mut from: RecvStream,
        inboxes: impl FnOnce(LaneKind) -> Inboxes,
        mut allowed: watch::Receiver<bool>,
    ) -> Option<Self> {
        let mut tag = [0];
        tokio::select! {
            read = from.read_exact(&mut tag) => read.ok()?,
            _ = allowed.wait_for(|allowed| !allowed) => return None,
        }
        let Some(kind) = LaneKind::from_tag(tag[0]) else {
            metric::request_refused("lane_kind");
            // Fails on a stream that is over already.
            let _ = from.stop(VarInt::from_u32(CODE_MALFORMED));
            return None;
        };
        let from = BufReader::with_capacity(READ_BYTES, from);
        Some(Self { from, kind, inboxes: inboxes(kind), allowed, over: false })
    }

    /// What the peer sends over it.
    pub fn kind(&self) -> LaneKind {
        self.kind
    }

    /// As [`next_of`](Self::next_of), of a peer without a vote.
    pub async fn next(&mut self) -> Option<LaneMessage> {
        self.next_of(|| false).await
    }

    /// The next message; `None` when the lane is over: the peer ended it, the connection is lost, it is
    /// [taken back](super::EncryptedChannel::end_lanes), or it broke the framing, which stops its stream.
    ///
    /// When a message begins `votes` says whether the peer has a vote: then it is read into the voter's
    /// own memory, and waits for nobody else. Waits while messages that were returned before and not yet
    /// dropped take all of the peer's share. The reading must not be dropped before it is done.
    pub async fn next_of(&mut self, votes: impl Fn() -> bool) -> Option<LaneMessage> {
        if self.over {
            return None;
        }
        let mut budget = Budget::default();
        let inboxes = &self.inboxes;
        let begun = || match votes() {
            true => inboxes.of_voter.as_slice(),
            false => inboxes.of_other.as_slice(),
        };
        let read = read_lane_frame(
            &mut self.from,
            self.kind.bytes_max(),
            LANE_FRAME_COST_BYTES,
            &mut budget,
            begun,
        );
        let read = tokio::select! {
            read = read => Some(read),
            _ = self.allowed.wait_for(|allowed| !allowed) => None,
        };
        let cause = match read.unwrap_or(Ok(None)) {
            Ok(Some(body)) => return Some(LaneMessage { body, _budget: budget }),
            Ok(None) => None,
            Err(FrameError::TooLong(_)) => Some("lane_too_long"),
            Err(FrameError::Truncated { .. }) => Some("lane_truncated"),
            Err(FrameError::Slow) => Some("lane_slow"),
            Err(FrameError::Trailing | FrameError::Stream(_)) => None,
        };
        self.over = true;
        if let Some(cause) = cause {
            metric::request_refused(cause);
            // Fails on a stream that is over already.
            let _ = self.from.get_mut().stop(VarInt::from_u32(CODE_MALFORMED));
        }
        None
    }
}

fn lock(outbox: &Mutex<Outbox>) -> MutexGuard<'_, Outbox> {
    outbox.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stream error code: a frame breaks the framing.
const CODE_MALFORMED: u32 = 2;
/// Above the zero of all other streams.
const LANE_PRIORITY: i32 = 1;
/// Below it.
const WRITER_PRIORITY: i32 = -1;
/// How long a lane that the peer stopped stays closed.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
/// Bytes that are read at once, so that short messages do not each take a call.
const READ_BYTES: usize = 16 * 1024;
