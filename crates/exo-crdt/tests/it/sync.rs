//! Synchronisation: it finds everything, says little, and is not held up by liars.

use exo_crdt::sync::set::{LayerBytes, prefix};
use exo_crdt::sync::{
    Item, LinkSecret, Session, SetMessage, SetSync, Step, SyncEnd, SyncError, SyncMessage,
};
use exo_crdt::{Batch, CollectionKind, Replica, VerifiedBatch, VerifiedEntry};
use exo_types::codec::Wire;
use exo_types::limits::{SYNC_LAYERS_MAX, SYNC_PART_BYTES};

use crate::support::{Member, Numbers, T0, members, name};

const LINK: LinkSecret = LinkSecret([5; 32]);

/// What a reconciliation of two sets cost.
#[derive(Debug, Default)]
struct Cost {
    bytes: usize,
    messages: usize,
    mine: usize,
    theirs: usize,
}

fn wire(message: SetMessage) -> (SetMessage, usize) {
    let bytes = SyncMessage::Set(message).to_wire().expect("encodes");
    match SyncMessage::from_wire(&bytes).expect("decodes") {
        SyncMessage::Set(message) => (message, bytes.len()),
        other => panic!("{other:?} is no message about sets"),
    }
}

/// Compares two sets; `lose` layers of the asker are damaged on the way.
fn compare(asker: &[[u8; 32]], answerer: &[[u8; 32]], damage: bool) -> Cost {
    let mut cost = Cost::default();
    let mut ends = [
        SetSync::new(asker.to_vec(), LINK, [1; 16]).expect("fits"),
        SetSync::new(answerer.to_vec(), LINK, [1; 16]).expect("fits"),
    ];
    let opening = ends[1].answer([2; 16]);
    cost.bytes += 32 + 8 + 16 + 1 + opening.sketch.len() + 16 + 1;
    let mut message = ends[0].open(&opening).expect("opens");
    let (mut missing, mut extra) = (Vec::new(), Vec::new());
    for turn in 1.. {
        assert!(turn < 60, "it goes on for ever");
        let (mut arrived, bytes) = wire(message);
        cost.bytes += bytes;
        cost.messages += 1;
        if let (true, SetMessage::Layers(layers)) = (damage, &mut arrived) {
            layers.iter_mut().for_each(|LayerBytes(bytes)| bytes[0] ^= 1);
        }
        let nonce = [turn as u8 + 10; 16];
        let step = ends[turn % 2].handle(&arrived, nonce).expect("keeps to the protocol");
        // `mine` is named from the answerer's side.
        let (own, other) = (step.mine.len(), step.theirs);
        if turn % 2 == 1 {
            extra.extend(step.mine.iter().map(|at| answerer[*at]));
            missing.extend(other);
        } else {
            let there = step.mine.iter().map(|at| ends[0].short(&asker[*at]).expect("a key"));
            missing.extend(there);
            extra.extend(std::iter::repeat_n([0; 32], other.len()));
        }
        let _ = own;
        match step.send {
            Some(next) => message = next,
            None => break,
        }
    }
    cost.bytes += 4 * missing.len();
    let wants: Vec<_> = missing.iter().map(|short| prefix(*short)).collect();
    assert!(ends[0].wanted(&wants).len() >= missing.len());
    (cost.mine, cost.theirs) = (extra.len(), missing.len());
    cost
}

fn sets(common: usize, only_a: usize, only_b: usize, seed: u64) -> (Vec<[u8; 32]>, Vec<[u8; 32]>) {
    let mut numbers = Numbers(seed);
    let both: Vec<_> = (0..common).map(|_| numbers.id()).collect();
    let more = |numbers: &mut Numbers, n| (0..n).map(|_| numbers.id()).collect::<Vec<_>>();
    let a = [both.clone(), more(&mut numbers, only_a)].concat();
    let b = [both, more(&mut numbers, only_b)].concat();
    (a, b)
}

#[test]
fn sets_of_any_shape_are_reconciled_to_the_last_item() {
    let shapes = [
        (0, 0, 1),
        (0, 1, 0),
        (0, 500, 0),
        (10, 0, 3),
        (2000, 50, 50),
        (100, 1000, 0),
        (3000, 1, 700),
    ];
    for (seed, (common, only_a, only_b)) in (0..).zip(shapes) {
        let (a, b) = sets(common, only_a, only_b, seed);
        let cost = compare(&a, &b, false);
        assert_eq!((cost.theirs, cost.mine), (only_a, only_b), "{common} {only_a} {only_b}");
    }
}

