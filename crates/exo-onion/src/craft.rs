//! Packets that no honest sender makes, for tests of those who receive them, and the keys inside a
//! packet, for frozen vectors. Nothing here is part of a node.

use exo_crypto::{KemCiphertext, SharedSecret};
use exo_types::PeerId;
use exo_types::limits::ONION_HOPS_MAX;

use crate::keys::HopKeys;
use crate::message::{OnionMessage, PREFIX_BYTES, PacketClass, ROUTING_BYTES};
use crate::random::Random;
use crate::reply::{ReplyClass, ReplyKeys};
use crate::wrap::{Layer, assemble};

/// One hop of a crafted packet.
pub struct CraftedHop {
    /// Whose it is.
    pub peer: PeerId,
    /// The epoch to name.
    pub epoch: u32,
    /// The encapsulation for it.
    pub ciphertext: KemCiphertext,
    /// What is encapsulated.
    pub secret: SharedSecret,
    /// Its routing block; the next tag is put into it where another hop follows.
    pub block: [u8; ROUTING_BYTES],
}

/// Builds a packet from whatever it is given; `None` for no hops, too many, or a payload of another
/// length than the class's.
pub fn craft(
    class: PacketClass,
    hops: Vec<CraftedHop>,
    payload: &[u8],
    random: Random<'_>,
) -> Option<OnionMessage> {
    if hops.is_empty() || hops.len() > ONION_HOPS_MAX || payload.len() != class.payload_bytes() {
        return None;
    }
    let layer = |hop: CraftedHop| {
        Layer::new(class, hop.peer, hop.epoch, hop.ciphertext, &hop.secret, hop.block)
    };
    let layers: Vec<_> = hops.into_iter().map(layer).collect();
    Some(assemble(class, &layers, payload, random))
}

/// The keys of a hop, in the order of the protocol document: five of 32 bytes and the replay tag.
pub fn hop_keys(secret: &SharedSecret, peer: &PeerId, prefix: &[u8; PREFIX_BYTES]) -> [u8; 176] {
    *HopKeys::derive(secret, peer, prefix).expose()
}

/// What the asker keeps of a packet whose hops have these keys, the nearest first.
pub fn reply_keys(class: ReplyClass, hops: impl Iterator<Item = (PeerId, [u8; 176])>) -> ReplyKeys {
    ReplyKeys::new(class, hops.map(|(peer, keys)| (peer, HopKeys::from_bytes(keys).into_reply())))
}
