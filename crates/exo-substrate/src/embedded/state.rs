//! One collection as one committed state shows it: segments, what is gone of them, and codes.
//!
//! A state never changes. A write makes the next state out of this one, sharing what stays, before
//! it commits, and puts it in place after; searches go on in the state they began with.

use std::sync::Arc;

use exo_types::limits::SEGMENT_RECORDS_MAX;
use exo_types::{Filter, Metric};

use super::bits::Bits;
use super::codes::Codes;
use super::postings::PostingsCache;
use super::segment::{Segment, SegmentBuilder};

/// What of a collection's declaration and settings its states need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Dimensions of its vectors, 0 for text alone.
    pub(super) dimensions: usize,
    /// How vectors are compared.
    pub(super) metric: Metric,
    /// Vectors up to which every one is scored.
    pub(super) exact_max: usize,
}

/// One committed state of one collection.
#[derive(Debug)]
pub(super) struct State {
    /// Counts the collection's writes; equal to the number its rows on disk carry.
    pub(super) generation: i64,
    /// Dimensions, metric and settings.
    pub(super) shape: Shape,
    /// Its segments, in ascending order of rows.
    pub(super) entries: Vec<Entry>,
    /// Records that are there.
    pub(super) records: usize,
    /// Of these, records with a vector.
    pub(super) vectors: usize,
    /// Tokens of the records that are there.
    pub(super) tokens: u64,
    /// The centre of the codes, where the collection is large enough to have codes.
    pub(super) center: Option<Arc<Center>>,
    /// Postings decoded in this state.
    pub(super) postings: PostingsCache,
}

/// The mean vector that codes are taken around.
#[derive(Debug)]
pub(super) struct Center {
    pub(super) vector: Vec<f32>,
    /// Vectors there were when it was computed.
    computed_at: usize,
}

/// A segment and what is there of it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The records.
    pub(super) segment: Arc<Segment>,
    /// Which of them are there.
    pub(super) live: Arc<Bits>,
    /// The first position of its records within the state.
    pub(super) base: u32,
    /// Signs of its vectors around the state's centre.
    pub(super) codes: Option<Arc<Codes>>,
    records: usize,
    vectors: usize,
    tokens: u64,
}

impl Entry {
    fn new(segment: Segment) -> Self {
        let records = segment.len();
        Self {
            vectors: segment.vector_owners().len(),
            tokens: (0..records).map(|at| u64::from(segment.tokens(at))).sum(),
            live: Arc::new(Bits::all(records)),
            segment: Arc::new(segment),
            base: 0,
            codes: None,
            records,
        }
    }

    fn remove(&mut self, at: usize) {
        if Arc::make_mut(&mut self.live).remove(at) {
            self.records -= 1;
            self.tokens -= u64::from(self.segment.tokens(at));
            if self.segment.vector_owners().binary_search(&(at as u32)).is_ok() {
                self.vectors -= 1;
            }
        }
    }
}

impl State {
    /// The state of a collection that was just loaded.
    pub(super) fn loaded(shape: Shape, generation: i64, segments: Vec<Segment>) -> Self {
        let entries = segments.into_iter().map(Entry::new).collect();
        Self::assemble(shape, generation, entries, None)
    }

    /// The state after this one: rows on disk that went, and a segment of rows that came.
    pub(super) fn next(&self, generation: i64, gone: &[i64], came: Segment) -> Self {
        let mut entries = self.entries.clone();
        for row in gone {
            if let Some((entry, at)) = self.find(*row) {
                entries[entry].remove(at);
            }
        }
        if came.len() > 0 {
            entries.push(Entry::new(came));
        }
        compact(&mut entries, self.shape.dimensions);
        Self::assemble(self.shape, generation, entries, self.center.clone())
    }

    fn assemble(
        shape: Shape,
        generation: i64,
        mut entries: Vec<Entry>,
        center: Option<Arc<Center>>,
    ) -> Self {
        let mut base = 0;
        for entry in &mut entries {
            entry.base = base;
            base += entry.segment.len() as u32;
        }
        let vectors = entries.iter().map(|entry| entry.vectors).sum();
        let mut state = Self {
            generation,
            shape,
            records: entries.iter().map(|entry| entry.records).sum(),
            tokens: entries.iter().map(|entry| entry.tokens).sum(),
            vectors,
            center: center.filter(|_| vectors > shape.exact_max),
            entries,
            postings: PostingsCache::default(),
        };
        state.encode();
        state
    }

    /// Brings the codes up to date. The centre is computed anew whenever the vectors have doubled.
    fn encode(&mut self) {
        if self.vectors <= self.shape.exact_max {
            self.entries.iter_mut().for_each(|entry| entry.codes = None);
            return;
        }
        let fresh = self.center.as_ref().filter(|c| self.vectors <= 2 * c.computed_at).cloned();
        let center = fresh.unwrap_or_else(|| {
            self.entries.iter_mut().for_each(|entry| entry.codes = None);
            Arc::new(Center { vector: self.mean(), computed_at: self.vectors })
        });
        for entry in &mut self.entries {
            if entry.codes.is_none() {
                let codes = Codes::new(entry.segment.vectors(), &center.vector);
                entry.codes = Some(Arc::new(codes));
            }
        }
        self.center = Some(center);
    }

    fn mean(&self) -> Vec<f32> {
        let mut sums = vec![0.0_f64; self.shape.dimensions];
        let mut count = 0_usize;
        for entry in &self.entries {
            for vector in entry.segment.vectors().chunks_exact(self.shape.dimensions.max(1)) {
                count += 1;
                sums.iter_mut().zip(vector).for_each(|(sum, x)| *sum += f64::from(*x));
            }
        }
        sums.into_iter().map(|sum| (sum / count.max(1) as f64) as f32).collect()
    }

