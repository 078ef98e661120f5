//! Packets arrive: every number of hops, both classes, every position.

use exo_onion::{Hop, OnionMessage, PacketClass, Peeled, ReplyClass, Request, wrap};
use exo_types::limits::ONION_LIFE_MILLIS_MIN;
use proptest::prelude::*;

use crate::{MEMBERS, Member, NOW, carried_to, chance, packet, sender};

fn classes() -> impl Strategy<Value = (PacketClass, ReplyClass)> {
    (
        proptest::sample::select(&PacketClass::ALL[..]),
        proptest::sample::select(&ReplyClass::ALL[..]),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn content_arrives_through_any_number_of_hops_at_one_length(
        hops in 1usize..=5,
        (class, reply) in classes(),
        share in 0.0f64..=1.0,
        byte in any::<u8>(),
    ) {
        let content = vec![byte; (class.content_bytes_max() as f64 * share) as usize];
        let (mut message, _) = packet(hops, class, reply, &content);
        for at in 0..hops - 1 {
            prop_assert_eq!(message.as_bytes().len(), class.packet_bytes());
            prop_assert_eq!(message.header().epoch(), MEMBERS[at].epoch);
            let Peeled::Forward(forward) = MEMBERS[at].peel(message, sender(at)).expect("peels") else {
                return Err(TestCaseError::fail("not forwarded"));
            };
            prop_assert_eq!(forward.next, MEMBERS[at + 1].peer);
            prop_assert_eq!(forward.reply.class(), reply);
            // As from a link: what goes on is a packet by every rule.
            message = OnionMessage::from_bytes(forward.message.into_bytes()).expect("a packet");
        }
        prop_assert_eq!(message.as_bytes().len(), class.packet_bytes());
        let last = MEMBERS[hops - 1].peel(message, sender(hops - 1)).expect("peels");
        let Peeled::Deliver(delivery) = last else {
            return Err(TestCaseError::fail("not delivered"));
        };
        prop_assert_eq!(delivery.reply.class(), reply);
        prop_assert_eq!(delivery.content.as_slice(), content.as_slice());
    }

    #[test]
    fn no_part_of_a_packet_is_on_two_links(hops in 2usize..=5, (class, reply) in classes()) {
        let (message, _) = packet(hops, class, reply, b"the same content for everybody");
        let mut seen = std::collections::HashSet::new();
        for at in 0..hops {
            let (message, _) = carried_to(at, crate::copy(&message));
            for part in message.as_bytes()[8..].chunks_exact(16) {
                prop_assert!(seen.insert(part.to_vec()), "hop {}", at);
            }
        }
    }
}

#[test]
fn a_cover_packet_ends_as_one_and_looks_like_any_other_on_its_way() {
    let path: Vec<_> = MEMBERS.iter().take(3).map(Member::hop).collect();
    let request =
        Request { path: &path, content: None, class: PacketClass::Small, reply: ReplyClass::Small };
    let (message, _) = wrap(&request, NOW, &mut chance(2)).expect("a packet");
    let (message, _) = carried_to(2, message);
    assert!(matches!(MEMBERS[2].peel(message, sender(2)), Ok(Peeled::Cover(_))));
}

#[test]
fn delays_are_told_to_their_hop_and_added_to_the_life_of_those_behind_it() {
    let delays = [10_000, 0, 250, 10_000, 7];
    let path: Vec<_> = MEMBERS
        .iter()
        .zip(delays)
        .map(|(m, delay_millis)| Hop { delay_millis, ..m.hop() })
        .collect();
    let request = Request {
        path: &path,
        content: Some(b"slow"),
        class: PacketClass::Small,
        reply: ReplyClass::Small,
    };
    let (mut message, _) = wrap(&request, NOW, &mut chance(3)).expect("a packet");
    let mut waited = 0;
    for (at, delay) in delays.into_iter().enumerate() {
        // Waited for as asked and then nearly as long as a packet lives, each hop still takes it.
        let arrival = NOW.plus_millis(waited + ONION_LIFE_MILLIS_MIN - 1);
        let mut seen = exo_onion::ReplayCache::new();
        let peeled = MEMBERS[at].peel_with(message, sender(at), &mut seen, arrival);
        waited += u64::from(delay);
        message = match peeled.expect("in time") {
            Peeled::Forward(forward) => {
                assert_eq!(forward.delay.as_millis(), u128::from(delay));
                forward.message
            }
            Peeled::Deliver(delivery) => {
                assert_eq!(delivery.delay.as_millis(), u128::from(delay));
                return;
            }
            Peeled::Cover(_) => panic!("cover"),
        };
    }
    panic!("not delivered");
}
