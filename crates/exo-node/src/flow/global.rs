//! Asking through relays: each source by packets of its own over paths of its own, until one brings an
//! answer that the source signed.

use std::time::Duration;

use exo_onion::{PathError, ReplyClass, ReplyError, ReplyFailure, ReplyOutcome};
use exo_types::limits::ONION_ATTEMPTS_MAX;
use exo_types::{
    CodecError, Now, PeerId, QueryId, QuerySpec, SignedAnswer, SourceStatus, TermStats, Wire,
};

use crate::Node;
use crate::effect::{CallFailure, CallId};
use crate::flow::CallKind;
use crate::flow::link::Link;
use crate::flow::query::{Phase, QueryError, Source, search_for, terms_of};
use crate::flow::route::{Parcel, Sent};
use crate::merge::lie;
use crate::node::Timer;
use crate::question::{Question, Reply};
use crate::wire::Response;

/// How the packets of a query travel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// Members on each path, the source the last.
    pub(crate) hops: usize,
    /// Mean time for which each holds a packet back.
    pub(crate) mix: Duration,
    /// How long a reply is waited for before another packet is sent as well.
    pub(crate) patience: Duration,
}

impl Route {
    pub(crate) fn new(spec: &QuerySpec, max_hops: u8) -> Self {
        let hops = usize::from(max_hops);
        // Three times the mean covers 95 in 100 of each member's delays.
        let held = spec.mix * (3 * u32::from(max_hops));
        let patience = (spec.deadline / 8).clamp(PATIENCE_MIN, PATIENCE_MAX) + held;
        Self { hops, mix: spec.mix, patience }
    }
}

/// What became of a packet.
enum Outcome {
    /// Its source answered.
    Reply(Reply),
    /// Its source does not answer, and says so.
    Failure(ReplyFailure),
    /// A member on the way gave up, or the reply is of no use: another path may help.
    Lost(&'static str),
    /// Neither a relay nor this node reaches its source.
    Gone,
    /// Nothing, or too late to be of use.
    Nothing,
}

impl Node {
    /// Whether some source can be asked so at all, before a query begins.
    pub(super) fn check_route(
        &mut self,
        now: Now,
        spec: &QuerySpec,
        route: Route,
    ) -> Result<(), QueryError> {
        let asked = question(spec, Phase::Search, None).and(match spec.target.text.is_empty() {
            true => Ok(Vec::new()),
            false => question(spec, Phase::Terms, None),
        });
        asked.map_err(QueryError::TooLong)?;
        let mut none = None;
        for peer in self.other_members() {
            match self.path_to(now, peer, route.hops, &Default::default()) {
                Ok(_) => return Ok(()),
                Err(error) => none = Some(error),
            }
        }
        match none {
            Some(error) => Err(QueryError::NoPath { hops: route.hops, error }),
            None => Ok(()),
        }
    }

    /// Sends a source the question in a packet, over a path that none of its packets has taken.
    pub(super) fn ask_unknown(&mut self, now: Now, id: QueryId, peer: PeerId) {
        let Some(query) = self.queries.get(&id) else { return };
        let (Some(route), Some(source)) = (query.route, query.sources.get(&peer)) else { return };
        let (phase, tried, large) = (query.phase, source.tried.clone(), source.large);
        let terms = query.terms();
        let content = question(&query.spec, phase, terms.as_ref())
            // Statistics that make it too long for a packet are done without.
            .or_else(|_| question(&query.spec, phase, None));
        let top_k = query.spec.top_k;
        let left = query.deadline.saturating_sub(now.mono);
        let path = self.path_to(now, peer, route.hops, &tried);
        let (content, path) = match (content, path) {
            (Ok(content), Ok(path)) => (content, path),
            (Err(error), _) => return self.not_sent(now, id, peer, phase, error.to_string()),
            (_, Err(error)) => {
                return self.not_sent(now, id, peer, phase, no_path(route.hops, error));
            }
        };
        let parcel = Parcel {
            content: Some(&content),
            reply: if large { ReplyClass::Large } else { reply_class(phase, top_k) },
            mix: route.mix,
            kind: CallKind::Question { query: id, peer, phase },
            timeout: left,
        };
        let relays = path.split_last().map(|(_, relays)| relays.to_vec()).unwrap_or_default();
        match self.send_packet(now, path, &parcel) {
            Ok(session) => {
                if let Some(source) = self.source_mut(id, peer) {
                    source.asked = Some((session, now.mono));
                    source.attempts += 1;
                    source.tried.extend(relays);
                }
            }
            Err(error) => self.not_sent(now, id, peer, phase, error.to_string()),
        }
    }

