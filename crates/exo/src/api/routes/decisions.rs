//! Decisions: proposed, listed, watched, proved.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use exo_federation::{
    DecisionEvent, DecisionView, ErrorCode, Joiner, Proposal, Rules, StateUpdate,
};
use exo_types::Epoch;
use exo_types::limits::{
    API_PROPOSALS_MAX, DEADLINE_MILLIS_MAX, DECISIONS_PER_PAGE_MAX, REASON_BYTES_MAX, VOTERS_MAX,
};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::Api;
use crate::api::dto::Document;
use crate::api::dto::decision::{CommitDoc, CommitsDoc, ProposeRequest};
use crate::api::error::ApiError;
use crate::api::extract::{Asked, Doc, One, ProposalJson};
use crate::span::millis;

/// Which decisions are listed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PageQuery {
    /// The first entry looked at; the log's first, or its last with `newest`.
    from: Option<u64>,
    /// Decisions at most.
    limit: Option<usize>,
    /// From the newest to the oldest.
    newest: bool,
}

/// Which policy is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PolicyQuery {
    /// The epoch of voters; the one in force unless given.
    epoch: Option<u64>,
}

/// A page of the log's decisions.
pub(crate) async fn list(
    State(api): State<Api>,
    Asked(page): Asked<PageQuery>,
) -> Result<Doc<CommitsDoc>, ApiError> {
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=DECISIONS_PER_PAGE_MAX).contains(&limit) {
        return Err(invalid(format!("a page has 1 to {DECISIONS_PER_PAGE_MAX} decisions")));
    }
    let from = page.from.unwrap_or(if page.newest { u64::MAX } else { 0 });
    let page = api.mesh().decisions(from, limit, page.newest).await?;
    Ok(Doc::new("exo.commits/1", CommitsDoc::new(page)))
}

/// One decision with its entry.
pub(crate) async fn show(
    State(api): State<Api>,
    One(index): One<u64>,
) -> Result<Doc<CommitDoc>, ApiError> {
    let view = api.mesh().decision(index).await?;
    Ok(Doc::new("exo.commit/1", CommitDoc::with_entry(view)))
}

/// The proof of one decision, a `.tlog-proof` file that carries the entry.
pub(crate) async fn proof(
    State(api): State<Api>,
    One(index): One<u64>,
) -> Result<Response, ApiError> {
    let proof = api.mesh().decision_proof(index).await?;
    Ok(text(proof.to_bytes()))
}

/// The policy against which proofs of an epoch are checked, as text.
pub(crate) async fn policy(
    State(api): State<Api>,
    Asked(asked): Asked<PolicyQuery>,
) -> Result<Response, ApiError> {
    let policy = api.mesh().decision_policy(asked.epoch.map(Epoch)).await?;
    Ok(text(policy.to_bytes()))
}

/// Proposes, and answers once a quorum has cosigned the log that holds the decision.
pub(crate) async fn propose(
    State(api): State<Api>,
    ProposalJson(mut request): ProposalJson<ProposeRequest>,
) -> Result<Response, ApiError> {
    let deadline = deadline(request.deadline_ms)?;
    if let Some(statements) = request.statements.take() {
        let (brief, deadline_ms) = (request.brief, request.deadline_ms);
        if request != (ProposeRequest { brief, deadline_ms, ..ProposeRequest::default() }) {
            return Err(invalid("statements are proposed with nothing else beside them".into()));
        }
        let mut commits = many(&api, &statements, deadline).await?;
        if brief {
            commits.commits.clear();
        }
        return Ok(Doc::new("exo.commits/1", commits).into_response());
    }
    let proposal = proposal(&api, request)?;
    let commit = commit(&api, proposal, deadline).await?;
    Ok(Doc::new("exo.commit/1", commit).into_response())
}

/// Proposes one thing and says how long it took.
pub(crate) async fn commit(
    api: &Api,
    proposal: Proposal,
    deadline: Duration,
) -> Result<CommitDoc, ApiError> {
    let began = Instant::now();
    let mut doc = CommitDoc::new(api.mesh().propose(proposal, deadline).await?);
    doc.elapsed_ms = Some(millis(began.elapsed()));
    Ok(doc)
}

/// How long a proposal waits unless its caller says otherwise.
pub(crate) const PROPOSE_WITHIN: Duration = Duration::from_secs(10);

async fn many(
    api: &Api,
    statements: &[String],
    deadline: Duration,
) -> Result<CommitsDoc, ApiError> {
    if !(1..=API_PROPOSALS_MAX).contains(&statements.len()) {
        return Err(invalid(format!("1 to {API_PROPOSALS_MAX} statements are proposed at once")));
    }
    // Looked at before the first is proposed: they are taken together or not at all.
    let statements: Vec<Vec<u8>> =
        statements.iter().map(|text| base64(text)).collect::<Result<_, _>>()?;
    let updates = statements.into_iter().map(StateUpdate).collect();
    let views = api.mesh().propose_many(updates, deadline).await?;
    let commits: Vec<CommitDoc> = views.into_iter().map(CommitDoc::new).collect();
    let status = api.mesh().decisions_status();
    let size = status.as_ref().map_or(0, |status| status.size);
    let certified = commits.last().map_or(0, |commit| commit.index + 1);
    Ok(CommitsDoc { size, certified, commits, next: None })
}

