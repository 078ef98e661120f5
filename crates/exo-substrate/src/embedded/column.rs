//! Metadata of a segment by field, so that a condition is evaluated once per distinct value.

use std::collections::{BTreeMap, HashMap};

use exo_types::{Condition, Filter, FilterOp, MetadataValue};

use super::bits::Bits;
use crate::filter;

/// The metadata of a run of records.
#[derive(Debug, Default)]
pub(super) struct Columns {
    fields: BTreeMap<String, Column>,
}

/// One field: its distinct values, and which record has which. Sparse, so that many rare fields
/// cost no more than the values they hold.
#[derive(Debug, Default)]
struct Column {
    values: Vec<MetadataValue>,
    /// Position of a record and of its value, by record.
    rows: Vec<(u32, u32)>,
}

impl Columns {
    /// The records, of `len` in all, that meet every condition.
    pub(super) fn admitted(&self, filter: &Filter, len: usize) -> Bits {
        let mut admitted = Bits::all(len);
        for condition in &filter.all {
            admitted.intersect(&self.holding(condition, len));
        }
        admitted
    }

    fn holding(&self, condition: &Condition, len: usize) -> Bits {
        // A missing field meets `Ne` alone.
        let ne = condition.op == FilterOp::Ne;
        let mut holding = if ne { Bits::all(len) } else { Bits::none(len) };
        let Some(column) = self.fields.get(&condition.field) else { return holding };
        let by_value: Vec<bool> =
            column.values.iter().map(|value| filter::holds(condition, Some(value))).collect();
        for &(row, value) in &column.rows {
            if by_value[value as usize] {
                holding.insert(row as usize);
            } else {
                holding.remove(row as usize);
            }
        }
        holding
    }

    /// Memory, bytes, roughly.
    pub(super) fn bytes(&self) -> usize {
        let of_value = |value: &MetadataValue| {
            size_of::<MetadataValue>()
                + match value {
                    MetadataValue::Text(text) => text.len(),
                    MetadataValue::List(items) => items.iter().map(|item| item.len() + 24).sum(),
                    _ => 0,
                }
        };
        let of_column = |column: &Column| {
            column.rows.len() * 8 + column.values.iter().map(of_value).sum::<usize>()
        };
        self.fields.iter().map(|(name, column)| name.len() + 96 + of_column(column)).sum()
    }
}

/// Builds the columns of a segment, record by record.
#[derive(Debug, Default)]
pub(super) struct ColumnsBuilder {
    columns: Columns,
    /// Per field, where a value stands already, by its encoding.
    known: HashMap<String, HashMap<Vec<u8>, u32>>,
}

impl ColumnsBuilder {
    /// Adds the metadata of the record at `row`; rows come in ascending order.
    pub(super) fn add(&mut self, row: u32, metadata: &BTreeMap<String, MetadataValue>) {
        for (field, value) in metadata {
            self.add_value(row, field, value);
        }
    }

    /// Adds the records of finished columns; `place` gives the new position of a record, `None`
    /// for one to leave out. Positions ascend.
    pub(super) fn add_columns(&mut self, columns: &Columns, place: impl Fn(u32) -> Option<u32>) {
        for (field, column) in &columns.fields {
            // Each value is looked up once, not once a record.
            let mut moved: Vec<Option<u32>> = vec![None; column.values.len()];
            for &(row, value) in &column.rows {
                let Some(row) = place(row) else { continue };
                let value_at = value as usize;
                let at = *moved[value_at]
                    .get_or_insert_with(|| self.value_at(field, &column.values[value_at]));
                self.push(field, row, at);
            }
        }
    }

    /// The finished columns.
    pub(super) fn finish(self) -> Columns {
        let mut columns = self.columns;
        for column in columns.fields.values_mut() {
            column.rows.shrink_to_fit();
            column.values.shrink_to_fit();
        }
        columns
    }

    fn add_value(&mut self, row: u32, field: &str, value: &MetadataValue) {
        let at = self.value_at(field, value);
        self.push(field, row, at);
    }

    fn push(&mut self, field: &str, row: u32, value: u32) {
        if let Some(column) = self.columns.fields.get_mut(field) {
            column.rows.push((row, value));
        }
    }

    /// The position of a value within its field's distinct values.
    fn value_at(&mut self, field: &str, value: &MetadataValue) -> u32 {
        if !self.known.contains_key(field) {
            self.known.insert(field.to_owned(), HashMap::new());
            self.columns.fields.insert(field.to_owned(), Column::default());
        }
        let (Some(known), Some(column)) =
            (self.known.get_mut(field), self.columns.fields.get_mut(field))
        else {
            return 0;
        };
        *known.entry(key(value)).or_insert_with(|| {
            column.values.push(value.clone());
            column.values.len() as u32 - 1
        })
    }
}

/// Bytes that are equal for equal values alone.
fn key(value: &MetadataValue) -> Vec<u8> {
    match value {
        MetadataValue::Bool(flag) => vec![0, u8::from(*flag)],
        MetadataValue::Int(number) => [&[1][..], &number.to_le_bytes()].concat(),
        MetadataValue::Float(number) => [&[2][..], &number.to_bits().to_le_bytes()].concat(),
        MetadataValue::Text(text) => [&[3][..], text.as_bytes()].concat(),
        MetadataValue::List(items) => {
            let mut key = vec![4];
            for item in items {
                key.extend_from_slice(&(item.len() as u64).to_le_bytes());
                key.extend_from_slice(item.as_bytes());
            }
            key
        }
    }
}
