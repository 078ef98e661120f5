//! The asking side of a federated query: whom to ask, waiting no longer than the deadline, and one
//! status per source whatever happens.
//!
//! A query with a text first gathers term statistics from every source, so that BM25 scores of all
//! sources are comparable; then all are searched in parallel.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use exo_onion::PathError;
use exo_types::limits::{LOCAL_QUERIES_IN_FLIGHT_MAX, MEMBERS_MAX};
use exo_types::{
    CodecError, FederatedResult, FederationScope, Leg, NodeName, Now, PeerId, QueryId, QuerySpec,
    SignedAnswer, SourceReport, SourceStatus, TermStats,
};

use crate::Node;
use crate::capability::TERMS;
use crate::effect::{Effect, Search, SessionId};
use crate::flow::CallKind;
use crate::flow::answer::{Answering, Reader};
use crate::flow::gathered::GatheredTerms;
use crate::flow::global::{Route, TRIMMED};
use crate::merge::{SourceAnswer, merge};
use crate::node::Timer;
use crate::refusal::Refusal;
use crate::wire::{Request, SearchFor, SearchRequest, TermsOf, TermsRequest};

/// A query of this node's own users.
pub(crate) struct Query {
    pub(super) spec: QuerySpec,
    /// How its packets travel, where it goes through relays.
    pub(super) route: Option<Route>,
    pub(super) started: Duration,
    pub(super) deadline: Duration,
    pub(super) phase: Phase,
    pub(super) stats: GatheredTerms,
    pub(super) sources: BTreeMap<PeerId, Source>,
    pub(super) timers: Vec<(Duration, Timer)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Terms,
    Search,
}

/// One source of a query.
pub(super) struct Source {
    pub(super) name: NodeName,
    /// Over which session it was asked last, and when.
    pub(super) asked: Option<(SessionId, Duration)>,
    pub(super) attempts: u8,
    /// How often it wanted a fresh token.
    pub(super) renewals: u8,
    /// Its term statistics are in, or will not be.
    pub(super) counted: bool,
    pub(super) legs: Vec<Leg>,
    /// Its answer as it signed it.
    pub(super) signed: Option<SignedAnswer>,
    /// Its answer had no room in a medium reply; what had is here and counts if no more comes.
    pub(super) large: bool,
    /// Relays that brought it packets of this phase.
    pub(super) tried: BTreeSet<PeerId>,
    pub(super) report: Option<SourceReport>,
}

