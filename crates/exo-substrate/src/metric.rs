//! Scores of two vectors, the same bits on every machine.
//!
//! Members compare scores that each computed by itself, so the sum behind a score must not depend
//! on the processor. Products are added into 32 lanes in a fixed order and the lanes are folded in
//! halves; multiplication and addition stay separate roundings. Wider registers then run the same
//! additions faster without changing one bit of the result.

use exo_types::Metric;
use pulp::{Arch, Simd, WithSimd};

/// The score of a stored vector for a query: higher is better, always finite.
///
/// Both slices have the same length; components are finite. Cosine of a zero vector is 0.
pub fn score(metric: Metric, query: &[f32], vector: &[f32]) -> f32 {
    Scorer::new(metric, query).score(&prepared(metric, vector))
}

/// A vector as it is kept for scoring: of unit length for cosine, as given otherwise.
pub fn prepared(metric: Metric, vector: &[f32]) -> Vec<f32> {
    match metric {
        Metric::Cosine => unit(vector),
        Metric::Dot | Metric::L2 => vector.to_vec(),
    }
}

/// One query, ready to score many prepared vectors.
#[derive(Clone, Debug)]
pub struct Scorer {
    metric: Metric,
    query: Vec<f32>,
}

impl Scorer {
    /// Prepares a query.
    pub fn new(metric: Metric, query: &[f32]) -> Self {
        Self { metric, query: prepared(metric, query) }
    }

    /// The prepared query.
    pub fn query(&self) -> &[f32] {
        &self.query
    }

    /// The score of one prepared vector.
    pub fn score(&self, vector: &[f32]) -> f32 {
        let mut scores = [0.0];
        self.score_rows(vector, &mut scores);
        scores[0]
    }

    /// The scores of prepared vectors that lie one after another, one into each item of `scores`.
    pub fn score_rows(&self, rows: &[f32], scores: &mut [f32]) {
        Arch::new().dispatch(ScoreRows { scorer: self, rows, scores });
    }

    /// The scores of the prepared vectors at `picks`, in vectors, not components.
    pub fn score_picks(&self, rows: &[f32], picks: &[u32], scores: &mut [f32]) {
        Arch::new().dispatch(ScorePicks { scorer: self, rows, picks, scores });
    }

    #[inline(always)]
    fn score_one(&self, vector: &[f32]) -> f32 {
        match self.metric {
            Metric::Cosine => dot(&self.query, vector).clamp(-1.0, 1.0) + 0.0,
            Metric::Dot => {
                let sum = dot(&self.query, vector);
                if sum.is_finite() { sum + 0.0 } else { dot_wide(&self.query, vector) }
            }
            Metric::L2 => {
                let sum = squares(&self.query, vector);
                let distance =
                    if sum.is_finite() { sum.sqrt() } else { distance_wide(&self.query, vector) };
                0.0 - distance
            }
        }
    }
}

struct ScoreRows<'a> {
    scorer: &'a Scorer,
    rows: &'a [f32],
    scores: &'a mut [f32],
}

impl WithSimd for ScoreRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let dimensions = self.scorer.query.len().max(1);
        for (score, row) in self.scores.iter_mut().zip(self.rows.chunks_exact(dimensions)) {
            *score = self.scorer.score_one(row);
        }
    }
}

struct ScorePicks<'a> {
    scorer: &'a Scorer,
    rows: &'a [f32],
    picks: &'a [u32],
    scores: &'a mut [f32],
}

impl WithSimd for ScorePicks<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let dimensions = self.scorer.query.len();
        for (score, &pick) in self.scores.iter_mut().zip(self.picks) {
            let start = pick as usize * dimensions;
            *score = self.scorer.score_one(&self.rows[start..start + dimensions]);
        }
    }
}

/// Inner product in 32 lanes.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    fold(a, b, |x, y| x * y)
}

/// Sum of squared differences in 32 lanes.
#[inline(always)]
fn squares(a: &[f32], b: &[f32]) -> f32 {
    fold(a, b, |x, y| (x - y) * (x - y))
}

// Whole arrays by value, never lane by lane in place: so the compiler keeps the lanes in registers,
// which makes a scan five times as fast.
#[inline(always)]
fn fold(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        lanes = std::array::from_fn(|lane| lanes[lane] + term(x[lane], y[lane]));
    }
    for (lane, (x, y)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += term(*x, *y);
    }
    let lanes: [f32; 16] = halve(lanes);
    let lanes: [f32; 8] = halve(lanes);
    let lanes: [f32; 4] = halve(lanes);
    let [a, b] = halve(lanes);
    a + b
}

