//! The answering side: token, policy, bounds, then the search; and what leaves the node.

use std::collections::BTreeMap;

use exo_types::limits::{
    ANSWER_BYTES_MAX, COLLECTIONS_PER_QUERY_MAX, SEARCHES_IN_FLIGHT_MAX, SEARCHES_PER_PEER_MAX,
    TITLE_BYTES_MAX,
};
use exo_types::{
    CollectionName, CollectionSpec, Hit, Leg, Now, PeerId, QueryId, QueryTarget, TermStats,
};

use crate::Node;
use crate::capability::{SEARCH, TERMS};
use crate::effect::{Effect, ExchangeId, JobId, Search, SessionId};
use crate::flow::unknown::Asked;
use crate::policy::CollectionPolicy;
use crate::refusal::Refusal;
use crate::wire::{Response, SearchFor, SearchRequest, TermsRequest};

/// A search under way in this node's own data, and for whom.
#[derive(Debug)]
pub(crate) enum Answering {
    /// For a query of this node's own users.
    Own(QueryId),
    /// For a peer.
    Peer { exchange: ExchangeId, peer: PeerId, top_k: usize },
    /// For somebody unknown, whose packet a neighbour brought.
    Unknown { neighbour: PeerId, asked: Box<Asked> },
}

impl Answering {
    /// Whose share of the searches it takes. A neighbour answers for what it brings.
    fn answers_for(&self) -> Option<PeerId> {
        match self {
            Self::Own(_) => None,
            Self::Peer { peer, .. } | Self::Unknown { neighbour: peer, .. } => Some(*peer),
        }
    }
}

/// Who reads this node's data.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reader<'a> {
    /// This node's own users, who may read all.
    Own,
    /// A member.
    Member(&'a PeerId),
    /// Some member that does not say who it is.
    Unknown,
}

impl Node {
    /// Tells the node of a collection and who may read it.
    pub fn collection_added(&mut self, spec: CollectionSpec, policy: Option<CollectionPolicy>) {
        if let Some(policy) = policy {
            self.policies.insert(spec.name.clone(), policy);
            self.persist();
        }
        self.collections.insert(spec.name.clone(), spec);
    }

    /// Tells the node that a collection is to go: it is not offered any more. Its policy stays until
    /// [`collection_gone`](Self::collection_gone), for after a crash in between the data is still
    /// there.
    pub fn collection_dropped(&mut self, name: &CollectionName) {
        self.collections.remove(name);
    }

    /// Tells the node that a dropped collection's data is gone.
    pub fn collection_gone(&mut self, name: &CollectionName) {
        // Unless one of that name was made meanwhile.
        if !self.collections.contains_key(name) && self.policies.remove(name).is_some() {
            self.persist();
        }
    }

