//! Random histories: lanes that break, nodes that crash, slow disks, checkpoints meanwhile.

use exo_node::share::{Access, Change, ShareEvent, Written};

use super::World;
use super::access::share;
use super::lies::Lie;

#[test]
fn members_converge_after_any_faults_and_no_acknowledged_write_is_lost() {
    let seeds = std::env::var("SHARE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let first = std::env::var("SHARE_FIRST").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        history(seed, None);
    }
}

#[test]
fn honest_members_converge_beside_one_that_lies_and_cut_it_off_for_what_it_did() {
    let seeds = std::env::var("SHARE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(36);
    let mut found = std::collections::BTreeMap::new();
    for seed in 0..seeds {
        let lie = Lie::ALL[(seed % 3) as usize];
        *found.entry(lie).or_insert(0) += usize::from(history(seed, Some(lie)));
    }
    println!("found out in so many of {seeds} histories: {found:?}");
    // Who keeps back what nobody asked for breaks no rule: the others get it elsewhere, or nobody has it.
    assert!([Lie::Endless, Lie::Forges].iter().all(|lie| found[lie] > 0), "{found:?}");
}

/// Whether a member that lies was cut off; the last one does, if any.
fn history(seed: u64, lie: Option<Lie>) -> bool {
    let members = 3 + (seed % 5) as usize;
    let mut world = World::new(members.max(4 + usize::from(lie.is_some())), 4, seed);
    let n = world.hosts.len();
    let honest = n - usize::from(lie.is_some());
    world.liars.extend(lie.map(|lie| (n - 1, lie)));
    world.connect_all();
    if seed.is_multiple_of(2) {
        world.decide(0, &share("notes", Access::All, Access::All));
    }
    // Of each key, who writes it: then the last acknowledged value is the one that must stand.
    let mut acked = std::collections::BTreeMap::new();
    let mut open = Vec::new();
    for step in 0..400u64 {
        world.slow_disks = world.chance.below(3) > 0;
        let (a, b) = (world.chance.below(n), world.chance.below(n));
        match world.chance.below(14) {
            0..4 => {
                let at = format!("w{a}-{}", world.chance.below(5));
                let value = format!("{step}");
                let up = world.hosts[a].shared.is_some();
                if up {
                    let ticket = world.put(a, "notes", &at, &value);
                    open.push((a, ticket, at, step));
                }
            }
            4 => {
                world.write(a, "notes", &format!("shared-{}", step % 7), Change::Remove);
            }
            5 => {
                world.put(a, "notes", &format!("shared-{}", step % 7), "s");
            }
            6 => world.save(a),
            7 => world.cut(a, b),
            8 => world.connect(a, b),
            9 if world.chance.below(3) == 0 => {
                world.crash(a);
            }
            10 if world.hosts[a].shared.is_none() => {
                world.start(a);
                (0..n).for_each(|b| world.connect(a, b));
            }
            11 if seed.is_multiple_of(2) && world.chance.below(4) == 0 => {
                let writers = Access::only((0..4).map(crate::decide::id));
                for access in [writers, Access::All] {
                    for voter in 0..3 {
                        world.decide(voter, &share("notes", Access::All, access.clone()));
                    }
                }
            }
            12 => world.replace(a, b),
            _ => {
                let millis = world.chance.below(400) as u64;
                world.pass(millis);
            }
        }
        for _ in 0..world.chance.below(12) {
            world.deliver_any();
        }
        for (who, ticket, at, step) in &open {
            if let Some(Ok(Written::Entry(_))) = world.hosts[*who].done.get(ticket) {
                let last = acked.entry(at.clone()).or_insert(0);
                *last = (*last).max(*step);
            }
        }
    }
    world.slow_disks = false;
    for node in 0..n {
        world.save(node);
        if world.hosts[node].shared.is_none() {
            world.start(node);
        }
    }
    world.connect_all();
    world.run(60_000);
    let all: Vec<_> = (0..honest).collect();
    world.assert_same(&all, "notes");
    for (at, last) in acked.into_iter().filter(|(at, _)| !at.starts_with(&format!("w{honest}-"))) {
        let value =
            world.get(0, "notes", &at).unwrap_or_else(|| panic!("seed {seed}: {at} is lost"));
        let value: u64 = String::from_utf8_lossy(&value).parse().expect("a number");
        assert!(value >= last, "seed {seed}: {at} is {value}, {last} was acknowledged");
    }
    let expected = lie.map(|lie| (crate::decide::id(n - 1), lie.reason()));
    let bad = |event: &&ShareEvent| match event {
        ShareEvent::TwoHistories { .. } => true,
        ShareEvent::CutOff { peer, reason } => expected != Some((*peer, *reason)),
        _ => false,
    };
    let mut events = world.hosts[..honest].iter().flat_map(|host| &host.events);
    assert_eq!(events.clone().find(bad), None, "seed {seed}: they did nothing of that");
    events.any(|event| matches!(event, ShareEvent::CutOff { .. }))
}

#[test]
fn ways_that_are_stuck_keep_nobody_from_synchronising_over_others() {
    let mut world = World::new(5, 4, 11);
    world.connect_all();
    world.put(0, "notes", "a", "x");
    world.run(3_000);
    // Two members ask two others each, and then nothing comes of it: nobody has noticed that the way is gone.
    world.stuck = [(0, 3)].into();
    let asks = |world: &World, n: usize| {
        let opens = world.hosts[n].sent.iter().filter(|(_, message)| opens(message));
        opens.map(|(peer, _)| *peer).collect::<std::collections::BTreeSet<_>>()
    };
    for n in 1..3 {
        world.put(n, "notes", &format!("from-{n}"), "y");
    }
    world.pass(100);
    [0, 3].iter().for_each(|n| world.hosts[*n].sent.clear());
    for _ in 0..100 {
        for (from, to) in [(1, 0), (2, 0), (1, 3), (2, 3)] {
            world.deliver(from, to);
        }
    }
    let both = [crate::decide::id(1), crate::decide::id(2)].into();
    assert_eq!((asks(&world, 0), asks(&world, 3)), (both, [1, 2].map(crate::decide::id).into()));
    world.stuck = (0..5).flat_map(|a| (0..a).map(move |b| (b, a))).collect();
    world.stuck.remove(&(0, 3));
    world.put(3, "notes", "d", "from the third");
    world.run(2_000);
    assert_eq!(world.get(0, "notes", "d"), Some(b"from the third".to_vec()));
}

#[test]
fn a_lane_that_is_replaced_at_one_end_leaves_no_dead_session_at_the_other() {
    for (a, b) in [(0, 1), (1, 0)] {
        for delivered in 0..12 {
            let mut world = World::new(4, 4, 12);
            for n in [0, 1] {
                world.put(n, "notes", &format!("of-{n}"), "x");
            }
            world.pass(100);
            world.connect(0, 1);
            for _ in 0..delivered {
                world.deliver_any();
            }
            world.replace(a, b);
            world.run(1_500);
            world.assert_same(&[0, 1], "notes");
        }
    }
}

fn opens(message: &exo_node::share::ShareMessage) -> bool {
    matches!(message, exo_node::share::ShareMessage::Open { .. })
}

#[test]
fn a_crash_between_any_two_commits_loses_nothing_acknowledged_and_makes_no_second_history() {
    for after in 0..12 {
        let mut world = World::new(4, 4, 9);
        world.connect_all();
        world.slow_disks = true;
        let mut tickets = Vec::new();
        let mut saved = 0;
        'run: for n in 0..40 {
            tickets.push((format!("k{n}"), world.put(0, "notes", &format!("k{n}"), "x")));
            world.put(1, "notes", &format!("other{n}"), "y");
            world.pass(60);
            for node in 1..4 {
                world.save(node);
            }
            // One commit of node 0 reaches the disk, and at one of them it stops before it can hear so.
            if let Some((number, name, write, _)) = world.hosts[0].writing.pop_front() {
                let store = world.hosts[0].stores.entry(name).or_default();
                exo_crdt::store::Store::commit(store, &write).expect("saves");
                saved += 1;
                if saved > after {
                    break 'run;
                }
                world.give(0, exo_node::share::Input::Saved(number));
            }
            while world.deliver_any() {}
        }
        world.crash(0);
        world.slow_disks = false;
        (1..4).for_each(|node| world.save(node));
        world.start(0);
        world.connect_all();
        world.put(0, "notes", "after", "z");
        world.run(10_000);
        world.assert_same(&[0, 1, 2, 3], "notes");
        for (at, ticket) in &tickets {
            if matches!(world.hosts[0].done.get(ticket), Some(Ok(_))) {
                assert_eq!(world.get(2, "notes", at), Some(b"x".to_vec()), "{at} after {after}");
            }
        }
        let accused = |event: &ShareEvent| matches!(event, ShareEvent::TwoHistories { .. });
        assert!(!world.hosts.iter().any(|host| host.events.iter().any(accused)));
        assert_eq!(world.get(3, "notes", "after"), Some(b"z".to_vec()));
    }
}
