//! Peers that vanish, and come back.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use exo_federation::driver::net::{CloseReason, NetLimits, Purpose, RequestError};
use tokio::runtime::Runtime;

use super::{
    PATIENCE, address, admit_all, bind, bind_at, bind_with, echo, identity, join, localhost, within,
};

/// A node that dies as if by a kill: its runtime goes, and nothing is sent.
struct Mortal {
    runtime: Runtime,
    at: SocketAddr,
}

impl Mortal {
    fn start(listen: SocketAddr, limits: NetLimits) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (to_test, at) = mpsc::channel();
        runtime.spawn(async move {
            let endpoint = bind_at(listen, 2, admit_all(), limits);
            to_test.send(address(&endpoint)).expect("the test waits");
            while let Some(channel) = endpoint.accept().await {
                echo(channel);
            }
        });
        let at = at.recv_timeout(PATIENCE).expect("binds");
        Self { runtime, at }
    }

    /// Kills the node and waits until its socket is gone.
    fn kill(self) -> SocketAddr {
        self.runtime.shutdown_timeout(PATIENCE);
        let began = Instant::now();
        while std::net::UdpSocket::bind(self.at).is_err() {
            assert!(began.elapsed() < PATIENCE, "the socket is still there");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.at
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_resets_its_old_connections_at_once() {
    let node = Mortal::start(localhost(), NetLimits::default());
    let client = bind(1);
    let expect = identity(2).peer_id();
    let channel = client.connect(node.at, expect, Purpose::Member).await.expect("connects");
    assert_eq!(channel.request(b"1".as_slice(), PATIENCE).await.expect("answers"), b"1");

    let at = tokio::task::spawn_blocking(|| node.kill()).await.expect("dies");
    assert!(!channel.is_closed(), "it died without a word");
    let node = Mortal::start(at, NetLimits::default());
    let began = Instant::now();
    let error = channel.request(b"2".as_slice(), PATIENCE).await.expect_err("is reset");
    assert!(matches!(error, RequestError::Lost(CloseReason::Restarted)), "{error}");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(within(channel.closed()).await, CloseReason::Restarted);

    let channel = client.connect(node.at, expect, Purpose::Member).await.expect("connects again");
    assert_eq!(channel.request(b"3".as_slice(), PATIENCE).await.expect("answers"), b"3");
    tokio::task::spawn_blocking(|| node.kill()).await.expect("dies");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_connection_is_kept_alive_and_a_dead_one_is_not() {
    let limits = NetLimits { idle_timeout: Duration::from_millis(900), ..NetLimits::default() };
    let node = Mortal::start(localhost(), limits.clone());
    let client = bind_with(1, admit_all(), limits);
    let expect = identity(2).peer_id();
    let channel = client.connect(node.at, expect, Purpose::Member).await.expect("connects");
    tokio::time::sleep(Duration::from_millis(2000)).await;
    assert!(!channel.is_closed(), "{:?}", channel.close_reason());
    assert_eq!(channel.request(b"1".as_slice(), PATIENCE).await.expect("answers"), b"1");

    tokio::task::spawn_blocking(|| node.kill()).await.expect("dies");
    assert_eq!(within(channel.closed()).await, CloseReason::TimedOut);
}

#[tokio::test]
async fn a_channel_outlives_its_endpoint_handle_and_closes_with_its_last_clone() {
    let (a, b) = (bind(1), bind(2));
    let (dialed, accepted) = join(&a, &b, 2).await;
    drop((a, b));
    echo(accepted);
    assert_eq!(dialed.request(b"x".as_slice(), PATIENCE).await.expect("answers"), b"x");
    let clone = dialed.clone();
    drop(dialed);
    assert_eq!(clone.request(b"y".as_slice(), PATIENCE).await.expect("answers"), b"y");
}