/// Why a query was not begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A part of it is out of bounds.
    #[error("{0}")]
    Invalid(CodecError),
    /// No source has a path to it.
    #[error("there is no path of {hops} members to any source: {error}")]
    NoPath {
        /// Members on a path, the source included.
        hops: usize,
        /// Why not.
        error: PathError,
    },
    /// The question does not fit a packet.
    #[error("the question does not fit an onion packet: {0}")]
    TooLong(CodecError),
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
            FederationScope::Direct | FederationScope::Global { .. } => {
                let membership = self.membership.as_ref().ok_or(QueryError::NotAMember)?;
                for (peer, member) in membership.roster.active().take(MEMBERS_MAX) {
                    sources.insert(*peer, Source::new(member.name.clone()));
                }
            }
        }
        let route = match spec.scope {
            FederationScope::Global { max_hops } => Some(Route::new(&spec, max_hops)),
            FederationScope::Local | FederationScope::Direct => None,
        };
        if let Some(route) = route {
            self.check_route(now, &spec, route)?;
        }
        let id = QueryId::new(self.random());
        let deadline = now.mono + spec.deadline;
        let phase = if spec.target.text.is_empty() { Phase::Search } else { Phase::Terms };
        let hedge = (spec.deadline / 4).clamp(HEDGE_AFTER_MIN, HEDGE_AFTER_MAX);
        let hedge = route.map_or(hedge, |route| route.patience);
        let mut timers =
            vec![(deadline, Timer::QueryDeadline(id)), (now.mono + hedge, Timer::Hedge(id))];
        if phase == Phase::Terms {
            timers.push((now.mono + spec.deadline / 2, Timer::TermsDeadline(id)));
        }
        timers.iter().for_each(|(at, timer)| self.set_timer(*at, *timer));
        let started = now.mono;
        let stats = GatheredTerms::default();
        self.queries
            .insert(id, Query { spec, route, started, deadline, phase, stats, sources, timers });
        self.ask_all(now, id);
        Ok(id)
    }

    /// Ends a query that nobody waits for any more.
    pub fn cancel(&mut self, id: &QueryId) {
        self.take_query(id);
    }

    pub(super) fn take_query(&mut self, id: &QueryId) -> Option<Query> {
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
        self.probe_first(id);
        self.advance(now, id);
    }

    fn ask_own(&mut self, now: Now, id: QueryId) {
        let Some(query) = self.queries.get(&id) else { return };
        let (phase, spec) = (query.phase, query.spec.clone());
        let (me, terms) = (self.me, query.terms());
        let readable = self.readable(Reader::Own, spec.collection.as_ref());
        if readable.is_empty() {
            return self.answered(now, id, me, Vec::new());
        }
        let fitting = self.fitting(readable, &spec.target);
        if fitting.is_empty() {
            return self.declined(now, id, me, Refusal::Embedder);
        }
        let job = match self.start_job(Answering::Own(id)) {
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
    pub(super) fn ask(&mut self, now: Now, id: QueryId, peer: PeerId) {
        if self.queries.get(&id).is_some_and(|query| query.route.is_some()) {
            return self.ask_unknown(now, id, peer);
        }
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
                Request::Terms(TermsRequest { token, of: terms_of(spec) }),
            ),
            Phase::Search => (
                CallKind::Search { query: id, peer },
                Request::Search(Box::new(SearchRequest {
                    token,
                    search: search_for(spec, query.terms()),
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
        self.next_decided(now, peer);
        let session = self.by_peer.get(&peer).copied();
        let waits = |query: &Query| {
            let direct = query.route.is_none();
            query.sources.get(&peer).filter(|_| direct).is_some_and(|source| {
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
        self.next_decided(now, peer);
        let waits = |query: &Query| {
            let source = query.sources.get(&peer).filter(|_| query.route.is_none());
            source.is_some_and(|s| s.report.is_none() && s.asked.is_none())
        };
        let ids: Vec<QueryId> =
            self.queries.iter().filter(|(_, query)| waits(query)).map(|(id, _)| *id).collect();
        for id in ids {
            self.await_session(now, id, peer);
            self.advance(now, id);
        }
    }

    pub(super) fn answered(&mut self, now: Now, id: QueryId, peer: PeerId, legs: Vec<Leg>) {
        self.settle(now, id, peer, SourceStatus::Answered, String::new(), legs);
    }

    pub(super) fn declined(&mut self, now: Now, id: QueryId, peer: PeerId, refusal: Refusal) {
        self.settle(now, id, peer, refusal.status(), refusal.to_string(), Vec::new());
    }

    /// Writes a source's report, once.
    pub(super) fn settle(
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
        let (status, detail, legs) = match status {
            // An answer that was cut short counts where the whole one does not come.
            status if status != SourceStatus::Answered && source.large => {
                (SourceStatus::Answered, TRIMMED.to_owned(), std::mem::take(&mut source.legs))
            }
            status => (status, detail, legs),
        };
        let report = SourceReport {
            peer,
            source: source.name.clone(),
            status,
            count: legs.iter().map(|leg| leg.hits.len()).sum(),
            elapsed: now.mono.saturating_sub(started),
            detail,
            signed: source.signed.take(),
        };
        source.legs = legs;
        source.counted = true;
        source.report = Some(report.clone());
        self.effect(Effect::Progress { query: id, report });
    }

    /// Goes on to the search when the terms are in, and to the end when every source has a report.
    pub(super) fn advance(&mut self, now: Now, id: QueryId) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        if query.sources.values().all(|source| source.report.is_some()) {
            return self.finish(now, id);
        }
        if query.phase == Phase::Terms && query.sources.values().all(|source| source.counted) {
            query.phase = Phase::Search;
            for source in query.sources.values_mut() {
                source.asked = None;
                source.attempts = 0;
                // With them the first relay would be left out, and half of all packets begin elsewhere.
                source.tried.clear();
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
    pub(super) fn open(&self) -> impl Iterator<Item = PeerId> + '_ {
        let owes =
            |source: &Source| source.is_open() && !(self.phase == Phase::Terms && source.counted);
        self.sources.iter().filter(move |(_, source)| owes(source)).map(|(peer, _)| *peer)
    }

    /// Adds a source's term statistics with the weight of its word, or notes that it has none.
    pub(super) fn count(&mut self, peer: PeerId, stats: Option<(&TermStats, usize)>) {
        if let Some(source) = self.sources.get_mut(&peer).filter(|source| !source.counted) {
            source.counted = true;
            if let Some((stats, weight)) = stats {
                self.stats.add(stats, weight);
            }
        }
    }

    /// The statistics that sources score a text with.
    pub(crate) fn terms(&self) -> Option<TermStats> {
        (!self.spec.target.text.is_empty()).then(|| self.stats.sum(self.spec.target.text.len()))
    }
}

/// What a source is asked to count.
pub(super) fn terms_of(spec: &QuerySpec) -> TermsOf {
    TermsOf { collection: spec.collection.clone(), text: spec.target.text.clone() }
}

/// What a source is asked to find.
pub(super) fn search_for(spec: &QuerySpec, terms: Option<TermStats>) -> SearchFor {
    SearchFor {
        collection: spec.collection.clone(),
        target: spec.target.clone(),
        filter: spec.filter.clone(),
        top_k: u32::try_from(spec.top_k).unwrap_or(u32::MAX),
        terms,
        vectors: !spec.target.vector.is_empty(),
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
            signed: None,
            large: false,
            tried: BTreeSet::new(),
            report: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.report.is_none()
    }
}

/// How often one source is asked for one part of a query.
pub(super) const ATTEMPTS_MAX: u8 = 2;
/// How soon a silent source is dialled afresh: a quarter of the deadline within these bounds.
const HEDGE_AFTER_MIN: Duration = Duration::from_millis(50);
/// See [`HEDGE_AFTER_MIN`].
const HEDGE_AFTER_MAX: Duration = Duration::from_millis(500);
