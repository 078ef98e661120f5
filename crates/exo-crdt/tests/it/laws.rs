//! The laws of `Merge`, on encodings: any order, grouping and repetition gives the same bytes.

use exo_crdt::{
    Canonical, Delta, EvidenceSet, GSet, LWWMap, LWWRegister, Merge, ORSet, Reconciled, Stamp,
};
use exo_types::codec::Wire;

use crate::reconcile::random_reconciled;
use crate::support::{Numbers, bytes, hlc, members, peer};

/// Cases of one law in the usual run; the long one has a hundred thousand and more.
const CASES: u64 = 400;
const CASES_LONG: u64 = 100_000;

/// Checks the laws on states that `make` draws.
fn laws<T: Merge + Clone>(
    cases: u64,
    make: impl Fn(&mut Numbers) -> T,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    for seed in 0..cases {
        let mut numbers = Numbers(seed);
        let states: Vec<T> = (0..3 + numbers.below(3)).map(|_| make(&mut numbers)).collect();
        let join = |order: &[usize]| {
            let mut joined = states[order[0]].clone();
            order[1..].iter().for_each(|at| joined.merge(states[*at].clone()));
            joined
        };
        let forward: Vec<usize> = (0..states.len()).collect();
        let expected = encode(&join(&forward));
        // Any permutation, with repetitions.
        let mut order = forward.clone();
        for at in (1..order.len()).rev() {
            order.swap(at, numbers.below(at as u64 + 1) as usize);
        }
        order.extend((0..numbers.below(4)).map(|_| numbers.below(states.len() as u64) as usize));
        assert_eq!(encode(&join(&order)), expected, "seed {seed}: order {order:?}");
        // Any grouping: a random split, joined on both sides first.
        let split = 1 + numbers.below(order.len() as u64 - 1) as usize;
        let (mut left, right) = (join(&order[..split]), join(&order[split..]));
        let union = left.joined_len(&right);
        left.merge(right);
        assert_eq!(encode(&left), expected, "seed {seed}: grouping {order:?} at {split}");
        assert_eq!(left.joined_len(&left.clone()), union, "seed {seed}: length");
        let again = left.clone();
        left.merge(again);
        assert_eq!(encode(&left), expected, "seed {seed}: idempotence");
    }
}

fn round_trip<T: Wire + PartialEq + std::fmt::Debug>(value: &T) -> Vec<u8> {
    let encoded = bytes(value);
    assert_eq!(T::from_wire(&encoded).as_ref(), Ok(value));
    encoded
}

fn gset(numbers: &mut Numbers) -> GSet<u64> {
    (0..numbers.below(12)).map(|_| numbers.below(20)).collect()
}

/// Few stamps and values, so that ties are common.
fn stamp(numbers: &mut Numbers) -> Stamp {
    Stamp::new(hlc(numbers.below(3), numbers.below(2) as u16), peer(numbers.below(2) as u8))
}

fn register(numbers: &mut Numbers) -> LWWRegister<String> {
    LWWRegister::new(numbers.below(4).to_string(), stamp(numbers))
}

fn map(numbers: &mut Numbers) -> LWWMap<u64, Vec<u8>> {
    let mut map = LWWMap::new();
    for _ in 0..numbers.below(10) {
        let (key, stamp) = (numbers.below(6), stamp(numbers));
        if numbers.below(3) == 0 {
            map.remove(key, stamp);
        } else {
            map.put(key, vec![numbers.below(3) as u8], stamp);
        }
    }
    map
}

fn evidence(numbers: &mut Numbers) -> EvidenceSet {
    let all = crate::small::all_evidence();
    let mut set = EvidenceSet::default();
    for _ in 0..numbers.below(6) {
        set.insert(all[numbers.below(all.len() as u64) as usize].clone());
    }
    set
}

fn evidence_bytes(set: &EvidenceSet) -> Vec<u8> {
    set.iter().flat_map(|(_, proof)| proof.id().0).collect()
}

