//! Peers: listed, approved, removed.

use axum::extract::State;
use exo_federation::ErrorCode;
use exo_types::PeerId;
use exo_types::limits::REASON_BYTES_MAX;

use crate::api::Api;
use crate::api::dto::peer::{ApproveRequest, PeerDoc, PeersDoc, PingDoc, RevokeRequest};
use crate::api::error::ApiError;
use crate::api::extract::{Doc, Json, One};
use crate::span::millis;

/// Every peer.
pub(crate) async fn list(State(api): State<Api>) -> Doc<PeersDoc> {
    let peers = api.mesh().peers().into_iter().map(PeerDoc::from).collect();
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

/// Admits the joiner with these words.
pub(crate) async fn approve(
    State(api): State<Api>,
    Json(request): Json<ApproveRequest>,
) -> Result<Doc<PeerDoc>, ApiError> {
    Ok(doc(PeerDoc::from(api.mesh().approve(&request.words)?)))
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

/// Removes a member.
pub(crate) async fn revoke(
    State(api): State<Api>,
    One(peer): One<String>,
    Json(request): Json<RevokeRequest>,
) -> Result<Doc<PeerDoc>, ApiError> {
    if request.reason.len() > REASON_BYTES_MAX {
        return Err(ApiError::new(
            ErrorCode::InvalidArgument,
            format!("a reason has at most {REASON_BYTES_MAX} bytes"),
        ));
    }
    let peer = api.mesh().resolve_peer(&peer)?;
    api.mesh().revoke(&peer, &request.reason)?;
    find(&api, &peer).map(doc)
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

fn doc(peer: PeerDoc) -> Doc<PeerDoc> {
    Doc::new("exo.peer/1", peer)
}

fn find(api: &Api, peer: &PeerId) -> Result<PeerDoc, ApiError> {
    let found = api.mesh().peers().into_iter().find(|view| view.peer == *peer);
    found.map(PeerDoc::from).ok_or_else(|| {
        ApiError::new(ErrorCode::PeerNotFound, format!("{} is no peer", peer.short()))
    })
}
