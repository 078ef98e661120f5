//! Bugs that others shipped with changes of membership and lost disks.

use exo_consensus::{Change, Message, Role, Start};
use exo_types::Epoch;

use crate::lab::{Lab, everything, id, voter};

fn votes(message: &Message) -> bool {
    matches!(
        message,
        Message::PrePrepare(_)
            | Message::Prepare(_)
            | Message::Commit(_)
            | Message::Cosignature(_)
            | Message::ViewChange(_)
            | Message::NewView(_)
    )
}

mod laggards_cannot_reach_the_reconfiguration_point {
    //! concord #927.
    use super::*;

    #[test]
    fn who_missed_epochs_walks_through_them() {
        let mut lab = Lab::new(4);
        let cut = |from: usize, to: usize, _: &Message| from != 3 && to != 3;
        for generation in 1..4 {
            lab.wish(&[0, 1, 2], &Change::Rotate(voter(0, generation)));
            lab.pass(1_000, cut);
            for _ in 0..10 {
                lab.submit(1);
                lab.pass(50, cut);
            }
        }
        assert_eq!(lab.core(0).epoch(), Epoch(3));
        assert_eq!(lab.core(3).epoch(), Epoch(0));
        lab.pass(5_000, everything);
        assert_eq!(lab.core(3).epoch(), Epoch(3));
        assert_eq!(lab.core(3).point(), lab.core(0).point());
        lab.crash(0, 0);
        let ticket = lab.submit(3);
        lab.pass(10_000, |from, to, _| from != 0 && to != 0);
        assert_eq!(lab.nodes[3].done.last(), Some(&ticket));
    }

    #[test]
    fn an_idle_group_whose_primary_died_still_finishes_its_last_proof() {
        let mut lab = Lab::new(4);
        let ticket = lab.submit(1);
        // Three commit; the primary dies before it cosigns, and the fourth never saw the proposal.
        lab.deliver(|from, to, m| to != 2 && !(from == 0 && matches!(m, Message::Cosignature(_))));
        lab.crash(0, 0);
        assert_eq!(lab.contents(1), vec![vec![ticket]]);
        assert!(lab.nodes[1].done.is_empty());
        lab.pass(10_000, |from, to, _| from != 0 && to != 0);
        assert_eq!(lab.nodes[1].done, vec![ticket]);
        assert_eq!(lab.contents(2), vec![vec![ticket]]);
    }

    #[test]
    fn the_last_batch_of_an_epoch_reaches_who_missed_its_votes() {
        let mut lab = Lab::new(4);
        lab.wish(&[0, 1, 2], &Change::Rotate(voter(0, 1)));
        // Replica 2 hears no commit, and one cosignature fewer than needed is made.
        lab.deliver(|from, to, m| {
            from != 3 && to != 3 && !(to == 2 && matches!(m, Message::Commit(_)))
        });
        lab.pass(8_000, |from, to, _| from != 3 && to != 3);
        for n in 0..3 {
            assert_eq!(lab.core(n).epoch(), Epoch(1), "{n}");
        }
    }
}

mod wiped_replicas_halt_the_chain {
    //! besu #8307.
    use super::*;

    #[test]
    fn a_replica_without_its_journal_does_not_vote_until_its_own_new_epoch() {
        let mut lab = Lab::new(4);
        for _ in 0..5 {
            lab.submit(1);
            lab.deliver(everything);
        }
        lab.crash(3, 0);
        lab.nodes[3].sent.clear();
        lab.begin(3, Start::Wiped { nonce: 77 });
        assert_eq!(lab.core(3).role(), Role::Wiped { nonce: 77 });
        let epoch_before = lab.core(0).epoch();
        let mut silent = true;
        for _ in 0..200 {
            lab.pass(50, everything);
            if lab.core(3).epoch() == epoch_before {
                silent &= !lab.nodes[3].sent.iter().any(votes);
            }
        }
        assert!(silent, "it voted in an epoch in which it may have voted before");
        assert_eq!(lab.core(3).role(), Role::Voter);
        assert_eq!(lab.core(3).epoch(), Epoch(1));
        // It is needed now.
        lab.crash(2, 0);
        let ticket = lab.submit(3);
        lab.pass(10_000, |from, to, _| from != 2 && to != 2);
        assert!(lab.nodes[3].done.contains(&ticket));
    }

