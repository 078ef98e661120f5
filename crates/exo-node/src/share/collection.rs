//! One shared collection of this node: its replica, this member's writes, and what is to be saved.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use exo_crdt::batch::EpochRef;
use exo_crdt::replica::{RestoreError, Visible};
use exo_crdt::writer::{ChainEnd, Observed, WriteError};
use exo_crdt::{
    Clock, CollectionKind, Dot, EntryId, Hlc, Operation, Replica, StateRoot, Value, WriteBatch,
    Writer,
};
use exo_crypto::PostQuantumKeypair;
use exo_types::limits::{
    BATCH_ENTRIES_MAX, BATCH_FLUSH_MILLIS, BATCHES_PER_AUTHOR_MAX, ENTRIES_PER_AUTHOR_MAX,
    ENTRY_BYTES_MAX, ENTRY_BYTES_PER_AUTHOR_MAX, ENTRY_VALUE_BYTES_MAX, OBSERVED_DOTS_MAX,
    SHARED_BATCHES_AT_ONCE, SHARED_BATCHES_PER_SECOND, SHARED_LACKING_MAX, SYNC_ITEMS_STEP_BYTES,
};
use exo_types::{CollectionName, Now, PeerId, RecordId, Timestamp};

use super::cuts::Fetch;
use super::io::{Change, ShareRefusal};
use super::message::Held;
use super::spec::Writers;

/// One shared collection.
pub(super) struct Collection {
    pub(super) replica: Replica,
    clock: Clock,
    writer: Writer,
    /// When the first entry that waits to be signed came.
    since: Option<Duration>,
    /// What signing batches as they came has used up, as the time at which all of it is paid back.
    spent: Duration,
    /// Of each entry that waits to be signed, whose it is, and its value.
    pending: Vec<(Option<u64>, Option<Value>)>,
    /// Bytes of these values.
    pending_bytes: usize,
    /// The last entry that waits at each key.
    pending_keys: BTreeMap<RecordId, Dot>,
    /// Writes for which there is no room in the batch.
    pub(super) waiting: VecDeque<(u64, RecordId, Change)>,
    /// The last commit with something that this member signed.
    own_commit: u64,
    /// Writes to be acknowledged, with the commits that they are in.
    pub(super) acks: VecDeque<(u64, u64, super::Written)>,
    /// The commit after which others are told that there is news.
    pub(super) news_after: Option<u64>,
    root: Option<StateRoot>,
    /// When the next round with some reader is due.
    pub(super) round: Duration,
    /// Live entries that are being fetched.
    pub(super) fetch: Option<Fetch>,
    /// When a checkpoint was last proposed here or one came to be due, and for which number.
    pub(super) cut_due: Option<(u64, Duration)>,
    pub(super) cut_said: Option<(u64, Duration)>,
    /// Entries of this member whose values are to be destroyed everywhere.
    pub(super) erased: BTreeMap<EntryId, RecordId>,
    /// Entries whose values have not come.
    pub(super) lacking: VecDeque<(EntryId, RecordId)>,
    /// Batches of this member that do not count at present, by number.
    pub(super) kept: BTreeMap<u64, Vec<u8>>,
    /// The member that first named it, where the log does not know it.
    pub(super) named_by: Option<PeerId>,
}

/// What signing came to.
pub(super) struct SignedBatch {
    pub(super) write: WriteBatch,
    pub(super) acks: Vec<(u64, EntryId)>,
    pub(super) keys: Vec<RecordId>,
}

/// What became of a write.
pub(super) enum Pushed {
    /// It waits to be signed.
    Waits,
    /// It changes nothing.
    Nothing,
    /// There is no room before a batch is signed.
    NoRoom(Change),
}

impl Collection {
    pub(super) fn new(me: PeerId, name: CollectionName, kind: CollectionKind) -> Self {
        Self::of(me, Replica::new(name, kind), Clock::default(), None)
    }

    fn of(me: PeerId, replica: Replica, clock: Clock, end: Option<ChainEnd>) -> Self {
        let end = end.unwrap_or_else(|| replica.chain_end(&me));
        let writer = Writer::new(me, replica.collection().clone(), end);
        Self {
            replica,
            clock,
            writer,
            since: None,
            spent: Duration::ZERO,
            pending: Vec::new(),
            pending_bytes: 0,
            pending_keys: BTreeMap::new(),
            waiting: VecDeque::new(),
            own_commit: 0,
            acks: VecDeque::new(),
            news_after: None,
            root: None,
            round: Duration::ZERO,
            fetch: None,
            cut_due: None,
            cut_said: None,
            erased: BTreeMap::new(),
            lacking: VecDeque::new(),
            kept: BTreeMap::new(),
            named_by: None,
        }
    }

