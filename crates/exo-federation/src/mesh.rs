//! The node as its users hold it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, OnceLock, RwLock, Weak};
use std::time::Duration;

use exo_crypto::fingerprint_words;
use exo_node::share::Rights;
use exo_node::token::FederationToken;
use exo_node::{Node, Settings};
use exo_onion::ReplayCache;
use exo_substrate::{OpenOptions, SubstrateInstance};
use exo_types::{FederationId, NodeName, PeerAddress, PeerId, Timestamp};
use rand::TryRng;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::config::Config;
use crate::convert;
use crate::driver::clock::Clock;
use crate::driver::core::{Core, Keys, lock};
use crate::driver::decide::{Life, Place, Ready};
use crate::driver::net::{BindConfig, BindError, Endpoint, NetLimits};
use crate::driver::pulse;
use crate::driver::shared::Restored;
use crate::driver::store::Store;
use crate::error::{ErrorCode, FederationError};
use crate::view::{
    InviteOptions, InviteView, JoinStatus, NewInvite, NodeStatus, PeerState, PeerView,
};

/// A running node. Cheap to clone; the node stops when [`shutdown`](Self::shutdown) is called or the
/// last clone is dropped.
#[derive(Clone)]
pub struct FederatedMesh {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    peer: PeerId,
    name: NodeName,
    mesh_listen: SocketAddr,
    advertised: Vec<PeerAddress>,
    started: Timestamp,
    tasks: Vec<AbortHandle>,
}

/// What [`FederatedMesh::init`] made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initialised {
    /// The new node's id.
    pub peer: PeerId,
    /// Four words of its identity, to compare by voice.
    pub words: String,
}

impl FederatedMesh {
    /// Makes a node: its keys and its configuration, in a directory of its own.
    ///
    /// # Errors
    /// [`ErrorCode::AlreadyInitialised`] when there is one; nothing of it is touched.
    pub fn init(data_dir: &Path, config: &Config) -> Result<Initialised, FederationError> {
        let keypair = Store::init(data_dir, config)?;
        let peer = keypair.peer_id();
        Ok(Initialised { peer, words: fingerprint_words(peer).to_string() })
    }

