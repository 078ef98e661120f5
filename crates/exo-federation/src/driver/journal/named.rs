//! Batches that stand in the journal once: a replica writes a batch's content before it votes for it, and
//! when the batch is committed, its leaves. Mostly those are the same updates, so the record then names the
//! bundles that were carried out instead of having them a second time. The log has the batch as it is.
//!
//! Writer and reader keep the same contents at the same places of a file: the newest few that were not
//! carried out. A batch that is not among them, such as one that others sent with the log, is written whole.

use std::collections::VecDeque;

use exo_consensus::{Appended, Batch, Digest, Logged, LoggedBatch, Record, Seal, Update};
use exo_types::bounded;
use exo_types::codec::{CodecError, Wire, encode_onto, invalid};
use exo_types::limits::{BATCH_BUNDLES_MAX, JOURNAL_CONTENTS_MAX};
use serde::{Deserialize, Serialize};

/// Contents of batches that records may name.
#[derive(Debug, Default)]
pub(super) struct Contents(VecDeque<(Digest, Batch)>);

/// A batch by name, in place of [`Record::Append`].
#[derive(Serialize, Deserialize)]
struct Named {
    /// Places in the batch of the bundles that were carried out, in order.
    #[serde(deserialize_with = "bounded::list::<_, _, BATCH_BUNDLES_MAX>")]
    bundles: Vec<u16>,
    seal: Seal,
}

impl Wire for Named {
    const BYTES_MAX: usize = <Record as Wire>::BYTES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        Ok(())
    }
}

impl Contents {
    /// Those after these records.
    pub(super) fn after(records: &[Record]) -> Self {
        let mut contents = Self::default();
        records.iter().for_each(|record| contents.note(record));
        contents
    }

    /// A record was written or read.
    pub(super) fn note(&mut self, record: &Record) {
        match record {
            Record::Batch(batch) => {
                if self.0.len() >= JOURNAL_CONTENTS_MAX {
                    self.0.pop_front();
                }
                self.0.push_back((batch.digest(), batch.clone()));
            }
            Record::Append(batch) => self.0.retain(|(digest, _)| *digest != batch.seal.digest),
            _ => {}
        }
    }

    /// The encoding by name of a batch whose content is here; `None` for everything else.
    pub(super) fn name(&self, record: &Record) -> Option<Vec<u8>> {
        let Record::Append(logged) = record else { return None };
        let bundles = carried_out(self.of(&logged.seal.digest)?, logged)?;
        let mut body = vec![NAMED];
        encode_onto(&mut body, &Named { bundles, seal: logged.seal.clone() }).ok()?;
        Some(body)
    }

    /// The record with this encoding.
    pub(super) fn read(&self, body: &[u8]) -> Result<Record, CodecError> {
        let Some((&NAMED, body)) = body.split_first() else { return Record::from_wire(body) };
        let Named { bundles, seal } = Named::from_wire(body)?;
        let missing = || invalid("a batch that is not here");
        let batch = self.of(&seal.digest).ok_or_else(missing)?;
        let mut updates = Vec::new();
        for at in bundles {
            let bundle = batch.bundles.get(usize::from(at)).ok_or_else(missing)?;
            let head = bundle.head.claimed()?;
            let (member, number) = (head.member, head.number);
            updates.extend((0..).zip(&bundle.updates).map(|(index, update)| Logged {
                member,
                number,
                index,
                update: update.clone(),
            }));
        }
        let record = Record::Append(Appended::from(LoggedBatch { updates, seal }));
        record.check().map(|()| record)
    }

    fn of(&self, digest: &Digest) -> Option<&Batch> {
        self.0.iter().find(|(name, _)| name == digest).map(|(_, batch)| batch)
    }
}

/// The bundles of the batch whose updates are those in the log; `None` when other ones are there, too.
fn carried_out(batch: &Batch, logged: &LoggedBatch) -> Option<Vec<u16>> {
    let mut rest = logged.updates.as_slice();
    let mut taken = Vec::new();
    for (at, bundle) in (0..).zip(&batch.bundles) {
        let head = bundle.head.claimed().ok()?;
        let whose = |logged: &Logged| (logged.member, logged.number) == (head.member, head.number);
        if !rest.first().is_some_and(whose) {
            continue;
        }
        let (these, behind) = rest.split_at_checked(bundle.updates.len())?;
        let same = |(index, (logged, update)): (u32, (&Logged, &Update))| {
            whose(logged) && logged.index == index && logged.update == *update
        };
        if !(0..).zip(these.iter().zip(&bundle.updates)).all(same) {
            return None;
        }
        taken.push(at);
        rest = behind;
    }
    rest.is_empty().then_some(taken)
}

/// How a batch by name begins; records begin with their number, which is smaller.
const NAMED: u8 = 0x7f;
