//! Lanes: messages without answers, in order, bounded, and only from whom they are allowed.

use std::time::Duration;

use exo_federation::driver::net::{
    EncryptedChannel, Endpoint, Lane, LaneFrame, LaneKind, LaneLost, LaneReader, LaneWriter,
};
use exo_types::limits::{
    CONNECTION_WINDOW_BYTES, CONSENSUS_MESSAGE_BYTES_MAX, FRAME_BYTES_MAX, LANE_FRAME_COST_BYTES,
    LANE_INBOX_BYTES_MAX, LANE_OUTBOX_BYTES_MAX, LANES_BYTES_MAX,
};
use tokio::runtime::Handle;

use super::counters::count;
use super::rogue::Rogue;
use super::{PATIENCE, address, bind, echo, identity, join, within};

/// A lane from the first endpoint to the second, and its far end.
struct Pair {
    near: EncryptedChannel,
    far: EncryptedChannel,
    lane: Lane,
    _endpoints: (Endpoint, Endpoint),
}

impl Pair {
    async fn new() -> Self {
        let (one, two) = (bind(1), bind(2));
        let (near, far) = join(&one, &two, 2).await;
        let lane = near.open_lane(&Handle::current());
        Self { near, far, lane, _endpoints: (one, two) }
    }

    /// The far end. A stream is seen when something comes over it.
    async fn reader(&self) -> LaneReader {
        reader(&self.lane, &self.far).await
    }
}

async fn reader(lane: &Lane, far: &EncryptedChannel) -> LaneReader {
    assert!(lane.send(&frame(b"first")));
    far.allow_lane();
    let mut reader = within(far.accept_lane()).await.expect("opens its lane");
    assert_eq!(next(&mut reader).await, b"first");
    reader
}

fn frame(body: &[u8]) -> LaneFrame {
    LaneFrame::new(body).expect("is not too long")
}

fn numbered(number: u32, len: usize) -> Vec<u8> {
    let mut body = number.to_be_bytes().to_vec();
    body.resize(body.len().max(len), number as u8);
    body
}

async fn next(reader: &mut LaneReader) -> Vec<u8> {
    within(reader.next()).await.expect("the lane goes on").body
}

