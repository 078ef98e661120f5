//! Full text: term statistics and BM25 by given ones.
//!
//! Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with
//! the inverse document frequency kept positive: ln(1 + (N - n + 0.5) / (n + 0.5)). A record that
//! contains any term of the query is scored; terms repeated in the query count once.

use std::sync::Arc;

use exo_types::TermStats;
use rusqlite::Connection;

use super::best::Best;
use super::bits::Bits;
use super::postings::{Posting, Postings};
use super::schema::Place;
use super::state::State;
use crate::error::SubstrateError;

/// The text index of one collection in one committed state, read through one connection.
pub(super) struct TextIndex<'a> {
    /// The connection, in a transaction of that state.
    pub(super) connection: &'a Connection,
    /// Where errors point to.
    pub(super) place: &'a Place,
    /// The collection's number.
    pub(super) number: i64,
    /// The state.
    pub(super) state: &'a State,
}

impl TextIndex<'_> {
    /// How often these terms (sorted) occur.
    pub(super) fn stats(&self, terms: &[String]) -> Result<TermStats, SubstrateError> {
        let mut counts = Vec::with_capacity(terms.len());
        for term in terms {
            counts.push((term.clone(), self.postings(term)?.len() as u64));
        }
        Ok(TermStats {
            records: self.state.records as u64,
            tokens: self.state.tokens,
            terms: counts,
        })
    }

    /// The best `top_k` positions and scores for these terms (sorted), by the statistics given or
    /// by own ones. A term that given statistics do not know is not scored.
    pub(super) fn search(
        &self,
        terms: &[String],
        given: Option<&TermStats>,
        admitted: Option<&[Bits]>,
        top_k: usize,
    ) -> Result<Vec<(f32, u32)>, SubstrateError> {
        let own;
        let stats = match given {
            Some(given) => given,
            None => {
                own = self.stats(terms)?;
                &own
            }
        };
        let bm25 = Bm25::new(stats);
        // Terms are added in sorted order at every source, so that equal records have equal sums.
        let mut sums = vec![0.0_f64; self.state.positions()];
        for term in terms {
            let Ok(known) = stats.terms.binary_search_by(|(name, _)| name.cmp(term)) else {
                continue;
            };
            let idf = bm25.idf(stats.terms[known].1);
            self.add(&self.postings(term)?, admitted, &mut sums, |count, tokens| {
                idf * bm25.saturation(count, tokens)
            });
        }
        let mut best = Best::new(top_k, |at| self.state.id(at));
        for (at, sum) in sums.iter().enumerate() {
            if *sum > 0.0 {
                best.offer(*sum as f32, at as u32);
            }
        }
        Ok(best.finish())
    }

    fn add(
        &self,
        postings: &[Posting],
        admitted: Option<&[Bits]>,
        sums: &mut [f64],
        score: impl Fn(u32, u32) -> f64,
    ) {
        let mut rest = postings;
        for (at, entry) in self.state.entries.iter().enumerate() {
            let end = entry.base + entry.segment.len() as u32;
            let (here, after) = rest.split_at(rest.partition_point(|posting| posting.at < end));
            rest = after;
            for posting in here {
                let within = (posting.at - entry.base) as usize;
                if admitted.is_none_or(|admitted| admitted[at].contains(within)) {
                    sums[posting.at as usize] += score(posting.count, entry.segment.tokens(within));
                }
            }
        }
    }

    fn postings(&self, term: &str) -> Result<Postings, SubstrateError> {
        if let Some(known) = self.state.postings.get(term) {
            return Ok(known);
        }
        let postings: Postings = Arc::from(self.decode(term)?);
        self.state.postings.keep(term, &postings);
        Ok(postings)
    }

    /// Reads a term's occurrences from the index, one row each, in ascending order of records.
    fn decode(&self, term: &str) -> Result<Vec<Posting>, SubstrateError> {
        let failed = self.place.failed("searching its text");
        let sql = format!("SELECT doc FROM term_{} WHERE term = ?1", self.number);
        let mut statement = self.connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement.query([term]).map_err(failed)?;
        let mut postings: Vec<Posting> = Vec::new();
        let mut last = None;
        while let Some(row) = rows.next().map_err(failed)? {
            let row: i64 = row.get(0).map_err(failed)?;
            if last == Some(row)
                && let Some(posting) = postings.last_mut()
            {
                posting.count = posting.count.saturating_add(1);
                continue;
            }
            let Some((entry, within)) = self.state.find(row) else {
                return Err(self.place.damaged("its text index names a record it does not hold"));
            };
            let at = self.state.entries[entry].base + within as u32;
            if postings.last().is_some_and(|posting| posting.at >= at) {
                return Err(self.place.damaged("its text index is out of order"));
            }
            postings.push(Posting { at, count: 1 });
            last = Some(row);
        }
        Ok(postings)
    }
}

/// The formula with its collection-wide part worked out.
struct Bm25 {
    records: f64,
    tokens_mean: f64,
}

impl Bm25 {
    fn new(stats: &TermStats) -> Self {
        let mean = stats.tokens as f64 / stats.records.max(1) as f64;
        Self { records: stats.records as f64, tokens_mean: if mean > 0.0 { mean } else { 1.0 } }
    }

    /// The weight of a term that `holding` records contain.
    fn idf(&self, holding: u64) -> f64 {
        // Statistics can be older than a record: never below zero.
        let without = (self.records - holding as f64).max(0.0);
        ((without + 0.5) / (holding as f64 + 0.5)).ln_1p()
    }

    /// How much `count` occurrences in a record of `tokens` tokens tell.
    fn saturation(&self, count: u32, tokens: u32) -> f64 {
        let count = f64::from(count);
        let length = 1.0 - B + B * f64::from(tokens) / self.tokens_mean;
        count * (K1 + 1.0) / (count + K1 * length)
    }
}

/// How soon further occurrences of a term stop telling more; the usual value.
const K1: f64 = 1.2;
/// How much a record's length counts against it; the usual value.
const B: f64 = 0.75;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_gives_its_known_values() {
        let stats = TermStats { records: 10, tokens: 100, terms: Vec::new() };
        let bm25 = Bm25::new(&stats);
        assert!((bm25.idf(2) - (1.0_f64 + 8.5 / 2.5).ln()).abs() < 1e-12);
        assert!((bm25.saturation(1, 10) - 1.0).abs() < 1e-12);
        assert!((bm25.saturation(3, 20) - 6.6 / (3.0 + 1.2 * 1.75)).abs() < 1e-12);
        assert!(bm25.idf(11) > 0.0);
        assert!(Bm25::new(&TermStats::default()).saturation(1, 5).is_finite());
    }
}
