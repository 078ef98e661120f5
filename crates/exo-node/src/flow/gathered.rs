//! Term statistics of many sources as one, whatever some of them make up.

use std::collections::BTreeMap;

use exo_types::TermStats;
use exo_types::limits::{MEMBERS_MAX, QUERY_TERMS_MAX};

/// Term statistics of all sources. Each names the words that it split the text into, which are the
/// same at every honest one.
#[derive(Default)]
pub(super) struct GatheredTerms {
    records: u64,
    tokens: u64,
    /// By word: how many sources name it, this node's own counting more than all others together,
    /// and how many records hold it.
    words: BTreeMap<String, (usize, u64)>,
}

impl GatheredTerms {
    /// Adds what a source says, its words with the weight of its word.
    pub(super) fn add(&mut self, stats: &TermStats, weight: usize) {
        self.records = self.records.saturating_add(stats.records);
        self.tokens = self.tokens.saturating_add(stats.tokens);
        for (word, records) in &stats.terms {
            let (named, sum) = self.words.entry(word.clone()).or_default();
            *named += weight;
            *sum = sum.saturating_add(*records);
        }
    }

    /// The sum for a text of so many bytes: of the words that this node itself split it into, where those
    /// are in, otherwise of those that most sources name and that such a text has room for. Words that a
    /// source makes up neither take the place of the query's nor make the question too long to be asked.
    pub(super) fn sum(&self, text_bytes: usize) -> TermStats {
        let own = self.words.values().any(|(named, _)| *named >= MEMBERS_MAX);
        let counts = |named: usize| !own || named >= MEMBERS_MAX;
        let mut words: Vec<_> =
            self.words.iter().filter(|(_, (named, _))| counts(*named)).collect();
        words.sort_by_key(|(_, (named, _))| std::cmp::Reverse(*named));
        // Lower case may be longer than what was written.
        let mut room = 2 * text_bytes;
        words.retain(|(word, _)| {
            let fits = word.len() <= room;
            room -= if fits { word.len() } else { 0 };
            fits
        });
        words.truncate(QUERY_TERMS_MAX);
        words.sort();
        let terms = words.into_iter().map(|(word, (_, records))| (word.clone(), *records));
        TermStats { records: self.records, tokens: self.tokens, terms: terms.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(words: impl IntoIterator<Item = String>) -> TermStats {
        let mut terms: Vec<_> = words.into_iter().map(|word| (word, 1)).collect();
        terms.sort();
        TermStats { records: 10, tokens: 100, terms }
    }

    fn summed(gathered: &GatheredTerms, text_bytes: usize) -> Vec<String> {
        gathered.sum(text_bytes).terms.into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn words_that_a_source_makes_up_do_not_count() {
        let query = || ["brown", "fox"].map(str::to_owned);
        let made_up = |len: usize| (0..60).map(move |n| format!("{n:0len$}")).chain(query());
        let mut gathered = GatheredTerms::default();
        gathered.add(&stats(made_up(8_000)), 1);
        gathered.add(&stats(query()), 1);
        assert_eq!(summed(&gathered, 9), query(), "none so long is in a text of nine bytes");
        gathered.add(&stats(made_up(2)), 1);
        assert_eq!(summed(&gathered, 4), query(), "most sources name these");
        gathered.add(&stats(query()), MEMBERS_MAX);
        assert_eq!(
            summed(&gathered, 9_000),
            query(),
            "whatever has room, this node knows its words"
        );
    }
}
