//! The counters of the network driver. Causes are fixed words, never text from a peer.

use metrics::{counter, gauge};

/// Tells the recorder what the numbers mean.
pub(super) fn describe() {
    metrics::describe_counter!(REFUSALS, "handshakes that this node refused, by cause");
    metrics::describe_counter!(HANDSHAKES, "handshakes that gave a connection, by side");
    metrics::describe_counter!(RETRIES, "callers that were asked to validate their address");
    metrics::describe_gauge!(PENDING, "handshakes of callers in progress");
    metrics::describe_counter!(
        LANE_DROPS,
        "messages dropped because a peer does not read its lane"
    );
    metrics::describe_counter!(REQUEST_REFUSALS, "requests refused for their framing, by cause");
}

/// A message found no room on a lane.
pub(super) fn lane_dropped() {
    counter!(LANE_DROPS).increment(1);
}

/// A connection or handshake was refused, here, for `cause`.
pub(super) fn refused(cause: &'static str) {
    counter!(REFUSALS, "cause" => cause).increment(1);
    tracing::debug!(cause, "refused a handshake");
}

/// A handshake came to an end with a usable connection.
pub(super) fn connected(dialed: bool) {
    let side = if dialed { "dialed" } else { "accepted" };
    counter!(HANDSHAKES, "side" => side).increment(1);
}

/// A caller was asked to show that it owns its address.
pub(super) fn retried() {
    counter!(RETRIES).increment(1);
}

/// How many handshakes are in progress.
pub(super) fn pending(count: usize) {
    gauge!(PENDING).set(count as f64);
}

/// A peer's request was refused before it reached the node.
pub(super) fn request_refused(cause: &'static str) {
    counter!(REQUEST_REFUSALS, "cause" => cause).increment(1);
}

const REFUSALS: &str = "exo_net_refusals_total";
const HANDSHAKES: &str = "exo_net_handshakes_total";
const RETRIES: &str = "exo_net_retries_total";
const PENDING: &str = "exo_net_pending_handshakes";
const LANE_DROPS: &str = "exo_net_lane_drops_total";
const REQUEST_REFUSALS: &str = "exo_net_request_refusals_total";
