//! Federations that decide: four members and more, from proposal to proof.

use exo_consensus::{Input, Role, Start};
use exo_log::{Origin, Policy};
use exo_node::decide::{BeginError, Decision, Decisions, Kind, Outcome, RecoverError};
use exo_node::roster::Standing;
use exo_types::{Epoch, FederationId};

use super::network::Bench;
use super::{
    FEDERATION, FOUNDED, admit, constitution, cosigner, grant, id, ids, revoke, rotate, withdraw,
};

fn seated(bench: &Bench, n: usize) -> Vec<exo_types::PeerId> {
    bench.of(n).replica().state().voters.iter().map(|(_, voter)| voter.id).collect()
}

/// Wishes for changes of seats in a member's log.
fn seat_wishes(bench: &Bench, n: usize) -> usize {
    bench.hosts[n].decided.iter().filter(|decided| decided.kind == Kind::Seats).count()
}

#[test]
fn four_members_admit_a_fifth_that_votes_then_and_remove_one_of_their_own() {
    let mut bench = Bench::new(constitution(4, 4), 4);
    bench.decide(&[0], &admit(4));
    bench.decide(&[1], &admit(5));
    bench.decide(&[1], &revoke(5));
    bench.assert_agreement();
    let charter = bench.of(3).charter();
    assert_eq!(charter.sponsor(&id(4)), Some(id(0)));
    assert_eq!(charter.standing(&id(5)), Standing::Revoked);
    let told: Vec<Epoch> = bench.hosts[3].rosters.iter().map(|roster| roster.epoch).collect();
    assert_eq!(told, [Epoch(11), Epoch(12), Epoch(13)], "each change is told once");

    // The new member follows, and votes once three have given it a vote.
    bench.begin(4, Start::Joining);
    bench.pass(2_000);
    assert_eq!(bench.of(4).charter(), bench.of(0).charter());
    assert_eq!(bench.of(4).replica().role(), Role::Joining);
    bench.decide(&[0, 1, 2], &grant(4));
    bench.pass(3_000);
    bench.assert_agreement();
    assert_eq!(seated(&bench, 0), ids(0..5));
    assert_eq!(bench.of(4).replica().role(), Role::Voter);
    assert_eq!(seat_wishes(&bench, 0), 4, "four voters wished once, and nobody again");

    // Four of five remove a voter; it hears nothing any more.
    bench.decide(&[0, 2, 3, 4], &revoke(1));
    bench.cut.push(1);
    bench.pass(6_000);
    bench.assert_agreement();
    assert_eq!(bench.of(0).charter().standing(&id(1)), Standing::Revoked);
    assert_eq!(seated(&bench, 0), ids([0, 2, 3, 4]));
    let outcomes = |n: usize| {
        let of = |d: &exo_node::decide::Decided| (d.index, d.kind, d.outcome);
        bench.hosts[n].decided.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(0), outcomes(4), "who came late was told the same");
    assert!(bench.hosts.iter().all(|host| host.declined.is_empty()));
}

#[test]
fn a_rotated_cosigner_key_signs_from_the_next_epoch_on_and_proofs_verify_under_it() {
    let mut bench = Bench::new(constitution(4, 4), 4);
    let statement = Decision::statement(b"We meet on Monday.".to_vec()).expect("short");
    let ticket = bench.propose(2, &statement);
    bench.pass(1_000);
    let leaf = |bench: &Bench, n: usize, ticket| {
        bench.hosts[n].done.iter().find(|(of, _)| *of == ticket).expect("it is done").1
    };
    let policy = |n: usize| {
        let keys = [0, 1, 2, 3].map(|k| (id(k), cosigner(if k == 0 { n } else { k })));
        Policy::for_members(&Origin::of_federation(&FEDERATION), &keys, 3).expect("a policy")
    };
    let first = leaf(&bench, 2, ticket);
    let (proof, epoch) = bench.proof(2, first);
    assert_eq!((epoch, proof.index()), (Epoch::GENESIS, first));
    let commit = proof.verify(&policy(0), None).expect("it holds");
    assert!(commit.signers().len() >= 3);
    let entry = proof.entry().expect("carried").to_vec();
    assert!(entry.windows(18).any(|bytes| bytes == b"We meet on Monday."));

    bench.decide(&[0], &rotate(9));
    bench.pass(3_000);
    bench.assert_agreement();
    assert_eq!(bench.of(1).replica().epoch(), Epoch(1));
    assert_eq!(bench.of(0).cosigner(), Some(cosigner(9)));
    assert_eq!(bench.of(0).charter().epoch(), Epoch(FOUNDED.0 + 1));
    // Without a fourth, the key that was rotated is among the three that sign.
    bench.cut.push(3);
    let ticket = bench.propose(1, &statement);
    bench.pass(4_000);
    let (proof, epoch) = bench.proof(1, leaf(&bench, 1, ticket));
    assert_eq!(epoch, Epoch(1));
    proof.verify(&policy(9), None).expect("it holds under the new key");
    assert!(proof.verify(&policy(0), None).is_err());
    let ours = bench.of(1).keys().policy(&bench.of(1).replica().state().voters).expect("one");
    assert_eq!(ours.to_bytes(), policy(9).to_bytes());
}