    /// The policy of a collection.
    pub fn policy(&self, name: &CollectionName) -> CollectionPolicy {
        self.policies.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn terms_request(
        &mut self,
        now: Now,
        session: SessionId,
        exchange: ExchangeId,
        request: TermsRequest,
    ) {
        let peer = match self.authorise(now, session, &request.token, TERMS) {
            Ok(peer) => peer,
            Err(refusal) => return self.respond(exchange, Response::Refused(refusal)),
        };
        let readable = self.readable(Reader::Member(&peer), request.of.collection.as_ref());
        if readable.is_empty() {
            return self.respond(exchange, Response::Terms(TermStats::default()));
        }
        match self.start_job(Answering::Peer { exchange, peer, top_k: 0 }) {
            Ok(job) => {
                self.effect(Effect::Terms { job, collections: readable, text: request.of.text });
            }
            Err(refusal) => self.respond(exchange, Response::Refused(refusal)),
        }
    }

    pub(crate) fn search_request(
        &mut self,
        now: Now,
        session: SessionId,
        exchange: ExchangeId,
        request: SearchRequest,
    ) {
        let peer = match self.authorise(now, session, &request.token, SEARCH) {
            Ok(peer) => peer,
            Err(refusal) => return self.respond(exchange, Response::Refused(refusal)),
        };
        let SearchRequest { search, .. } = request;
        let searched = match self.searched(Reader::Member(&peer), &search) {
            Ok(searched) => searched,
            Err(refusal) => return self.respond(exchange, Response::Refused(refusal)),
        };
        if searched.is_empty() {
            // The same whether there is nothing, or nothing for this peer.
            return self.respond(exchange, Response::Answer { legs: Vec::new() });
        }
        let top_k = search.top_k as usize;
        match self.start_job(Answering::Peer { exchange, peer, top_k }) {
            Ok(job) => self.effect(search_effect(job, searched, search)),
            Err(refusal) => self.respond(exchange, Response::Refused(refusal)),
        }
    }

    /// The collections to search for a reader; none where there is nothing for it.
    pub(crate) fn searched(
        &self,
        reader: Reader<'_>,
        search: &SearchFor,
    ) -> Result<Vec<CollectionName>, Refusal> {
        let mut readable = self.readable(reader, search.collection.as_ref());
        if !search.filter.all.is_empty() {
            // A filter on what the policy keeps back would tell it, one comparison at a time.
            readable.retain(|name| self.policy(name).fields.metadata);
        }
        if readable.is_empty() {
            return Ok(readable);
        }
        let fitting = self.fitting(readable, &search.target);
        if fitting.is_empty() { Err(Refusal::Embedder) } else { Ok(fitting) }
    }

    /// The collections that somebody may read.
    pub(crate) fn readable(
        &self,
        reader: Reader<'_>,
        wanted: Option<&CollectionName>,
    ) -> Vec<CollectionName> {
        let may = |name: &CollectionName| match reader {
            Reader::Own => true,
            Reader::Member(peer) => self.policy(name).admits(peer),
            Reader::Unknown => self.policy(name).admits_unknown(),
        };
        let asked = |name: &CollectionName| wanted.is_none_or(|wanted| wanted == name);
        let names = self.collections.keys().filter(|name| asked(name) && may(name));
        names.take(COLLECTIONS_PER_QUERY_MAX).cloned().collect()
    }

    /// Those of the collections whose vectors can be compared with the query's.
    pub(crate) fn fitting(
        &self,
        names: Vec<CollectionName>,
        target: &QueryTarget,
    ) -> Vec<CollectionName> {
        let fits = |name: &CollectionName| {
            self.collections.get(name).is_some_and(|spec| {
                let model = |a: &str, b: &str| a.is_empty() || b.is_empty() || a == b;
                target.vector.is_empty()
                    || (spec.dimensions as usize == target.vector.len()
                        && model(&spec.embedder, &target.embedder))
            })
        };
        names.into_iter().filter(fits).collect()
    }

    pub(crate) fn start_job(&mut self, answering: Answering) -> Result<JobId, Refusal> {
        if self.has_room_for(answering.answers_for()) {
            Ok(self.begin_job(answering))
        } else {
            Err(Refusal::Busy)
        }
    }

    /// Whether one more search may run for a peer, or for this node's own users.
    pub(crate) fn has_room_for(&self, peer: Option<PeerId>) -> bool {
        let of_peer = |job: &&Answering| job.answers_for() == peer;
        let bounded =
            peer.is_some() && self.jobs.values().filter(of_peer).count() >= SEARCHES_PER_PEER_MAX;
        !bounded && self.jobs.len() < SEARCHES_IN_FLIGHT_MAX
    }

    /// Begins a search for which there is room.
    pub(crate) fn begin_job(&mut self, answering: Answering) -> JobId {
        let job = JobId(self.number());
        self.jobs.insert(job, answering);
        job
    }

    pub(crate) fn search_done(&mut self, now: Now, job: JobId, result: Result<Vec<Leg>, String>) {
        // What no answer can carry, an infinite score say, is said at once, not left to a timeout.
        let result = result.and_then(|legs| match legs.iter().try_for_each(Leg::check) {
            Ok(()) => Ok(legs),
            Err(error) => Err(error.to_string()),
        });
        match self.jobs.remove(&job) {
            None => {}
            Some(Answering::Own(query)) => self.own_search_done(now, query, result),
            Some(Answering::Peer { exchange, peer, top_k }) => {
                let response = match result {
                    _ if !self.is_active(&peer) => Response::Refused(Refusal::MemberRevoked),
                    Ok(legs) => Response::Answer { legs: self.released(legs, top_k) },
                    Err(_) => Response::Refused(Refusal::SearchFailed),
                };
                self.respond(exchange, response);
            }
            Some(Answering::Unknown { asked, .. }) => self.unknown_searched(now, *asked, result),
        }
    }

    pub(crate) fn terms_done(&mut self, now: Now, job: JobId, result: Result<TermStats, String>) {
        let result = result.and_then(|stats| match stats.check() {
            Ok(()) => Ok(stats),
            Err(error) => Err(error.to_string()),
        });
        match self.jobs.remove(&job) {
            None => {}
            Some(Answering::Own(query)) => self.own_terms_done(now, query, result),
            Some(Answering::Peer { exchange, peer, .. }) => {
                let response = match result {
                    _ if !self.is_active(&peer) => Response::Refused(Refusal::MemberRevoked),
                    Ok(stats) => Response::Terms(stats),
                    Err(_) => Response::Refused(Refusal::SearchFailed),
                };
                self.respond(exchange, response);
            }
            Some(Answering::Unknown { asked, .. }) => self.unknown_counted(now, *asked, result),
        }
    }

    /// What of a search's hits leaves the node: as many as each collection's policy lets, its
    /// fields, and no more bytes than an answer may have.
    pub(crate) fn released(&self, mut legs: Vec<Leg>, top_k: usize) -> Vec<Leg> {
        let mut policies: BTreeMap<CollectionName, CollectionPolicy> = BTreeMap::new();
        for leg in &mut legs {
            let mut sent = 0usize;
            leg.hits.retain_mut(|hit| {
                let policy = policies
                    .entry(hit.collection.clone())
                    .or_insert_with_key(|name| self.policy(name));
                sent += 1;
                policy.redact(&self.me, hit);
                sent <= top_k.min(policy.results_max as usize)
            });
        }
        let share = ANSWER_BYTES_MAX / legs.len().max(1);
        for leg in &mut legs {
            let mut bytes = 0usize;
            leg.hits.retain(|hit| {
                bytes = bytes.saturating_add(bytes_of(hit));
                bytes <= share
            });
        }
        legs
    }
}

/// The search as the substrate gets it.
pub(crate) fn search_effect(
    job: JobId,
    collections: Vec<CollectionName>,
    search: SearchFor,
) -> Effect {
    let search = Search {
        target: search.target,
        filter: search.filter,
        top_k: search.top_k as usize,
        terms: search.terms,
        vectors: search.vectors,
    };
    Effect::Search { job, collections, search: Box::new(search) }
}

/// Upper bound of a hit's encoding, bytes.
pub(crate) fn bytes_of(hit: &Hit) -> usize {
    use exo_types::MetadataValue::{Bool, Float, Int, List, Text};
    let metadata: usize = hit
        .metadata
        .iter()
        .map(|(key, value)| {
            key.len()
                + 16
                + match value {
                    Bool(_) | Int(_) | Float(_) => 0,
                    Text(text) => text.len(),
                    List(items) => items.iter().map(|item| item.len() + 5).sum(),
                }
        })
        .sum();
    let vector = hit.vector.as_ref().map_or(0, |vector| 4 * vector.len());
    let place = hit.collection.as_str().len() + hit.id.as_str().len();
    HIT_BYTES + place + hit.title.len().min(TITLE_BYTES_MAX) + hit.text.len() + metadata + vector
}

/// Upper bound of what a hit takes beside its texts: score, hash, and the lengths of the rest.
const HIT_BYTES: usize = 72;