    #[test]
    fn an_older_request_to_rejoin_does_not_let_a_replica_vote_that_lost_its_journal_again() {
        let mut lab = Lab::new(4);
        lab.submit(0);
        lab.deliver(everything);
        lab.crash(3, 0);
        lab.begin(3, Start::Wiped { nonce: 1 });
        lab.pass(3_000, everything);
        assert_eq!(lab.core(3).role(), Role::Voter);
        lab.crash(3, 0);
        lab.begin(3, Start::Wiped { nonce: 2 });
        // It takes over the log, in which the first request's epoch begins.
        lab.pass(3_000, everything);
        assert_eq!(lab.core(3).epoch(), Epoch(1));
        assert_eq!(lab.core(3).role(), Role::Wiped { nonce: 2 });
        // One may rejoin again after a number of batches.
        for _ in 0..70 {
            lab.submit(1);
            lab.pass(50, everything);
        }
        lab.pass(3_000, everything);
        assert_eq!(lab.core(3).role(), Role::Voter);
        assert_eq!(lab.core(3).epoch(), Epoch(2));
    }
}

mod a_new_voter {
    use super::*;

    #[test]
    fn joins_through_all_epochs_and_votes() {
        let mut lab = Lab::new(4);
        lab.add(4, Start::Joining);
        lab.wish(&[0, 1, 2, 3], &Change::Rotate(voter(1, 1)));
        lab.pass(1_000, everything);
        lab.wish(&[0, 1, 2, 3], &Change::Admit(voter(4, 0)));
        lab.pass(5_000, everything);
        assert_eq!(lab.core(4).epoch(), Epoch(2));
        assert_eq!(lab.core(4).role(), Role::Voter);
        lab.crash(0, 0);
        let ticket = lab.submit(4);
        lab.pass(20_000, |from, to, _| from != 0 && to != 0);
        assert!(lab.nodes[4].done.contains(&ticket), "four of five are a quorum");
        lab.assert_agreement();
    }

    #[test]
    fn a_removed_one_learns_of_it_and_its_updates_are_declined() {
        let mut lab = Lab::new(5);
        lab.wish(&[0, 1, 2, 3], &Change::Remove(id(4)));
        lab.pass(1_000, everything);
        assert_eq!(lab.core(0).directory().voters.count(), 4);
        let ticket = lab.submit(4);
        lab.pass(3_000, everything);
        assert_eq!(lab.nodes[4].declined, vec![ticket]);
        let ticket = lab.submit(3);
        lab.pass(1_000, everything);
        assert!(lab.nodes[3].done.contains(&ticket));
    }
}

mod an_epoch_change_during_a_view_change {
    use super::*;

    #[test]
    fn who_is_between_views_begins_the_new_epoch_in_its_first_view() {
        let mut lab = Lab::new(4);
        // Replica 3 leaves alone.
        lab.submit(3);
        lab.pass(2_000, |from, to, _| from != 3 && to != 3);
        assert!(!lab.core(3).is_active());
        lab.wish(&[0, 1, 2], &Change::Rotate(voter(0, 1)));
        lab.pass(1_000, |from, to, _| from != 3 && to != 3);
        assert_eq!(lab.core(0).epoch(), Epoch(1));
        lab.pass(3_000, everything);
        assert_eq!(lab.core(3).epoch(), Epoch(1));
        assert!(lab.core(3).is_active());
        lab.crash(1, 0);
        let ticket = lab.submit(3);
        lab.pass(10_000, |from, to, _| from != 1 && to != 1);
        assert!(lab.nodes[3].done.contains(&ticket));
    }

    #[test]
    fn the_turn_is_made_when_its_primary_fails_in_the_middle() {
        let mut lab = Lab::new(4);
        lab.wish(&[0, 1, 2, 3], &Change::Rotate(voter(2, 1)));
        // The batch that ends the epoch is prepared, and its primary dies.
        lab.deliver(|_, _, m| !matches!(m, Message::Commit(_)));
        lab.crash(0, 0);
        lab.pass(8_000, |from, to, _| from != 0 && to != 0);
        for n in 1..4 {
            assert_eq!(lab.core(n).epoch(), Epoch(1), "{n}");
        }
        lab.assert_agreement();
    }
}
