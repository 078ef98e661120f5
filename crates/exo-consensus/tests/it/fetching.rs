//! Fetching the log while others lie about what they have.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use exo_consensus::{LogPiece, Message, Record, Start, Status};
use exo_types::Sequence;
use exo_types::limits::{ACCEPTED_SEQUENCES_MAX, TRANSFER_BATCHES_MAX, TRANSFER_TIMEOUT_MILLIS};

use crate::lab::{Lab, id};

/// Four voters whose last is behind by so many batches; nothing of it has reached it.
fn behind(batches: usize) -> Lab {
    let mut lab = Lab::new(4);
    for _ in 0..batches {
        lab.submit(0);
        lab.deliver(|from, to, _| from != 3 && to != 3);
    }
    assert_eq!(lab.core(3).point().sequence, Sequence(0));
    lab
}

/// What somebody says who claims to have everything.
fn boast(lab: &Lab, to: usize) -> Message {
    let core = lab.core(to);
    let most = core.state().executed.plus(1 << 40);
    Message::Status(Status {
        epoch: core.epoch(),
        view: core.view(),
        active: true,
        executed: most,
        stable: most,
        accepted: 0,
        prepared: 0,
        committed: 0,
        view_changes: 0,
    })
}

/// Passes time until replica 3 has what replica 1 has, with these boasting all the while and sending
/// nothing; gives how often each was asked, and how long it took in milliseconds.
fn caught_up_among(lab: &mut Lab, boasters: &[usize]) -> (BTreeMap<usize, usize>, u64) {
    let asked = RefCell::new(BTreeMap::new());
    let began = lab.now;
    while lab.core(3).point() != lab.core(1).point() {
        for from in boasters {
            let message = boast(lab, 3);
            lab.give(*from, 3, message);
        }
        lab.pass(50, |from, to, message| {
            if let (3, Message::FetchLog(_)) = (from, message) {
                *asked.borrow_mut().entry(to).or_default() += 1;
            }
            // Only the log reaches it, and nothing of the liars.
            let liar = boasters.contains(&from) || boasters.contains(&to);
            let log =
                matches!(message, Message::Status(_) | Message::FetchLog(_) | Message::LogPiece(_));
            !liar && (from != 3 && to != 3 || log)
        });
        assert!((lab.now - began).as_secs() < 60, "it does not catch up");
    }
    (asked.into_inner(), (lab.now - began).as_millis() as u64)
}

#[test]
fn a_voter_that_boasts_and_sends_nothing_costs_one_ask_before_another() {
    let mut lab = behind(3 * TRANSFER_BATCHES_MAX);
    let (asked, took) = caught_up_among(&mut lab, &[0]);
    let others: usize = asked.iter().filter(|(to, _)| **to != 0).map(|(_, count)| count).sum();
    assert!(others >= 3, "{asked:?}");
    assert!(asked[&0] <= others + 1, "{asked:?}");
    let most = (others as u64 + 2) * (TRANSFER_TIMEOUT_MILLIS + 100);
    assert!(took <= most, "{took} ms, {asked:?}");
}

#[test]
fn after_a_crash_within_a_piece_no_more_waits_for_its_certificate_than_a_window_has() {
    let mut lab = behind(TRANSFER_BATCHES_MAX);
    caught_up_among(&mut lab, &[]);
    let journal = lab.nodes[3].journal.clone();
    let appends = journal.iter().filter(|record| matches!(record, Record::Append(_))).count();
    assert!(appends >= TRANSFER_BATCHES_MAX, "{appends}");
    for left in [1, 2 * ACCEPTED_SEQUENCES_MAX as usize + 1, appends] {
        lab.nodes[3].journal = journal.clone();
        let ends = journal.iter().enumerate().filter(|(_, of)| matches!(of, Record::Append(_)));
        let kept = ends.map(|(at, _)| at + 1).nth(left - 1).expect("so many");
        lab.crash(3, kept);
        lab.restart(3);
        let past = lab.core(3).load().past;
        assert!(past <= 2 * ACCEPTED_SEQUENCES_MAX as usize, "{past} of {left}");
    }
}

#[test]
fn members_without_a_vote_that_boast_do_not_keep_voters_from_being_asked() {
    let mut lab = behind(10);
    // The first to be heard are thirty liars.
    let liars: Vec<usize> = (10..40).collect();
    let (asked, took) = caught_up_among(&mut lab, &liars);
    assert!(took <= 3 * TRANSFER_TIMEOUT_MILLIS, "{took} ms, {asked:?}");
}

