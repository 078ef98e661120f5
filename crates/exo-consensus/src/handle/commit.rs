//! COMMIT.

use exo_types::{PeerId, Sequence};

use crate::ledger::Ledger;
use crate::message::{FetchBatch, Message, Vote};
use crate::replica::Replica;

impl<L: Ledger> Replica<L> {
    /// PBFT 4.2: commits are kept whatever view we are in.
    pub(crate) fn on_commit(&mut self, from: PeerId, vote: Vote) {
        let Vote { epoch, view, sequence, digest } = vote;
        let Some(seat) = self.state.voters.seat(&from) else { return };
        if epoch != self.state.epoch || from == self.config.me || !self.in_window(sequence) {
            return;
        }
        self.slots.entry(sequence).or_default().commit(seat, (view, digest));
        self.decide(sequence);
    }

    /// A quorum's COMMIT in one view decides the place, also for a replica that is on its way to another
    /// view or saw no PRE-PREPARE; it then asks for the content.
    pub(crate) fn decide(&mut self, sequence: Sequence) {
        let quorum = self.state.voters.quorum();
        let Some(slot) = self.slots.get_mut(&sequence) else { return };
        if slot.committed.is_some() {
            return;
        }
        let Some(digest) = slot.decided(quorum) else { return };
        slot.committed = Some(digest);
        if sequence > self.state.executed && !self.batches.contains_key(&digest) {
            self.broadcast(Message::FetchBatch(FetchBatch { epoch: self.state.epoch, digest }));
        }
    }
}
