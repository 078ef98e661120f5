//! Four words for people to compare or read out: 44 bits, out of the 2048 English words of BIP-39.
//!
//! No two words of that list share their first four letters. 44 bits are not a fingerprint to pin:
//! with some twenty years of one core anybody can make a key whose words are yours. They suffice where an
//! attacker has one try, as in [`sas`](crate::sas).

use std::fmt;
use std::str::FromStr;

use bip39::Language;
use exo_types::PeerId;

use crate::hash::{HASH_BYTES, hash};
use crate::label::Label;

/// Four words. In text separated by one space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Words([u16; WORDS]);

/// Why a text is not four words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// More or fewer than four.
    #[error("there must be {WORDS} words, not {0}")]
    Count(usize),
    /// A word that is not on the list.
    #[error("word {position}, {word:?}, is not one of the words used here{}", hint(*.meant))]
    Unknown {
        /// Its place, from 1.
        position: usize,
        /// The word as given, cut to the longest that is shown.
        word: String,
        /// The word on the list with the same first four letters.
        meant: Option<&'static str>,
    },
}

impl Words {
    /// The words of the first 44 bits of a hash.
    pub fn from_hash(hash: &[u8; HASH_BYTES]) -> Self {
        let [a, b, c, d, e, f, ..] = *hash;
        let bits = u64::from_be_bytes([0, 0, a, b, c, d, e, f]) >> 4;
        Self([33, 22, 11, 0].map(|shift| (bits >> shift) as u16 & WORD_MASK))
    }

    /// The words one by one.
    pub fn as_strs(&self) -> [&'static str; WORDS] {
        let list = Language::English.word_list();
        self.0.map(|index| list[usize::from(index & WORD_MASK)])
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_strs().join(" "))
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Words({self})")
    }
}

impl FromStr for Words {
    type Err = WordsError;

    /// Reads four words in any case, separated by any white space.
    fn from_str(text: &str) -> Result<Self, WordsError> {
        let count = text.split_whitespace().count();
        if count != WORDS {
            return Err(WordsError::Count(count));
        }
        let mut words = [0; WORDS];
        for (position, (slot, word)) in words.iter_mut().zip(text.split_whitespace()).enumerate() {
            *slot = index_of(word).ok_or_else(|| WordsError::Unknown {
                position: position + 1,
                word: word.chars().take(WORD_SHOWN_CHARS_MAX).collect(),
                meant: similar(word),
            })?;
        }
        Ok(Self(words))
    }
}

/// The words of a member's identity, to recognise it by; never to prove it.
pub fn fingerprint_words(peer: PeerId) -> Words {
    Words::from_hash(&hash(Label::FINGERPRINT, &[peer.as_bytes()]))
}

fn index_of(word: &str) -> Option<u16> {
    let word = word.to_lowercase();
    // The list is sorted.
    let index = Language::English.word_list().binary_search(&word.as_str()).ok()?;
    u16::try_from(index).ok()
}

/// The word that shares the first four letters, which tell every word of the list from the others.
fn similar(word: &str) -> Option<&'static str> {
    let word = word.to_lowercase();
    let start = word.get(..4)?;
    Language::English.word_list().iter().find(|known| known.starts_with(start)).copied()
}

fn hint(meant: Option<&'static str>) -> String {
    meant.map(|meant| format!("; did you mean {meant:?}?")).unwrap_or_default()
}

const WORDS: usize = 4;
const WORD_MASK: u16 = 2047;
const WORD_SHOWN_CHARS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(first: [u8; 6]) -> Words {
        let mut hash = [0xee; 32];
        hash[..6].copy_from_slice(&first);
        Words::from_hash(&hash)
    }

    #[test]
    fn the_first_44_bits_choose_the_words_in_order() {
        assert_eq!(of([0; 6]).to_string(), "abandon abandon abandon abandon");
        assert_eq!(of([0xff; 6]).to_string(), "zoo zoo zoo zoo");
        // 00000000001 00000000010 00000000011 00000000100, then four bits that do not count.
        let words = of([0x00, 0x20, 0x08, 0x01, 0x80, 0x4f]);
        assert_eq!(words.to_string(), "ability able about above");
    }

    #[test]
    fn the_list_is_sorted_and_told_apart_by_four_letters() {
        let list = Language::English.word_list();
        assert!(list.is_sorted());
        let mut starts: Vec<_> = list.iter().map(|word| &word[..word.len().min(4)]).collect();
        starts.dedup();
        assert_eq!(starts.len(), list.len());
    }

    #[test]
    fn words_are_read_in_any_case_and_spacing() {
        let words: Words = "  Zoo\tABLE about\nabandon ".parse().expect("reads");
        assert_eq!(words.to_string(), "zoo able about abandon");
    }

    #[test]
    fn an_unknown_word_is_named_with_its_place_and_the_likely_one() {
        let error = "zoo able abuot abandon".parse::<Words>().expect_err("no such word");
        assert_eq!(error.to_string(), r#"word 3, "abuot", is not one of the words used here"#);
        let error = "zoo able about abandn".parse::<Words>().expect_err("no such word");
        assert_eq!(
            error.to_string(),
            r#"word 4, "abandn", is not one of the words used here; did you mean "abandon"?"#
        );
        let long = format!("zoo able about \u{1b}{}", "é".repeat(1000));
        let error = long.parse::<Words>().expect_err("no such word").to_string();
        assert!(error.chars().count() < 120 && !error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn another_number_of_words_is_refused() {
        for (text, count) in [("", 0), ("zoo", 1), ("zoo zoo zoo zoo zoo", 5)] {
            assert_eq!(text.parse::<Words>(), Err(WordsError::Count(count)));
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(first in any::<[u8; 6]>()) {
            let words = of(first);
            prop_assert_eq!(words.to_string().parse(), Ok(words));
        }

        #[test]
        fn any_of_the_44_bits_changes_the_words(first in any::<[u8; 6]>(), bit in 0..44usize) {
            let mut other = first;
            other[bit / 8] ^= 0x80 >> (bit % 8);
            prop_assert_ne!(of(first), of(other));
        }
    }
}
