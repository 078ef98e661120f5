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
use crate::policy::CollectionPolicy;
use crate::refusal::Refusal;
use crate::wire::{Response, SearchRequest, TermsRequest};

/// A search under way in this node's own data, and for whom.
#[derive(Debug)]
pub(crate) enum Answering {
    /// For a query of this node's own users.
    Own(QueryId),
    /// For a peer.
    Peer { exchange: ExchangeId, peer: PeerId, top_k: usize },
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
        let readable = self.readable(Some(&peer), request.collection.as_ref());
        if readable.is_empty() {
            return self.respond(exchange, Response::Terms(TermStats::default()));
        }
        match self.start_job(Some(peer), Answering::Peer { exchange, peer, top_k: 0 }) {
            Ok(job) => {
                self.effect(Effect::Terms { job, collections: readable, text: request.text });
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
        let mut readable = self.readable(Some(&peer), request.collection.as_ref());
        if !request.filter.all.is_empty() {
            // A filter on what the policy keeps back would tell it, one comparison at a time.
            readable.retain(|name| self.policy(name).fields.metadata);
        }
        if readable.is_empty() {
            // The same whether there is nothing, or nothing for this peer.
            return self.respond(exchange, Response::Answer { legs: Vec::new() });
        }
        let fitting = self.fitting(readable, &request.target);
        if fitting.is_empty() {
            return self.respond(exchange, Response::Refused(Refusal::Embedder));
        }
        let top_k = request.top_k as usize;
        match self.start_job(Some(peer), Answering::Peer { exchange, peer, top_k }) {
            Ok(job) => {
                let search = Search {
                    target: request.target,
                    filter: request.filter,
                    top_k,
                    terms: request.terms,
                    vectors: request.vectors,
                };
                let search = Box::new(search);
                self.effect(Effect::Search { job, collections: fitting, search });
            }
            Err(refusal) => self.respond(exchange, Response::Refused(refusal)),
        }
    }

    /// The collections a peer may read; this node's own users (`None`) read all.
    pub(crate) fn readable(
        &self,
        peer: Option<&PeerId>,
        wanted: Option<&CollectionName>,
    ) -> Vec<CollectionName> {
        let may = |name: &CollectionName| peer.is_none_or(|peer| self.policy(name).admits(peer));
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

    pub(crate) fn start_job(
        &mut self,
        peer: Option<PeerId>,
        answering: Answering,
    ) -> Result<JobId, Refusal> {
        let of_peer = |job: &&Answering| match job {
            Answering::Peer { peer: of, .. } => Some(*of) == peer,
            Answering::Own(_) => peer.is_none(),
        };
        let bounded =
            peer.is_some() && self.jobs.values().filter(of_peer).count() >= SEARCHES_PER_PEER_MAX;
        if bounded || self.jobs.len() >= SEARCHES_IN_FLIGHT_MAX {
            return Err(Refusal::Busy);
        }
        let job = JobId(self.number());
        self.jobs.insert(job, answering);
        Ok(job)
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
        }
    }

    /// What of a search's hits leaves the node: as many as each collection's policy lets, its
    /// fields, and no more bytes than an answer may have.
    fn released(&self, mut legs: Vec<Leg>, top_k: usize) -> Vec<Leg> {
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

/// Upper bound of a hit's encoding, bytes.
fn bytes_of(hit: &Hit) -> usize {
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
    512 + hit.title.len().min(TITLE_BYTES_MAX) + hit.text.len() + metadata + vector
}
