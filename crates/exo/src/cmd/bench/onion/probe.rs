//! A member of this process that speaks the wire itself and asks one member alone, directly or over a
//! path of its choice. It does what an asking node does for one source: build, send, open, verify.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use exo_crypto::{
    CosignerKeypair, KemEpochKey, PostQuantumKeypair, SignBodyError, Signed, Verified,
    load_identity,
};
use exo_federation::driver::net::{
    BindConfig, EncryptedChannel, Endpoint, IncomingRequest, NetLimits, Purpose,
};
use exo_federation::{CapabilitySet, Config, FederationToken, InviteOptions, join_federation};
use exo_node::descriptor::MemberDescriptor;
use exo_node::question::{AnswerSet, Question, Reply};
use exo_node::wire::{Hello, OnionRequest, Request, Response, SearchFor, SearchRequest};
use exo_onion::{Hop, PacketClass, ReplyClass, ReplyKeys, ReplyOutcome, wrap};
use exo_types::limits::TOKEN_LIFE_MILLIS;
use exo_types::{Epoch, FederationId, Filter, Leg, PeerId, QueryTarget, Timestamp, TokenId, Wire};
use rand::TryRng;
use tokio::task::AbortHandle;

use super::super::broken;
use super::super::federation::{self, Federation, JOIN_WITHIN, LOOK_EVERY};
use crate::exit::Failure;

/// The member.
pub(super) struct Probe {
    /// A session with each node process, in their order.
    pub(super) ways: Vec<Way>,
    identity: Arc<PostQuantumKeypair>,
    /// Its socket stays open as long as it is a member.
    _endpoint: Endpoint,
    serving: Vec<AbortHandle>,
}

/// A session with a node, and what is known of it.
pub(super) struct Way {
    /// Its id.
    pub(super) peer: PeerId,
    channel: EncryptedChannel,
    token: TokenId,
    /// What is sealed for it is sealed with this.
    key: Verified<KemEpochKey>,
}

/// A packet that has not left yet.
pub(super) struct Packet {
    body: Vec<u8>,
    keys: ReplyKeys,
    target: PeerId,
}

impl Probe {
    /// Joins as any node does, then leaves its session to a socket of its own.
    pub(super) async fn join(root: &Path, federation: &Federation) -> Result<Self, Failure> {
        let asker = &federation.asker;
        let node = federation::open(root, NAME, &|_: &mut Config| ()).await?;
        let invite = asker.invite_new(InviteOptions { life: JOIN_WITHIN, auto_approve: true })?;
        join_federation(&node, &invite.ticket, JOIN_WITHIN).await?;
        node.shutdown().await;
        drop(node);
        let path = root.join(NAME).join("keys/identity.key");
        let identity = load_identity(&path).map_err(|error| broken("the probe's key", error))?;
        let identity = Arc::new(identity);
        let endpoint = Endpoint::bind(BindConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            identity: identity.clone(),
            admit: Arc::new(|_| true),
            limits: NetLimits::default(),
        });
        let endpoint = endpoint.map_err(|error| broken("the probe's socket", error))?;
        let status = asker.status().await?;
        let member =
            status.federation.ok_or_else(|| broken("the asker", "it has no federation"))?;
        let (mut ways, mut serving) = (Vec::new(), Vec::new());
        for node in &federation.others {
            let (peer, at) = (node.ready.peer, node.ready.mesh);
            let began = Instant::now();
            let (way, epoch) = loop {
                let entered = enter(&endpoint, &identity, member.id, member.epoch, peer, at).await;
                match entered {
                    Ok(entered) => break entered,
                    // It has not heard of the new member yet.
                    Err(_) if began.elapsed() < JOIN_WITHIN => {
                        tokio::time::sleep(LOOK_EVERY).await;
                    }
                    Err(failure) => return Err(failure),
                }
            };
            let grants = Grants { identity: identity.clone(), federation: member.id, epoch };
            let channel = way.channel.clone();
            serving.push(tokio::spawn(grants.serve(channel)).abort_handle());
            ways.push(way);
        }
        Ok(Self { ways, identity, _endpoint: endpoint, serving })
    }

    /// Is a member no more; the others have heard of it when this returns.
    pub(super) async fn leave(&self, federation: &Federation) -> Result<(), Failure> {
        let asker = &federation.asker;
        asker.revoke(&self.identity.peer_id(), "it has measured")?;
        self.serving.iter().for_each(AbortHandle::abort);
        let gone = async {
            for way in &self.ways {
                way.channel.closed().await;
            }
        };
        tokio::time::timeout(JOIN_WITHIN, gone)
            .await
            .map_err(|_| broken("the probe", "a node has not heard that it left"))
    }

    /// The path of so many members that ends at the last node; which relays, changes with `round`.
    pub(super) fn path(&self, hops: usize, round: usize) -> Vec<&Way> {
        let Some((target, relays)) = self.ways.split_last() else { return Vec::new() };
        let drawn = (0..hops.saturating_sub(1)).map(|at| &relays[(round + at) % relays.len()]);
        drawn.chain([target]).collect()
    }

    /// Builds a packet for the last member of a path.
    pub(super) fn packet(
        &self,
        path: &[&Way],
        content: Option<&[u8]>,
        reply: ReplyClass,
    ) -> Result<Packet, Failure> {
        let hops: Vec<Hop<'_>> =
            path.iter().map(|way| Hop { key: &way.key, delay_millis: 0 }).collect();
        let class = PacketClass::for_content(content.map_or(0, <[u8]>::len));
        let class = class.ok_or_else(|| broken("a packet", "its content is too long"))?;
        let request = exo_onion::Request { path: &hops, content, class, reply };
        let (message, keys) =
            wrap(&request, now(), &mut entropy).map_err(|error| broken("a packet", error))?;
        let (Some(first), Some(last)) = (path.first(), path.last()) else {
            return Err(broken("a path", "nobody is on it"));
        };
        let packet = message.into_bytes();
        let request = Request::Onion(OnionRequest { token: first.token, packet });
        let body = request.to_wire().map_err(|error| broken("a packet", error))?;
        Ok(Packet { body, keys, target: last.peer })
    }

    /// Asks the last member of a path for what is nearest to a vector, as a node asks one source; how
    /// many hits came.
    pub(super) async fn ask(
        &self,
        path: &[&Way],
        target: QueryTarget,
        top_k: usize,
        reply: ReplyClass,
    ) -> Result<usize, Failure> {
        let question = Question::Search(Box::new(search(target, top_k)));
        let content = question.to_wire().map_err(|error| broken("a question", error))?;
        let (Some(first), Some(last)) = (path.first(), path.last()) else {
            return Err(broken("a path", "nobody is on it"));
        };
        let packet = self.packet(path, Some(&content), reply)?;
        let answer = first.send(packet).await?;
        let reply = Reply::from_wire(&answer).map_err(|error| broken("an answer", error))?;
        let Reply::Answer(signed) = reply else {
            return Err(broken("an answer", format!("{reply:?}")));
        };
        let set: Verified<AnswerSet> = signed
            .verify(last.channel.peer_key())
            .map_err(|error| broken("an answer's signature", error))?;
        if set.trimmed {
            return Err(broken("an answer", "its reply had no room for it"));
        }
        if set.question != Question::hash(&content) {
            return Err(broken("an answer", "it is to another question"));
        }
        Ok(hits(&set.legs))
    }
}

