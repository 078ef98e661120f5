//! A token bucket: so many a second, and twice as many at once after a pause.

use std::time::Duration;

/// How much of a rate is left. Time is an argument and may stand still.
#[derive(Clone, Debug)]
pub(crate) struct Rate {
    /// Nanoseconds that one costs.
    cost: u64,
    /// Nanoseconds saved up, at most twice a second's worth.
    saved: u64,
    at: Duration,
}

impl Rate {
    /// A rate of `per_second` with its burst unspent; zero admits nothing.
    pub(crate) fn new(per_second: u32, now: Duration) -> Self {
        let cost = match per_second {
            0 => u64::MAX,
            per_second => SECOND / u64::from(per_second),
        };
        Self { cost, saved: BURST, at: now }
    }

    /// Takes one; `false` when the rate is used up.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let passed = u64::try_from(now.saturating_sub(self.at).as_nanos()).unwrap_or(u64::MAX);
        self.at = self.at.max(now);
        self.saved = self.saved.saturating_add(passed).min(BURST);
        match self.saved.checked_sub(self.cost) {
            Some(left) => {
                self.saved = left;
                true
            }
            None => false,
        }
    }
}

const SECOND: u64 = 1_000_000_000;
const BURST: u64 = 2 * SECOND;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(rate: &mut Rate, now: Duration) -> usize {
        std::iter::repeat_with(|| rate.take(now)).take_while(|took| *took).count()
    }

    #[test]
    fn a_burst_is_two_seconds_worth_and_then_the_rate_holds() {
        let start = Duration::from_secs(5);
        let mut rate = Rate::new(100, start);
        assert_eq!(taken(&mut rate, start), 200);
        assert_eq!(taken(&mut rate, start + Duration::from_millis(500)), 50);
        assert_eq!(taken(&mut rate, start), 0, "time that goes back gives nothing");
        assert_eq!(taken(&mut rate, start + Duration::from_secs(3600)), 200);
        assert_eq!(taken(&mut Rate::new(0, start), start), 0);
    }

    proptest! {
        #[test]
        fn no_schedule_gets_more_than_burst_and_rate(
            per_second in 1u32..2_000,
            steps in prop::collection::vec(0u64..50_000_000, 1..200),
        ) {
            let mut rate = Rate::new(per_second, Duration::ZERO);
            let (mut now, mut got) = (Duration::ZERO, 0);
            for step in steps {
                now += Duration::from_nanos(step);
                got += taken(&mut rate, now);
            }
            let most = (2.0 + now.as_secs_f64()) * f64::from(per_second) * 1.001 + 1.0;
            prop_assert!(got as f64 <= most, "{got} of {most}");
        }
    }
}
