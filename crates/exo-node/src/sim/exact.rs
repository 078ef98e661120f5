//! Watching queries: each ends in time, with one report a source, and with exactly the merge of what
//! the sources that answered must have sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use exo_types::{
    FederatedResult, FederationScope, Leg, PeerId, QueryId, QuerySpec, SourceReport, SourceStatus,
    TermStats,
};

use super::data::exact;
use super::effects::WAKE_LATE_MICROS_MAX;
use super::invariant::Checker;
use super::net::HostId;
use super::world::World;
use super::{Step, Violation};
use crate::Node;
use crate::effect::{CallFailure, CallId, JobId, Search};
use crate::flow::CallKind;
use crate::flow::answer::{Answering, Reader};
use crate::merge::{SourceAnswer, merge};
use crate::wire::Response;

/// What a query brought: the reports, and the statistics it scored by.
pub(super) type Done = (BTreeMap<PeerId, SourceReport>, Option<TermStats>);

/// A query under way, as it is watched.
pub(super) struct Watched {
    spec: QuerySpec,
    due: Duration,
    sources: BTreeSet<PeerId>,
    reports: BTreeMap<PeerId, SourceReport>,
    /// The term statistics that sources were given; one query gives all the same.
    stats: Option<TermStats>,
    /// What arrived from sources that may lie.
    heard: BTreeMap<PeerId, Vec<Leg>>,
}

/// As whom an asker's query reads a source.
pub(super) fn reader<'a>(spec: &QuerySpec, source: &PeerId, asker: &'a PeerId) -> Reader<'a> {
    match spec.scope {
        _ if source == asker => Reader::Own,
        FederationScope::Global { .. } => Reader::Unknown,
        FederationScope::Local | FederationScope::Direct => Reader::Member(asker),
    }
}

impl Checker {
    pub(crate) fn asked(
        &mut self,
        h: HostId,
        id: QueryId,
        spec: QuerySpec,
        sources: &[PeerId],
        now: Duration,
    ) {
        let late = Duration::from_micros(WAKE_LATE_MICROS_MAX);
        let watched = Watched {
            due: now + spec.deadline + late,
            spec,
            sources: sources.iter().copied().collect(),
            reports: BTreeMap::new(),
            stats: None,
            heard: BTreeMap::new(),
        };
        self.queries.insert((h, id), watched);
        self.latest.insert(h, id);
    }

    /// The query that a node's user asked last.
    pub(crate) fn latest(&self, h: HostId) -> Option<QueryId> {
        self.latest.get(&h).copied()
    }

    /// What a query brought, once.
    pub(crate) fn take_done(&mut self, h: HostId, id: QueryId) -> Option<Done> {
        self.done.remove(&(h, id))
    }

    pub(crate) fn under_way(&self) -> usize {
        self.queries.len()
    }

    /// A query ends by its deadline and one tick.
    pub(crate) fn check_time(&self, now: Duration) -> Step {
        match self.queries.iter().find(|(_, watched)| watched.due < now) {
            None => Ok(()),
            Some(((h, id), watched)) => Err(Violation(format!(
                "query {id} of n{h} was due at {:?} and is not over at {now:?}",
                watched.due
            ))),
        }
    }

    /// A node searches its own data: for its own users it must use the query's statistics.
    pub(crate) fn own_search(
        &mut self,
        h: HostId,
        node: Option<&Node>,
        job: JobId,
        search: &Search,
    ) -> Step {
        match node.and_then(|node| node.jobs.get(&job)) {
            Some(Answering::Own(query)) => self.scored_by(h, *query, search.terms.as_ref()),
            _ => Ok(()),
        }
    }

    pub(super) fn scored_by(
        &mut self,
        h: HostId,
        query: QueryId,
        stats: Option<&TermStats>,
    ) -> Step {
        let Some(watched) = self.queries.get_mut(&(h, query)) else { return Ok(()) };
        match (&watched.stats, stats) {
            (Some(before), Some(now)) if before != now => {
                Err(Violation(format!("query {query} of n{h} scores by two statistics")))
            }
            (_, Some(now)) => {
                watched.stats = Some(now.clone());
                Ok(())
            }
            (_, None) if !watched.spec.target.text.is_empty() => {
                Err(Violation(format!("query {query} of n{h} searches without statistics")))
            }
            (_, None) => Ok(()),
        }
    }

    /// An answer arrives: of a source that may lie, what it says is kept.
    pub(crate) fn answer(
        &mut self,
        h: HostId,
        node: Option<&Node>,
        call: CallId,
        result: &Result<Response, CallFailure>,
    ) {
        let Ok(Response::Answer { legs }) = result else { return };
        let Some((_, CallKind::Search { query, peer })) = node.and_then(|n| n.calls.get(&call))
        else {
            return;
        };
        if self.liars.contains(peer)
            && let Some(watched) = self.queries.get_mut(&(h, *query))
            && !watched.reports.contains_key(peer)
        {
            watched.heard.insert(*peer, legs.clone());
        }
    }

