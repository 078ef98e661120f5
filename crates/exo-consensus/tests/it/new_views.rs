//! The beginning of a view: who leads it, who goes into it, and how often.

use exo_consensus::sim::sign;
use exo_consensus::{Message, Point, Record, Root, Statement, statement_digest};
use exo_types::{Sequence, View};

use crate::lab::{Lab, everything, id};

fn new_views(lab: &Lab, n: usize) -> usize {
    lab.nodes[n].journal.iter().filter(|record| matches!(record, Record::NewView(_))).count()
}

/// The first primary is silent.
fn alive(from: usize, to: usize) -> bool {
    from != 0 && to != 0
}

#[test]
fn a_primary_says_once_which_view_changes_its_view_stands_on() {
    let mut lab = Lab::new(7);
    lab.submit(2);
    // All leave the view of the silent primary; the next one has signed that it does, and hears of the others
    // only later, while it cannot sign.
    lab.pass(1_500, |from, to, m| {
        alive(from, to) && !(to == 1 && matches!(m, Message::ViewChange(_)))
    });
    assert_eq!(new_views(&lab, 1), 0);
    lab.nodes[1].signs = false;
    let heard = (0..40).find(|_| {
        lab.pass(50, |from, to, _| alive(from, to));
        new_views(&lab, 1) > 0
    });
    assert!(heard.is_some(), "it hears of the others");
    assert_eq!(new_views(&lab, 1), 1, "five are enough, and the sixth comes too late");
}

#[test]
fn a_primary_that_has_not_left_the_view_before_begins_no_other() {
    let mut lab = Lab::new(7);
    lab.submit(2);
    lab.nodes[1].signs = false;
    lab.pass(1_500, |from, to, _| alive(from, to));
    assert_eq!(new_views(&lab, 1), 0, "its own view change is not signed");
    lab.nodes[1].signs = true;
    lab.pass(3_000, |from, to, _| alive(from, to));
    assert!(new_views(&lab, 1) > 0);
    assert_eq!(lab.nodes[2].done.len(), 1);
}

#[test]
fn who_has_not_left_goes_into_a_later_view_that_a_quorum_left_for() {
    let mut lab = Lab::new(7);
    lab.submit(2);
    lab.pass(3_000, |from, to, m| alive(from, to) && (to != 6 || matches!(m, Message::NewView(_))));
    let left = |record: &Record| matches!(record, Record::ViewChange(_));
    assert!(!lab.nodes[6].journal.iter().any(left), "it knew of no reason to");
    assert_eq!(lab.core(6).view(), View(1));
}

#[test]
fn a_new_view_that_comes_again_changes_nothing() {
    let mut lab = Lab::new(4);
    lab.submit(2);
    lab.pass(3_000, |from, to, _| alive(from, to));
    assert_eq!((lab.core(2).view(), new_views(&lab, 2)), (View(1), 1));
    let new_view = |message: &&Message| matches!(message, Message::NewView(_));
    let again = lab.nodes[1].sent.iter().find(new_view).expect("was sent").clone();
    let effects = lab.effects[2];
    lab.wire.push_back((1, 2, again));
    lab.deliver(&mut everything);
    assert_eq!((new_views(&lab, 2), lab.effects[2]), (1, effects));
}

#[test]
fn a_view_does_not_stand_on_a_checkpoint_that_nobody_certified() {
    let mut lab = Lab::new(4);
    lab.submit(2);
    lab.pass(1_500, |from, to, m| {
        alive(from, to) && !(to == 2 && matches!(m, Message::NewView(_)))
    });
    let sent = lab.nodes[1].sent.iter().find_map(|message| match message {
        Message::NewView(of) => Some((**of).clone()),
        _ => None,
    });
    let genuine = sent.expect("the next primary leads");
    assert_eq!((lab.core(2).view(), new_views(&lab, 2)), (View(1), 0));
    // The primary says of itself that it has a checkpoint far ahead, and proves nothing.
    let Ok(Statement::NewView(mut value)) = genuine.signed.claimed() else { panic!("a new view") };
    let mut forged = genuine.clone();
    for (at, signed) in genuine.view_changes.iter().enumerate() {
        let Ok(Statement::ViewChange(mut change)) = signed.claimed() else { panic!("a change") };
        if change.sender == id(1) {
            change.stable = Point { sequence: Sequence(5), size: 9, root: Root([9; 32]) };
            forged.view_changes[at] = sign(&id(1), &Statement::ViewChange(change)).expect("signs");
            value.view_changes[at].1 = statement_digest(&forged.view_changes[at]);
        }
    }
    forged.signed = sign(&id(1), &Statement::NewView(value)).expect("signs");
    assert_ne!(forged, genuine);
    for (of, entered) in [(forged, 0), (genuine, 1)] {
        lab.wire.push_back((1, 2, Message::NewView(Box::new(of))));
        lab.deliver(&mut everything);
        assert_eq!(new_views(&lab, 2), entered);
    }
}

#[test]
fn a_view_change_counts_only_with_the_proof_of_its_checkpoint() {
    let mut lab = Lab::new(4);
    lab.submit(2);
    // The next primary has its own view change and one other; with a third it begins.
    lab.pass(1_500, |from, to, m| {
        alive(from, to) && !(from == 3 && to == 1 && matches!(m, Message::ViewChange(_)))
    });
    let sent = lab.nodes[3].sent.iter().find_map(|message| match message {
        Message::ViewChange(of) => Some((**of).clone()),
        _ => None,
    });
    let genuine = sent.expect("it leaves");
    let Ok(Statement::ViewChange(mut change)) = genuine.signed.claimed() else {
        panic!("a change")
    };
    change.stable = Point { sequence: Sequence(5), size: 9, root: Root([9; 32]) };
    let mut forged = genuine.clone();
    forged.signed = sign(&id(3), &Statement::ViewChange(change)).expect("signs");
    for (of, begun) in [(forged, false), (genuine, true)] {
        lab.wire.push_back((3, 1, Message::ViewChange(Box::new(of))));
        lab.deliver(&mut |from, to, _: &Message| alive(from, to) && from == 3);
        assert_eq!(new_views(&lab, 1) > 0, begun);
    }
}
