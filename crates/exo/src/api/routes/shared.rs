//! Shared collections: read, written, watched, declared.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use exo_federation::{
    ErrorCode, PeerState, Proposal, SharedAccess, SharedEvent, SharedValue, SharedWatch,
};
use exo_types::limits::{ENTRY_VALUE_BYTES_MAX, SHARED_PAGE_KEYS_MAX};
use exo_types::{CollectionName, NodeName, PeerId, RecordId};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::decisions::{commit, deadline, member};
use crate::api::Api;
use crate::api::dto::Document;
use crate::api::dto::decision::CommitDoc;
use crate::api::dto::shared::{
    DeclareRequest, ErasedDoc, RemovedDoc, SharedCollectionDoc, SharedCollectionsDoc, SharedDoc,
    SharedEntriesDoc, SharedLagDoc, SharedLagsDoc,
};
use crate::api::error::ApiError;
use crate::api::extract::{Asked, Doc, Json, One, Two, ValueBody, accepts};

/// Which keys are listed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KeysQuery {
    /// Those that begin so.
    prefix: String,
    /// Those after this one.
    after: Option<RecordId>,
    /// Keys at most.
    limit: Option<usize>,
}

/// Every shared collection of which this node may know.
pub(crate) async fn list(State(api): State<Api>) -> Result<Doc<SharedCollectionsDoc>, ApiError> {
    Ok(Doc::new("exo.shared-collections/1", SharedCollectionsDoc { collections: all(&api).await? }))
}

/// The shapes of all collections.
pub(crate) async fn all(api: &Api) -> Result<Vec<SharedCollectionDoc>, ApiError> {
    let views = api.mesh().shared_collections().await?;
    let names = if views.is_empty() { BTreeMap::new() } else { names(api) };
    Ok(views.into_iter().map(|view| SharedCollectionDoc::new(view, &names)).collect())
}

/// Declares a collection, or gives the rights to others: a decision, answered once it is certified.
pub(crate) async fn declare(
    State(api): State<Api>,
    Json(request): Json<DeclareRequest>,
) -> Result<Doc<CommitDoc>, ApiError> {
    let deadline = deadline(request.deadline_ms)?;
    let access = |names: Option<Vec<String>>| match names {
        None => Ok(SharedAccess::All),
        Some(names) => {
            let peers: Result<Vec<_>, _> = names.iter().map(|name| member(&api, name)).collect();
            peers.map(SharedAccess::only)
        }
    };
    let readers = access(request.readers)?;
    let writers = match request.writers {
        // Who gets nothing cannot write.
        None => readers.clone(),
        Some(writers) => access(Some(writers))?,
    };
    let kind = request.kind.into();
    let proposal = Proposal::Share { name: request.name, kind, readers, writers };
    Ok(Doc::new("exo.commit/1", commit(&api, proposal, deadline).await?))
}

/// A page of a collection's keys with what stands there. It ends early where the values are long.
pub(crate) async fn keys(
    State(api): State<Api>,
    One(name): One<CollectionName>,
    Asked(asked): Asked<KeysQuery>,
) -> Result<Doc<SharedEntriesDoc>, ApiError> {
    let limit = asked.limit.unwrap_or(PAGE);
    if !(1..=SHARED_PAGE_KEYS_MAX).contains(&limit) {
        let reason = format!("a page has 1 to {SHARED_PAGE_KEYS_MAX} keys");
        return Err(ApiError::new(ErrorCode::InvalidArgument, reason));
    }
    let after = asked.after.as_ref();
    let page = api.mesh().shared_list(&name, &asked.prefix, after, limit).await?;
    let (mut room, mut next) = (PAGE_VALUES_BYTES, page.next);
    let mut entries: Vec<SharedDoc> = Vec::with_capacity(page.entries.len());
    for entry in page.entries {
        let bytes = entry.value.value.as_ref().map_or(0, Vec::len);
        if bytes > room && !entries.is_empty() {
            next = entries.last().map(|last| last.key.clone());
            break;
        }
        room = room.saturating_sub(bytes);
        entries.push(SharedDoc::of(&name, entry));
    }
    Ok(Doc::new("exo.shared-entries/1", SharedEntriesDoc { entries, next }))
}

/// What stands at a key: a document, or the bytes themselves with `Accept: application/octet-stream`.
pub(crate) async fn get(
    State(api): State<Api>,
    Two(name, key): Two<CollectionName, RecordId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let value = found(&api, &name, &key).await?;
    if !accepts(&headers, BYTES) {
        let doc = SharedDoc::new(name, key, Some(value));
        return Ok(Doc::new("exo.shared/1", doc).into_response());
    }
    let Some(bytes) = value.value else {
        let reason = format!("the value at {key} was erased, or has not come yet");
        return Err(ApiError::new(ErrorCode::SharedKeyNotFound, reason));
    };
    Ok(([(header::CONTENT_TYPE, BYTES)], bytes).into_response())
}

