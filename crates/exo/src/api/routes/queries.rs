//! Queries: one answer, or events as sources answer.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use exo_federation::ErrorCode;
use exo_federation::view::QueryEvent;
use exo_types::{FederatedResult, QuerySpec};
use serde::Serialize;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::Api;
use crate::api::dto::query::{QueryDoc, QueryRequest, SourceDoc};
use crate::api::error::ApiError;
use crate::api::extract::{Json, accepts};

/// Asks the federation. With `Accept: text/event-stream` there is an event `source` for each
/// source as it finishes, then one `done` with the whole answer.
pub(crate) async fn query(
    State(api): State<Api>,
    headers: HeaderMap,
    Json(request): Json<QueryRequest>,
) -> Result<Response, ApiError> {
    let spec = spec(&api, request).await?;
    let min_sources = spec.min_sources;
    if !accepts(&headers, "text/event-stream") {
        let result = api.mesh().federated_query(spec).await?;
        return Ok(axum::Json(Answer::new(result, min_sources)).into_response());
    }
    let events = api.mesh().federated_query_events(spec)?;
    let events = ReceiverStream::new(events);
    let events = events.map(move |event| Ok::<_, Infallible>(sse(event, min_sources)));
    Ok(Sse::new(events).into_response())
}

/// The query a request states, within every bound.
async fn spec(api: &Api, mut request: QueryRequest) -> Result<QuerySpec, ApiError> {
    let invalid = |reason: String| ApiError::new(ErrorCode::InvalidQuery, reason);
    let like = match request.like.take() {
        Some(_) if !request.vector.is_empty() => {
            return Err(invalid("a query has a vector or a record it is like, not both".into()));
        }
        Some(like) => Some(api.mesh().like(&like.id, like.collection.as_ref()).await?),
        None => None,
    };
    let spec = request.spec(like).map_err(invalid)?;
    spec.check().map_err(|error| invalid(error.to_string()))?;
    // A condition that can hold nowhere is the asker's mistake, not every source's.
    exo_substrate::filter::check(&spec.filter).map_err(|error| invalid(error.to_string()))?;
    Ok(spec)
}

fn sse(event: QueryEvent, min_sources: usize) -> Event {
    match event {
        QueryEvent::Source(report) => data("source", &SourceDoc::from(report)),
        QueryEvent::Done(result) => data("done", &Answer::new(result, min_sources)),
    }
}

/// The answer, and whether as many sources as the asker wanted are in it.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    answer: QueryDoc,
    min_sources_met: bool,
}

impl Answer {
    fn new(result: FederatedResult, min_sources: usize) -> Self {
        let min_sources_met = result.answered() >= min_sources;
        Self { answer: QueryDoc::new(0, result), min_sources_met }
    }
}

fn data<T: Serialize>(name: &str, value: &T) -> Event {
    // Shapes of plain values always serialise; JSON on one line is one line of data.
    Event::default().event(name).data(serde_json::to_string(value).unwrap_or_default())
}
