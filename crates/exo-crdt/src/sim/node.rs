//! One simulated member: its replica, writer, clock and disk.

use exo_types::{CollectionName, RecordId, Timestamp};

use super::Members;
use super::liar::Lie;
use crate::batch::{Batch, VerifiedBatch, VerifiedEntry, VerifiedHeader};
use crate::checkpoint::{Checkpoint, CollectionKind, LiveSet};
use crate::clock::Clock;
use crate::entry::{Operation, Value};
use crate::replica::{Outcome, Replica};
use crate::stamp::Hlc;
use crate::store::{MemoryStore, Store, WriteBatch};
use crate::sync::message::Item;
use crate::writer::{Observed, Writer};

pub(super) struct Node {
    pub(super) at: usize,
    pub(super) lie: Option<Lie>,
    pub(super) up: bool,
    /// How wrong its machine's clock is, milliseconds.
    pub(super) skew: i64,
    pub(super) clock: Clock,
    pub(super) replica: Replica,
    pub(super) writer: Writer,
    store: MemoryStore,
    /// Of a liar with two histories: the other one.
    pub(super) twin: Option<Writer>,
    pub(super) refused: u64,
    pub(super) void: u64,
}

impl Node {
    pub(super) fn new(
        at: usize,
        lie: Option<Lie>,
        name: &CollectionName,
        kind: CollectionKind,
        members: &Members,
    ) -> Self {
        let replica = Replica::new(name.clone(), kind);
        let author = members.keypair(at).peer_id();
        let writer = Writer::new(author, name.clone(), replica.chain_end(&author));
        Self {
            at,
            lie,
            up: true,
            skew: 0,
            clock: Clock::default(),
            replica,
            writer,
            store: MemoryStore::default(),
            twin: None,
            refused: 0,
            void: 0,
        }
    }

    pub(super) fn now(&self, real: Timestamp) -> Timestamp {
        Timestamp(real.0.saturating_add_signed(self.skew))
    }

    /// Writes to the batch that is being collected.
    pub(super) fn write(
        &mut self,
        key: RecordId,
        value: Option<&Value>,
        observed: impl Into<Observed>,
        real: Timestamp,
    ) -> bool {
        let now = match self.lie {
            Some(Lie::Future) => self.now(real).plus_millis(3_600_000 * (1 + real.0 % 9_000)),
            _ => self.now(real),
        };
        let operation = value.map_or(Operation::Remove, Value::put);
        self.writer.write(key, operation, observed, &mut self.clock, now).is_ok()
    }

    /// Signs what was collected, saves it and says what to send.
    pub(super) fn flush(&mut self, members: &Members) -> Option<Batch> {
        let keypair = members.keypair(self.at);
        let batch = self.writer.flush(keypair, self.replica.epoch_ref()).ok()??;
        let sent = batch.to_batch();
        self.apply_batch(batch);
        Some(sent)
    }

    /// A liar's other batch of the same number.
    pub(super) fn flush_twin(&mut self, key: RecordId, members: &Members) -> Option<Batch> {
        let mut twin = self.twin.take()?;
        let now = Timestamp(self.clock.mark().millis());
        let mut clock = self.clock;
        twin.write(key, Operation::Remove, Vec::new(), &mut clock, now).ok()?;
        let batch = twin.flush(members.keypair(self.at), self.replica.epoch_ref()).ok()??;
        Some(batch.to_batch())
    }

    /// Verifies and applies what somebody sent.
    pub(super) fn take(&mut self, item: Item, members: &Members, real: Timestamp) {
        let name = self.replica.collection().clone();
        let outcome = match item {
            Item::Batch { batch, .. } => {
                let verified = VerifiedBatch::verify(batch, &name, members);
                verified.ok().and_then(|batch| self.replica.apply(batch).ok())
            }
            Item::Void(header) => {
                let verified = VerifiedHeader::verify(&header, &name, members);
                verified.ok().and_then(|header| self.replica.apply_void(header).ok())
            }
            Item::Shown(group) => {
                for (shown, _) in group.entries() {
                    let verified = VerifiedEntry::verify(shown, &name, members);
                    match verified.ok().and_then(|shown| self.replica.apply_shown(&shown).ok()) {
                        Some(outcome) => self.finish(outcome, real),
                        None => self.refused += 1,
                    }
                }
                return;
            }
            Item::Evidence(evidence) => {
                let place = evidence.place().ok();
                let key =
                    place.and_then(|(author, _)| crate::batch::Authors::author(members, &author));
                let verified = key.and_then(|author| evidence.verify(author.key).ok());
                verified.and_then(|_| self.replica.apply_evidence(evidence).ok())
            }
        };
        match outcome {
            Some(outcome) => self.finish(outcome, real),
            None => self.refused += 1,
        }
    }

