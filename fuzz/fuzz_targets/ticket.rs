//! A ticket in text, and any content behind a right check sum.
#![no_main]

use exo_node::ticket::{TICKET_ADDRESSES_MAX, TICKET_CHARS_MAX, Ticket};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(input) = std::str::from_utf8(data) {
        check(input);
    }
    check(&exo_fuzz::bech32m("exo", data));
    // The same with whole bytes, which mutations find their way in.
    let hrp = bech32::Hrp::parse("exo").expect("parses");
    if let Ok(text) = bech32::encode::<bech32::Bech32m>(hrp, data)
        && let Some(ticket) = check(&text)
    {
        assert_eq!(ticket.to_string(), text, "content has one text");
    }
});

fn check(input: &str) -> Option<Ticket> {
    let ticket = exo_fuzz::text::<Ticket>(input)?;
    assert!((1..=TICKET_ADDRESSES_MAX).contains(&ticket.addresses.len()));
    assert_eq!(ticket.expires.0 % 1000, 0);
    assert!(ticket.to_string().len() <= TICKET_CHARS_MAX);
    Some(ticket)
}