    /// The collection from what its store holds.
    pub(super) fn restore(
        me: PeerId,
        name: CollectionName,
        kind: CollectionKind,
        mut saved: BTreeMap<Vec<u8>, Vec<u8>>,
        authors: &Writers<'_>,
    ) -> Result<Self, RestoreError> {
        let mark = saved.remove([MARK].as_slice()).and_then(|mark| mark.try_into().ok());
        let clock = mark.map_or(Hlc::ZERO, |mark| Hlc::from_bits(u64::from_be_bytes(mark)));
        let end = saved.remove([OWN].as_slice()).and_then(|end| end_from(&end));
        let (mut erased, mut kept) = (BTreeMap::new(), BTreeMap::new());
        saved.retain(|key, value| match key.split_first() {
            Some((&ASKED, id)) => {
                let id = <[u8; 32]>::try_from(id).ok().map(EntryId);
                let at = std::str::from_utf8(value).ok().and_then(|at| RecordId::new(at).ok());
                erased.extend(id.zip(at));
                false
            }
            Some((&KEPT, seq)) => {
                let seq = <[u8; 8]>::try_from(seq).ok().map(u64::from_be_bytes);
                kept.extend(seq.map(|seq| (seq, std::mem::take(value))));
                false
            }
            _ => true,
        });
        let replica = Replica::restore(name, kind, &saved, authors)?;
        let mut collection = Self::of(me, replica, Clock::restore(clock), end);
        (collection.erased, collection.kept) = (erased, kept);
        let lacking = collection.replica.lacking_values().map(|(key, id)| (id, key.clone()));
        collection.lacking = lacking.take(SHARED_LACKING_MAX).collect();
        Ok(collection)
    }

    pub(super) fn name(&self) -> &CollectionName {
        self.replica.collection()
    }

    pub(super) fn me(&self) -> PeerId {
        self.writer.author()
    }

    /// What is held, for others to compare.
    pub(super) fn held(&mut self) -> Held {
        let root = *self.root.get_or_insert_with(|| self.replica.state_root());
        Held { root, ..self.counts(root) }
    }

    pub(super) fn counts(&self, root: StateRoot) -> Held {
        let (epoch, batches) = (self.replica.checkpoint().epoch, self.replica.batches() as u64);
        Held { root, epoch, batches }
    }

    /// The replica is another one from here on.
    pub(super) fn touched(&mut self) {
        self.root = None;
    }