#[test]
fn a_hundred_random_differences_cost_less_than_085_of_their_ids_and_rarely_a_second_exchange() {
    let (mut bytes, mut more) = (0, 0);
    for seed in 0..60 {
        let (a, b) = sets(2_000, 50, 50, seed);
        let cost = compare(&a, &b, false);
        assert_eq!((cost.theirs, cost.mine), (50, 50));
        bytes += cost.bytes;
        more += usize::from(cost.messages > 1);
    }
    assert!(bytes as f64 / 60.0 <= 0.85 * 100.0 * 32.0, "{}", bytes as f64 / 60.0 / 3200.0);
    assert!(more <= 9, "{more} of 60");
}

#[test]
fn damaged_layers_lead_to_another_key_and_then_to_ranges_that_find_everything() {
    let (a, b) = sets(5_000, 40, 60, 9);
    let cost = compare(&a, &b, true);
    assert_eq!((cost.theirs, cost.mine), (40, 60));
    assert!(cost.messages > 2 * (SYNC_LAYERS_MAX - 3) + 2, "{cost:?}");
}

#[test]
fn short_ids_that_collide_under_one_key_part_under_the_next() {
    // Whoever knows no link's key cannot make two items collide; and of two links the keys differ.
    let ids: Vec<_> = (0..100u8).map(|n| [n; 32]).collect();
    let short = |link| {
        let mut set = SetSync::new(ids.clone(), link, [1; 16]).expect("fits");
        set.answer([2; 16]);
        ids.iter().map(|id| set.short(id).expect("a key")).collect::<Vec<_>>()
    };
    let (one, two) = (short(LINK), short(LinkSecret([6; 32])));
    assert!(one.iter().zip(&two).all(|(a, b)| a != b));
}

/// All that a session has to say by now.
fn said<'a>(
    session: &'a mut Session,
    replica: &'a Replica,
) -> impl Iterator<Item = SyncMessage> + 'a {
    std::iter::from_fn(move || session.next(replica))
}

/// What a session says to a message.
fn answer(session: &mut Session, replica: &Replica, message: SyncMessage) -> Vec<SyncMessage> {
    session.handle(replica, message, [3; 16]).expect("keeps to the protocol");
    said(session, replica).collect()
}

/// Runs a session between two members and applies what arrives.
fn sync(asker: &mut Member, answerer: &mut Member, seed: u8) -> Result<(SyncEnd, Cost), SyncError> {
    let (first, hello) = Session::ask(&asker.replica, LINK, [seed; 16]);
    let second = Session::answer(&answerer.replica, LINK, [seed ^ 0xff; 16]);
    let mut cost = Cost::default();
    let mut sessions = [first, second];
    let mut queue = std::collections::VecDeque::from([(1, hello)]);
    let mut end = None;
    while let Some((to, message)) = queue.pop_front() {
        let bytes = message.to_wire().expect("encodes");
        cost.bytes += bytes.len();
        cost.messages += 1;
        let message = SyncMessage::from_wire(&bytes).expect("decodes");
        let member = if to == 0 { &mut *asker } else { &mut *answerer };
        let Step { items, end: ended } =
            sessions[to].handle(&member.replica, message, [cost.messages as u8; 16])?;
        items.into_iter().for_each(|item| apply(member, item));
        queue.extend(said(&mut sessions[to], &member.replica).map(|message| (1 - to, message)));
        end = ended.or(end);
    }
    Ok((end.expect("an end"), cost))
}

fn apply(member: &mut Member, item: Item) {
    match item {
        Item::Batch { batch, .. } => member.take(&batch),
        Item::Evidence(evidence) => {
            let (author, _) = evidence.place().expect("a place");
            let at =
                (0..4).find(|at| members().keypair(*at).peer_id() == author).expect("a member");
            evidence.verify(members().keypair(at).public()).expect("verifies");
            member.replica.apply_evidence(evidence).expect("applies");
        }
        Item::Shown(group) => {
            for (shown, _) in group.entries() {
                let shown = VerifiedEntry::verify(shown, &name(), members()).expect("verifies");
                member.replica.apply_shown(&shown).expect("applies");
            }
        }
        Item::Void(header) => {
            let header = exo_crdt::VerifiedHeader::verify(&header, &name(), members());
            member.replica.apply_void(header.expect("verifies")).expect("applies");
        }
    }
}

fn pair() -> (Member, Member) {
    (Member::new(0, CollectionKind::LastWriter), Member::new(1, CollectionKind::LastWriter))
}

