//! What a synchronisation asks of a replica: what is held, and items to send.

use std::collections::BTreeMap;

use exo_types::PeerId;
use exo_types::limits::SYNC_ITEMS_STEP_BYTES;

use super::{Above, Replica};
use crate::batch::Batch;
use crate::entry::Entry;
use crate::hash::{EntryId, HeaderHash};
use crate::sync::message::{ChainTip, Item, ShownGroup, tip_author};
use crate::writer::ChainEnd;

/// An item that is in no unbroken chain of an author without blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loose {
    Batch(PeerId, u64, HeaderHash),
    Shown(EntryId),
    Evidence(PeerId, u64),
}

impl Replica {
    /// The chains that are compared by their ends: unbroken and of authors without blame.
    pub(crate) fn tips(&self) -> Vec<(PeerId, ChainTip)> {
        let blameless = self.authors_above().filter(|author| !self.evidence.accuses(author));
        let tips = blameless.map(|author| (author, self.tip_at(author, self.chain_end(&author))));
        tips.filter(|(author, tip)| !self.cut.covers(author, tip.seq)).collect()
    }

    /// The author's tip under the cut, where it has no batches above.
    pub(crate) fn cut_tip(&self, author: PeerId) -> ChainTip {
        self.tip_at(author, self.cut.end_of(&author))
    }

    fn tip_at(&self, author: PeerId, end: ChainEnd) -> ChainTip {
        let mut hash = [0; 16];
        hash.copy_from_slice(&end.hash.0[..16]);
        ChainTip { author: tip_author(&author), seq: end.seq, hash }
    }

    /// The author that a tip names, among those known here.
    pub(crate) fn author_of(&self, short: [u8; 8]) -> Option<PeerId> {
        let under = self.cut.frontier.iter().map(|batch| batch.author);
        self.authors_above().chain(under).find(|author| tip_author(author) == short)
    }

    /// Whether an author's chain here went through a tip.
    pub(crate) fn went_through(&self, author: PeerId, tip: &ChainTip) -> bool {
        let cut = self.cut.end_of(&author);
        // Both ends have the same cut: below it there is nothing to compare.
        tip.seq <= cut.seq
            || self.chain(author).any(|(end, _)| end.seq == tip.seq && end.hash.0[..16] == tip.hash)
    }

    /// The batches of an author's chain after a number.
    pub(crate) fn chain_items(&self, author: PeerId, after: u64) -> Vec<Item> {
        let newer = self.chain(author).filter(|(end, _)| end.seq > after);
        newer.map(|(_, batch)| self.batch_item(batch)).collect()
    }

    /// Every batch of an author above the cut, on whichever history.
    pub(crate) fn author_items(&self, author: PeerId) -> Vec<Item> {
        let of_author = self.above.range((author, 0)..=(author, u64::MAX));
        of_author.flat_map(|(_, forks)| forks.values()).map(|b| self.batch_item(b)).collect()
    }

    /// An author's entries above the cut with their ids and batch numbers: what it must sign again if a
    /// checkpoint makes them void.
    pub fn author_entries(&self, author: PeerId) -> BTreeMap<(EntryId, u64), Entry> {
        let entries = |(_, batch): (_, &Above)| {
            let ids = batch.ids.iter().map(|id| (*id, batch.header.seq));
            ids.zip(batch.entries.clone()).collect::<Vec<_>>()
        };
        self.chain(author).flat_map(entries).collect()
    }

    /// Whether a batch, or its header where it is void, is held above the cut.
    pub fn holds(&self, author: &PeerId, seq: u64, hash: &HeaderHash) -> bool {
        self.above.get(&(*author, seq)).is_some_and(|forks| forks.contains_key(hash))
    }

    /// The batches of an author above the cut after a number, on whichever history, without void ones: what
    /// is dropped when its history ends there.
    pub fn items_after(&self, author: PeerId, seq: u64) -> Vec<Item> {
        let from = (author, seq.saturating_add(1));
        let forks =
            self.above.range(from..=(author, u64::MAX)).flat_map(|(_, forks)| forks.values());
        forks.filter(|batch| batch.bytes.is_some()).map(|batch| self.batch_item(batch)).collect()
    }

