//! A network whose nodes can be cut off: each is reached through a lane of its own, and nothing tells
//! a node that its datagrams are lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exo_federation::FederatedMesh;
use exo_types::limits::{VOTERS_MAX, VOTERS_MIN};
use tokio::net::UdpSocket;

use super::nodes::{Home, admit, all_active};

/// Which nodes are cut off, by the address of their sockets.
#[derive(Clone, Default)]
pub(super) struct Net {
    cut: Arc<Mutex<BTreeSet<SocketAddr>>>,
    parted: Arc<Mutex<BTreeSet<(SocketAddr, SocketAddr)>>>,
}

/// A member whose node does not run at the moment.
pub(super) struct Away {
    pub(super) home: Home,
    lane: Lane,
}

/// A member that others reach through its lane.
pub(super) struct Laned {
    pub(super) home: Home,
    pub(super) node: FederatedMesh,
    lane: Lane,
}

/// The way to one node: the address that its peers are told.
#[derive(Clone)]
struct Lane {
    at: SocketAddr,
    to: Arc<Mutex<SocketAddr>>,
}

impl Net {
    /// So many members of one federation, the first its founder.
    pub(super) async fn federation(&self, members: usize) -> Vec<Laned> {
        self.made_of(members, VOTERS_MAX).await
    }

    /// As [`federation`](Self::federation), where four members and more decide together.
    pub(super) async fn deciding(&self, members: usize) -> Vec<Laned> {
        self.made_of(members, VOTERS_MIN).await
    }

    async fn made_of(&self, members: usize, voters: usize) -> Vec<Laned> {
        let mut all: Vec<Laned> = Vec::new();
        for i in 0..members {
            let lane = self.lane().await;
            let home = Home::advertising(&format!("n{i}"), Some(lane.at));
            home.configure(|config| config.founding_voters = voters);
            let node = home.open().await;
            *lock(&lane.to) = node.mesh_listen();
            if let Some(founder) = all.first() {
                admit(&founder.node, &node).await;
            }
            all.push(Laned { home, node, lane });
        }
        all_active(&nodes(&all)).await;
        all
    }

    /// From now on nothing from or to the node arrives.
    pub(super) fn cut(&self, node: &FederatedMesh) {
        lock(&self.cut).insert(node.mesh_listen());
    }

    pub(super) fn mend(&self, node: &FederatedMesh) {
        lock(&self.cut).remove(&node.mesh_listen());
    }

    /// From now on nothing passes between the two; each reaches all others.
    pub(super) fn part(&self, one: &FederatedMesh, two: &FederatedMesh) {
        let (one, two) = (one.mesh_listen(), two.mesh_listen());
        lock(&self.parted).extend([(one, two), (two, one)]);
    }

    /// The node dies without a word, as a process that is killed, and starts again elsewhere.
    pub(super) async fn crash(&self, laned: Laned) -> Laned {
        self.back(self.kill(laned)).await
    }

    /// The node dies without a word.
    pub(super) fn kill(&self, laned: Laned) -> Away {
        let Laned { home, node, lane } = laned;
        self.cut(&node);
        drop(node);
        Away { home, lane }
    }

    /// The node starts again, elsewhere.
    pub(super) async fn back(&self, away: Away) -> Laned {
        let Away { home, lane } = away;
        let node = home.open().await;
        *lock(&lane.to) = node.mesh_listen();
        self.mend(&node);
        Laned { home, node, lane }
    }

    async fn lane(&self) -> Lane {
        let near = Arc::new(socket().await);
        let at = near.local_addr().expect("is bound");
        let lane = Lane { at, to: Arc::new(Mutex::new(at)) };
        tokio::spawn(self.clone().carry(near, lane.clone()));
        lane
    }

    /// Carries datagrams both ways; each client has a socket of its own towards the node.
    async fn carry(self, near: Arc<UdpSocket>, lane: Lane) {
        let mut clients: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
        let mut buffer = [0; 2048];
        loop {
            let Ok((len, client)) = near.recv_from(&mut buffer).await else { continue };
            let far = match clients.get(&client) {
                Some(far) => far.clone(),
                None => {
                    let far = Arc::new(socket().await);
                    clients.insert(client, far.clone());
                    let back =
                        self.clone().answers(far.clone(), near.clone(), client, lane.clone());
                    tokio::spawn(back);
                    far
                }
            };
            let to = *lock(&lane.to);
            if self.passes(client, to) {
                // A node that is not there any more is what the test is about.
                let _ = far.send_to(&buffer[..len], to).await;
            }
        }
    }

    async fn answers(
        self,
        far: Arc<UdpSocket>,
        near: Arc<UdpSocket>,
        client: SocketAddr,
        lane: Lane,
    ) {
        let mut buffer = [0; 2048];
        loop {
            let Ok((len, from)) = far.recv_from(&mut buffer).await else { continue };
            let to = *lock(&lane.to);
            if from == to && self.passes(client, from) {
                let _ = near.send_to(&buffer[..len], client).await;
            }
        }
    }

    fn passes(&self, a: SocketAddr, b: SocketAddr) -> bool {
        let cut = lock(&self.cut);
        !cut.contains(&a) && !cut.contains(&b) && !lock(&self.parted).contains(&(a, b))
    }
}

pub(super) fn nodes(all: &[Laned]) -> Vec<FederatedMesh> {
    all.iter().map(|laned| laned.node.clone()).collect()
}

async fn socket() -> UdpSocket {
    UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("binds")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
