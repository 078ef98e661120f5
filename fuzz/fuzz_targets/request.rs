//! A request as a node gets it from a peer.
#![no_main]

use exo_node::wire::Request;
use exo_types::limits::{
    CAPABILITIES_MAX, DIMENSIONS_MAX, FILTER_CONDITIONS_MAX, MEMBERS_MAX, ONION_PACKET_LARGE_BYTES,
    QUERY_TEXT_BYTES_MAX, TOP_K_MAX,
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    match exo_fuzz::wire::<Request>(data) {
        Some(Request::Search(request)) => {
            let search = &request.search;
            assert!((1..=TOP_K_MAX).contains(&(search.top_k as usize)));
            assert!(search.target.vector.len() <= DIMENSIONS_MAX);
            assert!(search.target.text.len() <= QUERY_TEXT_BYTES_MAX);
            assert!(search.filter.all.len() <= FILTER_CONDITIONS_MAX);
        }
        Some(Request::Sync(sync)) => assert!(sync.have.len() <= MEMBERS_MAX),
        Some(Request::Hello(hello)) => assert!(hello.capabilities.0.len() <= CAPABILITIES_MAX),
        Some(Request::Terms(terms)) => assert!(terms.of.text.len() <= QUERY_TEXT_BYTES_MAX),
        Some(Request::Onion(onion)) => assert!(onion.packet.len() <= ONION_PACKET_LARGE_BYTES),
        _ => {}
    }
});