/// Adds the second half of the lanes to the first.
#[inline(always)]
fn halve<const N: usize, const HALF: usize>(lanes: [f32; N]) -> [f32; HALF] {
    std::array::from_fn(|lane| lanes[lane] + lanes[lane + HALF])
}

/// Inner product where the 32-bit sum overflows: in 64 bits, held within the finite 32-bit range.
#[cold]
fn dot_wide(a: &[f32], b: &[f32]) -> f32 {
    let sum: f64 = a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
    finite(sum)
}

/// Euclidean distance where the 32-bit sum overflows.
#[cold]
fn distance_wide(a: &[f32], b: &[f32]) -> f32 {
    let sum: f64 = a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    finite(sum.sqrt())
}

fn finite(wide: f64) -> f32 {
    wide.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

/// A vector of length one in the same direction; a zero vector stays zero.
fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if norm == 0.0 {
        return vec![0.0; vector.len()];
    }
    vector.iter().map(|x| (f64::from(*x) / norm) as f32).collect()
}

/// Lanes of a sum. Changing this changes scores in their last bits.
const LANES: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same additions in the same order, written without blocks.
    fn plainly(a: &[f32], b: &[f32]) -> f32 {
        let mut lanes = [0.0_f32; LANES];
        for (at, (x, y)) in a.iter().zip(b).enumerate() {
            lanes[at % LANES] += x * y;
        }
        for width in [16, 8, 4, 2, 1] {
            for lane in 0..width {
                lanes[lane] += lanes[lane + width];
            }
        }
        lanes[0]
    }

    #[test]
    fn scores_of_known_vectors() {
        let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-6, "{a} {b}");
        near(score(Metric::Cosine, &[3.0, 4.0], &[30.0, 40.0]), 1.0);
        near(score(Metric::Cosine, &[1.0, 0.0], &[-2.0, 0.0]), -1.0);
        near(score(Metric::Dot, &[1.0, 2.0], &[3.0, 4.0]), 11.0);
        near(score(Metric::L2, &[1.0, 2.0], &[4.0, 6.0]), -5.0);
    }

    #[test]
    fn a_zero_vector_scores_zero_under_cosine() {
        assert_eq!(score(Metric::Cosine, &[0.0, 0.0], &[1.0, 2.0]).to_bits(), 0);
        assert_eq!(score(Metric::Cosine, &[1.0, 2.0], &[0.0, 0.0]).to_bits(), 0);
    }

    #[test]
    fn extreme_components_still_score_finitely() {
        for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
            for (a, b) in [(f32::MAX, f32::MAX), (f32::MAX, f32::MIN), (1e-40, f32::MAX)] {
                let query = [a; 70];
                let mut vector = [b; 70];
                vector[3] = -b;
                assert!(score(metric, &query, &vector).is_finite(), "{metric:?} {a} {b}");
            }
        }
        assert!(score(Metric::Cosine, &[1e-40; 4], &[1e-40; 4]) > 0.99);
    }

    #[test]
    fn a_score_has_these_bits_on_every_machine() {
        let a: Vec<f32> = (0..387).map(|i| ((i * 37 % 101) as f32 - 50.0) / 17.0).collect();
        let b: Vec<f32> = (0..387).map(|i| ((i * 53 % 97) as f32 - 40.0) / 13.0).collect();
        let bits = [Metric::Cosine, Metric::Dot, Metric::L2].map(|m| score(m, &a, &b).to_bits());
        assert_eq!(bits, FROZEN_BITS);
    }

    /// Worked out apart from this code, with the same roundings one by one.
    const FROZEN_BITS: [u32; 3] = [1_024_229_572, 1_112_309_018, 3_260_714_649];

    proptest! {
        #[test]
        fn blocks_and_wide_registers_change_no_bit(
            pairs in prop::collection::vec((-9.0_f32..9.0, -9.0_f32..9.0), 1..200)
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            prop_assert_eq!(score(Metric::Dot, &a, &b).to_bits(), (plainly(&a, &b) + 0.0).to_bits());
        }

        #[test]
        fn rows_and_picks_score_alike(
            rows in prop::collection::vec(-9.0_f32..9.0, 5 * 7),
            query in prop::collection::vec(-9.0_f32..9.0, 7),
        ) {
            let scorer = Scorer::new(Metric::L2, &query);
            let mut all = [0.0; 5];
            scorer.score_rows(&rows, &mut all);
            let mut some = [0.0; 2];
            scorer.score_picks(&rows, &[4, 1], &mut some);
            prop_assert_eq!(some, [all[4], all[1]]);
        }
    }
}