fn write(member: &mut Member, keys: std::ops::Range<u32>) -> Vec<Batch> {
    let one = |n| {
        member.put(&format!("k{n}"), n as u8, T0.plus_millis(u64::from(n)));
        member.flush()
    };
    keys.map(one).collect()
}

#[test]
fn replicas_that_hold_the_same_say_at_most_64_bytes() {
    let (mut a, mut b) = pair();
    for batch in write(&mut a, 0..3) {
        b.take(&batch);
    }
    let (end, cost) = sync(&mut a, &mut b, 1).expect("keeps to the protocol");
    assert_eq!((end, cost.messages), (SyncEnd::Same, 2));
    assert!(cost.bytes <= 64, "{} bytes", cost.bytes);
}

#[test]
fn what_is_newer_on_either_side_is_exchanged_by_the_chains_ends() {
    let (mut a, mut b) = pair();
    write(&mut a, 0..5);
    write(&mut b, 5..9);
    let (end, _) = sync(&mut a, &mut b, 1).expect("keeps to the protocol");
    assert_eq!(end, SyncEnd::Exchanged);
    assert_eq!(a.replica.canonical_state(), b.replica.canonical_state());
    write(&mut b, 9..12);
    sync(&mut a, &mut b, 2).expect("keeps to the protocol");
    write(&mut a, 20..22);
    sync(&mut b, &mut a, 3).expect("keeps to the protocol");
    assert_eq!(a.replica.canonical_state(), b.replica.canonical_state());
    assert_eq!(a.keys(T0.plus_millis(100)).len(), 14);
}

#[test]
fn holes_and_what_is_beyond_them_are_found() {
    let (mut a, mut b) = pair();
    for (n, batch) in write(&mut a, 0..40).into_iter().enumerate() {
        if n % 7 != 3 {
            b.take(&batch);
        }
    }
    let mut c = Member::new(2, CollectionKind::LastWriter);
    sync(&mut c, &mut b, 1).expect("keeps to the protocol");
    assert_eq!(c.replica.canonical_state(), b.replica.canonical_state());
    sync(&mut b, &mut a, 2).expect("keeps to the protocol");
    sync(&mut c, &mut a, 3).expect("keeps to the protocol");
    assert_eq!(c.replica.canonical_state(), a.replica.canonical_state());
}

#[test]
fn replicas_that_saw_different_histories_of_one_author_both_end_with_the_proof() {
    let forks = crate::small::forks();
    let mut a = Member::new(1, CollectionKind::LastWriter);
    let mut b = Member::new(2, CollectionKind::LastWriter);
    forks[..2].iter().for_each(|batch| a.take(batch));
    forks[2..4].iter().for_each(|batch| b.take(batch));
    assert!(a.replica.evidence().is_empty() && b.replica.evidence().is_empty());
    sync(&mut a, &mut b, 1).expect("keeps to the protocol");
    assert_eq!(a.replica.evidence().len(), 2);
    assert_eq!(a.replica.canonical_state(), b.replica.canonical_state());
}

#[test]
fn what_lives_under_a_cut_is_filled_in_and_different_checkpoints_are_said_so() {
    let (mut a, mut b) = pair();
    for batch in write(&mut a, 0..30) {
        b.take(&batch);
    }
    let mut c = Member::new(2, CollectionKind::LastWriter);
    let (cut, live) = a.replica.propose(T0.plus_millis(1_000)).expect("a proposal");
    a.replica.adopt(cut.clone(), live.clone()).expect("taken over");
    let (end, _) = sync(&mut c, &mut a, 1).expect("keeps to the protocol");
    assert_eq!(end, SyncEnd::Epochs { ours: 0, theirs: 1 });
    c.replica.adopt(cut, live).expect("taken over");
    assert_eq!(c.replica.missing().count(), 30);
    sync(&mut c, &mut a, 2).expect("keeps to the protocol");
    assert_eq!(c.replica.missing().count(), 0);
    assert_eq!(c.replica.canonical_state(), a.replica.canonical_state());
}

#[test]
fn a_checkpoint_in_the_middle_of_a_session_ends_it_and_the_next_one_finishes() {
    let (mut a, mut b) = pair();
    write(&mut a, 0..5);
    let (mut session, hello) = Session::ask(&b.replica, LINK, [1; 16]);
    let mut answerer = Session::answer(&a.replica, LINK, [2; 16]);
    let differs = self::answer(&mut answerer, &a.replica, hello).remove(0);
    let (cut, live) = a.replica.propose(T0.plus_millis(50)).expect("a proposal");
    a.replica.adopt(cut.clone(), live.clone()).expect("taken over");
    b.replica.adopt(cut, live).expect("taken over");
    let step = session.handle(&b.replica, differs, [4; 16]).expect("keeps to the protocol");
    assert_eq!(step.end, Some(SyncEnd::Epochs { ours: 1, theirs: 0 }));
    sync(&mut b, &mut a, 5).expect("keeps to the protocol");
    assert_eq!(a.replica.canonical_state(), b.replica.canonical_state());
}