/// States of one history of an observed-remove set: replicas that changed it and joined each other.
fn or_sets(seed: u64, count: usize) -> Vec<ORSet<u8>> {
    let mut numbers = Numbers(seed);
    let mut replicas = vec![ORSet::new(); count];
    for _ in 0..numbers.below(24) {
        let at = numbers.below(count as u64) as usize;
        let element = numbers.below(4) as u8;
        match numbers.below(4) {
            0 | 1 => drop(replicas[at].insert(element, peer(at as u8)).expect("a dot")),
            2 => drop(replicas[at].remove(&element)),
            _ => {
                let other = replicas[numbers.below(count as u64) as usize].clone();
                replicas[at].merge(other);
            }
        }
    }
    replicas
}

fn or_set_laws(cases: u64) {
    for seed in 0..cases {
        let states = or_sets(seed, 3);
        let join = |order: &[usize]| {
            let mut joined = states[order[0]].clone();
            order[1..].iter().for_each(|at| joined.merge(states[*at].clone()));
            round_trip(&joined)
        };
        let expected = join(&[0, 1, 2]);
        for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            assert_eq!(join(&order), expected, "seed {seed}: {order:?}");
        }
        assert_eq!(join(&[0, 0, 1, 2, 2, 1]), expected, "seed {seed}");
        let (mut left, mut right) = (states[1].clone(), states[0].clone());
        left.merge(states[2].clone());
        right.merge(left);
        assert_eq!(round_trip(&right), expected, "seed {seed}: grouping");
    }
}

fn all_laws(cases: u64) {
    laws(cases, gset, round_trip);
    laws(cases, register, round_trip);
    laws(cases, map, round_trip);
    laws(cases, evidence, evidence_bytes);
    laws(cases, random_reconciled, round_trip::<Reconciled>);
    or_set_laws(cases);
}

#[test]
fn every_type_obeys_the_laws() {
    let _ = members();
    all_laws(CASES);
}

#[test]
#[ignore = "a hundred thousand cases of each type; run with --release"]
fn every_type_obeys_the_laws_at_length() {
    all_laws(CASES_LONG);
}

fn delta_law<T: Delta + Clone>(
    seed: u64,
    make: impl Fn(&mut Numbers) -> T,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    let mut numbers = Numbers(seed);
    let base = make(&mut numbers);
    let mut later = base.clone();
    later.merge(make(&mut numbers));
    let mut joined = base.clone();
    joined.merge_delta(later.delta_since(&base));
    assert_eq!(encode(&joined), encode(&later), "seed {seed}");
    // Twice is once.
    joined.merge_delta(later.delta_since(&base));
    assert_eq!(encode(&joined), encode(&later), "seed {seed}");
}

#[test]
fn a_delta_brings_a_replica_to_the_whole_state() {
    for seed in 0..2000 {
        delta_law(seed, gset, round_trip);
        delta_law(seed, register, round_trip);
        delta_law(seed, map, round_trip);
        // Of an observed-remove set, for states of one history.
        let [base, mut later] = or_sets(seed, 2).try_into().expect("two");
        later.merge(base.clone());
        let mut joined = base.clone();
        joined.merge_delta(later.delta_since(&base));
        assert_eq!(round_trip(&joined), round_trip(&later), "seed {seed}");
    }
}

#[test]
fn deltas_of_single_changes_may_be_lost_and_repeated_until_one_catches_up() {
    let mut source = ORSet::new();
    let mut behind = ORSet::new();
    for n in 0..40u8 {
        let delta = if n % 3 == 2 {
            source.remove(&(n / 2))
        } else {
            source.insert(n / 2, peer(1)).expect("a dot")
        };
        if n % 4 != 1 {
            behind.merge_delta(delta.clone());
            behind.merge_delta(delta);
        }
    }
    let catch_up = source.delta_since(&behind);
    behind.merge_delta(catch_up);
    assert_eq!(bytes(&behind), bytes(&source));
}

