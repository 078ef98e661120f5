//! Frames: four big-endian bytes of length and that many bytes.
//!
//! An announced length allocates nothing: the buffer grows as bytes arrive, and never holds more
//! room than it has bytes plus one step.

use std::sync::Arc;
use std::time::Duration;

use exo_types::CodecError;
use exo_types::codec::{FRAME_HEADER_BYTES, frame_len};
use exo_types::limits::{FRAME_READ_STEP_BYTES, LANE_FRAME_MILLIS_MAX};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::request::Budget;

/// Why a frame was not read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The announced length is over the bound; nothing was allocated for it.
    #[error("frame refused: {0}")]
    TooLong(CodecError),
    /// The stream ended inside the frame.
    #[error("the stream ended {missing} bytes before the frame did")]
    Truncated {
        /// Bytes still to come, at least.
        missing: usize,
    },
    /// Bytes follow where the frame should have been the last.
    #[error("bytes follow the frame where none may")]
    Trailing,
    /// A frame of a lane was begun and did not come in time.
    #[error("the frame came too slowly")]
    Slow,
    /// The stream was reset or its connection was lost.
    #[error("the stream failed: {0}")]
    Stream(#[source] std::io::Error),
}

/// Reads one frame of at most `max` bytes; `None` when the stream ends before it begins.
///
/// The frame is taken from `budget` first; where that is spent the read waits, and the flow control of
/// QUIC makes the sender wait too.
pub(super) async fn read_frame<R: AsyncRead + Unpin>(
    source: &mut R,
    max: usize,
    budget: &mut Budget,
) -> Result<Option<Vec<u8>>, FrameError> {
    let Some(header) = read_header(source).await? else { return Ok(None) };
    let len = frame_len(header, max).map_err(FrameError::TooLong)?;
    budget.take(len).await;
    let mut body = Vec::new();
    read_body(source, len, &mut body).await?;
    Ok(Some(body))
}

/// As [`read_frame`], where a frame counts `cost` bytes more than it has: many short ones wait at once.
/// From which bounds it is taken is asked when it has begun.
pub(super) async fn read_lane_frame<'p, R: AsyncRead + Unpin>(
    source: &mut R,
    max: usize,
    cost: usize,
    budget: &mut Budget,
    pools: impl Fn() -> &'p [Arc<Semaphore>],
) -> Result<Option<Vec<u8>>, FrameError> {
    let Some(header) = read_header(source).await? else { return Ok(None) };
    let len = frame_len(header, max).map_err(FrameError::TooLong)?;
    *budget = Budget::new(pools());
    budget.take(len + cost).await;
    let mut body = Vec::new();
    // What is announced and does not come holds memory that others wait for.
    let allowed = Duration::from_millis(LANE_FRAME_MILLIS_MAX);
    let whole = timeout(allowed, read_body(source, len, &mut body)).await;
    whole.map_err(|_| FrameError::Slow)??;
    Ok(Some(body))
}

/// Reads one frame of at most `max` bytes from any stream, `None` when the stream ends before it
/// begins: the reader of requests and answers without the bounds of a connection, for tests and
/// fuzzing of its framing.
///
/// # Errors
/// [`FrameError`].
pub async fn read_frame_from<R: AsyncRead + Unpin>(
    source: &mut R,
    max: usize,
) -> Result<Option<Vec<u8>>, FrameError> {
    read_frame(source, max, &mut Budget::default()).await
}

async fn read_body<R: AsyncRead + Unpin>(
    source: &mut R,
    len: usize,
    body: &mut Vec<u8>,
) -> Result<(), FrameError> {
    while body.len() < len {
        if body.len() == body.capacity() {
            body.reserve_exact(growth(body.len(), len));
        }
        let room = (body.capacity() - body.len()).min(len - body.len());
        let mut window = (&mut *source).take(room as u64);
        if window.read_buf(body).await.map_err(FrameError::Stream)? == 0 {
            return Err(FrameError::Truncated { missing: len - body.len() });
        }
    }
    Ok(())
}

/// By how much the buffer of a frame of `len` bytes grows when `have` bytes fill it. Doubling keeps the
/// copies linear; the first step keeps a bare announcement cheap.
fn growth(have: usize, len: usize) -> usize {
    (len - have).min(have.max(FRAME_READ_STEP_BYTES))
}

/// Reads the only frame of a stream: it must be there and nothing may follow.
pub(super) async fn read_only_frame<R: AsyncRead + Unpin>(
    source: &mut R,
    max: usize,
    budget: &mut Budget,
) -> Result<Vec<u8>, FrameError> {
    let body = read_frame(source, max, budget)
        .await?
        .ok_or(FrameError::Truncated { missing: FRAME_HEADER_BYTES })?;
    let mut byte = [0; 1];
    match source.read(&mut byte).await.map_err(FrameError::Stream)? {
        0 => Ok(body),
        _ => Err(FrameError::Trailing),
    }
}

