//! A member's descriptor.
#![no_main]

use exo_node::descriptor::MemberDescriptor;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    exo_fuzz::signed::<MemberDescriptor>(data);
});
