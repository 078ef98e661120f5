//! The format is frozen: packets, their keys, replies and packets to be dropped, as files.
//!
//! A change that makes these tests fail is a new version of the format. `tests/decoder` reads the same
//! files with other code in another language.

use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use exo_crypto::{KemCiphertext, SharedSecret};
use exo_onion::craft::{CraftedHop, craft};
use exo_onion::{
    OnionMessage, PacketClass, Peeled, RelayReply, Reply, ReplyClass, ReplyFailure, ReplyKeys,
    ReplyOutcome, ReplySealer,
};
use exo_types::{PeerId, Timestamp};
use serde_json::{Value, json};

use crate::{ASKER, MEMBERS, NOW, chance, copy, hop_keys_of, sender};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

fn load(name: &str) -> Value {
    let path = file(name);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

fn store(name: &str, value: &Value) {
    let text = serde_json::to_string_pretty(value).expect("JSON") + "\n";
    std::fs::write(file(name), text).expect("writes");
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn number(value: &Value) -> usize {
    value.as_u64().expect("a number") as usize
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn bytes(value: &Value) -> Vec<u8> {
    BASE64.decode(text(value).as_bytes()).expect("base64")
}

fn class(value: &Value) -> PacketClass {
    PacketClass::ALL[number(value)]
}

fn content(hops: usize, class: PacketClass) -> Vec<u8> {
    format!("a question over {hops} hops in {} bytes", class.packet_bytes()).into_bytes()
}

/// The cases: every number of hops in both classes, with every reply class among them.
fn cases() -> impl Iterator<Item = (usize, PacketClass, ReplyClass)> {
    use PacketClass::{Large, Small};
    use ReplyClass::Medium;
    let small = (1..=5).map(|hops| (hops, Small, ReplyClass::Small));
    let replies = [Medium, Medium, ReplyClass::Large, ReplyClass::Small, Medium];
    small.chain((1..=5).zip(replies).map(|(hops, reply)| (hops, Large, reply)))
}

fn reply_class(reply: ReplyClass) -> u8 {
    ReplyClass::ALL.iter().position(|other| *other == reply).expect("listed") as u8
}

/// The routing block of a hop.
fn block(at: usize, hops: usize, reply: ReplyClass) -> [u8; 64] {
    let mut block = [0; 64];
    block[0] = if at + 1 < hops { 1 } else { 2 };
    block[1] = reply_class(reply);
    block[2..4].copy_from_slice(&(100 * at as u16).to_be_bytes());
    let expiry = (NOW.0 / 10_000) as u32 + 7 + at as u32;
    block[4..8].copy_from_slice(&expiry.to_be_bytes());
    if at + 1 < hops {
        block[8..40].copy_from_slice(MEMBERS[at + 1].peer.as_bytes());
        block[56..60].copy_from_slice(&MEMBERS[at + 1].epoch.to_be_bytes());
    }
    block
}

fn payload(class: PacketClass, content: &[u8]) -> Vec<u8> {
    let mut payload = (content.len() as u32).to_be_bytes().to_vec();
    payload.extend_from_slice(content);
    payload.resize(class.payload_bytes(), 0);
    payload
}

/// Seals for the first members with these blocks; the seed gives the bytes of unused slots.
fn sealed(class: PacketClass, blocks: &[[u8; 64]], payload: &[u8], seed: u64) -> OnionMessage {
    let hop = |(at, block): (usize, &[u8; 64])| {
        let member = &MEMBERS[at];
        let (ciphertext, secret) = member.key.key.encapsulate().expect("encapsulates");
        CraftedHop { peer: member.peer, epoch: member.epoch, ciphertext, secret, block: *block }
    };
    let hops = blocks.iter().enumerate().map(hop).collect();
    craft(class, hops, payload, &mut chance(seed)).expect("crafted")
}

fn layer(at: usize, message: &OnionMessage) -> Value {
    let member = &MEMBERS[at];
    let pair = member.ring.pair(member.key.epoch, NOW).expect("the current key");
    let ciphertext = KemCiphertext::from_bytes(message.header().ciphertext()).expect("1120 bytes");
    let secret = pair.decapsulate(&ciphertext).expect("decapsulates");
    json!({
        "secret": HEXLOWER.encode(secret.expose()),
        "keys": HEXLOWER.encode(&hop_keys_of(at, message)),
        "packet_sha256": HEXLOWER.encode(exo_sha256(message.as_bytes()).as_slice()),
    })
}

fn exo_sha256(bytes: &[u8]) -> Vec<u8> {
    use aws_lc_rs::digest::{SHA256, digest};
    digest(&SHA256, bytes).as_ref().to_vec()
}

fn frozen_packet(seed: u64, hops: usize, class: PacketClass, reply: ReplyClass) -> Value {
    let blocks: Vec<_> = (0..hops).map(|at| block(at, hops, reply)).collect();
    let content = content(hops, class);
    let first = sealed(class, &blocks, &payload(class, &content), seed);
    let layers: Vec<_> = (0..hops)
        .map(|at| {
            let (message, _) = crate::carried_to(at, copy(&first));
            let mut layer = layer(at, &message);
            layer["block_without_tag"] = HEXLOWER.encode(&blocks[at]).into();
            layer
        })
        .collect();
    json!({
        "hops": hops,
        "class": class_number(class),
        "reply_class": reply_class(reply),
        "unused_seed": seed,
        "content": HEXLOWER.encode(&content),
        "layers": layers,
        "packet": BASE64.encode(first.as_bytes()),
    })
}

fn class_number(class: PacketClass) -> usize {
    PacketClass::ALL.iter().position(|other| *other == class).expect("listed")
}

/// Carries a frozen packet to its end.
fn carried(packet: &Value) -> (Vec<RelayReply>, ReplySealer) {
    let hops = number(&packet["hops"]);
    let message = OnionMessage::from_bytes(bytes(&packet["packet"])).expect("a packet");
    let (message, relays) = crate::carried_to(hops - 1, message);
    match MEMBERS[hops - 1].peel(message, sender(hops - 1)) {
        Ok(Peeled::Deliver(delivery)) => (relays, delivery.reply),
        other => panic!("{other:?}"),
    }
}

/// The reply that the asker gets: from the last hop, or from a relay after so many chunks have passed.
fn frozen_reply(packets: &Value, packet: usize, speaker: usize, passed: usize) -> Value {
    let (mut relays, sealer) = carried(&packets[packet]);
    let last = relays.len();
    let answer = format!("an answer to packet {packet}").into_bytes();
    let mut chunks = sealer.answer(&answer).expect("fits");
    let through = |relays: &mut [RelayReply], chunk: &mut Vec<u8>| {
        relays.iter_mut().rev().for_each(|relay| relay.layer(chunk).expect("a layer"));
    };
    let outcome = if speaker == last {
        chunks.iter_mut().for_each(|chunk| through(&mut relays, chunk));
        json!({ "answer": HEXLOWER.encode(&answer) })
    } else {
        chunks.truncate(passed);
        chunks.iter_mut().for_each(|chunk| through(&mut relays, chunk));
        let failing = relays.drain(speaker..).next().expect("a relay");
        for mut chunk in failing.fail(ReplyFailure::Unreachable) {
            through(&mut relays, &mut chunk);
            chunks.push(chunk);
        }
        json!({ "failure": 1 })
    };
    let chunks: Vec<_> = chunks.iter().map(|chunk| BASE64.encode(chunk)).collect();
    json!({ "packet": packet, "speaker": speaker, "outcome": outcome, "chunks": chunks })
}

/// Packets for the first member that it drops, each with its cause.
fn frozen_drops(packets: &Value) -> Vec<Value> {
    let good = bytes(&packets[2]["packet"]);
    let changed = |name: &str, at: usize, xor: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= xor;
        (name.to_owned(), bytes, NOW)
    };
    let mut drops = vec![
        changed("version", 0, 3),
        changed("class", 1, 2),
        changed("reserved", 2, 1),
        changed("epoch", 4, 0x10),
        changed("tag", 8, 1),
        changed("tag", 24, 1),
        changed("tag", 1144, 0x80),
        changed("tag", 5943, 1),
        changed("tag", 8191, 0x10),
        ("length".to_owned(), good[..8000].to_vec(), NOW),
        ("expired".to_owned(), good.clone(), NOW.plus_millis(70_000)),
        ("too-long".to_owned(), good.clone(), Timestamp(NOW.0 - 90_000)),
    ];
    let relay = block(0, 2, ReplyClass::Small);
    let last = block(0, 1, ReplyClass::Small);
    let with = |mut block: [u8; 64], at: usize, value: &[u8]| {
        block[at..at + value.len()].copy_from_slice(value);
        block
    };
    let to = |peer: PeerId| with(relay, 8, peer.as_bytes());
    let crafted = [
        ("routing", with(last, 0, &[4])),
        ("routing", with(last, 1, &[3])),
        ("routing", with(last, 60, &[1])),
        ("routing", with(last, 8, &[1])),
        ("delay", with(last, 2, &10_001u16.to_be_bytes())),
        ("to-self", to(MEMBERS[0].peer)),
        ("bounce", to(ASKER)),
        ("unknown", to(PeerId::new([0x77; 32]))),
    ];
    let empty = payload(PacketClass::Small, b"");
    for (seed, (name, block)) in crafted.into_iter().enumerate() {
        let message = sealed(PacketClass::Small, &[block], &empty, 100 + seed as u64);
        drops.push((name.to_owned(), message.into_bytes(), NOW));
    }
    for (at, value) in [(3, 1), (0, 0xff)] {
        let mut payload = empty.clone();
        payload[at] = value;
        payload[5] = 1;
        let message = sealed(PacketClass::Small, &[last], &payload, 200);
        drops.push(("content".to_owned(), message.into_bytes(), NOW));
    }
    let drop = |(cause, bytes, now): (String, Vec<u8>, Timestamp)| json!({ "cause": cause, "now_millis": now.0, "packet": BASE64.encode(&bytes) });
    drops.into_iter().map(drop).collect()
}

/// Writes the files anew: for a new version of the format alone.
#[test]
#[ignore = "writes the vectors"]
fn freeze() {
    let member = |member: &crate::Member| {
        json!({
            "id": HEXLOWER.encode(member.peer.as_bytes()),
            "epoch": member.epoch,
            "x_wing_seed": HEXLOWER.encode(&member.seed),
        })
    };
    let members: Vec<_> = MEMBERS.iter().take(5).map(member).collect();
    let about = "Members on the paths, in their order. The seed is the 32-byte decapsulation key of \
                 draft-connolly-cfrg-xwing-kem. A packet comes to the first member from the asker.";
    store(
        "members.json",
        &json!({
            "about": about,
            "now_millis": NOW.0,
            "asker": HEXLOWER.encode(ASKER.as_bytes()),
            "members": members,
        }),
    );
    let packets: Vec<_> = cases()
        .zip(1..)
        .map(|((hops, class, reply), seed)| frozen_packet(seed, hops, class, reply))
        .collect();
    let packets = Value::from(packets);
    store("packets.json", &packets);
    let mut replies = Vec::new();
    for (packet, (hops, class, _)) in cases().enumerate() {
        let speakers = if class == PacketClass::Small { 0 } else { hops - 1 };
        replies.extend((speakers..hops).map(|at| frozen_reply(&packets, packet, at, 0)));
    }
    // A relay in the middle of a reply of four chunks, after two of them.
    replies.push(frozen_reply(&packets, 7, 1, 2));
    store("replies.json", &replies.into());
    store("drops.json", &frozen_drops(&packets).into());
}

#[test]
fn the_frozen_members_are_those_of_the_tests() {
    let file = load("members.json");
    assert_eq!(file["now_millis"].as_u64(), Some(NOW.0));
    let members = list(&file["members"]);
    assert_eq!(members.len(), 5);
    for (frozen, member) in members.iter().zip(MEMBERS.iter()) {
        assert_eq!(text(&frozen["id"]), HEXLOWER.encode(member.peer.as_bytes()));
        assert_eq!(number(&frozen["epoch"]), member.epoch as usize);
        assert_eq!(text(&frozen["x_wing_seed"]), HEXLOWER.encode(&member.seed));
    }
}

#[test]
fn frozen_packets_have_their_keys_and_arrive() {
    let packets = load("packets.json");
    assert_eq!(list(&packets).len(), 10);
    for (packet, (hops, expected_class, reply)) in list(&packets).iter().zip(cases()) {
        assert_eq!((number(&packet["hops"]), class(&packet["class"])), (hops, expected_class));
        let first = OnionMessage::from_bytes(bytes(&packet["packet"])).expect("a packet");
        for (at, frozen) in list(&packet["layers"]).iter().enumerate() {
            let (message, _) = crate::carried_to(at, copy(&first));
            let mut found = layer(at, &message);
            found["block_without_tag"] = frozen["block_without_tag"].clone();
            assert_eq!(found, *frozen, "hop {at} of {hops}");
        }
        let (message, _) = crate::carried_to(hops - 1, first);
        match MEMBERS[hops - 1].peel(message, sender(hops - 1)) {
            Ok(Peeled::Deliver(delivery)) => {
                assert_eq!(HEXLOWER.encode(&delivery.content), text(&packet["content"]));
                assert_eq!(delivery.reply.class(), reply);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_frozen_packet_is_built_again_to_the_byte() {
    for packet in list(&load("packets.json")) {
        let class = class(&packet["class"]);
        let first = OnionMessage::from_bytes(bytes(&packet["packet"])).expect("a packet");
        let content = HEXLOWER.decode(text(&packet["content"]).as_bytes()).expect("hexadecimal");
        let hop = |(at, layer): (usize, &Value)| {
            let (message, _) = crate::carried_to(at, copy(&first));
            let of =
                |name: &str| HEXLOWER.decode(text(&layer[name]).as_bytes()).expect("hexadecimal");
            CraftedHop {
                peer: MEMBERS[at].peer,
                epoch: MEMBERS[at].epoch,
                ciphertext: KemCiphertext::from_bytes(message.header().ciphertext()).expect("1120"),
                secret: SharedSecret::from_slice(&of("secret")).expect("32 bytes"),
                block: of("block_without_tag").try_into().expect("64 bytes"),
            }
        };
        let hops = list(&packet["layers"]).iter().enumerate().map(hop).collect();
        let seed = packet["unused_seed"].as_u64().expect("a number");
        let built = craft(class, hops, &payload(class, &content), &mut chance(seed));
        assert!(built.expect("crafted").as_bytes() == first.as_bytes(), "not the same bytes");
    }
}

#[test]
fn frozen_replies_open() {
    let packets = load("packets.json");
    let replies = load("replies.json");
    assert_eq!(list(&replies).len(), 15 + 5 + 1);
    for reply in list(&replies) {
        let packet = &packets[number(&reply["packet"])];
        let mut keys = keys_of(packet);
        let mut last = None;
        for chunk in list(&reply["chunks"]) {
            assert_eq!(last, None, "complete before the last chunk");
            last = keys.open(&mut bytes(chunk)).expect("opens");
        }
        let Reply { from, outcome } = last.expect("complete");
        assert_eq!(from, MEMBERS[number(&reply["speaker"])].peer);
        let expected = match reply["outcome"]["answer"].as_str() {
            Some(answer) => {
                let answer = HEXLOWER.decode(answer.as_bytes()).expect("hexadecimal");
                ReplyOutcome::Answer(answer.into())
            }
            None => ReplyOutcome::Failure(ReplyFailure::Unreachable),
        };
        assert_eq!(outcome, expected);
    }
}

/// What the asker of a frozen packet would keep.
fn keys_of(packet: &Value) -> ReplyKeys {
    let reply = ReplyClass::ALL[number(&packet["reply_class"])];
    let hops = list(&packet["layers"]).iter().zip(MEMBERS.iter()).map(|(layer, member)| {
        let keys = HEXLOWER.decode(text(&layer["keys"]).as_bytes()).expect("hexadecimal");
        (member.peer, keys.try_into().expect("176 bytes"))
    });
    exo_onion::craft::reply_keys(reply, hops)
}

#[test]
fn frozen_bad_packets_are_dropped_for_their_cause() {
    let drops = load("drops.json");
    assert!(list(&drops).len() >= 20);
    for (number, drop) in list(&drops).iter().enumerate() {
        let now = Timestamp(drop["now_millis"].as_u64().expect("a time"));
        let mut seen = exo_onion::ReplayCache::new();
        let reason = match OnionMessage::from_bytes(bytes(&drop["packet"])) {
            Err(dropped) => dropped.reason(),
            Ok(message) => {
                MEMBERS[0].peel_with(message, ASKER, &mut seen, now).expect_err("dropped")
            }
        };
        assert_eq!(reason.as_str(), text(&drop["cause"]), "drop {number}");
    }
}