    fn source_mut(&mut self, id: QueryId, peer: PeerId) -> Option<&mut Source> {
        self.queries.get_mut(&id)?.sources.get_mut(&peer)
    }

    /// No packet left. Unless an earlier one may still bring an answer, that is how it ends.
    fn not_sent(&mut self, now: Now, id: QueryId, peer: PeerId, phase: Phase, detail: String) {
        if !self.is_on_its_way(id, peer, phase) {
            self.settle(now, id, peer, SourceStatus::Unreachable, detail, Vec::new());
        }
    }

    fn is_on_its_way(&self, id: QueryId, peer: PeerId, phase: Phase) -> bool {
        let kind = CallKind::Question { query: id, peer, phase };
        self.calls.values().any(|(_, of)| *of == kind)
    }

    /// A packet's reply has come, or will not.
    pub(crate) fn question_answer(
        &mut self,
        now: Now,
        call: CallId,
        (id, peer, phase): (QueryId, PeerId, Phase),
        result: Result<Response, CallFailure>,
    ) {
        let Some(sent) = self.sent.remove(&call) else { return };
        let (hash, class) = (sent.question, sent.keys.class());
        let outcome = self.open_reply(now, sent, peer, result);
        let open = self
            .queries
            .get(&id)
            .is_some_and(|query| query.phase == phase && query.open().any(|owing| owing == peer));
        if !open {
            return;
        }
        match outcome {
            Outcome::Reply(reply) => {
                self.question_replied(now, id, peer, (phase, hash, class), reply);
            }
            Outcome::Failure(failure) => {
                let (status, detail) = refused(failure);
                self.settle(now, id, peer, status, detail.to_owned(), Vec::new());
            }
            Outcome::Lost(why) => self.lost(now, id, peer, phase, why),
            Outcome::Gone => {
                let detail = "neither a relay nor this node reaches it".to_owned();
                self.settle(now, id, peer, SourceStatus::Unreachable, detail, Vec::new());
            }
            Outcome::Nothing => {}
        }
        self.advance(now, id);
    }

    /// Opens a reply, and takes note of who on its path is to be doubted.
    fn open_reply(
        &mut self,
        now: Now,
        mut sent: Sent,
        target: PeerId,
        result: Result<Response, CallFailure>,
    ) -> Outcome {
        let relays: Vec<PeerId> = sent.path.iter().copied().filter(|p| *p != target).collect();
        let chunks = match result {
            Ok(Response::Onion(chunks)) => chunks,
            Ok(Response::Refused(refusal)) if refusal.wants_fresh_token() => {
                // A token of an epoch that has ended, as a rule: the next packet finds a new one.
                if let Some((session, _)) = sent.path.first().and_then(|peer| self.way_to(peer)) {
                    self.ask_token(session);
                }
                return Outcome::Nothing;
            }
            Err(CallFailure::Timeout) => return Outcome::Nothing,
            Ok(_) | Err(CallFailure::Lost | CallFailure::Garbage) => {
                self.doubt(now, relays.first().copied());
                return Outcome::Lost("the first member on the path gave up without a word");
            }
        };
        let (reply, from) = match open(&mut sent, chunks) {
            Ok(Some(reply)) => (reply.outcome, reply.from),
            Err(ReplyError::Malformed(from)) if from == target => {
                return Outcome::Failure(ReplyFailure::Failed);
            }
            Err(ReplyError::Malformed(from)) => {
                self.doubt(now, [from]);
                return Outcome::Lost("a relay said what is not a relay's to say");
            }
            Ok(None) | Err(_) => {
                // Whoever altered it may be behind the first relay, and must not drive this node from it.
                self.doubt(now, relays.into_iter().skip(1));
                return Outcome::Lost("the reply was altered or cut short on its way");
            }
        };
        if from == target {
            self.trust(&sent.path);
            return match reply {
                ReplyOutcome::Answer(bytes) => match Reply::from_wire(&bytes) {
                    Ok(reply) => Outcome::Reply(reply),
                    Err(_) => Outcome::Failure(ReplyFailure::Failed),
                },
                ReplyOutcome::Failure(failure) => Outcome::Failure(failure),
            };
        }
        let at = sent.path.iter().position(|peer| *peer == from);
        let next = at.and_then(|at| sent.path.get(at + 1)).copied();
        // Who gave up because of the next one is not itself to be doubted.
        let culprit = match reply {
            ReplyOutcome::Failure(ReplyFailure::Unreachable) if next == Some(target) => {
                if self.links.get(&target).is_some_and(Link::is_down) {
                    return Outcome::Gone;
                }
                None
            }
            ReplyOutcome::Failure(ReplyFailure::Unreachable) => next,
            _ => Some(from),
        };
        self.doubt(now, culprit);
        Outcome::Lost("a relay could not go on")
    }

