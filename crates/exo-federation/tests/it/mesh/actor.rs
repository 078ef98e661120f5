//! A member that serves as a test's script says: honestly where it says nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use exo_crypto::{Signed, content_hash};
use exo_federation::driver::net::{EncryptedChannel, IncomingRequest};
use exo_federation::{FederatedMesh, FederationToken};
use exo_node::wire::{Request, Response, Synced, Welcome};
use exo_types::limits::TOKEN_LIFE_MILLIS;
use exo_types::{
    Epoch, FederationId, Hit, Leg, LegKind, Metric, PeerId, RecordId, ScoreScale, TermStats,
    TokenId, Wire,
};

use super::nodes::{collection, federation};
use super::raw::{Raw, now};

/// What is said to a request.
#[derive(Clone)]
pub(super) enum Reply {
    /// What an honest member with no records says.
    Usual,
    /// This.
    Say(Response),
    /// These bytes.
    Bytes(Vec<u8>),
    /// These frames in one answer.
    Frames(Vec<Vec<u8>>),
    /// That, after a while.
    Late(Duration, Box<Reply>),
    /// Nothing, and the stream stays open.
    Silence,
    /// Nothing, and the stream is reset.
    GiveUp,
}

/// Decides what is said.
pub(super) type Script = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// A member that follows a script on every channel it accepts.
#[derive(Clone)]
pub(super) struct Actor {
    pub(super) raw: Arc<Raw>,
    pub(super) federation: FederationId,
    epoch: Epoch,
    script: Script,
}

impl Actor {
    /// Joins, and serves whoever dials from then on.
    pub(super) async fn join(
        founder: &FederatedMesh,
        name: &str,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let actor = Self::idle(Raw::stranger(), founder, name, script).await;
        let accepting = actor.clone();
        tokio::spawn(async move {
            while let Some(channel) = accepting.raw.endpoint.accept().await {
                accepting.serve(channel);
            }
        });
        actor
    }

    /// Joins, and serves only the channels it is given.
    pub(super) async fn idle(
        raw: Raw,
        founder: &FederatedMesh,
        name: &str,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        raw.join(founder, name).await;
        let view = federation(founder).await;
        Self {
            raw: Arc::new(raw),
            federation: view.id,
            epoch: view.epoch,
            script: Arc::new(script),
        }
    }

    pub(super) fn peer_id(&self) -> PeerId {
        self.raw.peer_id()
    }

    pub(super) fn serve(&self, channel: EncryptedChannel) {
        let actor = self.clone();
        tokio::spawn(async move {
            while let Some(incoming) = channel.accept_request().await {
                let request = Request::from_wire(&incoming.body).expect("nodes send good requests");
                let reply = (actor.script)(&request);
                tokio::spawn(actor.clone().reply(channel.peer(), request, reply, incoming));
            }
        });
    }

    async fn reply(self, to: PeerId, request: Request, reply: Reply, incoming: IncomingRequest) {
        let mut reply = reply;
        while let Reply::Late(wait, then) = reply {
            tokio::time::sleep(wait).await;
            reply = *then;
        }
        let mut responder = incoming.responder;
        let frames = match reply {
            Reply::Usual | Reply::Late(..) => vec![encoded(&self.usual(to, &request))],
            Reply::Say(response) => vec![encoded(&response)],
            Reply::Bytes(bytes) => vec![bytes],
            Reply::Frames(frames) => frames,
            Reply::Silence => return std::future::pending().await,
            Reply::GiveUp => return,
        };
        for frame in frames {
            // The asker may have given up, which is as well.
            let _ = responder.respond_more(frame).await;
        }
        let _ = responder.finish();
    }

    pub(super) fn usual(&self, to: PeerId, request: &Request) -> Response {
        match request {
            Request::Hello(_) => Response::Welcome(Box::new(Welcome {
                epoch: self.epoch,
                capabilities: self.raw.capabilities.clone(),
                descriptor: self.raw.descriptor(),
                token: self.token(to),
            })),
            Request::Grant => Response::Token(Box::new(self.token(to))),
            Request::Sync(_) => {
                Response::Synced(Box::new(Synced { roster: None, descriptors: Vec::new() }))
            }
            Request::Terms(_) => Response::Terms(TermStats::default()),
            Request::Search(_) => Response::Answer { legs: Vec::new() },
            _ => Response::Done,
        }
    }

    fn token(&self, holder: PeerId) -> Signed<FederationToken> {
        let token = FederationToken {
            id: TokenId::new([3; 16]),
            federation: self.federation,
            issuer: self.peer_id(),
            holder,
            audience: self.peer_id(),
            capabilities: self.raw.capabilities.names(),
            epoch: self.epoch,
            issued: now(),
            expires: now().plus_millis(TOKEN_LIFE_MILLIS),
        };
        Signed::sign(token, &self.raw.keypair).expect("signs").into_signed()
    }
}

/// A leg of vector hits of two dimensions with these scores.
pub(super) fn leg(scores: &[f32]) -> Leg {
    let scale =
        ScoreScale::Vector { metric: Metric::Cosine, dimensions: 2, embedder: String::new() };
    let hits = scores.iter().enumerate().map(|(i, score)| hit(&format!("lie:{i}"), *score));
    Leg { kind: LegKind::Vector, scale, hits: hits.collect() }
}

pub(super) fn hit(id: &str, score: f32) -> Hit {
    Hit {
        collection: collection("notes"),
        id: RecordId::new(id).expect("an id"),
        score,
        content: content_hash(id, ""),
        title: id.to_owned(),
        text: String::new(),
        metadata: BTreeMap::new(),
        vector: None,
    }
}

pub(super) fn answer(legs: Vec<Leg>) -> Reply {
    Reply::Say(Response::Answer { legs })
}

pub(super) fn encoded(response: &Response) -> Vec<u8> {
    response.to_wire().expect("encodes")
}
