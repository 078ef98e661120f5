//! Requests and answers on the streams of one connection.

use std::time::{Duration, Instant};

use exo_federation::driver::net::{
    CloseReason, EncryptedChannel, NetLimits, RequestError, RespondError,
};
use exo_types::limits::{ANSWER_BYTES_MAX, FRAME_BYTES_MAX, REQUEST_BYTES_MAX};

use super::counters::count;
use super::rogue::Rogue;
use super::{PATIENCE, address, admit_all, bind, bind_with, echo, identity, join, within};

async fn pair() -> (EncryptedChannel, EncryptedChannel) {
    join(&bind(1), &bind(2), 2).await
}

#[tokio::test]
async fn both_sides_may_ask_and_lengths_at_the_bounds_pass() {
    let (dialed, accepted) = pair().await;
    echo(accepted.clone());
    echo(dialed.clone());
    for channel in [&dialed, &accepted] {
        for len in [0, 1, 65_536, REQUEST_BYTES_MAX] {
            let body: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let answer = channel.request(body.clone(), PATIENCE).await.expect("answers");
            assert!(answer == body, "{len}");
        }
    }
    let error = dialed.request(vec![0; REQUEST_BYTES_MAX + 1], PATIENCE).await;
    assert!(matches!(error, Err(RequestError::TooLong(_))), "{error:?}");
}

#[tokio::test]
async fn the_largest_answer_arrives_whole_and_a_larger_one_is_not_sent() {
    let (dialed, accepted) = pair().await;
    let body: Vec<u8> = (0..ANSWER_BYTES_MAX).map(|i| (i % 251) as u8).collect();
    let sent = body.clone();
    let server = tokio::spawn(async move {
        let request = accepted.accept_request().await.expect("asks");
        request.respond(sent).await.expect("sends");
        let mut request = accepted.accept_request().await.expect("asks");
        let error = request.responder.respond_more(vec![0; FRAME_BYTES_MAX + 1]).await;
        assert!(matches!(error, Err(RespondError::TooLong(_))));
        accepted
    });
    let answer = dialed.request(b"all".as_slice(), PATIENCE).await.expect("answers");
    assert!(answer == body);
    let error = dialed.request(b"more".as_slice(), PATIENCE).await.expect_err("is given up");
    assert!(matches!(error, RequestError::Abandoned { .. }), "{error}");
    server.await.expect("serves");
}

#[tokio::test]
async fn an_answer_may_have_several_frames_and_none_is_lost() {
    let (dialed, accepted) = pair().await;
    tokio::spawn(async move {
        while let Some(request) = accepted.accept_request().await {
            let mut responder = request.responder;
            for i in 0..100u8 {
                responder.respond_more(vec![i; usize::from(i) * 100]).await.expect("sends");
            }
            responder.finish().expect("ends");
        }
    });
    let mut answer = dialed.request_stream(b"x".as_slice(), PATIENCE).await.expect("is sent");
    for i in 0..100u8 {
        let frame = answer.next().await.expect("reads").expect("there is more");
        assert_eq!(frame, vec![i; usize::from(i) * 100]);
    }
    assert_eq!(answer.next().await.expect("ends"), None);
    // Who wants exactly one frame refuses more.
    let error = dialed.request(b"x".as_slice(), PATIENCE).await.expect_err("has several");
    assert!(matches!(error, RequestError::Malformed(_)), "{error}");
}

#[tokio::test]
async fn a_request_given_up_is_never_taken_for_an_empty_answer() {
    let (dialed, accepted) = pair().await;
    tokio::spawn(async move {
        drop(accepted.accept_request().await);
        let mut request = accepted.accept_request().await.expect("asks");
        request.responder.respond_more(b"half".as_slice()).await.expect("sends");
        drop(request);
        let request = accepted.accept_request().await.expect("asks");
        request.responder.finish().expect("ends");
        accepted.closed().await;
    });
    let error = dialed.request(b"1".as_slice(), PATIENCE).await.expect_err("is dropped");
    assert!(matches!(error, RequestError::Abandoned { .. }), "{error}");
    let error = dialed.request(b"2".as_slice(), PATIENCE).await.expect_err("is cut");
    assert!(matches!(error, RequestError::Abandoned { .. }), "{error}");
    let error = dialed.request(b"3".as_slice(), PATIENCE).await.expect_err("is empty");
    assert!(matches!(error, RequestError::Empty), "{error}");
}

#[tokio::test]
async fn an_asker_that_no_longer_waits_is_noticed() {
    let (dialed, accepted) = pair().await;
    let asking = dialed.clone();
    let asker = tokio::spawn(async move {
        let error = asking.request(b"slow".as_slice(), Duration::from_millis(200)).await;
        assert!(matches!(error, Err(RequestError::Timeout { millis: 200 })), "{error:?}");
    });
    let request = within(accepted.accept_request()).await.expect("asks");
    within(request.responder.abandoned()).await;
    asker.await.expect("times out");
    let error = request.respond(vec![0; 1000]).await.expect_err("nobody reads");
    assert!(matches!(error, RespondError::NotAwaited), "{error}");
}

