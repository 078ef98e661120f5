//! Reads records from files: JSON lines, with vectors from a NumPy file beside them.
//!
//! An import has two passes. [`ImportPlan::check`] reads both files to their end and refuses them,
//! with file, row and remedy, before anything is written. [`ImportPlan::batches`] reads them again
//! and gives batches ready for [`crate::Substrate::put`], each with the mark that lets a broken-off
//! import go on where it stopped.

mod jsonl;
mod npy;
mod plan;

use std::path::PathBuf;

pub use jsonl::{RecordError, decode_record};
pub use npy::{Header, HeaderError, Number};
pub use plan::{Batch, Batches, ImportPlan};

/// Why files cannot be imported: which file, which row, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {problem}", .file.display(), .row.map(|row| format!(", row {row}")).unwrap_or_default())]
pub struct ImportError {
    /// The file at fault.
    pub file: PathBuf,
    /// The row: lines of a JSON-lines file and vectors of a NumPy file count from 1.
    pub row: Option<u64>,
    /// What is wrong.
    pub problem: ImportProblem,
}

/// What is wrong with a file, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ImportProblem {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(std::io::Error),
    /// A line is longer than the bound.
    #[error("the line has more than {max} bytes; split the record or shorten its text")]
    LineTooLong {
        /// The bound, bytes.
        max: usize,
    },
    /// A line is not a record.
    #[error("{0}")]
    Record(#[source] RecordError),
    /// Two lines have the same id.
    #[error(
        "the id {id:?} stands in row {first} already; ids must be unique, remove one of the two"
    )]
    RepeatedId {
        /// The id.
        id: String,
        /// The row it stands in first.
        first: u64,
    },
    /// The file holds no record.
    #[error("holds no record; give a file with one JSON object a line")]
    Empty,
    /// The NumPy file's header is not understood.
    #[error("{0}")]
    Header(#[source] HeaderError),
    /// The vectors do not fit the collection.
    #[error(
        "holds vectors of {actual} dimensions and collection {collection} is declared with \
         {expected}; use the model the collection was made with, or make another collection"
    )]
    Dimensions {
        /// The collection.
        collection: String,
        /// Its dimensions.
        expected: u32,
        /// Dimensions of the file.
        actual: u64,
    },
    /// The collection holds text alone.
    #[error(
        "collection {0} is declared without vectors; leave this file out, or make another collection"
    )]
    NoVectors(String),
    /// The files hold different numbers of rows.
    #[error("holds {vectors} vectors and {} holds {records} records; both must hold the same rows in the same order", .other.display())]
    RowCount {
        /// Vectors in this file.
        vectors: u64,
        /// Records in the other.
        records: u64,
        /// The file of records.
        other: PathBuf,
    },
    /// The file's length is not what its header announces.
    #[error(
        "has {actual} bytes and its header announces {expected}; it is cut short or damaged, write it again"
    )]
    Length {
        /// Bytes announced.
        expected: u64,
        /// Bytes found.
        actual: u64,
    },
    /// A component is NaN or infinite.
    #[error(
        "component {component} of the vector is not a finite number; compute this vector again"
    )]
    NotFinite {
        /// The component, from 0.
        component: usize,
    },
    /// The files are no longer those that were checked.
    #[error("changed while it was imported; start the import again")]
    Changed,
}
