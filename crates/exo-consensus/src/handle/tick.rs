//! Time: giving a view up, and saying things again.

use super::again::pause;
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
            self.ask_again();
        }
        self.sign_again();
        self.fetch_log();
    }

    /// Asks everybody for what is missing and says our own requests again: ever more rarely while nothing
    /// is carried out and the view stays.
    fn ask_again(&mut self) {
        let newest = self.client.outstanding().count();
        let stand = (self.view, self.phase, self.state.executed);
        if self.timers.fetched.due(stand, self.now, pause()) {
            self.fetch_missing();
        }
        if self.timers.requested.due((stand, newest), self.now, pause()) {
            self.retransmit_requests();
        }
    }
}
