//! The counters of the network driver. Causes are fixed words, never text from a peer.

/// A connection or handshake was refused, here, for `cause`.
pub(super) fn refused(cause: &'static str) {
    metrics::counter!("exo_net_refusals_total", "cause" => cause).increment(1);
    tracing::debug!(cause, "refused a handshake");
}

/// A handshake came to an end with a usable connection.
pub(super) fn connected(dialed: bool) {
    let side = if dialed { "dialed" } else { "accepted" };
    metrics::counter!("exo_net_handshakes_total", "side" => side).increment(1);
}

/// A caller was asked to show that it owns its address.
pub(super) fn retried() {
    metrics::counter!("exo_net_retries_total").increment(1);
}

/// How many handshakes are in progress.
pub(super) fn pending(count: usize) {
    metrics::gauge!("exo_net_pending_handshakes").set(count as f64);
}

/// A peer's request was refused before it reached the node.
pub(super) fn request_refused(cause: &'static str) {
    metrics::counter!("exo_net_request_refusals_total", "cause" => cause).increment(1);
}