    fn finish(&mut self, outcome: Outcome, real: Timestamp) {
        let now = self.now(real);
        self.clock.fold(outcome.latest, now);
        self.save(outcome.write);
    }

    fn apply_batch(&mut self, batch: VerifiedBatch) {
        if let Ok(outcome) = self.replica.apply(batch) {
            self.save(outcome.write);
        }
    }

    /// Saves a change with the clock's mark, all or nothing.
    fn save(&mut self, mut write: WriteBatch) {
        if write.is_empty() {
            return;
        }
        let mark = self.clock.mark().to_bits().to_be_bytes();
        write.changes.push((MARK.to_vec(), Some(mark.to_vec())));
        // A journal in memory takes any batch of these sizes.
        let _saved = self.store.commit(&write);
    }

    /// Takes an agreed checkpoint over and signs again what of its own came too late.
    pub(super) fn adopt(
        &mut self,
        next: &Checkpoint,
        live: &LiveSet,
        members: &Members,
        again: impl Fn(&RecordId) -> bool,
    ) {
        let author = self.author();
        let before = self.replica.author_entries(author);
        let Ok(mut write) = self.replica.adopt(next.clone(), live.clone()) else { return };
        self.clock.fold_agreed(next.time);
        let held = self.replica.author_entries(author);
        for (id, entry) in before {
            let kept = held.contains_key(&id) || next.covers(&author, id.1);
            if kept || entry.operation != Operation::Remove && !again(&entry.key) {
                continue;
            }
            self.void += 1;
            if self.writer.is_full() {
                write.append(self.sign(members));
            }
            let now = Timestamp(self.clock.mark().millis());
            let (operation, observed) = (entry.operation, entry.observed);
            let _written = self.writer.write(entry.key, operation, observed, &mut self.clock, now);
        }
        // In one write: a crash in between would lose what the checkpoint made void.
        write.append(self.sign(members));
        self.save(write);
    }

    /// Signs and applies what waits, and gives what is to be saved.
    fn sign(&mut self, members: &Members) -> WriteBatch {
        let flushed = self.writer.flush(members.keypair(self.at), self.replica.epoch_ref());
        let batch = flushed.ok().flatten();
        let outcome = batch.and_then(|batch| self.replica.apply(batch).ok());
        outcome.map(|outcome| outcome.write).unwrap_or_default()
    }

    pub(super) fn author(&self) -> exo_types::PeerId {
        self.writer.author()
    }

    /// The machine stops; what was being written at that moment may be torn off.
    pub(super) fn crash(&mut self, torn: usize) {
        self.up = false;
        let mut journal = self.store.journal().to_vec();
        // The frame that was being written: it was not acknowledged, and nothing was sent after it.
        let write = WriteBatch { changes: vec![(b"b".to_vec(), Some(vec![0; 64]))] };
        let frame = write.to_frame();
        journal.extend_from_slice(&frame[..torn.min(frame.len() - 1)]);
        self.store = MemoryStore::from_journal(&journal);
    }

    /// It starts from its disk, with its machine's clock set anyhow.
    pub(super) fn restart(&mut self, skew: i64, members: &Members) -> Result<(), String> {
        let mut saved = self.store.load().map_err(|error| error.to_string())?;
        let mark = saved.remove(MARK).and_then(|mark| mark.try_into().ok());
        let mark = mark.map_or(Hlc::ZERO, |mark| Hlc::from_bits(u64::from_be_bytes(mark)));
        let (name, kind) = (self.replica.collection().clone(), self.replica.checkpoint().kind);
        let restored = Replica::restore(name.clone(), kind, &saved, members)
            .map_err(|error| format!("node {} does not start: {error}", self.at))?;
        if restored.canonical_state() != self.replica.canonical_state() {
            let (is, was) = (restored.entries(), self.replica.entries());
            let (cut_is, cut_was) = (restored.checkpoint().epoch, self.replica.checkpoint().epoch);
            return Err(format!(
                "node {} restarts with another state: {is} entries in epoch {cut_is}, not {was} in {cut_was}",
                self.at
            ));
        }
        self.replica = restored;
        self.clock = Clock::restore(mark);
        let author = self.author();
        self.writer = Writer::new(author, name, self.replica.chain_end(&author));
        self.twin = None;
        self.skew = skew;
        self.up = true;
        Ok(())
    }
}

const MARK: &[u8] = b"m";