    /// Starts the node of a directory. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// What keeps a node from starting: no node there, another process holds it, keys that others
    /// can read, a damaged state, an address in use.
    pub async fn open(data_dir: &Path) -> Result<Self, FederationError> {
        let config = Config::load(data_dir)?;
        let store = Store::open(data_dir)?;
        let clock = Clock::start();
        let now = clock.now();
        let keypair = Arc::new(store.identity()?);
        let cosigner = Arc::new(store.cosigner()?);
        let mut cosigners = vec![Arc::clone(&cosigner)];
        cosigners.extend(store.next_cosigner()?.map(Arc::new));
        // A node that crashed does not know which packets it took: it takes none of its former keys.
        let (keyring, replays) = match store.take_replays()? {
            Some(replays) => (store.keyring(now.wall)?, replays),
            None => (store.fresh_keyring(now.wall)?, ReplayCache::new()),
        };
        let mut options = OpenOptions::new(store.substrate_path());
        if let Some(records) = config.exact_scan_records {
            options.exact_scan_records_max = records;
        }
        let substrate =
            SubstrateInstance::open("embedded", options).await.map_err(convert::data)?;
        let collections = substrate.collections().await.map_err(convert::data)?;

        // The gate of the endpoint asks the node, which is made once the endpoint's address is known.
        let gate: Arc<OnceLock<Weak<Core>>> = Arc::default();
        let asked = Arc::clone(&gate);
        let endpoint = Endpoint::bind(BindConfig {
            listen: config.mesh_listen,
            identity: Arc::clone(&keypair),
            admit: Arc::new(move |key| match asked.get() {
                // A moment before the node is there to ask. Nobody is turned away for that: the
                // node judges every session again, and a waiting joiner would take it for a no.
                None => true,
                Some(core) => core
                    .upgrade()
                    .is_some_and(|core| core.look(|node, now| node.admits(now, &key.peer_id()))),
            }),
            limits: NetLimits::default(),
        })
        .map_err(|error| bind_error(&error))?;
        let mesh_listen = endpoint.local_address().map_err(|error| {
            FederationError::new(ErrorCode::Io, format!("the listening socket: {error}"))
        })?;
        let peer = keypair.peer_id();
        let advertised = advertised(&config, mesh_listen, peer)?;
        let state = store.state()?;
        let ready = ready(&store, state.as_deref(), peer, clock)?;
        let keys =
            Keys { identity: Arc::clone(&keypair), cosigners: Arc::new(RwLock::new(cosigners)) };
        let node = Node::new(
            now,
            Settings {
                keypair,
                name: config.name.clone(),
                addresses: advertised.clone(),
                cosigner: cosigner.public().clone(),
                founding_voters: config.founding_voters,
                keyring,
                replays,
                onion: config.onion.policy(),
                collections: collections.into_iter().map(|info| info.spec).collect(),
                state,
                decided: ready.as_ref().map(|ready| Arc::new(ready.roster())),
                entropy: Box::new(system_entropy),
            },
        )
        .map_err(|error| FederationError::new(ErrorCode::DataCorrupt, error.to_string()))?;

        let core = Core::new(node, clock, substrate, keys, store, Handle::current());
        // Both are set here alone.
        let _ = core.endpoint.set(endpoint.clone());
        let _ = gate.set(Arc::downgrade(&core));
        let founding = || core.look(|node, _| node.roster().cloned().map(Arc::new));
        let rights = match &ready {
            Some(ready) => Some(ready.rights()),
            None => founding().map(Rights::founding),
        };
        if let Some(rights) = rights {
            let (dir, keypair) = (core.store.shared_path(), Arc::clone(&core.keys.identity));
            let reading = move || Restored::read(&dir, keypair, rights, clock);
            let restored = tokio::task::spawn_blocking(reading).await.map_err(|error| {
                FederationError::new(ErrorCode::Internal, format!("shared collections: {error}"))
            })?;
            core.run_sharing(restored?)?;
        }
        if let Some(ready) = ready {
            core.run_deciding(ready)?;
        }
        let tasks = vec![
            tokio::spawn(Core::run_timer(Arc::downgrade(&core))).abort_handle(),
            tokio::spawn(Core::accept(Arc::downgrade(&core), endpoint)).abort_handle(),
            tokio::spawn(pulse::watch(Arc::downgrade(&core))).abort_handle(),
        ];
        // What the node wanted when it was made: dials, first of all.
        core.drive(|_, _| ());
        let name = config.name;
        let started = now.wall;
        let inner = Inner { core, peer, name, mesh_listen, advertised, started, tasks };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// This node's id.
    pub fn peer_id(&self) -> PeerId {
        self.inner.peer
    }

    /// This node's name.
    pub fn name(&self) -> &NodeName {
        &self.inner.name
    }

    /// Where the node listens for peers.
    pub fn mesh_listen(&self) -> SocketAddr {
        self.inner.mesh_listen
    }

    /// The first address peers are told.
    pub fn address(&self) -> PeerAddress {
        match self.inner.advertised.first() {
            Some(address) => address.clone(),
            None => PeerAddress {
                peer: Some(self.inner.peer),
                host: self.inner.mesh_listen.ip().to_string(),
                port: self.inner.mesh_listen.port(),
            },
        }
    }

    /// The node's own searchable data. Collections made here directly are not offered to peers; use
    /// [`collection_add`](Self::collection_add).
    pub fn substrate(&self) -> &SubstrateInstance {
        &self.inner.core.substrate
    }

    /// The node's state at this moment.
    ///
    /// # Errors
    /// When the substrate cannot be read, or the node is out of order.
    pub async fn status(&self) -> Result<NodeStatus, FederationError> {
        self.inner.core.check()?;
        let collections = self.substrate().collections().await.map_err(convert::data)?;
        let (federation, join, peers) =
            self.inner.core.look(|n, _| (n.federation(), n.join_status(), n.peers()));
        let count = |state| peers.iter().filter(|peer| peer.state == state).count();
        Ok(NodeStatus {
            peer: self.inner.peer,
            name: self.inner.name.clone(),
            words: fingerprint_words(self.inner.peer).to_string(),
            mesh_listen: self.inner.mesh_listen,
            advertised: self.inner.advertised.clone(),
            federation,
            join,
            peers_active: count(PeerState::Active),
            peers_unreachable: count(PeerState::Unreachable),
            joiners_pending: count(PeerState::Pending),
            collections,
            started: self.inner.started,
        })
    }

    /// Members but this one, removed members, and joiners that wait.
    pub fn peers(&self) -> Vec<PeerView> {
        self.inner.core.look(|node, _| node.peers())
    }

    /// Finds a peer by its id, an unambiguous beginning of it, or its name.
    ///
    /// # Errors
    /// [`ErrorCode::PeerNotFound`].
    pub fn resolve_peer(&self, id_or_name: &str) -> Result<PeerId, FederationError> {
        let wanted = id_or_name.trim();
        let peers = self.peers();
        let by_name = peers.iter().filter(|peer| peer.name.as_str() == wanted);
        let mut found: Vec<PeerId> =
            by_name.filter(|peer| peer.state != PeerState::Revoked).map(|peer| peer.peer).collect();
        if found.is_empty() && wanted.len() >= ID_PREFIX_CHARS_MIN {
            let begins = |peer: &&PeerView| peer.peer.to_string().starts_with(wanted);
            found = peers.iter().filter(begins).map(|peer| peer.peer).collect();
        }
        match found.as_slice() {
            [peer] => Ok(*peer),
            [] => Err(FederationError::new(
                ErrorCode::PeerNotFound,
                format!("no member or joiner is called {wanted:?}"),
            )),
            _ => Err(FederationError::new(
                ErrorCode::PeerNotFound,
                format!("{wanted:?} fits more than one peer: give more of the id"),
            )),
        }
    }

    /// Founds a federation with this node as its only member.
    ///
    /// # Errors
    /// [`ErrorCode::AlreadyMember`].
    pub fn found(&self) -> Result<FederationId, FederationError> {
        self.inner.core.durably(Node::found)
    }

    /// Opens an invite; founds a federation when the node belongs to none. The ticket is in the
    /// answer alone: only a hash of its secret is kept.
    ///
    /// # Errors
    /// [`ErrorCode::NotFounder`], [`ErrorCode::TooManyInvites`], [`ErrorCode::InvalidArgument`].
    pub fn invite_new(&self, options: InviteOptions) -> Result<NewInvite, FederationError> {
        let addresses = self.ticket_addresses();
        let life = u64::try_from(options.life.as_millis()).unwrap_or(u64::MAX);
        let (invite, ticket) = self
            .inner
            .core
            .durably(|node, now| node.invite(now, life, options.auto_approve, &addresses))?;
        Ok(NewInvite { id: invite.id, ticket: ticket.to_string(), expires: invite.expires })
    }

    /// Open invites.
    pub fn invites(&self) -> Vec<InviteView> {
        self.inner.core.look(|node, now| {
            let open = node.invites().iter().filter(|invite| invite.expires > now.wall);
            open.map(|invite| InviteView {
                id: invite.id.clone(),
                expires: invite.expires,
                auto_approve: invite.auto_approve,
                used_by: invite.used_by,
            })
            .collect()
        })
    }

    /// Closes an invite.
    ///
    /// # Errors
    /// [`ErrorCode::InviteNotFound`].
    pub fn invite_revoke(&self, id: &str) -> Result<(), FederationError> {
        self.inner.core.durably(|node, _| node.revoke_invite(id))
    }

    /// Begins to join the federation of a ticket; [`join_status`](Self::join_status) tells how it
    /// stands. It goes on across restarts.
    ///
    /// # Errors
    /// [`ErrorCode::TicketMalformed`], [`ErrorCode::TicketExpired`], [`ErrorCode::AlreadyMember`],
    /// [`ErrorCode::JoinInProgress`].
    pub fn join(&self, ticket: &str) -> Result<(), FederationError> {
        let ticket = ticket.parse().map_err(|error: exo_node::ticket::TicketError| {
            FederationError::new(ErrorCode::TicketMalformed, error.to_string())
        })?;
        self.inner.core.durably(|node, now| node.join(now, ticket))
    }

    /// How joining stands.
    pub fn join_status(&self) -> JoinStatus {
        self.inner.core.look(|node, _| node.join_status())
    }

    /// Admits the joiner whose four words these are. Where the members decide together it is proposed, and
    /// shown as pending until they have; [`propose`](Self::propose) waits for that.
    ///
    /// # Errors
    /// [`ErrorCode::WordsUnknown`], [`ErrorCode::NotFounder`], [`ErrorCode::NoVote`].
    pub fn approve(&self, words: &str) -> Result<PeerView, FederationError> {
        let change = self.inner.core.durably(|node, now| node.approve(now, words))?;
        if let Some(decision) = &change.decision {
            self.inner.core.propose(decision);
        }
        self.peer_view(&change.peer)
    }

    /// Who waits for approval with these words.
    ///
    /// # Errors
    /// [`ErrorCode::WordsUnknown`], [`ErrorCode::NotFounder`], [`ErrorCode::NoVote`].
    pub fn joiner(&self, words: &str) -> Result<PeerId, FederationError> {
        Ok(self.inner.core.look(|node, _| node.joiner_of(words))?)
    }

    /// Turns a joiner away.
    ///
    /// # Errors
    /// [`ErrorCode::PeerNotFound`].
    pub fn reject(&self, peer: &PeerId) -> Result<(), FederationError> {
        self.inner.core.durably(|node, _| node.reject(peer))
    }

    /// Removes a member: its live sessions close at once, its tokens die with the epoch, and every
    /// other member follows as soon as it hears of the new roster. Where the members decide together it is
    /// proposed; [`propose`](Self::propose) waits for what comes of that.
    ///
    /// # Errors
    /// [`ErrorCode::NotFounder`], [`ErrorCode::NoVote`], [`ErrorCode::PeerNotFound`],
    /// [`ErrorCode::InvalidArgument`].
    pub fn revoke(&self, peer: &PeerId, reason: &str) -> Result<(), FederationError> {
        let change = self.inner.core.durably(|node, now| node.revoke(now, peer, reason))?;
        if let Some(decision) = &change.decision {
            self.inner.core.propose(decision);
        }
        Ok(())
    }

    /// Makes every token that a member holds here worthless at once.
    pub fn revoke_tokens(&self, holder: &PeerId) {
        self.inner.core.drive(|node, now| node.revoke_tokens(now, holder));
    }

    /// The token this node holds at a member, while they have a session.
    pub fn token(&self, peer: &PeerId) -> Option<FederationToken> {
        self.inner.core.look(|node, _| node.token_at(peer))
    }

    /// Asks a member whether it is there, and how long that takes.
    ///
    /// # Errors
    /// [`ErrorCode::Unreachable`].
    pub async fn ping(&self, peer: &PeerId) -> Result<Duration, FederationError> {
        let unreachable = |detail: String| FederationError::new(ErrorCode::Unreachable, detail);
        let core = &self.inner.core;
        let (to, answer) = oneshot::channel();
        let asked = core.drive(|node, now| {
            let call = node.ping(now, peer)?;
            lock(&core.pings).insert(call, to);
            Some(())
        });
        asked.ok_or_else(|| unreachable(format!("there is no session with {}", peer.short())))?;
        match answer.await {
            Ok(result) => result.map_err(unreachable),
            Err(_) => Err(unreachable("the node stopped".to_owned())),
        }
    }

    /// Stops the node: takes nothing new, lets what is under way finish, tells its peers.
    pub async fn shutdown(&self) {
        for task in &self.inner.tasks {
            task.abort();
        }
        let core = &self.inner.core;
        let drained = async {
            while !lock(&core.queries).is_empty() || !lock(&core.responders).is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // Whatever is not done by then is cut off.
        let _ = tokio::time::timeout(SHUTDOWN_DRAIN, drained).await;
        if let Some(endpoint) = core.endpoint.get() {
            let reason = exo_node::wire::CloseReason::Shutdown;
            endpoint.close(reason.code(), reason.says());
            endpoint.wait_idle(SHUTDOWN_FAREWELL).await;
        }
        // Nothing comes in any more.
        if let Err(error) = core.look(|node, _| core.store.save_replays(node.replays())) {
            tracing::warn!(%error, "the packets taken were not saved; the node will change its keys");
        }
    }

    fn peer_view(&self, peer: &PeerId) -> Result<PeerView, FederationError> {
        self.peers().into_iter().find(|view| view.peer == *peer).ok_or_else(|| {
            FederationError::new(ErrorCode::PeerNotFound, format!("{peer} is not known"))
        })
    }

    /// The advertised addresses that are numbers: what fits on a ticket.
    fn ticket_addresses(&self) -> Vec<SocketAddr> {
        let numeric = |address: &PeerAddress| {
            let ip: IpAddr = address.host.parse().ok()?;
            Some(SocketAddr::new(ip, address.port))
        };
        self.inner.advertised.iter().filter_map(numeric).collect()
    }
}

impl std::fmt::Debug for FederatedMesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FederatedMesh({}, {})", self.inner.name, self.inner.peer.short())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        if let Some(endpoint) = self.core.endpoint.get() {
            let reason = exo_node::wire::CloseReason::Shutdown;
            endpoint.close(reason.code(), reason.says());
        }
    }
}

