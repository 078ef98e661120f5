//! The keys of one hop of one packet, and what each of them does.

use blake3::Hasher;
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
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

    /// The stream over the slots. Each packet has its own key, so it begins at zero.
    pub(crate) fn header_stream(&self) -> Stream {
        Stream::new(self.key(HEADER), 0)
    }

    /// The stream over the payload.
    pub(crate) fn payload_stream(&self) -> Stream {
        Stream::new(self.key(PAYLOAD), 0)
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

/// A ChaCha20 stream (RFC 8439) from block zero.
pub(crate) struct Stream(ChaCha20);

impl Stream {
    /// The stream under a key and a number: the nonce is the number, big-endian, behind eight zeros.
    pub(crate) fn new(key: &[u8; KEY_BYTES], number: u32) -> Self {
        Self(ChaCha20::new(key.into(), &nonce(number).into()))
    }

    /// Combines the next bytes of the stream with `bytes`. Nothing here is nearly as long as a stream
    /// may be, 256 GiB.
    pub(crate) fn apply(&mut self, bytes: &mut [u8]) {
        self.0.apply_keystream(bytes);
    }
}

/// The nonce of the message of a key that has this number.
pub(crate) fn nonce(number: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[8..].copy_from_slice(&number.to_be_bytes());
    nonce
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
    fn a_stream_is_rfc_8439s() {
        // RFC 8439 appendix A.2, test vector 1: key, nonce and counter zero.
        let mut bytes = [0; 8];
        Stream::new(&[0; 32], 0).apply(&mut bytes);
        assert_eq!(bytes, [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90]);
        // Appendix A.1, test vector 5: the nonce ends in 2.
        let mut bytes = [0; 8];
        Stream::new(&[0; 32], 2).apply(&mut bytes);
        assert_eq!(bytes, [0xc2, 0xc6, 0x4d, 0x37, 0x8c, 0xd5, 0x36, 0x37]);
    }
}
