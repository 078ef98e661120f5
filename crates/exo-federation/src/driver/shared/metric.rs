//! What the operator is told in numbers.

use exo_node::share::{Closed, CutOff, Refused};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram};

/// Tells the recorder what the numbers mean.
pub(super) fn describe() {
    describe_counter!("exo_shared_writes_total", "writes of this node that are on the disk");
    describe_counter!("exo_shared_writes_refused_total", "writes of this node that were refused");
    describe_histogram!("exo_shared_save_seconds", "writing and syncing what waited, once");
    describe_counter!("exo_shared_saves_total", "atomic writes to the stores");
    describe_counter!("exo_shared_sent_bytes_total", "bytes of messages sent to members");
    describe_counter!("exo_shared_received_bytes_total", "bytes of messages of members");
    describe_counter!("exo_shared_messages_refused_total", "messages of members refused, by cause");
    describe_counter!(
        "exo_shared_items_refused_total",
        "things that came and were not taken, by cause"
    );
    describe_counter!("exo_shared_cut_offs_total", "members not listened to for a while, by cause");
    describe_counter!(
        "exo_shared_sessions_broken_total",
        "synchronisations that ended early, by cause"
    );
    describe_counter!("exo_shared_checkpoints_total", "checkpoints taken over");
    describe_gauge!("exo_shared_halted", "1 once this node keeps nothing any more");
}

pub(super) fn sent(bytes: usize) {
    counter!("exo_shared_sent_bytes_total").increment(bytes as u64);
}

pub(super) fn received(bytes: usize) {
    counter!("exo_shared_received_bytes_total").increment(bytes as u64);
}

pub(super) fn malformed() {
    counter!("exo_shared_messages_refused_total", "cause" => "malformed").increment(1);
}

pub(super) fn refused(why: Refused, count: usize) {
    let cause = match why {
        Refused::Unknown => "unknown-author",
        Refused::NoRight => "no-right",
        Refused::Quota => "quota",
        Refused::Forged => "forged",
    };
    counter!("exo_shared_items_refused_total", "cause" => cause).increment(count as u64);
}

pub(super) fn cut_off(why: CutOff) {
    let cause = match why {
        CutOff::Broken => "broken",
        CutOff::Forged => "forged",
        CutOff::TooMuch => "too-much",
        CutOff::NeverEnds => "never-ends",
    };
    counter!("exo_shared_cut_offs_total", "cause" => cause).increment(1);
}

pub(super) fn broken(why: Closed) {
    let cause = match why {
        Closed::Unknown => "unknown",
        Closed::Busy => "busy",
        Closed::TimedOut => "timed-out",
        Closed::Broken => "broken",
    };
    counter!("exo_shared_sessions_broken_total", "cause" => cause).increment(1);
}
