//! An immutable run of records in memory: what a search needs of them, without their texts.

use std::collections::BTreeMap;

use exo_types::MetadataValue;

use super::bits::Bits;
use super::column::{Columns, ColumnsBuilder};

/// Records in ascending order of their rows on disk. Never changes; a record that goes is marked
/// in a set beside the segment.
#[derive(Debug, Default)]
pub(super) struct Segment {
    rows: Vec<i64>,
    ids: String,
    id_ends: Vec<u64>,
    tokens: Vec<u32>,
    columns: Columns,
    vector_owners: Vec<u32>,
    vectors: Vec<f32>,
}

impl Segment {
    /// Records in it, gone ones too.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The row on disk of the record at a position.
    pub(super) fn row(&self, at: usize) -> i64 {
        self.rows[at]
    }

    /// The position of a row on disk.
    pub(super) fn position(&self, row: i64) -> Option<usize> {
        self.rows.binary_search(&row).ok()
    }

    /// Rows on disk, ascending.
    pub(super) fn rows(&self) -> &[i64] {
        &self.rows
    }

    /// The id of the record at a position.
    pub(super) fn id(&self, at: usize) -> &str {
        let start = if at == 0 { 0 } else { self.id_ends[at - 1] as usize };
        &self.ids[start..self.id_ends[at] as usize]
    }

    /// Tokens of the record at a position.
    pub(super) fn tokens(&self, at: usize) -> u32 {
        self.tokens[at]
    }

    /// The metadata by field.
    pub(super) fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The positions of the records that carry a vector, ascending, one a vector.
    pub(super) fn vector_owners(&self) -> &[u32] {
        &self.vector_owners
    }

    /// The prepared vectors, one after another.
    pub(super) fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// Memory, bytes, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.rows.len() * (8 + 8 + 4)
            + self.ids.len()
            + self.vector_owners.len() * 4
            + self.vectors.len() * 4
            + self.columns.bytes()
    }
}

/// One record for a segment.
pub(super) struct SegmentRecord<'a> {
    /// Its row on disk.
    pub(super) row: i64,
    /// Its id.
    pub(super) id: &'a str,
    /// Its tokens.
    pub(super) tokens: u32,
    /// Its prepared vector.
    pub(super) vector: Option<&'a [f32]>,
    /// Its metadata.
    pub(super) metadata: &'a BTreeMap<String, MetadataValue>,
}

/// Builds a segment; records are added in ascending order of their rows.
#[derive(Debug, Default)]
pub(super) struct SegmentBuilder {
    segment: Segment,
    columns: ColumnsBuilder,
}

impl SegmentBuilder {
    /// Records added.
    pub(super) fn len(&self) -> usize {
        self.segment.len()
    }

    /// Adds one record.
    pub(super) fn push(&mut self, record: &SegmentRecord<'_>) {
        let at = self.segment.rows.len() as u32;
        self.push_plain(record.row, record.id, record.tokens);
        self.columns.add(at, record.metadata);
        if let Some(vector) = record.vector {
            self.segment.vector_owners.push(at);
            self.segment.vectors.extend_from_slice(vector);
        }
    }

    /// Adds the records of a segment that are still there.
    pub(super) fn extend(&mut self, other: &Segment, live: &Bits, dimensions: usize) {
        const GONE: u32 = u32::MAX;
        let mut places = vec![GONE; other.len()];
        for (at, place) in places.iter_mut().enumerate() {
            if live.contains(at) {
                *place = self.segment.rows.len() as u32;
                self.push_plain(other.rows[at], other.id(at), other.tokens[at]);
            }
        }
        let moved = |at: u32| Some(places[at as usize]).filter(|place| *place != GONE);
        self.columns.add_columns(&other.columns, moved);
        let vectors = other.vectors.chunks_exact(dimensions.max(1));
        for (owner, vector) in other.vector_owners.iter().zip(vectors) {
            if let Some(place) = moved(*owner) {
                self.segment.vector_owners.push(place);
                self.segment.vectors.extend_from_slice(vector);
            }
        }
    }

    /// The finished segment.
    pub(super) fn finish(self) -> Segment {
        Segment { columns: self.columns.finish(), ..self.segment }
    }

    fn push_plain(&mut self, row: i64, id: &str, tokens: u32) {
        debug_assert!(self.segment.rows.last().is_none_or(|last| *last < row));
        self.segment.rows.push(row);
        self.segment.ids.push_str(id);
        self.segment.id_ends.push(self.segment.ids.len() as u64);
        self.segment.tokens.push(tokens);
    }
}
