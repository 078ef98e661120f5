//! Each rule of the charter at its boundary.

use exo_consensus::{Change, Turn, Update};
use exo_node::decide::{
    Admission, Charter, CharterError, Decision, Outcome, Void, cosigner_key, voter,
};
use exo_node::roster::{Member, Standing};
use exo_types::limits::{DECISIONS_WISHED_PER_VOTER_MAX, MEMBERS_MAX};
use exo_types::{Epoch, NodeName, PeerId};

use super::{
    FOUNDED, Town, admit, constitution, cosigner, grant, id, ids, key, name, revoke, rotate, rules,
    void, wished, withdraw,
};

const EFFECTIVE: Outcome = Outcome::Effective;

#[test]
fn a_constitution_without_four_members_that_vote_is_none() {
    let refused = |of| Charter::new(&of).expect_err("no constitution");
    assert_eq!(refused(constitution(4, 0)), CharterError::NoVoters);
    assert!(matches!(refused(constitution(4, 3)), CharterError::Body(_)));
    let mut stranger = constitution(5, 5);
    stranger.members.pop();
    assert!(matches!(refused(stranger), CharterError::Body(_) | CharterError::NotAMember(_)));
    let mut one_key = constitution(4, 4);
    one_key.members[1].cosigner = cosigner(0);
    assert!(matches!(refused(one_key), CharterError::KeyTwice(_)));
    assert!(Charter::new(&constitution(4, 4)).is_ok());
}

#[test]
fn a_statement_stands_as_soon_as_it_is_in_the_log_and_other_bytes_do_nothing() {
    let mut town = Town::new(5, 4);
    let statement = Decision::statement(vec![1, 2, 3]).expect("short");
    assert_eq!(town.says(0, &statement), Outcome::Recorded);
    assert_eq!(town.says(4, &statement), void(Void::NoVote));
    for bytes in [[].as_slice(), &[0], &[0, 0], &[7, 1], &[6, 0], &[6, 33], &[0, 1, 1, 1]] {
        assert_eq!(town.mumbles(0, bytes), void(Void::NotADecision), "{bytes:?}");
    }
    assert!(Decision::statement(Vec::new()).is_err());
    assert_eq!(town.charter.epoch(), FOUNDED);
}

#[test]
fn one_voter_admits_a_member_and_is_its_sponsor() {
    let mut town = Town::new(4, 4);
    assert_eq!(town.says(2, &admit(5)), EFFECTIVE);
    assert_eq!(town.charter.sponsor(&id(5)), Some(id(2)));
    assert_eq!(town.charter.standing(&id(5)), Standing::Active);
    let member = town.charter.member(&id(5)).expect("a member");
    assert_eq!((member.since, town.charter.epoch()), (Epoch(11), Epoch(11)));
    assert_eq!(town.says(1, &admit(5)), void(Void::AlreadyMember));
    assert_eq!(town.says(5, &admit(6)), void(Void::NoVote));
    assert_eq!(town.charter.sponsor(&id(0)), None);
}

#[test]
fn a_name_or_cosigner_key_that_was_taken_in_the_same_batch_is_not_given_twice() {
    let mut town = Town::new(4, 4);
    let mut namesake =
        Admission { key: key(6), cosigner: cosigner(6), name: name(5), unverified: true };
    let as_update = |of: &Decision| of.to_update().expect("fits");
    let with = |of: &Admission| as_update(&Decision::Admit(Box::new(of.clone())));
    let updates = vec![(id(0), as_update(&admit(5))), (id(1), with(&namesake))];
    let outcomes: Vec<_> = town.batch(updates, None).iter().map(|d| d.outcome).collect();
    assert_eq!(outcomes, [EFFECTIVE, void(Void::NameTaken)]);
    namesake.name = name(6);
    namesake.cosigner = cosigner(5);
    let updates = vec![(id(1), with(&namesake))];
    assert_eq!(town.batch(updates, None)[0].outcome, void(Void::KeyTaken));
    // The name of one who was removed is free again; its key is not.
    assert_eq!(town.says(0, &revoke(5)), EFFECTIVE);
    namesake.name = name(5);
    assert_eq!(town.batch(vec![(id(1), with(&namesake))], None)[0].outcome, void(Void::KeyTaken));
    namesake.cosigner = cosigner(6);
    assert_eq!(town.batch(vec![(id(1), with(&namesake))], None)[0].outcome, EFFECTIVE);
    assert!(town.charter.member(&id(6)).is_some_and(|member| member.unverified));
}

