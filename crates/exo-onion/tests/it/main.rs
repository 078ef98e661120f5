//! What the crate promises to those who send, carry and answer packets, and to other implementations.

mod bounds;
mod carry;
mod frozen;
mod paths;
mod refuse;
mod reply;
mod unused;

use std::sync::LazyLock;

use exo_crypto::{
    KemCiphertext, KemEpoch, KemEpochKey, KemKeyring, PostQuantumKeypair, Signed, Verified,
};
use exo_onion::craft::hop_keys;
use exo_onion::{
    DropReason, Hop, OnionMessage, PacketClass, Peeled, Relay, ReplayCache, ReplyClass, ReplyKeys,
    Request, peel_layer, wrap,
};
use exo_types::limits::KEM_EPOCH_MILLIS;
use exo_types::{PeerId, Timestamp};
use ml_kem::{DecapsulationKey, MlKem768};
use shake::digest::{ExtendableOutput, Update, XofReader};

/// The time of most tests: an hour into everybody's epoch.
const NOW: Timestamp = Timestamp(1_800_000_000_000);
const EPOCH_BEGAN: Timestamp = Timestamp(NOW.0 - 3_600_000);
const EPOCH_ENDS: Timestamp = Timestamp(EPOCH_BEGAN.0 + KEM_EPOCH_MILLIS);

/// A member with keys that are the same in every run.
struct Member {
    peer: PeerId,
    ring: KemKeyring,
    key: Verified<KemEpochKey>,
    epoch: u32,
    seed: [u8; 32],
}

/// Members to make paths of, as many as a path may have and one more.
static MEMBERS: LazyLock<Vec<Member>> = LazyLock::new(|| (0..6).map(Member::new).collect());

impl Member {
    fn new(number: u8) -> Self {
        let identity = PostQuantumKeypair::from_seed(&[number; 32]).expect("a seed expands");
        // Epoch numbers mean nothing to others, so each member's are its own.
        let epoch = 1_799_000_000 + 1000 * u32::from(number);
        let seed = [0x40 + number; 32];
        let entry = |epoch: u32, from: Timestamp, seed: &[u8; 32]| {
            let until = from.plus_millis(KEM_EPOCH_MILLIS);
            let mut entry = Vec::new();
            for number in [u64::from(epoch), from.0, until.0] {
                entry.extend_from_slice(&number.to_be_bytes());
            }
            entry.extend_from_slice(&expand_x_wing(seed));
            entry
        };
        let current = entry(epoch, EPOCH_BEGAN, &seed);
        let next = entry(epoch + 1, EPOCH_ENDS, &[0x80 + number; 32]);
        let ring = KemKeyring::from_secret_bytes(&[current, next].concat()).expect("a ring");
        let pair = ring.pair(KemEpoch(u64::from(epoch)), NOW).expect("the current key");
        let key = KemEpochKey {
            peer: identity.peer_id(),
            epoch: KemEpoch(u64::from(epoch)),
            not_before: EPOCH_BEGAN,
            not_after: EPOCH_ENDS,
            key: pair.public().clone(),
        };
        let key = Signed::sign(key, &identity).expect("signs");
        Self { peer: identity.peer_id(), ring, key, epoch, seed }
    }

    /// Takes a layer off with an empty cache.
    fn peel(&self, message: OnionMessage, from: PeerId) -> Result<Peeled, DropReason> {
        self.peel_with(message, from, &mut ReplayCache::new(), NOW)
    }

    fn peel_with(
        &self,
        message: OnionMessage,
        from: PeerId,
        seen: &mut ReplayCache,
        now: Timestamp,
    ) -> Result<Peeled, DropReason> {
        let known = |peer: &PeerId| MEMBERS.iter().any(|member| member.peer == *peer);
        let relay = Relay { me: self.peer, from, keyring: &self.ring, forwards_to: &known };
        peel_layer(message, &relay, seen, now).map_err(|dropped| dropped.reason())
    }

    /// A key whose secret nobody needs.
    fn hop(&self) -> Hop<'_> {
        Hop { key: &self.key, delay_millis: 0 }
    }
}

/// Who sends in these tests: not one of the members.
const ASKER: PeerId = PeerId::new([0xaa; 32]);

/// A packet through the first `hops` members.
fn packet(
    hops: usize,
    class: PacketClass,
    reply: ReplyClass,
    content: &[u8],
) -> (OnionMessage, ReplyKeys) {
    let path: Vec<_> = MEMBERS.iter().take(hops).map(Member::hop).collect();
    let request = Request { path: &path, content: Some(content), class, reply };
    wrap(&request, NOW, &mut chance(1)).expect("a packet")
}

/// Who the member at this place on the path has the packet from.
fn sender(at: usize) -> PeerId {
    at.checked_sub(1).and_then(|before| MEMBERS.get(before)).map_or(ASKER, |member| member.peer)
}

/// The keys of the member at this place for a packet that came to it.
fn hop_keys_of(at: usize, message: &OnionMessage) -> [u8; 176] {
    let member = &MEMBERS[at];
    let pair = member.ring.pair(member.key.epoch, NOW).expect("the current key");
    let ciphertext = KemCiphertext::from_bytes(message.header().ciphertext());
    let secret = pair.decapsulate(&ciphertext.expect("1120 bytes")).expect("decapsulates");
    let prefix = message.as_bytes().first_chunk().expect("eight bytes");
    hop_keys(&secret, &member.peer, prefix)
}

/// A copy of a packet.
fn copy(message: &OnionMessage) -> OnionMessage {
    OnionMessage::from_bytes(message.as_bytes().to_vec()).expect("a packet")
}

/// The packet as the member at this place gets it, and what the members before it keep.
fn carried_to(at: usize, mut message: OnionMessage) -> (OnionMessage, Vec<exo_onion::RelayReply>) {
    let mut replies = Vec::new();
    for before in 0..at {
        match MEMBERS[before].peel(message, sender(before)) {
            Ok(Peeled::Forward(forward)) => {
                assert_eq!(forward.next, MEMBERS[before + 1].peer);
                message = forward.message;
                replies.push(forward.reply);
            }
            other => panic!("{other:?} at {before}"),
        }
    }
    (message, replies)
}

/// Random bytes that are the same in every run: SplitMix64 (Steele, Lea & Flood 2014).
fn chance(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut state = seed;
    move |bytes: &mut [u8]| {
        for chunk in bytes.chunks_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// The draft's expandDecapsulationKey, with ML-KEM keys from an implementation that is not ours.
#[expect(deprecated, reason = "the expanded form is what is stored")]
fn expand_x_wing(seed: &[u8; 32]) -> Vec<u8> {
    use ml_kem::ExpandedKeyEncoding;
    let mut expanded = [0; 96];
    let mut hasher = shake::Shake256::default();
    hasher.update(seed);
    hasher.finalize_xof().read(&mut expanded);
    let (ml_kem, x25519) = expanded.split_at(64);
    let ml_kem = <[u8; 64]>::try_from(ml_kem).expect("d and z");
    let key = DecapsulationKey::<MlKem768>::from_seed(ml_kem.into());
    [key.to_expanded_bytes().as_slice(), x25519].concat()
}
