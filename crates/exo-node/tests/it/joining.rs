//! Joining, with crashes and losses at every point.

use exo_node::JoinStatus;
use exo_node::effect::{Input, Purpose};
use exo_node::wire::{CloseReason, Request, Response};

use crate::wires::{Pending, Wires, clock};

fn words(wires: &Wires, at: usize) -> Option<String> {
    match wires.node(at).join_status() {
        JoinStatus::Pending { words } => Some(words),
        _ => None,
    }
}

fn is_member(wires: &Wires, at: usize) -> bool {
    wires.node(at).join_status() == JoinStatus::Member
}

#[test]
fn an_approval_told_to_a_joiner_is_not_lost_by_a_crash_after_any_effect() {
    let mut told = 0;
    for effects in 0..40 {
        let mut wires = Wires::new(2);
        let ticket = wires.invite(false);
        wires.drive(1, |node, now| node.join(now, ticket)).expect("joins");
        wires.run();
        let words = words(&wires, 1).expect("waits with words");
        wires.hosts[0].effects_left = effects;
        wires.drive(0, |node, now| node.approve(now, &words)).expect("approves");
        wires.pass(std::time::Duration::from_secs(2));
        wires.crash(0);
        wires.start(0);
        let kept = wires.node(0).peers().iter().any(|peer| peer.peer == wires.peer(1));
        assert!(kept, "after {effects} effects the joiner is forgotten");
        if is_member(&wires, 1) {
            told += 1;
            let members = wires.node(0).federation().expect("founded").members;
            assert_eq!(members, 2, "after {effects} effects the approval is taken back");
        }
    }
    assert!(told > 10, "the crashes came before the approval");
}

#[test]
fn a_joiner_whose_reveal_was_lost_in_a_crash_joins_by_the_same_ticket() {
    let mut wires = Wires::new(2);
    let ticket = wires.invite(true);
    wires.drive(1, |node, now| node.join(now, ticket)).expect("joins");
    let reveals = |what: &Pending| {
        matches!(what, Pending::Request { request: Request::JoinReveal { .. }, .. })
    };
    wires.run_but(reveals);
    assert!(wires.pending.iter().any(reveals), "the joiner has revealed");
    wires.crash(1);
    wires.pending.retain(|what| !reveals(what));
    wires.start(1);
    wires.pass(std::time::Duration::from_secs(3));
    assert!(is_member(&wires, 1), "{:?}", wires.node(1).join_status());
}

#[test]
fn a_member_that_lost_its_membership_in_a_crash_is_told_it_again_by_a_new_ticket() {
    let mut wires = Wires::federation(2);
    wires.crash(1);
    wires.hosts[1].disk = None;
    wires.start(1);
    let ticket = wires.invite(false);
    wires.drive(1, |node, now| node.join(now, ticket)).expect("joins");
    wires.pass(std::time::Duration::from_secs(2));
    assert!(is_member(&wires, 1), "{:?}", wires.node(1).join_status());
    assert!(wires.node(0).invites().is_empty(), "the ticket is spent");
}

#[test]
fn a_joiner_that_loses_its_connection_again_and_again_asks_no_oftener() {
    let mut wires = Wires::new(2);
    let ticket = wires.invite(false);
    wires.drive(1, |node, now| node.join(now, ticket)).expect("joins");
    wires.run();
    for _ in 0..50 {
        let session = wires.session(1, 0).expect("is connected");
        wires.end(1, session, None);
        wires.end(0, session, None);
        wires.pass(std::time::Duration::from_millis(400));
        wires.pass(std::time::Duration::from_secs(1));
    }
    let load = wires.node(1).load();
    assert!(load.timers <= 3 && load.sessions <= 1, "{load:?}");
}

#[test]
fn the_founder_takes_no_first_message_of_a_joiner_for_a_members() {
    let mut wires = Wires::new(2);
    let ticket = wires.invite(false);
    wires.drive(1, |node, now| node.join(now, ticket)).expect("joins");
    wires.run();
    let session = wires.sessions(0, 1)[0];
    for request in [Request::Grant, Request::Ping, Request::Notify { epoch: exo_types::Epoch(9) }] {
        let call = wires.ask(1, 0, session, request);
        wires.step(|what| matches!(what, Pending::Request { call: of, .. } if *of == call));
        let answer = wires.answer(call);
        assert!(matches!(answer, Some(Response::Refused(_))), "{answer:?}");
    }
}

#[test]
fn joining_another_federation_leaves_nothing_of_the_first() {
    let mut wires = Wires::federation(3);
    let peer = wires.peer(2);
    wires.drive(0, |node, now| node.revoke(now, &peer, "moved")).expect("revokes");
    wires.run();
    let ticket = {
        let address = std::net::SocketAddr::from(([10, 0, 0, 0], 1));
        let keypair = exo_crypto::PostQuantumKeypair::from_seed(&[99; 32]).expect("expands");
        exo_node::ticket::Ticket {
            federation: [9; 16],
            inviter: keypair.peer_id(),
            secret: [1; 16],
            expires: clock(wires.now).wall.plus_millis(60_000),
            addresses: vec![address],
        }
    };
    wires.drive(2, |node, now| node.join(now, ticket)).expect("the membership has ended");
    let load = wires.node(2).load();
    assert_eq!(load.links, 0, "{load:?}");
    assert!(wires.node(2).peers().is_empty());
    // What still comes from a former fellow member is refused.
    let key = wires.hosts[1].keypair.public().clone();
    let up = Input::SessionUp {
        session: exo_node::effect::SessionId(1 << 40),
        key,
        dialled: false,
        purpose: Purpose::Member,
        exporter: [0; 32],
    };
    wires.input(2, up);
    let refused = |what: &Pending| {
        matches!(what, Pending::Close { at: 2, reason: CloseReason::Refused, drain: false, .. })
    };
    assert!(wires.pending.iter().any(refused), "{:?}", wires.pending);
}

#[test]
fn a_joiner_that_was_given_two_tickets_is_left_with_one_connection() {
    let mut wires = Wires::new(2);
    let tickets = [wires.invite(true), wires.invite(true)];
    for ticket in tickets {
        // Both dials are under way at once.
        wires.drive(1, |node, now| node.join(now, ticket)).expect("joins");
    }
    wires.pass(std::time::Duration::from_secs(6));
    assert!(is_member(&wires, 1));
    assert_eq!(wires.sessions(0, 1).len(), 1, "one session, between members");
    assert_eq!(wires.node(0).load().sessions, 1);
}

#[test]
fn what_comes_of_an_attempt_that_was_given_up_does_not_disturb_the_next() {
    let mut wires = Wires::new(2);
    let tickets = [wires.invite(true), wires.invite(true)];
    let knocks =
        |what: &Pending| matches!(what, Pending::Request { request: Request::JoinStart(_), .. });
    for ticket in tickets {
        wires.drive(1, |node, now| node.join(now, ticket)).expect("joins");
        wires.run_but(knocks);
    }
    let dials = |what: &Pending| matches!(what, Pending::Dial { from: 1, .. });
    for _ in 0..20 {
        wires.now += std::time::Duration::from_millis(50);
        wires.input(1, Input::Tick);
        assert!(!wires.pending.iter().any(dials), "the second attempt is given up as well");
    }
    wires.run();
    assert!(is_member(&wires, 1));
}
