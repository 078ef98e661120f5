//! What the operator is told in numbers.

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// Tells the recorder what the numbers mean.
pub(super) fn describe() {
    describe_counter!("exo_commits_total", "proposals of this node that were certified");
    describe_counter!("exo_commits_declined_total", "proposals of this node that were not taken");
    describe_histogram!("exo_commit_seconds", "from a proposal of this node to its certificate");
    describe_histogram!(
        "exo_commit_carried_out_seconds",
        "from a proposal of this node until it was carried out here"
    );
    describe_gauge!("exo_consensus_epoch", "the epoch of consensus");
    describe_gauge!("exo_consensus_view", "the view of the epoch: who leads");
    describe_gauge!("exo_consensus_certified_sequence", "the last certified batch");
    describe_gauge!("exo_consensus_log_entries", "certified entries of the log");
    describe_gauge!("exo_consensus_halted", "1 once this node decides nothing any more");
    describe_histogram!("exo_consensus_sync_seconds", "writing and syncing the journal once");
    describe_counter!("exo_consensus_refused_total", "messages of peers refused, by cause");
}
