//! The replay cache: what a member remembers, so that it takes no packet twice.
//!
//! A packet is remembered for [`ONION_REPLAY_WINDOW_MILLIS`] from its arrival, and none is taken that
//! lives longer; so whatever is forgotten has expired. Time never goes back in here: after the clock was
//! set back, expiries are compared with the latest time seen.

mod saved;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use exo_types::Timestamp;
use exo_types::limits::{ONION_REPLAY_STEP_MILLIS, ONION_REPLAY_WINDOW_MILLIS, ONION_REPLAYS_MAX};

use crate::dropped::DropReason;
use crate::keys::ReplayTag;
use crate::routing::Expiry;

pub use saved::DamagedCache;

/// The packets that this member has taken of late.
///
/// One cache goes with one set of sealing keys: a member has one, for as long as it keeps its keys.
pub struct ReplayCache {
    /// What arrived in each step, the oldest step first.
    steps: VecDeque<Step>,
    /// Packets in all steps.
    len: usize,
    /// Packets at most.
    max: usize,
    /// The latest time seen.
    latest: Timestamp,
    /// Packets that expire up to here may have been taken before the last start.
    unknown_until: Timestamp,
}

struct Step {
    began: Timestamp,
    tags: HashSet<ReplayTag, BuildHasherDefault<TagHasher>>,
}

impl ReplayCache {
    /// An empty cache for keys that have opened nothing before.
    pub fn new() -> Self {
        Self {
            steps: VecDeque::new(),
            len: 0,
            max: ONION_REPLAYS_MAX,
            latest: Timestamp(0),
            unknown_until: Timestamp(0),
        }
    }

    /// An empty cache for keys that may have opened packets before `boot`: those that could have been
    /// taken then are refused, which is every packet for the first 20 seconds and fewer and fewer for
    /// 70 more. `boot` is not before any packet was taken: a machine whose clock may be behind when it
    /// starts waits for the right time.
    ///
    /// Begin again like this as well when the clock was found to be far ahead and was set back.
    pub fn restarted(boot: Timestamp) -> Self {
        Self { unknown_until: boot.plus_millis(ONION_REPLAY_WINDOW_MILLIS), ..Self::new() }
    }

    /// With room for fewer packets than [`ONION_REPLAYS_MAX`].
    #[must_use]
    pub fn with_room_for(self, packets: usize) -> Self {
        Self { max: packets.min(ONION_REPLAYS_MAX), ..self }
    }

    /// Whether the clock was found to be far ahead of `now`: until it is there again packets are
    /// refused, unless other keys and another cache take the place of these.
    pub fn is_ahead_of(&self, now: Timestamp) -> bool {
        self.latest > now.plus_millis(ONION_REPLAY_STEP_MILLIS)
    }

    /// Packets remembered, those included that the next packet will find forgotten.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Remembers a packet whose authentication code holds.
    ///
    /// When the cache is full the packet is refused: to forget another one instead would let it come
    /// again.
    pub(crate) fn insert(&mut self, tag: &ReplayTag, now: Timestamp) -> Result<(), DropReason> {
        let now = self.advance(now);
        if self.steps.iter().any(|step| step.tags.contains(tag)) {
            return Err(DropReason::Replayed);
        }
        if self.len >= self.max {
            return Err(DropReason::Full);
        }
        match self.steps.back_mut() {
            Some(step) if now.millis_since(step.began) < ONION_REPLAY_STEP_MILLIS => {
                step.tags.insert(*tag);
            }
            _ => {
                let tags = HashSet::from_iter([*tag]);
                self.steps.push_back(Step { began: now, tags });
            }
        }
        self.len += 1;
        Ok(())
    }

    /// Whether a packet's time is neither over nor longer than it is remembered.
    pub(crate) fn check_expiry(&self, expiry: Expiry, now: Timestamp) -> Result<(), DropReason> {
        let now = now.max(self.latest);
        let expiry = expiry.time();
        if expiry <= now || expiry <= self.unknown_until {
            return Err(DropReason::Expired);
        }
        if expiry > now.plus_millis(ONION_REPLAY_WINDOW_MILLIS) {
            return Err(DropReason::TooLong);
        }
        Ok(())
    }

    /// Moves on to `now`, unless that is in the past, and forgets what has expired.
    fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        while let Some(step) = self.steps.front() {
            // The last packet of a step came just before its end.
            let kept = ONION_REPLAY_STEP_MILLIS + ONION_REPLAY_WINDOW_MILLIS;
            if self.latest.millis_since(step.began) < kept {
                break;
            }
            self.len -= step.tags.len();
            self.steps.pop_front();
        }
        self.latest
    }
}

