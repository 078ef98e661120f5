//! What a flood can take from a member.

use exo_onion::{DropReason, PacketClass, Peeled, ReplayCache, ReplyClass};
use exo_types::limits::{ONION_REPLAY_STEP_MILLIS, ONION_REPLAY_WINDOW_MILLIS};

use crate::{ASKER, MEMBERS, NOW, copy, packet};

#[test]
fn a_flood_of_good_packets_fills_the_cache_to_its_bound_and_lets_no_replay_in() {
    let mut seen = ReplayCache::new().with_room_for(50);
    let packets: Vec<_> =
        (0..80).map(|_| packet(1, PacketClass::Small, ReplyClass::Small, b"").0).collect();
    for (number, message) in packets.iter().enumerate() {
        let result = MEMBERS[0].peel_with(copy(message), ASKER, &mut seen, NOW).map(|_| ());
        assert_eq!(result, if number < 50 { Ok(()) } else { Err(DropReason::Full) });
        assert!(seen.len() <= 50);
    }
    for message in &packets[..50] {
        let result = MEMBERS[0].peel_with(copy(message), ASKER, &mut seen, NOW).map(|_| ());
        assert_eq!(result, Err(DropReason::Replayed));
    }
    // When the flood is over and forgotten, others are taken again.
    let later = NOW.plus_millis(ONION_REPLAY_WINDOW_MILLIS + ONION_REPLAY_STEP_MILLIS);
    let result = MEMBERS[0].peel_with(copy(&packets[60]), ASKER, &mut seen, later).map(|_| ());
    assert_eq!(result, Err(DropReason::Expired), "not that the cache is full");
    assert_eq!(seen.len(), 1);
}

#[test]
fn packets_that_are_not_authentic_are_not_remembered() {
    let mut seen = ReplayCache::new();
    for byte in [8, 24, 1200, 6000] {
        let (message, _) = packet(1, PacketClass::Small, ReplyClass::Small, b"");
        let mut bytes = message.into_bytes();
        bytes[byte] ^= 1;
        let message = exo_onion::OnionMessage::from_bytes(bytes).expect("a packet");
        assert!(MEMBERS[0].peel_with(message, ASKER, &mut seen, NOW).is_err());
    }
    assert!(seen.is_empty());
}

#[test]
fn debug_shows_neither_keys_nor_content_nor_members() {
    let (message, keys) = packet(2, PacketClass::Small, ReplyClass::Small, b"secret");
    assert_eq!(format!("{message:?}"), "OnionMessage(8192 bytes)");
    assert_eq!(format!("{keys:?}"), "ReplyKeys { class: Small, .. }");
    let peeled = MEMBERS[0].peel(message, ASKER).expect("peels");
    assert_eq!(format!("{peeled:?}"), "Forward(Forward { delay: 0ns, .. })");
    let Peeled::Forward(forward) = peeled else { panic!("not forwarded") };
    assert_eq!(format!("{:?}", forward.reply), "RelayReply { class: Small, next: 0, .. }");
    let peeled = MEMBERS[1].peel(forward.message, MEMBERS[0].peer).expect("peels");
    assert_eq!(format!("{peeled:?}"), "Deliver(Delivery { delay: 0ns, .. })");
}
