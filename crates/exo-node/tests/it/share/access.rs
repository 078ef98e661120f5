//! Who reads and who writes, at every hop.

use exo_crdt::CollectionKind;
use exo_node::decide::{Decision, Outcome, Void};
use exo_node::share::{
    Access, Change, Closed, CutOff, Input, Refused, ShareEvent, ShareMessage, ShareRefusal,
    ShareSpec,
};

use super::{World, collection};
use crate::decide::{id, revoke, void, wished};

pub(crate) fn share(name: &str, readers: Access, writers: Access) -> Decision {
    let spec = ShareSpec { kind: CollectionKind::LastWriter, readers, writers };
    Decision::Share { name: collection(name), spec }
}

fn only(nodes: &[usize]) -> Access {
    Access::only(nodes.iter().map(|n| id(*n)))
}

#[test]
fn who_is_not_a_reader_hears_nothing_and_gets_nothing_though_it_asks() {
    let mut world = World::new(4, 4, 1);
    world.connect_all();
    world.decide(0, &share("plans", only(&[0, 1]), Access::only([id(0)])));
    world.put(0, "plans", "a", "secret");
    world.run(12_000);
    assert_eq!(world.get(1, "plans", "a"), Some(b"secret".to_vec()));
    for n in [0, 1] {
        let told = |(peer, _): &(exo_types::PeerId, ShareMessage)| *peer == id(2) || *peer == id(3);
        assert!(!world.hosts[n].sent.iter().any(told), "node {n} says nothing to the others");
    }
    let refused = world.put(2, "plans", "b", "x");
    assert!(matches!(world.hosts[2].done[&refused], Err(ShareRefusal::NoCollection(_))));
    // One that asks all the same is told that there is no such collection, as for a name that nobody has.
    let session = u64::from(id(2) > id(0));
    let open = |session, name: &str| ShareMessage::Open {
        session,
        collection: collection(name),
        secret: [1; 32],
    };
    for message in [
        open(session, "plans"),
        ShareMessage::AskLive {
            collection: collection("plans"),
            cut: exo_crdt::CutHash([0; 32]),
            from: 0,
        },
    ] {
        world.give(0, Input::Message { peer: id(2), message });
    }
    let answers: Vec<_> = world.hosts[0].sent.iter().filter(|(peer, _)| *peer == id(2)).collect();
    let unknown = ShareMessage::Close { session, reason: Closed::Unknown };
    assert_eq!(answers, [&(id(2), unknown)]);
}

#[test]
fn entries_of_one_who_may_not_write_are_refused_by_all_and_its_own_node_refuses_to_make_them() {
    let mut world = World::new(4, 4, 2);
    world.connect_all();
    // Node 3 writes while the collection is open, alone; then it is declared without it.
    for n in 0..3 {
        world.cut(3, n);
    }
    world.put(3, "plans", "mine", "x");
    world.put(0, "plans", "theirs", "y");
    world.run(1_000);
    world.decide(0, &share("plans", Access::All, only(&[0, 1])));
    let refused = world.put(3, "plans", "again", "x");
    assert!(matches!(world.hosts[3].done[&refused], Err(ShareRefusal::NotAWriter(_))));
    world.connect_all();
    world.run(20_000);
    world.assert_same(&[0, 1, 2, 3], "plans");
    assert_eq!(world.get(3, "plans", "mine"), None, "it does not count with its author either");
    assert_eq!(world.get(3, "plans", "theirs"), Some(b"y".to_vec()));
    // It may write again: what it signed counts again, and it goes on where its history ended.
    let open = share("plans", Access::All, Access::All);
    assert_eq!(world.decide(0, &open), wished(1, 3));
    world.decide(1, &open);
    assert_eq!(world.decide(2, &open), Outcome::Effective);
    world.put(3, "plans", "more", "z");
    world.run(20_000);
    world.assert_same(&[0, 1, 2, 3], "plans");
    assert_eq!(world.get(0, "plans", "mine"), Some(b"x".to_vec()));
    assert_eq!(world.get(0, "plans", "more"), Some(b"z".to_vec()));
    let accused = |event: &ShareEvent| matches!(event, ShareEvent::TwoHistories { .. });
    assert!(!world.hosts.iter().any(|host| host.events.iter().any(accused)));
}

