//! A simulated disk: a journal of which a crash keeps a prefix, and the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use exo_types::Epoch;

use super::rng::Rng;
use super::tree::{leaf_hash, prove_consistency};
use crate::blob::Root;
use crate::certificate::Certificate;
use crate::entry::LoggedBatch;
use crate::guard::Record;
use crate::serve::Archive;

/// What was written, in order; only the first `durable` are sure to survive.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    written: Vec<Written>,
    durable: usize,
    /// How many were reported: those, and what follows and binds nobody.
    reported: usize,
    /// Where the present life began.
    base: usize,
    /// How many an fsync under way covers.
    pub(crate) syncing: Option<usize>,
    log: Vec<(usize, u64, Arc<LoggedBatch>)>,
    leaves: Vec<Root>,
    ends: BTreeMap<Epoch, (usize, Arc<Certificate>)>,
}

#[derive(Debug)]
enum Written {
    Record(Record),
    Rotated(Vec<Record>),
}

impl Disk {
    pub(crate) fn write(&mut self, record: Record) {
        let at = self.written.len();
        match &record {
            Record::Append(batch) => {
                let first = self.leaves.len() as u64;
                self.leaves.extend(batch.leaves().map(|leaf| leaf_hash(&leaf)));
                self.log.push((at, first, Arc::clone(batch.batch())));
            }
            Record::Certified(certificate) if certificate.seal.turn.is_some() => {
                self.ends.entry(certificate.epoch()).or_insert((at, Arc::clone(certificate)));
            }
            _ => {}
        }
        self.written.push(Written::Record(record));
    }

    pub(crate) fn rotate(&mut self, records: Vec<Record>) {
        self.written.push(Written::Rotated(records));
    }

    /// How many records there are in all.
    pub(crate) fn len(&self) -> usize {
        self.written.len()
    }

    pub(crate) fn durable(&self) -> usize {
        self.durable
    }

    /// An fsync has finished; gives the number to report.
    pub(crate) fn synced(&mut self, covered: usize) -> u64 {
        self.durable = self.durable.max(covered);
        self.reported = self.durable + self.loose().count();
        (self.reported - self.base) as u64
    }

    /// Up to where there is something to report, with the next fsync or without one.
    pub(crate) fn due(&self) -> Option<usize> {
        let reach = self.durable + self.loose().count();
        if reach < self.written.len() {
            return Some(self.written.len());
        }
        (reach > self.reported).then_some(self.durable)
    }

    /// What comes after the last fsync and need not wait for one.
    fn loose(&self) -> impl Iterator<Item = &Written> {
        let binds = |of: &Written| !matches!(of, Written::Record(record) if !record.binds());
        self.written[self.durable..].iter().take_while(move |of| !binds(of))
    }

    /// A crash: of what was not yet durable some first part survives. Gives how many records are left.
    pub(crate) fn crash(&mut self, rng: &mut Rng) -> usize {
        let torn = self.written.len() - self.durable;
        let kept = self.durable + rng.below(torn + 1);
        self.written.truncate(kept);
        (self.durable, self.reported) = (kept, kept);
        self.base = kept;
        self.syncing = None;
        self.log.retain(|(at, _, _)| *at < kept);
        let leaves = self.log.last().map_or(0, |(_, first, batch)| first + batch.size());
        self.leaves.truncate(leaves as usize);
        self.ends.retain(|_, (at, _)| *at < kept);
        kept
    }

    /// The records since the journal was begun anew last.
    pub(crate) fn records(&self) -> Vec<Record> {
        let begun = self.written.iter().rposition(|w| matches!(w, Written::Rotated(_)));
        let mut records = Vec::new();
        for written in &self.written[begun.unwrap_or(0)..] {
            match written {
                Written::Record(record) => records.push(record.clone()),
                Written::Rotated(all) => records.extend(all.iter().cloned()),
            }
        }
        records
    }
}

impl Archive for Disk {
    fn end_of(&self, epoch: Epoch) -> Option<Arc<Certificate>> {
        self.ends.get(&epoch).map(|(_, certificate)| Arc::clone(certificate))
    }

    fn batch_at(&self, leaf: u64) -> Option<LoggedBatch> {
        let at = self.log.binary_search_by_key(&leaf, |(_, first, _)| *first).ok()?;
        Some((*self.log[at].2).clone())
    }

    fn consistency(&self, old: u64, new: u64) -> Option<Vec<Root>> {
        prove_consistency(&self.leaves, old, new)
    }
}
