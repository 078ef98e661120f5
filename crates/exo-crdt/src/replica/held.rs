//! What a synchronisation asks of a replica: what is held, and items to send.

use std::collections::{BTreeMap, VecDeque};

use exo_types::PeerId;
use exo_types::limits::{SYNC_ITEMS_STEP_BYTES, SYNC_PART_BYTES};

use super::{Above, Replica};
use crate::batch::Batch;
use crate::entry::Entry;
use crate::hash::{EntryId, HeaderHash};
use crate::sync::message::{ChainTip, ITEMS_MAX, Item, ShownGroup, tip_author};
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
    pub(crate) fn chain_items(&self, author: PeerId, after: u64) -> Vec<Loose> {
        let newer = self.chain(author).filter(|(end, _)| end.seq > after);
        newer.map(|(end, _)| Loose::Batch(author, end.seq, end.hash)).collect()
    }

    /// Every batch of an author above the cut, on whichever history.
    pub(crate) fn author_items(&self, author: PeerId) -> Vec<Loose> {
        let of_author = self.above.range((author, 0)..=(author, u64::MAX));
        let batches = of_author.flat_map(|((_, seq), forks)| {
            forks.keys().map(move |hash| Loose::Batch(author, *seq, *hash))
        });
        batches.collect()
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
        let mut rest = self.by_batch(under.chain(proofs));
        while let Some(part) = self.part(&mut rest).filter(|part| !part.is_empty()) {
            items.extend(part);
        }
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

    /// Things to send in an order in which the entries of one batch are next to each other.
    pub(crate) fn by_batch(&self, wanted: impl Iterator<Item = Loose>) -> VecDeque<Loose> {
        let mut wanted: Vec<_> = wanted.collect();
        let batch = |item: &Loose| match item {
            Loose::Shown(id) => self.under.get(id).map(|under| under.header.hash()),
            Loose::Batch(..) | Loose::Evidence(..) => None,
        };
        wanted.sort_by_cached_key(|item| (batch(item), *item));
        wanted.into()
    }

    /// Takes as many of these as one message has room for, and makes items of them. `None` when one of them is
    /// not held any more.
    pub(crate) fn part(&self, wanted: &mut VecDeque<Loose>) -> Option<Vec<Item>> {
        let (mut items, mut bytes) = (Vec::<Item>::new(), 0);
        while let Some(next) = wanted.front() {
            let item = match next {
                Loose::Batch(author, seq, hash) => {
                    self.batch_item(self.above.get(&(*author, *seq))?.get(hash)?)
                }
                Loose::Evidence(author, seq) => {
                    Item::Evidence(self.evidence.get(author, *seq)?.clone())
                }
                Loose::Shown(id) => {
                    let under = self.under.get(id)?;
                    let value = self.values.get(id).cloned();
                    Item::Shown(ShownGroup {
                        header: under.header.signed().clone(),
                        entries: vec![(
                            under.index,
                            under.entry.clone(),
                            under.path.clone(),
                            value,
                        )],
                    })
                }
            };
            let joins = items.last().is_some_and(|last| last.takes(&item));
            let more = if joins { item.bytes_joined() } else { item.bytes() };
            let full = bytes + more > SYNC_PART_BYTES || (!joins && items.len() == ITEMS_MAX);
            if full && !items.is_empty() {
                break;
            }
            bytes += more;
            wanted.pop_front();
            match (items.last_mut(), item) {
                (Some(Item::Shown(last)), Item::Shown(group)) if joins => {
                    last.entries.extend(group.entries);
                }
                (_, item) => items.push(item),
            }
        }
        Some(items)
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
