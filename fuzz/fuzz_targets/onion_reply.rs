//! What comes out of the reply to an onion packet, and the signed answer in it.
#![no_main]

use exo_node::question::{AnswerSet, Reply};
use exo_types::limits::{
    COLLECTIONS_PER_QUERY_MAX, HIT_TEXT_BYTES_MAX, QUERY_TERMS_MAX, TOP_K_MAX,
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    match exo_fuzz::wire::<Reply>(data) {
        Some(Reply::Terms(stats)) => assert!(stats.terms.len() <= QUERY_TERMS_MAX),
        Some(Reply::Answer(signed)) => {
            if let Ok(set) = signed.claimed() {
                bounded(&set);
            }
        }
        Some(Reply::Refused(_)) | None => {}
    }
    exo_fuzz::signed::<AnswerSet>(data);
    if let Some(set) = exo_fuzz::wire::<AnswerSet>(data) {
        bounded(&set);
    }
});

fn bounded(set: &AnswerSet) {
    assert!(set.legs.len() <= 2 * COLLECTIONS_PER_QUERY_MAX);
    for leg in &set.legs {
        assert!(leg.hits.len() <= TOP_K_MAX);
        let holds =
            |hit: &exo_types::Hit| hit.score.is_finite() && hit.text.len() <= HIT_TEXT_BYTES_MAX;
        assert!(leg.hits.iter().all(holds));
    }
}