    /// Everything that is held: with the checkpoint and the live set an export that whoever knows the
    /// members can verify.
    pub fn items(&self) -> Vec<Item> {
        let mut items: Vec<_> = self.batches_above().map(|batch| self.batch_item(batch)).collect();
        let under = self.under.keys().map(|id| Loose::Shown(*id));
        let proofs = self.evidence.iter().map(|((author, seq), _)| Loose::Evidence(*author, *seq));
        items.extend(self.loose_items(under.chain(proofs)));
        items
    }

    /// Everything that the chains' ends do not tell, with the ids by which it is compared.
    pub(crate) fn loose(&self) -> (Vec<Loose>, Vec<[u8; 32]>) {
        let mut loose = Vec::with_capacity(self.under.len());
        let mut ids = Vec::with_capacity(self.under.len());
        for ((author, seq), forks) in &self.above {
            let in_chain = !self.evidence.accuses(author) && *seq <= self.chain_end(author).seq;
            for hash in forks.keys().filter(|_| !in_chain) {
                loose.push(Loose::Batch(*author, *seq, *hash));
                ids.push(hash.0);
            }
        }
        for id in self.under.keys() {
            loose.push(Loose::Shown(*id));
            ids.push(id.0);
        }
        for ((author, seq), proof) in self.evidence.iter() {
            loose.push(Loose::Evidence(*author, *seq));
            ids.push(proof.id().0);
        }
        (loose, ids)
    }

    /// Items to send; what is no longer held is left out. Entries of one batch go together.
    pub(crate) fn loose_items(&self, wanted: impl Iterator<Item = Loose>) -> Vec<Item> {
        let mut items = Vec::new();
        let mut groups: BTreeMap<HeaderHash, ShownGroup> = BTreeMap::new();
        let mut rooms: BTreeMap<HeaderHash, usize> = BTreeMap::new();
        for item in wanted {
            match item {
                Loose::Batch(author, seq, hash) => {
                    let held = self.above.get(&(author, seq)).and_then(|forks| forks.get(&hash));
                    items.extend(held.map(|batch| self.batch_item(batch)));
                }
                Loose::Evidence(author, seq) => {
                    let proofs = self.evidence.iter();
                    let held = proofs.filter(|(place, _)| **place == (author, seq));
                    items.extend(held.map(|(_, proof)| Item::Evidence(proof.clone())));
                }
                Loose::Shown(id) => {
                    let Some(under) = self.under.get(&id) else { continue };
                    let group = groups.entry(under.header.hash()).or_insert_with(|| ShownGroup {
                        header: under.header.signed().clone(),
                        entries: Vec::new(),
                    });
                    let room = rooms.entry(under.header.hash()).or_insert(VALUES_BYTES_MAX);
                    let value = self.values.get(&id).filter(|value| takes(room, value)).cloned();
                    let entry = (under.index, under.entry.clone(), under.path.clone(), value);
                    group.entries.push(entry);
                }
            }
        }
        items.extend(groups.into_values().map(Item::Shown));
        items
    }

    fn batch_item(&self, batch: &Above) -> Item {
        let header = batch.header.signed().clone();
        if batch.bytes.is_none() {
            return Item::Void(header);
        }
        let with_values = batch.ids.iter().zip(0..=u8::MAX);
        let mut room = VALUES_BYTES_MAX;
        let values = with_values
            .filter_map(|(id, index)| Some((index, self.values.get(id)?)))
            .filter(|(_, value)| takes(&mut room, value))
            .map(|(index, value)| (index, value.clone()))
            .collect();
        Item::Batch { batch: Batch { header, entries: batch.entries.clone() }, values }
    }
}

/// Whether a value finds room beside those before it. What does not is asked for by itself: one item must
/// fit into one message, whatever its author signed.
fn takes(room: &mut usize, value: &crate::entry::Value) -> bool {
    let left = room.checked_sub(value.bytes.len());
    *room = left.unwrap_or(*room);
    left.is_some()
}

/// Bytes of values in one item.
const VALUES_BYTES_MAX: usize = 4 * SYNC_ITEMS_STEP_BYTES;
