//! Every small state: what a sample could miss.

use std::sync::OnceLock;

use exo_crdt::{
    Batch, CollectionKind, Evidence, EvidenceSet, GSet, LWWMap, LWWRegister, Merge, ORSet,
    Reconciled, Slot, Stamp,
};

use crate::reconcile::{response, slot};
use crate::support::{Member, T0, bytes, hlc, peer};

fn check_all<T: Merge + Clone>(states: &[T], encode: impl Fn(&T) -> Vec<u8>) {
    let join = |a: &T, b: &T| {
        let mut joined = a.clone();
        joined.merge(b.clone());
        joined
    };
    for a in states {
        assert_eq!(encode(&join(a, a)), encode(a));
        for b in states {
            let ab = join(a, b);
            assert_eq!(encode(&ab), encode(&join(b, a)));
            assert_eq!(a.joined_len(b), ab.joined_len(&ab));
            for c in states {
                assert_eq!(encode(&join(&ab, c)), encode(&join(a, &join(b, c))));
            }
        }
    }
}

#[test]
fn all_registers_of_two_times_two_authors_and_two_values_obey_the_laws() {
    let mut all = Vec::new();
    for (time, author, value) in (0..8).map(|n| (n & 1, n >> 1 & 1, n >> 2)) {
        all.push(LWWRegister::new(value, Stamp::new(hlc(time, 0), peer(author as u8))));
    }
    check_all(&all, bytes);
}

#[test]
fn all_maps_of_two_keys_and_few_writes_obey_the_laws() {
    // At each key nothing, a value or another under one stamp, a tombstone under it, or a later value.
    let cell = |map: &mut LWWMap<u8, u8>, key: u8, choice: u8| {
        let (early, late) = (Stamp::new(hlc(1, 0), peer(1)), Stamp::new(hlc(1, 1), peer(0)));
        match choice {
            1 | 2 => drop(map.put(key, choice, early)),
            3 => drop(map.remove(key, early)),
            4 => drop(map.put(key, 9, late)),
            _ => {}
        }
    };
    let mut all = Vec::new();
    for (a, b) in (0..25).map(|n| (n / 5, n % 5)) {
        let mut map = LWWMap::new();
        cell(&mut map, 0, a);
        cell(&mut map, 1, b);
        all.push(map);
    }
    check_all(&all, bytes);
}

#[test]
fn all_subsets_of_four_items_obey_the_laws() {
    let all: Vec<GSet<u8>> =
        (0..16u8).map(|bits| (0..4).filter(|n| bits >> n & 1 == 1).collect()).collect();
    check_all(&all, bytes);
}

/// Every pair or triple of replicas that so many operations lead to, from empty ones: each operation
/// adds or removes the element at one replica, or joins one replica into another.
fn or_set_histories(replicas: usize, operations: usize) -> Vec<Vec<ORSet<u8>>> {
    let mut all = vec![vec![ORSet::new(); replicas]];
    let mut seen = std::collections::BTreeSet::new();
    let mut fresh = all.clone();
    for _ in 0..operations {
        let mut next = Vec::new();
        for states in &fresh {
            for at in 0..replicas {
                for step in 0..replicas + 1 {
                    let mut states = states.clone();
                    match step {
                        step if step == at => {
                            states[at].insert(7, peer(at as u8)).expect("a dot");
                        }
                        step if step == replicas => drop(states[at].remove(&7)),
                        from => {
                            let other = states[from].clone();
                            states[at].merge(other);
                        }
                    }
                    if seen.insert(states.iter().map(bytes).collect::<Vec<_>>()) {
                        next.push(states);
                    }
                }
            }
        }
        all.extend(next.iter().cloned());
        fresh = next;
    }
    all
}

#[test]
fn all_histories_of_observed_remove_sets_of_few_operations_obey_the_laws() {
    for (replicas, operations) in [(2, 8), (3, 5)] {
        let histories = or_set_histories(replicas, operations);
        assert!(histories.len() > 500, "{} histories", histories.len());
        histories.iter().for_each(|states| check_all(states, bytes));
    }
}

#[test]
fn all_sets_of_proofs_from_three_histories_obey_the_laws() {
    let proofs = all_evidence();
    let some: Vec<_> = proofs.iter().step_by(proofs.len().div_ceil(5)).collect();
    let all: Vec<EvidenceSet> = (0..1u32 << some.len())
        .map(|bits| {
            let mut set = EvidenceSet::default();
            for (_, proof) in some.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1) {
                set.insert((*proof).clone());
            }
            set
        })
        .collect();
    check_all(&all, |set| set.iter().flat_map(|(_, proof)| proof.id().0).collect());
}

#[test]
fn all_reconciled_answers_of_few_responses_obey_the_laws() {
    // Of two slots, in one of which a source may say up to three different things.
    let said: Vec<(Slot, _)> = [(1, "a"), (1, "b"), (1, "c"), (2, "a")]
        .map(|(at, name)| (slot(at), response(name, Vec::new())))
        .into();
    let all: Vec<Reconciled> = (0..1u32 << said.len())
        .map(|bits| {
            let mut state = Reconciled::default();
            for (_, (slot, response)) in
                said.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1)
            {
                state.insert(*slot, response.clone()).expect("valid");
            }
            state
        })
        .collect();
    check_all(&all, bytes);
}

/// Batches of one author with three histories, two batches each.
pub(crate) fn forks() -> &'static [Batch] {
    static FORKS: OnceLock<Vec<Batch>> = OnceLock::new();
    FORKS.get_or_init(|| {
        let mut all = Vec::new();
        for history in 0..3u8 {
            let mut liar = Member::new(0, CollectionKind::LastWriter);
            for n in 0..2u8 {
                liar.put(&format!("h{history}"), n, T0.plus_millis(u64::from(n)));
                all.push(liar.flush());
            }
        }
        all
    })
}

/// Every proof that three histories give.
pub(crate) fn all_evidence() -> &'static [Evidence] {
    static ALL: OnceLock<Vec<Evidence>> = OnceLock::new();
    ALL.get_or_init(|| {
        let headers: Vec<_> = forks().iter().map(|batch| batch.header.clone()).collect();
        let pairs =
            headers.iter().flat_map(|a| headers.iter().map(move |b| (a.clone(), b.clone())));
        pairs.filter_map(|(a, b)| Evidence::of(a, b).ok()).collect()
    })
}

#[test]
fn every_order_of_the_batches_of_three_histories_gives_one_state() {
    let forks = forks();
    let mut states = std::collections::BTreeSet::new();
    let mut orders = vec![vec![]];
    for _ in 0..forks.len() {
        let longer = |order: &Vec<usize>| {
            let order = order.clone();
            let rest: Vec<_> = (0..forks.len()).filter(|at| !order.contains(at)).collect();
            rest.into_iter().map(move |at| [order.clone(), vec![at]].concat())
        };
        orders = orders.iter().flat_map(longer).collect();
    }
    assert_eq!(orders.len(), 720);
    for order in orders.iter().step_by(7) {
        let mut member = Member::new(1, CollectionKind::LastWriter);
        order.iter().for_each(|at| member.take(&forks[*at]));
        assert_eq!(member.replica.evidence().len(), 2);
        assert_eq!(member.restored().canonical_state(), member.replica.canonical_state());
        states.insert(member.replica.canonical_state());
    }
    assert_eq!(states.len(), 1);
}
