//! Onion packets at single nodes: what is dropped, held back, bounded, and what covers it.

use std::time::Duration;

use exo_node::effect::{Event, PacketFate, SessionId};
use exo_node::policy::OnionPolicy;
use exo_node::wire::{OnionRequest, Request, Response};
use exo_onion::DropReason;
use exo_types::limits::ONION_OWED_PER_PEER_MAX;
use exo_types::{
    FederatedResult, FederationScope, OrganisationName, QuerySpec, QueryTarget, SourceStatus,
};

use crate::wires::{Pending, Wires};

fn by_vector(max_hops: u8) -> QuerySpec {
    QuerySpec::new(FederationScope::Global { max_hops }, QueryTarget::vector(vec![1.0, 0.0]))
}

fn ask(wires: &mut Wires, at: usize, spec: QuerySpec) {
    wires.drive(at, |node, now| node.query(now, spec)).expect("is a good query");
}

fn answer(wires: &Wires, at: usize) -> &FederatedResult {
    wires.hosts[at].done.last().expect("the query has ended")
}

fn fates(wires: &Wires, at: usize) -> Vec<PacketFate> {
    let fate = |event: &Event| match event {
        Event::Onion(fate) => Some(*fate),
        _ => None,
    };
    wires.hosts[at].events.iter().filter_map(fate).collect()
}

fn count(wires: &Wires, at: usize, fate: PacketFate) -> usize {
    fates(wires, at).iter().filter(|known| **known == fate).count()
}

/// Nodes 0 and 1 with a packet of the one on its way to the other, taken from the wires.
fn packet_to_one() -> (Wires, SessionId, OnionRequest) {
    let mut wires = Wires::federation(2);
    ask(&mut wires, 0, by_vector(1));
    let (_, request) = wires.take_request(0).expect("a packet is sent");
    let Request::Onion(packet) = request else { panic!("{request:?}") };
    let session = wires.session(1, 0).expect("a session");
    (wires, session, packet)
}

/// Brings node 1 a packet; its answer, or none where the stream was ended without a word.
fn bring(wires: &mut Wires, over: SessionId, packet: OnionRequest) -> Option<Response> {
    let call = wires.ask(0, 1, over, Request::Onion(packet));
    wires.run_but(|what| matches!(what, Pending::Response { .. } | Pending::Lost { .. }));
    let lost = |what: &Pending| matches!(what, Pending::Lost { call: of, .. } if *of == call);
    match wires.answer(call) {
        Some(response) => Some(response),
        None => {
            assert!(wires.step(lost), "neither answered nor given up");
            None
        }
    }
}

#[test]
fn a_packet_is_taken_once_and_an_altered_one_never() {
    let (mut wires, over, packet) = packet_to_one();
    for at in [0, 1, 2, 4, 8, 30, 1200, 5944, packet.packet.len() - 1] {
        let mut altered = packet.clone();
        altered.packet[at] ^= 1;
        assert_eq!(bring(&mut wires, over, altered), None, "byte {at}");
    }
    let mut short = packet.clone();
    short.packet.pop();
    assert_eq!(bring(&mut wires, over, short), None);
    assert_eq!(count(&wires, 1, PacketFate::Delivered), 0);
    let Some(Response::Onion(reply)) = bring(&mut wires, over, packet.clone()) else {
        panic!("the packet as it was sent is answered")
    };
    assert_eq!(reply.len(), 16 * 1024);
    assert_eq!(bring(&mut wires, over, packet), None, "and not again");
    assert_eq!(count(&wires, 1, PacketFate::Delivered), 1);
    assert_eq!(count(&wires, 1, PacketFate::Dropped(DropReason::Replayed)), 1);
    assert_eq!(wires.node(1).load().packets, 0, "nothing of them is left");
}

#[test]
fn a_packet_without_a_good_token_is_refused() {
    let (mut wires, over, mut packet) = packet_to_one();
    packet.token = exo_types::TokenId::new([9; 16]);
    let refused = bring(&mut wires, over, packet);
    assert!(matches!(refused, Some(Response::Refused(_))), "{refused:?}");
    assert_eq!(fates(&wires, 1), [], "it was not looked at");
}

#[test]
fn a_neighbour_is_owed_so_many_replies_and_no_more() {
    let mut wires = Wires::federation(2);
    let searches = |what: &Pending| matches!(what, Pending::Search { .. });
    let most = ONION_OWED_PER_PEER_MAX;
    for _ in 0..most + 20 {
        let mut spec = by_vector(1);
        spec.deadline = Duration::from_secs(60);
        ask(&mut wires, 0, spec);
    }
    // Searches hang, so that every packet stays owed; beyond 64 they are refused within the reply.
    wires.run_but(searches);
    let load = wires.node(1).load();
    assert!(load.packets <= most && load.jobs <= 64, "{load:?}");
    wires.run();
    assert_eq!(wires.node(1).load().packets, 0);
    assert_eq!(wires.node(1).load().jobs, 0);
}

#[test]
fn a_member_that_does_not_relay_is_not_asked_to_and_still_answers() {
    let quiet = |at| OnionPolicy { relays: at != 2, ..OnionPolicy::default() };
    let mut wires = Wires::federation_with(5, quiet);
    for _ in 0..10 {
        ask(&mut wires, 0, by_vector(3));
        wires.run();
        assert!(answer(&wires, 0).complete, "{:?}", answer(&wires, 0).sources);
    }
    assert_eq!(count(&wires, 2, PacketFate::Delivered), 10);
    assert_eq!(count(&wires, 2, PacketFate::Forwarded), 0);
}