#[test]
fn the_removed_are_never_admitted_again() {
    let mut town = Town::new(4, 4);
    assert_eq!(town.says(0, &admit(5)), EFFECTIVE);
    assert_eq!(town.says(0, &revoke(5)), EFFECTIVE);
    assert_eq!(town.says(0, &admit(5)), void(Void::Revoked));
    assert_eq!(town.says(0, &revoke(5)), void(Void::Revoked));
    assert_eq!(town.says(0, &revoke(6)), void(Void::NoSuchMember));
    assert_eq!(town.charter.member(&id(5)).and_then(|m| m.revoked.as_deref()), Some("left"));
}

#[test]
fn rules_may_ask_for_more_voters_to_admit_and_never_for_more_than_a_quorum() {
    let mut town = Town::new(4, 4);
    assert_eq!(town.says(0, &rules(1)), void(Void::Unchanged));
    assert_eq!(town.all_say(&[0, 1], &rules(2)), wished(2, 3));
    assert_eq!(town.says(2, &rules(2)), EFFECTIVE);
    assert_eq!(town.says(3, &admit(5)), wished(1, 2));
    // The same voter twice is one voter.
    assert_eq!(town.says(3, &admit(5)), wished(1, 2));
    let mut other = admit(5);
    if let Decision::Admit(of) = &mut other {
        of.name = name(7);
    }
    assert_eq!(town.says(1, &other), wished(1, 2), "another name is another admission");
    let mut unverified = admit(5);
    if let Decision::Admit(of) = &mut unverified {
        of.unverified = true;
    }
    assert_eq!(town.says(1, &unverified), EFFECTIVE);
    // Who proposed it first vouches; one who has not compared words is enough for it to show.
    assert_eq!(town.charter.sponsor(&id(5)), Some(id(3)));
    assert!(town.charter.member(&id(5)).is_some_and(|member| member.unverified));
    assert_eq!(town.charter.waiting().count(), 0, "the other name is out of the question now");
    assert_eq!(town.all_say(&[0, 1, 2], &rules(30)), EFFECTIVE);
    assert_eq!(town.all_say(&[0, 1], &admit(6)), wished(2, 3));
    assert_eq!(town.says(2, &admit(6)), EFFECTIVE);
}

#[test]
fn a_member_without_a_vote_is_removed_by_its_sponsor_or_by_more_than_can_be_faulty() {
    let mut town = Town::new(5, 4);
    town.says(0, &admit(5));
    town.says(0, &admit(6));
    assert_eq!(town.says(1, &revoke(5)), wished(1, 2));
    assert_eq!(town.says(2, &revoke(5)), EFFECTIVE);
    assert_eq!(town.says(0, &revoke(6)), EFFECTIVE);
    // One of the constitution has no sponsor.
    assert_eq!(town.says(0, &revoke(4)), wished(1, 2));
    let mut other_reason = revoke(4);
    if let Decision::Revoke { reason, .. } = &mut other_reason {
        *reason = "silent for a year".to_owned();
    }
    assert_eq!(town.says(3, &other_reason), EFFECTIVE);
    let revoked = town.charter.member(&id(4)).and_then(|member| member.revoked.clone());
    assert_eq!(revoked.as_deref(), Some("silent for a year"));
}

#[test]
fn a_sponsors_removal_leaves_its_members_whom_only_several_voters_remove_then() {
    let mut town = Town::new(5, 5);
    town.says(0, &admit(6));
    assert_eq!(town.all_say(&[1, 2, 3], &revoke(0)), wished(3, 4));
    assert_eq!(town.says(4, &revoke(0)), EFFECTIVE);
    assert_eq!(town.charter.standing(&id(6)), Standing::Active);
    assert_eq!(town.says(0, &revoke(6)), void(Void::NoVote), "it has its seat, and counts no more");
    assert_eq!(town.says(1, &revoke(6)), wished(1, 2));
    assert_eq!(town.says(2, &revoke(6)), EFFECTIVE);
}

