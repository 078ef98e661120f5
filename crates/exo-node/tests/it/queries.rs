//! The asking side, with sessions that come and go.

use std::time::Duration;

use exo_node::effect::{CallFailure, Input, Purpose};
use exo_node::policy::{CollectionPolicy, Readers};
use exo_node::wire::{Request, Response};
use exo_types::{
    CollectionName, ContentHash, FederationScope, Hit, Leg, LegKind, Metric, QuerySpec,
    QueryTarget, RecordId, ScoreScale, SourceStatus,
};

use crate::wires::{Pending, Wires};

fn by_vector() -> QuerySpec {
    QuerySpec::new(FederationScope::Direct, QueryTarget::vector(vec![1.0, 0.0]))
}

fn searches(what: &Pending) -> bool {
    matches!(what, Pending::Request { request: Request::Search(_), .. })
}

#[test]
fn a_question_put_again_over_a_new_session_outlives_the_old_one() {
    let mut wires = Wires::federation(2);
    let old = wires.session(0, 1).expect("a session");
    wires.pass(Duration::from_secs(6));
    wires.drive(0, |node, now| node.query(now, by_vector())).expect("asks");
    // The old session carries nothing any more; the peer comes over a new one.
    wires.run_but(searches);
    wires.connect(1, 0, Purpose::Member);
    wires.run_but(searches);
    let asked = wires.pending.iter().filter(|what| searches(what)).count();
    assert_eq!(asked, 2, "the question is put again: {:?}", wires.pending);
    wires.end(0, old, None);
    wires.run();
    let result = wires.hosts[0].done.last().expect("the query ends");
    let of_peer = result.sources.iter().find(|report| report.peer == wires.peer(1));
    let of_peer = of_peer.expect("is reported");
    assert_eq!(of_peer.status, SourceStatus::Answered, "{}", of_peer.detail);
}

fn leg(kind: LegKind, scale: ScoreScale) -> Leg {
    let hit = Hit {
        collection: CollectionName::new("notes").expect("a name"),
        id: RecordId::new("r").expect("an id"),
        score: 1.0,
        content: ContentHash([1; 32]),
        title: String::new(),
        text: String::new(),
        metadata: Default::default(),
        vector: None,
    };
    Leg { kind, scale, hits: vec![hit] }
}

/// What a source is reported as when it answers with these lists.
fn reported(spec: QuerySpec, legs: Vec<Leg>) -> SourceStatus {
    let mut wires = Wires::federation(2);
    wires.drive(0, |node, now| node.query(now, spec)).expect("asks");
    wires.run_but(searches);
    let place = wires.pending.iter().position(searches).expect("the peer is asked");
    let Some(Pending::Request { from, call, .. }) = wires.pending.remove(place) else {
        panic!("a request was found");
    };
    wires.input(from, Input::Response { call, result: Ok(Response::Answer { legs }) });
    wires.run();
    let result = wires.hosts[0].done.last().expect("the query ends");
    let report = result.sources.iter().find(|report| report.peer == wires.peer(1));
    report.expect("is reported").status
}

#[test]
fn an_answer_to_what_was_not_asked_is_a_failure_and_not_merged() {
    let cosine = |embedder: &str| ScoreScale::Vector {
        metric: Metric::Cosine,
        dimensions: 2,
        embedder: embedder.to_owned(),
    };
    let good = reported(by_vector(), vec![leg(LegKind::Vector, cosine(""))]);
    assert_eq!(good, SourceStatus::Answered);
    let text = vec![leg(LegKind::Text, ScoreScale::TextOwn)];
    assert_eq!(reported(by_vector(), text), SourceStatus::Failed);
    let by_text = QuerySpec::new(FederationScope::Direct, QueryTarget::text("moth"));
    let none = ScoreScale::Vector { metric: Metric::Dot, dimensions: 0, embedder: String::new() };
    assert_eq!(reported(by_text, vec![leg(LegKind::Vector, none)]), SourceStatus::Failed);
    let mut of_model = by_vector();
    of_model.target.embedder = "a".to_owned();
    let other = vec![leg(LegKind::Vector, cosine("b"))];
    assert_eq!(reported(of_model.clone(), other), SourceStatus::Failed);
    let same = vec![leg(LegKind::Vector, cosine("a"))];
    assert_eq!(reported(of_model, same), SourceStatus::Answered);
}