    pub(super) fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }

    /// Adds the clock's mark to what is saved.
    pub(super) fn mark(&self, write: &mut WriteBatch) {
        let mark = self.clock.mark().to_bits().to_be_bytes();
        write.changes.push((vec![MARK], Some(mark.to_vec())));
    }

    /// Whether something that this member signed is not on the disk yet: nothing may be sent then, for
    /// after a crash it would be signed anew and otherwise.
    pub(super) fn unsaved(&self, saved: u64) -> bool {
        self.own_commit > saved
    }

    /// A batch is signed at this time.
    pub(super) fn spend(&mut self, now: Duration) {
        self.spent = self.spent.max(now) + BATCH_STEP;
    }

    /// This commit holds something that this member signed.
    pub(super) fn signed_in(&mut self, number: u64) {
        self.own_commit = self.own_commit.max(number);
    }

    /// Whether the chain here is the one that this member has signed.
    pub(super) fn has_own_history(&self) -> bool {
        self.replica.chain_end(&self.me()) == self.writer.end()
    }

    /// This member has signed up to here, says a note beside the stores; whether the store lacks some of it.
    /// Nothing is signed then before that has come back from others.
    pub(super) fn recall(&mut self, end: ChainEnd) -> bool {
        if end.seq > self.writer.end().seq {
            self.writer = Writer::new(self.me(), self.name().clone(), end);
        }
        !self.has_own_history()
    }

    /// Whether it is time to sign.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.due_at().is_some_and(|at| at <= now)
    }

    /// When what waits is signed, if nothing signed is under way to the disk by then: at once, except that a
    /// collection of many small batches costs everybody a signature each. So only so many a second are
    /// signed at once; what comes beyond waits for its turn, at most [`BATCH_FLUSH_MILLIS`].
    pub(super) fn due_at(&self) -> Option<Duration> {
        let since = self.since?;
        if self.pending.len() >= BATCH_ENTRIES_MAX || !self.waiting.is_empty() {
            return Some(since);
        }
        let turn = self.spent.saturating_sub(BATCH_STEP * SHARED_BATCHES_AT_ONCE);
        Some(turn.clamp(since, since + Duration::from_millis(BATCH_FLUSH_MILLIS)))
    }

    /// What is seen at a key.
    pub(super) fn visible(&self, key: &RecordId, wall: Timestamp) -> Option<Visible> {
        self.replica.visible(key, wall)
    }

    /// Lets a write of somebody here wait to be signed.
    pub(super) fn write(
        &mut self,
        ticket: u64,
        key: &RecordId,
        change: Change,
        salt: [u8; 32],
        now: Now,
    ) -> Result<Pushed, ShareRefusal> {
        let kind = self.replica.checkpoint().kind;
        let put = matches!(change, Change::Put(_));
        let own = self.pending_keys.get(key).copied();
        let seen = self.visible(key, now.wall);
        match (kind, put) {
            (CollectionKind::GrowOnly, false) => {
                return Err(ShareRefusal::OnlyGrows(self.name().clone()));
            }
            (CollectionKind::GrowOnly, true) if own.is_some() || seen.is_some() => {
                return Ok(Pushed::Nothing);
            }
            (_, false) if own.is_none() && seen.is_none() => return Ok(Pushed::Nothing),
            _ => {}
        }
        if !self.within_quota() {
            return Err(ShareRefusal::Quota(self.name().clone()));
        }
        let observed = seen.map(|seen| seen.observed).unwrap_or_default();
        let dots: Vec<Dot> = own.into_iter().chain(observed.dots).take(DOTS_MAX).collect();
        let entries = dots.len().div_ceil(OBSERVED_DOTS_MAX).max(1);
        let full = self.pending.len() + entries > BATCH_ENTRIES_MAX;
        let more = if let Change::Put(bytes) = &change { bytes.len() } else { 0 };
        let heavy = self.pending_bytes > 0 && self.pending_bytes + more > SYNC_ITEMS_STEP_BYTES;
        if full || heavy {
            return Ok(Pushed::NoRoom(change));
        }
        let latest = observed.latest;
        let mut parts = dots.chunks(OBSERVED_DOTS_MAX);
        let first = Observed { dots: parts.next().unwrap_or_default().to_vec(), latest };
        let value = match change {
            Change::Put(bytes) => Some(Value { salt, bytes }),
            Change::Remove => None,
        };
        let failed = |error: WriteError| ShareRefusal::Failed(error.to_string());
        self.push(Some(ticket), key.clone(), value, None, first, now).map_err(failed)?;
        // What one entry cannot observe, removals beside it do.
        for part in parts {
            let rest = Observed { dots: part.to_vec(), latest };
            let removal = Some(Operation::Remove);
            self.push(None, key.clone(), None, removal, rest, now).map_err(failed)?;
        }
        Ok(Pushed::Waits)
    }

    /// Lets one entry wait. The operation is that of the value, unless it is given.
    pub(super) fn push(
        &mut self,
        ticket: Option<u64>,
        key: RecordId,
        value: Option<Value>,
        operation: Option<Operation>,
        observed: Observed,
        now: Now,
    ) -> Result<(), WriteError> {
        let removes = operation == Some(Operation::Remove);
        let operation =
            operation.unwrap_or_else(|| value.as_ref().map_or(Operation::Remove, Value::put));
        let index = u8::try_from(self.writer.pending()).map_err(|_| WriteError::Full)?;
        let dot = Dot::of_entry(self.me(), self.writer.end().seq + 1, index);
        self.writer.write(key.clone(), operation, observed, &mut self.clock, now.wall)?;
        self.pending_bytes += value.as_ref().map_or(0, |value| value.bytes.len());
        self.pending.push((ticket, value));
        // Of a write in several parts the first stands for all.
        if !(removes && ticket.is_none() && self.pending_keys.contains_key(&key)) {
            self.pending_keys.insert(key, dot);
        }
        self.since.get_or_insert(now.mono);
        Ok(())
    }

    /// Whether there is no room for a further entry.
    pub(super) fn is_full(&self) -> bool {
        self.writer.is_full()
    }

    /// Whether a write to this key waits.
    pub(super) fn has_pending(&self, key: &RecordId) -> bool {
        self.pending_keys.contains_key(key) || self.waiting.iter().any(|(_, at, _)| at == key)
    }

    /// Whether a batch has to be signed before an entry with this value waits.
    pub(super) fn has_no_room_for(&self, value: Option<&Value>) -> bool {
        let more = value.map_or(0, |value| value.bytes.len());
        let heavy = self.pending_bytes > 0 && self.pending_bytes + more > SYNC_ITEMS_STEP_BYTES;
        self.is_full() || heavy
    }

    /// Signs what waits and takes it in. What is to be saved holds the clock's mark and the chain's end.
    pub(super) fn sign(
        &mut self,
        keypair: &PostQuantumKeypair,
    ) -> Result<Option<SignedBatch>, String> {
        let reference: EpochRef = self.replica.epoch_ref();
        let flushed = self.writer.flush(keypair, reference).map_err(|error| error.to_string())?;
        let Some(batch) = flushed else { return Ok(None) };
        let pending = std::mem::take(&mut self.pending);
        self.pending_keys.clear();
        self.pending_bytes = 0;
        self.since = None;
        let keys = batch.entries().iter().map(|entry| entry.key.clone()).collect();
        let tickets = pending.iter().zip(batch.ids());
        let acks = tickets.filter_map(|((ticket, _), id)| Some(((*ticket)?, *id))).collect();
        let values = (0..=u8::MAX).zip(pending).filter_map(|(at, (_, value))| Some((at, value?)));
        let values = batch.open_values(values.collect());
        let applied = self.replica.apply(batch).map_err(|error| error.to_string())?;
        let mut write = applied.write;
        write.append(self.replica.put_values(values).map_err(|error| error.to_string())?);
        write.changes.push((vec![OWN], Some(end_bytes(&self.writer.end()))));
        self.mark(&mut write);
        self.touched();
        Ok(Some(SignedBatch { write, acks, keys }))
    }

    /// Everybody who waits for what could not be signed.
    pub(super) fn give_up(&mut self) -> Vec<u64> {
        let end = self.writer.end();
        self.writer = Writer::new(self.me(), self.name().clone(), end);
        self.pending_keys.clear();
        self.pending_bytes = 0;
        self.since = None;
        let signed = std::mem::take(&mut self.pending).into_iter().filter_map(|(ticket, _)| ticket);
        signed.chain(std::mem::take(&mut self.waiting).into_iter().map(|(t, ..)| t)).collect()
    }

    /// Whether this member may sign further entries above the checkpoint: others would not take more.
    fn within_quota(&self) -> bool {
        let (cut, end) = (self.replica.checkpoint().end_of(&self.me()), self.writer.end());
        let batch = (BATCH_ENTRIES_MAX * (ENTRY_BYTES_MAX + ENTRY_VALUE_BYTES_MAX)) as u64;
        end.seq - cut.seq < BATCHES_PER_AUTHOR_MAX
            && end.total_entries.saturating_sub(cut.total_entries) + BATCH_ENTRIES_MAX as u64
                <= ENTRIES_PER_AUTHOR_MAX
            && end.total_bytes.saturating_sub(cut.total_bytes) + batch <= ENTRY_BYTES_PER_AUTHOR_MAX
    }
}

