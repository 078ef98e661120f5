//! Packets that go no further: changed, replayed, old, or misdirected.

use exo_crypto::{KemEpochKey, KemError, KemPublicKey, PostQuantumKeypair, Signed};
use exo_onion::craft::{CraftedHop, craft};
use exo_onion::{
    DropReason, Hop, OnionMessage, PacketClass, Peeled, ReplayCache, ReplyClass, Request,
    WrapError, wrap,
};
use exo_types::limits::{KEM_GRACE_MILLIS, ONION_DELAY_MILLIS_MAX, ONION_REPLAY_WINDOW_MILLIS};
use exo_types::{PeerId, Timestamp};
use proptest::prelude::*;

use crate::{ASKER, EPOCH_ENDS, MEMBERS, Member, NOW, carried_to, chance, copy, packet, sender};

/// Gives changed bytes to the member at this place, as from a link.
fn offer(at: usize, bytes: Vec<u8>) -> Result<Peeled, DropReason> {
    let message = OnionMessage::from_bytes(bytes).map_err(|dropped| dropped.reason())?;
    MEMBERS[at].peel(message, sender(at))
}

#[test]
fn a_change_in_any_byte_at_any_hop_is_dropped_there() {
    for class in PacketClass::ALL {
        let (first, _) = packet(5, class, ReplyClass::Small, b"content");
        // Every byte at one hop, and every so often one at the others.
        for (at, step) in [(0, 1), (1, 97), (2, 89), (3, 83), (4, 79)] {
            let (message, _) = carried_to(at, copy(&first));
            let bytes = message.as_bytes();
            for byte in (0..bytes.len()).step_by(step) {
                let mut changed = bytes.to_vec();
                changed[byte] ^= 1 << (byte % 8);
                assert!(offer(at, changed).is_err(), "byte {byte} at hop {at}");
            }
            assert!(offer(at, bytes.to_vec()).is_ok(), "unchanged at hop {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_flipped_bit_anywhere_at_any_hop_is_dropped_there(
        hops in 1usize..=5,
        at in 0usize..5,
        class in proptest::sample::select(&PacketClass::ALL[..]),
        bits in proptest::collection::btree_set(0usize..16 * 1024 * 8, 1..4),
    ) {
        let at = at % hops;
        let (message, _) = packet(hops, class, ReplyClass::Small, b"content");
        let (message, _) = carried_to(at, message);
        let mut changed = message.into_bytes();
        let unchanged = changed.clone();
        for bit in bits {
            let byte = bit / 8 % changed.len();
            changed[byte] ^= 1 << (bit % 8);
        }
        prop_assume!(changed != unchanged);
        prop_assert!(offer(at, changed).is_err());
    }

    #[test]
    fn any_bytes_are_dropped(
        start in proptest::collection::vec(any::<u8>(), 0..64),
        class in proptest::sample::select(&PacketClass::ALL[..]),
        good_start in any::<bool>(),
    ) {
        let mut bytes = start;
        bytes.resize(class.packet_bytes(), 0x5a);
        if good_start {
            let (message, _) = packet(1, class, ReplyClass::Small, b"");
            bytes[..8].copy_from_slice(&message.as_bytes()[..8]);
        }
        prop_assert!(offer(0, bytes).is_err());
    }
}

#[test]
fn a_packet_of_another_length_version_class_or_reserved_byte_is_no_packet() {
    let (message, _) = packet(1, PacketClass::Small, ReplyClass::Small, b"");
    let reason = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = message.as_bytes().to_vec();
        change(&mut bytes);
        OnionMessage::from_bytes(bytes).map_err(|dropped| dropped.reason()).map(|_| ())
    };
    assert_eq!(reason(&|_| ()), Ok(()));
    for len in [0, 3, 4, 8191] {
        assert_eq!(reason(&|bytes| bytes.truncate(len)), Err(DropReason::Length));
    }
    assert_eq!(reason(&|bytes| bytes.resize(16_384, 0)), Err(DropReason::Length));
    assert_eq!(reason(&|bytes| bytes[1] = 1), Err(DropReason::Length));
    assert_eq!(reason(&|bytes| bytes[0] = 2), Err(DropReason::Version));
    assert_eq!(reason(&|bytes| bytes[1] = 2), Err(DropReason::Class));
    assert_eq!(reason(&|bytes| bytes[2] = 1), Err(DropReason::Reserved));
    assert_eq!(reason(&|bytes| bytes[3] = 0x80), Err(DropReason::Reserved));
}

#[test]
fn a_replay_is_dropped_at_every_hop() {
    for hops in 1..=5 {
        let (first, _) = packet(hops, PacketClass::Small, ReplyClass::Small, b"once");
        for at in 0..hops {
            let (message, _) = carried_to(at, copy(&first));
            let mut seen = ReplayCache::new();
            let mut offer =
                |now| MEMBERS[at].peel_with(copy(&message), sender(at), &mut seen, now).map(|_| ());
            assert_eq!(offer(NOW), Ok(()));
            assert_eq!(offer(NOW), Err(DropReason::Replayed));
            assert_eq!(offer(NOW.plus_millis(59_999)), Err(DropReason::Replayed));
            // Forgotten, but then its time is over; and it stays over when the clock is set back.
            let forgotten = NOW.plus_millis(ONION_REPLAY_WINDOW_MILLIS + 30_000);
            assert_eq!(offer(forgotten), Err(DropReason::Expired));
            assert_eq!(offer(NOW), Err(DropReason::Replayed));
            assert_eq!(offer(forgotten.plus_millis(200_000)), Err(DropReason::Expired));
            assert_eq!(offer(NOW), Err(DropReason::Replayed));
        }
    }
}

#[test]
fn a_replay_across_a_restart_is_dropped_and_new_packets_are_taken_again_in_time() {
    let (message, _) = packet(1, PacketClass::Small, ReplyClass::Small, b"once");
    for crash in [1, 30_000, 59_000] {
        let boot = NOW.plus_millis(crash);
        let mut seen = ReplayCache::restarted(boot);
        let result = MEMBERS[0].peel_with(copy(&message), ASKER, &mut seen, boot);
        assert_eq!(result.map(|_| ()), Err(DropReason::Expired));
    }
    // 90 seconds after the start every new packet is taken.
    let mut seen = ReplayCache::restarted(Timestamp(NOW.0 - 90_000));
    assert!(MEMBERS[0].peel_with(message, ASKER, &mut seen, NOW).is_ok());
}

#[test]
fn an_epoch_that_is_over_or_not_the_members_is_refused() {
    let (message, _) = packet(1, PacketClass::Small, ReplyClass::Small, b"");
    let mut seen = ReplayCache::new();
    let gone = EPOCH_ENDS.plus_millis(KEM_GRACE_MILLIS);
    let result = MEMBERS[0].peel_with(copy(&message), ASKER, &mut seen, gone);
    assert_eq!(result.map(|_| ()), Err(DropReason::Epoch));
    assert_eq!(MEMBERS[1].peel(copy(&message), ASKER).map(|_| ()), Err(DropReason::Epoch));
    let mut bytes = message.into_bytes();
    bytes[7] = bytes[7].wrapping_add(1);
    assert_eq!(offer(0, bytes.clone()).map(|_| ()), Err(DropReason::Tag), "the next epoch's key");
    bytes[4] = 0;
    assert_eq!(offer(0, bytes).map(|_| ()), Err(DropReason::Epoch));
}

#[test]
fn a_packet_made_at_the_end_of_an_epoch_is_opened_in_the_grace_of_its_key() {
    let made = Timestamp(EPOCH_ENDS.0 - 1);
    let path = [MEMBERS[0].hop()];
    let request = Request {
        path: &path,
        content: Some(b"late"),
        class: PacketClass::Small,
        reply: ReplyClass::Small,
    };
    let (message, _) = wrap(&request, made, &mut chance(4)).expect("a packet");
    let mut seen = ReplayCache::new();
    let arrival = made.plus_millis(50_000);
    assert!(MEMBERS[0].peel_with(message, ASKER, &mut seen, arrival).is_ok());
    let stale = wrap(&request, EPOCH_ENDS, &mut chance(4)).err();
    let (peer, epoch) = (MEMBERS[0].peer, MEMBERS[0].key.epoch);
    assert_eq!(stale, Some(WrapError::Stale { peer, epoch }));
}

#[test]
fn a_packet_is_taken_until_it_expires_and_not_long_before_it_was_made() {
    let (message, _) = packet(1, PacketClass::Small, ReplyClass::Small, b"");
    let offer = |now| {
        let mut seen = ReplayCache::new();
        MEMBERS[0].peel_with(copy(&message), ASKER, &mut seen, now).map(|_| ())
    };
    assert_eq!(offer(NOW.plus_millis(59_999)), Ok(()));
    assert_eq!(offer(NOW.plus_millis(130_000)), Err(DropReason::Expired));
    assert_eq!(offer(Timestamp(NOW.0 - 5_000)), Ok(()), "a clock that is behind is forgiven");
    assert_eq!(offer(Timestamp(NOW.0 - 100_000)), Err(DropReason::TooLong));
}

/// A packet for the first member with this routing block.
fn with_block(block: [u8; 64], payload: Option<&[u8]>) -> OnionMessage {
    let member = &MEMBERS[0];
    let (ciphertext, secret) = member.key.key.encapsulate().expect("encapsulates");
    let hop = CraftedHop { peer: member.peer, epoch: member.epoch, ciphertext, secret, block };
    let zeros = [0; PacketClass::Small.payload_bytes()];
    craft(PacketClass::Small, vec![hop], payload.unwrap_or(&zeros), &mut chance(5))
        .expect("crafted")
}

/// A routing block in the clear: kind, reply class, delay, expiry in steps, next hop.
fn block(kind: u8, reply: u8, delay: u16, expiry: u32, next: PeerId) -> [u8; 64] {
    let mut block = [0; 64];
    block[0] = kind;
    block[1] = reply;
    block[2..4].copy_from_slice(&delay.to_be_bytes());
    block[4..8].copy_from_slice(&expiry.to_be_bytes());
    block[8..40].copy_from_slice(next.as_bytes());
    block
}

const NOBODY: PeerId = PeerId::new([0; 32]);
const IN_A_MINUTE: u32 = (NOW.0 / 10_000) as u32 + 6;

#[test]
fn a_packet_that_names_its_receiver_its_sender_or_a_stranger_as_next_is_dropped() {
    let offer = |from: PeerId, next: PeerId| {
        let message = with_block(block(1, 0, 0, IN_A_MINUTE, next), None);
        MEMBERS[0].peel(message, from).map(|_| ())
    };
    assert_eq!(offer(ASKER, MEMBERS[1].peer), Ok(()));
    assert_eq!(offer(ASKER, MEMBERS[0].peer), Err(DropReason::ToSelf));
    assert_eq!(offer(MEMBERS[1].peer, MEMBERS[1].peer), Err(DropReason::Bounce));
    assert_eq!(offer(ASKER, PeerId::new([0x77; 32])), Err(DropReason::Unknown));
    assert_eq!(offer(ASKER, NOBODY), Err(DropReason::Unknown));
}

#[test]
fn a_malformed_routing_block_or_content_is_dropped() {
    let offer = |block| MEMBERS[0].peel(with_block(block, None), ASKER).map(|_| ());
    assert_eq!(offer(block(2, 0, 0, IN_A_MINUTE, NOBODY)), Ok(()));
    assert_eq!(offer(block(3, 2, ONION_DELAY_MILLIS_MAX, IN_A_MINUTE, NOBODY)), Ok(()));
    assert_eq!(offer(block(0, 0, 0, IN_A_MINUTE, NOBODY)), Err(DropReason::Routing));
    assert_eq!(offer(block(4, 0, 0, IN_A_MINUTE, NOBODY)), Err(DropReason::Routing));
    assert_eq!(offer(block(2, 3, 0, IN_A_MINUTE, NOBODY)), Err(DropReason::Routing));
    assert_eq!(offer(block(2, 0, 0, IN_A_MINUTE, ASKER)), Err(DropReason::Routing));
    let delay = ONION_DELAY_MILLIS_MAX + 1;
    assert_eq!(offer(block(2, 0, delay, IN_A_MINUTE, NOBODY)), Err(DropReason::Delay));
    assert_eq!(offer(block(2, 0, 0, 0, NOBODY)), Err(DropReason::Expired));
    assert_eq!(offer(block(2, 0, 0, u32::MAX, NOBODY)), Err(DropReason::TooLong));
    let deliver = block(2, 0, 0, IN_A_MINUTE, NOBODY);
    let offer = |payload: &[u8]| MEMBERS[0].peel(with_block(deliver, Some(payload)), ASKER);
    let mut payload = [0; PacketClass::Small.payload_bytes()];
    payload[3] = 9;
    payload[4..13].fill(7);
    match offer(&payload) {
        Ok(Peeled::Deliver(delivery)) => assert_eq!(delivery.content.as_slice(), [7; 9]),
        other => panic!("{other:?}"),
    }
    payload[13] = 1;
    assert_eq!(offer(&payload).map(|_| ()), Err(DropReason::Content), "padding in use");
    payload[13] = 0;
    payload[..4].copy_from_slice(&2245u32.to_be_bytes());
    assert_eq!(offer(&payload).map(|_| ()), Err(DropReason::Content), "longer than the packet");
    payload[..4].fill(0xff);
    assert_eq!(offer(&payload).map(|_| ()), Err(DropReason::Content));
}

#[test]
fn an_encapsulation_of_low_order_is_dropped() {
    let (message, _) = packet(1, PacketClass::Small, ReplyClass::Small, b"");
    let mut bytes = message.into_bytes();
    bytes[24 + 1088..24 + 1120].fill(0);
    assert_eq!(offer(0, bytes).map(|_| ()), Err(DropReason::Encapsulation));
}

#[test]
fn a_packet_for_one_member_is_nothing_to_another_with_the_same_key() {
    // The keys are bound to the member's id, so nobody can pass a packet off as its own.
    let (message, _) = packet(1, PacketClass::Small, ReplyClass::Small, b"");
    let me = MEMBERS[1].peer;
    let keyring = &MEMBERS[0].ring;
    let relay = exo_onion::Relay { me, from: ASKER, keyring, forwards_to: &|_| true };
    let mut seen = ReplayCache::new();
    let result = exo_onion::peel_layer(message, &relay, &mut seen, NOW);
    assert_eq!(result.map_err(|dropped| dropped.reason()).err(), Some(DropReason::Tag));
    assert!(seen.is_empty(), "nothing is remembered before the tag holds");
}

#[test]
fn what_cannot_be_sent_is_not_built() {
    let hop = MEMBERS[0].hop();
    let content = [0; 16_384];
    let build = |path: &[Hop<'_>], len: usize| {
        let (class, reply) = (PacketClass::Small, ReplyClass::Small);
        let request = Request { path, content: Some(&content[..len]), class, reply };
        wrap(&request, NOW, &mut chance(6)).map(|_| ())
    };
    let six: Vec<_> = MEMBERS.iter().map(Member::hop).collect();
    assert_eq!(build(&[], 0), Err(WrapError::Hops(0)));
    assert_eq!(build(&six, 0), Err(WrapError::Hops(6)));
    assert_eq!(build(&six[..5], 0), Ok(()));
    assert_eq!(build(&[hop, MEMBERS[1].hop(), hop], 0), Err(WrapError::Repeated(MEMBERS[0].peer)));
    let millis = ONION_DELAY_MILLIS_MAX + 1;
    let slow = Hop { delay_millis: millis, ..hop };
    assert_eq!(build(&[slow], 0), Err(WrapError::Delay { peer: MEMBERS[0].peer, millis }));
    let max = PacketClass::Small.content_bytes_max();
    assert_eq!(build(&[hop], max), Ok(()));
    assert_eq!(build(&[hop], max + 1), Err(WrapError::ContentTooLong { max, actual: max + 1 }));
}

#[test]
fn a_drop_shows_the_same_face_for_every_cause() {
    let all: Vec<exo_onion::Dropped> =
        DropReason::ALL.iter().map(|reason| (*reason).into()).collect();
    assert!(
        all.iter()
            .all(|dropped| format!("{dropped:?} {dropped}") == "Dropped the packet was dropped")
    );
    let names: std::collections::HashSet<_> = DropReason::ALL.iter().map(|r| r.as_str()).collect();
    assert_eq!(names.len(), DropReason::ALL.len());
}

#[test]
fn a_members_bad_key_is_named() {
    let identity = PostQuantumKeypair::from_seed(&[9; 32]).expect("a seed expands");
    let key = KemEpochKey {
        peer: identity.peer_id(),
        key: KemPublicKey::from_bytes(&[0xff; 1216]).expect("the length is right"),
        ..(*MEMBERS[0].key).clone()
    };
    let key = Signed::sign(key, &identity).expect("signs");
    let path = [Hop { key: &key, delay_millis: 0 }];
    let (class, reply) = (PacketClass::Small, ReplyClass::Small);
    let request = Request { path: &path, content: None, class, reply };
    let error = wrap(&request, NOW, &mut chance(7)).err();
    let (peer, kem) = (identity.peer_id(), KemError::PublicKey);
    assert_eq!(error, Some(WrapError::Kem { peer, error: kem }));
}
