//! A set of record positions, one bit each.

/// A fixed number of positions, each in or out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    /// `len` positions, none in.
    pub(super) fn none(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len }
    }

    /// `len` positions, all in.
    pub(super) fn all(len: usize) -> Self {
        let mut bits = Self { words: vec![u64::MAX; len.div_ceil(64)], len };
        if !len.is_multiple_of(64)
            && let Some(last) = bits.words.last_mut()
        {
            *last = (1 << (len % 64)) - 1;
        }
        bits
    }

    /// Whether a position is in; one past the end never is.
    pub(super) fn contains(&self, at: usize) -> bool {
        self.words.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// Puts a position in.
    pub(super) fn insert(&mut self, at: usize) {
        debug_assert!(at < self.len);
        self.words[at / 64] |= 1 << (at % 64);
    }

    /// Takes a position out; answers whether it was in.
    pub(super) fn remove(&mut self, at: usize) -> bool {
        let was = self.contains(at);
        if was {
            self.words[at / 64] &= !(1 << (at % 64));
        }
        was
    }

    /// Keeps what is in both.
    pub(super) fn intersect(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
    }

    /// How many are in.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_go_in_and_out() {
        for len in [0, 1, 63, 64, 65, 200] {
            let mut bits = Bits::all(len);
            assert_eq!(bits.count(), len);
            assert!(!bits.contains(len));
            if len > 0 {
                assert!(bits.remove(len - 1));
                assert!(!bits.remove(len - 1));
                assert_eq!(bits.count(), len - 1);
                bits.insert(len - 1);
            }
            assert_eq!(bits, Bits::all(len));
            bits.intersect(&Bits::none(len));
            assert_eq!(bits.count(), 0);
        }
    }
}