#[tokio::test]
async fn a_slow_sender_is_cut_off_and_holds_up_nobody() {
    let limits =
        NetLimits { request_read_timeout: Duration::from_millis(300), ..NetLimits::default() };
    let server = bind_with(2, admit_all(), limits);
    let (_endpoint, rogue) =
        Rogue::like(&identity(1)).dial(address(&server)).await.expect("connects");
    echo(within(server.accept()).await.expect("is open"));
    let before = count("exo_net_request_refusals_total slow");
    let began = Instant::now();
    let (mut slow_to, mut slow_from) = rogue.open_bi().await.expect("opens");
    slow_to.write_all(&[0, 0, 0, 9, 1, 2]).await.expect("writes");

    let (mut to, mut from) = rogue.open_bi().await.expect("opens");
    to.write_all(&[0, 0, 0, 2, 7, 8]).await.expect("writes");
    to.finish().expect("ends");
    let answer = within(from.read_to_end(100)).await.expect("answers beside the slow one");
    assert_eq!(answer, [0, 0, 0, 2, 7, 8]);
    assert!(began.elapsed() < Duration::from_millis(300));

    let error = within(slow_from.read_to_end(100)).await.expect_err("is cut off");
    let reset = quinn::ReadToEndError::Read(quinn::ReadError::Reset(3u32.into()));
    assert_eq!(error, reset);
    assert!(began.elapsed() < Duration::from_secs(3));
    assert!(count("exo_net_request_refusals_total slow") > before);
}

#[tokio::test]
async fn requests_that_break_the_framing_are_refused_one_by_one() {
    let server = bind(2);
    let (_endpoint, rogue) =
        Rogue::like(&identity(1)).dial(address(&server)).await.expect("connects");
    echo(within(server.accept()).await.expect("is open"));
    let over = u32::try_from(REQUEST_BYTES_MAX + 1).expect("fits").to_be_bytes();
    let cases: [(&[u8], &str); 5] = [
        (&[0xff; 4], "too_long"),
        (&over, "too_long"),
        (&[0, 0, 0, 9, 1], "truncated"),
        (&[0, 0], "truncated"),
        (&[0, 0, 0, 1, 7, 8], "trailing"),
    ];
    for (bytes, cause) in cases {
        let name = format!("exo_net_request_refusals_total {cause}");
        let before = count(&name);
        let (mut to, mut from) = rogue.open_bi().await.expect("opens");
        to.write_all(bytes).await.expect("writes");
        // A refusal may stop the stream before this side ends it.
        let _ = to.finish();
        let error = within(from.read_to_end(100)).await.expect_err(cause);
        let reset = quinn::ReadToEndError::Read(quinn::ReadError::Reset(2u32.into()));
        assert_eq!(error, reset, "{cause}");
        assert!(count(&name) > before, "{cause}");
    }
    let (mut to, mut from) = rogue.open_bi().await.expect("opens");
    to.write_all(&[0, 0, 0, 1, 7]).await.expect("writes");
    to.finish().expect("ends");
    assert_eq!(within(from.read_to_end(100)).await.expect("is served"), [0, 0, 0, 1, 7]);
}

#[tokio::test]
async fn a_peer_may_hold_so_many_streams_and_no_others() {
    let limits = NetLimits { streams_max: 4, ..NetLimits::default() };
    let server = bind_with(2, admit_all(), limits);
    let (_endpoint, rogue) =
        Rogue::like(&identity(1)).dial(address(&server)).await.expect("connects");
    let channel = within(server.accept()).await.expect("is open");
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = rogue.open_bi().await.expect("opens");
        stream.0.write_all(&[0]).await.expect("writes");
        held.push(stream);
    }
    let brief = Duration::from_millis(200);
    assert!(tokio::time::timeout(brief, rogue.open_bi()).await.is_err());
    assert!(tokio::time::timeout(brief, rogue.open_uni()).await.is_err());
    assert!(rogue.send_datagram(b"x".as_slice().into()).is_err());
    assert!(tokio::time::timeout(brief, channel.accept_request()).await.is_err());
    assert_eq!(channel.close_reason(), None::<CloseReason>);
}

#[tokio::test]
async fn bytes_in_flight_are_bounded_and_come_back() {
    // Room for one request of 200,000 bytes at a time: the second waits for the first to be answered.
    let limits = NetLimits { request_bytes_max: 256 * 1024, ..NetLimits::default() };
    let server = bind_with(2, admit_all(), limits);
    let client = bind(1);
    let (dialed, accepted) = join(&client, &server, 2).await;
    let body = vec![7; 200_000];
    let asks: Vec<_> = (0..3)
        .map(|_| {
            let (channel, body) = (dialed.clone(), body.clone());
            tokio::spawn(async move { channel.request(body, PATIENCE).await })
        })
        .collect();
    for _ in 0..3 {
        let request = within(accepted.accept_request()).await.expect("asks");
        let brief = Duration::from_millis(200);
        assert!(tokio::time::timeout(brief, accepted.accept_request()).await.is_err());
        request.respond(b"ok".as_slice()).await.expect("sends");
    }
    for ask in asks {
        assert_eq!(ask.await.expect("runs").expect("answers"), b"ok");
    }
}