/// How far this member's own chain goes once a write is on the disk, where the write adds to it: for
/// [`Shared::recall`](super::Shared::recall).
pub fn own_end(write: &WriteBatch) -> Option<&[u8]> {
    let own = |(key, _): &&(Vec<u8>, Option<Vec<u8>>)| key.as_slice() == [OWN];
    write.changes.iter().rev().find(own)?.1.as_deref()
}

/// As [`own_end`], of all that a store holds.
pub fn saved_end(saved: &BTreeMap<Vec<u8>, Vec<u8>>) -> Option<&[u8]> {
    saved.get([OWN].as_slice()).map(Vec::as_slice)
}

fn end_bytes(end: &ChainEnd) -> Vec<u8> {
    let numbers = [end.seq, end.total_entries, end.total_bytes];
    let numbers = numbers.iter().flat_map(|number| number.to_be_bytes());
    numbers.chain(end.hash.0).collect()
}

pub(super) fn end_from(bytes: &[u8]) -> Option<ChainEnd> {
    let number = |at: usize| {
        let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_be_bytes(bytes))
    };
    let hash = exo_crdt::HeaderHash(bytes.get(24..)?.try_into().ok()?);
    Some(ChainEnd { seq: number(0)?, total_entries: number(8)?, total_bytes: number(16)?, hash })
}

/// Keys of what is saved beside the replica's own: the clock's mark, the end of this member's chain,
/// entries that it asks others to erase, and its batches that do not count at present.
const MARK: u8 = b'm';
const OWN: u8 = b'o';
pub(super) const ASKED: u8 = b'x';
pub(super) const KEPT: u8 = b'k';
/// Dots that one write observes, in entries beside it where one entry cannot.
const DOTS_MAX: usize = 32 * OBSERVED_DOTS_MAX;
/// What one batch uses up.
const BATCH_STEP: Duration = Duration::from_nanos(1_000_000_000 / SHARED_BATCHES_PER_SECOND);
