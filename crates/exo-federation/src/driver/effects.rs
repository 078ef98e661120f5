//! Carrying out what the node wants, in its order.

use std::sync::Arc;
use std::time::Duration;

use exo_node::effect::{CallFailure, CallId, Effect, Event, ExchangeId, Input, SessionId};
use exo_node::wire::{CloseReason, Request, Response};
use exo_types::Wire;

use super::core::{Core, lock};
use super::net::RequestError;
use crate::view::QueryEvent;

impl Core {
    /// Carries out one effect. What takes time goes on in a task of its own; what must be durable
    /// is so when this returns, and nothing leaves a node whose state could not be saved.
    pub(crate) fn carry_out(self: &Arc<Self>, effect: Effect) {
        if self.check().is_err() {
            return;
        }
        match effect {
            Effect::Persist(state) => {
                if let Err(error) = self.store.save_state(&state) {
                    self.break_down(error.message);
                }
            }
            Effect::Dial { peer, addresses, purpose } => {
                let core = Arc::clone(self);
                self.runtime.spawn(async move { core.dial(peer, addresses, purpose).await });
            }
            Effect::Call { session, call, request, timeout } => {
                self.call(session, call, *request, timeout);
            }
            Effect::Respond { exchange, response } => self.respond(exchange, *response),
            Effect::Rekey { fresh } => {
                let core = Arc::clone(self);
                self.runtime.spawn(async move { core.rekey(fresh) });
            }
            Effect::Constituted { founding, again } => self.begin_deciding(founding, again),
            Effect::Returned => {
                if let Err(error) = self.store.unbegun().end() {
                    self.break_down(error.message);
                }
            }
            Effect::Propose(decision) => self.propose(&decision),
            Effect::Lane { peer, session } => self.lane(peer, session),
            Effect::Behind(peer) => {
                if let Some(host) = self.decide.get() {
                    host.shared.input(exo_consensus::Input::Poke(peer));
                }
            }
            // Dropped unanswered, it resets its stream.
            Effect::Abandon { exchange } => drop(lock(&self.responders).remove(&exchange)),
            Effect::Close { session, reason, drain } => self.close(session, reason, drain),
            Effect::Search { job, collections, search } => {
                let core = Arc::clone(self);
                self.runtime.spawn(async move { core.search(job, collections, *search).await });
            }
            Effect::Terms { job, collections, text } => {
                let core = Arc::clone(self);
                self.runtime.spawn(async move { core.terms(job, collections, text).await });
            }
            Effect::Progress { query, report } => {
                let status = format!("{:?}", report.status).to_lowercase();
                metrics::counter!("exo_query_sources_total", "status" => status).increment(1);
                if let Some(to) = lock(&self.queries).get(&query) {
                    // Whoever asked may be gone; the channel has room for every source.
                    let _ = to.try_send(QueryEvent::Source(report));
                }
            }
            Effect::QueryDone { query, result } => {
                metrics::counter!("exo_queries_total").increment(1);
                metrics::histogram!("exo_query_seconds").record(result.elapsed.as_secs_f64());
                if let Some(to) = lock(&self.queries).remove(&query) {
                    let _ = to.try_send(QueryEvent::Done(*result));
                }
            }
            Effect::PingDone { call, result } => {
                if let Some(to) = lock(&self.pings).remove(&call) {
                    let _ = to.send(result);
                }
            }
            Effect::Event(event) => log(&event),
        }
    }

    fn call(
        self: &Arc<Self>,
        session: SessionId,
        call: CallId,
        request: Request,
        timeout: Duration,
    ) {
        let channel = lock(&self.channels).get(&session).cloned();
        let core = Arc::clone(self);
        self.runtime.spawn(async move {
            let result = match (channel, request.to_wire()) {
                (Some(channel), Ok(body)) => match channel.request(body, timeout).await {
                    Ok(body) => Response::from_wire(&body).map_err(|_| CallFailure::Garbage),
                    Err(error) => {
                        if let Some(reason) = channel.close_reason() {
                            core.session_over(session, &reason);
                        }
                        Err(failure(&error))
                    }
                },
                (None, _) => Err(CallFailure::Lost),
                (Some(_), Err(_)) => Err(CallFailure::Garbage),
            };
            core.input(Input::Response { call, result });
        });
    }

