//! Requests and answers: one QUIC stream each. The asker sends one frame and ends its side; the other
//! side answers with one frame or several and ends its own.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use exo_types::CodecError;
use exo_types::codec::frame_header;
use exo_types::limits::{
    FRAME_BYTES_MAX, REQUEST_BYTES_MAX, RESPONSE_FRAMES_MAX, STREAM_TIMEOUT_MILLIS,
};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::close::CloseReason;
use super::frame::{FrameError, read_frame, read_only_frame};
use super::metric;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The request is longer than its receiver would read.
    #[error("the request is not sent: {0}")]
    TooLong(CodecError),
    /// The connection is gone; [`CloseReason::Refused`] when the peer never admitted this node.
    #[error("{0}")]
    Lost(CloseReason),
    /// The answer did not come in time.
    #[error("no answer within {millis} ms")]
    Timeout {
        /// The time allowed, milliseconds.
        millis: u128,
    },
    /// The peer gave the request up without an answer.
    #[error("the peer gave the request up (code {code})")]
    Abandoned {
        /// The code it gave.
        code: u64,
    },
    /// The answer ended before its first frame.
    #[error("the answer is empty")]
    Empty,
    /// The answer has more frames than
    /// [`RESPONSE_FRAMES_MAX`](exo_types::limits::RESPONSE_FRAMES_MAX).
    #[error("the answer has more than {RESPONSE_FRAMES_MAX} frames")]
    TooManyFrames,
    /// The answer breaks the framing.
    #[error("the answer is malformed: {0}")]
    Malformed(FrameError),
}

/// Why an answer was not sent whole.
#[derive(Debug, thiserror::Error)]
pub enum RespondError {
    /// The frame is longer than its receiver would read.
    #[error("the answer is not sent: {0}")]
    TooLong(CodecError),
    /// The answer has its [`RESPONSE_FRAMES_MAX`](exo_types::limits::RESPONSE_FRAMES_MAX) frames.
    #[error("an answer has at most {RESPONSE_FRAMES_MAX} frames")]
    TooManyFrames,
    /// The asker no longer reads.
    #[error("the asker no longer waits")]
    NotAwaited,
    /// The asker read too slowly.
    #[error("the asker did not read within {STREAM_TIMEOUT_MILLIS} ms")]
    Timeout,
    /// The connection is gone.
    #[error("{0}")]
    Lost(CloseReason),
}

/// An answer as it arrives: frames until the other side ends it.
#[derive(Debug)]
pub struct Answer {
    from: RecvStream,
    budget: Budget,
    deadline: Instant,
    allowed: Duration,
    frames: usize,
}

impl Answer {
    /// The next frame; `None` after the last one.
    ///
    /// # Errors
    /// [`RequestError`]; the answer is over after an error.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, RequestError> {
        let read = read_frame(&mut self.from, FRAME_BYTES_MAX, &mut self.budget);
        let frame = match timeout_at(self.deadline, read).await {
            Err(_) => return Err(timed_out(self.allowed)),
            Ok(Err(error)) => return Err(answer_error(error)),
            Ok(Ok(frame)) => frame,
        };
        // The frame is the caller's now, and so is its memory.
        self.budget.release();
        if frame.is_some() {
            self.frames += 1;
            if self.frames > RESPONSE_FRAMES_MAX {
                return Err(RequestError::TooManyFrames);
            }
        }
        Ok(frame)
    }
}

/// Sends a request and returns its answer to be read, all within `allowed`.
pub(super) async fn send_request(
    conn: &quinn::Connection,
    body: Bytes,
    allowed: Duration,
    budget: Budget,
) -> Result<Answer, RequestError> {
    let header = frame_header(body.len(), REQUEST_BYTES_MAX).map_err(RequestError::TooLong)?;
    let allowed = allowed.min(Duration::from_millis(STREAM_TIMEOUT_MILLIS));
    let deadline = Instant::now() + allowed;
    let sending = async {
        // Waits where this side already has as many streams as the peer allows.
        let (mut to, from) =
            conn.open_bi().await.map_err(|error| RequestError::Lost(error.into()))?;
        write_frame(&mut to, header, body).await.map_err(request_write_error)?;
        // An error here is that of a stream the peer stopped, and reading tells the cause.
        let _ = to.finish();
        Ok(from)
    };
    match timeout_at(deadline, sending).await {
        Err(_) => Err(timed_out(allowed)),
        Ok(sent) => Ok(Answer { from: sent?, budget, deadline, allowed, frames: 0 }),
    }
}

/// A request a peer has sent, whole, and the way to answer it.
#[derive(Debug)]
pub struct IncomingRequest {
    /// The request, at most [`REQUEST_BYTES_MAX`](exo_types::limits::REQUEST_BYTES_MAX) bytes.
    pub body: Vec<u8>,
    /// The way to answer. Dropped unused, it tells the asker that the request was given up.
    pub responder: Responder,
}

impl IncomingRequest {
    /// Answers with one frame, the last.
    ///
    /// # Errors
    /// [`RespondError`].
    pub async fn respond(self, body: impl Into<Bytes>) -> Result<(), RespondError> {
        self.responder.respond(body).await
    }
}

/// The way to answer one request: frames, at most
/// [`RESPONSE_FRAMES_MAX`](exo_types::limits::RESPONSE_FRAMES_MAX), then an end.
#[derive(Debug)]
pub struct Responder {
    to: SendStream,
    frames: usize,
    finished: bool,
    /// The request's share of the bound on requests, held while it is being answered.
    _budget: Budget,
}

impl Responder {
    /// Answers with one frame, the last.
    ///
    /// # Errors
    /// [`RespondError`].
    pub async fn respond(mut self, body: impl Into<Bytes>) -> Result<(), RespondError> {
        self.respond_more(body).await?;
        self.finish()
    }

