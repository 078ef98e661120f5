//! PRE-PREPARE, and accepting what a primary proposes.

use std::sync::Arc;

use exo_types::{PeerId, Sequence};

use crate::guard::Record;
use crate::ledger::Ledger;
use crate::message::{Message, Vote};
use crate::replica::{Phase, Replica};
use crate::update::{CheckedBatch, batch_digest};

impl<L: Ledger> Replica<L> {
    /// PBFT 4.2: a backup accepts a PRE-PREPARE of its view, from the view's primary, between the
    /// watermarks, unless it has accepted another for this view and place.
    pub(crate) fn on_pre_prepare(&mut self, from: PeerId, vote: Vote, batch: Arc<CheckedBatch>) {
        let Vote { epoch, view, sequence, digest } = vote;
        let Some(seat) = self.state.voters.seat(&from) else { return };
        if epoch != self.state.epoch
            || view != self.view
            || self.phase != Phase::Active
            || !self.is_primary(&from)
            || from == self.config.me
            || !self.in_window(sequence)
        {
            return;
        }
        // A null request is proposed by a new view alone.
        if batch.bundles().is_empty() {
            return;
        }
        let now = self.now;
        let slot = self.slots.entry(sequence).or_default();
        match slot.proposal {
            Some(known) if known != (view, digest) => return,
            Some(_) => {}
            None => {
                slot.proposal = Some((view, digest));
                slot.since = now;
            }
        }
        slot.prepare(seat, (view, digest));
        self.keep_batch(batch);
        self.accept(sequence);
        self.advance(sequence);
    }

    /// Votes PREPARE for the view's proposal at this place, once its content is here.
    pub(crate) fn accept(&mut self, sequence: Sequence) {
        let Some(seat) = self.seat().filter(|_| self.votes()) else { return };
        if self.phase != Phase::Active || !self.in_window(sequence) {
            return;
        }
        let Some(slot) = self.slots.get_mut(&sequence) else { return };
        let Some(ballot) = slot.proposal.filter(|ballot| ballot.0 == self.view) else { return };
        if slot.prepares.get(&seat).is_some_and(|known| known.0 >= ballot.0)
            || !self.batches.contains_key(&ballot.1)
        {
            return;
        }
        slot.note_accepted(ballot);
        slot.prepare(seat, ballot);
        let guard = self.guard(sequence, ballot.1);
        self.outbox.record(Record::Accepted(guard));
        let (epoch, view, digest) = (self.state.epoch, ballot.0, ballot.1);
        self.broadcast(Message::Prepare(Vote { epoch, view, sequence, digest }));
    }

    /// Keeps a batch's content, and journals it for the records that will name it. Other places may
    /// have waited for the same content.
    pub(crate) fn keep_batch(&mut self, batch: Arc<CheckedBatch>) {
        let digest = batch.digest();
        if self.batches.contains_key(&digest) {
            return;
        }
        let waited: Vec<Sequence> = self.lacking(digest);
        self.outbox.record(Record::Batch(batch.to_batch()));
        self.pending.assign(batch.bundles());
        self.batches.insert(digest, batch);
        for sequence in waited {
            self.accept(sequence);
            self.advance(sequence);
        }
    }

    /// Forgets contents that no place names any more.
    pub(crate) fn prune_batches(&mut self) {
        let mut named: std::collections::BTreeSet<_> =
            self.slots.values().flat_map(|slot| slot.digests().collect::<Vec<_>>()).collect();
        named.insert(batch_digest(&[]));
        self.batches.retain(|digest, _| named.contains(digest));
    }
}
