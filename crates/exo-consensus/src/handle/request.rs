//! REQUEST, and what a primary does with requests.

use exo_types::limits::{BATCH_BYTES_MAX, PROPOSED_SEQUENCES_MAX};
use exo_types::{PeerId, Sequence};

use std::sync::Arc;

use crate::guard::Record;
use crate::ledger::Ledger;
use crate::message::{Message, PrePrepare};
use crate::replica::{Phase, Replica};
use crate::update::{CheckedBatch, CheckedBundle};

impl<L: Ledger> Replica<L> {
    pub(crate) fn on_request(&mut self, bundle: CheckedBundle) {
        let message = Message::Request(Arc::clone(bundle.bundle()));
        let kept = self.keep_request(bundle);
        // PBFT 4.4: a backup passes the request on and watches the primary; from the next view on the
        // request is here for its primary.
        if kept
            && self.phase == Phase::Active
            && !self.leads()
            && let Some(primary) = self.primary()
        {
            self.send(primary, message);
        }
    }

    /// Keeps a request until it is carried out. One that is in a batch of this view already, which was
    /// proposed before a crash, is not to be proposed again.
    pub(crate) fn keep_request(&mut self, bundle: CheckedBundle) -> bool {
        let proposed = self.slots.range(self.state.executed.next()..).any(|(_, slot)| {
            let batch = slot.proposal.and_then(|(_, digest)| self.batches.get(&digest));
            batch.is_some_and(|b| b.bundles().iter().any(|b| b.digest() == bundle.digest()))
        });
        let kept = self.pending.insert(bundle.clone(), &self.state, self.now);
        if kept && proposed {
            self.pending.assign(&[bundle]);
        }
        kept
    }

    /// PBFT 4.2: the primary gives what waits the next place.
    pub(crate) fn propose(&mut self) {
        let Some(seat) = self.seat().filter(|_| self.leads()) else { return };
        if self.phase != Phase::Active
            || self.state.turn.is_some()
            || self.stable.sequence > self.state.executed
            // What a new view proposes again may hold the very requests that wait here.
            || self.missing().next().is_some()
        {
            return;
        }
        loop {
            let sequence = self.next_free();
            let in_flight = sequence.since(self.state.executed.next());
            let limit = self.stable.sequence.plus(PROPOSED_SEQUENCES_MAX);
            if in_flight >= self.window.batches() || sequence > limit {
                return;
            }
            let bundles = self.pending.take(&self.state);
            if bundles.is_empty() {
                self.window.adapt(false);
                return;
            }
            // More than half full: the next may well be too small for what comes.
            let bytes: usize = bundles.iter().map(CheckedBundle::bytes).sum();
            self.window.adapt(2 * bytes > BATCH_BYTES_MAX);
            let batch = Arc::new(CheckedBatch::new(bundles));
            let ballot = (self.view, batch.digest());
            let message = Message::PrePrepare(PrePrepare {
                epoch: self.state.epoch,
                view: self.view,
                sequence,
                batch: batch.to_batch(),
            });
            self.keep_batch(batch);
            let slot = self.slots.entry(sequence).or_default();
            slot.proposal = Some(ballot);
            slot.since = self.now;
            slot.note_accepted(ballot);
            slot.prepare(seat, ballot);
            let guard = self.guard(sequence, ballot.1);
            self.outbox.record(Record::Accepted(guard));
            self.broadcast(message);
            self.advance(sequence);
        }
    }

    /// The place after everything carried out, certified, or proposed in this view.
    fn next_free(&self) -> Sequence {
        let proposed = self.slots.iter().rev().find(|(_, slot)| slot.proposal.is_some());
        let proposed = proposed.map_or(Sequence::ZERO, |(sequence, _)| *sequence);
        self.state.executed.max(self.stable.sequence).max(proposed).next()
    }

    pub(crate) fn is_primary(&self, peer: &PeerId) -> bool {
        self.state.voters.seat(peer) == Some(self.state.voters.primary(self.view))
    }
}
