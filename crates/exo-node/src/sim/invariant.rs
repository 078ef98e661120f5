//! What must hold whatever happens, checked as it happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use exo_types::{
    Epoch, FederatedResult, Leg, PeerId, QueryId, QuerySpec, SourceReport, SourceStatus, TermStats,
    Timestamp, TokenId,
};

use super::data::exact;
use super::effects::WAKE_LATE_MICROS_MAX;
use super::host::{Host, Role};
use super::net::{Exchange, HostId, Stream};
use super::world::World;
use super::{Step, Violation};
use crate::Node;
use crate::effect::{CallFailure, CallId, JobId, Search};
use crate::flow::CallKind;
use crate::flow::answer::Answering;
use crate::merge::{SourceAnswer, merge};
use crate::roster::Standing;
use crate::wire::{Request, Response};

/// A query under way, as it is watched.
struct Watched {
    spec: QuerySpec,
    due: Duration,
    sources: BTreeSet<PeerId>,
    reports: BTreeMap<PeerId, SourceReport>,
    /// The term statistics that sources were given; one query gives all the same.
    stats: Option<TermStats>,
    /// What arrived from sources that may lie.
    heard: BTreeMap<PeerId, Vec<Leg>>,
}

/// A token that an honest node signed.
struct Issued {
    by: HostId,
    life: u32,
    holder: PeerId,
    epoch: Epoch,
    issued: Timestamp,
    /// Revoked by a node that had lost count of it: it restarted since, and its clock was set back.
    uncounted: bool,
}

/// What is remembered in order to check.
pub(crate) struct Checker {
    peers: Vec<PeerId>,
    liars: BTreeSet<PeerId>,
    queries: BTreeMap<(HostId, QueryId), Watched>,
    issued: BTreeMap<TokenId, Issued>,
    /// Who may have been admitted: everybody else must never hear anything.
    invited: BTreeSet<PeerId>,
    /// Highest epoch that each node had in force.
    epochs: Vec<Option<Epoch>>,
    /// Who was told by the founder that it is a member.
    told: BTreeSet<PeerId>,
    /// The query that each node's user asked last, and what it brought.
    latest: BTreeMap<HostId, QueryId>,
    done: BTreeMap<(HostId, QueryId), Done>,
}

/// What a query brought: the reports, and the statistics it scored by.
type Done = (BTreeMap<PeerId, SourceReport>, Option<TermStats>);

impl Checker {
    pub(crate) fn new(hosts: &[Host]) -> Self {
        Self {
            peers: hosts.iter().map(|host| host.peer).collect(),
            liars: hosts.iter().filter(|h| h.role == Role::Liar).map(|h| h.peer).collect(),
            queries: BTreeMap::new(),
            issued: BTreeMap::new(),
            invited: hosts.first().map(|host| host.peer).into_iter().collect(),
            epochs: vec![None; hosts.len()],
            told: BTreeSet::new(),
            latest: BTreeMap::new(),
            done: BTreeMap::new(),
        }
    }

    /// A node may become a member from now on.
    pub(crate) fn invited(&mut self, h: HostId) {
        self.invited.insert(self.peers[h]);
    }

    /// A node's user has revoked every token of a holder, and that is saved.
    pub(crate) fn tokens_revoked(&mut self, at: &Host, now: Duration, holder: PeerId) {
        let wall = at.now(now).wall;
        self.issued.retain(|_, issued| {
            let of_these = issued.by == at.id && issued.holder == holder;
            issued.uncounted |= of_these && issued.life != at.life && issued.issued > wall;
            !of_these || issued.uncounted
        });
    }

    /// Whether a peer that shows a token is entitled to an answer in this epoch.
    pub(crate) fn entitles(
        &self,
        at: HostId,
        holder: PeerId,
        token: &TokenId,
        epoch: Epoch,
    ) -> bool {
        self.issued.get(token).is_some_and(|issued| {
            issued.by == at
                && issued.holder == holder
                && (issued.epoch == epoch || issued.uncounted)
        })
    }