    /// Answers with one frame of several.
    ///
    /// # Errors
    /// [`RespondError`].
    pub async fn respond_more(&mut self, body: impl Into<Bytes>) -> Result<(), RespondError> {
        let body = body.into();
        if self.frames >= RESPONSE_FRAMES_MAX {
            return Err(RespondError::TooManyFrames);
        }
        let header = frame_header(body.len(), FRAME_BYTES_MAX).map_err(RespondError::TooLong)?;
        let allowed = Duration::from_millis(STREAM_TIMEOUT_MILLIS);
        match timeout(allowed, write_frame(&mut self.to, header, body)).await {
            Err(_) => Err(RespondError::Timeout),
            Ok(Err(error)) => Err(respond_error(error)),
            Ok(Ok(())) => {
                self.frames += 1;
                Ok(())
            }
        }
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// [`RespondError::NotAwaited`].
    pub fn finish(mut self) -> Result<(), RespondError> {
        self.finished = true;
        self.to.finish().map_err(|_| RespondError::NotAwaited)
    }

    /// Resolves when the asker no longer waits for the answer, or its connection is lost.
    pub fn abandoned(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.to.stopped();
        async move {
            // Before the answer is finished, only a stop or a lost connection ends the wait.
            let _ = stopped.await;
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.finished {
            // An unfinished answer must not look like a short one. This fails on a stream that the
            // asker has stopped, which is as well.
            let _ = self.to.reset(VarInt::from_u32(CODE_GIVEN_UP));
        }
    }
}

/// Reads the request on a stream that a peer opened; a request that breaks the rules is refused on
/// its own stream and `None`.
pub(super) async fn read_request(
    mut to: SendStream,
    mut from: RecvStream,
    mut budget: Budget,
    allowed: Duration,
) -> Option<IncomingRequest> {
    let read = read_only_frame(&mut from, REQUEST_BYTES_MAX, &mut budget);
    let (cause, code) = match timeout(allowed, read).await {
        Ok(Ok(body)) => {
            let responder = Responder { to, frames: 0, finished: false, _budget: budget };
            return Some(IncomingRequest { body, responder });
        }
        Err(_) => ("slow", CODE_SLOW),
        Ok(Err(FrameError::TooLong(_))) => ("too_long", CODE_MALFORMED),
        Ok(Err(FrameError::Truncated { .. })) => ("truncated", CODE_MALFORMED),
        Ok(Err(FrameError::Trailing)) => ("trailing", CODE_MALFORMED),
        Ok(Err(FrameError::Slow)) => ("slow", CODE_SLOW),
        Ok(Err(FrameError::Stream(_))) => ("lost", CODE_GIVEN_UP),
    };
    metric::request_refused(cause);
    // Both fail only on a stream that is already over.
    let _ = from.stop(VarInt::from_u32(code));
    let _ = to.reset(VarInt::from_u32(code));
    None
}

async fn write_frame(to: &mut SendStream, header: [u8; 4], body: Bytes) -> Result<(), WriteError> {
    to.write_all(&header).await?;
    to.write_chunk(body).await
}

fn timed_out(allowed: Duration) -> RequestError {
    RequestError::Timeout { millis: allowed.as_millis() }
}

fn request_write_error(error: WriteError) -> RequestError {
    match error {
        WriteError::Stopped(code) => RequestError::Abandoned { code: code.into_inner() },
        WriteError::ConnectionLost(error) => RequestError::Lost(error.into()),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => {
            RequestError::Lost(CloseReason::Here)
        }
    }
}

fn respond_error(error: WriteError) -> RespondError {
    match error {
        WriteError::ConnectionLost(error) => RespondError::Lost(error.into()),
        WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
            RespondError::NotAwaited
        }
    }
}

/// Finds in a failed read what the peer or the connection did.
fn answer_error(error: FrameError) -> RequestError {
    if let FrameError::Stream(cause) = &error
        && let Some(cause) = cause.get_ref().and_then(|inner| inner.downcast_ref::<ReadError>())
    {
        match cause {
            ReadError::Reset(code) => {
                return RequestError::Abandoned { code: code.into_inner() };
            }
            ReadError::ConnectionLost(lost) => return RequestError::Lost(lost.clone().into()),
            _ => {}
        }
    }
    RequestError::Malformed(error)
}

/// A share of the bounds on bytes being received: taken before a frame is read, given back on drop.
#[derive(Debug, Default)]
pub(super) struct Budget {
    pools: Vec<Arc<Semaphore>>,
    held: Vec<OwnedSemaphorePermit>,
}

impl Budget {
    pub(super) fn new(pools: &[Arc<Semaphore>]) -> Self {
        Self { pools: pools.to_vec(), held: Vec::new() }
    }

    #[cfg(test)]
    pub(super) fn unlimited() -> Self {
        Self::default()
    }

    /// Waits for room for a frame of `bytes` in every pool. It is taken whole, so that two frames
    /// never wait for each other, and it is room to grow into, not memory.
    pub(super) async fn take(&mut self, bytes: usize) {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        for pool in &self.pools {
            // The pools are never closed; a closed one would bound nothing.
            if let Ok(permit) = pool.clone().acquire_many_owned(permits).await {
                self.held.push(permit);
            }
        }
    }

    /// Gives everything back.
    fn release(&mut self) {
        self.held.clear();
    }
}

/// Stream error code: the request was given up without an answer.
const CODE_GIVEN_UP: u32 = 1;
/// Stream error code: the request breaks the framing.
const CODE_MALFORMED: u32 = 2;
/// Stream error code: the request came too slowly.
const CODE_SLOW: u32 = 3;
