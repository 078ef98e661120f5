//! Peers: listed, approved, removed.

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
    let voters = voters(&api);
    let peers = api.mesh().peers().into_iter().map(|view| shown(view, &voters)).collect();
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
    let joiner = api.mesh().approve(&request.words)?;
    if api.mesh().decisions_status().is_none() {
        return Ok(doc(PeerDoc::from(joiner)));
    }
    let proposal = Proposal::Admit(Joiner::Words(request.words));
    let decision = decisions::commit(&api, proposal, PROPOSE_WITHIN).await?;
    decided(&api, &joiner.peer, decision)
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

/// Who has a vote.
fn voters(api: &Api) -> Vec<PeerId> {
    let status = api.mesh().decisions_status();
    status.map_or_else(Vec::new, |status| status.voters.iter().map(|voter| voter.peer).collect())
}

fn shown(view: PeerView, voters: &[PeerId]) -> PeerDoc {
    let votes = voters.contains(&view.peer);
    PeerDoc { votes, ..PeerDoc::from(view) }
}

fn doc(peer: PeerDoc) -> Doc<PeerDoc> {
    Doc::new("exo.peer/1", peer)
}

fn find(api: &Api, peer: &PeerId) -> Result<PeerDoc, ApiError> {
    let found = api.mesh().peers().into_iter().find(|view| view.peer == *peer);
    found.map(|view| shown(view, &voters(api))).ok_or_else(|| {
        ApiError::new(ErrorCode::PeerNotFound, format!("{} is no peer", peer.short()))
    })
}
