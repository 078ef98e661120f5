//! What comes of asking the sources of a query: answers, refusals, lost connections, silence, and the
//! deadline.

use std::time::Duration;

use exo_types::limits::MEMBERS_MAX;
use exo_types::{Leg, Now, PeerId, QueryId, SourceStatus, TermStats};

use crate::Node;
use crate::effect::{CallFailure, SessionId};
use crate::flow::query::{ATTEMPTS_MAX, Phase, Source};
use crate::merge::lie;
use crate::wire::{CloseReason, Response};

impl Node {
    pub(crate) fn terms_answer(
        &mut self,
        now: Now,
        over: SessionId,
        id: QueryId,
        peer: PeerId,
        result: &Result<Response, CallFailure>,
    ) {
        let open = self.queries.get(&id).is_some_and(|query| {
            query.phase == Phase::Terms && query.sources.get(&peer).is_some_and(Source::is_open)
        });
        if !open {
            return;
        }
        match result {
            Ok(Response::Terms(stats)) => {
                if let Some(query) = self.queries.get_mut(&id) {
                    query.count(peer, Some((stats, 1)));
                }
            }
            other => self.not_answered(now, over, id, peer, other),
        }
        self.advance(now, id);
    }

    pub(crate) fn search_answer(
        &mut self,
        now: Now,
        over: SessionId,
        id: QueryId,
        peer: PeerId,
        result: Result<Response, CallFailure>,
    ) {
        let Some(query) = self.queries.get(&id) else { return };
        let Some(source) = query.sources.get(&peer).filter(|source| source.is_open()) else {
            return;
        };
        match result {
            Ok(Response::Answer { legs }) => {
                let round_trip = source.asked.map(|(_, at)| now.mono.saturating_sub(at));
                match lie(&legs, &query.spec.target, query.spec.top_k) {
                    None => self.answered(now, id, peer, legs),
                    Some(what) => self.settle(
                        now,
                        id,
                        peer,
                        SourceStatus::Failed,
                        what.to_owned(),
                        Vec::new(),
                    ),
                }
                if let Some(round_trip) = round_trip {
                    self.measured(peer, round_trip);
                }
            }
            other => self.not_answered(now, over, id, peer, &other),
        }
        self.advance(now, id);
    }

    /// What to make of a call that brought no answer: try once more, or settle.
    fn not_answered(
        &mut self,
        now: Now,
        over: SessionId,
        id: QueryId,
        peer: PeerId,
        result: &Result<Response, CallFailure>,
    ) {
        let source = self.queries.get(&id).and_then(|query| query.sources.get(&peer));
        if source.and_then(|source| source.asked).is_some_and(|(asked, _)| asked != over) {
            // The question was put again over another session, whose answer counts.
            return;
        }
        let (attempts, renewals) = self.attempts(&id, &peer);
        let (status, detail) = match result {
            Ok(Response::Refused(refusal)) => {
                if refusal.wants_fresh_token() && renewals < RENEWALS_MAX {
                    return self.ask_with_fresh_token(id, peer);
                }
                (refusal.status(), refusal.to_string())
            }
            Err(CallFailure::Lost) if attempts < ATTEMPTS_MAX => {
                if let Some(query) = self.queries.get_mut(&id)
                    && let Some(source) = query.sources.get_mut(&peer)
                {
                    source.asked = None;
                }
                return self.ask(now, id, peer);
            }
            // The query's own deadline says so, at the same moment.
            Err(CallFailure::Timeout) => return,
            Err(CallFailure::Lost) => {
                (SourceStatus::Unreachable, "the connection was lost".to_owned())
            }
            Err(CallFailure::Garbage) => {
                (SourceStatus::Failed, "its answer does not decode or is out of bounds".to_owned())
            }
            Ok(_) => (SourceStatus::Failed, "it answered something else".to_owned()),
        };
        self.settle(now, id, peer, status, detail, Vec::new());
    }

    /// Asks for a token; when it is there, [`Self::peer_ready`] asks again.
    fn ask_with_fresh_token(&mut self, id: QueryId, peer: PeerId) {
        if let Some(query) = self.queries.get_mut(&id)
            && let Some(source) = query.sources.get_mut(&peer)
        {
            source.asked = None;
            // It did not get as far as the question.
            source.attempts = source.attempts.saturating_sub(1);
            source.renewals += 1;
        }
        if let Some(session) = self.by_peer.get(&peer).copied() {
            self.ask_token(session);
        }
    }

