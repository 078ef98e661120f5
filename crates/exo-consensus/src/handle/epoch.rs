//! The turn of an epoch: it takes effect at the certified checkpoint with which the old one ends.

use crate::batch::Window;
use crate::effect::Effect;
use crate::entry::Turn;
use crate::guard::{Record, Role};
use crate::handle::status::Answers;
use crate::ledger::Ledger;
use crate::replica::{Phase, Replica};
use exo_types::View;
use std::sync::Arc;

impl<L: Ledger> Replica<L> {
    /// Goes over to the next epoch once its beginning is certified by the old one's voters. Whatever was
    /// in flight after the last batch of the old epoch is void for everybody, since nobody carried it
    /// out; its requests still wait and are ordered in the new one.
    pub(crate) fn turn_epoch(&mut self) {
        if self.halted || self.stable.sequence != self.state.executed {
            return;
        }
        let Some(turn) = self.state.turn.clone() else { return };
        self.state.begin_epoch(self.stable);
        self.take_role(&turn);
        self.view = View::FIRST;
        self.phase = Phase::Active;
        self.slots.clear();
        self.past.clear();
        self.cosignatures.clear();
        self.view_changes.clear();
        self.leaving = None;
        self.entering = None;
        self.new_view = None;
        self.cosigning = None;
        self.our_cosignature = None;
        self.cosigned = self.stable.sequence;
        self.window = Window::default();
        self.answers = Answers::default();
        self.timers.fruitless = 0;
        self.timers.entered = self.now;
        self.timers.quorum_leaves = None;
        self.timers.uncertified = None;
        self.pending.retain(&self.state.voters);
        self.pending.prune(&self.state);
        self.pending.unassign();
        self.prune_batches();
        self.client_epoch();
        let (epoch, voters) = (self.state.epoch, Arc::clone(&self.state.voters));
        self.outbox.emit(Effect::Epoch { epoch, voters });
        self.transfer_goes_on();
    }

    /// Who has never voted may begin with an epoch in which it has a seat; who forgot what it said, with
    /// the one that its own request began: what it said was in epochs that are over.
    fn take_role(&mut self, turn: &Turn) {
        let begins = match self.role {
            Role::Voter => return,
            Role::Joining => self.seat().is_some(),
            Role::Wiped { nonce } => *turn == Turn::Rejoin { member: self.config.me, nonce },
        };
        if begins {
            self.role = Role::Voter;
            self.outbox.record(Record::Role(Role::Voter));
        }
    }
}
