//! Members that abuse onion packets, at single nodes: what they can take from others and what they can
//! make an honest node do.

use std::time::Duration;

use exo_node::effect::{Event, Input, PacketFate};
use exo_node::wire::{Request, Response};
use exo_types::limits::ONION_AWAITED_PER_PEER_MAX;
use exo_types::{
    CollectionName, ContentHash, FederationScope, Hit, Leg, LegKind, Metric, QuerySpec,
    QueryTarget, RecordId, ScoreScale, SourceStatus,
};

use crate::wires::{Pending, Wires};

fn relayed(target: QueryTarget, max_hops: u8) -> QuerySpec {
    QuerySpec::new(FederationScope::Global { max_hops }, target)
}

fn ask(wires: &mut Wires, at: usize, spec: QuerySpec) {
    wires.drive(at, |node, now| node.query(now, spec)).expect("is a good query");
}

fn forwarded(wires: &Wires, at: usize) -> usize {
    let fate = |event: &&Event| matches!(event, Event::Onion(PacketFate::Forwarded));
    wires.hosts[at].events.iter().filter(fate).count()
}

/// Whether it is a packet that a node brings another one.
fn packet(what: &Pending, a: usize, b: usize) -> bool {
    matches!(what, Pending::Request { from, to, request: Request::Onion(_), .. } if (*from, *to) == (a, b))
}

#[test]
fn packets_that_are_never_answered_leave_streams_for_everything_else() {
    let mut wires = Wires::federation(3);
    // Node 2 holds back every reply to what node 1 brings it. Of the asker's paths one leads over each.
    for _ in 0..ONION_AWAITED_PER_PEER_MAX + 60 {
        let mut spec = relayed(QueryTarget::vector(vec![1.0, 0.0]), 2);
        spec.deadline = Duration::from_secs(120);
        ask(&mut wires, 0, spec);
        wires.run_but(|what| packet(what, 1, 2));
    }
    let hang = wires.pending.iter().filter(|what| packet(what, 1, 2)).count();
    assert_eq!(hang, ONION_AWAITED_PER_PEER_MAX);
    let given_up = |event: &&Event| matches!(event, Event::Onion(PacketFate::GivenUp));
    assert!(wires.hosts[1].events.iter().filter(given_up).count() >= 60, "the others hear of it");
    wires.run();
    assert_eq!(wires.node(1).load().packets, 0);
}

#[test]
fn a_packet_that_is_refused_leaves_no_line_in_a_log() {
    let mut wires = Wires::federation(2);
    ask(&mut wires, 0, relayed(QueryTarget::vector(vec![1.0, 0.0]), 1));
    let Some((_, Request::Onion(mut packet))) = wires.take_request(0) else {
        panic!("a packet is sent")
    };
    packet.token = exo_types::TokenId::new([9; 16]);
    let over = wires.session(1, 0).expect("a session");
    wires.hosts[1].events.clear();
    let call = wires.ask(0, 1, over, Request::Onion(packet));
    wires.run_but(|what| matches!(what, Pending::Response { .. }));
    assert!(matches!(wires.answer(call), Some(Response::Refused(_))));
    assert_eq!(wires.hosts[1].events, []);
}

#[test]
fn a_question_with_a_text_begins_both_of_its_packets_at_the_first_relay() {
    let mut wires = Wires::federation(6);
    for _ in 0..5 {
        wires.hosts.iter_mut().for_each(|host| host.events.clear());
        ask(&mut wires, 0, relayed(QueryTarget::text("quick fox"), 2));
        wires.run();
        assert!(wires.hosts[0].done.last().expect("has ended").complete);
        // With two hops the first relay is the only one; the path to itself begins at another.
        let firsts = (1..6).filter(|at| forwarded(&wires, *at) > 0).count();
        assert!(firsts <= 2, "{firsts} relays began a path");
    }
}

