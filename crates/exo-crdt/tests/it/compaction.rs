//! Checkpoints: what they drop does not come back, and they are the same on every replica.

use std::collections::BTreeSet;

use exo_crdt::checkpoint::{Fate, Standing};
use exo_crdt::replica::{AdoptError, ProposeError};
use exo_crdt::{Batch, Checkpoint, CollectionKind, EntryId, LiveSet};
use exo_types::Timestamp;
use exo_types::limits::EPOCHS_LATE_MAX;

use crate::support::{Member, Numbers, T0, key};

/// A proposal of the first, checked by the others, taken over by all.
fn agree(members: &mut [&mut Member], time: Timestamp) -> (Checkpoint, LiveSet) {
    let (next, live) = members[0].replica.propose(time).expect("a proposal");
    for member in members.iter_mut() {
        assert_eq!(member.replica.check_proposal(&next).as_ref(), Ok(&live));
    }
    for member in members.iter_mut() {
        let write = member.replica.adopt(next.clone(), live.clone()).expect("taken over");
        member.clock.fold_agreed(next.time);
        member.save(&write);
    }
    (next, live)
}

fn pair(kind: CollectionKind) -> (Member, Member) {
    (Member::new(0, kind), Member::new(1, kind))
}

/// So many empty checkpoints.
fn pass(members: &mut [&mut Member], epochs: usize, from: Timestamp) {
    for n in 0..epochs {
        agree(members, from.plus_millis(1 + n as u64));
    }
}

#[test]
fn deleted_keys_do_not_come_back_when_a_late_peer_returns() {
    for kind in [CollectionKind::LastWriter, CollectionKind::ObservedRemove] {
        let (mut a, mut b) = pair(kind);
        a.put("k", 1, T0);
        let written = a.flush();
        b.take(&written);
        b.remove("k", T0.plus_millis(5));
        let removed = b.flush();
        a.take(&removed);
        let mut all = [&mut a, &mut b];
        agree(&mut all, T0.plus_millis(10));
        pass(&mut all, EPOCHS_LATE_MAX + 1, T0.plus_millis(20));
        assert_eq!(a.replica.live().len(), 0, "{kind:?}: the tombstone is gone");
        // The late peer has nothing but the write, and hands it on.
        let state = a.replica.canonical_state();
        a.take(&written);
        assert!(a.keys(T0.plus_millis(1_000)).is_empty(), "{kind:?}");
        assert_eq!(a.replica.canonical_state(), state);
        assert_eq!(a.restored().canonical_state(), state);
    }
}

#[test]
fn a_write_that_was_kept_back_is_void_after_some_epochs_and_loses_to_the_tombstone_before() {
    let (mut a, mut b) = pair(CollectionKind::LastWriter);
    let mut offline = Member::new(2, CollectionKind::LastWriter);
    offline.put("k", 9, T0);
    let late = offline.flush();
    b.put("k", 1, T0.plus_millis(1));
    b.remove("k", T0.plus_millis(2));
    let batch = b.flush();
    a.take(&batch);
    let mut all = [&mut a, &mut b];
    for epoch in 0..EPOCHS_LATE_MAX as u64 + 2 {
        let mut probe = Member::new(3, CollectionKind::LastWriter);
        probe.replica = all[0].replica.clone();
        probe.take(&late);
        assert!(probe.keys(T0.plus_millis(1_000)).is_empty(), "after {epoch} checkpoints");
        let void = probe.replica.entries() == probe.replica.live().len();
        assert_eq!(void, epoch > EPOCHS_LATE_MAX as u64, "after {epoch} checkpoints");
        agree(&mut all, T0.plus_millis(10 + epoch));
    }
    // The author learns of it and signs again, as a new write.
    let (cut, live) = (a.replica.checkpoint().clone(), a.replica.live().clone());
    assert_eq!(offline.replica.author_entries(offline.author()).len(), 1);
    offline.replica.adopt(cut, live).expect("taken over");
    assert_eq!(offline.replica.author_entries(offline.author()).len(), 0);
    offline.clock.fold_agreed(a.replica.checkpoint().time);
    offline.put("k", 9, T0);
    let again = offline.flush();
    assert_eq!(again.header.claimed().expect("a header").seq, 2);
    a.take(&late);
    a.take(&again);
    assert_eq!(a.keys(T0.plus_millis(1_000)), ["k"]);
}

