//! Bugs that others shipped in their view changes, and the ways in which they are not here.

use std::cell::RefCell;

use exo_consensus::{Message, Status};
use exo_types::View;

use crate::lab::{Lab, everything};

fn is_status(message: &Message) -> bool {
    matches!(message, Message::Status(_))
}

mod prepared_state_dropped_at_a_view_change {
    //! raijin #8.
    use super::*;

    #[test]
    fn what_was_prepared_comes_first_in_the_new_view() {
        let mut lab = Lab::new(4);
        // The primary's own update is prepared by all, and committed by nobody.
        let first = lab.submit(0);
        lab.deliver(|_, _, message| !matches!(message, Message::Commit(_)));
        // The next primary has something else that waits since.
        let second = lab.submit(1);
        lab.deliver(|_, _, _| false);
        lab.crash(0, 0);
        lab.pass(6_000, |from, to, m| {
            // No commit of the old view, by which the place would be decided anyway.
            from != 0 && to != 0 && !matches!(m, Message::Commit(v) if v.view == View(0))
        });
        assert!(lab.core(1).view() >= View(1));
        assert_eq!(lab.contents(1), vec![vec![first], vec![second]]);
        lab.assert_agreement();
    }
}

mod wrong_checkpoint_in_a_new_view {
    //! fabric #1111: endless view changes.
    use super::*;

    #[test]
    fn the_highest_certified_checkpoint_is_taken_when_replicas_know_different_ones() {
        let mut lab = Lab::new(4);
        // Two replicas collect the cosignatures of the first three batches, a third one does not.
        let only_some = |_: usize, to: usize, m: &Message| {
            !matches!(m, Message::Cosignature(_)) || to == 1 || to == 2
        };
        for _ in 0..3 {
            lab.submit(2);
            lab.deliver(only_some);
        }
        assert_eq!(lab.core(2).stable().sequence.0, 3);
        assert_eq!(lab.core(1).stable().sequence.0, 3);
        assert_eq!(lab.core(3).stable().sequence.0, 0);
        lab.crash(0, 0);
        // It leaves first, for it has something to wait for, and knows no checkpoint.
        let ticket = lab.submit(3);
        lab.pass(2_000, |from, to, m| {
            let piece = to == 3 && matches!(m, Message::LogPiece(_));
            from != 0 && to != 0 && !piece && only_some(from, to, m)
        });
        assert_eq!(lab.contents(3).last(), Some(&vec![ticket]));
        assert!(lab.core(3).is_active());
        assert_eq!(lab.core(3).view(), View(1), "the first new view decides");
        lab.assert_agreement();
    }
}

mod null_request_off_by_one {
    //! swarmDB #188.
    use super::*;

    #[test]
    fn a_gap_is_filled_with_nothing_and_what_follows_keeps_its_place() {
        let mut lab = Lab::new(4);
        let lost = lab.submit(0);
        lab.deliver(|_, _, _| false);
        let kept = lab.submit(0);
        // The second place is prepared, the first was never heard of.
        lab.deliver(|_, _, m| !matches!(m, Message::Commit(_)));
        lab.crash(0, 0);
        let more = lab.submit(2);
        lab.pass(6_000, |from, to, _| from != 0 && to != 0);
        let contents = lab.contents(2);
        assert_eq!(contents[0], Vec::<u64>::new(), "{contents:?}");
        // The second request's number is not its member's next: the first was lost with its primary.
        assert!(contents.iter().flatten().all(|t| *t != lost && *t != kept), "{contents:?}");
        assert_eq!(lab.nodes[2].log[1].seal.sequence.0, 2);
        assert_ne!(lab.nodes[2].log[1].seal.digest, lab.nodes[2].log[0].seal.digest);
        assert_eq!(contents.iter().flatten().collect::<Vec<_>>(), vec![&more]);
        lab.assert_agreement();
    }
}

mod new_view_accepted_without_its_requests {
    //! swarmDB #355.
    use super::*;

    #[test]
    fn a_replica_votes_for_a_batch_again_only_when_it_has_the_content() {
        let mut lab = Lab::new(4);
        let ticket = lab.submit(0);
        // Replica 3 hears votes, and not the proposal. Nobody commits.
        lab.deliver(|_, to, m| {
            !(matches!(m, Message::Commit(_)) || to == 3 && matches!(m, Message::PrePrepare(_)))
        });
        let other = lab.submit(2);
        lab.deliver(|_, _, _| false);
        let cut = |from: usize, to: usize, m: &Message| {
            let content = matches!(m, Message::BatchContent(_) | Message::PrePrepare(_));
            let old = matches!(m, Message::Commit(v) if v.view == View(0));
            from != 0 && !(to == 3 && content) && !old && to != 0
        };
        lab.pass(2_000, cut);
        assert_eq!(lab.core(3).view(), View(1));
        let asks = |m: &Message| matches!(m, Message::FetchBatch(_));
        assert!(lab.nodes[3].sent.iter().any(asks), "it asks for what it lacks");
        let votes = |m: &Message| matches!(m, Message::Prepare(_) | Message::Commit(_));
        assert!(!lab.nodes[3].sent.iter().any(votes), "it has voted for what it does not have");
        lab.pass(3_000, |from, to, _| from != 0 && to != 0);
        assert_eq!(lab.contents(3).iter().flatten().collect::<Vec<_>>(), vec![&ticket, &other]);
        lab.assert_agreement();
    }
}