#[test]
fn a_member_that_alters_replies_drives_nobody_from_the_first_relay() {
    let mut wires = Wires::federation(6);
    ask(&mut wires, 0, relayed(QueryTarget::vector(vec![1.0, 0.0]), 2));
    wires.run();
    let first = (1..6).max_by_key(|at| forwarded(&wires, *at)).expect("some relay is the first");
    // Whatever comes back to the first relay has been altered behind it.
    for _ in 0..3 {
        wires.hosts.iter_mut().for_each(|host| host.events.clear());
        ask(&mut wires, 0, relayed(QueryTarget::vector(vec![1.0, 0.0]), 3));
        for _ in 0..10_000 {
            for what in &mut wires.pending {
                if let Pending::Response { to, response: Response::Onion(chunks), .. } = what
                    && *to == first
                {
                    chunks.fill(7);
                }
            }
            if !wires.step(|what| !matches!(what, Pending::Close { .. })) {
                break;
            }
        }
        let from_asker = |at: usize| forwarded(&wires, at);
        assert!(from_asker(first) >= 4, "paths begin at the first relay: {}", from_asker(first));
        wires.pass(Duration::from_secs(3));
    }
    ask(&mut wires, 0, relayed(QueryTarget::vector(vec![1.0, 0.0]), 2));
    wires.hosts.iter_mut().for_each(|host| host.events.clear());
    wires.run();
    let begins = (1..6).max_by_key(|at| forwarded(&wires, *at));
    assert_eq!(begins, Some(first));
}

#[test]
fn only_the_relays_that_bring_the_packets_hear_that_somebody_asks() {
    let mut wires = Wires::federation(7);
    let vector = || QueryTarget::vector(vec![1.0, 0.0]);
    for _ in 0..5 {
        ask(&mut wires, 0, relayed(vector(), 3));
        wires.run();
    }
    let pings = |wires: &Wires| -> Vec<usize> {
        let to = |what: &Pending| match what {
            Pending::Request { from: 0, to, request: Request::Ping, .. } => Some(*to),
            _ => None,
        };
        wires.pending.iter().filter_map(to).collect()
    };
    ask(&mut wires, 0, relayed(vector(), 1));
    assert!(pings(&wires).is_empty(), "there is no relay");
    wires.run();
    ask(&mut wires, 0, relayed(vector(), 3));
    let probed = pings(&wires);
    assert!(!probed.is_empty() && probed.len() <= 2, "{probed:?}");
    assert!(probed.iter().all(|at| wires.pending.iter().any(|what| packet(what, 0, *at))));
    wires.run();
    assert!(wires.hosts[0].done.last().expect("has ended").complete);
}

#[test]
fn a_first_relay_that_refuses_packets_is_passed_at_once() {
    let mut wires = Wires::federation(6);
    let vector = || QueryTarget::vector(vec![1.0, 0.0]);
    ask(&mut wires, 0, relayed(vector(), 2));
    wires.run();
    let first = (1..6).max_by_key(|at| forwarded(&wires, *at)).expect("some relay is the first");
    ask(&mut wires, 0, relayed(vector(), 2));
    while let Some(place) = wires.pending.iter().position(|what| packet(what, 0, first)) {
        if let Some(Pending::Request { call, .. }) = wires.pending.remove(place) {
            let response = Response::Refused(exo_node::refusal::Refusal::Busy);
            wires.pending.push_back(Pending::Response { to: 0, call, response });
        }
    }
    // Without time passing, so that nothing is asked again for being late.
    wires.run();
    let answer = wires.hosts[0].done.last().expect("has ended");
    assert_eq!(wires.hosts[0].done.len(), 2);
    assert!(answer.complete, "{:?}", answer.sources);
}

