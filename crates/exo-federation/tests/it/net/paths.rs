//! Connections over paths that delay, lose, alter and move.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use exo_federation::driver::net::{EncryptedChannel, Endpoint, NetLimits, Purpose};

use super::proxy::{Path, Proxy};
use super::{PATIENCE, address, admit_all, bind, bind_at, bind_with, echo, identity, within};

/// Dials through the path.
async fn dial(
    client: &Endpoint,
    server: &Endpoint,
    path: Path,
) -> (Proxy, EncryptedChannel, EncryptedChannel) {
    let proxy = Proxy::start(address(server), path).await;
    let dialing = client.connect(proxy.at, identity(2).peer_id(), Purpose::Member);
    let dialed = dialing.await.expect("connects");
    let accepted = within(server.accept()).await.expect("is open");
    (proxy, dialed, accepted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_takes_one_round_trip() {
    // The accepting side's flight fits in what it may send before it has validated the address; were
    // it to wait for that, the handshake would take a second round trip.
    let round_trip = Duration::from_millis(400);
    let path = Path { delay: round_trip / 2, ..Path::default() };
    let (client, server) = (bind(1), bind(2));
    let proxy = Proxy::start(address(&server), path).await;
    let began = Instant::now();
    let dialing = client.connect(proxy.at, identity(2).peer_id(), Purpose::Member);
    let dialed = dialing.await.expect("connects");
    let took = began.elapsed();
    assert!(took >= round_trip && took < round_trip * 7 / 4, "{took:?}");
    within(server.accept()).await.expect("is open");
    // The accepting side waits half a round trip more, for the caller's proof.
    assert!(began.elapsed() < round_trip * 9 / 4, "{:?}", began.elapsed());
    assert!(dialed.round_trip() >= round_trip, "{:?}", dialed.round_trip());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loss_and_altered_bits_delay_but_change_nothing() {
    for (lose_every, flip_every) in [(7, 0), (0, 5)] {
        let path = Path { delay: Duration::from_millis(2), lose_every, flip_every };
        let limits = NetLimits { handshake_timeout: PATIENCE, ..NetLimits::default() };
        let client = bind_with(1, admit_all(), limits.clone());
        let server = bind_with(2, admit_all(), limits);
        let (proxy, dialed, accepted) = dial(&client, &server, path).await;
        echo(accepted);
        let body: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        let answer = dialed.request(body.clone(), 3 * PATIENCE).await.expect("answers");
        assert!(answer == body);
        assert!(proxy.harmed.load(Ordering::Relaxed) >= 10, "the path did its worst");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_port_moves_keeps_its_connection() {
    let (client, server) = (bind(1), bind(2));
    let (proxy, dialed, accepted) = dial(&client, &server, Path::default()).await;
    echo(accepted.clone());
    assert_eq!(dialed.request(b"1".as_slice(), PATIENCE).await.expect("answers"), b"1");
    let before = accepted.remote_address();
    proxy.rebind();
    assert_eq!(dialed.request(b"2".as_slice(), PATIENCE).await.expect("answers"), b"2");
    assert_ne!(accepted.remote_address(), before);
}

#[tokio::test]
async fn addresses_of_either_family_are_shown_in_their_own() {
    let any = "[::]:0".parse().expect("an address");
    if std::net::UdpSocket::bind(any).is_err() {
        return; // a machine without IPv6 has no such sockets
    }
    let server = bind_at(any, 2, admit_all(), NetLimits::default());
    let client = bind_at(any, 1, admit_all(), NetLimits::default());
    let port = address(&server).port();
    for host in ["127.0.0.1", "[::1]"] {
        let to = format!("{host}:{port}").parse().expect("an address");
        let dialing = client.connect(to, identity(2).peer_id(), Purpose::Member);
        let dialed = dialing.await.expect("connects");
        let accepted = within(server.accept()).await.expect("is open");
        assert_eq!(dialed.remote_address(), to);
        assert_eq!(accepted.remote_address().ip(), to.ip());
    }
}