/// Writes a value; answers with what stands at the key, once it is on the disk.
pub(crate) async fn put(
    State(api): State<Api>,
    Two(name, key): Two<CollectionName, RecordId>,
    ValueBody(value): ValueBody,
) -> Result<Doc<SharedDoc>, ApiError> {
    if value.len() > ENTRY_VALUE_BYTES_MAX {
        let reason = format!("a value has at most {ENTRY_VALUE_BYTES_MAX} bytes");
        return Err(ApiError::new(ErrorCode::ValueTooLong, reason));
    }
    api.mesh().shared_put(&name, &key, value).await?;
    // Another member's may stand there all the same: in a collection that only grows, the first's does.
    let value = found(&api, &name, &key).await?;
    Ok(Doc::new("exo.shared/1", SharedDoc::new(name, key, Some(value))))
}

/// Removes what stands at a key.
pub(crate) async fn remove(
    State(api): State<Api>,
    Two(collection, key): Two<CollectionName, RecordId>,
) -> Result<Doc<RemovedDoc>, ApiError> {
    let removed = api.mesh().shared_remove(&collection, &key).await?;
    Ok(Doc::new("exo.shared-removed/1", RemovedDoc { collection, key, removed }))
}

/// Destroys the values that were ever written at a key.
pub(crate) async fn erase(
    State(api): State<Api>,
    Two(collection, key): Two<CollectionName, RecordId>,
) -> Result<Doc<ErasedDoc>, ApiError> {
    let erased = api.mesh().shared_erase(&collection, &key).await?;
    Ok(Doc::new("exo.shared-erased/1", ErasedDoc { collection, key, erased }))
}

/// Where the other readers are.
pub(crate) async fn lag(State(api): State<Api>) -> Result<Doc<SharedLagsDoc>, ApiError> {
    Ok(Doc::new("exo.shared-lag/1", SharedLagsDoc { lag: lags(&api).await? }))
}

/// The shapes of where the other readers are.
pub(crate) async fn lags(api: &Api) -> Result<Vec<SharedLagDoc>, ApiError> {
    let lag = api.mesh().shared_lag().await?;
    Ok(lag.into_iter().map(SharedLagDoc::from).collect())
}

/// Events: `change` for each key that was written to, here or elsewhere; `missed` when more has
/// changed than is named and the collection has to be read anew.
pub(crate) async fn events(
    State(api): State<Api>,
    One(name): One<CollectionName>,
) -> Result<Response, ApiError> {
    let (to, events) = mpsc::channel::<Result<Event, Infallible>>(EVENTS_WAITING_MAX);
    let watch = api.mesh().shared_watch(&name)?;
    tokio::spawn(tell(api, name, watch, to));
    let events = Sse::new(ReceiverStream::new(events)).keep_alive(KeepAlive::default());
    Ok(events.into_response())
}

/// Tells a reader of changes until it goes, or the node stops.
async fn tell(
    api: Api,
    name: CollectionName,
    mut watch: SharedWatch,
    to: mpsc::Sender<Result<Event, Infallible>>,
) {
    let mut stop = api.stopped();
    loop {
        let changed = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = to.closed() => return,
            changed = watch.next() => changed,
        };
        let events = match changed {
            Some(SharedEvent::Changed(keys)) => {
                let event = |(key, value)| change(name.clone(), key, value);
                keys.into_iter().map(event).collect()
            }
            Some(SharedEvent::Missed) => vec![Event::default().event("missed").data("{}")],
            None => return,
        };
        for event in events {
            if to.send(Ok(event)).await.is_err() {
                return;
            }
        }
    }
}

fn change(name: CollectionName, key: RecordId, value: Option<SharedValue>) -> Event {
    let doc = Document::new("exo.shared/1", SharedDoc::new(name, key, value));
    // A shape of plain values always serialises; JSON on one line is one line of data.
    Event::default().event("change").data(serde_json::to_string(&doc).unwrap_or_default())
}

async fn found(api: &Api, name: &CollectionName, key: &RecordId) -> Result<SharedValue, ApiError> {
    api.mesh().shared_get(name, key).await?.ok_or_else(|| {
        let reason = format!("nothing stands at {key} in {name}");
        ApiError::new(ErrorCode::SharedKeyNotFound, reason)
    })
}

/// What members are called now.
fn names(api: &Api) -> BTreeMap<PeerId, NodeName> {
    let peers = api.mesh().peers().into_iter();
    let members = peers.filter(|peer| peer.state != PeerState::Revoked);
    let own = (api.mesh().peer_id(), api.mesh().name().clone());
    members.map(|peer| (peer.peer, peer.name)).chain([own]).collect()
}

/// Keys of a page whose length is not given.
const PAGE: usize = 100;
/// Values of one page, bytes.
const PAGE_VALUES_BYTES: usize = 4 * 1024 * 1024;
/// Events that wait for one reader.
const EVENTS_WAITING_MAX: usize = 64;
/// The kind of a value's bytes.
const BYTES: &str = "application/octet-stream";
