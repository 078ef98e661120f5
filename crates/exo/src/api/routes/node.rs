//! The node itself: its state, invites, joining.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use exo_federation::ErrorCode;
use exo_federation::view::InviteOptions;
use exo_types::limits::{INVITE_LIFE_MILLIS, INVITE_LIFE_MILLIS_MAX};
use zeroize::Zeroizing;

use super::shared;
use crate::api::Api;
use crate::api::dto::node::{
    InviteDoc, InviteRequest, InvitesDoc, JoinDoc, JoinRequest, NewInviteDoc, SharedStatusDoc,
    StatusDoc,
};
use crate::api::error::ApiError;
use crate::api::extract::{Doc, Json, One};

/// The node's state.
pub(crate) async fn status(State(api): State<Api>) -> Result<Doc<StatusDoc>, ApiError> {
    let status = api.mesh().status().await?;
    let (collections, lag) = (shared::all(&api).await?, shared::lags(&api).await?);
    let shared = SharedStatusDoc { collections, lag };
    let decisions = api.mesh().decisions_status();
    Ok(Doc::new("exo.status/1", StatusDoc::new(status, decisions, shared, api.0.listen)))
}

/// Open invites.
pub(crate) async fn invites(State(api): State<Api>) -> Doc<InvitesDoc> {
    let invites = api.mesh().invites().into_iter().map(InviteDoc::from).collect();
    Doc::new("exo.invites/1", InvitesDoc { invites })
}

/// A new invite; founds a federation if the node has none.
pub(crate) async fn invite(
    State(api): State<Api>,
    Json(request): Json<InviteRequest>,
) -> Result<(StatusCode, Doc<NewInviteDoc>), ApiError> {
    let millis = request.expires_ms.unwrap_or(INVITE_LIFE_MILLIS);
    if !(1..=INVITE_LIFE_MILLIS_MAX).contains(&millis) {
        let days = INVITE_LIFE_MILLIS_MAX / 86_400_000;
        return Err(ApiError::new(
            ErrorCode::InvalidArgument,
            format!("an invite lives for more than nothing and at most {days} days"),
        ));
    }
    let options =
        InviteOptions { life: Duration::from_millis(millis), auto_approve: request.auto_approve };
    let invite = api.mesh().invite_new(options)?;
    Ok((StatusCode::CREATED, Doc::new("exo.invite/1", NewInviteDoc::from(invite))))
}

/// Revokes an invite.
pub(crate) async fn invite_revoke(
    State(api): State<Api>,
    One(id): One<String>,
) -> Result<StatusCode, ApiError> {
    api.mesh().invite_revoke(&id)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Starts joining with a ticket.
pub(crate) async fn join(
    State(api): State<Api>,
    Json(request): Json<JoinRequest>,
) -> Result<(StatusCode, Doc<JoinDoc>), ApiError> {
    let ticket = Zeroizing::new(request.ticket);
    api.mesh().join(ticket.trim())?;
    Ok((StatusCode::ACCEPTED, joined(&api)))
}

/// How joining stands.
pub(crate) async fn join_status(State(api): State<Api>) -> Doc<JoinDoc> {
    joined(&api)
}

fn joined(api: &Api) -> Doc<JoinDoc> {
    Doc::new("exo.join/1", JoinDoc::from(api.mesh().join_status()))
}
