//! Peers that speak the wire themselves: they hold a real key and say what a test wants said.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use exo_crypto::{
    CosignerKey, CosignerKeypair, JoinerSas, KemEpochKey, Label, PostQuantumKeypair, SasNonce,
    SasSession, Signed,
};
use exo_federation::driver::net::{
    BindConfig, CloseReason, EncryptedChannel, Endpoint, NetLimits, Purpose, RequestError,
};
use exo_federation::{CapabilitySet, FederatedMesh, FederationToken, NodeName};
use exo_node::descriptor::MemberDescriptor;
use exo_node::refusal::Refusal;
use exo_node::ticket::Ticket;
use exo_node::wire::{Hello, JoinStart, Request, Response, SearchFor, SearchRequest, Welcome};
use exo_types::{
    Epoch, FederationId, Filter, PeerAddress, PeerId, QueryTarget, Timestamp, TokenId, Wire,
};

use super::nodes::{PATIENCE, federation, invite};

/// A key with a socket.
pub(super) struct Raw {
    pub(super) keypair: Arc<PostQuantumKeypair>,
    pub(super) endpoint: Endpoint,
    /// What it says it can do.
    pub(super) capabilities: CapabilitySet,
    /// The sealing keys that it announces.
    pub(super) kem_keys: Vec<Signed<KemEpochKey>>,
    /// The key with which it would cosign the log.
    pub(super) cosigner: CosignerKey,
    /// Since when; the version of what it says of itself.
    started: Timestamp,
}

/// A member's session from the side of the peer that dialled.
pub(super) struct Session {
    pub(super) channel: EncryptedChannel,
    pub(super) welcome: Welcome,
}

impl Raw {
    pub(super) fn new(keypair: PostQuantumKeypair) -> Self {
        let keypair = Arc::new(keypair);
        let endpoint = Endpoint::bind(BindConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            identity: keypair.clone(),
            admit: Arc::new(|_| true),
            limits: NetLimits::default(),
        });
        Self {
            keypair,
            endpoint: endpoint.expect("binds"),
            cosigner: CosignerKeypair::generate().expect("a key").public().clone(),
            capabilities: CapabilitySet::of_this_version(),
            kem_keys: Vec::new(),
            started: now(),
        }
    }

    /// A key that nobody knows.
    pub(super) fn stranger() -> Self {
        Self::new(PostQuantumKeypair::generate().expect("makes a key"))
    }

    /// A key that the founder admits as a member.
    pub(super) async fn member(founder: &FederatedMesh, name: &str) -> Self {
        let raw = Self::stranger();
        raw.join(founder, name).await;
        raw
    }

    pub(super) async fn join(&self, founder: &FederatedMesh, name: &str) {
        let ticket: Ticket = invite(founder, true).parse().expect("parses");
        let channel = self.dial(founder, Purpose::Join).await;
        let (sas, start) = join_start(self, &channel, &ticket, name);
        let Response::JoinChallenge(challenge) = ask(&channel, &start).await else {
            panic!("the ticket is good");
        };
        let (nonce, _) = sas.reveal(&challenge.nonce);
        let answer = ask(&channel, &Request::JoinReveal { nonce }).await;
        assert!(matches!(answer, Response::JoinApproved(_)), "{answer:?}");
    }

    pub(super) fn peer_id(&self) -> PeerId {
        self.keypair.peer_id()
    }

    pub(super) async fn dial(&self, node: &FederatedMesh, purpose: Purpose) -> EncryptedChannel {
        let dialled = self.endpoint.connect(node.mesh_listen(), node.peer_id(), purpose).await;
        dialled.expect("connects")
    }

    /// What it says of itself: it is reached at its socket.
    pub(super) fn descriptor(&self) -> Signed<MemberDescriptor> {
        let at = self.endpoint.local_address().expect("is bound");
        let descriptor = MemberDescriptor {
            peer: self.peer_id(),
            version: self.started.0,
            addresses: vec![PeerAddress {
                peer: Some(self.peer_id()),
                host: at.ip().to_string(),
                port: at.port(),
            }],
            capabilities: self.capabilities.clone(),
            kem_keys: self.kem_keys.clone(),
            cosigner: self.cosigner.clone(),
            expires: self.started.plus_millis(60 * 60 * 1000),
        };
        Signed::sign(descriptor, &self.keypair).expect("signs").into_signed()
    }

    pub(super) fn hello(&self, federation: FederationId) -> Hello {
        Hello {
            federation,
            epoch: Epoch::GENESIS,
            capabilities: self.capabilities.clone(),
            descriptor: self.descriptor(),
            token: None,
        }
    }

    /// A session with a node that has this peer for a member.
    pub(super) async fn enter(&self, node: &FederatedMesh) -> Session {
        let channel = self.dial(node, Purpose::Member).await;
        self.greet(channel, federation(node).await.id).await
    }

    /// Says hello over a channel that it dialled.
    pub(super) async fn greet(
        &self,
        channel: EncryptedChannel,
        federation: FederationId,
    ) -> Session {
        let hello = self.hello(federation);
        match ask(&channel, &Request::Hello(Box::new(hello))).await {
            Response::Welcome(welcome) => Session { channel, welcome: *welcome },
            other => panic!("not welcome: {other:?}"),
        }
    }
}

