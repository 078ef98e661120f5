//! A host that fails to sign is asked again, ever more rarely.

use exo_consensus::Message;
use exo_types::Sequence;

use crate::lab::{Lab, everything};

#[test]
fn an_update_whose_bundle_was_not_signed_is_committed_once_it_can_be() {
    let mut lab = Lab::new(4);
    lab.nodes[1].signs = false;
    let ticket = lab.submit(1);
    lab.pass(3_000, everything);
    assert!(lab.nodes[1].done.is_empty());
    lab.nodes[1].signs = true;
    lab.pass(4_000, everything);
    assert_eq!(lab.nodes[1].done, [ticket]);
    lab.assert_agreement();
}

#[test]
fn a_cosignature_that_was_not_made_is_made_later() {
    let mut lab = Lab::new(4);
    for n in [2, 3] {
        lab.nodes[n].signs = false;
    }
    let ticket = lab.submit(0);
    lab.pass(3_000, everything);
    assert_eq!(lab.core(0).stable().sequence, Sequence(0), "two of four are no quorum");
    lab.nodes[2].signs = true;
    lab.pass(4_000, everything);
    assert_eq!(lab.nodes[0].done, [ticket]);
    assert_eq!(lab.core(0).stable(), lab.core(0).point());
}

#[test]
fn a_view_change_and_a_new_view_that_were_not_signed_are_signed_later() {
    let mut lab = Lab::new(4);
    let ticket = lab.submit(2);
    // The first primary is silent, and the next one cannot sign.
    lab.nodes[1].signs = false;
    lab.pass(4_000, |from, to, _| from != 0 && to != 0);
    assert!(lab.nodes[2].done.is_empty());
    lab.nodes[1].signs = true;
    lab.pass(40_000, |from, to, _| from != 0 && to != 0);
    assert_eq!(lab.nodes[2].done, [ticket]);
    lab.assert_agreement();
}

#[test]
fn who_cannot_sign_is_not_asked_without_end() {
    let mut lab = Lab::new(4);
    lab.nodes[1].signs = false;
    lab.submit(1);
    let before = lab.effects[1];
    lab.pass(60_000, |from, to, m| (from != 1 && to != 1) || matches!(m, Message::Commit(_)));
    let asked = lab.unsigned[1];
    assert!((5..=14).contains(&asked), "{asked} times in a minute");
    assert!(lab.effects[1] > before);
}
