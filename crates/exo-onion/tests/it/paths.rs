//! Paths: who is on them, how often, and who never.

use std::collections::{HashMap, HashSet};

use exo_onion::{Candidate, Diversity, PathError, PathRules, first_relays, select_path};
use exo_types::PeerId;
use proptest::prelude::*;

use crate::chance;

fn peer(number: u8) -> PeerId {
    PeerId::new([number; 32])
}

/// Members without organisations; the given ones do not relay.
fn members(count: u8, unwilling: &[u8]) -> Vec<Candidate<'static>> {
    let member = |number| Candidate {
        peer: peer(number),
        organisation: None,
        relays: !unwilling.contains(&number),
    };
    (0..count).map(member).collect()
}

fn rules(relays: usize) -> PathRules<'static> {
    PathRules {
        asker: peer(0),
        target: peer(1),
        relays,
        first: &[],
        avoid: &[],
        diversity: Diversity::Organisation,
    }
}

const ORGANISATIONS: [&str; 4] = ["a", "b", "c", "d"];

proptest! {
    #[test]
    fn a_path_keeps_every_rule(
        seed in any::<u64>(),
        known in proptest::collection::vec((0usize..5, any::<bool>()), 2..40),
        relays in 0usize..6,
        first in proptest::collection::vec(0u8..40, 0..4),
        avoid in proptest::collection::vec(0u8..40, 0..4),
        diversity in proptest::sample::select(vec![Diversity::Any, Diversity::Organisation]),
    ) {
        let candidates: Vec<_> = known.iter().zip(0u8..).map(|((organisation, relays), number)| {
            let organisation = ORGANISATIONS.get(*organisation).copied();
            Candidate { peer: peer(number), organisation, relays: *relays }
        }).collect();
        let first: Vec<_> = first.into_iter().map(peer).collect();
        let avoid: Vec<_> = avoid.into_iter().map(peer).collect();
        let rules = PathRules { first: &first, avoid: &avoid, diversity, ..rules(relays) };
        let path = match select_path(&candidates, &rules, &mut chance(seed)) {
            Ok(path) => path,
            Err(PathError::TooMany(asked)) => {
                prop_assert!(asked == relays && relays > 4);
                return Ok(());
            }
            Err(PathError::TooFew { asked, found }) => {
                prop_assert!(asked == relays && found < relays);
                return Ok(());
            }
            Err(PathError::NoFirst) => {
                prop_assert!(!first.is_empty() && relays > 0);
                return Ok(());
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        let (target, on_it) = path.split_last().expect("never empty");
        prop_assert_eq!(*target, rules.target);
        prop_assert_eq!(on_it.len(), relays);
        let distinct: HashSet<_> = path.iter().chain([&rules.asker]).collect();
        prop_assert_eq!(distinct.len(), path.len() + 1, "no repeats, never the asker or the target");
        let of = |peer: &PeerId| candidates.iter().find(|candidate| candidate.peer == *peer);
        for relay in on_it {
            prop_assert!(of(relay).expect("a candidate").relays);
            prop_assert!(!avoid.contains(relay));
        }
        prop_assert!(relays == 0 || first.is_empty() || first.contains(&path[0]));
        if diversity == Diversity::Organisation {
            let organisations: Vec<_> = on_it.iter().chain([&rules.asker, &rules.target])
                .filter_map(|peer| of(peer).and_then(|candidate| candidate.organisation)).collect();
            // Asker and target may be of one organisation: who asks whom is not chosen here.
            let relays: Vec<_> = on_it.iter().filter_map(|peer| of(peer).and_then(|c| c.organisation)).collect();
            for organisation in &relays {
                prop_assert_eq!(organisations.iter().filter(|other| *other == organisation).count(), 1);
            }
        }
    }
}

#[test]
fn every_willing_relay_is_as_likely_at_every_place() {
    let candidates = members(22, &[5, 9]);
    let mut random = chance(11);
    let mut counts: HashMap<(usize, PeerId), u32> = HashMap::new();
    for _ in 0..18_000 {
        let path = select_path(&candidates, &rules(3), &mut random).expect("a path");
        for (place, relay) in path.iter().take(3).enumerate() {
            *counts.entry((place, *relay)).or_default() += 1;
        }
    }
    // 18 relays, 1000 times each at each of 3 places. Chi-square with 17 degrees of freedom exceeds
    // 40.8 once in a thousand; the seed is fixed.
    assert_eq!(counts.len(), 3 * 18);
    for place in 0..3 {
        let of_place = counts.iter().filter(|((at, _), _)| *at == place);
        let chi: f64 =
            of_place.map(|(_, count)| (f64::from(*count) - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi < 40.8, "place {place}: {chi}");
    }
}

#[test]
fn paths_begin_at_the_first_of_the_kept_relays_that_will_do() {
    let candidates = members(10, &[4]);
    let begins = |first: &[u8], avoid: &[u8]| {
        let first: Vec<_> = first.iter().copied().map(peer).collect();
        let avoid: Vec<_> = avoid.iter().copied().map(peer).collect();
        let rules = PathRules { first: &first, avoid: &avoid, ..rules(2) };
        select_path(&candidates, &rules, &mut chance(12)).map(|path| path[0])
    };
    assert_eq!(begins(&[7, 3], &[]), Ok(peer(7)));
    assert_eq!(begins(&[7, 3], &[7]), Ok(peer(3)), "the path over the first failed");
    assert_eq!(begins(&[1, 3], &[]), Ok(peer(3)), "the first is the target");
    assert_eq!(begins(&[4, 3], &[]), Ok(peer(3)), "the first no longer relays");
    assert_eq!(begins(&[99, 4], &[]), Err(PathError::NoFirst));
}

#[test]
fn what_is_not_possible_is_said() {
    let candidates = members(4, &[]);
    let path = |rules: &PathRules<'_>| select_path(&candidates, rules, &mut chance(13));
    assert_eq!(path(&rules(0)), Ok(vec![peer(1)]));
    assert_eq!(path(&rules(2)).map(|path| path.len()), Ok(3));
    assert_eq!(path(&rules(3)), Err(PathError::TooFew { asked: 3, found: 2 }));
    assert_eq!(path(&rules(5)), Err(PathError::TooMany(5)));
    let to_self = PathRules { target: peer(0), ..rules(1) };
    assert_eq!(path(&to_self), Err(PathError::ToSelf));
}

#[test]
fn first_relays_are_drawn_from_all_and_kept_apart() {
    let mut candidates = members(12, &[3]);
    for (candidate, organisation) in candidates[4..].iter_mut().zip(ORGANISATIONS.iter().cycle()) {
        candidate.organisation = Some(organisation);
    }
    let mut random = chance(14);
    let mut drawn = HashSet::new();
    for _ in 0..200 {
        let first = first_relays(&candidates, peer(0), Diversity::Organisation, 3, &mut random);
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 3);
        assert!(!first.contains(&peer(0)) && !first.contains(&peer(3)));
        drawn.extend(first);
    }
    assert_eq!(drawn.len(), 10);
    let all = first_relays(&candidates, peer(0), Diversity::Any, usize::MAX, &mut random);
    assert_eq!(all.len(), exo_types::limits::ONION_FIRST_RELAYS_MAX);
}