impl Way {
    /// Asks over the session itself, so that the member knows who asks.
    pub(super) async fn ask(&self, target: QueryTarget, top_k: usize) -> Result<usize, Failure> {
        let request = SearchRequest { token: self.token, search: search(target, top_k) };
        match self.request(&Request::Search(Box::new(request))).await? {
            Response::Answer { legs } => Ok(hits(&legs)),
            other => Err(broken("a direct answer", format!("{other:?}"))),
        }
    }

    /// Sends a packet whose path begins here; what the last member of it answers.
    pub(super) async fn send(&self, packet: Packet) -> Result<Vec<u8>, Failure> {
        let Packet { body, mut keys, target } = packet;
        let mut chunks = self.chunks(body).await?;
        let mut reply = None;
        for chunk in chunks.chunks_mut(keys.class().chunk_bytes()) {
            reply = keys.open(chunk).map_err(|error| broken("a reply", error))?;
        }
        match reply {
            Some(exo_onion::Reply { from, outcome: ReplyOutcome::Answer(bytes) })
                if from == target =>
            {
                Ok(bytes.to_vec())
            }
            Some(exo_onion::Reply { from, .. }) => {
                Err(broken("a reply", format!("{} gave the packet up", from.short())))
            }
            None => Err(broken("a reply", "it is too short")),
        }
    }

    /// Sends a packet; whether a reply came, whoever it is from.
    pub(super) async fn send_unread(&self, packet: Packet) -> Result<(), Failure> {
        let length = packet.keys.class().reply_bytes();
        match self.chunks(packet.body).await?.len() == length {
            true => Ok(()),
            false => Err(broken("a reply", "it is too short")),
        }
    }

    async fn chunks(&self, body: Vec<u8>) -> Result<Vec<u8>, Failure> {
        match self.response(body).await? {
            Response::Onion(chunks) => Ok(chunks),
            other => Err(broken("a packet", format!("{other:?}"))),
        }
    }

    async fn request(&self, request: &Request) -> Result<Response, Failure> {
        let body = request.to_wire().map_err(|error| broken("a request", error))?;
        self.response(body).await
    }