#[test]
fn a_restart_gives_the_same_charter_and_says_no_wish_twice() {
    let mut bench = Bench::new(constitution(5, 4), 4);
    bench.begin(4, Start::Joining);
    bench.decide(&[0], &admit(5));
    bench.decide(&[0, 1, 2], &grant(4));
    bench.pass(3_000);
    let (charter, wishes) = (bench.of(1).charter().clone(), seat_wishes(&bench, 1));
    let told = bench.restart(1);
    assert_eq!(bench.of(1).charter(), &charter);
    assert_eq!(told, bench.hosts[1].decided, "the past is told again as it was");
    bench.pass(3_000);
    assert_eq!(seat_wishes(&bench, 0), wishes);
    bench.decide(&[3], &revoke(5));
    bench.decide(&[1], &revoke(5));
    bench.assert_agreement();
    assert_eq!(bench.of(4).charter().standing(&id(5)), Standing::Revoked);
}

#[test]
fn a_wish_that_a_crash_swallowed_is_said_after_the_restart() {
    let mut bench = Bench::new(constitution(5, 4), 4);
    bench.begin(4, Start::Joining);
    // One voter is away, so the three others must all wish.
    bench.cut.push(3);
    bench.decide(&[2], &grant(4));
    // Another's wish is never signed, so it is in no journal.
    bench.stuck = Some(2);
    bench.decide(&[0, 1], &grant(4));
    bench.pass(3_000);
    assert!(bench.of(2).charter().entitled().any(|peer| *peer == id(4)));
    assert_eq!((seat_wishes(&bench, 2), seated(&bench, 2)), (2, ids(0..4)));
    bench.stuck = None;
    bench.restart(2);
    bench.pass(5_000);
    bench.assert_agreement();
    assert_eq!((seat_wishes(&bench, 0), seated(&bench, 2)), (3, ids(0..5)));
}

#[test]
fn a_withdrawn_voter_leaves_its_seat_and_follows() {
    let mut bench = Bench::new(constitution(5, 5), 5);
    bench.decide(&[0, 1, 2, 3], &withdraw(4));
    bench.pass(3_000);
    bench.assert_agreement();
    assert_eq!(seated(&bench, 0), ids(0..4));
    bench.decide(&[0], &admit(6));
    bench.pass(2_000);
    assert_eq!(bench.of(4).charter().standing(&id(6)), Standing::Active);
    let ticket = bench.propose(4, &admit(7));
    assert_eq!(bench.hosts[4].declined, [ticket], "it has no vote");
}

#[test]
fn who_hears_of_news_asks_for_it_and_not_too_often() {
    let mut bench = Bench::new(constitution(5, 4), 4);
    bench.begin(4, Start::Joining);
    bench.pass(500);
    let said = |outputs: Vec<exo_node::decide::Output>| outputs.len();
    let now = bench.now + std::time::Duration::from_millis(60);
    let follower = bench.hosts[4].decisions.as_mut().expect("it is up");
    assert_eq!(said(follower.step(now, Input::Poke(id(0)))), 1);
    assert_eq!(said(follower.step(now, Input::Poke(id(0)))), 0);
    assert_eq!(said(follower.step(now, Input::Poke(id(1)))), 1);
}

#[test]
fn another_federations_constitution_and_another_log_are_refused() {
    let other = FederationId::new([1; 32]);
    let refused = Decisions::begin(other, id(0), &constitution(4, 4), Start::Founding);
    assert_eq!(refused.expect_err("another's"), BeginError::OtherFederation(FEDERATION));
    let mut bench = Bench::new(constitution(4, 4), 4);
    bench.decide(&[0], &admit(4));
    let (journal, log) = (bench.hosts[0].journal.clone(), bench.hosts[0].log.clone());
    let recover = |log: Vec<(u64, exo_consensus::LoggedBatch)>| {
        let (body, now) = (constitution(4, 4), bench.now);
        let journal = journal.clone();
        let recovered =
            Decisions::recover(FEDERATION, id(0), now, &body, journal, log.into_iter(), |_| {});
        recovered.map(|(decisions, _)| decisions.charter().clone())
    };
    assert_eq!(recover(log.clone()).as_ref(), Ok(bench.of(0).charter()));
    let expected = bench.hosts[0].tree.size();
    assert_eq!(recover(Vec::new()), Err(RecoverError::LogShort { expected, actual: 0 }));
    let mut altered = log.clone();
    altered[0].1.updates[0].member = id(1);
    assert_eq!(recover(altered), Err(RecoverError::LogDiffers));
    let mut gap = log;
    gap[0].0 = 1;
    assert_eq!(recover(gap), Err(RecoverError::LogDiffers));
    assert!(bench.hosts[0].decided.iter().all(|decided| decided.outcome == Outcome::Effective));
}
