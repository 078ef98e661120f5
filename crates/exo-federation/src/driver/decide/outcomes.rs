//! What became of what is in the log, where it is not simply recorded.
//!
//! The outcome of an entry follows from all before it. Statements are recorded, and nothing is kept of
//! them; of all others the newest are kept, and older ones are found out again from the whole log.

use std::collections::BTreeMap;

use exo_consensus::Update;
use exo_node::decide::{Decided, Decision, Kind, Outcome};
use exo_types::limits::OUTCOMES_KEPT_MAX;
use exo_types::{PeerId, Wire};

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    kept: BTreeMap<u64, Outcome>,
    /// Below this index outcomes were forgotten.
    from: u64,
    /// Removed members and what removed them: at most as many as there may be members.
    removals: BTreeMap<PeerId, u64>,
}

impl Outcomes {
    pub(super) fn note(&mut self, decided: &Decided) {
        if decided.outcome == Outcome::Recorded {
            return;
        }
        if let Some(peer) = removed(decided) {
            self.removals.insert(peer, decided.index);
        }
        self.kept.insert(decided.index, decided.outcome);
        if self.kept.len() > OUTCOMES_KEPT_MAX
            && let Some((index, _)) = self.kept.pop_first()
        {
            self.from = index + 1;
        }
    }

    /// The outcome of an entry that was applied; `None` where it is forgotten.
    pub(super) fn of(&self, index: u64) -> Option<Outcome> {
        match self.kept.get(&index) {
            Some(outcome) => Some(*outcome),
            None if index >= self.from => Some(Outcome::Recorded),
            None => None,
        }
    }

    /// Removed members and the indices of the decisions that removed them.
    pub(super) fn removals(&self) -> &BTreeMap<PeerId, u64> {
        &self.removals
    }
}

/// Whom a decision has removed.
fn removed(decided: &Decided) -> Option<PeerId> {
    match (&decided.logged.update, decided.kind, decided.outcome) {
        (Update::Data(content), Kind::Revoke, Outcome::Effective) => {
            match Decision::from_wire(content.as_bytes()) {
                Ok(Decision::Revoke { peer, .. }) => Some(peer),
                _ => None,
            }
        }
        _ => None,
    }
}