#[test]
fn an_addition_that_a_removal_had_not_seen_survives_it() {
    let mut a = ORSet::new();
    a.insert("moth".to_owned(), peer(1)).expect("a dot");
    let mut b = a.clone();
    b.remove(&"moth".to_owned());
    a.insert("moth".to_owned(), peer(1)).expect("a dot");
    b.merge(a.clone());
    assert!(b.contains(&"moth".to_owned()));
    let mut seen = a;
    seen.merge(b.clone());
    seen.remove(&"moth".to_owned());
    b.merge(seen);
    assert!(b.is_empty());
}

#[test]
fn a_tie_is_never_decided_by_who_joins() {
    let stamp = Stamp::new(hlc(5, 0), peer(1));
    let (mut a, mut b) = (LWWRegister::new(1u64, stamp), LWWRegister::new(2u64, stamp));
    let (first, second) = (a.clone(), b.clone());
    a.merge(second);
    b.merge(first);
    assert_eq!((a.get(), b.get()), (&2, &2));
    // The same author, time and key: once a value, once a tombstone.
    let (mut a, mut b) = (LWWMap::new(), LWWMap::new());
    a.put(1u64, 7u64, stamp);
    b.remove(1u64, stamp);
    let first = a.clone();
    a.merge(b.clone());
    b.merge(first);
    assert_eq!(bytes(&a), bytes(&b));
    assert_eq!(a.get(&1), None);
}

#[test]
fn a_removed_key_stays_removed_against_older_writes_and_comes_back_with_newer_ones() {
    let at = |millis| Stamp::new(hlc(millis, 0), peer(1));
    let mut map = LWWMap::new();
    map.put("k".to_owned(), 1u64, at(1));
    map.remove("k".to_owned(), at(3));
    assert!(!map.put("k".to_owned(), 2, at(2)));
    assert_eq!((map.get(&"k".to_owned()), map.len(), map.cells_len()), (None, 0, 1));
    assert!(map.put("k".to_owned(), 4, at(4)));
    assert_eq!(map.get(&"k".to_owned()), Some(&4));
}

#[test]
fn a_join_over_its_bound_is_refused_whole() {
    let mut set: GSet<u64> = (0..10).collect();
    let full = set.try_merge((5..20).collect(), 15).expect_err("too many");
    assert_eq!((full.max, full.actual, set.len()), (15, 20, 10));
    set.try_merge((5..15).collect(), 15).expect("fits");
    assert_eq!(set.len(), 15);
}

#[test]
fn a_removal_comes_through_when_an_observed_remove_set_is_full() {
    let mut full = ORSet::new();
    for n in 0..4u8 {
        full.insert(n, peer(1)).expect("a dot");
    }
    let mut other = full.clone();
    other.remove(&0);
    other.insert(9, peer(2)).expect("a dot");
    full.try_merge(other, 4).expect("as many go as come");
    assert!(!full.contains(&0) && full.contains(&9) && full.len() == 4);
}

#[test]
fn encodings_out_of_order_or_with_repeats_are_refused() {
    assert!(GSet::<u64>::from_wire(&[2, 2, 1]).is_err());
    assert!(GSet::<u64>::from_wire(&[2, 1, 1]).is_err());
    assert!(GSet::<u64>::from_wire(&[2, 1, 2]).is_ok());
    // Ten bytes that announce four thousand million items.
    assert!(GSet::<u64>::from_wire(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3, 4, 5]).is_err());
    assert!(ORSet::<u8>::from_wire(&[1, 7, 0, 0, 0]).is_err(), "an element on no dot");
}

#[test]
fn equal_values_have_equal_canonical_bytes() {
    assert_eq!(300u64.canonical(), 300u64.canonical());
    assert_ne!("a".to_owned().canonical(), "b".to_owned().canonical());
    assert_ne!(true.canonical(), false.canonical());
}
