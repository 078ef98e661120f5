//! Random logs: whatever a log holds, the charter keeps its promises.

use std::collections::BTreeSet;

use exo_consensus::{Quorum, Turn, Update};
use exo_node::decide::{Charter, Decided, Decision, Keys, Kind, Outcome};
use exo_node::roster::Standing;
use exo_types::PeerId;
use exo_types::limits::{DECISIONS_WISHED_PER_VOTER_MAX, VOTERS_MIN};
use proptest::prelude::*;

use super::{
    FEDERATION, FOUNDED, Town, admit, constitution, grant, id, revoke, rotate, rules, withdraw,
};

/// People who take part: the first are in the constitution.
const PEOPLE: usize = 12;

#[derive(Clone, Debug)]
enum Act {
    /// People propose the same, in one batch, with which the epoch may turn: as the charter wanted before.
    Say(Vec<usize>, Decision, bool),
    /// Bytes.
    Mumble(usize, Vec<u8>),
    /// The epoch turns as the charter wants.
    Turn,
}

fn decision() -> impl Strategy<Value = Decision> {
    let who = 0..PEOPLE;
    prop_oneof![
        4 => who.clone().prop_map(admit),
        4 => who.clone().prop_map(revoke),
        4 => who.clone().prop_map(grant),
        3 => who.clone().prop_map(withdraw),
        2 => (0..16usize).prop_map(rotate),
        1 => (1..6u8).prop_map(rules),
        1 => Just(Decision::statement(vec![1]).expect("short")),
        1 => (who, 0..PEOPLE).prop_map(|(n, named)| {
            // Somebody's keys under another's name.
            let mut other = admit(n);
            if let Decision::Admit(of) = &mut other {
                of.name = super::name(named);
            }
            other
        }),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let several = prop::collection::vec(0..PEOPLE, 1..9);
    prop_oneof![
        10 => (several, decision(), prop::bool::weighted(0.3))
            .prop_map(|(who, what, turn)| Act::Say(who, what, turn)),
        1 => (0..PEOPLE, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(who, bytes)| Act::Mumble(who, bytes)),
        4 => Just(Act::Turn),
    ]
}

fn run(town: &mut Town, act: &Act) -> Vec<Decided> {
    match act {
        Act::Say(who, what, turn) => {
            let update = what.to_update().expect("fits");
            let turn = town.wanted().filter(|_| *turn).map(Turn::Change);
            town.batch(who.iter().map(|n| (id(*n), update.clone())).collect(), turn)
        }
        Act::Mumble(who, bytes) => {
            let content = exo_consensus::Blob::new(bytes.clone()).expect("short");
            town.batch(vec![(id(*who), Update::Data(content))], None)
        }
        Act::Turn => {
            let turn = town.wanted().map(Turn::Change);
            town.batch(Vec::new(), turn)
        }
    }
}

/// What holds after every batch.
fn check(town: &Town, changes: u64) {
    let charter = &town.charter;
    let roster = charter.roster();
    assert_eq!(charter.epoch().0, FOUNDED.0 + changes, "an epoch for each change of membership");
    let names: BTreeSet<_> = roster.active().map(|(_, member)| &member.name).collect();
    assert_eq!(names.len(), roster.active().count(), "a name twice");
    let keys: BTreeSet<_> = roster.all().map(|(_, m)| m.cosigner.as_bytes().to_vec()).collect();
    assert_eq!(keys.len(), roster.all().count(), "a cosigner key twice");
    assert!(charter.entitled().all(|peer| charter.standing(peer) == Standing::Active));
    assert!(Keys::new(&FEDERATION).policy(charter.seats()).is_ok(), "no policy for the seats");
    let live = |peer: &PeerId| charter.standing(peer) == Standing::Active;
    let seats = charter.seats();
    let active = seats.iter().filter(|(_, voter)| live(&voter.id)).count();
    assert!(seats.quorum().is_quorum(active), "{active} of {} are left", seats.count());
    for (voter, wish) in charter.waiting() {
        assert!(charter.judge(voter, &wish.decision).is_ok(), "a proposal that is void waits");
    }
    assert!(charter.waiting().count() <= seats.count() * DECISIONS_WISHED_PER_VOTER_MAX);
}

/// Where the seats come to rest they are those of who should vote, as far as four seats allow.
fn check_rest(town: &Town) {
    let seats: BTreeSet<PeerId> = town.seated().into_iter().collect();
    let entitled: BTreeSet<PeerId> = town.charter.entitled().copied().collect();
    if entitled.len() >= VOTERS_MIN {
        assert_eq!(seats, entitled);
    } else {
        assert!(seats.is_superset(&entitled) && seats.len() == VOTERS_MIN);
    }
    for (_, voter) in town.charter.seats().iter().filter(|(_, v)| entitled.contains(&v.id)) {
        let member = town.charter.member(&voter.id).expect("a member");
        let key = exo_node::decide::cosigner_key(voter);
        assert_eq!(key.as_ref(), Some(&member.cosigner));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_logs_keep_names_keys_votes_and_epochs_in_order(
        voters in VOTERS_MIN..9,
        acts in prop::collection::vec(act(), 1..60),
    ) {
        let members = voters.max(7);
        let mut town = Town::new(members, voters);
        let mut changes = 0;
        let mut removed: BTreeSet<PeerId> = BTreeSet::new();
        for act in &acts {
            for decided in run(&mut town, act) {
                let changed = matches!(decided.kind, Kind::Admit | Kind::Revoke | Kind::Rotate);
                if let Outcome::Wished { have, need } = decided.outcome {
                    prop_assert!(have < need && usize::from(need) <= 32);
                }
                changes += u64::from(changed && decided.outcome == Outcome::Effective);
            }
            check(&town, changes);
            prop_assert!(removed.iter().all(|peer| town.charter.standing(peer) == Standing::Revoked));
            let roster = town.charter.roster();
            removed.extend(roster.all().filter(|(_, m)| m.revoked.is_some()).map(|(peer, _)| *peer));
        }
        // Replayed from the constitution, batch by batch or update by update, it is the same.
        let mut again = Charter::new(&constitution(members, voters)).expect("a constitution");
        for (first, batch) in &town.log {
            again.carry_out(*first, batch);
        }
        prop_assert_eq!(&again, &town.charter);
        town.settle();
        check(&town, changes);
        check_rest(&town);
    }

    #[test]
    fn the_order_in_which_voters_propose_the_same_is_of_no_importance(
        voters in VOTERS_MIN..9,
        order in Just((0..8usize).collect::<Vec<_>>()).prop_shuffle(),
        what in prop_oneof![Just(grant(9)), Just(revoke(9)), Just(revoke(1)), Just(rules(3))],
    ) {
        let outcome = |order: Vec<usize>| {
            let mut town = Town::new(10, voters);
            let effective = order.iter().filter(|n| town.says(**n, &what) == Outcome::Effective);
            let count = effective.count();
            (town.charter, count)
        };
        let inside: Vec<usize> = order.into_iter().filter(|n| *n < voters).collect();
        let mut sorted = inside.clone();
        sorted.sort_unstable();
        let (shuffled, once) = outcome(inside);
        prop_assert_eq!(once, 1);
        prop_assert_eq!(shuffled, outcome(sorted).0);
    }

    #[test]
    fn a_decision_takes_effect_with_the_last_voter_that_it_needs_and_not_before(
        voters in VOTERS_MIN..9,
        repeats in 1..4usize,
    ) {
        let quorum = Quorum::of(voters).expect("enough").quorum();
        let mut town = Town::new(10, voters);
        for n in 0..quorum - 1 {
            for _ in 0..repeats {
                let waits = Outcome::Wished { have: n as u8 + 1, need: quorum as u8 };
                prop_assert_eq!(town.says(n, &grant(9)), waits);
            }
        }
        prop_assert_eq!(town.says(quorum - 1, &grant(9)), Outcome::Effective);
    }
}
