//! Whether the node lives and is ready, and its metrics.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::api::Api;

/// The process answers.
pub(crate) async fn live() -> Json<serde_json::Value> {
    Json(json!({"live": true}))
}

/// The node takes work: it is not stopping and its data can be read.
pub(crate) async fn ready(State(api): State<Api>) -> Response {
    let ready = !api.stopping() && api.mesh().status().await.is_ok();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": ready}))).into_response()
}

/// Every counter and histogram, as Prometheus reads them.
pub(crate) async fn metrics(State(api): State<Api>) -> Response {
    let text = api.0.metrics.as_ref().map(|metrics| {
        metrics.run_upkeep();
        metrics.render()
    });
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, text.unwrap_or_default()).into_response()
}