    fn question_replied(
        &mut self,
        now: Now,
        id: QueryId,
        peer: PeerId,
        (phase, hash, class): (Phase, [u8; 32], ReplyClass),
        reply: Reply,
    ) {
        let failed = |detail: &str| (SourceStatus::Failed, detail.to_owned());
        let (status, detail) = match (phase, reply) {
            (_, Reply::Refused(refusal)) => (refusal.status(), refusal.to_string()),
            (Phase::Terms, Reply::Terms(stats)) => {
                if let Some(query) = self.queries.get_mut(&id) {
                    query.count(peer, Some((&stats, 1)));
                }
                return;
            }
            (Phase::Search, Reply::Answer(signed)) => {
                let key = self.membership.as_ref().and_then(|m| m.roster.member(&peer));
                let answer = key.and_then(|member| signed.verify(&member.key).ok());
                let spec = self.queries.get(&id).map(|query| &query.spec);
                match (answer, spec) {
                    (Some(answer), Some(spec)) if answer.question == hash => {
                        match lie(&answer.legs, &spec.target, spec.top_k) {
                            None => {
                                let signed = signed.to_wire().ok().map(SignedAnswer);
                                let trimmed = answer.trimmed && class != ReplyClass::Large;
                                let answer = answer.into_inner();
                                return match trimmed && self.may_ask_for_more(id, peer) {
                                    true => self.ask_for_more(now, id, peer, answer, signed),
                                    false => self.signed_answer(now, id, peer, answer, signed),
                                };
                            }
                            Some(what) => failed(what),
                        }
                    }
                    (Some(_), _) => failed("its answer is to another question"),
                    (None, _) => failed("its signature on the answer does not hold"),
                }
            }
            (_, _) => failed("it answered something else"),
        };
        self.settle(now, id, peer, status, detail, Vec::new());
    }

    fn signed_answer(
        &mut self,
        now: Now,
        id: QueryId,
        peer: PeerId,
        answer: crate::question::AnswerSet,
        signed: Option<SignedAnswer>,
    ) {
        if let Some(source) = self.source_mut(id, peer) {
            source.signed = signed;
        }
        let detail = if answer.trimmed { TRIMMED } else { "" };
        self.settle(now, id, peer, SourceStatus::Answered, detail.to_owned(), answer.legs);
    }

    /// Whether a packet is left to ask a source once more.
    fn may_ask_for_more(&self, id: QueryId, peer: PeerId) -> bool {
        let source = self.queries.get(&id).and_then(|query| query.sources.get(&peer));
        source.is_some_and(|source| source.attempts < ONION_ATTEMPTS_MAX)
    }

    /// An answer was cut short for want of room: asks for it in the longest reply. Should none come,
    /// there is this one.
    fn ask_for_more(
        &mut self,
        now: Now,
        id: QueryId,
        peer: PeerId,
        answer: crate::question::AnswerSet,
        signed: Option<SignedAnswer>,
    ) {
        if let Some(source) = self.source_mut(id, peer) {
            source.large = true;
            source.legs = answer.legs;
            source.signed = signed;
            self.ask_unknown(now, id, peer);
        }
    }

    /// A packet came to nothing: another one over another path, at once or after a pause, or the end.
    fn lost(&mut self, now: Now, id: QueryId, peer: PeerId, phase: Phase, why: &str) {
        let source = self.queries.get(&id).and_then(|query| query.sources.get(&peer));
        let attempts = source.map_or(ONION_ATTEMPTS_MAX, |source| source.attempts);
        if attempts < AT_ONCE {
            self.ask_unknown(now, id, peer);
        } else if attempts >= ONION_ATTEMPTS_MAX && !self.is_on_its_way(id, peer, phase) {
            let detail = format!("{attempts} packets over different paths: {why}");
            self.settle(now, id, peer, SourceStatus::Unreachable, detail, Vec::new());
        }
    }