#[test]
fn a_sponsor_that_lost_its_vote_removes_nobody() {
    let mut town = Town::new(5, 5);
    town.says(0, &admit(6));
    town.all_say(&[1, 2, 3, 4], &withdraw(0));
    // While it has its seat, it counts.
    assert_eq!(town.says(0, &grant(6)), wished(1, 4));
    town.settle();
    assert_eq!(town.charter.waiting().count(), 0, "its proposals went with its seat");
    assert_eq!(town.says(0, &revoke(6)), void(Void::NoVote));
}

#[test]
fn a_vote_is_given_and_withdrawn_by_a_quorum() {
    let mut town = Town::new(5, 4);
    assert_eq!(town.says(0, &grant(4)), wished(1, 3));
    assert_eq!(town.says(0, &grant(4)), wished(1, 3));
    assert_eq!(town.says(1, &grant(4)), wished(2, 3));
    assert_eq!(town.says(3, &grant(4)), EFFECTIVE);
    assert_eq!(town.says(2, &grant(4)), void(Void::HasVote));
    assert_eq!(town.says(2, &grant(7)), void(Void::NoSuchMember));
    assert_eq!(town.charter.epoch(), FOUNDED, "members are the same");
    assert_eq!(town.says(4, &rotate(9)), void(Void::NoVote), "it has no seat yet");
    assert_eq!(town.turn(), Some(Change::Admit(voter(&key(4), &cosigner(4)))));
    assert_eq!(town.wanted(), None);
    assert_eq!(town.all_say(&[0, 1, 2], &withdraw(4)), wished(3, 4));
    assert_eq!(town.says(4, &withdraw(4)), EFFECTIVE);
    assert_eq!(town.says(4, &withdraw(4)), void(Void::HasNoVote));
    assert_eq!(town.turn(), Some(Change::Remove(id(4))));
    assert_eq!(town.seated(), ids(0..4));
    assert_eq!(town.says(0, &withdraw(1)), void(Void::TooFewVoters));
}

#[test]
fn a_voter_is_removed_by_a_quorum_and_keeps_an_empty_seat_while_four_are_needed() {
    let mut town = Town::new(6, 4);
    assert_eq!(town.all_say(&[0, 1], &revoke(3)), wished(2, 3));
    assert_eq!(town.says(2, &revoke(3)), EFFECTIVE);
    assert_eq!(town.charter.standing(&id(3)), Standing::Revoked);
    assert_eq!(town.seated(), ids(0..4));
    assert_eq!(town.wanted(), None, "three seats are too few");
    // The three who are left are just a quorum: one less and nothing would ever be decided again.
    assert_eq!(town.says(0, &revoke(2)), void(Void::TooFewVoters));
    assert_eq!(town.says(3, &grant(4)), void(Void::NoVote));
    assert_eq!(town.all_say(&[0, 1, 2], &grant(4)), EFFECTIVE);
    assert!(matches!(town.turn(), Some(Change::Admit(new)) if new.id == id(4)));
    assert_eq!(town.turn(), Some(Change::Remove(id(3))));
    assert_eq!(town.turn(), None);
    assert_eq!(town.seated(), ids([0, 1, 2, 4]));
}

#[test]
fn a_voter_may_vote_for_its_own_removal_and_its_other_proposals_go_with_it() {
    let mut town = Town::new(7, 5);
    assert_eq!(town.says(4, &grant(5)), wished(1, 4));
    assert_eq!(town.all_say(&[4, 0, 1], &revoke(4)), wished(3, 4));
    assert_eq!(town.says(2, &revoke(4)), EFFECTIVE);
    assert_eq!(town.charter.waiting().count(), 0);
    assert_eq!(town.says(0, &grant(5)), wished(1, 4), "a quorum of five seats, one of them empty");
}

