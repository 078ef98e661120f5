//! A federation token.
#![no_main]

use exo_node::token::FederationToken;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    exo_fuzz::signed::<FederationToken>(data);
});
