//! A roster.
#![no_main]

use exo_node::roster::{Roster, RosterBody};
use exo_types::Wire;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    exo_fuzz::signed::<RosterBody>(data);
    if let Ok(body) = RosterBody::from_wire(data)
        && let Ok(roster) = Roster::new(&body)
    {
        assert_eq!(roster.all().count(), body.members.len());
        assert!(roster.active().count() <= body.members.len());
    }
});
