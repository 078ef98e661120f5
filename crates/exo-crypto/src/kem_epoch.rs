//! Sealing keys that live for one epoch: what a member announces ([`KemEpochKey`]) and what it keeps
//! ([`KemKeyring`]).
//!
//! Epochs bound what a stolen key opens. When one ends its secret stays for [`KEM_GRACE_MILLIS`], for
//! messages on their way, and is then erased. The next epoch's key is announced along with the
//! current one, so that a peer that has not heard from us for a while can still seal.

use std::fmt;
use std::mem;

use exo_types::codec::{CodecError, Wire, invalid};
use exo_types::limits::{CLOCK_SKEW_MILLIS_MAX, KEM_EPOCH_MILLIS, KEM_GRACE_MILLIS, KEM_KEYS_MAX};
use exo_types::{PeerId, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::identity::PostQuantumKeypair;
use crate::kem::{KEM_PUBLIC_BYTES, KEM_SECRET_BYTES, KemError, KemKeypair, KemPublicKey};
use crate::label::Label;
use crate::signed::{SignBodyError, Signed, SignedBody, Verified};

/// Number of one member's sealing epoch: it grows with every new key of that member and means nothing
/// to any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KemEpoch(pub u64);

impl fmt::Display for KemEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A member's public sealing key for one epoch, as the member signs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KemEpochKey {
    /// Whose key it is; its signer.
    pub peer: PeerId,
    /// The epoch to name beside what is sealed.
    pub epoch: KemEpoch,
    /// From when the key is to be used.
    pub not_before: Timestamp,
    /// Until when, exclusive.
    pub not_after: Timestamp,
    /// The key.
    pub key: KemPublicKey,
}

impl KemEpochKey {
    /// Whether to seal with this key now; a clock behind the member's is forgiven.
    pub fn usable_at(&self, now: Timestamp) -> bool {
        self.not_before <= now.plus_millis(CLOCK_SKEW_MILLIS_MAX) && now < self.not_after
    }
}

impl Wire for KemEpochKey {
    const BYTES_MAX: usize = PeerId::LEN + 3 * 10 + KEM_PUBLIC_BYTES;

    fn check(&self) -> Result<(), CodecError> {
        check_window(self.not_before, self.not_after).map_err(invalid)
    }
}

impl SignedBody for KemEpochKey {
    const LABEL: Label = Label::KEM_EPOCH;

    fn signer(&self) -> Option<PeerId> {
        Some(self.peer)
    }
}

/// A member's sealing secrets: the current epoch's, the next one's and, in its grace, the last one's.
///
/// Call [`rotate`](Self::rotate) at [`next_change`](Self::next_change), or at any time; when it says
/// that something changed, save the ring and announce its keys, in this order.
pub struct KemKeyring {
    retired: Option<EpochPair>,
    current: EpochPair,
    next: EpochPair,
}

/// Why stored bytes are no ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// The length fits no number of keys that a ring holds.
    #[error("{0} bytes are no whole number of sealing keys")]
    Length(usize),
    /// The epochs do not follow one another.
    #[error("the sealing keys are not in the order of their epochs")]
    Order,
    /// A key's time is empty or longer than an epoch.
    #[error("a sealing key is damaged: {0}")]
    Window(&'static str),
    /// A key is damaged.
    #[error("a sealing key is damaged: {0}")]
    Key(KemError),
}

impl KemKeyring {
    /// A new ring whose first epoch begins now.
    ///
    /// The first epoch's number is the second it begins in. Numbers grow by one a key, slower than
    /// seconds do, so a member that lost its ring never gives a number out twice.
    ///
    /// # Errors
    /// [`KemError::Generate`].
    pub fn generate(now: Timestamp) -> Result<Self, KemError> {
        Self::starting(now, KemEpoch(now.0 / 1000))
    }

    fn starting(now: Timestamp, epoch: KemEpoch) -> Result<Self, KemError> {
        let current = EpochPair::generate(epoch, now)?;
        let next = current.successor()?;
        Ok(Self { retired: None, current, next })
    }