#[tokio::test]
async fn messages_arrive_in_order_whatever_their_lengths() {
    let pair = Pair::new().await;
    let mut reader = pair.reader().await;
    let lengths = [4, 5, 100, 65_536, 1, CONSENSUS_MESSAGE_BYTES_MAX, 7, 300_000];
    for (number, len) in (0..).zip(lengths) {
        assert!(pair.lane.send(&frame(&numbered(number, len))), "{number}");
    }
    for (number, len) in (0..).zip(lengths) {
        assert!(next(&mut reader).await == numbered(number, len), "{number}");
    }
    // Many short ones, of which each is read while others are sent.
    let sender = pair.lane.clone();
    let sending = tokio::spawn(async move {
        for number in 0..20_000 {
            while !sender.send(&frame(&numbered(number, 80))) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    for number in 0..20_000 {
        assert_eq!(next(&mut reader).await, numbered(number, 80));
    }
    sending.await.expect("sends");
    assert_eq!(pair.lane.waiting(), 0);
}

#[tokio::test]
async fn both_sides_have_a_lane_of_their_own() {
    let pair = Pair::new().await;
    let mut there = pair.reader().await;
    let back = pair.far.open_lane(&Handle::current());
    let mut here = reader(&back, &pair.near).await;
    assert!(pair.lane.send(&frame(b"ask")) && back.send(&frame(b"tell")));
    assert_eq!(next(&mut there).await, b"ask");
    assert_eq!(next(&mut here).await, b"tell");
}

#[tokio::test]
async fn nothing_is_heard_over_a_lane_that_is_not_allowed() {
    let pair = Pair::new().await;
    assert!(pair.lane.send(&frame(b"early")), "it waits");
    let brief = Duration::from_millis(200);
    assert!(tokio::time::timeout(brief, pair.far.accept_lane()).await.is_err());
    pair.far.allow_lane();
    let mut reader = within(pair.far.accept_lane()).await.expect("opens its lane");
    assert_eq!(next(&mut reader).await, b"early", "and comes when it is allowed");
}

#[tokio::test]
async fn a_peer_has_one_lane_of_each_kind_at_a_time() {
    let server = bind(2);
    let (_endpoint, rogue) =
        Rogue::like(&identity(1)).dial(address(&server)).await.expect("connects");
    let channel = within(server.accept()).await.expect("is open");
    channel.allow_lane();
    let mut first = within(rogue.open_uni()).await.expect("has one");
    first.write_all(&[0, 0, 0, 0, 1, 7]).await.expect("writes");
    let mut reader = within(channel.accept_lane()).await.expect("opens");
    assert_eq!((reader.kind(), next(&mut reader).await), (LaneKind::Decisions, vec![7]));
    let mut second = within(rogue.open_uni()).await.expect("has another");
    second.write_all(&[1, 0, 0, 0, 1, 9]).await.expect("writes");
    let mut other = within(channel.accept_lane()).await.expect("opens");
    assert_eq!((other.kind(), next(&mut other).await), (LaneKind::Shared, vec![9]));
    let brief = Duration::from_millis(200);
    assert!(tokio::time::timeout(brief, rogue.open_uni()).await.is_err());
    first.finish().expect("ends");
    assert!(within(reader.next()).await.is_none());
    drop(reader);
    within(rogue.open_uni()).await.expect("the next after the first");
}

#[tokio::test]
async fn a_peer_that_never_reads_loses_messages_and_holds_up_nobody() {
    let pair = Pair::new().await;
    let _unread = pair.reader().await;
    let before = count("exo_net_lane_drops_total");
    let body = vec![9; 100_000];
    // As much as there is room for on the way, at both ends of it and in the outbox.
    let room = 2 * CONNECTION_WINDOW_BYTES + LANE_OUTBOX_BYTES_MAX;
    let all = room / body.len() + 20;
    let mut sent = 0;
    for _ in 0..all {
        sent += usize::from(pair.lane.send(&frame(&body)));
        tokio::task::yield_now().await;
    }
    assert!(sent < all, "some are dropped");
    assert!(pair.lane.waiting() <= LANE_OUTBOX_BYTES_MAX);
    assert!(count("exo_net_lane_drops_total") > before);
    // Requests over the same connection go on.
    echo(pair.far.clone());
    let answer = pair.near.request(vec![1; 100_000], PATIENCE).await.expect("answers");
    assert_eq!(answer.len(), 100_000);
}

#[tokio::test]
async fn what_is_read_and_not_dealt_with_is_bounded_and_goes_on_when_it_is() {
    let pair = Pair::new().await;
    let mut reader = pair.reader().await;
    let body = vec![3; CONSENSUS_MESSAGE_BYTES_MAX / 4];
    let sender = pair.lane.clone();
    let message = frame(&body);
    let sending = tokio::spawn(async move {
        for _ in 0..20 {
            while !sender.send(&message) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let (to, mut read) = tokio::sync::mpsc::channel(20);
    tokio::spawn(async move {
        while let Some(message) = reader.next().await {
            to.send(message).await.expect("is taken");
        }
    });
    // What is read is not dropped: after so much the reading waits.
    let mut held = Vec::new();
    let brief = Duration::from_millis(500);
    while let Ok(message) = tokio::time::timeout(brief, read.recv()).await {
        held.push(message.expect("goes on"));
        let bytes: usize = held.iter().map(|message| message.body.len()).sum();
        assert!(bytes <= LANE_INBOX_BYTES_MAX);
    }
    assert!(held.len() < 20, "{}", held.len());
    let first = held.len();
    drop(held);
    for _ in first..20 {
        assert!(within(read.recv()).await.expect("goes on").body == body);
    }
    sending.await.expect("sends");
}

#[tokio::test]
async fn a_message_over_the_bound_is_not_sent_and_from_another_not_taken() {
    assert!(LaneFrame::new(&vec![0; CONSENSUS_MESSAGE_BYTES_MAX + 1]).is_err());
    let server = bind(2);
    let (_endpoint, rogue) =
        Rogue::like(&identity(1)).dial(address(&server)).await.expect("connects");
    let channel = within(server.accept()).await.expect("is open");
    channel.allow_lane();
    let over = u32::try_from(CONSENSUS_MESSAGE_BYTES_MAX + 1).expect("fits").to_be_bytes();
    let before = count("exo_net_request_refusals_total lane_too_long");
    let mut stream = within(rogue.open_uni()).await.expect("has one");
    stream.write_all(&[&[0, 0, 0, 0, 1, 5], over.as_slice()].concat()).await.expect("writes");
    let mut reader = within(channel.accept_lane()).await.expect("opens");
    assert_eq!(next(&mut reader).await, [5]);
    assert!(within(reader.next()).await.is_none(), "the lane is over");
    assert!(within(reader.next()).await.is_none(), "and stays so");
    assert_eq!(within(stream.stopped()).await.expect("is stopped"), Some(2u32.into()));
    assert!(count("exo_net_request_refusals_total lane_too_long") > before);
    assert_eq!(channel.close_reason(), None, "the connection goes on");
}

#[tokio::test]
async fn a_lane_that_is_stopped_is_opened_anew_and_begins_with_a_whole_message() {
    let pair = Pair::new().await;
    let mut reader = pair.reader().await;
    assert!(pair.lane.send(&frame(b"one")));
    assert_eq!(next(&mut reader).await, b"one");
    // Far too much for the way: the lane is stopped in the middle of a message.
    for _ in 0..2 {
        assert!(pair.lane.send(&frame(&vec![1; CONSENSUS_MESSAGE_BYTES_MAX])));
    }
    drop(reader);
    // What waited is lost with the stream, as is what is sent before that is noticed.
    let again = async {
        let lane = pair.far.accept_lane().await;
        lane.expect("opens another").next().await.expect("goes on").body
    };
    let send = async {
        loop {
            let _ = pair.lane.send(&frame(b"two"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        body = within(again) => assert_eq!(body, b"two"),
        () = send => {}
    }
}

#[tokio::test]
async fn a_lane_ends_with_its_connection_and_the_next_connection_has_another() {
    let (one, two) = (bind(1), bind(2));
    let (near, far) = join(&one, &two, 2).await;
    let lane = near.open_lane(&Handle::current());
    let mut reader = reader(&lane, &far).await;
    near.close(0, "over");
    assert!(within(reader.next()).await.is_none());
    assert!(within(far.accept_lane()).await.is_none());

    let (near, far) = join(&one, &two, 2).await;
    let lane = near.open_lane(&Handle::current());
    let mut reader = self::reader(&lane, &far).await;
    assert!(lane.send(&frame(b"two")));
    assert_eq!(next(&mut reader).await, b"two");
}

/// A lane that waits, from the first endpoint to the second.
async fn waiting(pair: &Pair) -> (LaneWriter, LaneReader) {
    pair.far.allow_lane();
    let writer = within(pair.near.open_writer(LaneKind::Shared)).await.expect("opens");
    // The other lane is there as well, and either may come first.
    loop {
        let reader = within(pair.far.accept_lane()).await.expect("is there");
        if reader.kind() == LaneKind::Shared {
            return (writer, reader);
        }
    }
}

#[tokio::test]
async fn a_lane_that_waits_loses_nothing_and_holds_as_little_as_there_is_room_for() {
    let pair = Pair::new().await;
    let (mut writer, mut reader) = waiting(&pair).await;
    let body = vec![5; FRAME_BYTES_MAX / 4];
    let (sent, counted) = (std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)), 40);
    let counts = sent.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..counted {
            writer.send(body.clone()).await.expect("sends");
            counts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        writer
    });
    // Nobody reads: it stops when the way is full, and goes on when somebody does.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let stopped = sent.load(std::sync::atomic::Ordering::Relaxed);
    let room = 2 * CONNECTION_WINDOW_BYTES / (FRAME_BYTES_MAX / 4) + 1;
    assert!(stopped <= room && stopped < counted, "{stopped} of {room}");
    // Beside it both other streams go on.
    echo(pair.far.clone());
    assert!(pair.near.request(vec![1; 1000], PATIENCE).await.is_ok());
    for _ in 0..counted {
        assert_eq!(next(&mut reader).await.len(), FRAME_BYTES_MAX / 4);
    }
    within(sending).await.expect("sends all");
}

#[tokio::test]
async fn a_lane_that_waits_says_why_it_ends() {
    let pair = Pair::new().await;
    let (mut writer, reader) = waiting(&pair).await;
    let over = writer.send(vec![0; FRAME_BYTES_MAX + 1]).await;
    assert!(matches!(over, Err(LaneLost::TooLong(_))), "{over:?}");
    assert_eq!(writer.send(vec![1; 10]).await, Ok(()));
    drop(reader);
    let stopped = async {
        loop {
            if let Err(lost) = writer.send(vec![1; 100_000]).await {
                return lost;
            }
        }
    };
    assert_eq!(within(stopped).await, LaneLost::Stopped);
    // Its stream is given back with it.
    drop(writer);
    let mut writer = within(pair.near.open_writer(LaneKind::Shared)).await.expect("opens another");
    pair.near.close(0, "over");
    assert_eq!(writer.send(vec![1; 10]).await, Err(LaneLost::Connection));
}

#[tokio::test]
async fn a_lane_of_no_kind_is_stopped_and_the_next_one_is_heard() {
    let server = bind(2);
    let (_endpoint, rogue) =
        Rogue::like(&identity(1)).dial(address(&server)).await.expect("connects");
    let channel = within(server.accept()).await.expect("is open");
    channel.allow_lane();
    let mut odd = within(rogue.open_uni()).await.expect("has one");
    odd.write_all(&[2, 0, 0, 0, 1, 7]).await.expect("writes");
    let mut good = within(rogue.open_uni()).await.expect("has another");
    good.write_all(&[1, 0, 0, 0, 1, 8]).await.expect("writes");
    let mut reader = within(channel.accept_lane()).await.expect("opens");
    assert_eq!(next(&mut reader).await, [8]);
    assert_eq!(within(odd.stopped()).await.expect("is stopped"), Some(2u32.into()));
}

/// Messages of which only the beginning comes, as long as it may be, over each of so many connections.
async fn begin_and_stop(server: &Endpoint, seeds: std::ops::Range<u8>) -> Vec<EncryptedChannel> {
    let mut kept = Vec::new();
    for seed in seeds {
        let (endpoint, rogue) =
            Rogue::like(&identity(seed)).dial(address(server)).await.expect("connects");
        let channel = within(server.accept()).await.expect("is open");
        channel.allow_lane();
        let mut stream = within(rogue.open_uni()).await.expect("has one");
        let len = u32::try_from(CONSENSUS_MESSAGE_BYTES_MAX).expect("fits").to_be_bytes();
        stream.write_all(&[&[0], len.as_slice(), &[7; 10]].concat()).await.expect("writes");
        let mut reader = within(channel.accept_lane()).await.expect("opens");
        tokio::spawn(async move {
            let _ = reader.next().await;
            drop((endpoint, rogue, stream));
        });
        kept.push(channel);
    }
    kept
}

#[tokio::test]
async fn members_without_a_vote_that_hold_all_memory_by_slow_frames_keep_no_voter_waiting() {
    let server = bind(200);
    // One more than there is room for: each takes as much as a message may.
    let all = LANES_BYTES_MAX / (CONSENSUS_MESSAGE_BYTES_MAX + LANE_FRAME_COST_BYTES) + 1;
    let last = u8::try_from(all + 2).expect("few");
    let _held = begin_and_stop(&server, 2..last).await;
    let voter = bind(1);
    let (near, far) = join(&voter, &server, 200).await;
    let lane = near.open_lane(&Handle::current());
    far.allow_lane();
    assert!(lane.send(&frame(&vec![3; CONSENSUS_MESSAGE_BYTES_MAX])));
    let mut reader = within(far.accept_lane()).await.expect("opens its lane");
    let got = within(reader.next_of(|| true)).await.expect("is read at once");
    assert_eq!(got.body.len(), CONSENSUS_MESSAGE_BYTES_MAX);
    drop(got);
    // Without a vote it would wait with the others.
    assert!(lane.send(&frame(&vec![4; CONSENSUS_MESSAGE_BYTES_MAX])));
    let brief = Duration::from_millis(500);
    assert!(tokio::time::timeout(brief, reader.next_of(|| false)).await.is_err());
}

#[tokio::test]
async fn lanes_that_are_taken_back_end_give_their_memory_back_and_are_not_opened_again() {
    let server = bind(2);
    let (_endpoint, rogue) =
        Rogue::like(&identity(1)).dial(address(&server)).await.expect("connects");
    let channel = within(server.accept()).await.expect("is open");
    channel.allow_lane();
    let mut stream = within(rogue.open_uni()).await.expect("has one");
    stream.write_all(&[0, 0, 0, 0, 9, 7]).await.expect("writes");
    let mut reader = within(channel.accept_lane()).await.expect("opens");
    let brief = Duration::from_millis(200);
    let reading = async {
        let next = reader.next().await;
        next.is_none()
    };
    let ending = async {
        tokio::time::sleep(brief).await;
        channel.end_lanes();
    };
    assert!(within(async { tokio::join!(reading, ending).0 }).await, "in the middle of a message");
    drop(reader);
    assert!(within(stream.stopped()).await.expect("is stopped").is_some());
    // It may have had leave for one more; nothing of that is heard.
    if let Ok(Ok(mut second)) = tokio::time::timeout(brief, rogue.open_uni()).await {
        second.write_all(&[0, 0, 0, 0, 1, 7]).await.expect("writes");
    }
    assert!(tokio::time::timeout(brief, channel.accept_lane()).await.is_err());
    channel.allow_lane();
    let mut third = within(rogue.open_uni()).await.expect("has one again");
    third.write_all(&[0, 0, 0, 0, 1, 8]).await.expect("writes");
    let mut reader = within(channel.accept_lane()).await.expect("opens");
    assert_eq!(next(&mut reader).await, [8]);
}
