//! From a founder's rosters to what the members decide: what a node does around its log.

use std::sync::Arc;
use std::time::Duration;

use exo_consensus::Logged;
use exo_node::decide::{Charter, Decision, Outcome};
use exo_node::effect::Input;
use exo_node::wire::CloseReason;
use exo_node::{JoinStatus, MembershipError};

use crate::wires::{Pending, Wires};

/// Four nodes that decide together, and some more that have not joined.
pub(crate) fn four_and(more: usize) -> (Wires, Charter) {
    let mut wires = Wires::deciding(4 + more, 4);
    for joiner in 1..4 {
        join(&mut wires, joiner);
        assert_eq!(wires.node(joiner).join_status(), JoinStatus::Member);
        let constituted = wires.hosts[joiner].founding.is_some();
        assert_eq!(constituted, joiner == 3, "with {} members", joiner + 1);
    }
    wires.pass(Duration::from_secs(4));
    let founding = wires.hosts[0].founding.clone().expect("is constituted");
    for at in 0..4 {
        assert_eq!(wires.hosts[at].founding.as_ref(), Some(&founding), "{at}");
    }
    let charter = Charter::new(&founding).expect("holds");
    (wires, charter)
}

fn join(wires: &mut Wires, joiner: usize) {
    let ticket = wires.invite(true);
    wires.drive(joiner, |node, now| node.join(now, ticket)).expect("joins");
    wires.run();
}

/// As the log would: the decision takes effect, and these nodes are given the roster it makes.
fn decide(
    wires: &mut Wires,
    charter: &mut Charter,
    by: usize,
    decision: &Decision,
    told: &[usize],
) -> Outcome {
    let update = decision.to_update().expect("in bounds");
    let member = wires.peer(by);
    let outcome = charter.apply(0, &Logged { member, number: 0, index: 0, update });
    tell(wires, charter, told);
    outcome
}

fn tell(wires: &mut Wires, charter: &Charter, told: &[usize]) {
    for at in told {
        wires.input(*at, Input::Decided(Arc::new(charter.roster())));
    }
    wires.run();
}

#[test]
fn the_founder_signs_no_roster_after_the_one_that_names_voters() {
    let (mut wires, _) = four_and(1);
    let peer = wires.peer(2);
    let epoch = wires.node(0).federation().expect("belongs").epoch;
    let change = wires.drive(0, |node, now| node.revoke(now, &peer, "gone")).expect("proposes");
    assert_eq!(
        change.decision,
        Some(Decision::Revoke { peer, reason: "gone".to_owned() }),
        "a founder decides nothing alone any more"
    );
    join(&mut wires, 4);
    assert!(matches!(wires.hosts[0].proposed.as_slice(), [Decision::Admit(_)]));
    assert_eq!(wires.node(0).federation().expect("belongs").epoch, epoch);
    assert!(matches!(wires.node(4).join_status(), JoinStatus::Pending { .. }));
}

#[test]
fn a_joiner_with_the_cosigner_key_of_a_member_is_turned_away() {
    let mut wires = Wires::deciding(3, 4);
    join(&mut wires, 1);
    wires.hosts[2].cosigner = wires.hosts[1].cosigner;
    wires.crash(2);
    wires.start(2);
    join(&mut wires, 2);
    assert!(matches!(wires.node(2).join_status(), JoinStatus::Refused { .. }));
    assert_eq!(wires.node(0).federation().expect("belongs").members, 2);
}

#[test]
fn a_voter_that_lost_everything_but_its_keys_is_told_so_when_it_joins_again() {
    let (mut wires, _) = four_and(0);
    assert!(!wires.hosts[3].again, "it joined for the first time");
    wires.crash(2);
    wires.hosts[2].disk = None;
    wires.start(2);
    join(&mut wires, 2);
    wires.pass(Duration::from_secs(2));
    assert_eq!(wires.node(2).join_status(), JoinStatus::Member);
    assert!(wires.hosts[2].again, "what it voted before is not known to it");
}

