//! The frame reader over a stream that arrives in pieces.
#![no_main]

use std::pin::Pin;
use std::task::{Context, Poll};

use exo_federation::driver::net::read_frame_from;
use exo_fuzz::{block_on, byte};
use exo_types::codec::{FRAME_HEADER_BYTES, frame_header, frame_len};
use exo_types::limits::{FRAME_BYTES_MAX, FRAME_READ_STEP_BYTES, REQUEST_BYTES_MAX};
use tokio::io::{AsyncRead, ReadBuf};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let step = usize::from(byte(&mut rest)) + 1;
    let max = [16, REQUEST_BYTES_MAX, FRAME_BYTES_MAX][usize::from(byte(&mut rest)) % 3];
    let mut stream = Pieces { bytes: rest, step };
    loop {
        let before = stream.bytes;
        let Ok(Some(frame)) = block_on(read_frame_from(&mut stream, max)) else { break };
        let header = before.first_chunk::<FRAME_HEADER_BYTES>().expect("a frame has a header");
        assert_eq!(frame_len(*header, max), Ok(frame.len()));
        assert_eq!(frame_header(frame.len(), max), Ok(*header), "a frame has one header");
        assert_eq!(frame, before[FRAME_HEADER_BYTES..][..frame.len()]);
        assert!(frame.capacity() <= 2 * frame.len().max(FRAME_READ_STEP_BYTES));
        assert_eq!(stream.bytes.len(), before.len() - FRAME_HEADER_BYTES - frame.len());
    }
});

/// Gives its bytes in pieces of at most `step`.
struct Pieces<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let len = self.bytes.len().min(self.step).min(buffer.remaining());
        let (now, later) = self.bytes.split_at(len);
        buffer.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}
