//! Writes, erasures and gossip among honest members.

use exo_crdt::Store;
use exo_node::share::{Change, ShareEvent, ShareMessage, ShareRefusal, Written, saved_end};
use exo_types::limits::{SHARED_BATCHES_AT_ONCE, SHARED_BATCHES_PER_SECOND};

use super::{World, collection, key};
use crate::decide::id;

#[test]
fn a_write_needs_nobody_else_and_is_acknowledged_when_it_is_on_the_disk() {
    let mut world = World::new(4, 4, 1);
    world.slow_disks = true;
    let ticket = world.put(0, "notes", "a", "one");
    assert_eq!(world.hosts[0].writing.len(), 1, "nothing is under way: it is signed at once");
    let later: Vec<_> = (0..9).map(|n| world.put(0, "notes", &format!("k{n}"), "x")).collect();
    world.pass(50);
    assert_eq!(world.hosts[0].writing.len(), 1, "what comes meanwhile waits for the disk");
    assert!(world.hosts[0].done.is_empty(), "nothing is on the disk yet");
    world.save_one(0);
    assert!(world.hosts[0].done.contains_key(&ticket));
    assert_eq!(world.hosts[0].writing.len(), 1, "one batch takes all that came");
    world.save_one(0);
    assert!(
        later.iter().all(|ticket| matches!(world.hosts[0].done[ticket], Ok(Written::Entry(_))))
    );
    world.save(0);
    assert!(matches!(world.hosts[0].done[&ticket], Ok(Written::Entry(_))));
    assert_eq!(world.get(0, "notes", "a"), Some(b"one".to_vec()));
}

#[test]
fn what_is_not_on_the_disk_is_told_to_nobody() {
    let mut world = World::new(4, 4, 1);
    world.connect_all();
    world.run(500);
    world.slow_disks = true;
    world.put(0, "notes", "a", "one");
    world.run(2_000);
    assert!(world.hosts[0].sent.is_empty());
    world.save(0);
    world.slow_disks = false;
    world.run(1_000);
    assert_eq!(world.get(3, "notes", "a"), Some(b"one".to_vec()));
}

#[test]
fn writes_of_one_moment_take_one_signature_and_those_beyond_a_batch_the_next() {
    let mut world = World::new(4, 4, 1);
    world.slow_disks = true;
    let tickets: Vec<_> = (0..600).map(|n| world.put(0, "notes", &format!("k{n}"), "x")).collect();
    world.slow_disks = false;
    world.save(0);
    world.run(300);
    assert!(
        tickets.iter().all(|ticket| matches!(world.hosts[0].done[ticket], Ok(Written::Entry(_))))
    );
    let now = world.now;
    let shared = world.hosts[0].shared.as_mut().expect("is up");
    let view = shared.collection(now, &collection("notes")).expect("has it");
    // The first one goes alone.
    assert_eq!((view.entries, view.batches), (600, 4));
}

#[test]
fn many_small_writes_to_a_fast_disk_take_a_bounded_number_of_signatures() {
    let mut world = World::new(4, 4, 1);
    let writes = 4 * u64::from(SHARED_BATCHES_AT_ONCE);
    for n in 0..writes {
        world.put(0, "notes", &format!("k{n}"), "x");
        world.pass(1);
    }
    world.run(300);
    let allowed =
        u64::from(SHARED_BATCHES_AT_ONCE) + SHARED_BATCHES_PER_SECOND * (writes + 300) / 1_000;
    let commits = world.hosts[0].commits as u64;
    assert!(commits > u64::from(SHARED_BATCHES_AT_ONCE) && commits <= allowed, "{commits} batches");
    assert_eq!(world.hosts[0].done.len() as u64, writes);
}

#[test]
fn what_two_members_hold_alike_comes_from_one_of_them() {
    let mut world = World::new(4, 4, 7);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        world.connect(a, b);
    }
    for n in 0..300 {
        world.put(n % 3, "notes", &format!("k{n}"), &"v".repeat(20_000));
        world.pass(10);
    }
    world.run(5_000);
    let before = world.bytes;
    for n in 0..3 {
        world.connect(3, n);
    }
    world.run(6_000);
    world.assert_same(&[0, 1, 2, 3], "notes");
    let came = world.bytes - before;
    // 300 values, and at most as many signatures.
    let once = 300 * (20_000 + 200 + 3_309 + 300);
    assert!(came < once * 5 / 4, "{came} bytes for {once}");
}

