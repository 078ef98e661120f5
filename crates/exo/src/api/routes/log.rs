//! The log as files, read only: c2sp.org/tlog-tiles under `/v1/log`.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::api::Api;
use crate::api::error::ApiError;
use crate::api::extract::One;

/// The last checkpoint that a quorum has cosigned, with its cosignatures.
pub(crate) async fn checkpoint(State(api): State<Api>) -> Result<Response, ApiError> {
    let note = api.mesh().log_checkpoint().await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], note).into_response())
}

/// A hash tile or an entry bundle. None ever changes: a wider one has another path.
pub(crate) async fn tile(
    State(api): State<Api>,
    One(path): One<String>,
) -> Result<Response, ApiError> {
    let bytes = api.mesh().log_tile(&format!("tile/{path}")).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "private, max-age=31536000, immutable"),
    ];
    Ok((headers, bytes).into_response())
}