    /// Moves to the epoch of `now` and erases what has had its grace. `true` when a key came or went.
    ///
    /// After a sleep longer than the keys last, or when the clock was set back to before they begin,
    /// the ring starts afresh.
    ///
    /// # Errors
    /// [`KemError::Generate`]; the ring is as it was, except that what had its grace is erased.
    pub fn rotate(&mut self, now: Timestamp) -> Result<bool, KemError> {
        let erased = self.retired.take_if(|retired| retired.past_grace(now)).is_some();
        let set_back = now.plus_millis(CLOCK_SKEW_MILLIS_MAX) < self.current.not_before;
        if !set_back && now < self.current.not_after {
            return Ok(erased);
        }
        let old = if set_back || self.next.not_after <= now {
            let fresh = Self::starting(now, self.next.epoch.following())?;
            mem::replace(self, fresh).next
        } else {
            let after_next = self.next.successor()?;
            let next = mem::replace(&mut self.next, after_next);
            mem::replace(&mut self.current, next)
        };
        self.retired = Some(old).filter(|old| !set_back && !old.past_grace(now));
        Ok(true)
    }

    /// Erases every key at once and starts afresh: what to do when a secret may be known to others.
    /// Messages on their way are lost.
    ///
    /// # Errors
    /// [`KemError::Generate`]; the ring is as it was.
    pub fn replace(&mut self, now: Timestamp) -> Result<(), KemError> {
        *self = Self::starting(now, self.next.epoch.following())?;
        Ok(())
    }

    /// When [`rotate`](Self::rotate) next has something to do.
    pub fn next_change(&self) -> Timestamp {
        let grace =
            self.retired.as_ref().map(|retired| retired.not_after.plus_millis(KEM_GRACE_MILLIS));
        grace.map_or(self.current.not_after, |grace| grace.min(self.current.not_after))
    }

    /// Whether [`rotate`](Self::rotate) has nothing to do: the current key's time has come and is not
    /// over, and no retired key has had its grace.
    pub fn is_current(&self, now: Timestamp) -> bool {
        let set_back = now.plus_millis(CLOCK_SKEW_MILLIS_MAX) < self.current.not_before;
        !set_back && now < self.next_change()
    }

    /// The pair to open a message with that was sealed for `epoch`. A retired one is given out during
    /// its grace alone, whether or not [`rotate`](Self::rotate) has been called since.
    pub fn pair(&self, epoch: KemEpoch, now: Timestamp) -> Option<&KemKeypair> {
        self.pairs()
            .find(|pair| pair.epoch == epoch && !pair.past_grace(now))
            .map(|pair| &pair.keypair)
    }

    /// The current key and the next, signed.
    ///
    /// # Errors
    /// [`SignBodyError::Sign`] when the library fails.
    pub fn announce(
        &self,
        identity: &PostQuantumKeypair,
    ) -> Result<[Verified<KemEpochKey>; 2], SignBodyError> {
        let sign = |pair: &EpochPair| Signed::sign(pair.public(identity.peer_id()), identity);
        Ok([sign(&self.current)?, sign(&self.next)?])
    }

    /// The ring for its key file: for each key, oldest first, its epoch, its beginning and its end (eight
    /// big-endian bytes each, the times in milliseconds) and its secret.
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEM_KEYS_MAX * ENTRY_BYTES));
        for pair in self.pairs() {
            for number in [pair.epoch.0, pair.not_before.0, pair.not_after.0] {
                bytes.extend_from_slice(&number.to_be_bytes());
            }
            bytes.extend_from_slice(pair.keypair.secret_bytes().expose());
        }
        bytes
    }

    /// Reads a ring back.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, KeyringError> {
        let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return Err(KeyringError::Length(bytes.len()));
        }
        let (retired, current, next) = match entries {
            [current, next] => (None, current, next),
            [retired, current, next] => (Some(EpochPair::read(retired)?), current, next),
            _ => return Err(KeyringError::Length(bytes.len())),
        };
        let ring =
            Self { retired, current: EpochPair::read(current)?, next: EpochPair::read(next)? };
        let ordered = ring.pairs().zip(ring.pairs().skip(1)).all(|(earlier, later)| {
            earlier.epoch < later.epoch && earlier.not_after <= later.not_before
        });
        if ordered { Ok(ring) } else { Err(KeyringError::Order) }
    }

    /// Oldest first.
    fn pairs(&self) -> impl Iterator<Item = &EpochPair> {
        self.retired.iter().chain([&self.current, &self.next])
    }
}

