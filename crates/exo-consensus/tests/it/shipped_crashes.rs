//! Bugs that others shipped around crashes: what is said must be on the disk, what is on the disk counts.

use exo_consensus::{Message, Record, Replica};
use exo_types::View;

use crate::lab::{FEDERATION, Lab, everything, id, logged};

fn binds(message: &Message) -> bool {
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

mod honest_equivocation_from_guards_that_were_not_durable {
    //! telcoin #934.
    use super::*;

    #[test]
    fn nothing_that_binds_leaves_before_its_record_is_durable() {
        let mut lab = Lab::new(4);
        for n in 0..4 {
            lab.nodes[n].durable = false;
        }
        // Every node has something to propose, to vote on, and a view to leave.
        for n in 0..4 {
            lab.submit(n);
        }
        lab.pass(5_000, everything);
        for n in 0..4 {
            assert!(!lab.nodes[n].sent.iter().any(binds), "{n} speaks before its disk");
            assert!(!lab.nodes[n].journal.is_empty());
        }
    }

    #[test]
    fn a_vote_whose_record_was_lost_was_never_heard_and_may_be_cast_otherwise() {
        let mut lab = Lab::new(4);
        lab.nodes[1].durable = false;
        lab.submit(0);
        lab.deliver(everything);
        assert!(!lab.nodes[1].sent.iter().any(binds));
        let kept = lab.nodes[1].journal.iter().position(|r| matches!(r, Record::Accepted(_)));
        lab.crash(1, kept.expect("it accepted"));
        lab.nodes[1].durable = true;
        lab.restart(1);
        lab.pass(2_000, everything);
        lab.assert_agreement();
        assert_eq!(lab.core(1).point(), lab.core(0).point());
    }
}

mod replay_forgets_its_own_vote {
    //! commonware #4275.
    use super::*;

    #[test]
    fn all_replicas_crash_after_journaling_their_votes_and_go_on_in_the_same_view() {
        let mut lab = Lab::new(4);
        let ticket = lab.submit(0);
        // Everybody accepts; no vote arrives anywhere.
        lab.deliver(|_, _, m| matches!(m, Message::PrePrepare(_)));
        for n in 0..4 {
            let kept = lab.nodes[n].journal.len();
            assert!(lab.nodes[n].journal.iter().any(|r| matches!(r, Record::Accepted(_))));
            lab.crash(n, kept);
        }
        // Three come back: each needs its own vote and both others'.
        for n in 0..3 {
            lab.restart(n);
        }
        // Something else comes first: the primary must know that the first place is taken.
        let second = lab.submit(1);
        lab.deliver(everything);
        lab.pass(900, everything);
        for n in 0..3 {
            assert_eq!(lab.core(n).view(), View(0));
            assert_eq!(lab.contents(n), vec![vec![ticket], vec![second]]);
        }
    }

    #[test]
    fn a_commit_that_was_journaled_and_not_heard_counts_after_the_crash() {
        let mut lab = Lab::new(4);
        let ticket = lab.submit(0);
        lab.deliver(|_, _, m| !matches!(m, Message::Commit(_)));
        for n in 0..4 {
            let kept = lab.nodes[n].journal.len();
            assert!(lab.nodes[n].journal.iter().any(|r| matches!(r, Record::Prepared(_))));
            lab.crash(n, kept);
        }
        for n in 1..4 {
            lab.restart(n);
        }
        lab.pass(900, everything);
        for n in 1..4 {
            assert_eq!(lab.core(n).view(), View(0));
            assert_eq!(lab.contents(n), vec![vec![ticket]]);
        }
    }
}

mod state_and_metadata_in_two_transactions {
    //! concord #1709.
    use super::*;
    use exo_consensus::Config;
    use exo_consensus::sim::Tree;
    use std::time::Duration;

    #[test]
    fn every_beginning_of_a_journal_gives_a_replica_whose_log_is_a_beginning_of_the_log() {
        let mut lab = Lab::new(4);
        for n in [0, 1, 2, 3, 0, 1] {
            lab.submit(n);
            lab.deliver(everything);
        }
        lab.crash(0, 0);
        lab.submit(2);
        lab.pass(5_000, |from, to, _| from != 0 && to != 0);
        let journal = lab.nodes[2].journal.clone();
        assert!(journal.iter().any(|r| matches!(r, Record::NewView(_))));
        let whole = lab.nodes[2].log.clone();
        for kept in 1..=journal.len() {
            let config = Config::new(FEDERATION, id(2));
            let records = journal[..kept].to_vec();
            let log = logged(&records);
            let (core, _) = Replica::<Tree>::recover(config, Duration::ZERO, records)
                .unwrap_or_else(|e| panic!("{kept} records: {e}"));
            assert_eq!(core.point().sequence.0 as usize, log.len());
            assert_eq!(log[..], whole[..log.len()]);
            assert!(core.stable().sequence <= core.point().sequence);
        }
    }

    #[test]
    fn a_journal_with_a_hole_is_refused() {
        let mut lab = Lab::new(4);
        for n in 0..4 {
            lab.submit(n);
            lab.deliver(everything);
        }
        let journal = lab.nodes[1].journal.clone();
        let hole = journal.iter().position(|r| matches!(r, Record::Append(_))).expect("appended");
        let mut records = journal;
        records.remove(hole);
        let config = Config::new(FEDERATION, id(1));
        assert!(Replica::<Tree>::recover(config, Duration::ZERO, records).is_err());
    }
}
