//! Slots that a path does not use are random: neither on a link nor to the hop that takes its layer off
//! do they tell how long the path is.
//!
//! Secrets and chance come from a seed, so that a figure of one run is the figure of every run.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use exo_crypto::{KemCiphertext, SharedSecret};
use exo_onion::craft::{CraftedHop, craft, hop_keys};
use exo_onion::{OnionMessage, PacketClass, ROUTING_BYTES, SLOT_BYTES, SLOTS_BYTES};
use exo_types::PeerId;

use crate::chance;

const PACKETS: usize = 10_000;

/// The secret of a hop of a packet.
fn secret(packet: usize, hop: usize) -> SharedSecret {
    let mut bytes = [0; 32];
    chance((packet * 8 + hop) as u64 ^ 0x5eed)(&mut bytes);
    SharedSecret::take(&mut bytes)
}

fn peer(hop: usize) -> PeerId {
    PeerId::new([hop as u8 + 1; 32])
}

fn sealed(number: usize, hops: usize) -> OnionMessage {
    let ciphertext = KemCiphertext::from_bytes(&[0xcc; 1120]).expect("the length is right");
    let hop = |hop| CraftedHop {
        peer: peer(hop),
        epoch: 0,
        ciphertext: ciphertext.clone(),
        secret: secret(number, hop),
        block: [0; ROUTING_BYTES],
    };
    let payload = [0; PacketClass::Small.payload_bytes()];
    let mut random = chance(number as u64);
    craft(PacketClass::Small, (0..hops).map(hop).collect(), &payload, &mut random).expect("crafted")
}

/// The slots as the last hop sees them when its layer is off, computed from the packet at the first
/// hop without this crate's peeling.
fn at_the_end(message: &OnionMessage, number: usize, hops: usize) -> Vec<u8> {
    let mut slots = message.header().slots().to_vec();
    let prefix = message.as_bytes().first_chunk().expect("eight bytes");
    for hop in 0..hops {
        if hop > 0 {
            slots.drain(..SLOT_BYTES);
        }
        slots.resize(SLOTS_BYTES + SLOT_BYTES, 0);
        let keys = hop_keys(&secret(number, hop), &peer(hop), prefix);
        let key: &[u8; 32] = keys[32..64].try_into().expect("32 bytes");
        let mut stream = ChaCha20::new(key.into(), &[0; 12].into());
        stream.seek(64);
        stream.apply_keystream(&mut slots);
        if hop + 1 < hops {
            assert_eq!(&slots[ROUTING_BYTES..SLOT_BYTES], [0xcc; 1120], "the path is as built");
        }
    }
    slots
}

/// How far bytes are from random ones: the worst byte position's count of ones and the chi-square of
/// all byte values, both in standard deviations.
struct Randomness {
    packets: u32,
    ones: Vec<u32>,
    values: [u64; 256],
}

impl Randomness {
    fn new(len: usize) -> Self {
        Self { packets: 0, ones: vec![0; len], values: [0; 256] }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.packets += 1;
        for (byte, ones) in bytes.iter().zip(&mut self.ones) {
            *ones += byte.count_ones();
            self.values[usize::from(*byte)] += 1;
        }
    }

    fn worst_position(&self) -> f64 {
        let packets = f64::from(self.packets);
        let (mean, deviation) = (4.0 * packets, (2.0 * packets).sqrt());
        let far = |ones: &u32| (f64::from(*ones) - mean).abs() / deviation;
        self.ones.iter().map(far).fold(0.0, f64::max)
    }

    fn chi_square(&self) -> f64 {
        let expected = self.values.iter().sum::<u64>() as f64 / 256.0;
        let chi: f64 =
            self.values.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
        // Chi-square with 255 degrees of freedom: mean 255, variance 510.
        (chi - 255.0) / 510f64.sqrt()
    }

    fn assert_random(&self, what: &str) {
        let (worst, chi) = (self.worst_position(), self.chi_square());
        println!("{what}: worst of {} positions {worst:.2}, values {chi:.2}", self.ones.len());
        assert!(worst < 5.5, "{what}: {worst}");
        assert!(chi.abs() < 4.0, "{what}: {chi}");
    }
}

#[test]
fn unused_slots_are_random_to_every_eye_for_every_length_of_path() {
    for hops in 1..=5 {
        let mut on_the_link = Randomness::new(SLOTS_BYTES);
        let mut to_the_last = Randomness::new(SLOTS_BYTES);
        for number in 0..PACKETS {
            let message = sealed(number, hops);
            on_the_link.add(message.header().slots());
            to_the_last.add(
                &at_the_end(&message, number, hops)[ROUTING_BYTES..SLOTS_BYTES + ROUTING_BYTES],
            );
        }
        on_the_link.assert_random(&format!("{hops} hops, on the first link"));
        to_the_last.assert_random(&format!("{hops} hops, to the last hop"));
    }
}

/// The test above can fail: these are the slots of packets whose builder filled with zeros.
#[test]
fn zeros_in_unused_slots_would_be_found() {
    let mut zeros = Randomness::new(SLOTS_BYTES);
    for number in 0..100 {
        let ciphertext = KemCiphertext::from_bytes(&[0xcc; 1120]).expect("the length is right");
        let (secret, block) = (secret(number, 0), [0; ROUTING_BYTES]);
        let hop = CraftedHop { peer: peer(0), epoch: 0, ciphertext, secret, block };
        let payload = [0; PacketClass::Small.payload_bytes()];
        let message = craft(PacketClass::Small, vec![hop], &payload, &mut |bytes| bytes.fill(0));
        let slots = at_the_end(&message.expect("crafted"), number, 1);
        zeros.add(&slots[..SLOTS_BYTES]);
    }
    assert!(zeros.worst_position() > 20.0 && zeros.chi_square() > 100.0);
}
