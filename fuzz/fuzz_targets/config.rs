//! The configuration file.
#![no_main]

use exo_federation::Config;
use exo_fuzz::memory;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(input) = std::str::from_utf8(data) else { return };
    let Ok(config) = memory::bounded(1024, data, || toml::from_str::<Config>(input)) else { return };
    let _ = config.addresses();
    let written = config.to_toml().expect("what was read is written");
    assert_eq!(toml::from_str::<Config>(&written).expect("what was written is read"), config);
});
