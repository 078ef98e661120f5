//! Contents of batches that a replica lacks: a new view names them by digest alone.

use std::sync::Arc;

use exo_types::{Epoch, PeerId, Sequence};

use crate::blob::Digest;
use crate::ledger::Ledger;
use crate::message::{BatchContent, FetchBatch, Message};
use crate::replica::Replica;
use crate::update::CheckedBatch;

impl<L: Ledger> Replica<L> {
    pub(crate) fn on_fetch_batch(&mut self, from: PeerId, asked: FetchBatch) {
        if asked.epoch != self.state.epoch {
            return;
        }
        let Some(batch) = self.batches.get(&asked.digest).cloned() else { return };
        if self.answers.may_serve(&from, self.now, 1) {
            let epoch = self.state.epoch;
            self.send(from, Message::BatchContent(BatchContent { epoch, batch: batch.to_batch() }));
        }
    }

    /// Only what is missing is kept, so nobody fills our memory with batches.
    pub(crate) fn on_batch_content(&mut self, epoch: Epoch, batch: Arc<CheckedBatch>) {
        if epoch != self.state.epoch {
            return;
        }
        if !self.lacking(batch.digest()).is_empty() {
            self.keep_batch(batch);
        }
    }

    /// Places whose batch of this name is not here.
    pub(crate) fn lacking(&self, digest: Digest) -> Vec<Sequence> {
        self.missing().filter(|(_, named)| *named == digest).map(|(sequence, _)| sequence).collect()
    }

    /// Asks for everything that is missing.
    pub(crate) fn fetch_missing(&mut self) {
        let mut digests: Vec<Digest> = self.missing().map(|(_, digest)| digest).collect();
        digests.sort_unstable();
        digests.dedup();
        for digest in digests {
            self.broadcast(Message::FetchBatch(FetchBatch { epoch: self.state.epoch, digest }));
        }
    }

    /// Places whose proposed or committed batch is named and not here.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (Sequence, Digest)> + '_ {
        self.slots.iter().flat_map(|(sequence, slot)| {
            let committed = slot.committed.filter(|_| *sequence > self.state.executed);
            let proposed = slot.proposal.filter(|(view, _)| *view == self.view);
            let named = committed.into_iter().chain(proposed.map(|(_, digest)| digest));
            named
                .filter(|digest| !self.batches.contains_key(digest))
                .map(|digest| (*sequence, digest))
        })
    }
}
