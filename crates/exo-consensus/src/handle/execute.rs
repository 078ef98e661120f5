//! Carrying out what is committed, in order, and appending it to the log.

use std::sync::Arc;

use crate::effect::Effect;
use crate::entry::{Appended, LoggedBatch, Point};
use crate::guard::{Past, Record};
use crate::ledger::Ledger;
use crate::replica::Replica;

impl<L: Ledger> Replica<L> {
    /// PBFT 4.2: a committed batch is carried out when all before it are. Nothing after the end of an
    /// epoch is: those places are given out anew in the next one.
    pub(crate) fn execute(&mut self) {
        while self.state.turn.is_none() {
            let sequence = self.state.executed.next();
            let Some(slot) = self.slots.get(&sequence) else { return };
            let Some(digest) = slot.committed else { return };
            let Some(batch) = self.batches.get(&digest).cloned() else { return };
            let ours = slot.proposal.is_some_and(|(view, _)| view == self.view);
            let logged = self.state.execute(&batch);
            self.append(logged);
            self.pending.release(batch.bundles());
            if ours {
                self.fruitful();
            }
        }
    }

    /// The log grows by a batch that the replicated state has carried out.
    pub(crate) fn append(&mut self, logged: LoggedBatch) {
        let first = self.ledger.size();
        let record = Appended::hashed::<L>(Arc::new(logged));
        let batch = Arc::clone(record.batch());
        let (seal, updates) = record.leaf_hashes().split_last().unzip();
        updates.into_iter().flatten().for_each(|leaf| self.ledger.append(*leaf));
        let peaks = self.ledger.peaks();
        seal.into_iter().for_each(|leaf| self.ledger.append(*leaf));
        let sequence = self.state.executed;
        let point = Point { sequence, size: self.ledger.size(), root: self.ledger.root() };
        let past = Past { point, seal: batch.seal.clone(), peaks };
        if sequence > self.stable.sequence {
            self.past.insert(sequence, past);
            self.timers.uncertified.get_or_insert(self.now);
        }
        self.outbox.record(Record::Append(record));
        self.client_executed(first, &batch);
        self.pending.prune(&self.state);
        self.outbox.emit(Effect::Apply { first, batch });
        self.match_stable(point);
    }

    /// What we carried out must be what a quorum certified.
    fn match_stable(&mut self, point: Point) {
        if point.sequence == self.stable.sequence && point != self.stable {
            self.contradict(point.sequence);
        }
    }
}