mod timers_unarmed_after_a_partition {
    //! fabric #1917: halt for ever.
    use super::*;

    #[test]
    fn replicas_that_left_for_different_views_meet_again() {
        for cut_millis in [300, 1_100, 2_500, 5_000, 9_000] {
            let mut lab = Lab::new(4);
            lab.submit(2);
            lab.submit(0);
            // Three are needed, and two see each other.
            lab.pass(cut_millis, |from, to, _| (from < 2) == (to < 2));
            // A second cut at another place, while some are on the way.
            lab.pass(cut_millis / 2, |from, to, _| (from % 2) == (to % 2));
            lab.pass(30_000, everything);
            let ticket = lab.submit(3);
            lab.pass(3_000, everything);
            assert_eq!(lab.nodes[3].done, vec![ticket], "after {cut_millis} ms");
            for n in 0..4 {
                assert!(lab.core(n).is_active(), "{n} after {cut_millis} ms");
            }
            lab.assert_agreement();
        }
    }

    #[test]
    fn a_view_whose_primary_is_down_too_is_given_up_in_turn() {
        let mut lab = Lab::new(7);
        lab.crash(0, 0);
        lab.crash(1, 0);
        let ticket = lab.submit(4);
        lab.pass(15_000, |from, to, _| from > 1 && to > 1);
        assert_eq!(lab.nodes[4].done, vec![ticket]);
        assert_eq!(lab.core(4).view(), View(2));
    }

    #[test]
    fn a_lost_view_change_is_said_again_until_it_is_heard() {
        let mut lab = Lab::new(4);
        lab.crash(0, 0);
        let ticket = lab.submit(1);
        // For a while every view change is lost; statuses pass.
        lab.pass(4_000, |_, to, m| to != 0 && (is_status(m) || matches!(m, Message::Request(_))));
        assert!(!lab.core(1).is_active());
        lab.pass(12_000, |from, to, _| from != 0 && to != 0);
        assert_eq!(lab.nodes[1].done, vec![ticket]);
    }
}

mod stuck_in_a_view_change_after_catching_up {
    //! sawtooth-pbft #90.
    use super::*;

    #[test]
    fn who_left_alone_comes_into_the_view_of_the_others() {
        let mut lab = Lab::new(4);
        // Replica 3 is cut off with something to wait for, and leaves its view alone.
        lab.submit(3);
        lab.pass(3_000, |from, to, _| from != 3 && to != 3);
        assert!(!lab.core(3).is_active());
        // The others change their view too, and go on for longer than anything is kept.
        lab.submit(1);
        lab.pass(4_000, |from, to, m| {
            from != 3 && to != 3 && !(from == 0 && matches!(m, Message::PrePrepare(_)))
        });
        assert_eq!(lab.core(1).view(), View(1));
        assert!(lab.core(1).is_active());
        for _ in 0..60 {
            lab.submit(1);
            lab.submit(2);
            lab.pass(50, |from, to, _| from != 3 && to != 3);
        }
        let ahead = lab.core(1).point().sequence;
        assert!(ahead.0 > 40);
        lab.pass(10_000, everything);
        assert!(lab.core(3).point().sequence >= ahead);
        assert_eq!(lab.core(3).view(), View(1));
        assert!(lab.core(3).is_active());
        // From here on it is needed.
        lab.crash(2, 0);
        let ticket = lab.submit(3);
        lab.pass(20_000, |from, to, _| from != 2 && to != 2);
        assert!(lab.nodes[3].done.contains(&ticket));
        assert!(lab.core(3).is_active());
        lab.assert_agreement();
    }

    #[test]
    fn a_decided_place_is_carried_out_in_the_middle_of_a_view_change() {
        let mut lab = Lab::new(4);
        let ticket = lab.submit(0);
        let held = RefCell::new(Vec::new());
        lab.deliver(|from, to, m| {
            let hold = to == 3 && matches!(m, Message::Commit(_));
            if hold {
                held.borrow_mut().push((from, m.clone()));
            }
            !(hold || to == 3 && matches!(m, Message::Cosignature(_)))
        });
        lab.pass(2_000, |from, to, _| from != 3 && to != 3);
        assert!(!lab.core(3).is_active());
        for (from, message) in held.into_inner() {
            lab.give(from, 3, message);
        }
        assert_eq!(lab.contents(3), vec![vec![ticket]]);
    }
}

mod duplicate_requests_across_views {
    use super::*;