#[test]
fn the_filter_is_idempotent_and_distributes_over_union() {
    let (mut a, mut b) = pair(CollectionKind::LastWriter);
    for n in 0..6u8 {
        a.put(&format!("k{}", n % 3), n, T0.plus_millis(u64::from(n)));
        let batch = a.flush();
        b.take(&batch);
    }
    let mut entries: Vec<(Batch, EntryId)> = Vec::new();
    let note = |member: &Member, entries: &mut Vec<(Batch, EntryId)>, batch: Batch| {
        for (id, _) in member.replica.author_entries(member.author()).into_keys() {
            entries.push((batch.clone(), id));
        }
    };
    b.put("k1", 50, T0.plus_millis(9));
    let batch = b.flush();
    note(&b, &mut entries, batch);
    let covered: Vec<_> = a.replica.author_entries(a.author()).into_keys().collect();
    let (cut, live) = agree(&mut [&mut a], T0.plus_millis(20));
    let own = cut.hash().expect("a hash");
    // All entries with their headers, above and under the cut.
    let mut numbers = Numbers(1);
    let header = |seq| {
        let mut probe = entries[0].0.header.claimed().expect("a header");
        (probe.author, probe.seq) = (a.author(), seq);
        probe
    };
    let items: Vec<_> = covered
        .iter()
        .map(|(id, seq)| (header(*seq), *id))
        .chain(entries.iter().map(|(batch, id)| (batch.header.claimed().expect("a header"), *id)))
        .collect();
    let filter = |set: &BTreeSet<usize>| -> BTreeSet<usize> {
        let kept = |at: &&usize| {
            let (header, id) = &items[**at];
            cut.fate(own, &live, header, id) == Fate::Kept
        };
        set.iter().filter(kept).copied().collect()
    };
    for _ in 0..500 {
        let draw = |numbers: &mut Numbers| -> BTreeSet<usize> {
            (0..items.len()).filter(|_| numbers.below(2) == 0).collect()
        };
        let (x, y) = (draw(&mut numbers), draw(&mut numbers));
        let union: BTreeSet<_> = x.union(&y).copied().collect();
        let filtered: BTreeSet<_> = filter(&x).union(&filter(&y)).copied().collect();
        assert_eq!(filter(&union), filtered);
        assert_eq!(filter(&filter(&x)), filter(&x));
    }
    assert_eq!(live.len(), 3);
}

#[test]
fn a_stamp_from_the_future_is_worth_the_agreed_time_once_it_is_under_a_cut() {
    let (mut honest, mut liar) = pair(CollectionKind::LastWriter);
    liar.put("k", 66, T0.plus_millis(365 * 86_400_000));
    let batch = liar.flush();
    honest.take(&batch);
    honest.clock = exo_crdt::Clock::restore(exo_crdt::Hlc::at(T0));
    agree(&mut [&mut honest, &mut liar], T0.plus_millis(1_000));
    let view = honest.replica.view(T0.plus_millis(1_000));
    assert_eq!(view.keys[&key("k")].effective.millis(), T0.0 + 1_000);
    honest.put("k", 1, T0.plus_millis(2_000));
    let newer = honest.flush();
    liar.take(&newer);
    for member in [&honest, &liar] {
        let seen = &member.replica.view(T0.plus_millis(2_000)).keys[&key("k")];
        assert_eq!(seen.author, honest.author());
    }
    // A later checkpoint does not lift it again.
    agree(&mut [&mut honest, &mut liar], T0.plus_millis(9_000));
    let seen = &honest.replica.view(T0.plus_millis(9_000)).keys[&key("k")];
    assert_eq!(seen.author, honest.author());
}

#[test]
fn a_stamp_from_the_past_counts_from_the_checkpoint_that_its_batch_names() {
    let (mut a, mut b) = pair(CollectionKind::LastWriter);
    agree(&mut [&mut a, &mut b], T0);
    // A clock that was set back, and does not know of the checkpoint's time.
    b.clock = exo_crdt::Clock::default();
    b.put("k", 1, Timestamp(5));
    b.flush();
    let seen = b.replica.view(T0.plus_millis(10_000));
    assert_eq!(seen.keys[&key("k")].effective.millis(), T0.0 + 1);
}