impl Session {
    /// The token this peer was given.
    pub(super) fn token(&self) -> FederationToken {
        self.welcome.token.claimed().expect("decodes")
    }

    /// Searches with a token.
    pub(super) async fn search(&self, token: TokenId) -> Response {
        ask(&self.channel, &search(token)).await
    }
}

/// A joiner's first message over a channel, and what opens its commitment.
pub(super) fn join_start(
    raw: &Raw,
    channel: &EncryptedChannel,
    ticket: &Ticket,
    name: &str,
) -> (JoinerSas, Request) {
    let session = SasSession {
        exporter: channel.exporter(Label::EXPORTER).expect("exports"),
        joiner: raw.peer_id(),
        inviter: channel.peer(),
    };
    let (sas, commitment) = JoinerSas::start(session, SasNonce::new([5; 32]));
    let start = JoinStart {
        federation: ticket.federation,
        secret: ticket.secret,
        commitment,
        name: NodeName::new(name).expect("a name"),
        descriptor: raw.descriptor(),
    };
    (sas, Request::JoinStart(Box::new(start)))
}

/// A search by a vector of two dimensions.
pub(super) fn search(token: TokenId) -> Request {
    Request::Search(Box::new(SearchRequest {
        token,
        search: SearchFor {
            collection: None,
            target: QueryTarget::vector(vec![1.0, 0.0]),
            filter: Filter::default(),
            top_k: 10,
            terms: None,
            vectors: false,
        },
    }))
}

/// Asks and takes what is answered.
pub(super) async fn ask(channel: &EncryptedChannel, request: &Request) -> Response {
    try_ask(channel, request).await.expect("is answered")
}

pub(super) async fn try_ask(
    channel: &EncryptedChannel,
    request: &Request,
) -> Result<Response, RequestError> {
    ask_bytes(channel, request.to_wire().expect("encodes")).await
}

pub(super) async fn ask_bytes(
    channel: &EncryptedChannel,
    body: Vec<u8>,
) -> Result<Response, RequestError> {
    let answer = channel.request(body, PATIENCE).await?;
    Ok(Response::from_wire(&answer).expect("an answer decodes"))
}

/// The refusal that an answer must be.
pub(super) fn refusal(response: Response) -> Refusal {
    match response {
        Response::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// The code that the other side closes a channel with.
pub(super) async fn close_code(channel: &EncryptedChannel) -> u64 {
    match tokio::time::timeout(PATIENCE, channel.closed()).await.expect("is closed in time") {
        CloseReason::ByPeer { code, .. } => code,
        other => panic!("not closed by the peer: {other}"),
    }
}

pub(super) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(u64::try_from(since.unwrap_or(Duration::ZERO).as_millis()).unwrap_or(u64::MAX))
}
