//! Bugs that others shipped with watermarks, checkpoints and transferred state.

use std::cell::RefCell;
use std::sync::Arc;

use exo_consensus::sim::cosign;
use exo_consensus::{Blob, Cosignature, Digest, LogPiece, Message, Root};
use exo_types::Sequence;

use crate::lab::{Lab, everything, id};

mod the_primary_moves_its_watermark_first {
    //! fabric #1119: its peers drop its proposals.
    use super::*;

    #[test]
    fn proposals_are_accepted_by_replicas_whose_checkpoint_is_behind() {
        let mut lab = Lab::new(4);
        for i in 0..24 {
            let ticket = lab.submit(0);
            // The primary alone collects cosignatures.
            lab.deliver(|_, to, m| to == 0 || !matches!(m, Message::Cosignature(_)));
            assert_eq!(lab.core(0).stable().sequence, Sequence(i + 1));
            for n in 1..4 {
                assert_eq!(lab.core(n).stable().sequence, Sequence(0));
                assert_eq!(lab.contents(n).last(), Some(&vec![ticket]), "batch {i} at {n}");
            }
        }
    }
}

mod checkpoint_equivocation {
    use super::*;

    #[test]
    fn cosignatures_on_another_root_certify_nothing_and_hinder_nothing() {
        let mut lab = Lab::new(4);
        let root = Root([9; 32]);
        for size in 1..40 {
            for to in 0..3 {
                let point = exo_consensus::Point { sequence: Sequence(1), size, root };
                let signature = Blob::new(cosign(&id(3), size, root)).expect("short");
                let epoch = lab.core(to).epoch();
                lab.give(3, to, Message::Cosignature(Cosignature { epoch, point, signature }));
            }
        }
        let ticket = lab.submit(0);
        lab.deliver(everything);
        for n in 0..3 {
            assert_eq!(lab.core(n).stable(), lab.core(n).point());
            assert_ne!(lab.core(n).stable().root, root);
        }
        assert_eq!(lab.nodes[0].done, vec![ticket]);
    }

    #[test]
    fn a_certificate_cannot_be_passed_off_as_of_another_batch() {
        let mut lab = Lab::new(4);
        let piece = piece_for_three(&mut lab);
        let mut forged = piece;
        let certificate = Arc::make_mut(&mut forged.certificate);
        certificate.seal.sequence = certificate.seal.sequence.next();
        assert!(lab.checked(1, 3, Message::LogPiece(Box::new(forged))).is_err());
    }
}

mod forged_state {
    //! snarkOS #3226: forged sync with too few signatures.
    use super::*;

    #[test]
    fn a_piece_of_the_log_needs_a_quorum_of_different_cosignatures() {
        let mut lab = Lab::new(4);
        let piece = piece_for_three(&mut lab);
        let ask = |lab: &Lab, piece: &LogPiece| {
            lab.checked(1, 3, Message::LogPiece(Box::new(piece.clone()))).is_ok()
        };
        assert!(ask(&lab, &piece));
        assert_eq!(piece.certificate.signatures.len(), 3);
        let mut few = piece.clone();
        Arc::make_mut(&mut few.certificate).signatures.pop();
        assert!(!ask(&lab, &few), "two of four");
        let mut twice = piece.clone();
        let certificate = Arc::make_mut(&mut twice.certificate);
        certificate.signatures[2] = certificate.signatures[1].clone();
        assert!(!ask(&lab, &twice), "one of them counted twice");
        let mut relabelled = piece.clone();
        let certificate = Arc::make_mut(&mut relabelled.certificate);
        certificate.signatures[2].signature = certificate.signatures[1].signature.clone();
        assert!(!ask(&lab, &relabelled), "one of them under another's seat");
        let mut other = piece;
        Arc::make_mut(&mut other.certificate).root = Root([1; 32]);
        assert!(!ask(&lab, &other), "another root");
    }

    #[test]
    fn batches_that_do_not_lead_to_the_certified_root_are_not_taken() {
        let mut lab = Lab::new(4);
        let piece = piece_for_three(&mut lab);
        let before = lab.core(3).point();
        let forgeries: [fn(&mut LogPiece); 5] = [
            |p| p.batches[0].updates.clear(),
            |p| p.batches[1].seal.digest = Digest([1; 32]),
            |p| drop(p.batches.remove(0)),
            |p| p.batches.swap(0, 1),
            |p| p.batches[0].updates[0].number += 1,
        ];
        for forge in forgeries {
            let mut forged = piece.clone();
            forge(&mut forged);
            let from = asked_by_three(&mut lab);
            lab.give(from, 3, Message::LogPiece(Box::new(forged)));
            assert_eq!(lab.core(3).point(), before);
        }
        let mut part = piece.clone();
        part.batches.pop();
        let from = asked_by_three(&mut lab);
        lab.give(from, 3, Message::LogPiece(Box::new(part)));
        assert_eq!(lab.core(3).point(), before, "the proof is for all of them");
        let from = asked_by_three(&mut lab);
        lab.give(from, 3, Message::LogPiece(Box::new(piece)));
        assert_eq!(lab.core(3).point(), lab.core(1).point());
    }
}

/// A replica from which replica 3 expects a piece of the log.
fn asked_by_three(lab: &mut Lab) -> usize {
    for _ in 0..30 {
        if let Some(from) = (0..3).find(|n| lab.core(3).expects_piece(&id(*n), 0)) {
            return from;
        }
        lab.pass(1_000, |_, to, m| {
            let piece = matches!(m, Message::LogPiece(_));
            !piece && (to != 3 || matches!(m, Message::Status(_)))
        });
    }
    panic!("it asks nobody")
}

/// Replica 3 misses two batches; the piece that replica 1 would send it.
fn piece_for_three(lab: &mut Lab) -> LogPiece {
    for _ in 0..2 {
        lab.submit(1);
        lab.deliver(|from, to, _| from != 3 && to != 3);
    }
    let caught = RefCell::new(None);
    lab.pass(3_000, |from, to, m| {
        if let (3, Message::LogPiece(piece)) = (to, m) {
            if from == 1 || caught.borrow().is_none() {
                *caught.borrow_mut() = Some((**piece).clone());
            }
            return false;
        }
        // It learns that it is behind, and nothing else.
        to != 3 || matches!(m, Message::Status(_))
    });
    let piece = caught.into_inner().expect("a piece was sent");
    assert_eq!(piece.batches.len(), 2);
    piece
}
