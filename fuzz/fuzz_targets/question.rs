//! A question as it comes out of an onion packet, from somebody unknown.
#![no_main]

use exo_node::question::Question;
use exo_types::limits::{
    DIMENSIONS_MAX, FILTER_CONDITIONS_MAX, QUERY_TERMS_MAX, QUERY_TEXT_BYTES_MAX, TOP_K_MAX,
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    match exo_fuzz::wire::<Question>(data) {
        Some(Question::Terms(of)) => assert!(of.text.len() <= QUERY_TEXT_BYTES_MAX),
        Some(Question::Search(search)) => {
            assert!((1..=TOP_K_MAX).contains(&(search.top_k as usize)));
            assert!(search.target.vector.len() <= DIMENSIONS_MAX);
            assert!(search.target.text.len() <= QUERY_TEXT_BYTES_MAX);
            assert!(search.filter.all.len() <= FILTER_CONDITIONS_MAX);
            assert!(search.terms.is_none_or(|stats| stats.terms.len() <= QUERY_TERMS_MAX));
        }
        None => {}
    }
});