    /// Each source is reported once.
    pub(crate) fn progress(&mut self, h: HostId, id: QueryId, report: &SourceReport) -> Step {
        let Some(watched) = self.queries.get_mut(&(h, id)) else {
            return Err(Violation(format!("n{h} reports on query {id}, which is over")));
        };
        if !watched.sources.contains(&report.peer) {
            return Err(Violation(format!("n{h} reports {:?}, which was not asked", report.peer)));
        }
        match watched.reports.insert(report.peer, report.clone()) {
            None => Ok(()),
            Some(_) => Err(Violation(format!("n{h} reports {:?} twice", report.peer))),
        }
    }
}

impl World {
    /// A query's end: one report a source, and exactly the merge of those that answered.
    pub(super) fn query_done(&mut self, h: HostId, id: QueryId, result: &FederatedResult) -> Step {
        let bad = |what: &str| Err(Violation(format!("query {id} of n{h}: {what}")));
        let Some(watched) = self.checker.queries.remove(&(h, id)) else {
            return bad("ended twice, or was never asked");
        };
        let reported: Vec<PeerId> = result.sources.iter().map(|report| report.peer).collect();
        let unique: BTreeSet<PeerId> = reported.iter().copied().collect();
        if unique.len() != reported.len() || unique != watched.sources {
            return bad("the reports are not one for each source");
        }
        if result.sources.iter().any(|r| watched.reports.get(&r.peer) != Some(r)) {
            return bad("the reports at the end are not those told before");
        }
        let answered = |report: &&SourceReport| report.status == SourceStatus::Answered;
        let all = result.sources.iter().all(|report| answered(&report));
        if result.complete != all {
            return bad("it says falsely whether it is complete");
        }
        self.stats.queries += 1;
        self.stats.answers += result.sources.iter().filter(answered).count() as u64;
        self.stats.other_reports += result.sources.iter().filter(|r| !answered(r)).count() as u64;
        if !self.hosts[h].honest() {
            // It changes its own questions on their way.
            return Ok(());
        }
        let peers = result.sources.iter().filter(answered).map(|report| report.peer).collect();
        self.check_results(h, &watched, peers, result)?;
        if !self.chaos {
            self.checker.done.insert((h, id), (watched.reports, watched.stats));
        }
        Ok(())
    }

    fn check_results(
        &self,
        h: HostId,
        watched: &Watched,
        answered: Vec<PeerId>,
        result: &FederatedResult,
    ) -> Step {
        let bad = |what: String| Err(Violation(format!("a query of n{h}: {what}")));
        let asker = self.hosts[h].peer;
        let mut answers = Vec::new();
        let mut lied = false;
        for peer in answered {
            let Some(source) = self.hosts.iter().find(|host| host.peer == peer) else { continue };
            let by = reader(&watched.spec, &peer, &asker);
            let legs = match watched.heard.get(&peer) {
                Some(heard) => {
                    lied = true;
                    heard.clone()
                }
                None => match source.data.answer(by, &watched.spec, watched.stats.as_ref()) {
                    Some(legs) => legs,
                    None => {
                        return bad(format!("{peer:?} answered though it has nothing to compare"));
                    }
                },
            };
            answers.push((peer, legs));
        }
        if lied {
            return self.check_with_liars(h, answers, watched.spec.top_k, result);
        }
        let expected = exact(&answers, watched.spec.top_k);
        let same = expected.len() == result.results.len()
            && expected.iter().zip(&result.results).all(|(wanted, got)| {
                let also: BTreeSet<_> =
                    got.also.iter().map(|p| (p.peer, p.collection.clone(), p.id.clone())).collect();
                let from = &got.from;
                (wanted.peer, &wanted.id, &wanted.collection)
                    == (from.peer, &from.id, &from.collection)
                    && (wanted.score - got.score).abs() < 1e-9
                    && wanted.also == also
                    && also.len() == got.also.len()
            });
        if same {
            return Ok(());
        }
        let got: Vec<_> = result.results.iter().map(|r| (&r.from, r.score, &r.also)).collect();
        bad(format!("the merge is not exact: expected {expected:?}, got {got:?}"))
    }

    /// With a liar among the sources the answer is still the merge of what was sent.
    fn check_with_liars(
        &self,
        h: HostId,
        answers: Vec<(PeerId, Vec<Leg>)>,
        top_k: usize,
        result: &FederatedResult,
    ) -> Step {
        let named = |peer: &PeerId| self.hosts.iter().find(|host| host.peer == *peer);
        let answers = answers.into_iter().filter_map(|(peer, legs)| {
            let source = named(&peer)?.name.clone();
            Some(SourceAnswer { peer, source, legs })
        });
        let merged = merge(answers.collect(), top_k);
        let place = |hit: &exo_types::FederatedHit| (hit.from.clone(), hit.score.to_bits());
        if merged.iter().map(place).eq(result.results.iter().map(place)) {
            return Ok(());
        }
        Err(Violation(format!("a query of n{h} with a liar is not the merge of what was sent")))
    }
}
