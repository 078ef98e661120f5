//! What became of what is in the log, where it is not simply recorded.
//!
//! The outcome of an entry follows from all before it. Statements are recorded, and nothing is kept of
//! them; of all others the newest are kept, and older ones are found out again from the whole log.

use std::collections::BTreeMap;

use exo_node::decide::{Decided, Outcome};
use exo_types::limits::OUTCOMES_KEPT_MAX;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    kept: BTreeMap<u64, Outcome>,
    /// Below this index outcomes were forgotten.
    from: u64,
}

impl Outcomes {
    pub(super) fn note(&mut self, decided: &Decided) {
        if decided.outcome == Outcome::Recorded {
            return;
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
}