/// The replica of a node whose state holds a constitution.
fn ready(
    store: &Store,
    state: Option<&[u8]>,
    me: PeerId,
    clock: Clock,
) -> Result<Option<Ready>, FederationError> {
    let constitution = match state {
        Some(state) => exo_node::state::constitution(state)
            .map_err(|error| FederationError::new(ErrorCode::DataCorrupt, error.to_string()))?,
        None => None,
    };
    let unbegun = store.unbegun();
    let Some((federation, constitution)) = constitution else {
        unbegun.make()?;
        return Ok(None);
    };
    let place = Place { dir: store.decisions_path(), federation, me, constitution, unbegun };
    Ready::prepare(&place, Life::Later, clock).map(Some)
}

/// The addresses peers are told: configured, or the one listened on, or the machine's outgoing one.
fn advertised(
    config: &Config,
    listen: SocketAddr,
    peer: PeerId,
) -> Result<Vec<PeerAddress>, FederationError> {
    let configured = config.addresses()?;
    if !configured.is_empty() {
        let of_us = |address: PeerAddress| PeerAddress { peer: Some(peer), ..address };
        return Ok(configured.into_iter().map(of_us).collect());
    }
    let ip = if listen.ip().is_unspecified() { outgoing_ip() } else { listen.ip() };
    Ok(vec![PeerAddress { peer: Some(peer), host: ip.to_string(), port: listen.port() }])
}

/// The address that this machine would send from. Connecting a UDP socket sends nothing.
fn outgoing_ip() -> IpAddr {
    let route = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // An address reserved for documentation (RFC 5737): any that is not local does.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    route().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

fn bind_error(error: &BindError) -> FederationError {
    let code = match error {
        BindError::Socket { .. } => ErrorCode::AddressInUse,
        BindError::Tls(_) | BindError::NoRuntime => ErrorCode::Internal,
    };
    FederationError::new(code, error.to_string())
}

/// Randomness of the operating system.
fn system_entropy(bytes: &mut [u8]) {
    // The system call fails only before the kernel's generator is seeded, at boot; then a node must
    // not run on with predictable nonces.
    if rand::rngs::SysRng.try_fill_bytes(bytes).is_err() {
        std::process::abort();
    }
}

/// Characters of a peer id that are enough to mean one.
const ID_PREFIX_CHARS_MIN: usize = 6;
/// How long what is under way may take to finish at shutdown.
const SHUTDOWN_DRAIN: Duration = Duration::from_secs(10);
/// How long peers are given to hear of the shutdown.
const SHUTDOWN_FAREWELL: Duration = Duration::from_millis(500);