#[test]
fn two_nodes_of_one_organisation_are_not_on_one_path() {
    // Nodes 1 and 2 are one organisation's, 3 is the asker's own: 4 and 5 are left beside one of 1, 2.
    let of = |at: usize| match at {
        1 | 2 => Some("twins"),
        0 | 3 => Some("own"),
        _ => None,
    };
    let policy = |at| OnionPolicy {
        organisation: of(at).map(|name| OrganisationName::new(name).expect("a name")),
        ..OnionPolicy::default()
    };
    let mut wires = Wires::federation_with(6, policy);
    for _ in 0..10 {
        ask(&mut wires, 0, by_vector(3));
        wires.run();
        assert!(answer(&wires, 0).complete, "{:?}", answer(&wires, 0).sources);
    }
    assert_eq!(count(&wires, 3, PacketFate::Forwarded), 0, "the asker's own organisation");
    // With four hops some source needs three relays of three organisations.
    ask(&mut wires, 0, by_vector(4));
    wires.run();
    let report = |at: usize| {
        let peer = wires.peer(at);
        answer(&wires, 0).sources.iter().find(|source| source.peer == peer).expect("was asked")
    };
    assert_eq!(report(3).status, SourceStatus::Answered, "4, 5 and one of the twins");
    assert_eq!(report(1).status, SourceStatus::Unreachable);
    assert!(
        report(1).detail.contains("3 relays were asked for, and 2 will do"),
        "{}",
        report(1).detail
    );
}

#[test]
fn mixed_packets_are_held_at_every_hop_and_arrive() {
    let mut wires = Wires::federation(5);
    let mut spec = by_vector(3);
    spec.mix = Duration::from_millis(400);
    spec.deadline = Duration::from_secs(60);
    ask(&mut wires, 0, spec);
    wires.run();
    assert!(wires.hosts[0].done.is_empty(), "nothing has come back without time passing");
    let holding = (1..5).filter(|at| wires.node(*at).load().packets > 0).count();
    assert!(holding > 0);
    wires.pass(Duration::from_secs(30));
    let answer = answer(&wires, 0);
    assert!(answer.complete, "{:?}", answer.sources);
    assert!(answer.elapsed > Duration::from_millis(400), "{:?}", answer.elapsed);
    assert!((0..5).all(|at| wires.node(at).load().packets == 0));
}

#[test]
fn cover_packets_end_at_others_and_at_home_and_leave_nothing_behind() {
    let policy = |at| OnionPolicy {
        cover_per_minute: if at == 0 { 120 } else { 0 },
        ..OnionPolicy::default()
    };
    let mut wires = Wires::federation_with(5, policy);
    let before = count(&wires, 0, PacketFate::Sent);
    wires.pass(Duration::from_secs(60));
    let sent = count(&wires, 0, PacketFate::Sent) - before;
    assert!((80..160).contains(&sent), "{sent} in a minute where 120 are the mean");
    let home = count(&wires, 0, PacketFate::Cover);
    let away: usize = (1..5).map(|at| count(&wires, at, PacketFate::Cover)).sum();
    assert!(home > sent / 4 && away > sent / 4, "{home} at home, {away} away");
    assert!((1..5).all(|at| count(&wires, at, PacketFate::Sent) == 0), "off unless configured");
    assert!((0..5).all(|at| wires.node(at).load().packets == 0));
}

#[test]
fn the_first_relay_stays_the_same_across_a_restart() {
    let mut wires = Wires::federation(6);
    let firsts = |wires: &Wires| -> Vec<usize> {
        (1..6).filter(|at| count(wires, *at, PacketFate::Forwarded) > 0).collect()
    };
    // With two hops every path has one relay: the first. The target's own path needs another.
    for _ in 0..5 {
        ask(&mut wires, 0, by_vector(2));
        wires.run();
    }
    let before = firsts(&wires);
    assert!(before.len() <= 2, "{before:?}");
    wires.crash(0);
    wires.start(0);
    wires.pass(Duration::from_secs(40));
    for host in &mut wires.hosts {
        host.events.clear();
    }
    for _ in 0..5 {
        ask(&mut wires, 0, by_vector(2));
        wires.run();
        assert!(answer(&wires, 0).complete, "{:?}", answer(&wires, 0).sources);
    }
    assert_eq!(firsts(&wires), before);
}

#[test]
fn a_first_relay_that_falls_silent_is_passed_by_whatever_lies_behind_it() {
    for behind in 0..7 {
        let mut wires = Wires::federation(7);
        // The relays behind the first are drawn anew for each question.
        for _ in 0..behind {
            ask(&mut wires, 0, by_vector(3));
            wires.run();
        }
        wires.hosts.iter_mut().for_each(|host| host.events.clear());
        ask(&mut wires, 0, by_vector(2));
        wires.run();
        let first = (1..7).max_by_key(|at| count(&wires, *at, PacketFate::Forwarded));
        let first = first.expect("some relay is the first");
        wires.crash(first);
        ask(&mut wires, 0, by_vector(3));
        wires.pass(Duration::from_millis(1_900));
        let dead = wires.peer(first);
        wires.pass(Duration::from_millis(200));
        let others = answer(&wires, 0).sources.iter().filter(|source| source.peer != dead);
        for source in others {
            assert_eq!(source.status, SourceStatus::Answered, "{behind}: {source:?}");
        }
    }
}