    /// A node is gone, and its users' queries with it.
    pub(crate) fn gone(&mut self, h: HostId) {
        self.queries.retain(|(of, _), _| *of != h);
    }

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

    fn scored_by(&mut self, h: HostId, query: QueryId, stats: Option<&TermStats>) -> Step {
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
            let by = (peer != asker).then_some(&asker);
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

    /// Before a request leaves: it goes to somebody who may see it, and says nothing that a crash
    /// would take back.
    pub(super) fn check_call(&mut self, h: HostId, stream: Stream, request: &Request) -> Step {
        let Some(to) = self.net.end(stream.conn, stream.asker.other()).map(|end| end.host) else {
            return Ok(());
        };
        let bad = |what: &str| Err(Violation(format!("n{h} asks n{to}: {what}")));
        let disk = self.hosts[h].disk.read()?;
        let epoch = match request {
            Request::Hello(hello) => Some(hello.epoch),
            Request::Notify { epoch } => Some(*epoch),
            Request::Sync(sync) => Some(sync.epoch),
            Request::JoinReveal { .. } if !disk.waits => {
                return bad("its nonce is revealed before it is saved that it waits");
            }
            _ => None,
        };
        if epoch.is_some_and(|epoch| disk.epoch.is_none_or(|saved| epoch > saved)) {
            return bad("it tells an epoch that it has not saved");
        }
        if let Request::Search(search) = request
            && let Some(node) = &self.hosts[h].node
            && let Some((_, CallKind::Search { query, .. })) = node.calls.get(&stream.call)
        {
            self.checker.scored_by(h, *query, search.terms.as_ref())?;
        }
        let for_joining = matches!(
            request,
            Request::JoinStart(_) | Request::JoinReveal { .. } | Request::JoinPoll
        );
        if !for_joining && self.standing_at(h, to) != Standing::Active {
            return bad("it is no member there, and is asked as one");
        }
        Ok(())
    }

    fn standing_at(&self, h: HostId, peer: HostId) -> Standing {
        let node = self.hosts[h].node.as_ref();
        node.map_or(Standing::Unknown, |node| node.standing(&self.hosts[peer].peer))
    }

    /// Before an answer leaves: only members hear anything, by tokens that are theirs, and what is
    /// told is saved.
    pub(super) fn check_respond(
        &mut self,
        h: HostId,
        known: &Exchange,
        response: &Response,
    ) -> Step {
        let Some(to) = self.net.end(known.stream.conn, known.stream.asker).map(|end| end.host)
        else {
            return Ok(());
        };
        let bad = |what: &str| Err(Violation(format!("n{h} answers n{to}: {what}")));
        let (peer, disk) = (self.hosts[to].peer, self.hosts[h].disk.read()?);
        let for_members = matches!(
            response,
            Response::Welcome(_)
                | Response::Token(_)
                | Response::Synced(_)
                | Response::Terms(_)
                | Response::Answer { .. }
                | Response::JoinApproved(_)
        );
        if for_members && self.standing_at(h, to) != Standing::Active {
            return bad("it is no member there, and is answered as one");
        }
        let epoch =
            self.hosts[h].node.as_ref().and_then(|n| Some(n.membership.as_ref()?.roster.epoch));
        let told = match response {
            Response::Welcome(welcome) => {
                self.issued(h, peer, &welcome.token)?;
                Some(welcome.epoch)
            }
            Response::Token(token) => {
                self.issued(h, peer, token)?;
                None
            }
            Response::Synced(synced) if synced.roster.is_some() => epoch,
            Response::JoinApproved(_) => {
                if !disk.active.contains(&peer) {
                    return bad("it is told that it is a member before that is saved");
                }
                self.checker.told.insert(peer);
                epoch
            }
            Response::JoinPending if !disk.joiners.contains(&peer) => {
                return bad("it is told that it waits before that is saved");
            }
            Response::JoinChallenge(_) if !disk.invited.contains(&peer) => {
                return bad("its invite is used before that is saved");
            }
            Response::Answer { .. } | Response::Terms(_) if !known.entitled => {
                return bad("it is answered by a token that is not good");
            }
            _ => None,
        };
        if told.is_some_and(|epoch| disk.epoch.is_none_or(|saved| epoch > saved)) {
            return bad("it is told an epoch that is not saved");
        }
        Ok(())
    }

    fn issued(
        &mut self,
        h: HostId,
        holder: PeerId,
        token: &exo_crypto::Signed<crate::token::FederationToken>,
    ) -> Step {
        let token = token.claimed().map_err(|error| Violation(format!("a token: {error}")))?;
        if (token.holder, token.audience) != (holder, self.hosts[h].peer) {
            return Err(Violation(format!("n{h} gives {holder:?} a token that is not its own")));
        }
        let life = self.hosts[h].life;
        let (epoch, issued) = (token.epoch, token.issued);
        let issued = Issued { by: h, life, holder, epoch, issued, uncounted: false };
        self.checker.issued.insert(token.id, issued);
        self.knowledge.token(token.id);
        Ok(())
    }

    /// When an answer arrives: who was never invited must never hear what is for members.
    pub(super) fn check_heard(&self, h: HostId, stream: Stream, response: &Response) -> Step {
        let from = self.net.end(stream.conn, stream.asker.other()).map(|end| end.host);
        let honest = from.is_some_and(|from| self.hosts[from].honest());
        let secret = matches!(
            response,
            Response::Welcome(_)
                | Response::Token(_)
                | Response::Synced(_)
                | Response::Terms(_)
                | Response::Answer { .. }
                | Response::JoinApproved(_)
        );
        if honest && secret && !self.checker.invited.contains(&self.hosts[h].peer) {
            return Err(Violation(format!("n{h}, never invited, hears {response:?}")));
        }
        Ok(())
    }

    /// After a restart: who was told to be a member still is, unless it was removed since.
    pub(super) fn check_restarted(&mut self, h: HostId) -> Step {
        let disk = self.hosts[h].disk.read()?;
        self.checker.epochs[h] = disk.epoch;
        if h != super::people::FOUNDER {
            return Ok(());
        }
        let kept = |peer: &&PeerId| disk.active.contains(*peer) || disk.revoked.contains(*peer);
        match self.checker.told.iter().find(|peer| !kept(peer)) {
            None => Ok(()),
            Some(peer) => {
                Err(Violation(format!("{peer:?} was told that it is a member, and is not")))
            }
        }
    }

    /// After every step of a node: its maps are bounded, its epoch does not go back, and nobody is
    /// ahead of what the founder has saved.
    pub(super) fn check_load(&mut self, h: HostId) -> Step {
        let Some(node) = &self.hosts[h].node else { return Ok(()) };
        let load = node.load();
        let peers = self.hosts.len();
        let bad = |what: &str| Err(Violation(format!("n{h} holds too many {what}: {load:?}")));
        // As many again may be on their way out.
        if load.sessions > 2 * peers * exo_types::limits::SESSIONS_PER_PEER_MAX {
            return bad("sessions");
        }
        if load.calls > 64 + load.queries * peers * 2 + load.sessions * 8 {
            return bad("calls");
        }
        if load.timers > 2 + 3 * load.queries + load.links + load.sessions {
            return bad("timers");
        }
        if load.effects > 0 && !self.hosts[h].broken {
            return bad("effects");
        }
        let epoch = node.membership.as_ref().map(|membership| membership.roster.epoch);
        let before = self.checker.epochs[h];
        // A node that joins anew has none for a while.
        if epoch.is_some() && epoch < before {
            return Err(Violation(format!("n{h} goes back from epoch {before:?} to {epoch:?}")));
        }
        self.checker.epochs[h] = epoch;
        let founder = self.hosts[super::people::FOUNDER].disk.read()?.epoch;
        if h != super::people::FOUNDER && epoch > founder {
            return Err(Violation(format!(
                "n{h} has epoch {epoch:?}, the founder saved {founder:?}"
            )));
        }
        Ok(())
    }
}