#[test]
fn a_voter_that_gives_little_at_a_time_is_not_the_only_one_asked() {
    let mut lab = behind(TRANSFER_BATCHES_MAX);
    let pieces = Cell::new(0);
    let began = lab.now;
    while lab.core(3).point() != lab.core(1).point() {
        let message = boast(&lab, 3);
        lab.give(0, 3, message);
        let mut dripped = Vec::new();
        lab.pass(50, |from, to, message| match message {
            // It sends the first batch, and what shows that this is the beginning of the log.
            Message::LogPiece(piece) if (from, to) == (0, 3) && piece.batches.len() > 1 => {
                dripped.push((**piece).clone());
                false
            }
            Message::LogPiece(_) if to == 3 => {
                pieces.set(pieces.get() + 1);
                true
            }
            Message::Status(_) | Message::FetchLog(_) => true,
            _ => from != 3 && to != 3,
        });
        for piece in dripped {
            let part = first_batch_of(&lab, piece);
            lab.give(0, 3, Message::LogPiece(Box::new(part)));
            pieces.set(pieces.get() + 1);
        }
        assert!((lab.now - began).as_secs() < 20, "it does not catch up");
    }
    assert!(pieces.get() < 10, "{} pieces", pieces.get());
}

fn first_batch_of(lab: &Lab, mut piece: LogPiece) -> LogPiece {
    piece.batches.truncate(1);
    let size = piece.from + piece.batches[0].size();
    let proof = exo_consensus::Archive::consistency(&lab.nodes[1], size, piece.certificate.size);
    piece.proof = proof.expect("the log has it");
    piece
}

#[test]
fn a_piece_that_was_not_asked_for_is_not_expected_and_changes_nothing() {
    let mut lab = behind(4);
    lab.add(4, Start::Joining);
    let asked = RefCell::new(Vec::new());
    let caught = RefCell::new(None);
    lab.pass(3_000, |from, to, message| match message {
        Message::FetchLog(_) if from == 3 => {
            asked.borrow_mut().push(to);
            true
        }
        Message::LogPiece(piece) if to == 3 => {
            *caught.borrow_mut() = Some((from, (**piece).clone()));
            false
        }
        Message::Status(_) => true,
        _ => from != 3 && to != 3,
    });
    let (from, piece) = caught.into_inner().expect("a piece was sent");
    assert!(lab.core(3).expects_piece(&id(from), 0));
    assert!(!lab.core(3).expects_piece(&id(from), 1), "from elsewhere");
    assert!(!lab.core(3).expects_piece(&id(4), 0), "by somebody who was not asked");
    lab.give(4, 3, Message::LogPiece(Box::new(piece.clone())));
    assert_eq!(lab.core(3).point().sequence, Sequence(0));
    lab.give(from, 3, Message::LogPiece(Box::new(piece.clone())));
    assert_eq!(lab.core(3).point(), lab.core(1).point());
    assert!(!lab.core(3).expects_piece(&id(from), piece.from), "it is here");
}

#[test]
fn a_piece_that_brings_nothing_makes_nobody_ask_at_once_again() {
    let mut lab = behind(4);
    let asked = Cell::new(0);
    for _ in 0..40 {
        let message = boast(&lab, 3);
        lab.give(0, 3, message);
        let mut empty = None;
        lab.pass(50, |from, to, message| {
            if let (3, 0, Message::FetchLog(of)) = (from, to, message) {
                asked.set(asked.get() + 1);
                empty = Some(of.size);
            }
            false
        });
        if let Some(from) = empty {
            let certificate = lab.nodes[1].journal.iter().rev().find_map(|record| match record {
                exo_consensus::Record::Certified(certificate) => Some(certificate.clone()),
                _ => None,
            });
            let certificate = certificate.expect("certified");
            let archive = &lab.nodes[1];
            let proof = exo_consensus::Archive::consistency(archive, from, certificate.size);
            let proof = proof.expect("the log has it");
            let piece = LogPiece { certificate, from, batches: Vec::new(), proof };
            lab.give(0, 3, Message::LogPiece(Box::new(piece)));
        }
    }
    assert!(asked.get() <= 3, "{} in two seconds", asked.get());
}