impl Default for ReplayCache {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ReplayCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayCache").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Takes the first half of a tag as its hash. A tag is the output of BLAKE3 over a fresh secret: to make
/// many that collide costs the sender an encapsulation and half a table of hashes for each.
#[derive(Default)]
struct TagHasher(u64);

impl Hasher for TagHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(half) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*half);
        }
    }

    fn write_usize(&mut self, _: usize) {
        // The length of an array, always the same.
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp(1_800_000_000_000);

    fn tag(number: u64) -> ReplayTag {
        let mut tag = [0; 16];
        tag[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        tag
    }

    fn after(millis: u64) -> Timestamp {
        START.plus_millis(millis)
    }

    #[test]
    fn a_packet_is_remembered_for_the_window_and_forgotten_a_step_later() {
        for begin in [0, 1, ONION_REPLAY_STEP_MILLIS - 1, ONION_REPLAY_STEP_MILLIS] {
            let mut cache = ReplayCache::new();
            assert_eq!(cache.insert(&tag(0), START), Ok(()));
            let at = after(begin);
            assert_eq!(cache.insert(&tag(1), at), Ok(()));
            let end = at.plus_millis(ONION_REPLAY_WINDOW_MILLIS);
            assert_eq!(cache.insert(&tag(1), Timestamp(end.0)), Err(DropReason::Replayed));
            let gone = end.plus_millis(ONION_REPLAY_STEP_MILLIS);
            assert_eq!(cache.insert(&tag(1), gone), Ok(()));
            assert_eq!(cache.len(), 1);
        }
    }

    #[test]
    fn a_flood_fills_the_cache_to_its_bound_and_no_further() {
        let mut cache = ReplayCache::new().with_room_for(1000);
        let mut taken = 0;
        for number in 0..20_000 {
            match cache.insert(&tag(number), after(number)) {
                Ok(()) => taken += 1,
                Err(reason) => assert_eq!(reason, DropReason::Full),
            }
            assert!(cache.len() <= 1000);
        }
        assert_eq!(taken, 1000);
        for number in 0..1000 {
            assert_eq!(cache.insert(&tag(number), after(20_000)), Err(DropReason::Replayed));
        }
        let later = after(ONION_REPLAY_WINDOW_MILLIS + 2 * ONION_REPLAY_STEP_MILLIS);
        assert_eq!(cache.insert(&tag(30_000), later), Ok(()));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn room_is_never_more_than_the_bound() {
        assert_eq!(ReplayCache::new().with_room_for(usize::MAX).max, ONION_REPLAYS_MAX);
    }

    #[test]
    fn a_packet_lives_neither_past_its_expiry_nor_longer_than_it_is_remembered() {
        let cache = ReplayCache::new();
        let check = |millis, now| {
            let expiry = Expiry::at_or_after(after(millis)).expect("in range");
            cache.check_expiry(expiry, after(now))
        };
        assert_eq!(check(10_000, 9_999), Ok(()));
        assert_eq!(check(10_000, 10_000), Err(DropReason::Expired));
        assert_eq!(check(160_000, 10_000), Ok(()));
        assert_eq!(check(160_000, 9_999), Err(DropReason::TooLong));
        assert_eq!(
            cache.check_expiry(Expiry(u32::MAX), Timestamp(u64::MAX)),
            Err(DropReason::Expired)
        );
    }

    #[test]
    fn after_a_restart_only_packets_are_taken_that_cannot_have_been_taken_before() {
        let cache = ReplayCache::restarted(START);
        let expiry = |millis| Expiry::at_or_after(after(millis)).expect("in range");
        let last = ONION_REPLAY_WINDOW_MILLIS;
        assert_eq!(cache.check_expiry(expiry(last), START), Err(DropReason::Expired));
        assert_eq!(cache.check_expiry(expiry(last), after(60_000)), Err(DropReason::Expired));
        assert_eq!(cache.check_expiry(expiry(last + 1), after(60_000)), Ok(()));
    }

    #[test]
    fn a_clock_set_back_revives_no_packet() {
        let mut cache = ReplayCache::new();
        let expiry = Expiry::at_or_after(after(100_000)).expect("in range");
        cache.insert(&tag(1), START).expect("new");
        cache.insert(&tag(2), after(1_000_000)).expect("new");
        assert_eq!(cache.len(), 1, "the first is forgotten");
        assert_eq!(cache.check_expiry(expiry, START), Err(DropReason::Expired));
    }

    proptest! {
        /// Against a list of all that ever arrived: nothing is taken twice while it is alive.
        #[test]
        fn no_packet_is_taken_twice_in_its_life(
            arrivals in proptest::collection::vec((0u64..40, 0u64..40_000, 0u64..200_000), 1..200),
        ) {
            let mut cache = ReplayCache::new();
            let mut now = START;
            let mut taken: Vec<(u64, Expiry)> = Vec::new();
            for (number, pause, life) in arrivals {
                now = now.plus_millis(pause);
                // A packet's expiry is sealed in it: the same number has the same one.
                let known = taken.iter().find(|(other, _)| *other == number).map(|(_, expiry)| *expiry);
                let expiry = known.or_else(|| Expiry::at_or_after(now.plus_millis(life)));
                let expiry = expiry.expect("in range");
                let held = cache.insert(&tag(number), now);
                if held.and_then(|()| cache.check_expiry(expiry, now)).is_ok() {
                    prop_assert!(known.is_none(), "{number} twice");
                    taken.push((number, expiry));
                }
            }
        }
    }
}