    #[test]
    fn a_request_that_two_primaries_proposed_is_carried_out_once() {
        let mut lab = Lab::new(4);
        let first = lab.submit(3);
        // It is proposed and accepted by two, so that it cannot be committed in this view.
        lab.deliver(|_, to, m| !matches!(m, Message::PrePrepare(_)) || to == 1);
        let second = lab.submit(2);
        lab.deliver(everything);
        // The first primary is cut off, and the second has both requests waiting.
        lab.pass(4_000, |from, to, _| from != 0 && to != 0);
        assert!(lab.core(1).view() >= View(1));
        lab.pass(4_000, everything);
        let all: Vec<u64> = lab.contents(1).into_iter().flatten().collect();
        assert_eq!(all.iter().filter(|t| **t == first).count(), 1, "{all:?}");
        assert_eq!(all.iter().filter(|t| **t == second).count(), 1, "{all:?}");
        lab.assert_agreement();
    }

    #[test]
    fn a_request_in_two_batches_of_a_lying_primary_is_carried_out_once() {
        let mut lab = Lab::new(4);
        let ticket = lab.submit(0);
        let again = RefCell::new(None);
        lab.deliver(|_, _, m| {
            if let Message::PrePrepare(of) = m {
                let mut of = of.clone();
                of.sequence = of.sequence.next();
                *again.borrow_mut() = Some(Message::PrePrepare(of));
            }
            true
        });
        let again = again.into_inner().expect("it was proposed");
        for to in 1..4 {
            lab.give(0, to, again.clone());
        }
        lab.deliver(everything);
        for n in 1..4 {
            let contents = lab.contents(n);
            assert_eq!(contents.len(), 2, "the second batch is committed: {contents:?}");
            assert_eq!(contents.concat(), vec![ticket]);
        }
    }
}

mod a_bounded_mailbox {
    //! Mailboxes sized by rate and peers: gigabytes.
    use exo_consensus::sim::{cosign, sign};
    use exo_consensus::{
        Blob, Bundle, BundleHead, Cosignature, Digest, Point, Root, Update, Vote, bundle_root,
    };
    use exo_types::limits::{ACCEPTED_SEQUENCES_MAX, BUNDLES_PENDING_PER_MEMBER_MAX};
    use exo_types::{Epoch, PeerId, Sequence};
    use std::sync::Arc;

    use super::*;
    use crate::lab::{FEDERATION, id};

    fn request(n: usize, number: u64) -> Message {
        let updates = vec![Update::Data(Blob::new(vec![1; 100]).expect("short"))];
        let root = bundle_root(&updates);
        let member: PeerId = id(n);
        let head = BundleHead { federation: FEDERATION, member, number, count: 1, root };
        let head = sign(&member, &head).expect("signs");
        Message::Request(Arc::new(Bundle { head, updates }))
    }

    #[test]
    fn whatever_one_replica_sends_another_holds_little() {
        let mut lab = Lab::new(4);
        for i in 0..5_000u64 {
            let digest = Digest([i as u8; 32]);
            let vote = Vote { epoch: Epoch(0), view: View(i % 7), sequence: Sequence(i), digest };
            lab.give(3, 1, Message::Prepare(vote));
            lab.give(3, 1, Message::Commit(vote));
            lab.give(3, 1, request(3, i));
            let point = Point { sequence: Sequence(i), size: i, root: Root([2; 32]) };
            let signature = Blob::new(cosign(&id(3), i, point.root)).expect("short");
            let cosignature = Cosignature { epoch: Epoch(0), point, signature };
            lab.give(3, 1, Message::Cosignature(cosignature));
            lab.give(
                3,
                1,
                Message::Status(Status {
                    epoch: Epoch(i),
                    view: View(i),
                    active: i % 2 == 0,
                    executed: Sequence(i),
                    stable: Sequence(i),
                    accepted: i as u32,
                    prepared: 0,
                    committed: 0,
                    view_changes: 0,
                }),
            );
            lab.wire.clear();
        }
        let load = lab.core(1).load();
        assert!(load.slots <= ACCEPTED_SEQUENCES_MAX as usize, "{load:?}");
        assert!(load.cosignatures <= ACCEPTED_SEQUENCES_MAX as usize, "{load:?}");
        assert!(load.pending <= BUNDLES_PENDING_PER_MEMBER_MAX, "{load:?}");
        assert_eq!(load.waiting, 0, "{load:?}");
    }

    #[test]
    fn a_disk_that_stands_still_bounds_what_waits_for_it() {
        let mut lab = Lab::new(4);
        lab.nodes[1].durable = false;
        lab.submit(1);
        lab.submit(0);
        lab.pass(1_200_000, |from, _, _| from != 1);
        let load = lab.core(1).load();
        assert!(load.waiting <= exo_types::limits::CONSENSUS_OUTBOX_MAX + 64, "{load:?}");
        assert!(lab.nodes[1].sent.is_empty(), "nothing left before the disk had anything");
    }
}