#[test]
fn what_was_proposed_before_the_group_shrank_is_counted_anew_when_somebody_says_it_again() {
    let mut town = Town::new(6, 5);
    assert_eq!(town.all_say(&[0, 1, 2], &grant(5)), wished(3, 4));
    assert_eq!(town.all_say(&[0, 1, 2, 3], &withdraw(4)), EFFECTIVE);
    town.settle();
    assert_eq!(town.charter.waiting().count(), 3);
    assert!(town.charter.entitled().all(|peer| *peer != id(5)));
    assert_eq!(town.says(1, &grant(5)), EFFECTIVE);
}

#[test]
fn proposals_of_a_voter_without_a_seat_do_not_come_back_with_it() {
    let mut town = Town::new(7, 6);
    assert_eq!(town.says(5, &grant(6)), wished(1, 4));
    town.all_say(&[0, 1, 2, 3], &withdraw(5));
    town.settle();
    town.all_say(&[0, 1, 2, 3], &grant(5));
    town.settle();
    assert!(town.seated().contains(&id(5)));
    assert_eq!(town.says(0, &grant(6)), wished(1, 4));
}

#[test]
fn a_rotation_is_its_members_own_and_its_seat_follows() {
    let mut town = Town::new(5, 4);
    assert_eq!(town.says(1, &rotate(1)), void(Void::Unchanged));
    assert_eq!(town.says(1, &rotate(2)), void(Void::KeyTaken));
    assert_eq!(town.says(1, &rotate(9)), EFFECTIVE);
    assert_eq!(town.charter.epoch(), Epoch(11));
    // Until its seat has the new key, the old one is not free.
    assert_eq!(town.says(2, &rotate(1)), void(Void::KeyTaken));
    let seat = |town: &Town| town.charter.seats().named(&id(1)).and_then(cosigner_key);
    assert_eq!(seat(&town), Some(cosigner(1)));
    assert_eq!(town.turn(), Some(Change::Rotate(voter(&key(1), &cosigner(9)))));
    assert_eq!(seat(&town), Some(cosigner(9)));
    assert_eq!(town.wanted(), None);
    assert_eq!(town.charter.entitled().copied().collect::<Vec<_>>(), ids(0..4));
}

#[test]
fn seats_of_the_removed_go_first_and_the_keys_changed_longest_ago_before_later_ones() {
    let mut town = Town::new(8, 6);
    town.says(3, &rotate(9));
    town.says(0, &rotate(10));
    town.all_say(&[0, 1, 2, 3], &grant(6));
    town.all_say(&[0, 1, 2, 3], &withdraw(5));
    town.all_say(&[0, 1, 2, 3], &revoke(4));
    let changes: Vec<Change> = std::iter::from_fn(|| town.turn()).collect();
    let rotated = |n, to| Change::Rotate(voter(&key(n), &cosigner(to)));
    assert_eq!(
        changes,
        [
            Change::Remove(id(4)),
            Change::Admit(voter(&key(6), &cosigner(6))),
            Change::Remove(id(5)),
            rotated(3, 9),
            rotated(0, 10),
        ]
    );
}

#[test]
fn who_changes_its_key_again_and_again_does_not_hold_up_another() {
    let mut town = Town::new(4, 4);
    let (mut spare, first, second) = (10, id(0).min(id(1)), id(0).max(id(1)));
    let number = |peer: PeerId| (0..2).find(|n| id(*n) == peer).expect("one of two");
    town.says(number(second), &rotate(9));
    for _ in 0..3 {
        town.says(number(first), &rotate(spare));
        spare += 1;
    }
    assert!(matches!(town.turn(), Some(Change::Rotate(voter)) if voter.id == second));
}

#[test]
fn the_oldest_proposal_of_a_voter_makes_room_for_a_further_one() {
    let mut town = Town::new(4, 4);
    town.all_say(&[0, 1, 2], &rules(2));
    let named = |n: usize| {
        let name = NodeName::new(format!("x{n}")).expect("a name");
        let (key, cosigner) = (key(5), cosigner(5));
        Decision::Admit(Box::new(Admission { key, cosigner, name, unverified: false }))
    };
    for n in 0..DECISIONS_WISHED_PER_VOTER_MAX {
        assert_eq!(town.says(0, &named(n)), wished(1, 2));
    }
    // Said again, it has its old place.
    town.says(0, &named(0));
    assert_eq!(town.charter.waiting().count(), DECISIONS_WISHED_PER_VOTER_MAX);
    town.says(0, &named(1000));
    assert_eq!(town.charter.waiting().count(), DECISIONS_WISHED_PER_VOTER_MAX);
    assert_eq!(town.says(1, &named(0)), wished(1, 2));
    assert_eq!(town.says(1, &named(1)), EFFECTIVE);
}

