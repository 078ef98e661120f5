//! The hybrid logical clock: a pure function of what it has seen and of the time it is told.
//!
//! Its high-water mark is saved with whatever it stamps, in the same atomic write; restored from it, the
//! clock never repeats or undercuts a stamp, however far the machine's own clock was set back.

use exo_types::Timestamp;
use exo_types::limits::{CLOCK_DRIFT_MILLIS_MAX, STAMP_MILLIS_MAX};

use crate::stamp::Hlc;

/// A member's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Clock {
    high: Hlc,
}

/// What became of a remote stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folded {
    /// The clock is now at or after it.
    Folded,
    /// It is too far ahead of the local time, and the clock took no notice. Who signed it is not
    /// refused for it, only deferred: a refusal by one's own clock would part replicas for ever.
    Ahead {
        /// Milliseconds by which it is ahead.
        millis: u64,
    },
}

/// The clock has no further stamp: the year 10889, or a mark that was restored from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the clock has come to its last stamp")]
pub struct ClockAtEnd;

impl Clock {
    /// A clock that continues after a saved mark.
    pub fn restore(mark: Hlc) -> Self {
        Self { high: mark }
    }

    /// The high-water mark, to be saved before anything stamped with it is sent.
    pub fn mark(&self) -> Hlc {
        self.high
    }

    /// The next stamp: after every stamp given and folded before, and not before `now`.
    ///
    /// # Errors
    /// [`ClockAtEnd`].
    pub fn tick(&mut self, now: Timestamp) -> Result<Hlc, ClockAtEnd> {
        let next = self.high.next().ok_or(ClockAtEnd)?;
        self.high = next.max(Hlc::at(now));
        Ok(self.high)
    }

    /// Folds a remote stamp in, if it is at most [`CLOCK_DRIFT_MILLIS_MAX`] ahead of `now`.
    pub fn fold(&mut self, remote: Hlc, now: Timestamp) -> Folded {
        match ahead(remote, now) {
            Some(millis) => Folded::Ahead { millis },
            None => {
                self.high = self.high.max(remote);
                Folded::Folded
            }
        }
    }

    /// Folds in a time that a quorum agreed on: it is not bounded by one's own clock.
    pub fn fold_agreed(&mut self, agreed: Timestamp) {
        self.high = self.high.max(Hlc::at(agreed));
    }

    /// Folds in what a view showed: a write that answers it must be after it. A view shows nothing beyond
    /// the drift bound but what is under an agreed checkpoint.
    pub fn fold_seen(&mut self, seen: Hlc) {
        self.high = self.high.max(seen);
    }

    /// Milliseconds by which the clock's own stamps are ahead of `now`. Above the drift bound others
    /// defer what it stamps: an operator should know.
    pub fn ahead_millis(&self, now: Timestamp) -> u64 {
        self.high.millis().saturating_sub(now.0)
    }
}

/// By how many milliseconds a stamp is beyond the drift bound; `None` when it is within.
pub fn ahead(stamp: Hlc, now: Timestamp) -> Option<u64> {
    let latest = now.plus_millis(CLOCK_DRIFT_MILLIS_MAX).0.min(STAMP_MILLIS_MAX);
    (stamp.millis() > latest).then(|| stamp.millis() - now.0.min(STAMP_MILLIS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_grow_though_the_machines_clock_is_set_back() {
        let mut clock = Clock::default();
        let before = clock.tick(Timestamp(1_000_000)).expect("a stamp");
        let mut restarted = Clock::restore(clock.mark());
        let after = restarted.tick(Timestamp(10)).expect("a stamp");
        assert!(after > before);
        assert_eq!(after.millis(), 1_000_000);
        assert_eq!(restarted.ahead_millis(Timestamp(10)), 999_990);
    }

    #[test]
    fn a_stamp_is_folded_in_up_to_the_drift_bound() {
        let now = Timestamp(50_000);
        let mut clock = Clock::default();
        let edge = Hlc::new(55_000, u16::MAX);
        assert_eq!(clock.fold(edge, now), Folded::Folded);
        assert!(clock.tick(now).expect("a stamp") > edge);
        let mark = clock.mark();
        assert_eq!(clock.fold(Hlc::new(56_000, 0), now), Folded::Ahead { millis: 6_000 });
        assert_eq!(clock.fold(Hlc::MAX, now), Folded::Ahead { millis: STAMP_MILLIS_MAX - 50_000 });
        assert_eq!(clock.mark(), mark);
    }

    #[test]
    fn a_full_counter_runs_into_the_milliseconds_and_the_end_is_an_error() {
        let mut clock = Clock::restore(Hlc::new(7, u16::MAX));
        assert_eq!(clock.tick(Timestamp(3)), Ok(Hlc::new(8, 0)));
        assert_eq!(Clock::restore(Hlc::MAX).tick(Timestamp(3)), Err(ClockAtEnd));
    }
}
