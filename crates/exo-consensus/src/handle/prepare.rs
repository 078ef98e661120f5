//! PREPARE, and what a quorum of them leads to.

use exo_types::{PeerId, Sequence};

use crate::guard::Record;
use crate::ledger::Ledger;
use crate::message::{Message, Vote};
use crate::replica::{Phase, Replica};

impl<L: Ledger> Replica<L> {
    /// PBFT 4.2: prepares are kept whatever view we are in; they count when they match what we accepted.
    pub(crate) fn on_prepare(&mut self, from: PeerId, vote: Vote) {
        let Vote { epoch, view, sequence, digest } = vote;
        let Some(seat) = self.state.voters.seat(&from) else { return };
        if epoch != self.state.epoch || from == self.config.me || !self.in_window(sequence) {
            return;
        }
        self.slots.entry(sequence).or_default().prepare(seat, (view, digest));
        self.advance(sequence);
    }

    /// PBFT 4.2: a quorum accepted what we accepted, so it is prepared, and we vote COMMIT; a quorum's
    /// COMMIT, and it is committed.
    pub(crate) fn advance(&mut self, sequence: Sequence) {
        let quorum = self.state.voters.quorum();
        if let Some(seat) = self.seat().filter(|_| self.votes())
            && self.phase == Phase::Active
            && self.in_window(sequence)
            && let Some(slot) = self.slots.get_mut(&sequence)
            && let Some(ballot) = slot.proposal.filter(|ballot| ballot.0 == self.view)
            && slot.prepared.is_none_or(|prepared| prepared.0 < ballot.0)
            && slot.is_prepared(seat, ballot, quorum)
        {
            slot.note_prepared(ballot);
            slot.commit(seat, ballot);
            let guard = self.guard(sequence, ballot.1);
            self.outbox.record(Record::Prepared(guard));
            let (epoch, view, digest) = (self.state.epoch, ballot.0, ballot.1);
            self.broadcast(Message::Commit(Vote { epoch, view, sequence, digest }));
        }
        self.decide(sequence);
    }
}
