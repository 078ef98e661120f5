//! Time: giving a view up, and saying things again.

use crate::ledger::Ledger;
use crate::replica::Replica;

impl<L: Ledger> Replica<L> {
    pub(crate) fn on_tick(&mut self) {
        // PBFT 4.4: the primary had its time.
        if self.view_deadline().is_some_and(|deadline| self.now >= deadline) {
            self.leave_for(self.view.next());
        }
        if self.now >= self.timers.status_said + self.status_interval() {
            self.say_status();
            self.fetch_missing();
            self.retransmit_requests();
        }
        self.fetch_log_of_anybody();
    }
}
