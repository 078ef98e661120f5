//! A long way to a node: datagrams to it and from it are late, out of order and sometimes lost.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What happens to every datagram, each way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// How late it is.
    pub(super) delay: Duration,
    /// How much later it may be: datagrams overtake each other.
    pub(super) jitter: Duration,
    /// How many of a hundred are lost.
    pub(super) lost: u64,
}

/// Where a node is reached instead of at its own address. Its threads end when it is dropped.
pub(super) struct Proxy {
    pub(super) at: SocketAddr,
    road: Arc<Road>,
}

struct Road {
    way: Way,
    near: UdpSocket,
    to: SocketAddr,
    over: AtomicBool,
    rough: AtomicBool,
    cut: AtomicBool,
    carried: AtomicUsize,
    lost: AtomicUsize,
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// By when they are due, and in which order they came.
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    datagrams: HashMap<u64, Datagram>,
    next: u64,
    random: u64,
}

/// Over which socket it leaves, to whom if that is not known to the socket, and what it is.
type Datagram = (Arc<UdpSocket>, Option<SocketAddr>, Vec<u8>);

impl Proxy {
    /// A way to the node that listens at this address: a good one until it is made [`rough`](Self::rough).
    pub(super) fn to(to: SocketAddr, way: Way, seed: u64) -> Self {
        Self::within("127.0.0.1:0".parse().expect("an address"), to, way, seed)
    }

    /// As [`Proxy::to`], at an address of the network namespace in which the caller's thread is: its own
    /// threads are there as well.
    pub(super) fn within(at: SocketAddr, to: SocketAddr, way: Way, seed: u64) -> Self {
        let near = UdpSocket::bind(at).expect("binds");
        near.set_read_timeout(Some(LOOK_EVERY)).expect("a timeout");
        let at = near.local_addr().expect("is bound");
        let road = Arc::new(Road {
            way,
            near,
            to,
            over: AtomicBool::new(false),
            rough: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            carried: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            waiting: Mutex::new(Waiting { random: seed | 1, ..Waiting::default() }),
            more: Condvar::new(),
        });
        let (taking, giving) = (Arc::clone(&road), Arc::clone(&road));
        std::thread::spawn(move || taking.take());
        std::thread::spawn(move || giving.give());
        Self { at, road }
    }

    /// From now on the way is as it was said to be.
    pub(super) fn rough(&self) {
        self.road.rough.store(true, Ordering::Relaxed);
    }

    /// From now on nothing comes through, or everything that is not lost.
    pub(super) fn cut(&self, cut: bool) {
        self.road.cut.store(cut, Ordering::Relaxed);
    }

    /// Datagrams that were carried, and that were lost.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.road.carried.load(Ordering::Relaxed), self.road.lost.load(Ordering::Relaxed))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.road.over.store(true, Ordering::Relaxed);
        self.road.more.notify_all();
    }
}

impl Road {
    /// Takes what comes for the node, and gives each sender a socket of its own towards it.
    fn take(self: Arc<Self>) {
        let near = Arc::new(self.near.try_clone().expect("a second handle"));
        let mut far: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut buffer = [0; 2048];
        while !self.over.load(Ordering::Relaxed) {
            let Ok((length, from)) = self.near.recv_from(&mut buffer) else { continue };
            if !far.contains_key(&from) && far.len() == SENDERS_MAX {
                continue;
            }
            let out = far.entry(from).or_insert_with(|| {
                let socket = UdpSocket::bind((self.to.ip(), 0)).expect("binds");
                socket.connect(self.to).expect("is local");
                socket.set_read_timeout(Some(LOOK_EVERY)).expect("a timeout");
                let socket = Arc::new(socket);
                let (road, back, near) =
                    (Arc::clone(&self), Arc::clone(&socket), Arc::clone(&near));
                std::thread::spawn(move || road.take_back(&back, &near, from));
                socket
            });
            self.schedule(Arc::clone(out), None, &buffer[..length]);
        }
    }

    /// Takes what the node answers.
    fn take_back(&self, from: &UdpSocket, near: &Arc<UdpSocket>, to: SocketAddr) {
        let mut buffer = [0; 2048];
        while !self.over.load(Ordering::Relaxed) {
            if let Ok(length) = from.recv(&mut buffer) {
                self.schedule(Arc::clone(near), Some(to), &buffer[..length]);
            }
        }
    }

    fn schedule(&self, out: Arc<UdpSocket>, to: Option<SocketAddr>, datagram: &[u8]) {
        let mut waiting = self.waiting.lock().expect("is whole");
        let rough = self.rough.load(Ordering::Relaxed);
        let lost = rough && waiting.random() % 100 < self.way.lost;
        if lost || self.cut.load(Ordering::Relaxed) || waiting.due.len() >= WAITING_MAX {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let jitter = u64::try_from(self.way.jitter.as_micros()).expect("is short");
        let late = self.way.delay + Duration::from_micros(waiting.random() % (jitter + 1));
        let late = if rough { late } else { Duration::ZERO };
        let number = waiting.next;
        waiting.next += 1;
        waiting.due.push(Reverse((Instant::now() + late, number)));
        waiting.datagrams.insert(number, (out, to, datagram.to_vec()));
        drop(waiting);
        self.more.notify_one();
    }

    /// Sends on what is due.
    fn give(&self) {
        let mut waiting = self.waiting.lock().expect("is whole");
        while !self.over.load(Ordering::Relaxed) {
            let now = Instant::now();
            match waiting.due.peek() {
                Some(Reverse((due, _))) if *due <= now => {
                    let Some(Reverse((_, number))) = waiting.due.pop() else { continue };
                    let Some((out, to, datagram)) = waiting.datagrams.remove(&number) else {
                        continue;
                    };
                    drop(waiting);
                    // Who is not there any more does not hear it.
                    let _ = match to {
                        Some(to) => out.send_to(&datagram, to),
                        None => out.send(&datagram),
                    };
                    self.carried.fetch_add(1, Ordering::Relaxed);
                    waiting = self.waiting.lock().expect("is whole");
                }
                next => {
                    let wait = next.map_or(LOOK_EVERY, |Reverse((due, _))| *due - now);
                    waiting = self.more.wait_timeout(waiting, wait).expect("is whole").0;
                }
            }
        }
    }
}

impl Waiting {
    /// xorshift64: the same losses for the same seed and order of datagrams.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Senders that a proxy keeps apart.
const SENDERS_MAX: usize = 64;
/// Datagrams on the way at once; more are lost, as on any road.
const WAITING_MAX: usize = 16 * 1024;
const LOOK_EVERY: Duration = Duration::from_millis(200);
