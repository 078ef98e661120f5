//! When a view is given up, and when something is said again.

use std::time::Duration;

use exo_types::limits::{VIEW_TIMEOUT_BATCHES, VIEW_TIMEOUT_DOUBLINGS_MAX};
use exo_types::{Sequence, View};

use crate::handle::again::Again;
use crate::handle::sign_again::Asked;
use crate::ledger::Ledger;
use crate::replica::{Phase, Replica};

/// Points in time, on the replica's own clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    /// Views in a row that brought nothing: how often the wait has doubled.
    pub(crate) fruitless: u32,
    /// When the current view was entered, or our view change on the way to it was said.
    pub(crate) entered: Duration,
    /// Since when a quorum is on the way to the view that we are on the way to.
    pub(crate) quorum_leaves: Option<Duration>,
    /// When our status was said last.
    pub(crate) status_said: Duration,
    /// Since when something committed here is not certified.
    pub(crate) uncertified: Option<Duration>,
    /// What was asked to be signed.
    pub(crate) signatures: Asked,
    /// Where we stood when we asked for what is missing.
    pub(crate) fetched: Again<Stand>,
    /// Where we stood when our requests were said again, and how many there were.
    pub(crate) requested: Again<(Stand, usize)>,
}

/// What changes when a replica gets on.
type Stand = (View, Phase, Sequence);

impl<L: Ledger> Replica<L> {
    /// How long a view may take now: doubling (Castro & Liskov 1999, section 4.4).
    fn patience(&self) -> Duration {
        let doublings = self.timers.fruitless.min(VIEW_TIMEOUT_DOUBLINGS_MAX);
        self.config.view_timeout * (1u32 << doublings)
    }

    /// When this view is given up; `None` while there is nothing to wait for, or too few to go on with.
    pub(crate) fn view_deadline(&self) -> Option<Duration> {
        if !self.votes() {
            return None;
        }
        match self.phase {
            // Without a quorum the next view would be no better: we say our view change again instead.
            Phase::Changing => self.timers.quorum_leaves.map(|since| since + self.patience()),
            Phase::Active => {
                let since = self.waiting_since()?.max(self.timers.entered);
                Some(since + self.patience())
            }
        }
    }

    /// Since when something has waited that this view should bring: a request, a proposal, a
    /// certificate. Nothing while we know that we are behind: that is no fault of the primary's.
    fn waiting_since(&self) -> Option<Duration> {
        if self.stable.sequence > self.state.executed {
            return None;
        }
        let unexecuted = self.slots.range(self.state.executed.next()..);
        let proposals = unexecuted.filter(|(_, slot)| slot.proposal.is_some());
        let proposals = proposals.map(|(_, slot)| slot.since);
        let requests = self.pending.oldest(&self.state);
        proposals.chain(requests).chain(self.timers.uncertified).min()
    }

    /// Whether anything is outstanding that others could help with.
    pub(crate) fn busy(&self) -> bool {
        self.phase == Phase::Changing
            || self.stable.sequence != self.state.executed
            // Who has no seat waits for nothing that others could hurry.
            || (self.seat().is_some() && !self.votes())
            // Somebody says that we are behind: others are to say whether they have more, too.
            || self.transfer.deadline().is_some()
            || self.client.busy()
            || self.pending.len() > 0
            || self.slots.range(self.state.executed.next()..).next().is_some()
    }

    /// When [`Input::Tick`](crate::Input::Tick) is due, on the clock given to
    /// [`step`](Replica::step).
    pub fn next_wake(&self) -> Duration {
        let status = self.timers.status_said + self.status_interval();
        let deadline = self.view_deadline().unwrap_or(Duration::MAX);
        let fetch = self.transfer.deadline().unwrap_or(Duration::MAX);
        status.min(deadline).min(fetch)
    }

    pub(crate) fn status_interval(&self) -> Duration {
        if self.busy() { self.config.status_busy } else { self.config.status_idle }
    }

    /// A batch proposed in this view was carried out: the view brings something. The wait is halved if so
    /// many batches would fit into the half; over a long way it stays, or the next view would end early. It
    /// never grows here: a slow primary cannot make itself more time.
    pub(crate) fn fruitful(&mut self) {
        let slot = self.slots.get(&self.state.executed);
        let took = slot.map_or(Duration::ZERO, |slot| self.now.saturating_sub(slot.since));
        if took * VIEW_TIMEOUT_BATCHES <= self.patience() / 2 {
            self.timers.fruitless = self.timers.fruitless.saturating_sub(1);
        }
    }
}
