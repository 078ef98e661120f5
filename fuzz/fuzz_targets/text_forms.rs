//! Addresses, identifiers and names in text.
#![no_main]

use exo_fuzz::text;
use exo_types::limits::{HOST_BYTES_MAX, NODE_NAME_BYTES_MAX, RECORD_ID_BYTES_MAX};
use exo_types::{
    CollectionName, FederationId, NodeName, PeerAddress, PeerId, QueryId, RecordId, TokenId,
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(input) = std::str::from_utf8(data) else { return };
    if let Some(address) = text::<PeerAddress>(input) {
        assert!(!address.host.is_empty() && address.host.len() <= HOST_BYTES_MAX);
        assert_eq!(address.check(), Ok(()));
    }
    if let Some(id) = text::<PeerId>(input) {
        assert!(id.to_string().eq_ignore_ascii_case(input), "one identifier has one text");
        assert_eq!(id.as_bytes(), input.parse::<FederationId>().expect("same form").as_bytes());
    }
    text::<FederationId>(input);
    if let Some(id) = text::<QueryId>(input) {
        assert!(id.to_string().eq_ignore_ascii_case(input), "one identifier has one text");
    }
    text::<TokenId>(input);
    if let Some(name) = text::<NodeName>(input) {
        assert!(name.as_str().len() <= NODE_NAME_BYTES_MAX && name.as_str() == input);
    }
    text::<CollectionName>(input);
    if let Some(id) = text::<RecordId>(input) {
        assert!(id.as_str().len() <= RECORD_ID_BYTES_MAX && id.as_str() == input);
    }
});