async fn read_header<R: AsyncRead + Unpin>(
    source: &mut R,
) -> Result<Option<[u8; FRAME_HEADER_BYTES]>, FrameError> {
    let mut header = [0; FRAME_HEADER_BYTES];
    let mut filled = 0;
    while filled < header.len() {
        match source.read(&mut header[filled..]).await.map_err(FrameError::Stream)? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(FrameError::Truncated { missing: header.len() - filled }),
            read => filled += read,
        }
    }
    Ok(Some(header))
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use exo_types::codec::frame_header;
    use exo_types::limits::{FRAME_BYTES_MAX, REQUEST_BYTES_MAX};
    use futures::FutureExt;
    use tokio::io::ReadBuf;

    use super::*;

    /// Gives its bytes a few at a time and then ends, or waits forever.
    struct Trickle {
        bytes: Vec<u8>,
        at: usize,
        piece: usize,
        ends: bool,
    }

    impl Trickle {
        fn frame(len: usize, sent: usize) -> Self {
            let mut bytes = frame_header(len, usize::MAX).expect("fits").to_vec();
            bytes.extend((0..sent).map(|i| i as u8));
            Self { bytes, at: 0, piece: 1500, ends: true }
        }
    }

    impl AsyncRead for Trickle {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            let len = self.piece.min(self.bytes.len() - self.at).min(buf.remaining());
            if len == 0 && !self.ends {
                return Poll::Pending;
            }
            buf.put_slice(&self.bytes[self.at..self.at + len]);
            self.at += len;
            Poll::Ready(Ok(()))
        }
    }

    async fn read(source: &mut Trickle, max: usize) -> Result<Option<Vec<u8>>, FrameError> {
        read_frame(source, max, &mut Budget::unlimited()).await
    }

    #[tokio::test]
    async fn a_frame_round_trips_at_every_interesting_length() {
        let step = FRAME_READ_STEP_BYTES;
        for len in [0, 1, step - 1, step, step + 1, 2 * step, 5 * step + 7] {
            let mut source = Trickle::frame(len, len);
            let body = read(&mut source, FRAME_BYTES_MAX).await.expect("reads").expect("is there");
            assert_eq!(body, &source.bytes[FRAME_HEADER_BYTES..], "{len}");
            assert!(read(&mut source, FRAME_BYTES_MAX).await.expect("ends").is_none());
        }
    }

    #[tokio::test]
    async fn four_gibibytes_are_refused_by_the_header_alone() {
        let mut source = Trickle { bytes: vec![0xff; 4], at: 0, piece: 1, ends: false };
        let error = read(&mut source, FRAME_BYTES_MAX).await.expect_err("is refused");
        let actual = u32::MAX as usize;
        assert!(
            matches!(error, FrameError::TooLong(CodecError::TooLong { actual: a, .. }) if a == actual)
        );
    }

    #[tokio::test]
    async fn an_announced_length_allocates_one_step_and_then_with_what_arrives() {
        for sent in [0, 1, FRAME_READ_STEP_BYTES, 3 * FRAME_READ_STEP_BYTES, 4_000_000] {
            let mut source = Trickle::frame(FRAME_BYTES_MAX, sent);
            source.ends = false;
            source.at = FRAME_HEADER_BYTES;
            let mut body = Vec::new();
            {
                let reading = read_body(&mut source, FRAME_BYTES_MAX, &mut body);
                assert!(futures::poll!(std::pin::pin!(reading)).is_pending());
            }
            assert_eq!(body.len(), sent);
            assert!(body.capacity() <= 2 * sent + FRAME_READ_STEP_BYTES, "{sent}");
        }
    }

    #[tokio::test]
    async fn an_early_end_and_a_late_one_are_both_refused() {
        for (len, sent) in [(10, 9), (10, 0), (200_000, 199_999)] {
            let error = read(&mut Trickle::frame(len, sent), REQUEST_BYTES_MAX).await;
            let missing = len - sent;
            assert!(
                matches!(error, Err(FrameError::Truncated { missing: m }) if m == missing),
                "{error:?}"
            );
        }
        let mut half = Trickle { bytes: vec![0, 0], at: 0, piece: 1, ends: true };
        assert!(matches!(read(&mut half, 9).await, Err(FrameError::Truncated { missing: 2 })));
        let mut long = Trickle::frame(10, 11);
        let error = read_only_frame(&mut long, 10, &mut Budget::unlimited()).await;
        assert!(matches!(error, Err(FrameError::Trailing)));
        let mut none = Trickle { bytes: vec![], at: 0, piece: 1, ends: true };
        let error = read_only_frame(&mut none, 10, &mut Budget::unlimited()).await;
        assert!(matches!(error, Err(FrameError::Truncated { .. })));
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(512))]

        #[test]
        fn any_bytes_are_read_as_frames_or_refused(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..3000),
            len in 0u32..2000,
            piece in 1usize..200,
        ) {
            // Half of the inputs begin with a length that may fit, or nearly all would be refused.
            let mut bytes = bytes;
            if len % 2 == 0 && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&len.to_be_bytes());
            }
            let mut source = Trickle { bytes: bytes.clone(), at: 0, piece, ends: true };
            let mut again = Vec::new();
            let refused = loop {
                match read(&mut source, 1500).now_or_never().expect("the source never waits") {
                    Ok(Some(body)) => {
                        again.extend(frame_header(body.len(), 1500).expect("was within the bound"));
                        again.extend(body);
                    }
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            proptest::prop_assert!(bytes.starts_with(&again));
            proptest::prop_assert_eq!(again.len() == bytes.len(), !refused);
        }
    }
}