#[test]
fn a_source_that_falls_silent_is_reported_at_the_deadline_and_not_before() {
    let mut wires = Wires::federation(2);
    wires.drive(0, |node, now| node.query(now, by_vector())).expect("asks");
    wires.run_but(searches);
    let place = wires.pending.iter().position(searches).expect("the peer is asked");
    let Some(Pending::Request { from, call, .. }) = wires.pending.remove(place) else {
        panic!("a request was found");
    };
    wires.pass(Duration::from_millis(1_950));
    assert!(wires.hosts[0].done.is_empty(), "it may still answer");
    wires.input(from, Input::Response { call, result: Err(CallFailure::Timeout) });
    wires.pass(Duration::from_millis(50));
    let result = wires.hosts[0].done.last().expect("the query ends");
    assert!(!result.complete);
    let report = result.sources.iter().find(|report| report.peer == wires.peer(1));
    assert_eq!(report.expect("is reported").status, SourceStatus::Timeout);
    assert_eq!(wires.node(0).load().timers, 1, "only upkeep is left");
}

/// Takes a search that a node has begun.
fn begun(wires: &mut Wires, of: usize) -> exo_node::effect::JobId {
    let is = |what: &Pending| matches!(what, Pending::Search { at, .. } if *at == of);
    let place = wires.pending.iter().position(is).expect("a search is under way");
    match wires.pending.remove(place) {
        Some(Pending::Search { job, .. }) => job,
        other => panic!("{other:?}"),
    }
}

#[test]
fn hits_that_no_answer_can_carry_are_told_as_a_failed_search_at_once() {
    let broken = || {
        let scale =
            ScoreScale::Vector { metric: Metric::Dot, dimensions: 2, embedder: String::new() };
        let mut leg = leg(LegKind::Vector, scale);
        leg.hits[0].score = f32::INFINITY;
        Ok(vec![leg])
    };
    let mut wires = Wires::federation(2);
    wires.drive(0, |node, now| node.query(now, by_vector())).expect("asks");
    let finds = |what: &Pending| matches!(what, Pending::Search { .. });
    wires.run_but(finds);
    for at in 0..2 {
        let job = begun(&mut wires, at);
        wires.input(at, Input::SearchDone { job, result: broken() });
    }
    wires.run();
    let result = wires.hosts[0].done.last().expect("the query ends without waiting");
    assert_eq!(result.results.len(), 0);
    for report in &result.sources {
        assert_eq!(report.status, SourceStatus::Failed, "{}: {}", report.source, report.detail);
    }
}

#[test]
fn a_collection_half_dropped_keeps_its_policy_across_a_crash() {
    let mut wires = Wires::federation(1);
    let name = CollectionName::new("notes").expect("a name");
    let hidden = CollectionPolicy { readers: Readers::Nobody, ..CollectionPolicy::default() };
    let spec = exo_types::CollectionSpec {
        name: name.clone(),
        dimensions: 2,
        metric: Metric::Dot,
        embedder: String::new(),
    };
    wires.drive(0, |node, _| node.collection_added(spec, Some(hidden.clone())));
    wires.drive(0, |node, _| node.collection_dropped(&name));
    // The data is still there when the node starts again.
    wires.crash(0);
    wires.start(0);
    assert_eq!(wires.node(0).policy(&name), hidden);
    wires.drive(0, |node, _| node.collection_gone(&name));
    assert_eq!(wires.node(0).policy(&name), hidden, "it is offered again");
    wires.drive(0, |node, _| node.collection_dropped(&name));
    wires.drive(0, |node, _| node.collection_gone(&name));
    assert_eq!(wires.node(0).policy(&name), CollectionPolicy::default());
}
