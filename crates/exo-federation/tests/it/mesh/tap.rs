//! A member that takes its part in onion packets as the protocol says and writes down how long each
//! frame is that passes it. It keeps nothing back and knows no more than any relay does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exo_crypto::{KemKeyring, Signed, Verified};
use exo_federation::driver::net::{EncryptedChannel, IncomingRequest};
use exo_federation::{AnswerSet, CapabilitySet, FederatedMesh};
use exo_node::policy::OnionPolicy;
use exo_node::question::{Question, Reply as Answer};
use exo_node::wire::{OnionRequest, Request, Response};
use exo_onion::{
    Delivery, Dropped, Forward, OnionMessage, Peeled, Relay, ReplayCache, ReplyFailure, peel_layer,
};
use exo_types::{PeerId, TermStats, TokenId, Wire};

use super::actor::{Actor, Reply, encoded};
use super::nodes::PATIENCE;
use super::raw::{Raw, now, try_ask};

/// A frame that passed, by the length of its body, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Passed {
    /// A packet came.
    PacketIn(usize),
    /// A packet was sent on.
    PacketOut(usize),
    /// A reply came back.
    ReplyIn(usize),
    /// A reply was sent back.
    ReplyOut(usize),
}

/// A channel, and the token that its other side granted for it.
type Way = (EncryptedChannel, Option<TokenId>);

/// A member with sealing keys of its own.
#[derive(Clone)]
pub(super) struct Tap {
    pub(super) actor: Actor,
    keyring: Arc<KemKeyring>,
    replays: Arc<Mutex<ReplayCache>>,
    /// The way to each member that has dialled.
    ways: Arc<Mutex<BTreeMap<PeerId, Way>>>,
    passed: Arc<Mutex<Vec<Passed>>>,
}

impl Tap {
    /// Joins as a member that relays, and serves whoever dials.
    pub(super) async fn join(founder: &FederatedMesh, name: &str) -> Self {
        let keyring = KemKeyring::generate(now()).expect("makes keys");
        let mut raw = Raw::stranger();
        raw.capabilities = CapabilitySet::of_this_version().with_onion(&OnionPolicy::default());
        let keys = keyring.announce(&raw.keypair).expect("signs");
        raw.kem_keys = keys.into_iter().map(Verified::into_signed).collect();
        let tap = Self {
            actor: Actor::idle(raw, founder, name, |_| Reply::Usual).await,
            keyring: Arc::new(keyring),
            replays: Arc::new(Mutex::new(ReplayCache::new())),
            ways: Arc::default(),
            passed: Arc::default(),
        };
        let accepting = tap.clone();
        tokio::spawn(async move {
            while let Some(channel) = accepting.actor.raw.endpoint.accept().await {
                tokio::spawn(accepting.clone().serve(channel));
            }
        });
        tap
    }

    pub(super) fn peer_id(&self) -> PeerId {
        self.actor.peer_id()
    }

    /// What has passed since this was last asked.
    pub(super) fn take_passed(&self) -> Vec<Passed> {
        std::mem::take(&mut *lock(&self.passed))
    }

    async fn serve(self, channel: EncryptedChannel) {
        lock(&self.ways).insert(channel.peer(), (channel.clone(), None));
        while let Some(incoming) = channel.accept_request().await {
            match Request::from_wire(&incoming.body).expect("nodes send good requests") {
                Request::Onion(request) => {
                    let from = channel.peer();
                    tokio::spawn(self.clone().packet(from, incoming, request.packet));
                }
                request => {
                    let usual = encoded(&self.actor.usual(channel.peer(), &request));
                    // The asker may have given up, which is as well.
                    let _ = incoming.respond(usual).await;
                }
            }
        }
    }

    async fn packet(self, from: PeerId, incoming: IncomingRequest, packet: Vec<u8>) {
        self.saw(Passed::PacketIn(incoming.body.len()));
        let chunks = match self.peel(from, packet) {
            Ok(Peeled::Forward(forward)) => self.forward(forward).await,
            Ok(Peeled::Deliver(delivery)) => self.answer(delivery),
            Ok(Peeled::Cover(cover)) => cover.reply.answer(&[]).expect("has room").concat(),
            // Dropped with its responder, the stream ends without a word.
            Err(_) => return,
        };
        let body = encoded(&Response::Onion(chunks));
        self.saw(Passed::ReplyOut(body.len()));
        let _ = incoming.respond(body).await;
    }

    fn peel(&self, from: PeerId, packet: Vec<u8>) -> Result<Peeled, Dropped> {
        let message = OnionMessage::from_bytes(packet)?;
        let relay =
            Relay { me: self.peer_id(), from, keyring: &self.keyring, forwards_to: &|_| true };
        peel_layer(message, &relay, &mut lock(&self.replays), now())
    }

    async fn forward(&self, forward: Forward) -> Vec<u8> {
        let Forward { next, message, mut reply, delay } = forward;
        tokio::time::sleep(delay).await;
        let size = reply.class().chunk_bytes();
        match self.send(next, message.into_bytes()).await {
            Some(mut chunks) if chunks.len() == reply.class().reply_bytes() => {
                for chunk in chunks.chunks_mut(size) {
                    reply.layer(chunk).expect("is a chunk of the reply");
                }
                chunks
            }
            _ => reply.fail(ReplyFailure::Unreachable).concat(),
        }
    }

    async fn send(&self, next: PeerId, packet: Vec<u8>) -> Option<Vec<u8>> {
        let (channel, token) = lock(&self.ways).get(&next).cloned()?;
        let token = match token {
            Some(token) => token,
            None => {
                let Response::Token(token) = try_ask(&channel, &Request::Grant).await.ok()? else {
                    return None;
                };
                let id = token.claimed().expect("decodes").id;
                lock(&self.ways).insert(next, (channel.clone(), Some(id)));
                id
            }
        };
        let request = Request::Onion(OnionRequest { token, packet });
        let body = request.to_wire().expect("encodes");
        let bytes = body.len();
        let answer = channel.request(body, PATIENCE).await.ok()?;
        self.saw(Passed::PacketOut(bytes));
        self.saw(Passed::ReplyIn(answer.len()));
        match Response::from_wire(&answer).expect("an answer decodes") {
            Response::Onion(chunks) => Some(chunks),
            _ => None,
        }
    }

    /// It holds nothing, and says so with its signature.
    fn answer(&self, delivery: Delivery) -> Vec<u8> {
        let Delivery { content, reply, .. } = delivery;
        let said = match Question::from_wire(&content) {
            Ok(Question::Terms(_)) => Answer::Terms(TermStats::default()),
            Ok(Question::Search(_)) => {
                let question = Question::hash(&content);
                let peer = self.peer_id();
                let set = AnswerSet { peer, question, at: now(), trimmed: false, legs: Vec::new() };
                let signed = Signed::sign(set, &self.actor.raw.keypair).expect("signs");
                Answer::Answer(Box::new(signed.into_signed()))
            }
            Err(_) => return reply.failure(ReplyFailure::Malformed).concat(),
        };
        reply.answer(&said.to_wire().expect("encodes")).expect("has room").concat()
    }

    fn saw(&self, frame: Passed) {
        lock(&self.passed).push(frame);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
