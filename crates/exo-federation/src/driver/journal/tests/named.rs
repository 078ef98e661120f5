//! Batches whose content the journal has already.

use std::fs;
use std::sync::Arc;

use exo_consensus::{
    Batch, Blob, Bundle, BundleHead, Digest, Logged, LoggedBatch, Record, Seal, Update, bundle_root,
};
use exo_crypto::{PostQuantumKeypair, Signed};
use exo_types::limits::JOURNAL_CONTENTS_MAX;
use exo_types::{Epoch, FederationId, Sequence};
use tempfile::TempDir;

use super::super::{Journal, Opened};
use super::sample::directory;

/// A journal, what was written to it, and how many times its file has each bundle's content.
struct Case {
    dir: TempDir,
    journal: Journal,
    records: Vec<Record>,
    keypair: PostQuantumKeypair,
    sequence: u64,
}

impl Case {
    fn new() -> Self {
        let dir = directory();
        let journal = Journal::open(dir.path()).expect("opens").journal;
        let keypair = PostQuantumKeypair::from_seed(&[5; 32]).expect("a seed expands");
        Self { dir, journal, records: Vec::new(), keypair, sequence: 0 }
    }

    /// A bundle whose first update begins with its number eight times.
    fn bundle(&self, number: u64) -> Arc<Bundle> {
        let content = number.to_le_bytes().repeat(8);
        let updates: Vec<Update> = [content, vec![1; 40], Vec::new()]
            .map(|content| Update::Data(Blob::new(content).expect("short")))
            .into();
        let head = BundleHead {
            federation: FederationId::new([7; 32]),
            member: self.keypair.peer_id(),
            number,
            count: updates.len() as u32,
            root: bundle_root(&updates),
        };
        let head = Signed::sign(head, &self.keypair).expect("signs").into_signed();
        Arc::new(Bundle { head, updates })
    }

    fn content(&mut self, numbers: &[u64]) -> Batch {
        let batch = Batch { bundles: numbers.iter().map(|n| self.bundle(*n)).collect() };
        self.write(Record::Batch(batch.clone()));
        batch
    }

    /// What is carried out of a batch: the bundles of these numbers.
    fn logged(&mut self, batch: &Batch, numbers: &[u64]) -> LoggedBatch {
        self.sequence += 1;
        let mut updates = Vec::new();
        for bundle in &batch.bundles {
            let head = bundle.head.claimed().expect("decodes");
            if numbers.contains(&head.number) {
                updates.extend((0..).zip(&bundle.updates).map(|(index, update)| Logged {
                    member: head.member,
                    number: head.number,
                    index,
                    update: update.clone(),
                }));
            }
        }
        let sequence = Sequence(self.sequence);
        let seal = Seal { epoch: Epoch::GENESIS, sequence, digest: batch.digest(), turn: None };
        LoggedBatch { updates, seal }
    }

    fn write(&mut self, record: Record) {
        let number = self.records.len() as u64 + 1;
        self.records.push(record.clone());
        self.journal.append(&[(number, record)]).expect("writes");
    }

    fn reopen(&mut self) {
        self.journal.sync().expect("syncs");
        let Opened { journal, archive, records, .. } =
            Journal::open(self.dir.path()).expect("opens");
        assert_eq!(records, self.records);
        let logged = self.records.iter().filter_map(|record| match record {
            Record::Append(batch) => Some((**batch).clone()),
            _ => None,
        });
        let batches = archive.batches(0, 1000).expect("reads").into_iter().map(|(_, batch)| batch);
        assert_eq!(batches.collect::<Vec<_>>(), logged.collect::<Vec<_>>());
        self.journal = journal;
    }

    /// How often the journal's file has the content of the bundle of that number.
    fn times(&self, number: u64) -> usize {
        let file = self.dir.path().join("journal/journal-00000001");
        let bytes = fs::read(file).expect("reads");
        let content = number.to_le_bytes().repeat(8);
        bytes.windows(content.len()).filter(|window| *window == content).count()
    }
}

#[test]
fn a_committed_batch_whose_content_is_there_is_not_written_again() {
    let mut case = Case::new();
    let batch = case.content(&[11, 12]);
    let logged = case.logged(&batch, &[11, 12]);
    case.write(Record::Append(logged.into()));
    assert_eq!((case.times(11), case.times(12)), (1, 1));
    case.reopen();

    // Whichever was not its member's next is passed over.
    let batch = case.content(&[13, 14, 15]);
    case.reopen();
    let logged = case.logged(&batch, &[13, 15]);
    case.write(Record::Append(logged.into()));
    assert_eq!((case.times(13), case.times(14), case.times(15)), (1, 1, 1));
    case.reopen();
    let nothing = Batch::default();
    let logged = case.logged(&nothing, &[]);
    case.write(Record::Append(logged.into()));
    case.reopen();
}

#[test]
fn a_batch_whose_content_is_not_there_is_written_whole() {
    let mut case = Case::new();
    let foreign = Batch { bundles: vec![case.bundle(21)] };
    let logged = case.logged(&foreign, &[21]);
    case.write(Record::Append(logged.into()));
    assert_eq!(case.times(21), 1);
    case.reopen();

    // The content is there; what is in the log is not quite the same.
    let changes: [fn(&mut LoggedBatch); 5] = [
        |logged| logged.updates.truncate(2),
        |logged| logged.updates[1].index = 7,
        |logged| logged.updates[0].update = Update::Rejoin { nonce: 1 },
        |logged| logged.seal.digest = Digest([3; 32]),
        |logged| logged.updates.extend_from_within(..1),
    ];
    for (number, change) in (31..).zip(changes) {
        let batch = case.content(&[number, 99]);
        let mut logged = case.logged(&batch, &[number, 99]);
        change(&mut logged);
        case.write(Record::Append(logged.into()));
        case.reopen();
    }
}

#[test]
fn contents_that_were_never_carried_out_are_forgotten_by_writer_and_reader_alike() {
    let mut case = Case::new();
    let old: Vec<Batch> = (0..3).map(|n| case.content(&[100 + n])).collect();
    for number in 0..JOURNAL_CONTENTS_MAX as u64 - 1 {
        case.content(&[200 + number]);
    }
    for (number, batch) in (100..).zip(&old) {
        let logged = case.logged(batch, &[number]);
        case.write(Record::Append(logged.into()));
    }
    assert_eq!([100, 101, 102].map(|n| case.times(n)), [2, 2, 1], "the newest are known");
    case.reopen();
}
