//! An answer as an asker gets it from a peer.
#![no_main]

use exo_node::wire::Response;
use exo_types::limits::{
    COLLECTIONS_PER_QUERY_MAX, HIT_TEXT_BYTES_MAX, MEMBERS_MAX, METADATA_FIELDS_MAX,
    ONION_REPLY_LARGE_BYTES, QUERY_TERMS_MAX, TOP_K_MAX,
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    match exo_fuzz::wire::<Response>(data) {
        Some(Response::Answer { legs }) => {
            assert!(legs.len() <= 2 * COLLECTIONS_PER_QUERY_MAX);
            for leg in &legs {
                assert!(leg.hits.len() <= TOP_K_MAX);
                for hit in &leg.hits {
                    assert!(hit.score.is_finite() && hit.text.len() <= HIT_TEXT_BYTES_MAX);
                    assert!(hit.metadata.len() <= METADATA_FIELDS_MAX);
                }
            }
        }
        Some(Response::Synced(synced)) => assert!(synced.descriptors.len() <= MEMBERS_MAX),
        Some(Response::Terms(stats)) => assert!(stats.terms.len() <= QUERY_TERMS_MAX),
        Some(Response::Onion(chunks)) => assert!(chunks.len() <= ONION_REPLY_LARGE_BYTES),
        _ => {}
    }
});