#[test]
fn what_a_removed_member_wrote_counts_up_to_the_next_checkpoint_and_no_further() {
    let mut world = World::new(5, 4, 3);
    world.connect_all();
    world.put(4, "plans", "before", "x");
    world.run(3_000);
    // A last batch that one member alone has when it is removed, and one that nobody has.
    (1..4).for_each(|n| world.cut(4, n));
    world.put(4, "plans", "late", "y");
    world.run(200);
    world.cut(4, 0);
    world.put(4, "plans", "too-late", "z");
    world.pass(100);
    world.decide(0, &share("plans", Access::All, Access::All));
    world.decide(0, &revoke(4));
    world.decide(1, &revoke(4));
    world.run(60_000);
    let now = world.now;
    for n in 0..4 {
        let shared = world.hosts[n].shared.as_mut().expect("is up");
        let view = shared.collection(now, &collection("plans")).expect("is a reader");
        assert_eq!(view.epoch, 1, "the voters cut it by themselves");
    }
    world.assert_same(&[0, 1, 2, 3], "plans");
    assert_eq!(world.get(1, "plans", "before"), Some(b"x".to_vec()));
    assert_eq!(world.get(1, "plans", "late"), Some(b"y".to_vec()));
    // A member that colludes passes the rest on: nobody takes it.
    let batch = {
        let replica = world.hosts[4].shared.as_ref().expect("is up");
        assert!(replica.replica(&collection("plans")).is_none(), "it may not even look");
        let saved = exo_crdt::store::Store::load(&world.hosts[4].stores[&collection("plans")]);
        saved.expect("loads").len()
    };
    assert!(batch > 0);
    assert_eq!(world.get(1, "plans", "too-late"), None);
}

#[test]
fn a_name_is_declared_by_one_voter_and_changed_by_a_quorum_and_its_kind_never() {
    let mut world = World::new(5, 4, 4);
    assert_eq!(world.decide(4, &share("a", Access::All, Access::All)), void(Void::NoVote));
    assert_eq!(world.decide(0, &share("a", Access::All, only(&[1]))), Outcome::Effective);
    assert_eq!(world.decide(0, &share("a", Access::All, only(&[1]))), void(Void::Unchanged));
    let kind = ShareSpec { kind: CollectionKind::GrowOnly, ..ShareSpec::OPEN };
    let other = Decision::Share { name: collection("a"), spec: kind.clone() };
    assert_eq!(world.decide(0, &other), void(Void::OtherKind));
    let stranger = share("b", Access::only([exo_types::PeerId::new([7; 32])]), Access::only([]));
    assert_eq!(world.decide(0, &stranger), void(Void::NoSuchMember));
    assert_eq!(world.decide(0, &share("a", only(&[0, 1]), only(&[0]))), wished(1, 3));
    world.decide(0, &Decision::Share { name: collection("set"), spec: kind });
    world.put(1, "set", "a", "first");
    world.pass(60);
    world.put(1, "set", "a", "second");
    let removed = world.write(1, "set", "a", Change::Remove);
    world.run(200);
    assert_eq!(world.get(1, "set", "a"), Some(b"first".to_vec()));
    assert!(matches!(world.hosts[1].done[&removed], Err(ShareRefusal::OnlyGrows(_))));
}