#[test]
fn a_joiner_is_admitted_by_the_log_and_follows_it_over_the_session_with_its_inviter() {
    let (mut wires, mut charter) = four_and(1);
    join(&mut wires, 4);
    let admission = wires.hosts[0].proposed.pop().expect("is proposed");
    let outcome = decide(&mut wires, &mut charter, 0, &admission, &[0, 1, 2, 3]);
    assert_eq!(outcome, Outcome::Effective);
    wires.pass(Duration::from_secs(2));
    // Approved, and with a constitution in which it does not stand.
    assert_eq!(wires.node(4).join_status(), JoinStatus::Following);
    assert!(wires.hosts[4].founding.is_some());
    let inviter = wires.peer(0);
    assert!(wires.hosts[4].behind.contains(&inviter), "it asks for the log");
    let both = (wires.hosts[4].lanes.get(&inviter), wires.hosts[0].lanes.get(&wires.peer(4)));
    assert!(matches!(both, (Some(Some(_)), Some(Some(_)))), "{both:?}");
    // A crash does not take it back; over the session that ended nothing is decided any more.
    let over = wires.hosts[0].lanes[&wires.peer(4)].expect("has one");
    wires.crash(4);
    wires.input(0, Input::SessionDown { session: over, reason: None });
    assert_eq!(wires.hosts[0].lanes.get(&wires.peer(4)), Some(&None));
    wires.start(4);
    wires.pass(Duration::from_secs(2));
    assert_eq!(wires.node(4).join_status(), JoinStatus::Following);
    tell(&mut wires, &charter, &[4]);
    assert_eq!(wires.node(4).join_status(), JoinStatus::Member);
    wires.pass(Duration::from_secs(4));
    for other in 0..4 {
        assert!(wires.session(4, other).is_some(), "has no session with {other}");
    }
}

#[test]
fn who_has_no_vote_neither_invites_nor_removes() {
    let (mut wires, mut charter) = four_and(1);
    join(&mut wires, 4);
    let admission = wires.hosts[0].proposed.pop().expect("is proposed");
    decide(&mut wires, &mut charter, 0, &admission, &[0, 1, 2, 3]);
    wires.pass(Duration::from_secs(2));
    tell(&mut wires, &charter, &[4]);
    let address = std::net::SocketAddr::from(([10, 0, 0, 4], 1));
    let invited = wires.drive(4, |node, now| node.invite(now, 60_000, true, &[address]));
    assert_eq!(invited.expect_err("has no vote"), MembershipError::NoVote);
    let peer = wires.peer(1);
    let removed = wires.drive(4, |node, now| node.revoke(now, &peer, ""));
    assert_eq!(removed.expect_err("has no vote"), MembershipError::NoVote);
    // Any member with a vote invites, not only the founder.
    let address = std::net::SocketAddr::from(([10, 0, 0, 2], 1));
    assert!(wires.drive(2, |node, now| node.invite(now, 60_000, true, &[address])).is_ok());
}

#[test]
fn a_member_that_is_decided_away_loses_its_sessions_at_once_and_believes_so_many_that_one_is_right()
{
    let (mut wires, mut charter) = four_and(1);
    join(&mut wires, 4);
    let admission = wires.hosts[0].proposed.pop().expect("is proposed");
    decide(&mut wires, &mut charter, 0, &admission, &[0, 1, 2, 3]);
    wires.pass(Duration::from_secs(2));
    tell(&mut wires, &charter, &[4]);
    wires.pass(Duration::from_secs(4));
    let peer = wires.peer(4);
    let revoke = Decision::Revoke { peer, reason: "gone".to_owned() };
    // Its sponsor takes its word back. One voter has heard of it.
    let update = revoke.to_update().expect("in bounds");
    let member = wires.peer(0);
    let outcome = charter.apply(1, &Logged { member, number: 1, index: 0, update });
    assert_eq!(outcome, Outcome::Effective);
    wires.input(1, Input::Decided(Arc::new(charter.roster())));
    let closes = wires.pending.iter().any(|what| {
        matches!(what, Pending::Close { at: 1, reason: CloseReason::Revoked, drain: false, .. })
    });
    assert!(closes, "its session is closed at once");
    wires.run();
    assert_eq!(wires.node(4).join_status(), JoinStatus::Member, "one voter alone may lie");
    tell(&mut wires, &charter, &[2]);
    assert!(matches!(wires.node(4).join_status(), JoinStatus::Refused { .. }));
}

#[test]
fn a_node_that_starts_again_with_its_log_has_the_roster_of_the_log() {
    let (mut wires, mut charter) = four_and(0);
    let peer = wires.peer(3);
    let revoke = Decision::Revoke { peer, reason: "gone".to_owned() };
    for by in 0..3 {
        let outcome = decide(&mut wires, &mut charter, by, &revoke, &[]);
        assert_eq!(outcome == Outcome::Effective, by == 2);
    }
    wires.crash(0);
    let state = wires.hosts[0].disk.clone().expect("is saved");
    let (_, founding) =
        exo_node::state::constitution(&state).expect("reads").expect("is constituted");
    assert_eq!(Some(&founding), wires.hosts[0].founding.as_ref());
    wires.start_decided(0, Arc::new(charter.roster()));
    let gone = wires.node(0).peers().into_iter().find(|view| view.peer == peer);
    assert_eq!(gone.expect("is shown").state, exo_node::PeerState::Revoked);
}
