//! Nodes in directories of their own, federations of them, and what they hold.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use exo_crypto::{PostQuantumKeypair, load_identity};
use exo_federation::{
    CollectionName, CollectionPolicy, CollectionSpec, Config, ErrorCode, FederatedMesh,
    FederatedResult, FederationScope, FederationView, InviteOptions, JoinStatus, Metric, NewRecord,
    NodeName, PeerState, PeerView, QuerySpec, QueryTarget, Record, RecordId, SourceReport,
    content_hash, join_federation,
};
use exo_types::PeerId;
use exo_types::limits::{VOTERS_MAX, VOTERS_MIN};
use tokio::task::AbortHandle;

/// Long enough for a slow machine, short enough to fail in time.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// Time as this process gets it: what a busy machine keeps from it does not count, so that a test may
/// say how soon something happens.
pub(super) struct Watch {
    began: Instant,
    lost: Arc<AtomicU64>,
    keeper: AbortHandle,
}

impl Watch {
    pub(super) fn start() -> Self {
        let lost = Arc::new(AtomicU64::new(0));
        let adds = lost.clone();
        let keeper = tokio::spawn(async move {
            loop {
                let slept = Instant::now();
                tokio::time::sleep(LOOK_EVERY).await;
                let late = slept.elapsed().saturating_sub(2 * LOOK_EVERY).as_micros();
                adds.fetch_add(u64::try_from(late).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        Self { began: Instant::now(), lost, keeper: keeper.abort_handle() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        let lost = Duration::from_micros(self.lost.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(lost)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// A node's directory; the node in it may run or not.
pub(super) struct Home {
    root: tempfile::TempDir,
}

impl Home {
    /// A node that tells its peers where it listens.
    pub(super) fn new(name: &str) -> Self {
        Self::advertising(name, None)
    }

    /// A node whose federation decides together as soon as it can.
    pub(super) fn deciding(name: &str) -> Self {
        let home = Self::new(name);
        home.configure(|config| config.founding_voters = VOTERS_MIN);
        home
    }

    /// A node that tells its peers another address, which leads to it.
    pub(super) fn advertising(name: &str, at: Option<SocketAddr>) -> Self {
        // These tests are of the network: a disk that all of them sync at once would set the pace.
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let root = root.expect("a directory");
        let mut config = Config::new(NodeName::new(name).expect("a name"));
        config.mesh_listen = SocketAddr::from(([127, 0, 0, 1], 0));
        // Most of these federations are their founder's to the end.
        config.founding_voters = VOTERS_MAX;
        config.advertise = at.iter().map(SocketAddr::to_string).collect();
        let home = Self { root };
        FederatedMesh::init(&home.path(), &config).expect("makes a node");
        home
    }

    pub(super) fn path(&self) -> PathBuf {
        self.root.path().join("node")
    }

    /// From its next start on, the node listens there.
    pub(super) fn listen_at(&self, address: SocketAddr) {
        self.configure(|config| config.mesh_listen = address);
    }

    /// Changes the node's configuration, from its next start on.
    pub(super) fn configure(&self, change: impl FnOnce(&mut Config)) {
        let mut config = Config::load(&self.path()).expect("has a configuration");
        change(&mut config);
        let text = config.to_toml().expect("encodes");
        std::fs::write(Config::path(&self.path()), text).expect("writes");
    }

    /// Starts the node; one that was just stopped may hold its directory for a moment yet.
    pub(super) async fn open(&self) -> FederatedMesh {
        let began = Instant::now();
        loop {
            match FederatedMesh::open(&self.path()).await {
                Ok(mesh) => return mesh,
                Err(error)
                    if matches!(error.code, ErrorCode::DataLocked | ErrorCode::AddressInUse)
                        && began.elapsed() < PATIENCE =>
                {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(error) => panic!("the node does not start: {error}"),
            }
        }
    }

    /// The node's own key, for a peer that shows it and keeps no rule.
    pub(super) fn identity(&self) -> PostQuantumKeypair {
        load_identity(&self.path().join("keys/identity.key")).expect("has an identity")
    }
}

/// Nodes that are members of one federation; the first founded it.
pub(super) struct Federation {
    pub(super) homes: Vec<Home>,
    pub(super) nodes: Vec<FederatedMesh>,
}

impl Federation {
    /// So many members, `n0` the founder, each in a session with every other.
    pub(super) async fn of(members: usize) -> Self {
        Self::made_of((0..members).map(|i| Home::new(&format!("n{i}")))).await
    }

    /// As [`of`](Self::of), where four members and more decide together.
    pub(super) async fn deciding(members: usize) -> Self {
        Self::made_of((0..members).map(|i| Home::deciding(&format!("n{i}")))).await
    }

    async fn made_of(all: impl Iterator<Item = Home>) -> Self {
        let mut homes = Vec::new();
        let mut nodes = Vec::new();
        for home in all {
            let node = home.open().await;
            if let Some(founder) = nodes.first() {
                admit(founder, &node).await;
            }
            homes.push(home);
            nodes.push(node);
        }
        if nodes.len() == 1 {
            nodes[0].found().expect("founds");
        }
        all_active(&nodes).await;
        Self { homes, nodes }
    }

    pub(super) fn founder(&self) -> &FederatedMesh {
        &self.nodes[0]
    }

    /// Stops the last member for good and gives the key it had.
    pub(super) async fn retire_last(&mut self) -> PostQuantumKeypair {
        let node = self.nodes.pop().expect("has members");
        let home = self.homes.pop().expect("has members");
        let keypair = home.identity();
        stop(node).await;
        keypair
    }
}

/// Admits a node without words and waits until it is a member.
pub(super) async fn admit(founder: &FederatedMesh, node: &FederatedMesh) {
    let ticket = invite(founder, true);
    join_federation(node, &ticket, PATIENCE).await.expect("joins");
}

/// A ticket good for a minute.
pub(super) fn invite(founder: &FederatedMesh, auto_approve: bool) -> String {
    let options = InviteOptions { life: Duration::from_secs(60), auto_approve };
    founder.invite_new(options).expect("invites").ticket
}

/// Stops a node and lets go of it.
pub(super) async fn stop(node: FederatedMesh) {
    node.shutdown().await;
}

/// Waits until each of the nodes is in a session with each other one.
pub(super) async fn all_active(nodes: &[FederatedMesh]) {
    until("every node is active at every other", || {
        let each = |node: &FederatedMesh| {
            let others = nodes.iter().filter(|other| other.peer_id() != node.peer_id());
            others.into_iter().all(|other| state(node, &other.peer_id()) == Some(PeerState::Active))
        };
        nodes.iter().all(each).then_some(())
    })
    .await;
}

/// How a node sees a peer.
pub(super) fn state(node: &FederatedMesh, peer: &PeerId) -> Option<PeerState> {
    node.peers().into_iter().find(|view| view.peer == *peer).map(|view| view.state)
}

/// The words a joiner waits with, once its inviter has them as well.
pub(super) async fn pending_words(inviter: &FederatedMesh, joiner: &FederatedMesh) -> String {
    until("the joiner waits with its words", || match joiner.join_status() {
        JoinStatus::Pending { words } => {
            let waits = |peer: &PeerView| {
                peer.peer == joiner.peer_id()
                    && peer.state == PeerState::Pending
                    && peer.detail != "rejected"
            };
            inviter.peers().iter().any(waits).then_some(words)
        }
        _ => None,
    })
    .await
}

/// Why a joiner was refused.
pub(super) async fn refused(node: &FederatedMesh) -> String {
    until("the joiner is refused", || match node.join_status() {
        JoinStatus::Refused { reason } => Some(reason),
        _ => None,
    })
    .await
}

pub(super) async fn federation(node: &FederatedMesh) -> FederationView {
    node.status().await.expect("has a status").federation.expect("is a member")
}

/// Looks until there is something to see.
pub(super) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    until_async(what, || std::future::ready(look())).await
}

/// As [`until`], where looking takes time.
pub(super) async fn until_async<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

pub(super) fn collection(name: &str) -> CollectionName {
    CollectionName::new(name).expect("a name")
}

/// A collection of cosine vectors, or of text alone.
pub(super) fn spec(name: &str, dimensions: u32) -> CollectionSpec {
    let name = collection(name);
    CollectionSpec { name, dimensions, metric: Metric::Cosine, embedder: String::new() }
}

pub(super) fn record(id: &str, text: &str, vector: Option<&[f32]>) -> NewRecord {
    let record = Record {
        id: RecordId::new(id).expect("an id"),
        title: format!("title of {id}"),
        text: text.to_owned(),
        metadata: BTreeMap::new(),
    };
    let content = content_hash(&record.title, &record.text);
    NewRecord { record, vector: vector.map(<[f32]>::to_vec), content }
}

/// Makes a collection that every member may read, with records.
pub(super) async fn fill(node: &FederatedMesh, spec: CollectionSpec, records: Vec<NewRecord>) {
    let name = spec.name.clone();
    node.collection_add(spec, CollectionPolicy::default()).await.expect("makes a collection");
    node.put(&name, records, None).await.expect("writes records");
}

/// Gives each node a collection `notes` with one record that has the word `moth` and a vector.
pub(super) async fn one_moth_each(nodes: &[FederatedMesh]) {
    for node in nodes {
        let id = format!("{}:1", node.name());
        let text = format!("a moth of {}", node.name());
        fill(node, spec("notes", 2), vec![record(&id, &text, Some(&[1.0, 0.5]))]).await;
    }
}

/// A query of every member by vector, two dimensions.
pub(super) fn by_vector() -> QuerySpec {
    QuerySpec::new(FederationScope::Direct, QueryTarget::vector(vec![1.0, 0.0]))
}

/// A query of every member by the word `moth`.
pub(super) fn by_text() -> QuerySpec {
    QuerySpec::new(FederationScope::Direct, QueryTarget::text("moth"))
}

pub(super) async fn ask(node: &FederatedMesh, query: QuerySpec) -> FederatedResult {
    node.federated_query(query).await.expect("is a good query")
}

/// One source's part in an answer.
pub(super) fn of<'a>(answer: &'a FederatedResult, peer: &PeerId) -> &'a SourceReport {
    answer.sources.iter().find(|source| source.peer == *peer).expect("the source was asked")
}

/// Ids of the results, best first.
pub(super) fn ids(answer: &FederatedResult) -> Vec<&str> {
    answer.results.iter().map(|hit| hit.from.id.as_str()).collect()
}

/// How often a state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
