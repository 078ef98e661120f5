//! The asking side of a federated query: whom to ask, waiting no longer than the deadline, and one
//! status per source whatever happens.
//!
//! A query with a text first gathers term statistics from every source, so that BM25 scores of all
//! sources are comparable; then all are searched in parallel.

use std::collections::BTreeMap;
use std::time::Duration;

use exo_types::limits::{LOCAL_QUERIES_IN_FLIGHT_MAX, MEMBERS_MAX, QUERY_TERMS_MAX};
use exo_types::{
    CodecError, FederatedResult, FederationScope, Leg, NodeName, Now, PeerId, QueryId, QuerySpec,
    SourceReport, SourceStatus, TermStats,
};

use crate::Node;
use crate::capability::TERMS;
use crate::effect::{CallFailure, Effect, Search, SessionId};
use crate::flow::CallKind;
use crate::flow::answer::Answering;
use crate::merge::{SourceAnswer, lie, merge};
use crate::node::Timer;
use crate::refusal::Refusal;
use crate::wire::{CloseReason, Request, Response, SearchRequest, TermsRequest};

/// A query of this node's own users.
pub(crate) struct Query {
    spec: QuerySpec,
    started: Duration,
    deadline: Duration,
    phase: Phase,
    stats: GatheredTerms,
    sources: BTreeMap<PeerId, Source>,
    timers: Vec<(Duration, Timer)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Terms,
    Search,
}

/// Term statistics of all sources. Each names the words that it split the text into, which are the
/// same at every honest one.
#[derive(Default)]
struct GatheredTerms {
    records: u64,
    tokens: u64,
    /// By word: how many sources name it, this node's own counting more than all others together,
    /// and how many records hold it.
    words: BTreeMap<String, (usize, u64)>,
}

/// One source of a query.
struct Source {
    name: NodeName,
    /// Over which session it was asked last, and when.
    asked: Option<(SessionId, Duration)>,
    attempts: u8,
    /// How often it wanted a fresh token.
    renewals: u8,
    /// Its term statistics are in, or will not be.
    counted: bool,
    legs: Vec<Leg>,
    report: Option<SourceReport>,
}

/// Why a query was not begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A part of it is out of bounds.
    #[error("{0}")]
    Invalid(CodecError),
    /// The scope needs what is not built yet.
    #[error("onion-routed queries (scope global) are not available yet")]
    GlobalNotAvailable,
    /// A direct query needs a federation.
    #[error("this node belongs to no federation yet")]
    NotAMember,
    /// Too many queries run.
    #[error("{0} queries are under way, the most this node runs at once")]
    Busy(usize),
}

impl Node {
    /// Begins a query. Sources are reported by [`Effect::Progress`], the end by
    /// [`Effect::QueryDone`].
    pub fn query(&mut self, now: Now, spec: QuerySpec) -> Result<QueryId, QueryError> {
        spec.check().map_err(QueryError::Invalid)?;
        if self.queries.len() >= LOCAL_QUERIES_IN_FLIGHT_MAX {
            return Err(QueryError::Busy(self.queries.len()));
        }
        let mut sources = BTreeMap::from([(self.me, Source::new(self.name.clone()))]);
        match spec.scope {
            FederationScope::Local => {}
            FederationScope::Direct => {
                let membership = self.membership.as_ref().ok_or(QueryError::NotAMember)?;
                for (peer, member) in membership.roster.active().take(MEMBERS_MAX) {
                    sources.insert(*peer, Source::new(member.name.clone()));
                }
            }
            FederationScope::Global { .. } => return Err(QueryError::GlobalNotAvailable),
        }
        let id = QueryId::new(self.random());
        let deadline = now.mono + spec.deadline;
        let phase = if spec.target.text.is_empty() { Phase::Search } else { Phase::Terms };
        let hedge = (spec.deadline / 4).clamp(HEDGE_AFTER_MIN, HEDGE_AFTER_MAX);
        let mut timers =
            vec![(deadline, Timer::QueryDeadline(id)), (now.mono + hedge, Timer::Hedge(id))];
        if phase == Phase::Terms {
            timers.push((now.mono + spec.deadline / 2, Timer::TermsDeadline(id)));
        }
        timers.iter().for_each(|(at, timer)| self.set_timer(*at, *timer));
        let started = now.mono;
        let stats = GatheredTerms::default();
        self.queries.insert(id, Query { spec, started, deadline, phase, stats, sources, timers });
        self.ask_all(now, id);
        Ok(id)
    }

    /// Ends a query that nobody waits for any more.
    pub fn cancel(&mut self, id: &QueryId) {
        self.take_query(id);
    }

    fn take_query(&mut self, id: &QueryId) -> Option<Query> {
        let query = self.queries.remove(id)?;
        query.timers.iter().for_each(|(at, timer)| self.forget_timer(*at, *timer));
        Some(query)
    }

    fn ask_all(&mut self, now: Now, id: QueryId) {
        let Some(query) = self.queries.get(&id) else { return };
        let open: Vec<PeerId> = query.open().collect();
        for peer in open {
            if peer == self.me {
                self.ask_own(now, id);
            } else {
                self.ask(now, id, peer);
            }
        }
        self.advance(now, id);
    }