#[test]
fn a_store_that_was_lost_is_written_to_again_when_what_it_held_has_come_back() {
    let mut world = World::new(4, 4, 1);
    world.connect_all();
    for n in 0..5 {
        world.put(0, "notes", &format!("k{n}"), "x");
    }
    world.run(2_000);
    let write = world.hosts[0].stores[&collection("notes")].load().expect("loads");
    let end = saved_end(&write).expect("has written").to_vec();
    world.crash(0);
    world.hosts[0].stores.clear();
    world.start(0);
    let shared = world.hosts[0].shared.as_mut().expect("is up");
    assert_eq!(shared.recall(&collection("notes"), &end[1..]), None);
    assert_eq!(shared.recall(&collection("notes"), &end), Some(true));
    let refused = world.put(0, "notes", "k9", "too early");
    assert!(matches!(world.hosts[0].done[&refused], Err(ShareRefusal::OwnHistory(_))));
    (1..4).for_each(|n| world.connect(0, n));
    world.run(4_000);
    let ticket = world.put(0, "notes", "k9", "in time");
    world.run(2_000);
    assert!(matches!(world.hosts[0].done[&ticket], Ok(Written::Entry(_))));
    world.assert_same(&[0, 1, 2, 3], "notes");
    assert!(world.hosts.iter().all(|host| {
        !host.events.iter().any(|event| matches!(event, ShareEvent::TwoHistories { .. }))
    }));
}

#[test]
fn members_in_a_row_converge_though_the_ends_never_talk() {
    let mut world = World::new(5, 4, 2);
    for n in 0..4 {
        world.connect(n, n + 1);
    }
    for n in 0..5 {
        world.put(n, "notes", &format!("from-{n}"), "hello");
    }
    world.run(20_000);
    world.assert_same(&[0, 1, 2, 3, 4], "notes");
    assert_eq!(world.get(4, "notes", "from-0"), Some(b"hello".to_vec()));
    let lag = |world: &mut World, n: usize| {
        let now = world.now;
        let shared = world.hosts[n].shared.as_mut().expect("is up");
        shared.collection(now, &collection("notes")).expect("has it").lag
    };
    let others = lag(&mut world, 0);
    let next = others.iter().find(|lag| lag.peer == id(1)).expect("a reader");
    assert_eq!((next.same, next.connected, next.behind_batches), (Some(true), true, 0));
    let far = others.iter().find(|lag| lag.peer == id(4)).expect("a reader");
    assert_eq!((far.same, far.connected), (None, false));
}

#[test]
fn a_member_that_was_away_catches_up_with_no_more_than_what_it_lacks() {
    let mut world = World::new(4, 4, 3);
    world.connect_all();
    world.put(0, "notes", "first", "x");
    world.run(3_000);
    for n in 0..3 {
        world.cut(3, n);
    }
    for n in 0..500 {
        world.put(n % 3, "notes", &format!("k{n}"), &"v".repeat(100));
        world.pass(10);
    }
    world.run(5_000);
    let now = world.now;
    let shared = world.hosts[0].shared.as_mut().expect("is up");
    let lag = shared.collection(now, &collection("notes")).expect("has it").lag;
    let away = lag.iter().find(|lag| lag.peer == id(3)).expect("a reader");
    assert!(away.same == Some(false) && away.behind_batches > 10 && away.behind_millis > 4_000);
    let before = world.bytes;
    world.connect(3, 1);
    world.run(4_000);
    world.assert_same(&[0, 1, 2, 3], "notes");
    // 500 values of 100 bytes with their salts, and a signature a batch, some of them in batches of one.
    assert!(world.bytes - before < 2_000_000, "{} bytes", world.bytes - before);
}

