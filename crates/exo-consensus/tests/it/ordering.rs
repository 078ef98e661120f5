//! The ordinary way of an update, and what a group without faults does.

use exo_consensus::{Change, Message};

use crate::lab::{Lab, everything, voter};

#[test]
fn an_update_is_committed_and_certified_at_every_replica() {
    for n in [4, 7, 10] {
        let mut lab = Lab::new(n);
        let ticket = lab.submit(n - 1);
        lab.deliver(everything);
        assert_eq!(lab.nodes[n - 1].done, vec![ticket], "{n} replicas");
        lab.assert_agreement();
        for node in 0..n {
            assert_eq!(lab.contents(node), vec![vec![ticket]]);
            assert_eq!(lab.core(node).stable(), lab.core(node).point());
        }
    }
}

#[test]
fn votes_and_cosignatures_travel_once_when_nothing_is_lost() {
    let mut lab = Lab::new(4);
    lab.submit(0);
    let mut counts = [0; 4];
    lab.deliver(|_, _, message| {
        match message {
            Message::PrePrepare(_) => counts[0] += 1,
            Message::Prepare(_) => counts[1] += 1,
            Message::Commit(_) => counts[2] += 1,
            Message::Cosignature(_) => counts[3] += 1,
            other => panic!("unexpected {other:?}"),
        }
        true
    });
    assert_eq!(counts, [3, 9, 12, 12]);
}

#[test]
fn many_updates_share_few_batches() {
    let mut lab = Lab::new(4);
    for _ in 0..200 {
        lab.submit(1);
        lab.submit(2);
    }
    lab.deliver(everything);
    assert_eq!(lab.nodes[1].done.len(), 200);
    assert_eq!(lab.nodes[2].done.len(), 200);
    assert!(lab.nodes[0].log.len() < 20, "{} batches", lab.nodes[0].log.len());
    lab.assert_agreement();
}

#[test]
fn a_wish_of_fewer_than_a_quorum_changes_nothing() {
    let mut lab = Lab::new(4);
    let change = Change::Admit(voter(8, 0));
    lab.wish(&[0, 1], &change);
    lab.deliver(everything);
    assert_eq!(lab.core(0).epoch().0, 0);
    lab.wish(&[2], &change);
    lab.deliver(everything);
    for node in 0..4 {
        assert_eq!(lab.core(node).epoch().0, 1);
        assert_eq!(lab.core(node).directory().voters.count(), 5);
    }
    // The new voter is not up; four of five are a quorum.
    let ticket = lab.submit(3);
    lab.deliver(everything);
    assert_eq!(lab.nodes[3].done.last(), Some(&ticket));
}