    fn ask_own(&mut self, now: Now, id: QueryId) {
        let Some(query) = self.queries.get(&id) else { return };
        let (phase, spec) = (query.phase, query.spec.clone());
        let (me, terms) = (self.me, query.terms());
        let readable = self.readable(None, spec.collection.as_ref());
        if readable.is_empty() {
            return self.answered(now, id, me, Vec::new());
        }
        let fitting = self.fitting(readable, &spec.target);
        if fitting.is_empty() {
            return self.declined(now, id, me, Refusal::Embedder);
        }
        let job = match self.start_job(None, Answering::Own(id)) {
            Ok(job) => job,
            Err(refusal) => return self.declined(now, id, me, refusal),
        };
        match phase {
            Phase::Terms => {
                let text = spec.target.text;
                self.effect(Effect::Terms { job, collections: fitting, text });
            }
            Phase::Search => {
                let search = Search {
                    target: spec.target,
                    filter: spec.filter,
                    top_k: spec.top_k,
                    terms,
                    vectors: false,
                };
                let search = Box::new(search);
                self.effect(Effect::Search { job, collections: fitting, search });
            }
        }
    }

    /// Asks one member, or waits for a session with it, or reports that there is none to be had.
    fn ask(&mut self, now: Now, id: QueryId, peer: PeerId) {
        let session = self.by_peer.get(&peer).copied();
        let ready = session.and_then(|id| Some((id, self.sessions.get(&id)?)));
        let ready = ready.filter(|(_, session)| session.ready());
        let Some((session_id, token, tells_terms)) = ready.and_then(|(id, session)| {
            let tells_terms = session.agreed.0.contains_key(TERMS);
            Some((id, session.there.as_ref()?.id, tells_terms))
        }) else {
            return self.await_session(now, id, peer);
        };
        let Some(query) = self.queries.get_mut(&id) else { return };
        let spec = &query.spec;
        let (kind, request) = match query.phase {
            Phase::Terms if !tells_terms => {
                return query.count(peer, None);
            }
            Phase::Terms => (
                CallKind::Terms { query: id, peer },
                Request::Terms(TermsRequest {
                    token,
                    collection: spec.collection.clone(),
                    text: spec.target.text.clone(),
                }),
            ),
            Phase::Search => (
                CallKind::Search { query: id, peer },
                Request::Search(Box::new(SearchRequest {
                    token,
                    collection: spec.collection.clone(),
                    target: spec.target.clone(),
                    filter: spec.filter.clone(),
                    top_k: u32::try_from(spec.top_k).unwrap_or(u32::MAX),
                    terms: query.terms(),
                    vectors: !spec.target.vector.is_empty(),
                })),
            ),
        };
        let left = query.deadline.saturating_sub(now.mono);
        if let Some(source) = query.sources.get_mut(&peer) {
            source.asked = Some((session_id, now.mono));
            source.attempts += 1;
        }
        self.call(session_id, kind, request, left);
    }

    fn await_session(&mut self, now: Now, id: QueryId, peer: PeerId) {
        match self.links.get(&peer) {
            Some(link) if !link.is_down() => self.redial(now, peer),
            Some(link) => {
                let status =
                    if link.refused { SourceStatus::Refused } else { SourceStatus::Unreachable };
                let detail = link.detail.clone();
                self.settle(now, id, peer, status, detail, Vec::new());
            }
            None => {
                let detail = "not a neighbour of this node".to_owned();
                self.settle(now, id, peer, SourceStatus::Unreachable, detail, Vec::new());
            }
        }
    }

    /// A session with a peer is ready: ask it for every query that waits for it, or whose question
    /// went out over another session.
    pub(crate) fn peer_ready(&mut self, now: Now, peer: PeerId) {
        let session = self.by_peer.get(&peer).copied();
        let waits = |query: &Query| {
            query.sources.get(&peer).is_some_and(|source| {
                source.report.is_none()
                    && !(query.phase == Phase::Terms && source.counted)
                    && source.attempts < ATTEMPTS_MAX
                    && source.asked.map(|(asked, _)| asked) != session
            })
        };
        let ids: Vec<QueryId> =
            self.queries.iter().filter(|(_, query)| waits(query)).map(|(id, _)| *id).collect();
        for id in ids {
            self.ask(now, id, peer);
            self.advance(now, id);
        }
    }

