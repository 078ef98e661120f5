//! What the tests share: members, writers and ways to join.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use exo_crdt::sim::Members;
use exo_crdt::{
    Batch, Clock, CollectionKind, Hlc, Observed, Replica, Value, VerifiedBatch, Writer,
};
use exo_types::codec::Wire;
use exo_types::{CollectionName, PeerId, RecordId, Timestamp};

pub(crate) const T0: Timestamp = Timestamp(1_800_000_000_000);

pub(crate) fn members() -> &'static Members {
    static MEMBERS: OnceLock<Members> = OnceLock::new();
    MEMBERS.get_or_init(|| Members::new(4).expect("keys"))
}

pub(crate) fn peer(n: u8) -> PeerId {
    PeerId::new([n; 32])
}

pub(crate) fn name() -> CollectionName {
    CollectionName::new("shared").expect("a name")
}

pub(crate) fn key(text: &str) -> RecordId {
    RecordId::new(text).expect("a key")
}

pub(crate) fn value(n: u8) -> Value {
    Value { salt: [n; 32], bytes: vec![n; 3] }
}

pub(crate) fn bytes<T: Wire>(value: &T) -> Vec<u8> {
    value.to_wire().expect("encodes")
}

/// A cheap source of numbers.
#[derive(Clone)]
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut x = self.0;
        x ^= x >> 33;
        x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
        x ^ (x >> 33)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn id(&mut self) -> [u8; 32] {
        core::array::from_fn(|_| self.next() as u8)
    }
}

/// A member with a replica of its own.
pub(crate) struct Member {
    pub(crate) at: usize,
    pub(crate) replica: Replica,
    pub(crate) writer: Writer,
    pub(crate) clock: Clock,
    /// What it saved.
    pub(crate) saved: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Member {
    pub(crate) fn new(at: usize, kind: CollectionKind) -> Self {
        let replica = Replica::new(name(), kind);
        let author = members().keypair(at).peer_id();
        let writer = Writer::new(author, name(), replica.chain_end(&author));
        Self { at, replica, writer, clock: Clock::default(), saved: BTreeMap::new() }
    }

    pub(crate) fn author(&self) -> PeerId {
        self.writer.author()
    }

    pub(crate) fn put(&mut self, at: &str, n: u8, now: Timestamp) {
        let observed = self.observed(at, now);
        self.write(at, value(n).put(), observed, now);
    }

    pub(crate) fn remove(&mut self, at: &str, now: Timestamp) {
        let observed = self.observed(at, now);
        self.write(at, exo_crdt::Operation::Remove, observed, now);
    }

    pub(crate) fn write(
        &mut self,
        at: &str,
        operation: exo_crdt::Operation,
        observed: Observed,
        now: Timestamp,
    ) {
        self.writer.write(key(at), operation, observed, &mut self.clock, now).expect("writes");
    }

    pub(crate) fn observed(&self, at: &str, now: Timestamp) -> Observed {
        let view = self.replica.view(now);
        view.keys.get(&key(at)).map(|seen| seen.observed.clone()).unwrap_or_default()
    }

    /// Signs what was written and applies it here.
    pub(crate) fn flush(&mut self) -> Batch {
        let keypair = members().keypair(self.at);
        let batch = self.writer.flush(keypair, self.replica.epoch_ref()).expect("signs");
        let batch = batch.expect("something was written");
        let sent = batch.to_batch();
        self.apply(batch);
        sent
    }

    pub(crate) fn take(&mut self, batch: &Batch) {
        let verified = VerifiedBatch::verify(batch.clone(), &name(), members()).expect("verifies");
        self.apply(verified);
    }

    fn apply(&mut self, batch: VerifiedBatch) {
        let outcome = self.replica.apply(batch).expect("applies");
        self.clock.fold(outcome.latest, Timestamp(u64::MAX));
        self.save(&outcome.write);
    }

    pub(crate) fn save(&mut self, write: &exo_crdt::WriteBatch) {
        for (at, value) in &write.changes {
            match value {
                Some(value) => self.saved.insert(at.clone(), value.clone()),
                None => self.saved.remove(at),
            };
        }
    }

    /// The keys that are seen.
    pub(crate) fn keys(&self, now: Timestamp) -> Vec<String> {
        self.replica.view(now).keys.keys().map(ToString::to_string).collect()
    }

    pub(crate) fn restored(&self) -> Replica {
        let kind = self.replica.checkpoint().kind;
        Replica::restore(name(), kind, &self.saved, members()).expect("restores")
    }
}

pub(crate) fn hlc(millis: u64, counter: u16) -> Hlc {
    Hlc::new(millis, counter)
}