#[test]
fn a_batch_that_names_a_checkpoint_to_come_waits_for_it() {
    let (mut a, mut b) = pair(CollectionKind::LastWriter);
    a.put("k", 1, T0);
    let first = a.flush();
    b.take(&first);
    let (cut, live) = agree(&mut [&mut a], T0.plus_millis(10));
    a.put("new", 2, T0.plus_millis(20));
    let ahead = a.flush();
    b.take(&ahead);
    assert_eq!(b.keys(T0.plus_millis(100)), ["k"]);
    assert_eq!(b.restored().canonical_state(), b.replica.canonical_state());
    b.replica.adopt(cut.clone(), live).expect("taken over");
    assert_eq!(b.keys(T0.plus_millis(100)), ["k", "new"]);
    assert_eq!(a.replica.canonical_state(), b.replica.canonical_state());
    let own = cut.hash().expect("a hash");
    let unknown = exo_crdt::batch::EpochRef { epoch: 1, hash: exo_crdt::CutHash([9; 32]) };
    assert_eq!(cut.standing(own, unknown), Standing::Void);
}

#[test]
fn a_checkpoint_picks_one_history_of_a_double_signer_for_everybody() {
    let mut liars = [1u8, 2].map(|_| Member::new(0, CollectionKind::LastWriter));
    liars[0].put("one", 1, T0);
    liars[1].put("two", 2, T0);
    let batches = [liars[0].flush(), liars[1].flush()];
    let mut a = Member::new(1, CollectionKind::LastWriter);
    let mut b = Member::new(2, CollectionKind::LastWriter);
    for batch in &batches {
        a.take(batch);
    }
    for batch in batches.iter().rev() {
        b.take(batch);
    }
    agree(&mut [&mut a, &mut b], T0.plus_millis(10));
    let keys = a.keys(T0.plus_millis(10));
    assert_eq!((keys.len(), &keys), (1, &b.keys(T0.plus_millis(10))));
    assert_eq!(a.replica.canonical_state(), b.replica.canonical_state());
    // The other history does not come back.
    for batch in &batches {
        a.take(batch);
    }
    assert_eq!(a.keys(T0.plus_millis(10)), keys);
    assert!(a.replica.evidence().accuses(&liars[0].author()));
}

#[test]
fn a_removal_of_what_has_not_come_yet_is_kept_until_it_cannot_come_any_more() {
    let (mut a, mut b) = pair(CollectionKind::ObservedRemove);
    let mut c = Member::new(2, CollectionKind::ObservedRemove);
    c.put("k", 1, T0);
    let written = c.flush();
    b.take(&written);
    b.remove("k", T0.plus_millis(1));
    let removed = b.flush();
    // Only the removal is under the cut; the write comes afterwards.
    a.take(&removed);
    agree(&mut [&mut a], T0.plus_millis(5));
    assert_eq!(a.replica.live().len(), 1);
    a.take(&written);
    assert!(a.keys(T0.plus_millis(5)).is_empty());
    pass(&mut [&mut a], EPOCHS_LATE_MAX + 1, T0.plus_millis(10));
    assert_eq!(a.replica.live().len(), 0);
    a.take(&written);
    assert!(a.keys(T0.plus_millis(50)).is_empty());
}

#[test]
fn who_lacks_something_under_the_cut_does_not_attest_to_it() {
    let (mut a, b) = pair(CollectionKind::LastWriter);
    a.put("k", 1, T0);
    a.flush();
    let (next, live) = a.replica.propose(T0.plus_millis(5)).expect("a proposal");
    let refused = b.replica.check_proposal(&next);
    assert_eq!(refused, Err(ProposeError::Missing { author: a.author(), seq: 1 }));
    // A live set that leaves something out is found by making it again.
    let short = LiveSet::default();
    let cheat = Checkpoint { live_root: short.root(), live_count: 0, ..next.clone() };
    assert_eq!(a.replica.check_proposal(&cheat), Err(ProposeError::Differs));
    let mut c = b.replica;
    assert_eq!(c.adopt(next.clone(), short), Err(AdoptError::LiveSet));
    c.adopt(next.clone(), live.clone()).expect("taken over");
    assert_eq!(c.missing().count(), 1);
    assert_eq!(c.propose(T0.plus_millis(9)), Err(ProposeError::Holes(1)));
    assert_eq!(c.adopt(next, live), Err(AdoptError::Old(1)));
}