#[test]
fn a_peer_that_keeps_back_what_it_said_it_had_is_named() {
    let (mut a, mut b) = pair();
    // Holes, so that the items are asked for by short ids.
    let batches = write(&mut a, 0..3);
    let mut holder = Member::new(2, CollectionKind::LastWriter);
    holder.take(&batches[2]);
    let (mut asker, hello) = Session::ask(&holder.replica, LINK, [1; 16]);
    let mut answerer = Session::answer(&b.replica, LINK, [2; 16]);
    let differs = answer(&mut answerer, &b.replica, hello).remove(0);
    let layers = answer(&mut asker, &holder.replica, differs).remove(0);
    let want = answer(&mut answerer, &b.replica, layers);
    assert!(matches!(&want[0], SyncMessage::Want { shorts, .. } if shorts.len() == 1));
    answerer
        .handle(&b.replica, SyncMessage::Want { shorts: vec![], authors: vec![] }, [6; 16])
        .expect("ok");
    let done = answerer.handle(&b.replica, SyncMessage::Done, [7; 16]);
    assert_eq!(done.err(), Some(SyncError::Withheld(1)));
    sync(&mut b, &mut holder, 9).expect("an honest session brings it");
    assert_eq!(b.replica.batches(), 1);
}

/// The two ends of a session in which what `a` has and `b` lacks is about to be sent.
fn about_to_give(a: &Member, b: &Member) -> (Session, Session) {
    let (mut asker, hello) = Session::ask(&b.replica, LINK, [1; 16]);
    let mut answerer = Session::answer(&a.replica, LINK, [2; 16]);
    let differs = answer(&mut answerer, &a.replica, hello).remove(0);
    let tips = answer(&mut asker, &b.replica, differs).remove(0);
    answerer.handle(&a.replica, tips, [3; 16]).expect("keeps to the protocol");
    (asker, answerer)
}

#[test]
fn a_session_makes_one_message_at_a_time_of_what_is_lacked() {
    let (mut a, b) = pair();
    write(&mut a, 0..600);
    let (_, mut answerer) = about_to_give(&a, &b);
    // What is written meanwhile is not part of it; what it is about is looked up as it leaves.
    write(&mut a, 600..700);
    let mut batches = 0;
    for message in said(&mut answerer, &a.replica) {
        let bytes = message.to_wire().expect("encodes").len();
        assert!(bytes <= SYNC_PART_BYTES + 4_096, "{bytes}");
        let SyncMessage::Items(items) = message else { panic!("{message:?}") };
        batches += items.len();
    }
    assert_eq!(batches, 600);
}

#[test]
fn a_checkpoint_while_items_wait_ends_the_session_instead_of_keeping_them_back() {
    let (mut a, mut b) = pair();
    write(&mut a, 0..200);
    let (mut asker, mut answerer) = about_to_give(&a, &b);
    assert!(matches!(answerer.next(&a.replica), Some(SyncMessage::Items(_))));
    let (cut, live) = a.replica.propose(T0.plus_millis(50)).expect("a proposal");
    a.replica.adopt(cut, live).expect("taken over");
    let last = answerer.next(&a.replica);
    assert_eq!(last, Some(SyncMessage::Epoch(1)));
    assert!(answerer.is_over() && answerer.is_drained());
    let step =
        asker.handle(&b.replica, SyncMessage::Epoch(1), [4; 16]).expect("keeps to the protocol");
    assert_eq!(step.end, Some(SyncEnd::Epochs { ours: 0, theirs: 1 }));
    assert_eq!(b.replica.batches(), 0);
    b.put("goes on", 1, T0);
}

#[test]
fn messages_out_of_place_end_the_session_with_an_error() {
    let (mut a, b) = pair();
    write(&mut a, 0..2);
    let odd = [
        SyncMessage::Set(SetMessage::More),
        SyncMessage::Done,
        SyncMessage::Want { shorts: vec![1], authors: vec![] },
        SyncMessage::Set(SetMessage::Layers(vec![])),
    ];
    for message in odd {
        let mut session = Session::answer(&b.replica, LINK, [1; 16]);
        assert_eq!(session.handle(&b.replica, message, [2; 16]), Err(SyncError::Unexpected));
        let again = session.handle(&b.replica, SyncMessage::Same, [2; 16]);
        assert_eq!(again, Err(SyncError::Unexpected), "it is over");
    }
}