#[test]
fn there_is_room_for_so_many_members_present_and_past() {
    let mut founding = constitution(4, 4);
    let past = |n: usize| {
        let mut bytes = *key(15).as_bytes();
        bytes[40..48].copy_from_slice(&(n as u64).to_be_bytes());
        Member {
            key: exo_crypto::IdentityKey::from_bytes(&bytes).expect("a key"),
            cosigner: cosigner(15),
            name: name(n),
            unverified: false,
            since: Epoch(1),
            revoked: Some(String::new()),
        }
    };
    founding.members.extend((4..MEMBERS_MAX - 1).map(past));
    let mut charter = Charter::new(&founding).expect("a constitution");
    let mut says = |decision: &Decision| {
        let update = decision.to_update().expect("fits");
        charter.apply(0, &exo_consensus::Logged { member: id(0), number: 0, index: 0, update })
    };
    assert_eq!(says(&admit(5)), EFFECTIVE);
    assert_eq!(says(&admit(6)), void(Void::TooManyMembers));
}

#[test]
fn the_last_epoch_of_membership_ends_changes_and_nothing_else() {
    let mut founding = constitution(5, 4);
    founding.epoch = Epoch(u64::MAX - 1);
    let charter = Charter::new(&founding).expect("a constitution");
    let mut town = Town { charter, ..Town::new(5, 4) };
    assert_eq!(town.says(0, &admit(6)), EFFECTIVE);
    for decision in [admit(7), revoke(6), rotate(9)] {
        assert_eq!(town.says(0, &decision), void(Void::TooManyChanges));
    }
    assert_eq!(town.all_say(&[0, 1, 2], &grant(4)), EFFECTIVE);
}

#[test]
fn changes_of_seats_in_the_log_are_followed_even_when_nobody_should_have_wished_for_them() {
    let mut town = Town::new(6, 5);
    let wish = Update::Wish(Change::Remove(id(1)));
    let decided = town.batch(vec![(id(0), wish)], Some(Turn::Change(Change::Remove(id(1)))));
    assert_eq!((decided[0].kind.name(), decided[0].outcome), ("seats", Outcome::Recorded));
    assert_eq!(town.charter.term(), Epoch(1));
    assert_eq!(town.seated(), ids([0, 2, 3, 4]));
    assert!(matches!(town.turn(), Some(Change::Admit(new)) if new.id == id(1)));
    // One that cannot be made ends the epoch and changes no seat, as at the replica.
    town.batch(Vec::new(), Some(Turn::Change(Change::Remove(id(5)))));
    town.batch(Vec::new(), Some(Turn::Rejoin { member: id(0), nonce: 1 }));
    assert_eq!((town.charter.term(), town.seated()), (Epoch(4), ids(0..5)));
}

#[test]
fn two_members_of_the_constitution_with_one_cosigner_key_never_vote_together() {
    let mut founding = constitution(5, 4);
    founding.members[4].cosigner = cosigner(0);
    let charter = Charter::new(&founding).expect("it does not vote");
    let mut town = Town { charter, ..Town::new(5, 4) };
    assert_eq!(town.says(1, &grant(4)), void(Void::KeyTaken));
    assert_eq!(town.says(0, &rotate(9)), EFFECTIVE);
    assert_eq!(town.all_say(&[0, 1, 2], &grant(4)), EFFECTIVE);
    // The seat of the other has the old key yet.
    assert!(matches!(town.turn(), Some(Change::Rotate(of)) if of.id == id(0)));
    assert!(matches!(town.turn(), Some(Change::Admit(of)) if of.id == id(4)));
}
