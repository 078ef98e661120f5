//! All arithmetic of votes.
//!
//! With `n` replicas up to `f = floor((n - 1) / 3)` may be faulty. A quorum is `ceil((n + f + 1) / 2)`
//! replicas: any two share `f + 1`, one of which is correct, and the correct ones alone are enough for
//! one. Where `n = 3f + 1` it is the `2f + 1` of Castro & Liskov; where it is not, `2f + 1` would let two
//! quorums share nobody (at `n = 6`, two disjoint ones of three).

use serde::{Deserialize, Serialize};

/// Fewer replicas than tolerate one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("agreement takes {needed} voting members, and there are {actual}")]
pub struct InsufficientPeers {
    /// The least number, [`VOTERS_MIN`].
    pub needed: usize,
    /// How many there are.
    pub actual: usize,
}

/// The thresholds among a number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Quorum {
    replicas: usize,
}

impl Quorum {
    /// The thresholds among `replicas`.
    ///
    /// # Errors
    /// [`InsufficientPeers`] below four.
    pub fn of(replicas: usize) -> Result<Self, InsufficientPeers> {
        if replicas < VOTERS_MIN {
            return Err(InsufficientPeers { needed: VOTERS_MIN, actual: replicas });
        }
        Ok(Self { replicas })
    }

    /// How many may be faulty.
    pub fn faults(self) -> usize {
        (self.replicas - 1) / 3
    }

    /// How many make a quorum.
    pub fn quorum(self) -> usize {
        (self.replicas + self.faults() + 1).div_ceil(2)
    }

    /// How many always contain a correct replica.
    pub fn weak(self) -> usize {
        self.faults() + 1
    }

    /// Whether so many replicas are a quorum.
    pub fn is_quorum(self, votes: usize) -> bool {
        votes >= self.quorum()
    }

    /// Whether so many replicas contain a correct one.
    pub fn is_weak(self, votes: usize) -> bool {
        votes >= self.weak()
    }

    /// The value that a quorum of these votes agrees on. There is at most one when each replica's vote
    /// is among them once.
    pub fn agreed<T: Copy + PartialEq>(
        self,
        votes: &(impl Iterator<Item = T> + Clone),
    ) -> Option<T> {
        let count = |value: T| votes.clone().filter(|vote| *vote == value).count();
        votes.clone().find(|value| self.is_quorum(count(*value)))
    }

    /// The highest value that a correct replica has reached when each of these is one replica's: the
    /// `f + 1`-th from the top.
    pub fn reached_by_correct<T: Ord>(self, values: impl Iterator<Item = T>) -> Option<T> {
        let mut values: Vec<T> = values.collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.into_iter().nth(self.faults())
    }
}

/// The least number of voting members.
pub const VOTERS_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use exo_types::limits::VOTERS_MAX;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn three_replicas_are_too_few() {
        assert_eq!(Quorum::of(3), Err(InsufficientPeers { needed: 4, actual: 3 }));
        assert_eq!(Quorum::of(0), Err(InsufficientPeers { needed: 4, actual: 0 }));
    }

    #[test]
    fn thresholds_of_small_groups() {
        let of = |n| {
            let q = Quorum::of(n).expect("enough");
            (q.faults(), q.quorum(), q.weak())
        };
        assert_eq!(of(4), (1, 3, 2));
        assert_eq!(of(5), (1, 4, 2));
        assert_eq!(of(6), (1, 4, 2));
        assert_eq!(of(7), (2, 5, 3));
        assert_eq!(of(10), (3, 7, 4));
        assert_eq!(of(31), (10, 21, 11));
    }

    proptest! {
        #[test]
        fn two_quorums_share_a_correct_replica(n in 4usize..=VOTERS_MAX, a in any::<u64>(), b in any::<u64>()) {
            let q = Quorum::of(n).expect("enough");
            // Two sets of exactly a quorum, chosen by the bits' order.
            let choose = |seed: u64| {
                let mut all: Vec<usize> = (0..n).collect();
                all.sort_by_key(|i| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(*i as u32 * 7));
                all.truncate(q.quorum());
                all
            };
            let (left, right) = (choose(a), choose(b));
            let shared = left.iter().filter(|i| right.contains(i)).count();
            prop_assert!(shared > q.faults());
        }

        #[test]
        fn quorums_intersect_correctly_and_the_correct_ones_suffice(n in 4usize..=1000) {
            let q = Quorum::of(n).expect("enough");
            prop_assert!(2 * q.quorum() > n + q.faults());
            prop_assert!(q.quorum() <= n - q.faults());
            prop_assert!(q.quorum() - q.faults() >= q.weak());
            prop_assert!(n > 3 * q.faults());
        }

        #[test]
        fn faulty_votes_alone_never_agree(n in 4usize..=VOTERS_MAX, value in any::<u8>()) {
            let q = Quorum::of(n).expect("enough");
            let votes = |count: usize| std::iter::repeat_n(value, count);
            prop_assert_eq!(q.agreed(&votes(q.faults())), None);
            prop_assert_eq!(q.agreed(&votes(q.quorum() - 1)), None);
            prop_assert_eq!(q.agreed(&votes(q.quorum())), Some(value));
        }

        #[test]
        fn what_a_correct_replica_reached_is_not_raised_by_liars(honest in prop::collection::vec(0u8..10, 3..30)) {
            let n = honest.len() + honest.len().saturating_sub(1) / 2;
            let Ok(q) = Quorum::of(n) else { return Ok(()) };
            let liars = std::iter::repeat_n(255u8, q.faults().min(n - honest.len()));
            let reached = q.reached_by_correct(honest.iter().copied().chain(liars));
            prop_assert!(reached.is_none_or(|r| r <= *honest.iter().max().expect("some")));
        }
    }
}