    /// There is no session with a peer and none is to be had now.
    pub(crate) fn peer_unreachable(&mut self, now: Now, peer: PeerId) {
        let waits = |query: &Query| {
            query.sources.get(&peer).is_some_and(|s| s.report.is_none() && s.asked.is_none())
        };
        let ids: Vec<QueryId> =
            self.queries.iter().filter(|(_, query)| waits(query)).map(|(id, _)| *id).collect();
        for id in ids {
            self.await_session(now, id, peer);
            self.advance(now, id);
        }
    }

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
            if let Some((session, at)) = asked {
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

    fn answered(&mut self, now: Now, id: QueryId, peer: PeerId, legs: Vec<Leg>) {
        self.settle(now, id, peer, SourceStatus::Answered, String::new(), legs);
    }

    fn declined(&mut self, now: Now, id: QueryId, peer: PeerId, refusal: Refusal) {
        self.settle(now, id, peer, refusal.status(), refusal.to_string(), Vec::new());
    }

    /// Writes a source's report, once.
    fn settle(
        &mut self,
        now: Now,
        id: QueryId,
        peer: PeerId,
        status: SourceStatus,
        detail: String,
        legs: Vec<Leg>,
    ) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        let started = query.started;
        let Some(source) = query.sources.get_mut(&peer).filter(|source| source.is_open()) else {
            return;
        };
        let report = SourceReport {
            peer,
            source: source.name.clone(),
            status,
            count: legs.iter().map(|leg| leg.hits.len()).sum(),
            elapsed: now.mono.saturating_sub(started),
            detail,
        };
        source.legs = legs;
        source.counted = true;
        source.report = Some(report.clone());
        self.effect(Effect::Progress { query: id, report });
    }

    /// Goes on to the search when the terms are in, and to the end when every source has a report.
    fn advance(&mut self, now: Now, id: QueryId) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        if query.sources.values().all(|source| source.report.is_some()) {
            return self.finish(now, id);
        }
        if query.phase == Phase::Terms && query.sources.values().all(|source| source.counted) {
            query.phase = Phase::Search;
            for source in query.sources.values_mut() {
                source.asked = None;
                source.attempts = 0;
            }
            self.ask_all(now, id);
        }
    }

    fn finish(&mut self, now: Now, id: QueryId) {
        let Some(query) = self.take_query(&id) else { return };
        let mut reports = Vec::with_capacity(query.sources.len());
        let mut answers = Vec::with_capacity(query.sources.len());
        for (peer, source) in query.sources {
            answers.push(SourceAnswer { peer, source: source.name, legs: source.legs });
            reports.extend(source.report);
        }
        let result = FederatedResult {
            results: merge(answers, query.spec.top_k),
            complete: reports.iter().all(|report| report.status == SourceStatus::Answered),
            sources: reports,
            elapsed: now.mono.saturating_sub(query.started),
        };
        self.effect(Effect::QueryDone { query: id, result: Box::new(result) });
    }
}

impl Query {
    /// Sources that owe something in this phase.
    fn open(&self) -> impl Iterator<Item = PeerId> + '_ {
        let owes =
            |source: &Source| source.is_open() && !(self.phase == Phase::Terms && source.counted);
        self.sources.iter().filter(move |(_, source)| owes(source)).map(|(peer, _)| *peer)
    }

    /// Adds a source's term statistics with the weight of its word, or notes that it has none.
    fn count(&mut self, peer: PeerId, stats: Option<(&TermStats, usize)>) {
        if let Some(source) = self.sources.get_mut(&peer).filter(|source| !source.counted) {
            source.counted = true;
            if let Some((stats, weight)) = stats {
                self.stats.add(stats, weight);
            }
        }
    }

    /// The statistics that sources score a text with.
    fn terms(&self) -> Option<TermStats> {
        (!self.spec.target.text.is_empty()).then(|| self.stats.sum())
    }
}

impl GatheredTerms {
    fn add(&mut self, stats: &TermStats, weight: usize) {
        self.records = self.records.saturating_add(stats.records);
        self.tokens = self.tokens.saturating_add(stats.tokens);
        for (word, records) in &stats.terms {
            let (named, sum) = self.words.entry(word.clone()).or_default();
            *named += weight;
            *sum = sum.saturating_add(*records);
        }
    }

    /// The sum, of the words that most sources name where there are too many: words that one source
    /// makes up do not take the place of the query's.
    fn sum(&self) -> TermStats {
        let mut words: Vec<_> = self.words.iter().collect();
        words.sort_by_key(|(_, (named, _))| std::cmp::Reverse(*named));
        words.truncate(QUERY_TERMS_MAX);
        words.sort();
        let terms = words.into_iter().map(|(word, (_, records))| (word.clone(), *records));
        TermStats { records: self.records, tokens: self.tokens, terms: terms.collect() }
    }
}

impl Source {
    fn new(name: NodeName) -> Self {
        Self {
            name,
            asked: None,
            attempts: 0,
            renewals: 0,
            counted: false,
            legs: Vec::new(),
            report: None,
        }
    }

    fn is_open(&self) -> bool {
        self.report.is_none()
    }
}

/// How often one source is asked for one part of a query.
const ATTEMPTS_MAX: u8 = 2;
/// Fresh tokens that one query asks of one source: membership may change several times meanwhile.
const RENEWALS_MAX: u8 = 8;
/// How soon a silent source is dialled afresh: a quarter of the deadline within these bounds.
const HEDGE_AFTER_MIN: Duration = Duration::from_millis(50);
/// See [`HEDGE_AFTER_MIN`].
const HEDGE_AFTER_MAX: Duration = Duration::from_millis(500);
/// A peer is dialled afresh by queries at most this often.
const HEDGE_EVERY: Duration = Duration::from_secs(2);
