//! What goes wrong in a substrate, with the culprit named.

use std::path::PathBuf;

use exo_types::{CodecError, CollectionName};

/// Why an operation on a substrate failed.
///
/// Texts name collections, ids and files: they are for the node's own operator. What a peer may
/// learn of a failure is decided where answers to peers are made.
#[derive(Debug, thiserror::Error)]
pub enum SubstrateError {
    /// No backend is registered under this name.
    #[error("there is no substrate backend {name:?}; known: {known}")]
    Backend {
        /// The name asked for.
        name: String,
        /// The names registered, in words.
        known: String,
    },
    /// No collection has this name.
    #[error("there is no collection {0}")]
    NoCollection(CollectionName),
    /// A collection of this name exists with another declaration.
    #[error("collection {0} exists already with another declaration")]
    CollectionExists(CollectionName),
    /// One more collection would be over the bound.
    #[error("a node holds at most {max} collections")]
    TooManyCollections {
        /// The bound.
        max: usize,
    },
    /// A batch holds more records than one atomic write may.
    #[error("a batch has at most {max} records, this one has {actual}")]
    BatchTooLong {
        /// The bound, records.
        max: usize,
        /// The number given, records.
        actual: usize,
    },
    /// A record or its vector is not fit to be stored; nothing of its batch was.
    #[error("record {id:?}: {reason}")]
    Record {
        /// The record's id.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A request breaks a bound or a rule.
    #[error("{what}: {reason}")]
    Request {
        /// The part of the request at fault.
        what: &'static str,
        /// What is wrong with it.
        reason: CodecError,
    },
    /// The query's vector has another number of dimensions than the collection's vectors.
    #[error(
        "collection {collection} holds vectors of {expected} dimensions, the query has {actual}"
    )]
    Dimensions {
        /// The collection asked.
        collection: CollectionName,
        /// Its dimensions; 0 when it holds text alone.
        expected: u32,
        /// The query's dimensions.
        actual: usize,
    },
    /// The query's vector was made by another model: its scores would mean nothing here.
    #[error("collection {collection} was embedded by {expected:?}, the query by {actual:?}")]
    Embedder {
        /// The collection asked.
        collection: CollectionName,
        /// The model declared for the collection.
        expected: String,
        /// The model declared by the query.
        actual: String,
    },
    /// Another process, or another handle of this one, has the store open.
    #[error("{} is in use by another process; stop it first", .path.display())]
    InUse {
        /// The store's file.
        path: PathBuf,
    },
    /// The store was written by a newer version of this program.
    #[error("{} has format {found}, this program knows up to {known}; use a newer program", .path.display())]
    NewerFormat {
        /// The store's file.
        path: PathBuf,
        /// The format found.
        found: i64,
        /// The newest format known.
        known: i64,
    },
    /// The store's file is not a store, or is damaged.
    #[error("{} cannot be read as a store: {reason}; restore it from a backup or import again", .path.display())]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The disk or the operating system failed.
    #[error("{}: {action}: {reason}", .path.display())]
    Storage {
        /// The store's file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What was answered.
        reason: String,
    },
    /// The operation was broken off: the runtime is shutting down, or a worker failed.
    #[error("the operation was broken off: {0}")]
    Interrupted(String),
}