/// The one thing that a request proposes.
fn proposal(api: &Api, request: ProposeRequest) -> Result<Proposal, ApiError> {
    if request.brief {
        return Err(invalid("only a list of statements is answered briefly".into()));
    }
    let given = [
        request.statement.is_some(),
        request.admit.is_some(),
        request.revoke.is_some(),
        request.grant_vote.is_some(),
        request.withdraw_vote.is_some(),
        request.admit_needs.is_some(),
        request.rotate_cosigner,
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        return Err(invalid("exactly one thing is proposed at a time".into()));
    }
    if request.reason.is_some() && request.revoke.is_none() {
        return Err(invalid("a reason goes with a removal".into()));
    }
    let member = |name: &str| member(api, name);
    if let Some(text) = request.statement {
        return base64(&text).map(Proposal::Statement);
    }
    if let Some(joiner) = request.admit {
        return Ok(Proposal::Admit(self::joiner(joiner)));
    }
    if let Some(name) = request.revoke {
        return revoke(member(&name)?, request.reason.unwrap_or_default());
    }
    if let Some(name) = request.grant_vote {
        return member(&name).map(Proposal::GrantVote);
    }
    if let Some(admit) = request.admit_needs {
        if !(1..=VOTERS_MAX).contains(&usize::from(admit)) {
            return Err(invalid(format!("1 to {VOTERS_MAX} voters admit a member")));
        }
        return Ok(Proposal::Rules(Rules { admit }));
    }
    match request.withdraw_vote {
        Some(name) => member(&name).map(Proposal::WithdrawVote),
        None => Ok(Proposal::RotateCosigner),
    }
}

/// The joiner with these words, who waits here; or the one of this id, whom another voter proposed.
fn joiner(text: String) -> Joiner {
    match text.trim().parse() {
        Ok(peer) => Joiner::Peer(peer),
        Err(_) => Joiner::Words(text),
    }
}

/// The removal of a member, its reason within its bound.
pub(crate) fn revoke(peer: exo_types::PeerId, reason: String) -> Result<Proposal, ApiError> {
    if reason.len() > REASON_BYTES_MAX {
        return Err(invalid(format!("a reason has at most {REASON_BYTES_MAX} bytes")));
    }
    Ok(Proposal::Revoke { peer, reason })
}

/// A member by id, beginning of its id, or name; this node is one, too.
pub(crate) fn member(api: &Api, name: &str) -> Result<exo_types::PeerId, ApiError> {
    let me = api.mesh().peer_id();
    if name == api.mesh().name().as_str() || name == me.to_string() {
        return Ok(me);
    }
    Ok(api.mesh().resolve_peer(name)?)
}

/// Events: `commit` for each decision as it is carried out; `missed` when this reader was too slow
/// and has to look the rest up.
pub(crate) async fn events(State(api): State<Api>) -> Result<Response, ApiError> {
    let (to, events) = mpsc::channel::<Result<Event, Infallible>>(EVENTS_WAITING_MAX);
    let Some(mut decided) = api.mesh().decisions_watch() else {
        // Says why there is nothing to watch.
        api.mesh().decisions(0, 1, false).await?;
        return Err(ApiError::busy("changes"));
    };
    let mut stop = api.stopped();
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                () = to.closed() => break,
                decided = decided.next() => match decided {
                    Some(DecisionEvent::Decided(view)) => commit_event(*view),
                    Some(DecisionEvent::Missed(many)) => {
                        Event::default().event("missed").data(many.to_string())
                    }
                    None => break,
                },
            };
            if to.send(Ok(event)).await.is_err() {
                break;
            }
        }
    });
    let events = Sse::new(ReceiverStream::new(events)).keep_alive(KeepAlive::default());
    Ok(events.into_response())
}

fn commit_event(view: DecisionView) -> Event {
    let doc = Document::new("exo.commit/1", CommitDoc::new(view));
    // A shape of plain values always serialises; JSON on one line is one line of data.
    Event::default().event("commit").data(serde_json::to_string(&doc).unwrap_or_default())
}

/// How long a proposal waits, within its bound.
pub(crate) fn deadline(millis: Option<u64>) -> Result<Duration, ApiError> {
    match millis {
        None => Ok(PROPOSE_WITHIN),
        Some(millis) if (1..=DEADLINE_MILLIS_MAX).contains(&millis) => {
            Ok(Duration::from_millis(millis))
        }
        Some(_) => Err(invalid(format!("a deadline is 1 to {DEADLINE_MILLIS_MAX} ms"))),
    }
}

fn base64(text: &str) -> Result<Vec<u8>, ApiError> {
    BASE64
        .decode(text.as_bytes())
        .map_err(|error| invalid(format!("a statement is no base64: {error}")))
}

fn text(bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], bytes).into_response()
}

fn invalid(reason: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidArgument, reason)
}

/// Decisions of a page whose length is not given.
const PAGE: usize = 100;
/// Events that wait for one reader.
const EVENTS_WAITING_MAX: usize = 64;
