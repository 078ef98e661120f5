//! Members that abuse onion packets, at single nodes: what they can take from others and what they can
//! make an honest node do.

use std::time::Duration;

use exo_node::effect::{Event, PacketFate};
use exo_node::wire::{Request, Response};
use exo_types::limits::ONION_AWAITED_PER_PEER_MAX;
use exo_types::{FederationScope, QuerySpec, QueryTarget};

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