    fn respond(self: &Arc<Self>, exchange: ExchangeId, response: Response) {
        let Some(responder) = lock(&self.responders).remove(&exchange) else { return };
        // The time of a line about a packet's reply would tie what came to what went.
        let told = !matches!(response, Response::Onion(_));
        self.runtime.spawn(async move {
            match response.to_wire() {
                Ok(body) => {
                    if let Err(error) = responder.respond(body).await
                        && told
                    {
                        tracing::debug!(%error, "an answer was not sent");
                    }
                }
                Err(error) => tracing::warn!(%error, "an answer is out of bounds and was not sent"),
            }
        });
    }

    /// Gives the node the sealing keys it asks for; it asks again where that fails.
    fn rekey(self: &Arc<Self>, fresh: bool) {
        let now = self.clock.now().wall;
        let ring = if fresh { self.store.fresh_keyring(now) } else { self.store.keyring(now) };
        let given = ring
            .map_err(|error| error.message)
            .and_then(|ring| self.drive(|node, now| node.rekey(now, ring, fresh)));
        if let Err(error) = given {
            tracing::error!(%error, "the sealing keys were not changed");
        }
    }

    fn close(self: &Arc<Self>, session: SessionId, reason: CloseReason, drain: bool) {
        let Some(channel) = lock(&self.channels).get(&session).cloned() else { return };
        if !drain {
            return channel.close(reason.code(), reason.says());
        }
        self.runtime.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(DRAIN) => {}
                _ = channel.closed() => {}
            }
            channel.close(reason.code(), reason.says());
        });
    }
}

fn failure(error: &RequestError) -> CallFailure {
    match error {
        RequestError::Timeout { .. } => CallFailure::Timeout,
        RequestError::Lost(_) | RequestError::Abandoned { .. } => CallFailure::Lost,
        RequestError::TooLong(_)
        | RequestError::Empty
        | RequestError::TooManyFrames
        | RequestError::Malformed(_) => CallFailure::Garbage,
    }
}

/// Tells the log of a change. No text, no vector and no address of anybody goes there.
fn log(event: &Event) {
    match event {
        Event::PeerActive(peer) => tracing::info!(peer = peer.short(), "peer is active"),
        Event::PeerUnreachable(peer, detail) => {
            tracing::info!(peer = peer.short(), %detail, "peer is unreachable");
        }
        Event::JoinerWaits(peer) => {
            tracing::info!(peer = peer.short(), "a joiner waits for approval");
        }
        Event::RosterSigned(epoch) => tracing::info!(%epoch, "signed the roster of a new epoch"),
        Event::MemberAdmitted(peer) => tracing::info!(peer = peer.short(), "member admitted"),
        Event::MemberRevoked(peer) => tracing::info!(peer = peer.short(), "member removed"),
        Event::JoinPending => tracing::info!("joining waits for approval"),
        Event::Joined => tracing::info!("joined the federation"),
        Event::Removed(reason) => tracing::warn!(%reason, "not a member"),
        Event::Refused(refusal) => {
            metrics::counter!("exo_refusals_total", "code" => refusal.code()).increment(1);
            tracing::debug!(code = refusal.code(), "refused a request");
        }
        Event::Onion(fate) => {
            // Counted, and nothing else: a line with its time would tie what came to what went.
            metrics::counter!("exo_onion_packets_total", "fate" => fate.as_str()).increment(1);
        }
        Event::StateNotSaved(cause) => tracing::error!(%cause, "the state was not saved"),
    }
}

/// How long a session that is replaced may finish what is under way.
const DRAIN: Duration = Duration::from_secs(2);