impl fmt::Debug for KemKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pairs().map(|pair| pair.epoch)).finish()
    }
}

struct EpochPair {
    epoch: KemEpoch,
    not_before: Timestamp,
    not_after: Timestamp,
    keypair: KemKeypair,
}

impl KemEpoch {
    /// The number after this one; the last stays, for it is 10^11 years of keys away.
    fn following(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl EpochPair {
    fn generate(epoch: KemEpoch, not_before: Timestamp) -> Result<Self, KemError> {
        let not_after = not_before.plus_millis(KEM_EPOCH_MILLIS);
        Ok(Self { epoch, not_before, not_after, keypair: KemKeypair::generate()? })
    }

    fn successor(&self) -> Result<Self, KemError> {
        Self::generate(self.epoch.following(), self.not_after)
    }

    fn past_grace(&self, now: Timestamp) -> bool {
        now >= self.not_after.plus_millis(KEM_GRACE_MILLIS)
    }

    fn public(&self, peer: PeerId) -> KemEpochKey {
        let Self { epoch, not_before, not_after, ref keypair } = *self;
        KemEpochKey { peer, epoch, not_before, not_after, key: keypair.public().clone() }
    }

    fn read(entry: &[u8; ENTRY_BYTES]) -> Result<Self, KeyringError> {
        let (numbers, secret) = entry.split_at(ENTRY_HEADER_BYTES);
        let (numbers, _) = numbers.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|number| u64::from_be_bytes(*number));
        let mut number = || numbers.next().ok_or(KeyringError::Length(ENTRY_BYTES));
        let (epoch, not_before, not_after) =
            (KemEpoch(number()?), Timestamp(number()?), Timestamp(number()?));
        check_window(not_before, not_after).map_err(KeyringError::Window)?;
        let secret = secret.try_into().map_err(|_| KeyringError::Length(ENTRY_BYTES))?;
        let keypair = KemKeypair::from_secret_bytes(secret).map_err(KeyringError::Key)?;
        Ok(Self { epoch, not_before, not_after, keypair })
    }
}

fn check_window(not_before: Timestamp, not_after: Timestamp) -> Result<(), &'static str> {
    if not_before >= not_after {
        return Err("a sealing key must begin before it ends");
    }
    if not_after.millis_since(not_before) > KEM_EPOCH_MILLIS {
        return Err("a sealing key must not outlast an epoch");
    }
    Ok(())
}

const ENTRY_HEADER_BYTES: usize = 3 * 8;
const ENTRY_BYTES: usize = ENTRY_HEADER_BYTES + KEM_SECRET_BYTES;