#[test]
fn idle_members_say_next_to_nothing() {
    let mut world = World::new(4, 4, 4);
    world.connect_all();
    world.put(0, "notes", "a", "x");
    world.run(10_000);
    let before = world.bytes;
    world.run(60_000);
    // Four members, a round every five seconds each, some 150 bytes.
    assert!(world.bytes - before < 4 * 16 * 200, "{} bytes", world.bytes - before);
}

#[test]
fn removals_reach_everybody_and_removing_nothing_writes_nothing() {
    let mut world = World::new(4, 4, 5);
    world.connect_all();
    world.put(0, "notes", "a", "x");
    world.run(2_000);
    world.write(2, "notes", "a", Change::Remove);
    let nothing = world.write(3, "notes", "other", Change::Remove);
    world.run(2_000);
    world.assert_same(&[0, 1, 2, 3], "notes");
    assert_eq!(world.get(0, "notes", "a"), None);
    assert_eq!(world.hosts[3].done[&nothing], Ok(Written::Nothing));
}

#[test]
fn a_value_is_erased_at_all_who_hold_it_and_at_those_who_were_away_and_nobody_elses_is() {
    let mut world = World::new(4, 4, 6);
    world.connect_all();
    world.put(0, "notes", "mine", "secret");
    world.put(1, "notes", "theirs", "kept");
    world.run(2_000);
    for n in 0..3 {
        world.cut(3, n);
    }
    let mine = world.erase(0, "notes", "mine");
    world.erase(0, "notes", "theirs");
    world.run(1_000);
    assert_eq!(world.hosts[0].done[&mine], Ok(Written::Erased(1)));
    for n in 0..3 {
        assert_eq!(world.get(n, "notes", "mine"), None, "node {n}");
    }
    assert_eq!(world.get(0, "notes", "theirs"), None, "here it is gone");
    assert_eq!(world.get(1, "notes", "theirs"), Some(b"kept".to_vec()));
    assert_eq!(world.get(3, "notes", "mine"), Some(b"secret".to_vec()));
    world.crash(0);
    world.start(0);
    world.connect_all();
    world.run(12_000);
    assert_eq!(world.get(3, "notes", "mine"), None, "it hears of it from the author, once it can");
    world.assert_same(&[1, 2], "notes");
    let disk = world.hosts[3].stores[&collection("notes")].journal();
    assert!(!disk.windows(6).any(|part| part == b"secret"), "not on the disk either");
}

#[test]
fn values_that_did_not_come_with_their_entries_are_asked_for() {
    let mut world = World::new(4, 4, 7);
    world.connect(0, 1);
    world.put(0, "notes", "a", "x");
    world.run(2_000);
    // Node 1 destroys a value of another: node 2 gets the entry from it without.
    world.erase(1, "notes", "a");
    world.connect(1, 2);
    world.run(3_000);
    let shared = world.hosts[2].shared.as_ref().expect("is up");
    let shown = shared.get(world.now.wall, &collection("notes"), &key("a")).expect("a reader");
    assert_eq!(shown.expect("the entry").value, None);
    world.connect(0, 2);
    world.run(12_000);
    assert_eq!(world.get(2, "notes", "a"), Some(b"x".to_vec()));
    assert!(world.hosts[2].sent.iter().any(|(peer, message)| {
        *peer == id(0) && matches!(message, ShareMessage::AskValues { .. })
    }));
}

#[test]
fn values_over_their_bound_and_writes_nobody_can_take_are_refused() {
    let mut world = World::new(4, 4, 8);
    let long = world.write(0, "notes", "a", Change::Put(vec![0; 65_537]));
    assert!(matches!(world.hosts[0].done[&long], Err(ShareRefusal::TooLong { .. })));
    world.slow_disks = true;
    let bound = exo_types::limits::SHARED_WRITES_WAITING_MAX;
    for n in 0..bound + 600 {
        world.put(0, "notes", &format!("k{n}"), "x");
    }
    let busy =
        world.hosts[0].done.values().filter(|done| matches!(done, Err(ShareRefusal::Busy(_))));
    // The first is on its way to the disk; a batch and the queue take the rest.
    assert_eq!(busy.count(), 600 - 1 - 256);
}
