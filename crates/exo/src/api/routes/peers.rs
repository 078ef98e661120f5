//! Peers: listed, approved, removed.

use std::collections::BTreeMap;

use axum::extract::State;
use exo_federation::{ErrorCode, Joiner, PeerView, Proposal};
use exo_types::PeerId;

use super::decisions::{self, PROPOSE_WITHIN};
use crate::api::Api;
use crate::api::dto::decision::CommitDoc;
use crate::api::dto::peer::{ApproveRequest, PeerDoc, PeersDoc, PingDoc, RevokeRequest};
use crate::api::error::ApiError;
use crate::api::extract::{Doc, Json, One};
use crate::span::millis;

/// Every peer.
pub(crate) async fn list(State(api): State<Api>) -> Doc<PeersDoc> {
    let decided = Decided::at(&api);
    let peers = api.mesh().peers().into_iter().map(|view| decided.shown(view)).collect();
    Doc::new("exo.peers/1", PeersDoc { peers })
}

/// One peer, by id, beginning of its id, or name.
pub(crate) async fn show(
    State(api): State<Api>,
    One(peer): One<String>,
) -> Result<Doc<PeerDoc>, ApiError> {
    let peer = api.mesh().resolve_peer(&peer)?;
    find(&api, &peer).map(doc)
}

/// Admits the joiner with these words. Where the members decide, that is proposed, and the answer
/// says what came of it.
pub(crate) async fn approve(
    State(api): State<Api>,
    Json(request): Json<ApproveRequest>,
) -> Result<Doc<PeerDoc>, ApiError> {
    if api.mesh().decisions_status().is_none() {
        return api
            .mesh()
            .approve(&request.words)
            .map(|joiner| doc(PeerDoc::from(joiner)))
            .map_err(Into::into);
    }
    let joiner = api.mesh().joiner(&request.words)?;
    let proposal = Proposal::Admit(Joiner::Words(request.words));
    let decision = decisions::commit(&api, proposal, PROPOSE_WITHIN).await?;
    decided(&api, &joiner, decision)
}

/// Turns a joiner away.
pub(crate) async fn reject(
    State(api): State<Api>,
    One(peer): One<String>,
) -> Result<Doc<PeerDoc>, ApiError> {
    let peer = api.mesh().resolve_peer(&peer)?;
    // Looked up first: afterwards it is gone.
    let shown = find(&api, &peer)?;
    api.mesh().reject(&peer)?;
    Ok(doc(shown))
}

/// Removes a member. Where the members decide, that is proposed, and the answer says what came of it.
pub(crate) async fn revoke(
    State(api): State<Api>,
    One(peer): One<String>,
    Json(request): Json<RevokeRequest>,
) -> Result<Doc<PeerDoc>, ApiError> {
    let peer = api.mesh().resolve_peer(&peer)?;
    let proposal = decisions::revoke(peer, request.reason.clone())?;
    if api.mesh().decisions_status().is_none() {
        api.mesh().revoke(&peer, &request.reason)?;
        return find(&api, &peer).map(doc);
    }
    let decision = decisions::commit(&api, proposal, PROPOSE_WITHIN).await?;
    decided(&api, &peer, decision)
}

/// Measures a round trip.
pub(crate) async fn ping(
    State(api): State<Api>,
    One(peer): One<String>,
) -> Result<Doc<PingDoc>, ApiError> {
    let peer = api.mesh().resolve_peer(&peer)?;
    let elapsed = api.mesh().ping(&peer).await?;
    Ok(Doc::new("exo.ping/1", PingDoc { peer, elapsed_ms: millis(elapsed) }))
}

/// A peer after a decision about it.
fn decided(api: &Api, peer: &PeerId, decision: CommitDoc) -> Result<Doc<PeerDoc>, ApiError> {
    let mut shown = find(api, peer)?;
    shown.decision = Some(decision);
    Ok(doc(shown))
}

/// What the decisions say of peers.
struct Decided {
    voters: Vec<PeerId>,
    removals: BTreeMap<PeerId, u64>,
}

impl Decided {
    fn at(api: &Api) -> Self {
        let status = api.mesh().decisions_status();
        let voters = status.map(|status| status.voters.iter().map(|voter| voter.peer).collect());
        Self { voters: voters.unwrap_or_default(), removals: api.mesh().removals() }
    }

    fn shown(&self, view: PeerView) -> PeerDoc {
        let votes = self.voters.contains(&view.peer);
        let removed_by = self.removals.get(&view.peer).copied();
        PeerDoc { votes, removed_by, ..PeerDoc::from(view) }
    }
}

fn doc(peer: PeerDoc) -> Doc<PeerDoc> {
    Doc::new("exo.peer/1", peer)
}

fn find(api: &Api, peer: &PeerId) -> Result<PeerDoc, ApiError> {
    let found = api.mesh().peers().into_iter().find(|view| view.peer == *peer);
    found.map(|view| Decided::at(api).shown(view)).ok_or_else(|| {
        ApiError::new(ErrorCode::PeerNotFound, format!("{} is no peer", peer.short()))
    })
}
