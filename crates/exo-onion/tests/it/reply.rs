//! Replies come back: every depth, every class, whoever speaks.

use std::collections::HashSet;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use exo_onion::{
    LayerError, OnionMessage, PacketClass, Peeled, RelayReply, Reply, ReplyClass, ReplyError,
    ReplyFailure, ReplyKeys, ReplyOutcome, ReplySealer,
};
use proptest::prelude::*;

use crate::{MEMBERS, carried_to, hop_keys_of, packet, sender};

/// A packet carried to its end: what the relays keep, the last hop's sealer, the asker's keys.
fn carried(hops: usize, reply: ReplyClass) -> (Vec<RelayReply>, ReplySealer, ReplyKeys) {
    let (message, keys) = packet(hops, PacketClass::Small, reply, b"question");
    let (message, relays) = carried_to(hops - 1, message);
    (relays, delivered(hops - 1, message), keys)
}

fn delivered(at: usize, message: OnionMessage) -> ReplySealer {
    match MEMBERS[at].peel(message, sender(at)) {
        Ok(Peeled::Deliver(delivery)) => delivery.reply,
        other => panic!("{other:?}"),
    }
}

/// Sends a chunk back through these relays, the farthest first.
fn back(relays: &mut [RelayReply], mut chunk: Vec<u8>) -> Vec<u8> {
    for relay in relays.iter_mut().rev() {
        relay.layer(&mut chunk).expect("a layer");
    }
    chunk
}

fn opened(keys: &mut ReplyKeys, chunks: Vec<Vec<u8>>) -> Result<Option<Reply>, ReplyError> {
    let mut last = Ok(None);
    for mut chunk in chunks {
        assert_eq!(last, Ok(None), "complete before the last chunk");
        last = keys.open(&mut chunk);
    }
    last
}

fn outcome(result: Result<Option<Reply>, ReplyError>) -> (usize, ReplyOutcome) {
    let reply = result.expect("opens").expect("complete");
    let from = MEMBERS.iter().position(|member| member.peer == reply.from);
    (from.expect("a member of the path"), reply.outcome)
}