#[test]
fn what_a_peer_lacks_is_made_ready_for_it_once_a_session() {
    let (mut a, b) = pair();
    write(&mut a, 0..3);
    let (mut asker, hello) = Session::ask(&a.replica, LINK, [1; 16]);
    let mut answerer = Session::answer(&b.replica, LINK, [2; 16]);
    let differs = answer(&mut answerer, &b.replica, hello).remove(0);
    let first = answer(&mut asker, &a.replica, differs.clone());
    assert!(first.iter().any(|message| matches!(message, SyncMessage::Items(_))), "{first:?}");
    assert_eq!(asker.handle(&a.replica, differs, [4; 16]), Err(SyncError::Unexpected));

    // The other way round: the asker names its ends, and what is after them comes.
    let (mut asker, hello) = Session::ask(&b.replica, LINK, [1; 16]);
    let mut answerer = Session::answer(&a.replica, LINK, [2; 16]);
    let differs = answer(&mut answerer, &a.replica, hello).remove(0);
    let said = answer(&mut asker, &b.replica, differs);
    let tips = said.iter().find(|message| matches!(message, SyncMessage::Tips(_))).expect("tips");
    let mut not_begun = Session::answer(&a.replica, LINK, [2; 16]);
    let early = not_begun.handle(&a.replica, tips.clone(), [5; 16]);
    assert_eq!(early, Err(SyncError::Unexpected));
    let sent = answer(&mut answerer, &a.replica, tips.clone());
    assert!(sent.iter().any(|message| matches!(message, SyncMessage::Items(_))), "{sent:?}");
    let again = answerer.handle(&a.replica, tips.clone(), [6; 16]);
    assert_eq!(again, Err(SyncError::Unexpected));
}

#[test]
fn a_peer_that_asks_for_layers_without_end_is_cut_off() {
    let (a, b) = sets(100, 5, 5, 1);
    let mut asker = SetSync::new(a, LINK, [1; 16]).expect("fits");
    let mut answerer = SetSync::new(b, LINK, [1; 16]).expect("fits");
    asker.open(&answerer.answer([2; 16])).expect("opens");
    let mut given = 0;
    while asker.handle(&SetMessage::More, [3; 16]).is_ok() {
        given += 1;
        assert!(given < SYNC_LAYERS_MAX);
    }
    let opening = answerer.answer([4; 16]);
    assert!(asker.handle(&SetMessage::Rekey(opening.clone()), [3; 16]).is_ok());
    assert_eq!(asker.handle(&SetMessage::Rekey(opening), [3; 16]), Err(SyncError::Unexpected));
}

#[test]
fn a_session_that_breaks_off_leaves_what_arrived_and_the_next_goes_on() {
    let (mut a, mut b) = pair();
    write(&mut a, 0..600);
    let (mut asker, hello) = Session::ask(&b.replica, LINK, [1; 16]);
    let mut answerer = Session::answer(&a.replica, LINK, [2; 16]);
    let mut queue = std::collections::VecDeque::from([(1, hello)]);
    let mut batches = 0;
    while let Some((to, message)) = queue.pop_front() {
        let (session, replica) =
            if to == 0 { (&mut asker, &b.replica) } else { (&mut answerer, &a.replica) };
        let step = session.handle(replica, message, [3; 16]).expect("keeps to the protocol");
        if to == 0 && !step.items.is_empty() {
            batches = step.items.len();
            step.items.into_iter().for_each(|item| apply(&mut b, item));
            break;
        }
        queue.extend(said(session, replica).map(|message| (1 - to, message)));
    }
    assert!(batches > 0 && batches < 600, "{batches}");
    let (_, cost) = sync(&mut b, &mut a, 9).expect("keeps to the protocol");
    assert_eq!(a.replica.canonical_state(), b.replica.canonical_state());
    assert!(cost.bytes < (600 - batches + 30) * 3_700, "only the rest is sent");
}

#[test]
fn a_refused_item_leaves_the_replica_as_it_was() {
    let (mut a, b) = pair();
    let mut batch = write(&mut a, 0..1).remove(0);
    batch.entries[0].key = crate::support::key("other");
    let state = b.replica.canonical_state();
    assert!(VerifiedBatch::verify(batch, &name(), members()).is_err());
    assert_eq!(b.replica.canonical_state(), state);
}
