//! The token of the local API in text: one token has one text.
#![no_main]

use exo_crypto::ApiToken;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(input) = std::str::from_utf8(data) {
        check(input);
    }
    check(&exo_fuzz::bech32m("exotoken", data));
});

fn check(input: &str) {
    if let Ok(token) = ApiToken::parse(input) {
        assert!(token.expose_text().eq_ignore_ascii_case(input));
        assert!(token.matches(input));
    }
}