#[test]
fn terms_that_a_source_makes_up_keep_nobody_from_being_asked() {
    for max_hops in [None, Some(1)] {
        let mut wires = Wires::federation(3);
        let target = QueryTarget::text("quick fox");
        let spec = match max_hops {
            Some(max_hops) => relayed(target, max_hops),
            None => QuerySpec::new(FederationScope::Direct, target),
        };
        ask(&mut wires, 0, spec);
        let liar = wires.peer(2);
        let terms = |what: &Pending| matches!(what, Pending::Terms { at: 2, .. });
        wires.run_but(terms);
        let place = wires.pending.iter().position(terms).expect("it is asked");
        let Some(Pending::Terms { job, .. }) = wires.pending.remove(place) else {
            panic!("is there")
        };
        let words = if max_hops.is_some() { 2 } else { 60 };
        let terms = (0..words).map(|n| (format!("{n:07000}"), 1)).collect();
        let stats = exo_types::TermStats { records: 10, tokens: 10, terms };
        wires.input(2, Input::TermsDone { job, result: Ok(stats) });
        // Whatever is sent encodes, and within the smaller packet.
        wires.run_but(|what| matches!(what, Pending::Search { at: 1 | 2, .. }));
        let asked = |at: usize| {
            wires
                .pending
                .iter()
                .any(|what| matches!(what, Pending::Search { at: of, .. } if *of == at))
        };
        assert!(asked(1) && asked(2), "{max_hops:?}");
        wires.run();
        let answer = wires.hosts[0].done.last().expect("has ended");
        assert!(
            answer
                .sources
                .iter()
                .filter(|source| source.peer != liar)
                .all(|source| source.status == SourceStatus::Answered)
        );
    }
}

#[test]
fn a_first_relay_that_was_away_for_days_is_the_first_again() {
    let mut wires = Wires::federation(6);
    let firsts = |wires: &mut Wires| -> Vec<usize> {
        wires.hosts.iter_mut().for_each(|host| host.events.clear());
        ask(wires, 0, relayed(QueryTarget::vector(vec![1.0, 0.0]), 2));
        wires.run();
        (1..6).filter(|at| forwarded(wires, *at) > 0).collect()
    };
    firsts(&mut wires);
    let first = (1..6).max_by_key(|at| forwarded(&wires, *at)).expect("some relay is the first");
    for session in wires.sessions(first, 0) {
        wires.end(first, session, None);
    }
    wires.crash(first);
    for _ in 0..3 {
        wires.now += Duration::from_secs(24 * 3600);
        wires.pass(Duration::from_secs(65));
        assert!(!firsts(&mut wires).contains(&first), "its sealing keys are over, too");
        wires.pass(Duration::from_secs(3));
    }
    wires.start(first);
    wires.pass(Duration::from_secs(65));
    firsts(&mut wires);
    assert_eq!((1..6).max_by_key(|at| forwarded(&wires, *at)), Some(first));
}

#[test]
fn an_answer_that_was_cut_short_counts_where_the_whole_one_does_not_come() {
    let mut wires = Wires::federation(2);
    let mut spec = relayed(QueryTarget::vector(vec![1.0, 0.0]), 1);
    spec.top_k = 4;
    ask(&mut wires, 0, spec);
    let search = |what: &Pending| matches!(what, Pending::Search { at: 1, .. });
    wires.run_but(search);
    let place = wires.pending.iter().position(search).expect("it is asked");
    let Some(Pending::Search { job, .. }) = wires.pending.remove(place) else { panic!("is there") };
    let hit = |rank: usize| Hit {
        collection: CollectionName::new("notes").expect("a name"),
        id: RecordId::new(format!("r{rank}")).expect("an id"),
        score: -(rank as f32),
        content: ContentHash([rank as u8; 32]),
        title: "t".repeat(4_000),
        text: "x".repeat(2_000),
        metadata: Default::default(),
        vector: None,
    };
    let scale = ScoreScale::Vector { metric: Metric::Dot, dimensions: 2, embedder: String::new() };
    let leg = Leg { kind: LegKind::Vector, scale, hits: (0..4).map(hit).collect() };
    wires.input(1, Input::SearchDone { job, result: Ok(vec![leg]) });
    // The packet that asks for more does not arrive.
    let again = |what: &Pending| packet(what, 0, 1);
    for _ in 0..60 {
        wires.tick(Duration::from_millis(50));
        wires.run_but(again);
    }
    assert!(wires.pending.iter().any(again), "more is asked for");
    let answer = wires.hosts[0].done.last().expect("has ended");
    let report = answer.sources.iter().find(|source| source.peer == wires.peer(1)).expect("asked");
    assert_eq!(report.status, SourceStatus::Answered, "{report:?}");
    assert!(report.count > 0 && report.signed.is_some() && report.detail.contains("no room"));
}
