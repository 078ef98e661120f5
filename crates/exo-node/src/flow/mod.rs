//! What the node does, one flow a file; here the two matches that route requests and responses.

pub(crate) mod admit;
pub(crate) mod answer;
mod cover;
pub(crate) mod directory;
mod gathered;
pub(crate) mod global;
pub(crate) mod join;
pub(crate) mod link;
pub(crate) mod membership;
mod outcome;
pub(crate) mod query;
pub(crate) mod relay;
pub(crate) mod route;
pub(crate) mod session;
pub(crate) mod show;
mod tokens;
pub(crate) mod unknown;

use std::time::Duration;

use exo_types::{Now, PeerId, QueryId};

use crate::Node;
use crate::effect::{CallFailure, CallId, Effect, Event, ExchangeId, Purpose, SessionId};
use crate::flow::query::Phase;
use crate::refusal::Refusal;
use crate::wire::{Request, Response};

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    Hello,
    Grant,
    Sync,
    Notify,
    Ping {
        sent: Duration,
    },
    Terms {
        query: QueryId,
        peer: PeerId,
    },
    Search {
        query: QueryId,
        peer: PeerId,
    },
    /// A packet of a query of this node's own.
    Question {
        query: QueryId,
        peer: PeerId,
        phase: Phase,
    },
    /// A packet of somebody else's.
    Relay,
    Cover,
    Probe,
    JoinStart,
    JoinReveal,
    JoinPoll,
}

impl Node {
    /// Sends a request over a session.
    pub(crate) fn call(
        &mut self,
        session: SessionId,
        kind: CallKind,
        request: Request,
        timeout: Duration,
    ) -> CallId {
        let call = CallId(self.number());
        self.calls.insert(call, (session, kind));
        self.effect(Effect::Call { session, call, request: Box::new(request), timeout });
        call
    }

    /// Answers a request.
    pub(crate) fn respond(&mut self, exchange: ExchangeId, response: Response) {
        if let Response::Refused(refusal) = &response {
            self.event(Event::Refused(*refusal));
        }
        self.effect(Effect::Respond { exchange, response: Box::new(response) });
    }

    /// Routes what a peer asks. A session says what it is for: joiners reach only the join flow.
    pub(crate) fn request(
        &mut self,
        now: Now,
        session: SessionId,
        exchange: ExchangeId,
        request: Request,
    ) {
        let Some(known) = self.sessions.get(&session) else {
            return self.respond(exchange, Response::Refused(Refusal::NotMember));
        };
        let (peer, purpose) = (known.peer, known.purpose);
        self.heard(now, peer);
        match (purpose, request) {
            (Purpose::Join, Request::JoinStart(start)) => {
                self.join_start(now, session, exchange, *start);
            }
            (Purpose::Join, Request::JoinReveal { nonce }) => {
                self.join_reveal(now, session, exchange, nonce);
            }
            (Purpose::Join, Request::JoinPoll) => self.join_polled(session, exchange),
            (Purpose::Join, _) => {
                let refusal = match self.book.joiner(&peer) {
                    Some(_) => Refusal::MemberPending,
                    None => Refusal::NotMember,
                };
                self.respond(exchange, Response::Refused(refusal));
            }
            (Purpose::Member, Request::Hello(hello)) => {
                self.hello(now, session, exchange, &hello);
            }
            (Purpose::Member, request) => self.member_request(now, session, exchange, request),
        }
    }

    fn member_request(
        &mut self,
        now: Now,
        session: SessionId,
        exchange: ExchangeId,
        request: Request,
    ) {
        let Some(known) = self.sessions.get(&session).filter(|session| session.greeted) else {
            return self.respond(exchange, Response::Refused(Refusal::HelloExpected));
        };
        if !self.is_active(&known.peer) {
            return self.respond(exchange, Response::Refused(Refusal::MemberRevoked));
        }
        self.ask_first_token(session);
        match request {
            Request::Grant => self.grant(now, session, exchange),
            Request::Sync(sync) => self.sync_request(now, session, exchange, sync),
            Request::Notify { epoch } => self.notified(session, exchange, epoch),
            Request::Ping => self.respond(exchange, Response::Done),
            Request::Terms(terms) => self.terms_request(now, session, exchange, terms),
            Request::Search(search) => self.search_request(now, session, exchange, *search),
            Request::Onion(onion) => self.onion_request(now, session, exchange, onion),
            Request::Hello(_)
            | Request::JoinStart(_)
            | Request::JoinReveal { .. }
            | Request::JoinPoll => {
                self.respond(exchange, Response::Refused(Refusal::Malformed));
            }
        }
    }

    /// Routes what came of a call.
    pub(crate) fn response(
        &mut self,
        now: Now,
        call: CallId,
        result: Result<Response, CallFailure>,
    ) {
        let Some((session, kind)) = self.calls.remove(&call) else { return };
        if result.is_ok()
            && let Some(known) = self.sessions.get(&session)
        {
            self.heard(now, known.peer);
        }
        match kind {
            CallKind::Hello => self.welcomed(now, session, result),
            CallKind::Grant => self.granted(now, session, result),
            CallKind::Sync => self.synced(now, session, result),
            CallKind::Notify => {}
            CallKind::Ping { sent } => self.pinged(now, session, call, sent, &result),
            CallKind::Terms { query, peer } => {
                self.terms_answer(now, session, query, peer, &result);
            }
            CallKind::Search { query, peer } => {
                self.search_answer(now, session, query, peer, result);
            }
            CallKind::Question { query, peer, phase } => {
                self.question_answer(now, call, (query, peer, phase), result);
            }
            CallKind::Relay => self.relay_answer(call, session, result),
            CallKind::Cover => {
                self.sent.remove(&call);
            }
            CallKind::Probe => {}
            CallKind::JoinStart => self.join_challenged(now, session, result),
            CallKind::JoinReveal => self.join_revealed(now, session, result),
            CallKind::JoinPoll => self.join_answered(now, session, result),
        }
    }
}

/// How long session control may take.
pub(crate) const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);
