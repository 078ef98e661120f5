//! Metadata and hits as they stand on disk and on the wire.
#![no_main]

use std::collections::BTreeMap;

use exo_fuzz::memory;
use exo_types::record::check_metadata;
use exo_types::{Leg, MetadataValue, TermStats};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(metadata) = postcard::from_bytes::<BTreeMap<String, MetadataValue>>(data)
        && check_metadata(&metadata).is_ok()
    {
        let bytes = postcard::to_allocvec(&metadata).expect("encodes");
        assert_eq!(postcard::from_bytes(&bytes), Ok(metadata));
    }
    if let Ok(leg) = memory::bounded(40, data, || postcard::from_bytes::<Leg>(data))
        && leg.check().is_ok()
    {
        let bytes = postcard::to_allocvec(&leg).expect("encodes");
        assert_eq!(postcard::from_bytes(&bytes), Ok(leg));
    }
    if let Ok((mut a, mut b)) = postcard::from_bytes::<(TermStats, TermStats)>(data)
        && a.check().is_ok()
        && b.check().is_ok()
    {
        let (first, second) = (a.clone(), b.clone());
        a.add(&second);
        b.add(&first);
        // Adding sorts and bounds; without a cut it is commutative.
        assert!(a.terms.is_sorted_by(|x, y| x.0 < y.0));
        assert_eq!(a, b);
    }
});