/// Longest ring in its key file, bytes.
pub const KEYRING_BYTES_MAX: usize = KEM_KEYS_MAX * ENTRY_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_800_000_000_000);

    fn ring() -> KemKeyring {
        KemKeyring::generate(START).expect("a ring")
    }

    fn epochs(ring: &KemKeyring) -> Vec<u64> {
        ring.pairs().map(|pair| pair.epoch.0 - START.0 / 1000).collect()
    }

    fn later(millis: u64) -> Timestamp {
        START.plus_millis(millis)
    }

    #[test]
    fn an_epoch_passes_to_the_next_key_and_the_old_one_is_erased_after_its_grace() {
        let mut ring = ring();
        let first = KemEpoch(START.0 / 1000);
        assert_eq!(ring.rotate(later(KEM_EPOCH_MILLIS - 1)), Ok(false));
        assert!(ring.is_current(later(KEM_EPOCH_MILLIS - 1)));
        assert!(!ring.is_current(later(KEM_EPOCH_MILLIS)));
        let set_back = Timestamp(START.0 - CLOCK_SKEW_MILLIS_MAX);
        assert!(ring.is_current(set_back) && !ring.is_current(Timestamp(set_back.0 - 1)));
        assert_eq!(ring.next_change(), later(KEM_EPOCH_MILLIS));
        assert_eq!(ring.rotate(later(KEM_EPOCH_MILLIS)), Ok(true));
        assert_eq!(epochs(&ring), [0, 1, 2]);
        assert_eq!(ring.next_change(), later(KEM_EPOCH_MILLIS + KEM_GRACE_MILLIS));
        let end = later(KEM_EPOCH_MILLIS + KEM_GRACE_MILLIS);
        assert!(ring.pair(first, Timestamp(end.0 - 1)).is_some());
        assert!(ring.pair(first, end).is_none());
        assert_eq!(ring.rotate(Timestamp(end.0 - 1)), Ok(false));
        assert_eq!(ring.rotate(end), Ok(true));
        assert_eq!(epochs(&ring), [1, 2]);
        assert!(ring.is_current(end) && !ring.is_current(Timestamp(end.0 + KEM_EPOCH_MILLIS)));
        assert_eq!(ring.next_change(), later(2 * KEM_EPOCH_MILLIS));
    }

    #[test]
    fn a_message_for_the_announced_next_key_opens_before_and_after_the_change() {
        let identity = PostQuantumKeypair::from_seed(&[1; 32]).expect("a seed expands");
        let mut ring = ring();
        let [current, next] = ring.announce(&identity).expect("signs");
        assert!(current.usable_at(START) && !next.usable_at(START));
        assert!(!current.usable_at(later(KEM_EPOCH_MILLIS)));
        assert!(next.usable_at(later(KEM_EPOCH_MILLIS)));
        let sealed = crate::seal(&next.key, Label::SEAL, b"", b"early").expect("seals");
        for now in [START, later(KEM_EPOCH_MILLIS)] {
            ring.rotate(now).expect("rotates");
            let pair = ring.pair(next.epoch, now).expect("the key is kept");
            assert!(crate::open(pair, Label::SEAL, b"", &sealed).is_ok());
        }
    }

    #[test]
    fn after_a_long_sleep_the_ring_starts_afresh_with_higher_numbers() {
        let mut ring = ring();
        let now = later(10 * KEM_EPOCH_MILLIS);
        assert_eq!(ring.rotate(now), Ok(true));
        assert_eq!(epochs(&ring), [2, 3]);
        assert_eq!(ring.next_change(), now.plus_millis(KEM_EPOCH_MILLIS));
        // Just past the second key's end: that one is still in its grace.
        let mut ring = super::tests::ring();
        assert_eq!(ring.rotate(later(2 * KEM_EPOCH_MILLIS + 1)), Ok(true));
        assert_eq!(epochs(&ring), [1, 2, 3]);
    }

    #[test]
    fn a_clock_set_back_starts_afresh_rather_than_announce_the_future() {
        let mut ring = ring();
        let now = Timestamp(START.0 - CLOCK_SKEW_MILLIS_MAX - 1);
        assert_eq!(ring.rotate(Timestamp(now.0 + 1)), Ok(false));
        assert_eq!(ring.rotate(now), Ok(true));
        assert_eq!(epochs(&ring), [2, 3]);
        assert_eq!(ring.next_change(), now.plus_millis(KEM_EPOCH_MILLIS));
    }

    #[test]
    fn a_key_is_sealed_for_from_the_skew_before_its_beginning_to_its_end() {
        let key = ring().next.public(PeerId::new([1; 32]));
        let begin = key.not_before.0;
        assert!(!key.usable_at(Timestamp(begin - CLOCK_SKEW_MILLIS_MAX - 1)));
        assert!(key.usable_at(Timestamp(begin - CLOCK_SKEW_MILLIS_MAX)));
        assert!(key.usable_at(Timestamp(key.not_after.0 - 1)));
        assert!(!key.usable_at(key.not_after));
    }

    #[test]
    fn a_ring_woken_at_the_very_end_of_its_last_key_has_a_current_one() {
        let mut ring = ring();
        let now = later(2 * KEM_EPOCH_MILLIS);
        assert_eq!(ring.rotate(now), Ok(true));
        assert!(ring.current.not_before <= now && now < ring.current.not_after);
        assert_eq!(epochs(&ring), [1, 2, 3]);
    }

    #[test]
    fn replacing_leaves_no_old_key() {
        let mut ring = ring();
        ring.rotate(later(KEM_EPOCH_MILLIS)).expect("rotates");
        let now = later(KEM_EPOCH_MILLIS + 1);
        ring.replace(now).expect("replaces");
        assert_eq!(epochs(&ring), [3, 4]);
        assert!((0..3).all(|n| ring.pair(KemEpoch(START.0 / 1000 + n), now).is_none()));
    }

    #[test]
    fn a_ring_survives_its_file_form() {
        let mut ring = ring();
        for now in [START, later(KEM_EPOCH_MILLIS)] {
            ring.rotate(now).expect("rotates");
            let bytes = ring.to_secret_bytes();
            assert!(bytes.len() <= KEYRING_BYTES_MAX);
            let read = KemKeyring::from_secret_bytes(&bytes).expect("reads");
            assert_eq!(read.to_secret_bytes(), bytes);
            assert_eq!(epochs(&read), epochs(&ring));
        }
    }

    #[test]
    fn a_ring_of_another_length_order_or_time_is_refused() {
        let bytes = ring().to_secret_bytes();
        let err = |bytes: &[u8]| KemKeyring::from_secret_bytes(bytes).err();
        for len in [0, 1, ENTRY_BYTES, bytes.len() - 1] {
            assert_eq!(err(&bytes[..len]), Some(KeyringError::Length(len)));
        }
        let four = [bytes.as_slice(), &bytes].concat();
        assert_eq!(err(&four), Some(KeyringError::Length(four.len())));
        let (current, next) = bytes.split_at(ENTRY_BYTES);
        assert_eq!(err(&[next, current].concat()), Some(KeyringError::Order));
        let mut twice = bytes.to_vec();
        twice.copy_within(..8, ENTRY_BYTES);
        assert_eq!(err(&twice), Some(KeyringError::Order), "one number for two keys");
        let mut overlap = bytes.to_vec();
        overlap.copy_within(8..24, ENTRY_BYTES + 8);
        assert_eq!(err(&overlap), Some(KeyringError::Order), "two keys at one time");
        let mut empty = bytes.to_vec();
        empty.copy_within(8..16, 16);
        assert!(matches!(err(&empty), Some(KeyringError::Window(_))));
        let mut long = bytes.to_vec();
        long[15] ^= 0x80;
        long[14] = long[14].wrapping_sub(1);
        assert!(matches!(err(&long), Some(KeyringError::Window(_))));
        let mut damaged = bytes.to_vec();
        damaged[ENTRY_HEADER_BYTES + 1200] ^= 1;
        assert_eq!(err(&damaged), Some(KeyringError::Key(KemError::Secret)));
    }

    #[test]
    fn an_announced_key_must_begin_before_it_ends_and_last_an_epoch_at_most() {
        let peer = PeerId::new([1; 32]);
        let mut key = ring().current.public(peer);
        assert_eq!(key.check(), Ok(()));
        assert!(key.to_wire().expect("encodes").len() <= KemEpochKey::BYTES_MAX);
        key.not_after = key.not_after.plus_millis(1);
        assert!(key.check().is_err());
        key.not_after = key.not_before;
        assert!(key.check().is_err());
    }
}
