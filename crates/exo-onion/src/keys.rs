//! The keys of one hop of one packet, and what each of them does.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use blake3::Hasher;
use exo_crypto::{Label, Secret, SharedSecret};
use exo_types::PeerId;
use zeroize::{Zeroize, Zeroizing};

use crate::message::{PREFIX_BYTES, TAG_BYTES};

/// Keys that a hop and the sender share: five of 32 bytes and the replay tag of 16.
pub(crate) struct HopKeys(Secret<KEYS_BYTES>);

/// What a hop remembers a packet by: derived from its secret, so it says nothing about the packet.
pub(crate) type ReplayTag = [u8; REPLAY_TAG_BYTES];

impl HopKeys {
    /// BLAKE3's `derive_key` over the encapsulated secret, the hop's id and the packet's first bytes: a
    /// packet for another hop, class or epoch has other keys.
    pub(crate) fn derive(secret: &SharedSecret, hop: &PeerId, prefix: &[u8; PREFIX_BYTES]) -> Self {
        let mut hasher = Hasher::new_derive_key(Label::ONION_KEYS.as_str());
        hasher.update(secret.expose()).update(hop.as_bytes()).update(prefix);
        let mut output = hasher.finalize_xof();
        let mut keys = Zeroizing::new([0; KEYS_BYTES]);
        output.fill(keys.as_mut_slice());
        output.zeroize();
        hasher.zeroize();
        Self(Secret::take(&mut keys))
    }

    /// The code over a whole packet whose tag is zero: keyed BLAKE3, 16 bytes.
    pub(crate) fn tag(&self, packet: &[u8]) -> [u8; TAG_BYTES] {
        let mut hasher = Hasher::new_keyed(self.key(MAC));
        hasher.update(packet);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&hasher.finalize().as_bytes()[..TAG_BYTES]);
        hasher.zeroize();
        tag
    }

    /// Applies the stream over the slots. Each packet has its own key, so it has number zero.
    pub(crate) fn apply_header(&self, bytes: &mut [u8]) {
        apply(self.key(HEADER), 0, bytes);
    }

    /// Applies the stream over the payload.
    pub(crate) fn apply_payload(&self, bytes: &mut [u8]) {
        apply(self.key(PAYLOAD), 0, bytes);
    }

    /// What to remember the packet by.
    pub(crate) fn replay_tag(&self) -> ReplayTag {
        let mut tag = [0; REPLAY_TAG_BYTES];
        tag.copy_from_slice(&self.0.expose()[KEYS * KEY_BYTES..]);
        tag
    }

    /// The keys of the reply's layer and of its end.
    pub(crate) fn into_reply(self) -> ReplyPair {
        let copy = |at| Secret::take(&mut { *self.key(at) });
        ReplyPair { layer: copy(REPLY), end: copy(END) }
    }

    #[cfg(feature = "craft")]
    pub(crate) fn from_bytes(mut keys: [u8; KEYS_BYTES]) -> Self {
        Self(Secret::take(&mut keys))
    }

    #[cfg(feature = "craft")]
    pub(crate) fn expose(&self) -> &[u8; KEYS_BYTES] {
        self.0.expose()
    }

    fn key(&self, at: usize) -> &[u8; KEY_BYTES] {
        &self.0.expose().as_chunks().0[at]
    }
}

/// One hop's two keys for the reply.
pub(crate) struct ReplyPair {
    /// Of the layer that a relay puts on what passes it.
    pub(crate) layer: SharedSecret,
    /// Of what the hop says itself.
    pub(crate) end: SharedSecret,
}

/// Combines bytes with the ChaCha20 stream (RFC 8439) of a key and a number, from block one on.
///
/// It is the stream inside ChaCha20-Poly1305, which the library offers whole and faster than others offer
/// the stream alone. The code that comes with it is dropped: what is authenticated here is the packet.
pub(crate) fn apply(key: &[u8; KEY_BYTES], number: u32, bytes: &mut [u8]) {
    // Fails for lengths alone that nothing here has, from 256 GiB.
    let _code = cipher(key)
        .seal_in_place_separate_tag(nonce(number), Aad::empty(), bytes)
        .expect("a packet is not too long for a stream");
}

/// ChaCha20-Poly1305 under a key. The library fails for a key of another length than 32 bytes alone.
pub(crate) fn cipher(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key);
    LessSafeKey::new(key.expect("32 bytes are a key for ChaCha20-Poly1305"))
}

/// The nonce of the message of a key that has this number: the number, big-endian, behind eight zeros.
pub(crate) fn nonce(number: u32) -> Nonce {
    let mut nonce = [0; 12];
    nonce[8..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Length of all keys of a hop, bytes.
pub(crate) const KEYS_BYTES: usize = KEYS * KEY_BYTES + REPLAY_TAG_BYTES;
/// Length of a replay tag, bytes.
pub(crate) const REPLAY_TAG_BYTES: usize = 16;

const KEYS: usize = 5;
const KEY_BYTES: usize = 32;
const MAC: usize = 0;
const HEADER: usize = 1;
const PAYLOAD: usize = 2;
const REPLY: usize = 3;
const END: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(secret: u8, hop: u8, prefix: u8) -> HopKeys {
        let secret = SharedSecret::take(&mut [secret; 32]);
        HopKeys::derive(&secret, &PeerId::new([hop; 32]), &[prefix; 8])
    }

    #[test]
    fn keys_depend_on_secret_hop_and_prefix_and_differ_from_one_another() {
        let base = keys(1, 2, 3);
        assert_eq!(base.0, keys(1, 2, 3).0);
        for other in [keys(0, 2, 3), keys(1, 0, 3), keys(1, 2, 0)] {
            assert_ne!(base.0, other.0);
            assert_ne!(base.replay_tag(), other.replay_tag());
        }
        for a in 0..KEYS {
            for b in 0..a {
                assert_ne!(base.key(a), base.key(b));
            }
        }
    }

    #[test]
    fn a_stream_is_rfc_8439s_from_block_one() {
        use chacha20::ChaCha20;
        use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
        // RFC 8439 appendix A.1, test vector 2: key and nonce zero, block one.
        let mut bytes = [0; 8];
        apply(&[0; 32], 0, &mut bytes);
        assert_eq!(bytes, [0x9f, 0x07, 0xe7, 0xbe, 0x55, 0x51, 0x38, 0x7a]);
        for (number, len) in [(0, 1), (1, 64), (3, 5984), (0x0102_0304, 16_384)] {
            let mut nonce = [0; 12];
            nonce[8..].copy_from_slice(&u32::to_be_bytes(number));
            let (mut ours, mut theirs) = (vec![7; len], vec![7; len]);
            apply(&[9; 32], number, &mut ours);
            let mut cipher = ChaCha20::new(&[9; 32].into(), &nonce.into());
            cipher.seek(64);
            cipher.apply_keystream(&mut theirs);
            assert!(ours == theirs, "{number}, {len} bytes");
        }
    }
}
