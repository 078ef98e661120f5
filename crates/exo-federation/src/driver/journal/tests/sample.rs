//! Records as a replica might write them, and what is to be found after them.

use std::collections::BTreeMap;
use std::sync::Arc;

use exo_consensus::{
    Archive as _, Base, Blob, Certificate, Digest, Guard, Logged, LoggedBatch, Point, Record,
    Replicated, Role, Root, Seal, Seat, SeatSignature, Turn, Update, Voter, Voters,
};
use exo_log::{MemoryTree, TreeHash, leaf_hash, root_at};
use exo_types::{Epoch, FederationId, PeerId, Sequence, View};

use tempfile::TempDir;

use super::super::Archive;

/// A replica's life, from the same seed always the same.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    rng: Rng,
    number: u64,
    records: Vec<Record>,
    tree: MemoryTree,
    batches: Vec<(u64, LoggedBatch)>,
    epoch: Epoch,
    latest: Option<Arc<Certificate>>,
    ends: BTreeMap<Epoch, Arc<Certificate>>,
}

impl Script {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            number: 0,
            records: Vec::new(),
            tree: MemoryTree::new(),
            batches: Vec::new(),
            epoch: Epoch::GENESIS,
            latest: None,
            ends: BTreeMap::new(),
        }
    }

    /// Numbers begin anew.
    pub(crate) fn begin_life(&mut self) {
        self.number = 0;
    }

    /// The number of the last record.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The records since the journal was begun anew.
    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(crate) fn latest(&self) -> Option<Arc<Certificate>> {
        self.latest.clone()
    }

    pub(crate) fn ends(&self) -> &BTreeMap<Epoch, Arc<Certificate>> {
        &self.ends
    }

    pub(crate) fn batches(&self) -> &[(u64, LoggedBatch)] {
        &self.batches
    }

    pub(crate) fn tree(&self) -> &MemoryTree {
        &self.tree
    }

    /// The next records.
    pub(crate) fn group(&mut self, count: usize) -> Vec<(u64, Record)> {
        (0..count).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> (u64, Record) {
        if self.records.is_empty() {
            return self.record(founded());
        }
        let sequence = self.sequence();
        let digest = Digest([self.rng.below(256) as u8; 32]);
        let guard = Guard { epoch: self.epoch, view: View(0), sequence, digest };
        match self.rng.below(5) {
            0 => self.record(Record::Accepted(guard)),
            1 => self.record(Record::Prepared(guard)),
            2 if !self.batches.is_empty() => {
                let certificate = self.certificate();
                self.record(Record::Certified(certificate))
            }
            _ => {
                let updates = self.rng.below(4) as usize;
                self.append(updates, None)
            }
        }
    }

    /// A batch of so many updates.
    pub(crate) fn batch_of(&mut self, updates: usize) -> Vec<(u64, Record)> {
        vec![self.append(updates, None)]
    }

    /// The last batch of an epoch and its certificate.
    pub(crate) fn end_epoch(&mut self) -> Vec<(u64, Record)> {
        let turn = Turn::Rejoin { member: PeerId::new([1; 32]), nonce: self.rng.below(1 << 30) };
        let last = self.append(1, Some(turn));
        let certificate = self.certificate();
        self.ends.insert(self.epoch, Arc::clone(&certificate));
        let certified = self.record(Record::Certified(certificate));
        self.epoch = self.epoch.next().expect("few epochs");
        vec![last, certified]
    }

    /// The state as a new journal.
    pub(crate) fn rotate(&mut self) -> (u64, Vec<Record>) {
        self.records.clear();
        let (number, base) = self.base();
        self.records.push(base);
        let guard = Guard {
            epoch: self.epoch,
            view: View(3),
            sequence: self.sequence(),
            digest: Digest([9; 32]),
        };
        self.records.push(Record::Accepted(guard));
        (number, self.records.clone())
    }

    fn base(&mut self) -> (u64, Record) {
        let point = self.point();
        let base = Base {
            federation: FederationId::new([7; 32]),
            replica: PeerId::new([1; 32]),
            role: Role::Voter,
            state: Replicated::genesis(voters(), point),
            size: self.tree.size(),
            peaks: self.tree.frontier().peaks().iter().map(root).collect(),
            stable: point,
            certificate: self.latest.clone(),
            past: Vec::new(),
            owed: Vec::new(),
        };
        self.number += 1;
        (self.number, Record::Base(Box::new(base)))
    }

    fn append(&mut self, updates: usize, turn: Option<Turn>) -> (u64, Record) {
        let member = PeerId::new([2; 32]);
        let update = |index| {
            let len = self.rng.below(300) as usize;
            let content = vec![self.rng.below(256) as u8; len];
            let update = Update::Data(Blob::new(content).expect("short"));
            Logged { member, number: 1, index, update }
        };
        let updates = (0..updates as u32).map(update).collect();
        let sequence = self.sequence();
        let seal = Seal { epoch: self.epoch, sequence, digest: Digest([3; 32]), turn };
        let batch = LoggedBatch { updates, seal };
        self.batches.push((self.tree.size(), batch.clone()));
        for leaf in batch.leaves() {
            self.tree.append(leaf_hash(&leaf)).expect("few leaves");
        }
        self.record(Record::Append(batch.into()))
    }

    /// Of the whole log.
    pub(crate) fn certificate(&mut self) -> Arc<Certificate> {
        let signature = |seat| SeatSignature {
            seat: Seat(seat),
            signature: Blob::new(vec![seat + 1; 40]).expect("short"),
        };
        let point = self.point();
        let certificate = Arc::new(Certificate {
            size: point.size,
            root: point.root,
            seal: self.batches.last().expect("a batch").1.seal.clone(),
            peaks: Vec::new(),
            signatures: (0..3).map(signature).collect(),
        });
        if self.latest.as_ref().is_none_or(|latest| latest.size < point.size) {
            self.latest = Some(Arc::clone(&certificate));
        }
        certificate
    }

    fn record(&mut self, record: Record) -> (u64, Record) {
        self.number += 1;
        self.records.push(record.clone());
        (self.number, record)
    }

    fn sequence(&self) -> Sequence {
        Sequence(self.batches.len() as u64 + 1)
    }

    fn point(&self) -> Point {
        let sequence = Sequence(self.batches.len() as u64);
        Point { sequence, size: self.tree.size(), root: root(&self.tree.root()) }
    }

    /// The log is the script's as far as it goes; gives how many batches it has.
    pub(crate) fn check_prefix(&self, archive: &Archive) -> usize {
        let size = archive.size();
        let root = root_at(size, &self.tree).expect("it is not longer than the script's");
        assert_eq!(archive.root(size), Some(root));
        let mut batches = 0;
        for (first, batch) in self.batches.iter().take_while(|(first, _)| *first < size) {
            assert_eq!(archive.batch_at(*first).as_ref(), Some(batch));
            batches += 1;
        }
        batches
    }

    /// The log is the script's.
    pub(crate) fn check(&self, archive: &Archive) {
        assert_eq!(archive.size(), self.tree.size());
        assert_eq!(self.check_prefix(archive), self.batches.len());
    }
}

pub(crate) fn founded() -> Record {
    Record::Founded {
        federation: FederationId::new([7; 32]),
        replica: PeerId::new([1; 32]),
        voters: voters(),
        role: Role::Voter,
    }
}

fn voters() -> Arc<Voters> {
    let voter =
        |n| Voter { id: PeerId::new([n; 32]), keys: Blob::new(vec![n; 16]).expect("short") };
    Arc::new(Voters::new((1..=4).map(voter).collect()).expect("four"))
}

fn root(hash: &TreeHash) -> Root {
    Root(*hash.as_bytes())
}

/// A directory in memory where the system has one: these tests end the power themselves, and need no
/// disk to be slow.
pub(crate) fn directory() -> TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir()).expect("a directory")
}

/// Xorshift: the same numbers from the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}