fn answered(answer: &[u8]) -> ReplyOutcome {
    ReplyOutcome::Answer(answer.to_vec().into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_answer_comes_back_through_any_number_of_hops_at_one_length(
        hops in 1usize..=5,
        class in proptest::sample::select(&ReplyClass::ALL[..]),
        share in 0.0f64..=1.0,
        byte in any::<u8>(),
    ) {
        let (mut relays, sealer, mut keys) = carried(hops, class);
        let answer = vec![byte; (class.answer_bytes_max() as f64 * share) as usize];
        let chunks = sealer.answer(&answer).expect("fits");
        prop_assert_eq!(chunks.len(), usize::from(class.chunks()));
        prop_assert!(chunks.iter().all(|chunk| chunk.len() == class.chunk_bytes()));
        let chunks = chunks.into_iter().map(|chunk| back(&mut relays, chunk)).collect();
        prop_assert_eq!(outcome(opened(&mut keys, chunks)), (hops - 1, answered(&answer)));
        prop_assert!(relays.iter().all(RelayReply::is_complete));
    }

    #[test]
    fn a_changed_bit_anywhere_in_a_reply_is_noticed(
        hops in 1usize..=5,
        class in proptest::sample::select(&ReplyClass::ALL[..]),
        link in 0usize..5,
        bit in 0usize..64 * 1024 * 8,
    ) {
        let (mut relays, sealer, mut keys) = carried(hops, class);
        let chunks = sealer.answer(b"answer").expect("fits");
        let (victim, bit) = (bit / 8 / class.chunk_bytes() % chunks.len(), bit % (class.chunk_bytes() * 8));
        let link = link % hops;
        let mut result = Ok(None);
        for (at, chunk) in chunks.into_iter().enumerate() {
            let (near, far) = relays.split_at_mut(link);
            let mut chunk = back(far, chunk);
            if at == victim {
                chunk[bit / 8] ^= 1 << (bit % 8);
            }
            let mut chunk = back(near, chunk);
            result = keys.open(&mut chunk);
            if result.is_err() {
                break;
            }
        }
        prop_assert_eq!(result, Err(ReplyError::Altered { chunk: victim as u8 }));
        let mut again = vec![0; class.chunk_bytes()];
        prop_assert_eq!(keys.open(&mut again), Err(ReplyError::Over));
    }

    #[test]
    fn any_bytes_are_no_reply(chunk in proptest::collection::vec(any::<u8>(), 0..5000)) {
        let (mut relays, _, mut keys) = carried(3, ReplyClass::Small);
        let mut chunk = chunk;
        prop_assert!(relays[0].layer(&mut chunk.clone()).is_ok() == (chunk.len() == 4096));
        prop_assert!(keys.open(&mut chunk).is_err());
    }
}

#[test]
fn a_failure_at_any_depth_is_told_to_the_asker_alone_and_looks_like_an_answer() {
    for class in ReplyClass::ALL {
        for hops in 1..=5 {
            for speaker in 0..hops {
                let (mut relays, sealer, mut keys) = carried(hops, class);
                let failure = ReplyFailure::Unreachable;
                let chunks = if speaker + 1 == hops {
                    sealer.failure(failure)
                } else {
                    relays.drain(speaker..).next().expect("a relay").fail(failure)
                };
                let lengths: Vec<_> = chunks.iter().map(Vec::len).collect();
                assert_eq!(lengths, vec![class.chunk_bytes(); usize::from(class.chunks())]);
                let chunks = chunks.into_iter().map(|chunk| back(&mut relays, chunk)).collect();
                let expected = (speaker, ReplyOutcome::Failure(failure));
                assert_eq!(outcome(opened(&mut keys, chunks)), expected);
            }
        }
    }
}

#[test]
fn a_relay_that_loses_the_next_hop_in_the_middle_of_a_reply_ends_it_as_its_own() {
    for passed in 0..4 {
        let (mut relays, sealer, mut keys) = carried(4, ReplyClass::Large);
        let chunks = sealer.answer(&[7; 50_000]).expect("fits");
        let mut sent: Vec<_> =
            chunks.into_iter().take(passed).map(|chunk| back(&mut relays, chunk)).collect();
        let failing = relays.drain(1..).next().expect("the second relay");
        let rest = failing.fail(ReplyFailure::Unreachable);
        assert_eq!(passed + rest.len(), 4);
        sent.extend(rest.into_iter().map(|chunk| back(&mut relays, chunk)));
        let expected = (1, ReplyOutcome::Failure(ReplyFailure::Unreachable));
        assert_eq!(outcome(opened(&mut keys, sent)), expected);
    }
}

#[test]
fn every_cause_of_failure_survives_the_way() {
    use ReplyFailure::{Busy, Denied, Failed, Malformed, Other, Unreachable};
    for failure in [Unreachable, Busy, Denied, Malformed, Failed, Other(200)] {
        let (_, sealer, mut keys) = carried(1, ReplyClass::Small);
        let result = opened(&mut keys, sealer.failure(failure));
        assert_eq!(outcome(result), (0, ReplyOutcome::Failure(failure)));
    }
}

#[test]
fn only_the_last_hop_may_answer() {
    // A relay that seals an answer under its own key: it has the key, and not the right.
    let (message, mut keys) = packet(2, PacketClass::Small, ReplyClass::Small, b"question");
    let end: [u8; 32] = hop_keys_of(0, &message)[128..160].try_into().expect("32 bytes");
    let key = UnboundKey::new(&CHACHA20_POLY1305, &end).expect("a key");
    let mut forged = vec![0; ReplyClass::Small.chunk_bytes() - 16];
    forged[0] = 1;
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let key = LessSafeKey::new(key);
    key.seal_in_place_append_tag(nonce, Aad::from([0, 0, 1, 1]), &mut forged).expect("seals");
    let result = opened(&mut keys, vec![forged]);
    assert_eq!(result, Err(ReplyError::Malformed(MEMBERS[0].peer)));
}

#[test]
fn an_answer_that_does_not_fit_gives_the_sealer_back() {
    let (_, sealer, mut keys) = carried(1, ReplyClass::Small);
    let max = ReplyClass::Small.answer_bytes_max();
    let error = sealer.answer(&vec![1; max + 1]).expect_err("a byte too long");
    assert_eq!((error.max, error.actual), (max, max + 1));
    let chunks = error.sealer.answer(&vec![1; max]).expect("fits");
    assert_eq!(outcome(opened(&mut keys, chunks)), (0, answered(&vec![1; max])));
    assert_eq!(ReplyClass::for_answer(max + 1), Some(ReplyClass::Medium));
    assert_eq!(ReplyClass::for_answer(65_465), None);
}

#[test]
fn no_number_is_used_twice_under_one_key() {
    let (mut relays, _, _) = carried(2, ReplyClass::Large);
    let mut relay = relays.remove(0);
    let mut seen = HashSet::new();
    for _ in 0..4 {
        assert!(relay.layer(&mut [0; 100]).is_err(), "a wrong length uses no number");
        let mut stream = vec![0; ReplyClass::Large.chunk_bytes()];
        relay.layer(&mut stream).expect("a layer");
        for block in stream.chunks(64) {
            assert!(seen.insert(block.to_vec()));
        }
    }
    let mut chunk = vec![0; ReplyClass::Large.chunk_bytes()];
    assert_eq!(relay.layer(&mut chunk), Err(LayerError::Complete));
    assert!(chunk.iter().all(|byte| *byte == 0), "nothing was applied");
    assert!(relay.fail(ReplyFailure::Failed).is_empty(), "nothing is left to say");
}

#[test]
fn chunks_out_of_order_left_out_or_sent_twice_are_noticed() {
    for order in [[1, 0], [1, 2], [0, 0], [0, 2]] {
        let (mut relays, sealer, mut keys) = carried(2, ReplyClass::Large);
        let chunks = sealer.answer(&[3; 60_000]).expect("fits");
        let mut results = order.map(|at| keys.open(&mut back(&mut relays, chunks[at].clone())));
        results.reverse();
        assert!(results.iter().any(|result| matches!(result, Err(ReplyError::Altered { .. }))));
    }
}

#[test]
fn a_reply_to_one_packet_is_nothing_to_the_keys_of_another() {
    let (mut relays, sealer, _) = carried(3, ReplyClass::Small);
    let (_, _, mut others) = carried(3, ReplyClass::Small);
    let chunks = sealer.answer(b"answer").expect("fits");
    let chunks = chunks.into_iter().map(|chunk| back(&mut relays, chunk)).collect();
    assert_eq!(opened(&mut others, chunks), Err(ReplyError::Altered { chunk: 0 }));
}

#[test]
fn no_part_of_a_reply_is_on_two_links_and_none_repeats() {
    let (mut relays, sealer, _) = carried(5, ReplyClass::Large);
    let mut seen = HashSet::new();
    for mut chunk in sealer.answer(&[0; 60_000]).expect("fits") {
        for link in (0..5usize).rev() {
            for part in chunk.chunks_exact(16) {
                assert!(seen.insert(part.to_vec()), "link {link}");
            }
            if let Some(relay) = link.checked_sub(1).and_then(|at| relays.get_mut(at)) {
                relay.layer(&mut chunk).expect("a layer");
            }
        }
    }
}
