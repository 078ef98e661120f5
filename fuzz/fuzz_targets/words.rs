//! Four words in text.
#![no_main]

use exo_crypto::Words;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(input) = std::str::from_utf8(data) else { return };
    if let Some(words) = exo_fuzz::text::<Words>(input) {
        assert_eq!(words.as_strs().len(), 4);
        let said: Vec<String> = input.split_whitespace().map(str::to_lowercase).collect();
        assert_eq!(said, words.as_strs());
    }
});
