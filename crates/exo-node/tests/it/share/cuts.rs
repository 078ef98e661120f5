//! Checkpoints: made by the voters, taken over by all, in the middle of everything.

use exo_node::share::{Access, Change, ShareEvent};

use super::access::share;
use super::{World, collection};

fn epochs(world: &mut World, name: &str) -> Vec<u64> {
    let now = world.now;
    let epoch = |shared: &mut exo_node::share::Shared| {
        shared.collection(now, &collection(name)).map_or(0, |view| view.epoch)
    };
    world.hosts.iter_mut().filter_map(|host| host.shared.as_mut().map(epoch)).collect()
}

/// Somebody leaves the writers and comes back: the voters cut the collection for it.
fn want_cut(world: &mut World, name: &str) {
    for access in [Access::only((0..3).map(crate::decide::id)), Access::All] {
        for n in 0..3 {
            world.decide(n, &share(name, Access::All, access.clone()));
        }
        if access != Access::All {
            world.run(40_000);
        }
    }
}

#[test]
fn voters_cut_a_collection_together_and_a_deleted_key_does_not_come_back() {
    let mut world = World::new(4, 4, 1);
    world.connect_all();
    world.decide(0, &share("notes", Access::All, Access::All));
    for n in 0..20 {
        world.put(n % 4, "notes", &format!("k{n}"), "x");
    }
    world.run(3_000);
    world.write(0, "notes", "k1", Change::Remove);
    world.run(3_000);
    for round in 1..=6 {
        want_cut(&mut world, "notes");
        assert_eq!(epochs(&mut world, "notes"), [round; 4]);
        world.put(1, "notes", "again", &format!("{round}"));
        world.run(1_000);
    }
    world.assert_same(&[0, 1, 2, 3], "notes");
    assert_eq!(world.get(3, "notes", "k1"), None);
    assert_eq!(world.get(3, "notes", "k2"), Some(b"x".to_vec()));
    let replica = world.hosts[0].shared.as_ref().and_then(|s| s.replica(&collection("notes")));
    let replica = replica.expect("has it");
    assert!(!replica.entries_of(&super::key("k1")).any(|_| true), "nor is its tombstone kept");
}

#[test]
fn a_member_that_was_away_fetches_the_live_set_and_signs_again_what_came_too_late() {
    let mut world = World::new(4, 4, 2);
    world.connect_all();
    world.decide(0, &share("notes", Access::All, Access::All));
    for n in 0..30 {
        world.put(n % 4, "notes", &format!("k{n}"), "x");
    }
    world.run(5_000);
    (0..3).for_each(|n| world.cut(3, n));
    // It writes alone, and hears what the log decides, but holds too little to make a checkpoint again.
    world.put(3, "notes", "alone", "mine");
    world.pass(100);
    world.crash(3);
    for _ in 0..6 {
        world.put(0, "notes", "k5", "newer");
        world.run(500);
        want_cut(&mut world, "notes");
    }
    world.start(3);
    world.connect_all();
    world.run(40_000);
    assert_eq!(epochs(&mut world, "notes"), [6; 4]);
    world.assert_same(&[0, 1, 2, 3], "notes");
    assert_eq!(world.get(0, "notes", "alone"), Some(b"mine".to_vec()));
    let again = |event: &ShareEvent| matches!(event, ShareEvent::Adopted { again: 1, .. });
    assert!(world.hosts[3].events.iter().any(again));
}
