//! An onion packet at a relay, and its reply: any bytes are dropped, a packet whose tag holds is taken
//! by the rules whatever its routing block and payload say, what was altered is dropped.
#![no_main]

use std::sync::OnceLock;

use exo_crypto::{KemCiphertext, KemEpoch, KemKeyring, SharedSecret};
use exo_fuzz::{NOW, byte, identity, keyring_bytes};
use exo_onion::craft::{CraftedHop, craft, hop_keys, reply_keys};
use exo_onion::{
    DropReason, OnionMessage, PacketClass, Peeled, ROUTING_BYTES, Relay, ReplayCache, ReplyClass,
    peel_layer,
};
use exo_types::PeerId;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let choice = byte(&mut rest);
    let class = PacketClass::ALL[usize::from(choice & 1)];
    raw(class, rest);
    crafted(class, choice & 2 != 0, rest);
    reply(choice, rest);
    if let Ok(cache) = ReplayCache::from_bytes(data) {
        assert_eq!(cache.to_bytes().len(), data.len());
    }
});

/// Any bytes of the right length, from the start of the packet and from its reserved bytes on.
fn raw(class: PacketClass, data: &[u8]) {
    assert!(OnionMessage::from_bytes(data.to_vec()).is_err() || data.len() >= 8192);
    let mut bytes = packet(class, &[0; ROUTING_BYTES], &[]).into_bytes();
    for (to, from) in bytes[8..].iter_mut().zip(data) {
        *to ^= from;
    }
    // Unchanged it is dropped for its routing block.
    assert!(peel(bytes).is_err());
    let mut bytes = data.to_vec();
    bytes.resize(class.packet_bytes(), 0x5a);
    assert!(peel(bytes).is_err());
}

/// A packet whose tag holds.
fn crafted(class: PacketClass, in_time: bool, data: &[u8]) {
    let mut block = [0; ROUTING_BYTES];
    let (start, content) = data.split_at(data.len().min(ROUTING_BYTES));
    block[..start.len()].copy_from_slice(start);
    if in_time {
        let expiry = (NOW.wall.0 / 10_000) as u32 + 6;
        block[4..8].copy_from_slice(&expiry.to_be_bytes());
    }
    let bytes = packet(class, &block, content).into_bytes();
    match peel(bytes.clone()) {
        Ok(Peeled::Forward(forward)) => {
            assert_eq!(block[0], 1);
            assert_eq!(forward.next.as_bytes(), &block[8..40]);
            assert_eq!(forward.message.header().tag(), &block[40..56]);
            assert!(forward.next != me() && forward.next != FROM);
            assert!(forward.delay.as_millis() <= 10_000);
            let bytes = forward.message.into_bytes();
            assert_eq!(bytes.len(), class.packet_bytes());
            assert!(OnionMessage::from_bytes(bytes).is_ok());
        }
        Ok(Peeled::Deliver(delivery)) => {
            assert_eq!(block[0], 2);
            assert!(delivery.content.len() <= class.content_bytes_max());
            let sent = content.iter().skip(4).chain(std::iter::repeat(&0));
            assert!(delivery.content.iter().eq(sent.take(delivery.content.len())));
        }
        Ok(Peeled::Cover(_)) => assert_eq!(block[0], 3),
        Err(reason) => assert!(!matches!(reason, DropReason::Tag | DropReason::Replayed)),
    }
    let at = usize::from(block[9]) << 8 | usize::from(block[10]);
    let mut changed = bytes;
    let len = changed.len();
    changed[at % len] ^= 1 << (block[11] & 7);
    assert!(peel(changed).is_err(), "a flipped bit");
}

/// Bytes as a reply to the asker and to a relay.
fn reply(choice: u8, data: &[u8]) {
    let class = ReplyClass::ALL[usize::from(choice >> 2) % 3];
    let hops = [1, 2, 3].map(|hop| (PeerId::new([hop; 32]), [hop; 176]));
    let mut keys = reply_keys(class, hops.into_iter());
    let mut short = data.to_vec();
    assert!(keys.open(&mut short).is_err());
    let mut keys = reply_keys(class, hops.into_iter());
    let mut chunk = data.to_vec();
    chunk.resize(class.chunk_bytes(), choice);
    assert!(keys.open(&mut chunk).is_err());
    assert!(keys.open(&mut chunk).is_err(), "it is over");
}

fn packet(class: PacketClass, block: &[u8; ROUTING_BYTES], payload: &[u8]) -> OnionMessage {
    let (ciphertext, secret) = encapsulated();
    let hop = CraftedHop {
        peer: me(),
        epoch: epoch(),
        ciphertext: ciphertext.clone(),
        secret: SharedSecret::from_slice(secret).expect("32 bytes"),
        block: *block,
    };
    let mut payload = payload.to_vec();
    payload.resize(class.payload_bytes(), 0);
    craft(class, vec![hop], &payload, &mut |bytes| bytes.fill(0x33)).expect("crafted")
}

fn peel(bytes: Vec<u8>) -> Result<Peeled, DropReason> {
    // A third of all members is known.
    let forwards_to = |peer: &PeerId| peer.as_bytes()[0].is_multiple_of(3);
    let relay = Relay { me: me(), from: FROM, keyring: ring(), forwards_to: &forwards_to };
    let mut seen = ReplayCache::new();
    let message = OnionMessage::from_bytes(bytes).map_err(|dropped| dropped.reason())?;
    let peeled = peel_layer(message, &relay, &mut seen, NOW.wall);
    assert!(seen.len() <= 1);
    peeled.map_err(|dropped| dropped.reason())
}

fn me() -> PeerId {
    static ME: OnceLock<PeerId> = OnceLock::new();
    *ME.get_or_init(|| identity(1).peer_id())
}

fn ring() -> &'static KemKeyring {
    static RING: OnceLock<KemKeyring> = OnceLock::new();
    RING.get_or_init(|| KemKeyring::from_secret_bytes(keyring_bytes()).expect("a ring"))
}

/// A fresh ring's first epoch is the second it begins in.
fn epoch() -> u32 {
    (NOW.wall.0 / 1000) as u32
}

/// One encapsulation for all packets: what is derived from it is bound to each packet's first bytes.
fn encapsulated() -> &'static (KemCiphertext, [u8; 32]) {
    static KEM: OnceLock<(KemCiphertext, [u8; 32])> = OnceLock::new();
    KEM.get_or_init(|| {
        let pair = ring().pair(KemEpoch(u64::from(epoch())), NOW.wall).expect("the current key");
        let (ciphertext, secret) = pair.public().encapsulate().expect("encapsulates");
        assert_ne!(hop_keys(&secret, &me(), &[0; 8]), [0; 176]);
        (ciphertext, *secret.expose())
    })
}

const FROM: PeerId = PeerId::new([3; 32]);