    pub(crate) fn own_search_done(
        &mut self,
        now: Now,
        id: QueryId,
        result: Result<Vec<Leg>, String>,
    ) {
        let me = self.me;
        match result {
            Ok(legs) => self.answered(now, id, me, legs),
            Err(detail) => self.settle(now, id, me, SourceStatus::Failed, detail, Vec::new()),
        }
        self.advance(now, id);
    }

    pub(crate) fn own_terms_done(
        &mut self,
        now: Now,
        id: QueryId,
        result: Result<TermStats, String>,
    ) {
        let me = self.me;
        match result {
            Ok(stats) => {
                if let Some(query) = self.queries.get_mut(&id) {
                    query.count(me, Some((&stats, MEMBERS_MAX)));
                }
            }
            Err(detail) => self.settle(now, id, me, SourceStatus::Failed, detail, Vec::new()),
        }
        self.advance(now, id);
    }

    /// The term statistics that are not in by now are done without.
    pub(crate) fn terms_deadline(&mut self, now: Now, id: QueryId) {
        if let Some(query) = self.queries.get_mut(&id)
            && query.phase == Phase::Terms
        {
            for source in query.sources.values_mut() {
                source.counted = true;
            }
            self.advance(now, id);
        }
    }

    /// Peers that owe an answer and have been silent since they were asked are dialled afresh: the
    /// old connection may lead nowhere. Whichever session answers first counts.
    pub(crate) fn hedge(&mut self, now: Now, id: QueryId) {
        let Some(query) = self.queries.get(&id) else { return };
        if query.route.is_some() {
            return self.hedge_unknown(now, id);
        }
        let owing: Vec<(PeerId, Duration)> = query
            .open()
            .filter_map(|peer| Some((peer, query.sources.get(&peer)?.asked?.1)))
            .collect();
        for (peer, asked) in owing {
            let Some(link) = self.links.get_mut(&peer) else { continue };
            let lately = link.hedged.is_some_and(|at| now.mono < at + HEDGE_EVERY);
            if link.last_heard <= asked && !lately {
                link.hedged = Some(now.mono);
                self.dial(now, peer);
            }
        }
    }

    /// Time is up: whoever has not answered is reported so.
    pub(crate) fn query_deadline(&mut self, now: Now, id: QueryId) {
        let Some(query) = self.queries.get(&id) else { return };
        let direct = query.route.is_none();
        let open: Vec<(PeerId, Option<(SessionId, Duration)>)> = query
            .open()
            .map(|peer| (peer, query.sources.get(&peer).and_then(|source| source.asked)))
            .collect();
        for (peer, asked) in open {
            let (status, detail) = match asked {
                Some(_) => (SourceStatus::Timeout, "no answer by the deadline"),
                None if peer == self.me => (SourceStatus::Timeout, "no answer by the deadline"),
                None => (SourceStatus::Unreachable, "no connection by the deadline"),
            };
            self.settle(now, id, peer, status, detail.to_owned(), Vec::new());
            if let Some((session, at)) = asked.filter(|_| direct) {
                self.suspect(now, peer, session, at);
            }
        }
        self.advance(now, id);
    }

    /// A peer that said nothing since it was asked, and does not answer a fresh dial either, is
    /// taken for gone: the next query need not wait for it.
    fn suspect(&mut self, now: Now, peer: PeerId, session: SessionId, asked: Duration) {
        let Some(link) = self.links.get(&peer) else { return };
        let no_dial_helped = link.dialling || link.is_down();
        if link.last_heard <= asked && no_dial_helped && self.by_peer.get(&peer) == Some(&session) {
            self.drop_session(now, session, CloseReason::Silent);
        }
    }

    fn attempts(&self, id: &QueryId, peer: &PeerId) -> (u8, u8) {
        let source = self.queries.get(id).and_then(|query| query.sources.get(peer));
        source.map_or((ATTEMPTS_MAX, RENEWALS_MAX), |source| (source.attempts, source.renewals))
    }
}

/// Fresh tokens that one query asks of one source: membership may change several times meanwhile.
const RENEWALS_MAX: u8 = 8;
/// A peer is dialled afresh by queries at most this often.
const HEDGE_EVERY: Duration = Duration::from_secs(2);