    /// Sources that have not answered for a while are asked once more, over another path. Whichever
    /// reply is first counts.
    pub(super) fn hedge_unknown(&mut self, now: Now, id: QueryId) {
        let Some(query) = self.queries.get(&id) else { return };
        let Some(route) = query.route else { return };
        let owes = |peer: &PeerId| {
            let asked =
                query.sources.get(peer).filter(|s| s.attempts < ONION_ATTEMPTS_MAX)?.asked?;
            (now.mono.saturating_sub(asked.1) >= route.patience).then_some(*peer)
        };
        let late: Vec<PeerId> =
            query.open().filter(|p| *p != self.me).filter_map(|p| owes(&p)).collect();
        if !late.is_empty() {
            self.doubt_silent(now, id, route);
            for peer in late {
                self.ask_unknown(now, id, peer);
            }
            // Those that the new paths begin with are to be judged by then as well.
            self.probe_first(id);
        }
        let at = now.mono + route.patience;
        if let Some(query) = self.queries.get_mut(&id)
            && at < query.deadline
        {
            query.timers.push((at, Timer::Hedge(id)));
            self.set_timer(at, Timer::Hedge(id));
        }
        self.advance(now, id);
    }

    /// Doubts the relays whose replies are overdue: the first of a path where it has said nothing at all
    /// since, otherwise those behind it.
    fn doubt_silent(&mut self, now: Now, id: QueryId, route: Route) {
        let mut silent = Vec::new();
        for (call, (_, kind)) in &self.calls {
            let CallKind::Question { query, peer, .. } = kind else { continue };
            let Some(sent) = self.sent.get(call).filter(|_| *query == id) else { continue };
            if now.mono.saturating_sub(sent.at) < route.patience {
                continue;
            }
            let mut relays = sent.path.iter().filter(|relay| *relay != peer);
            let Some(first) = relays.next() else { continue };
            // Behind one that is silent itself nobody can be told from it: with all of them in doubt none
            // would be, and the next path might begin at the same one.
            if self.links.get(first).is_some_and(|link| link.last_heard > sent.at) {
                silent.extend(relays);
            } else {
                silent.push(*first);
            }
        }
        self.doubt(now, silent);
    }
}

/// The question as it is put into a packet.
fn question(
    spec: &QuerySpec,
    phase: Phase,
    terms: Option<&TermStats>,
) -> Result<Vec<u8>, CodecError> {
    let question = match phase {
        Phase::Terms => Question::Terms(terms_of(spec)),
        Phase::Search => Question::Search(Box::new(search_for(spec, terms.cloned()))),
    };
    question.to_wire()
}

/// The reply to ask for first. A rule that is the same for everybody: one that followed from former
/// answers would be a mark by which this asker is known again.
fn reply_class(phase: Phase, top_k: usize) -> ReplyClass {
    match phase {
        Phase::Search if top_k > MEDIUM_TOP_K_MAX => ReplyClass::Large,
        Phase::Search | Phase::Terms => ReplyClass::Medium,
    }
}

fn open(sent: &mut Sent, mut chunks: Vec<u8>) -> Result<Option<exo_onion::Reply>, ReplyError> {
    let mut reply = None;
    for chunk in chunks.chunks_mut(sent.keys.class().chunk_bytes()) {
        reply = sent.keys.open(chunk)?;
    }
    Ok(reply)
}

fn refused(failure: ReplyFailure) -> (SourceStatus, &'static str) {
    match failure {
        ReplyFailure::Busy => (SourceStatus::Declined, "the node works at its bound"),
        ReplyFailure::Denied => (SourceStatus::Declined, "it does not answer who is unknown"),
        ReplyFailure::Malformed => (SourceStatus::Failed, "it did not understand the question"),
        _ => (SourceStatus::Failed, "it could not answer"),
    }
}

fn no_path(hops: usize, error: PathError) -> String {
    format!("no path of {hops} members: {error}")
}

pub(super) const TRIMMED: &str = "its reply had no room for everything";
/// Results for which the middle reply is tried first.
const MEDIUM_TOP_K_MAX: usize = 10;
/// Packets that follow each other without a pause.
const AT_ONCE: u8 = 2;
/// How long a reply is waited for: an eighth of the deadline within these bounds.
const PATIENCE_MIN: Duration = Duration::from_millis(100);
/// See [`PATIENCE_MIN`].
const PATIENCE_MAX: Duration = Duration::from_secs(2);
