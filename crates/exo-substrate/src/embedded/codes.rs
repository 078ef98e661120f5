//! One bit a component: which vectors are worth an exact score.
//!
//! A vector v is kept as the signs of u = v - c around the collection's mean c, and the length of
//! u. The share of differing signs estimates the angle between u and the query q, and with it
//! q.v = q.c + |q| |u| cos for the inner product and |q - v|^2 = |q - c|^2 + |u|^2 - 2 |q - c| |u| cos
//! for the distance; terms that are the same for every vector are left out. Centring matters for
//! vectors whose components all have one sign: their plain signs would all be equal.

use exo_types::Metric;
use pulp::{Arch, Simd, WithSimd};

/// The signs and lengths of a segment's vectors around a centre.
#[derive(Debug)]
pub(super) struct Codes {
    words: Vec<u64>,
    lengths: Vec<f32>,
}

impl Codes {
    /// Encodes vectors that lie one after another, each as long as the centre.
    pub(super) fn new(vectors: &[f32], center: &[f32]) -> Self {
        let dimensions = center.len().max(1);
        let count = vectors.len() / dimensions;
        let mut words = Vec::with_capacity(count * center.len().div_ceil(64));
        let mut lengths = Vec::with_capacity(count);
        for vector in vectors.chunks_exact(dimensions) {
            lengths.push(encode(vector, center, &mut words));
        }
        Self { words, lengths }
    }

    /// Vectors encoded.
    pub(super) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Memory, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.words.len() * 8 + self.lengths.len() * 4
    }
}

/// A query, ready to estimate scores.
#[derive(Debug)]
pub(super) struct CodeQuery {
    words: Vec<u64>,
    /// By the number of differing signs: what a vector's length is multiplied with.
    factors: Vec<f32>,
    /// 1 where the square of the length counts against a vector, 0 where it does not.
    square: f32,
}

impl CodeQuery {
    /// Prepares a query (of unit length for cosine) around a centre.
    pub(super) fn new(metric: Metric, query: &[f32], center: &[f32]) -> Self {
        let dimensions = query.len().max(1);
        let mut words = Vec::new();
        // The inner product meets the query itself, the distance its difference from the centre.
        // For cosine all vectors have length one, where both orders agree: take the distance.
        let (length, square) = match metric {
            Metric::Dot => (encode(query, &vec![0.0; query.len()], &mut words), 0.0),
            Metric::Cosine | Metric::L2 => (2.0 * encode(query, center, &mut words), 1.0),
        };
        let factors = (0..=dimensions)
            .map(|h| length * (std::f32::consts::PI * h as f32 / dimensions as f32).cos())
            .collect();
        Self { words, factors, square }
    }

    /// Estimates for the vectors from `start` on, one into each item of `estimates`. A higher one
    /// promises a higher score; the estimates are no scores themselves.
    pub(super) fn estimate(&self, codes: &Codes, start: usize, estimates: &mut [f32]) {
        Arch::new().dispatch(Estimate { query: self, codes, start, estimates });
    }
}

struct Estimate<'a> {
    query: &'a CodeQuery,
    codes: &'a Codes,
    start: usize,
    estimates: &'a mut [f32],
}

impl WithSimd for Estimate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let stride = self.query.words.len();
        let words = &self.codes.words[self.start * stride..];
        let lengths = &self.codes.lengths[self.start..];
        let rows = words.chunks_exact(stride.max(1)).zip(lengths);
        for (estimate, (row, length)) in self.estimates.iter_mut().zip(rows) {
            let pairs = row.iter().zip(&self.query.words);
            let differing: u32 = pairs.map(|(a, b)| (a ^ b).count_ones()).sum();
            let factor = self.query.factors[differing as usize];
            *estimate = length * (factor - self.query.square * length);
        }
    }
}

/// Appends the signs of a vector around a centre; answers the length of the difference.
fn encode(vector: &[f32], center: &[f32], words: &mut Vec<u64>) -> f32 {
    let mut square = 0.0_f64;
    for (vector, center) in vector.chunks(64).zip(center.chunks(64)) {
        let mut word = 0_u64;
        for (bit, (x, c)) in vector.iter().zip(center).enumerate() {
            let difference = f64::from(*x) - f64::from(*c);
            square += difference * difference;
            word |= u64::from(difference > 0.0) << bit;
        }
        words.push(word);
    }
    square.sqrt().min(LENGTH_MAX) as f32
}

/// Lengths are held where their squares are still finite.
const LENGTH_MAX: f64 = 1e18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_ranks_the_same_vector_before_its_opposite() {
        let near: Vec<f32> = (0..100).map(|i| if i % 3 == 0 { 1.0 } else { -1.0 }).collect();
        let far: Vec<f32> = near.iter().map(|x| -x).collect();
        let center = vec![0.0; 100];
        let codes = Codes::new(&[far, near.clone()].concat(), &center);
        for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
            let mut estimates = [0.0; 2];
            CodeQuery::new(metric, &near, &center).estimate(&codes, 0, &mut estimates);
            assert!(estimates[1] > estimates[0], "{metric:?} {estimates:?}");
        }
    }

    #[test]
    fn extreme_components_give_finite_estimates() {
        let vectors = vec![f32::MAX; 140];
        let center = vec![f32::MIN; 70];
        let codes = Codes::new(&vectors, &center);
        let mut estimates = [0.0; 2];
        CodeQuery::new(Metric::L2, &vectors[..70], &center).estimate(&codes, 0, &mut estimates);
        assert!(estimates.iter().all(|e| !e.is_nan()), "{estimates:?}");
    }
}