    /// The entry and the position within it of a row on disk.
    pub(super) fn find(&self, row: i64) -> Option<(usize, usize)> {
        let after = self
            .entries
            .partition_point(|entry| entry.segment.rows().first().is_some_and(|r| *r <= row));
        let entry = after.checked_sub(1)?;
        Some((entry, self.entries[entry].segment.position(row)?))
    }

    /// The entry that holds a position of the state, and the position within it.
    pub(super) fn place(&self, at: u32) -> (&Entry, usize) {
        let after = self.entries.partition_point(|entry| entry.base <= at);
        let entry = &self.entries[after.saturating_sub(1)];
        (entry, (at - entry.base) as usize)
    }

    /// The id of the record at a position of the state.
    pub(super) fn id(&self, at: u32) -> &str {
        let (entry, at) = self.place(at);
        entry.segment.id(at)
    }

    /// Per entry, the records that are there and meet a filter; `None` when the filter is empty.
    pub(super) fn admitted(&self, filter: &Filter) -> Option<Vec<Bits>> {
        if filter.all.is_empty() {
            return None;
        }
        let admitted = |entry: &Entry| {
            let mut admitted = entry.segment.columns().admitted(filter, entry.segment.len());
            admitted.intersect(&entry.live);
            admitted
        };
        Some(self.entries.iter().map(admitted).collect())
    }

    /// Positions in all, those of gone records too.
    pub(super) fn positions(&self) -> usize {
        self.entries.last().map_or(0, |entry| entry.base as usize + entry.segment.len())
    }

    /// Memory, bytes, roughly.
    pub(super) fn bytes(&self) -> usize {
        let of_entry = |entry: &Entry| {
            entry.segment.bytes()
                + entry.segment.len() / 8
                + entry.codes.as_ref().map_or(0, |codes| codes.bytes())
        };
        self.entries.iter().map(of_entry).sum::<usize>() + self.postings.bytes()
    }
}

/// Drops what is gone and merges small neighbours, so that there are few segments: each at least
/// half as long as the one before it, unless it is as long as one may be. Every record is moved a
/// logarithmic number of times in all.
fn compact(entries: &mut Vec<Entry>, dimensions: usize) {
    entries.retain(|entry| entry.records > 0);
    for entry in entries.iter_mut() {
        if entry.records * 2 < entry.segment.len() {
            *entry = merge(&[entry], dimensions);
        }
    }
    let mut at = entries.len().saturating_sub(1);
    while at > 0 {
        let (left, right) = (&entries[at - 1], &entries[at]);
        let fits = left.records + right.records <= SEGMENT_RECORDS_MAX;
        if fits && left.records < 2 * right.records {
            entries[at - 1] = merge(&[left, right], dimensions);
            entries.remove(at);
            // The merged one may now outgrow its left neighbour, and its right one fit into it.
            at = at.min(entries.len().saturating_sub(1));
        } else {
            at -= 1;
        }
    }
}

fn merge(entries: &[&Entry], dimensions: usize) -> Entry {
    let mut builder = SegmentBuilder::default();
    for entry in entries {
        builder.extend(&entry.segment, &entry.live, dimensions);
    }
    Entry::new(builder.finish())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::segment::SegmentRecord;
    use super::*;

    fn segment(rows: impl IntoIterator<Item = i64>) -> Segment {
        let mut builder = SegmentBuilder::default();
        for row in rows {
            let vector = [row as f32, 1.0];
            builder.push(&SegmentRecord {
                row,
                id: &format!("r{row}"),
                tokens: 2,
                vector: Some(&vector).filter(|_| row % 2 == 0).map(|v| &v[..]),
                metadata: &BTreeMap::new(),
            });
        }
        builder.finish()
    }

    fn empty(exact_max: usize) -> State {
        let shape = Shape { dimensions: 2, metric: Metric::Dot, exact_max };
        State::loaded(shape, 0, Vec::new())
    }

    #[test]
    fn single_writes_leave_few_segments() {
        let mut state = empty(usize::MAX);
        for row in 0..3000 {
            state = state.next(row + 1, &[], segment([row]));
        }
        assert_eq!(state.records, 3000);
        assert_eq!(state.vectors, 1500);
        assert_eq!(state.tokens, 6000);
        assert!(state.entries.len() <= 13, "{} segments", state.entries.len());
        assert_eq!(state.find(2999).map(|(e, at)| state.entries[e].segment.id(at)), Some("r2999"));
        assert_eq!(state.find(3000), None);
    }

    #[test]
    fn removed_records_are_dropped_and_counts_follow() {
        let mut state = empty(usize::MAX).next(1, &[], segment(0..1000));
        for row in 0..900 {
            state = state.next(row + 2, &[row], segment([]));
        }
        assert_eq!((state.records, state.vectors, state.tokens), (100, 50, 200));
        assert!(state.positions() <= 250, "{} positions", state.positions());
        assert!((900..1000).all(|row| state.find(row).is_some()));
        let gone: Vec<i64> = (0..1000).collect();
        assert_eq!(state.next(9999, &gone, segment([])).entries.len(), 0);
    }

    #[test]
    fn codes_come_and_go_with_the_number_of_vectors() {
        let small = empty(10).next(1, &[], segment(0..20));
        assert!(small.center.is_none() && small.entries[0].codes.is_none());
        let large = small.next(2, &[], segment(20..40));
        assert!(large.center.is_some());
        assert!(large.entries.iter().all(|entry| entry.codes.is_some()));
        let rows: Vec<i64> = (0..30).collect();
        let small = large.next(3, &rows, segment([]));
        assert!(small.center.is_none() && small.entries.iter().all(|e| e.codes.is_none()));
    }
}
