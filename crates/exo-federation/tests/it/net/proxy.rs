//! A path that delays, loses, alters and moves datagrams: one client, one server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::localhost;

/// What the path does to datagrams, in both directions.
#[derive(Clone, Default)]
pub(super) struct Path {
    /// One way.
    pub(super) delay: Duration,
    /// Every how many a datagram is lost; 0 for none.
    pub(super) lose_every: usize,
    /// Every how many a datagram has one bit flipped; 0 for none.
    pub(super) flip_every: usize,
}

pub(super) struct Proxy {
    /// Where the client dials.
    pub(super) at: SocketAddr,
    /// Datagrams lost or altered so far.
    pub(super) harmed: Arc<AtomicUsize>,
    moved: Arc<AtomicBool>,
}

impl Proxy {
    pub(super) async fn start(to: SocketAddr, path: Path) -> Self {
        let near = Arc::new(UdpSocket::bind(localhost()).await.expect("binds"));
        let far = Far {
            sockets: [
                Arc::new(UdpSocket::bind(localhost()).await.expect("binds")),
                Arc::new(UdpSocket::bind(localhost()).await.expect("binds")),
            ],
            moved: Arc::default(),
        };
        let harmed = Arc::new(AtomicUsize::new(0));
        let at = near.local_addr().expect("is bound");
        let proxy = Self { at, harmed: harmed.clone(), moved: far.moved.clone() };
        tokio::spawn(carry(near, far, to, path, harmed));
        proxy
    }

    /// From now on the server sees the client at another port, as when a NAT forgets a mapping.
    pub(super) fn rebind(&self) {
        self.moved.store(true, Ordering::Relaxed);
    }
}

/// The server-facing sockets, before and after the move.
struct Far {
    sockets: [Arc<UdpSocket>; 2],
    moved: Arc<AtomicBool>,
}

async fn carry(
    near: Arc<UdpSocket>,
    far: Far,
    to: SocketAddr,
    path: Path,
    harmed: Arc<AtomicUsize>,
) {
    let (queue, to_deliver) = mpsc::unbounded_channel();
    tokio::spawn(deliver(to_deliver));
    let mut client = None;
    let mut seen = 0;
    let mut buffers = [[0; 2048]; 3];
    let [a, b, c] = &mut buffers;
    loop {
        let (len, out, target, buffer) = tokio::select! {
            Ok((len, from)) = near.recv_from(a) => {
                client = Some(from);
                let out = &far.sockets[usize::from(far.moved.load(Ordering::Relaxed))];
                (len, out, to, a.as_mut_slice())
            }
            Ok((len, _)) = far.sockets[0].recv_from(b) => {
                let Some(client) = client else { continue };
                (len, &near, client, b.as_mut_slice())
            }
            Ok((len, _)) = far.sockets[1].recv_from(c) => {
                let Some(client) = client else { continue };
                (len, &near, client, c.as_mut_slice())
            }
        };
        seen += 1;
        let nth = |every: usize| every != 0 && seen % every == 0;
        if nth(path.lose_every) {
            harmed.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let mut datagram = buffer[..len].to_vec();
        if nth(path.flip_every) {
            harmed.fetch_add(1, Ordering::Relaxed);
            datagram[seen % len] ^= 1 << (seen % 8);
        }
        let due = Instant::now() + path.delay;
        queue.send((due, out.clone(), target, datagram)).expect("the deliverer lives");
    }
}

/// Delivers in order: a path that only delays does not reorder.
async fn deliver(mut queue: mpsc::UnboundedReceiver<Delivery>) {
    while let Some((due, out, target, datagram)) = queue.recv().await {
        tokio::time::sleep_until(due).await;
        // A closed socket at the other end is what the test is about, if anything.
        let _ = out.send_to(&datagram, target).await;
    }
}

type Delivery = (Instant, Arc<UdpSocket>, SocketAddr, Vec<u8>);