#[test]
fn forged_entries_and_broken_sessions_cut_their_sender_off_and_nobody_else() {
    let mut world = World::new(4, 4, 5);
    world.connect_all();
    world.put(0, "notes", "a", "x");
    world.run(2_000);
    let number = |n: usize| u64::from(id(n) > id(0)) + 1_000;
    let say = |world: &mut World, from: usize, message| {
        world.give(0, Input::Message { peer: id(from), message });
    };
    let open =
        |session| ShareMessage::Open { session, collection: collection("notes"), secret: [1; 32] };
    // A batch whose entries are not those that were signed.
    let replica = world.hosts[0].shared.as_ref().and_then(|s| s.replica(&collection("notes")));
    let item = replica.expect("has it").items().remove(0);
    let exo_crdt::sync::Item::Batch { mut batch, .. } = item else { panic!("a batch") };
    batch.entries[0].key = super::key("other");
    let (header, _) = (batch.header.claimed().expect("a header"), ());
    assert_eq!(header.seq, 1);
    let forged = exo_crdt::sync::Item::Batch { batch, values: Vec::new() };
    let items = exo_crdt::sync::SyncMessage::Items(vec![forged]);
    // It is held here under that header, so another node is asked to take it.
    say(&mut world, 1, open(number(1)));
    say(&mut world, 1, ShareMessage::Sync { session: number(1), message: items });
    say(&mut world, 2, open(number(2)));
    let done = exo_crdt::sync::SyncMessage::Done;
    say(&mut world, 2, ShareMessage::Sync { session: number(2), message: done });
    let off = |event: &ShareEvent| match event {
        ShareEvent::CutOff { peer, reason } => Some((*peer, *reason)),
        _ => None,
    };
    let off: Vec<_> = world.hosts[0].events.iter().filter_map(off).collect();
    assert_eq!(off, [(id(2), CutOff::Broken)], "what is held already is not looked at again");
    world.put(3, "notes", "b", "y");
    world.run(2_000);
    assert_eq!(world.get(0, "notes", "b"), Some(b"y".to_vec()), "others are served");
    let refused =
        |event: &ShareEvent| matches!(event, ShareEvent::Refused { reason: Refused::Forged, .. });
    assert!(!world.hosts[0].events.iter().any(refused));
}

/// What a member is cut off for at the first node, after it said this in a session of its own.
fn cut_off_for(
    world: &mut World,
    from: usize,
    messages: Vec<exo_crdt::sync::SyncMessage>,
) -> Option<CutOff> {
    let session = u64::from(id(from) > id(0)) + 1_000;
    let open = ShareMessage::Open { session, collection: collection("notes"), secret: [1; 32] };
    world.give(0, Input::Message { peer: id(from), message: open });
    for message in messages {
        let message = ShareMessage::Sync { session, message };
        world.give(0, Input::Message { peer: id(from), message });
    }
    world.hosts[0].events.iter().find_map(|event| match event {
        ShareEvent::CutOff { peer, reason } if *peer == id(from) => Some(*reason),
        _ => None,
    })
}

#[test]
fn a_session_that_brings_nothing_and_does_not_end_cuts_its_member_off() {
    let mut world = World::new(4, 4, 6);
    world.connect_all();
    world.put(0, "notes", "a", "x");
    world.run(2_000);
    let nothing = |count| vec![exo_crdt::sync::SyncMessage::Items(Vec::new()); count];
    let bound = exo_types::limits::SHARED_BARREN_MESSAGES_MAX;
    assert_eq!(cut_off_for(&mut world, 2, nothing(bound)), None);
    assert_eq!(cut_off_for(&mut world, 1, nothing(bound + 1)), Some(CutOff::NeverEnds));
    world.put(3, "notes", "b", "y");
    world.run(2_000);
    assert_eq!(world.get(0, "notes", "b"), Some(b"y".to_vec()), "others are served");
}

#[test]
fn an_altered_batch_cuts_off_who_sent_it_and_its_author_is_served() {
    let mut world = World::new(4, 4, 7);
    world.connect_all();
    world.put(0, "notes", "a", "x");
    world.run(2_000);
    (0..3).for_each(|n| world.cut(3, n));
    world.put(3, "notes", "b", "y");
    world.pass(100);
    let replica = world.hosts[3].shared.as_ref().and_then(|s| s.replica(&collection("notes")));
    let mut items = replica.expect("has it").items();
    items.retain_mut(|item| match item {
        exo_crdt::sync::Item::Batch { batch, .. } => {
            let header = batch.header.claimed().expect("a header");
            batch.entries[0].key = super::key("other");
            header.author == id(3)
        }
        _ => false,
    });
    let items = vec![exo_crdt::sync::SyncMessage::Items(items)];
    assert_eq!(cut_off_for(&mut world, 1, items), Some(CutOff::Forged));
    assert_eq!(world.get(0, "notes", "other"), None);
    (0..3).for_each(|n| world.connect(3, n));
    world.run(3_000);
    assert_eq!(world.get(0, "notes", "b"), Some(b"y".to_vec()));
}
