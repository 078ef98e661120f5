//! Short ids: eight bytes that stand for an item within one reconciliation.
//!
//! They are a keyed hash (SipHash-1-3) under a key that both ends made for this reconciliation, so that
//! nobody can have prepared two items that fall on one short id. Where two do by chance, the roots differ
//! afterwards and the next reconciliation has another key.

use exo_crypto::Label;

use crate::hash::digest;

/// The key of one reconciliation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SyncKey {
    sip: [u8; 16],
    print: [u8; 32],
}

/// What a link has for itself alone, such as an exporter of its session (RFC 8446 section 7.5). Both ends
/// have the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LinkSecret(pub [u8; 32]);

/// A number that one end draws for one reconciliation.
pub type Nonce = [u8; 16];

impl SyncKey {
    /// The key from the link and what each end drew for it.
    pub fn new(link: &LinkSecret, asker: &Nonce, answerer: &Nonce) -> Self {
        let part = |n: u8| digest(Label::SYNC_KEY, &[&link.0, asker, answerer, &[n]]);
        let mut sip = [0; 16];
        sip.copy_from_slice(&part(0)[..16]);
        Self { sip, print: part(1) }
    }

    /// The short id of an item.
    pub fn short(&self, id: &[u8; 32]) -> u64 {
        short(self.start(), id)
    }

    /// The state from which every hash under this key begins.
    fn start(&self) -> [u64; 4] {
        let [k0, k1] = words(&self.sip);
        [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ]
    }

    /// The fingerprint of a range: keyed BLAKE3 over its sorted short ids, 16 bytes. Not a sum or an
    /// exclusive or, which can be made to come out at will.
    pub fn fingerprint(&self, shorts: &[u64]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.print);
        let mut bytes = [0; 8 * 128];
        for chunk in shorts.chunks(128) {
            for (to, short) in bytes.chunks_exact_mut(8).zip(chunk) {
                to.copy_from_slice(&short.to_be_bytes());
            }
            hasher.update(&bytes[..8 * chunk.len()]);
        }
        let mut print = [0; 16];
        print.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        print
    }
}

// A key lets one choose items that collide on this link.
impl std::fmt::Debug for SyncKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SyncKey(…)")
    }
}

impl std::fmt::Debug for LinkSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkSecret(…)")
    }
}

/// The short ids of a set, in the order in which its items were given.
#[derive(Clone, Debug)]
pub struct ShortSet {
    /// The short ids.
    pub shorts: Vec<u64>,
    /// The key they are made with.
    pub key: SyncKey,
}

impl ShortSet {
    /// Makes the short ids of items.
    pub fn new<'a>(key: SyncKey, ids: impl Iterator<Item = &'a [u8; 32]>) -> Self {
        let start = key.start();
        Self { shorts: ids.map(|id| short(start, id)).collect(), key }
    }

    /// The sketch from which the other end estimates how much differs.
    pub fn sketch(&self) -> Sketch {
        let mut counters = [0i32; SKETCH_COUNTERS];
        for short in &self.shorts {
            let at = (*short as usize) % SKETCH_COUNTERS;
            counters[at] += if short & SKETCH_SIGN == 0 { 1 } else { -1 };
        }
        // Only differences count, and they are far below 2^15.
        Sketch(counters.map(|counter| counter as i16))
    }
}

/// SipHash-1-3 (Aumasson & Bernstein 2012) of exactly 32 bytes. Without the branches that a hash of any
/// length needs, the processor works on several items at a time, which halves what an item costs.
#[inline]
fn short(start: [u64; 4], id: &[u8; 32]) -> u64 {
    let mut state = start;
    for word in words::<32, 4>(id) {
        state[3] ^= word;
        round(&mut state);
        state[0] ^= word;
    }
    // The last word is what is left of the input, nothing, under its length.
    const LENGTH: u64 = 32 << 56;
    state[3] ^= LENGTH;
    round(&mut state);
    state[0] ^= LENGTH;
    state[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

#[inline]
fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

/// Bytes as little-endian words.
#[inline]
fn words<const BYTES: usize, const WORDS: usize>(bytes: &[u8; BYTES]) -> [u64; WORDS] {
    const { assert!(BYTES == 8 * WORDS) };
    std::array::from_fn(|at| {
        let word = std::array::from_fn(|byte| bytes[8 * at + byte]);
        u64::from_le_bytes(word)
    })
}

/// Signed counts of a set's items over as many buckets (Alon, Matias & Szegedy 1996). The squares of the
/// difference of two sketches add up to about the number of items in which the sets differ: within 13%
/// two times of three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sketch(pub [i16; SKETCH_COUNTERS]);

impl Sketch {
    /// About how many items differ, at least 1.
    pub fn estimate(&self, other: &Self) -> u64 {
        let square = |(a, b): (&i16, &i16)| {
            let difference = i64::from(a.wrapping_sub(*b));
            difference.unsigned_abs() * difference.unsigned_abs()
        };
        self.0.iter().zip(&other.0).map(square).sum::<u64>().max(1)
    }
}

/// Counters of a sketch.
pub const SKETCH_COUNTERS: usize = 128;

/// The bit of a short id that is its sign in a sketch; the bits below choose the counter.
const SKETCH_SIGN: u64 = SKETCH_COUNTERS as u64;

#[cfg(test)]
mod tests {
    use siphasher::sip::SipHasher13;

    use super::*;

    #[test]
    fn short_ids_are_those_of_siphash_1_3() {
        for n in 0..200u8 {
            let key = SyncKey::new(&LinkSecret([n; 32]), &[1; 16], &[2; 16]);
            let id = digest(Label::SYNC_KEY, &[&[n]]);
            assert_eq!(key.short(&id), SipHasher13::new_with_key(&key.sip).hash(&id));
            let set = ShortSet::new(key, [id].iter());
            assert_eq!(set.shorts, [key.short(&id)]);
        }
    }
}