    async fn response(&self, body: Vec<u8>) -> Result<Response, Failure> {
        let answer = self.channel.request(body, ANSWER_WITHIN).await;
        let answer = answer.map_err(|error| broken("an answer", error))?;
        Response::from_wire(&answer).map_err(|error| broken("an answer", error))
    }
}

/// Opens a session with a node: the way to it, and its epoch.
async fn enter(
    endpoint: &Endpoint,
    identity: &PostQuantumKeypair,
    federation: FederationId,
    epoch: Epoch,
    peer: PeerId,
    at: std::net::SocketAddr,
) -> Result<(Way, Epoch), Failure> {
    let failed = |error: exo_crypto::VerifyError| broken("what a node says of itself", error);
    let channel = endpoint.connect(at, peer, Purpose::Member).await;
    let channel = channel.map_err(|error| broken("a session", error))?;
    let capabilities = CapabilitySet::of_this_version();
    // No address: nobody dials this member.
    let descriptor = MemberDescriptor {
        peer: identity.peer_id(),
        version: now().0,
        addresses: Vec::new(),
        capabilities: capabilities.clone(),
        kem_keys: Vec::new(),
        cosigner: CosignerKeypair::generate()
            .map_err(|error| broken("a cosigner key", error))?
            .public()
            .clone(),
        expires: now().plus_millis(TOKEN_LIFE_MILLIS),
    };
    let descriptor =
        Signed::sign(descriptor, identity).map_err(|error| broken("a descriptor", error))?;
    let descriptor = descriptor.into_signed();
    let hello = Hello { federation, epoch, capabilities, descriptor, token: None };
    let hello = Request::Hello(Box::new(hello));
    let body = hello.to_wire().map_err(|error| broken("a hello", error))?;
    let answer = channel.request(body, ANSWER_WITHIN).await;
    let answer = answer.map_err(|error| broken("a hello", error))?;
    let welcome = match Response::from_wire(&answer) {
        Ok(Response::Welcome(welcome)) => welcome,
        Ok(other) => return Err(broken("a hello", format!("{other:?}"))),
        Err(error) => return Err(broken("a hello", error)),
    };
    let said = welcome.descriptor.verify(channel.peer_key()).map_err(failed)?;
    let token = welcome.token.verify(channel.peer_key()).map_err(failed)?.id;
    let mut key = None;
    for signed in &said.kem_keys {
        let known = signed.verify(channel.peer_key()).map_err(failed)?;
        if known.usable_at(now()) {
            key = Some(known);
            break;
        }
    }
    let key = key.ok_or_else(|| broken("a node", "it has no sealing key"))?;
    Ok((Way { peer, channel, token, key }, welcome.epoch))
}

/// What the probe answers to nodes: a token, for whoever asks for one.
struct Grants {
    identity: Arc<PostQuantumKeypair>,
    federation: FederationId,
    epoch: Epoch,
}

impl Grants {
    async fn serve(self, channel: EncryptedChannel) {
        while let Some(incoming) = channel.accept_request().await {
            let IncomingRequest { body, responder } = incoming;
            let response = match Request::from_wire(&body) {
                Ok(Request::Grant) => match self.token(channel.peer()) {
                    Ok(token) => Response::Token(Box::new(token)),
                    Err(_) => continue,
                },
                _ => Response::Done,
            };
            if let Ok(body) = response.to_wire() {
                // Whoever does not wait any more needs no answer.
                let _ = responder.respond(body).await;
            }
        }
    }

    fn token(&self, holder: PeerId) -> Result<Signed<FederationToken>, SignBodyError> {
        let (mut id, me) = ([0; TokenId::LEN], self.identity.peer_id());
        entropy(&mut id);
        let token = FederationToken {
            id: TokenId::new(id),
            federation: self.federation,
            issuer: me,
            holder,
            audience: me,
            capabilities: CapabilitySet::of_this_version().names(),
            epoch: self.epoch,
            issued: now(),
            expires: now().plus_millis(TOKEN_LIFE_MILLIS),
        };
        Signed::sign(token, &self.identity).map(Verified::into_signed)
    }
}

fn search(target: QueryTarget, top_k: usize) -> SearchFor {
    let top_k = u32::try_from(top_k).unwrap_or(u32::MAX);
    let filter = Filter::default();
    SearchFor { collection: None, target, filter, top_k, terms: None, vectors: true }
}

fn hits(legs: &[Leg]) -> usize {
    legs.iter().map(|leg| leg.hits.len()).sum()
}

/// Wall-clock time.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Randomness of the operating system, as a node takes it.
pub(super) fn entropy(bytes: &mut [u8]) {
    if rand::rngs::SysRng.try_fill_bytes(bytes).is_err() {
        // Before the kernel's generator is seeded there is nothing to measure.
        std::process::abort();
    }
}

const NAME: &str = "probe";
/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
