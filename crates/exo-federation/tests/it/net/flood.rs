//! Handshakes that are begun and never finished.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use exo_federation::driver::net::{NetLimits, Purpose};

use super::counters::count;
use super::{address, admit_all, bind, bind_at, bind_with, identity, localhost, within};

/// The first packets of `count` handshakes, each a list of datagrams, as a real client sends them.
async fn first_flights(count: usize) -> Vec<Vec<Vec<u8>>> {
    let sink = tokio::net::UdpSocket::bind(localhost()).await.expect("binds");
    let to = sink.local_addr().expect("is bound");
    let client = bind(9);
    let expect = identity(2).peer_id();
    let mut dials = tokio::task::JoinSet::new();
    let mut flights: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
    let mut buffer = [0; 2048];
    while flights.len() < count || flights.values().any(|flight| flight.len() < 2) {
        if dials.len() < count {
            let client = client.clone();
            dials.spawn(async move { client.connect(to, expect, Purpose::Member).await });
        }
        let (len, _) = within(sink.recv_from(&mut buffer)).await.expect("receives");
        // RFC 9000 section 17.2: the destination's id behind its length, after the version.
        let id = buffer[6..6 + usize::from(buffer[5])].to_vec();
        let flight = flights.entry(id).or_default();
        if flight.len() < 2 {
            flight.push(buffer[..len].to_vec());
        }
    }
    flights.into_values().take(count).collect()
}

/// Callers that send their first flight and then nothing, each from the address that `from` gives.
fn flood(
    flights: &[Vec<Vec<u8>>],
    to: SocketAddr,
    from: impl Fn(usize) -> SocketAddr,
) -> Vec<UdpSocket> {
    let caller = |(i, flight): (usize, &Vec<Vec<u8>>)| {
        let socket = UdpSocket::bind(from(i)).expect("binds");
        for datagram in flight {
            socket.send_to(datagram, to).expect("sends");
        }
        // Slow enough for the kernel to lose nothing, far faster than a handshake times out.
        std::thread::sleep(Duration::from_micros(500));
        socket.set_nonblocking(true).expect("is a socket");
        socket
    };
    flights.iter().enumerate().map(caller).collect()
}

/// What came back to a silent caller: datagrams and whether one is a Retry.
fn heard(socket: &UdpSocket) -> (usize, bool) {
    let (mut bytes, mut retry) = (0, false);
    let mut buffer = [0; 2048];
    while let Ok(len) = socket.recv(&mut buffer) {
        bytes += len;
        // RFC 9000 section 17.2.5: long header of type 3.
        retry |= buffer[0] & 0xf0 == 0xf0;
    }
    (bytes, retry)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_silent_callers_do_not_stop_an_honest_one() {
    let flights = first_flights(200).await;
    for one_network in [true, false] {
        let server =
            bind_at(SocketAddr::from(([127, 0, 0, 1], 0)), 2, admit_all(), NetLimits::default());
        let retries = count("exo_net_retries_total");
        let from = |i: usize| {
            let last = if one_network { 1 } else { 1 + i as u8 };
            SocketAddr::from(([127, 0, 0, last], 0))
        };
        let callers = flood(&flights, address(&server), from);
        let client = bind(1);
        let began = Instant::now();
        for _ in 0..20 {
            let dialed = client.connect(address(&server), identity(2).peer_id(), Purpose::Member);
            let dialed = dialed.await.expect("an honest caller gets through");
            let accepted = within(server.accept()).await.expect("is open");
            assert_eq!(accepted.peer(), identity(1).peer_id());
            assert!(!dialed.is_closed());
        }
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());

        let heard: Vec<_> = callers.iter().map(heard).collect();
        let retried = heard.iter().filter(|(_, retry)| *retry).count();
        let begun = heard.iter().filter(|(bytes, retry)| *bytes > 0 && !retry).count();
        let allowed = if one_network { 8 } else { 32 };
        assert!(begun <= allowed, "{begun} handshakes begun without a validated address");
        assert!(retried >= 100, "{retried} of 200 were asked to validate their address");
        assert!(count("exo_net_retries_total") >= retries + 100);
        for ((bytes, _), flight) in heard.iter().zip(&flights) {
            let sent: usize = flight.iter().map(Vec::len).sum();
            // RFC 9000 section 8.1, and the last datagram that the library lets overshoot.
            assert!(*bytes <= 3 * sent + 1232, "{bytes} bytes for {sent}: amplified");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_handshakes_give_their_places_back() {
    let limits = NetLimits {
        pending_max: 4,
        pending_retry: 4,
        handshake_timeout: Duration::from_millis(500),
        ..NetLimits::default()
    };
    let server = bind_with(2, admit_all(), limits);
    let flights = first_flights(4).await;
    let before = count("exo_net_refusals_total slow_handshake");
    let from = |i: usize| SocketAddr::from(([127, 0, 0, 10 + i as u8], 0));
    let _callers = flood(&flights, address(&server), from);
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Every place is taken: this caller is asked to validate, then ignored until one is free.
    let client = bind(1);
    client
        .connect(address(&server), identity(2).peer_id(), Purpose::Member)
        .await
        .expect("gets the first free place");
    assert!(count("exo_net_refusals_total slow_handshake") >= before + 4);
}
