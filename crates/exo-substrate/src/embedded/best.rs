//! The best k of a stream of scores, ties decided by record id.

use std::cmp::Ordering;

/// Collects the best `k` of the scores offered: higher first, equal scores by id ascending.
///
/// Ids are looked up only where scores are equal.
pub(super) struct Best<'a, F: Fn(u32) -> &'a str> {
    k: usize,
    kept: Vec<(f32, u32)>,
    /// The worst score that can still enter; `None` while fewer than `k` have been cut to.
    bar: Option<(f32, u32)>,
    id: F,
}

impl<'a, F: Fn(u32) -> &'a str> Best<'a, F> {
    /// Collects `k` (at least one); `id` gives the id of a position.
    pub(super) fn new(k: usize, id: F) -> Self {
        let k = k.max(1);
        Self { k, kept: Vec::with_capacity(2 * k + SLACK), bar: None, id }
    }

    /// Offers one score.
    #[inline]
    pub(super) fn offer(&mut self, score: f32, at: u32) {
        if let Some(bar) = self.bar
            && (score < bar.0 || self.order(&(score, at), &bar).is_gt())
        {
            return;
        }
        self.kept.push((score, at));
        if self.kept.len() == 2 * self.k + SLACK {
            self.cut();
        }
    }

    /// The best, in order.
    pub(super) fn finish(mut self) -> Vec<(f32, u32)> {
        let mut kept = std::mem::take(&mut self.kept);
        kept.sort_unstable_by(|a, b| self.order(a, b));
        kept.truncate(self.k);
        kept
    }

    fn cut(&mut self) {
        let mut kept = std::mem::take(&mut self.kept);
        let (_, worst, _) = kept.select_nth_unstable_by(self.k - 1, |a, b| self.order(a, b));
        self.bar = Some(*worst);
        kept.truncate(self.k);
        self.kept = kept;
    }

    /// Less is better.
    fn order(&self, a: &(f32, u32), b: &(f32, u32)) -> Ordering {
        b.0.total_cmp(&a.0).then_with(|| {
            if a.1 == b.1 { Ordering::Equal } else { (self.id)(a.1).cmp((self.id)(b.1)) }
        })
    }
}

/// Room beyond twice k, so that small k do not cut at every step.
const SLACK: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_best_are_those_of_a_full_sort(
            scores in prop::collection::vec(0_u8..6, 0..400),
            k in 1_usize..40,
        ) {
            let ids: Vec<String> = (0..scores.len()).map(|i| format!("{:03}", i * 7 % 401)).collect();
            let mut best = Best::new(k, |at| ids[at as usize].as_str());
            for (at, score) in scores.iter().enumerate() {
                best.offer(f32::from(*score), at as u32);
            }
            let mut all: Vec<_> =
                scores.iter().enumerate().map(|(at, s)| (f32::from(*s), at as u32)).collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0).then(ids[a.1 as usize].cmp(&ids[b.1 as usize])));
            all.truncate(k);
            prop_assert_eq!(best.finish(), all);
        }
    }
}