#[test]
fn a_replica_that_was_away_takes_the_newest_checkpoint_over_at_once() {
    let (mut a, mut b) = pair(CollectionKind::LastWriter);
    let mut away = Member::new(2, CollectionKind::LastWriter);
    for n in 0..8u8 {
        a.put(&format!("k{}", n % 4), n, T0.plus_millis(u64::from(n) * 10));
        let batch = a.flush();
        b.take(&batch);
        if n < 3 {
            away.take(&batch);
        }
        agree(&mut [&mut a, &mut b], T0.plus_millis(u64::from(n) * 10 + 5));
    }
    let (cut, live) = (a.replica.checkpoint().clone(), a.replica.live().clone());
    away.replica.adopt(cut, live).expect("taken over");
    let missing: Vec<_> = away.replica.missing().copied().collect();
    assert_eq!(missing.len(), 4);
    for id in missing {
        let shown = a.replica.show(&id).expect("held");
        let shown = exo_crdt::VerifiedEntry::verify(
            shown,
            &crate::support::name(),
            crate::support::members(),
        );
        away.replica.apply_shown(&shown.expect("verifies")).expect("applies");
    }
    assert_eq!(away.replica.canonical_state(), a.replica.canonical_state());
    assert_eq!(away.replica.view(T0), a.replica.view(T0));
}

#[test]
fn a_batch_is_saved_whole_and_a_replica_restarts_with_the_same_bytes() {
    let (mut a, mut b) = pair(CollectionKind::ObservedRemove);
    let mut numbers = Numbers(3);
    for n in 0..20u8 {
        let now = T0.plus_millis(u64::from(n));
        if numbers.below(3) == 0 {
            a.remove(&format!("k{}", numbers.below(4)), now);
        } else {
            a.put(&format!("k{}", numbers.below(4)), n, now);
        }
        let batch = a.flush();
        b.take(&batch);
        if n % 7 == 6 {
            agree(&mut [&mut a, &mut b], now.plus_millis(1));
        }
        for member in [&a, &b] {
            assert_eq!(member.restored().canonical_state(), member.replica.canonical_state());
            assert_eq!(member.restored().view(now), member.replica.view(now));
        }
    }
}

#[test]
fn a_cut_passes_a_void_batch_only_after_its_author_has_signed_something_since() {
    let (mut a, mut b) = pair(CollectionKind::LastWriter);
    let mut away = Member::new(2, CollectionKind::LastWriter);
    a.put("k", 1, T0);
    let written = a.flush();
    b.take(&written);
    away.take(&written);
    away.remove("k", T0.plus_millis(1));
    let removed = away.flush();
    pass(&mut [&mut a, &mut b], EPOCHS_LATE_MAX + 1, T0.plus_millis(10));
    a.take(&removed);
    b.take(&removed);
    let (mut cut, mut live) = agree(&mut [&mut a, &mut b], T0.plus_millis(50));
    assert!(!cut.covers(&away.author(), 1));
    // Who proposes it anyway is refused.
    let end = a.replica.chain_end(&away.author());
    let mut pushed = a.replica.propose(T0.plus_millis(60)).expect("a proposal").0;
    pushed.frontier.push(exo_crdt::checkpoint::FrontierBatch {
        author: away.author(),
        seq: end.seq,
        hash: end.hash,
        total_entries: end.total_entries,
        total_bytes: end.total_bytes,
    });
    pushed.frontier.sort_by_key(|batch| batch.author);
    assert_eq!(b.replica.check_proposal(&pushed), Err(ProposeError::Unsettled(away.author())));
    // Back again, it learns that its removal never counted.
    away.replica.adopt(cut.clone(), live.clone()).expect("taken over");
    away.clock.fold_agreed(cut.time);
    assert!(away.replica.author_entries(away.author()).is_empty());
    away.remove("k", T0.plus_millis(70));
    let again = away.flush();
    a.take(&again);
    b.take(&again);
    (cut, live) = agree(&mut [&mut a, &mut b], T0.plus_millis(80));
    assert!(cut.covers(&away.author(), 2));
    assert!(a.keys(T0.plus_millis(90)).is_empty());
    assert_eq!(live.len(), 1, "the tombstone");
}
