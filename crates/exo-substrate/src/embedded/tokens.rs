//! Splits a query's text exactly as the text index splits records.

use std::collections::HashSet;

use exo_types::limits::{QUERY_TERMS_MAX, QUERY_TEXT_BYTES_MAX};
use rusqlite::Connection;

use super::schema::TOKENIZER;

/// The text index's own tokenizer, reached through an index in memory that holds one text at a
/// time. Signs that are operators in the index's query language are separators here, no more.
#[derive(Debug)]
pub(super) struct Tokenizer {
    connection: Connection,
}

impl Tokenizer {
    /// Makes a tokenizer.
    pub(super) fn new() -> rusqlite::Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(&format!(
            "CREATE VIRTUAL TABLE query USING fts5(text, tokenize='{TOKENIZER}');
             CREATE VIRTUAL TABLE term USING fts5vocab(query, instance);"
        ))?;
        Ok(Self { connection })
    }

    /// The first [`QUERY_TERMS_MAX`] distinct terms of a text, sorted.
    pub(super) fn terms(&mut self, text: &str) -> rusqlite::Result<Vec<String>> {
        // Rolled back at the end: the index is empty again for the next text.
        let transaction = self.connection.transaction()?;
        transaction
            .prepare_cached("INSERT INTO query (rowid, text) VALUES (1, ?1)")?
            .execute([text])?;
        let mut terms = Vec::new();
        {
            let mut read =
                transaction.prepare_cached("SELECT term FROM term ORDER BY \"offset\"")?;
            let mut rows = read.query([])?;
            let mut seen = HashSet::new();
            while let Some(row) = rows.next()? {
                let term: String = row.get(0)?;
                // A letter can be longer without its case: a term must still fit a message.
                if term.len() <= QUERY_TEXT_BYTES_MAX && seen.insert(term.clone()) {
                    terms.push(term);
                    if terms.len() == QUERY_TERMS_MAX {
                        break;
                    }
                }
            }
        }
        transaction.rollback()?;
        terms.sort_unstable();
        Ok(terms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_diacritics_endings_and_repeats_fall_away() {
        let mut tokenizer = Tokenizer::new().expect("opens");
        let terms = tokenizer.terms("Files, FILE café Café filing").expect("splits");
        assert_eq!(terms, ["cafe", "file"]);
        assert_eq!(tokenizer.terms("日本語 χ2").expect("splits"), ["χ2", "日本語"]);
    }

    #[test]
    fn operators_are_separators_and_an_earlier_text_leaves_nothing() {
        let mut tokenizer = Tokenizer::new().expect("opens");
        assert_eq!(
            tokenizer.terms("\"a* OR (b NEAR/2 c) title:d ^e\" AND -f'; --\0g").expect("splits"),
            ["2", "a", "and", "b", "c", "d", "e", "f", "g", "near", "or", "titl"]
        );
        assert_eq!(tokenizer.terms("x").expect("splits"), ["x"]);
        assert_eq!(tokenizer.terms(" .,;*\"'() ").expect("splits"), [""; 0]);
    }

    #[test]
    fn only_the_first_terms_count() {
        let mut tokenizer = Tokenizer::new().expect("opens");
        let text: Vec<String> = (0..200).rev().map(|i| format!("t{i:03}")).collect();
        let terms = tokenizer.terms(&text.join(" ")).expect("splits");
        assert_eq!(terms.len(), QUERY_TERMS_MAX);
        assert_eq!((terms[0].as_str(), terms[63].as_str()), ("t136", "t199"));
        // Two bytes a letter, and three without case.
        let grown = "\u{23a}".repeat(QUERY_TEXT_BYTES_MAX / 2);
        assert_eq!(tokenizer.terms(&format!("{grown} x")).expect("splits"), ["x"]);
    }
}
