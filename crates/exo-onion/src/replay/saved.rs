//! The replay cache in a file, so that a member that stops and starts again takes packets at once.

use std::collections::HashSet;

use exo_types::Timestamp;
use exo_types::limits::{ONION_REPLAY_STEP_MILLIS, ONION_REPLAY_WINDOW_MILLIS, ONION_REPLAYS_MAX};

use super::{ReplayCache, Step};
use crate::keys::ReplayTag;

/// The bytes are no saved cache. Begin with [`ReplayCache::restarted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the saved replay cache is damaged")]
pub struct DamagedCache;

impl ReplayCache {
    /// The cache for a file, when the member has stopped taking packets: version, the latest time seen,
    /// until when packets are refused since the last crash, and for each step its beginning, the number
    /// of its tags and the tags. Numbers are eight bytes, big-endian.
    ///
    /// A file holds for one start. Remove it before the first packet is taken: after a crash an old
    /// file would let in what came since.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + self.steps.len() * 16 + self.len * TAG);
        for number in [VERSION, self.latest.0, self.unknown_until.0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for step in &self.steps {
            for number in [step.began.0, step.tags.len() as u64] {
                bytes.extend_from_slice(&number.to_be_bytes());
            }
            for tag in &step.tags {
                bytes.extend_from_slice(tag);
            }
        }
        bytes
    }

    /// Reads a cache back.
    ///
    /// # Errors
    /// [`DamagedCache`].
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, DamagedCache> {
        let mut cache = Self::new();
        if number(&mut bytes)? != VERSION {
            return Err(DamagedCache);
        }
        cache.latest = Timestamp(number(&mut bytes)?);
        cache.unknown_until = Timestamp(number(&mut bytes)?);
        while !bytes.is_empty() {
            let began = Timestamp(number(&mut bytes)?);
            let count = usize::try_from(number(&mut bytes)?).map_err(|_| DamagedCache)?;
            let len = count.checked_mul(TAG).ok_or(DamagedCache)?;
            let (tags, rest) = bytes.split_at_checked(len).ok_or(DamagedCache)?;
            bytes = rest;
            let tags: HashSet<ReplayTag, _> = tags.as_chunks().0.iter().copied().collect();
            let after = cache.steps.back().is_none_or(|step| step.began < began);
            let full = cache.len + count > ONION_REPLAYS_MAX || cache.steps.len() >= STEPS_MAX;
            if count == 0 || tags.len() != count || !after || began > cache.latest || full {
                return Err(DamagedCache);
            }
            cache.len += count;
            cache.steps.push_back(Step { began, tags });
        }
        Ok(cache)
    }
}

fn number(bytes: &mut &[u8]) -> Result<u64, DamagedCache> {
    let (number, rest) = bytes.split_first_chunk().ok_or(DamagedCache)?;
    *bytes = rest;
    Ok(u64::from_be_bytes(*number))
}

const VERSION: u64 = 1;
const TAG: usize = size_of::<ReplayTag>();
/// Steps that are kept at once: those of the window, and one on each side of it.
const STEPS_MAX: usize = (ONION_REPLAY_WINDOW_MILLIS / ONION_REPLAY_STEP_MILLIS) as usize + 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dropped::DropReason;

    const START: Timestamp = Timestamp(1_800_000_000_000);

    fn tag(number: u64) -> ReplayTag {
        u128::from(number).to_be_bytes().map(|byte| byte ^ 0x5a)
    }

    fn filled() -> ReplayCache {
        let mut cache = ReplayCache::restarted(START);
        for number in 0..300 {
            cache.insert(&tag(number), START.plus_millis(number * 1_000)).expect("new");
        }
        cache
    }

    #[test]
    fn a_saved_cache_remembers_what_it_did() {
        let mut cache = filled();
        let mut read = ReplayCache::from_bytes(&cache.to_bytes()).expect("reads");
        assert_eq!(read.len(), cache.len());
        assert_eq!(read.unknown_until, cache.unknown_until);
        for number in 0..301 {
            let now = START.plus_millis(299_000);
            assert_eq!(read.insert(&tag(number), now), cache.insert(&tag(number), now), "{number}");
        }
        assert_eq!(read.insert(&tag(299), START), Err(DropReason::Replayed));
        let latest = START.plus_millis(300_000);
        assert!(!read.is_ahead_of(latest) && !read.is_ahead_of(Timestamp(latest.0 - 31_000)));
        assert!(read.is_ahead_of(Timestamp(latest.0 - 32_000)), "the clock was set back");
        let empty = ReplayCache::new();
        assert!(ReplayCache::from_bytes(&empty.to_bytes()).expect("reads").is_empty());
    }

    #[test]
    fn every_cut_and_lie_about_lengths_is_refused() {
        let bytes = filled().to_bytes();
        let whole_steps: Vec<_> = (0..bytes.len())
            .filter(|len| ReplayCache::from_bytes(&bytes[..*len]).is_ok())
            .collect();
        assert!(whole_steps.len() < STEPS_MAX, "only between steps: {whole_steps:?}");
        for (at, value) in [(7, 2), (24, 0xff), (32, 0xff), (39, 0), (39, 1)] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            assert!(ReplayCache::from_bytes(&bytes).is_err(), "byte {at}");
        }
        let twice = [&bytes[..], &bytes[24..]].concat();
        assert!(ReplayCache::from_bytes(&twice).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_cache_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [&VERSION.to_be_bytes()[..], &bytes].concat();
            if let Ok(cache) = ReplayCache::from_bytes(&bytes) {
                prop_assert!(cache.to_bytes().len() == bytes.len());
            }
        }
    }
}
