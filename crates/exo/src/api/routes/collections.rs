//! Collections and their policies.

use axum::extract::State;
use axum::http::StatusCode;
use exo_federation::ErrorCode;
use exo_types::{CodecError, CollectionName};

use crate::api::Api;
use crate::api::dto::collection::{CollectionDoc, CollectionRequest, CollectionsDoc, PolicyDoc};
use crate::api::error::ApiError;
use crate::api::extract::{Doc, Json, One};

/// Every collection.
pub(crate) async fn list(State(api): State<Api>) -> Result<Doc<CollectionsDoc>, ApiError> {
    let collections = api.mesh().collections().await?;
    let collections = collections.into_iter().map(CollectionDoc::from).collect();
    Ok(Doc::new("exo.collections/1", CollectionsDoc { collections }))
}

/// Makes a collection.
pub(crate) async fn add(
    State(api): State<Api>,
    Json(request): Json<CollectionRequest>,
) -> Result<(StatusCode, Doc<CollectionDoc>), ApiError> {
    let (spec, policy) = (request.spec(), request.policy.to_policy());
    spec.check().map_err(|error| invalid(&error))?;
    policy.check().map_err(|error| invalid(&error))?;
    let view = api.mesh().collection_add(spec, policy).await?;
    Ok((StatusCode::CREATED, doc(CollectionDoc::from(view))))
}

/// One collection.
pub(crate) async fn show(
    State(api): State<Api>,
    One(name): One<CollectionName>,
) -> Result<Doc<CollectionDoc>, ApiError> {
    Ok(doc(CollectionDoc::from(api.mesh().collection(&name).await?)))
}

/// Changes who may read a collection.
pub(crate) async fn policy(
    State(api): State<Api>,
    One(name): One<CollectionName>,
    Json(request): Json<PolicyDoc>,
) -> Result<Doc<CollectionDoc>, ApiError> {
    let policy = request.to_policy();
    policy.check().map_err(|error| invalid(&error))?;
    Ok(doc(CollectionDoc::from(api.mesh().collection_policy(&name, policy).await?)))
}

/// Drops a collection.
pub(crate) async fn remove(
    State(api): State<Api>,
    One(name): One<CollectionName>,
) -> Result<StatusCode, ApiError> {
    api.mesh().collection_drop(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn doc(collection: CollectionDoc) -> Doc<CollectionDoc> {
    Doc::new("exo.collection/1", collection)
}

fn invalid(error: &CodecError) -> ApiError {
    ApiError::new(ErrorCode::InvalidArgument, error.to_string())
}
