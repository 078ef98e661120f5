//! The trait every backend implements, and the shapes of its operations.
//!
//! Collections, records and answers are those of `exo-types`. A backend is asynchronous, writes in
//! batches, filters and cuts to the best k on its own side, and declares how exact an answer is,
//! so that an engine in another process or on many machines fits as well as the embedded one.

use async_trait::async_trait;
use exo_types::query::check_top_k;
use exo_types::{
    CodecError, CollectionInfo, CollectionName, CollectionSpec, ContentHash, Filter, Leg,
    QueryTarget, Record, RecordId, TermStats,
};

use crate::error::SubstrateError;

/// The searchable data beside a node.
///
/// Every operation may be called from many tasks at once. A search sees one committed state: all
/// of a batch or nothing of it.
#[async_trait]
pub trait Substrate: Send + Sync + std::fmt::Debug {
    /// Every collection and what it holds, by name.
    async fn collections(&self) -> Result<Vec<CollectionInfo>, SubstrateError>;

    /// Creates a collection. Creating one that exists with the same declaration does nothing.
    async fn create(&self, spec: CollectionSpec) -> Result<(), SubstrateError>;

    /// Removes a collection with all its records and import marks.
    async fn drop_collection(&self, name: &CollectionName) -> Result<(), SubstrateError>;

    /// One collection and what it holds.
    async fn info(&self, name: &CollectionName) -> Result<CollectionInfo, SubstrateError>;

    /// Writes a batch of at most [`exo_types::limits::BATCH_RECORDS_MAX`] records, with the mark
    /// of the import it belongs to.
    ///
    /// Atomic, and durable when it returns: after a crash either all of the batch and its mark are
    /// there, or nothing. A record whose id exists is replaced; of records with the same id in one
    /// batch the last stands.
    async fn put(
        &self,
        collection: &CollectionName,
        records: Vec<NewRecord>,
        mark: Option<ImportMark>,
    ) -> Result<PutOutcome, SubstrateError>;

    /// Rows of an import that are durably written; `None` when the import is unknown.
    async fn import_progress(
        &self,
        collection: &CollectionName,
        import_id: ImportId,
    ) -> Result<Option<u64>, SubstrateError>;

    /// One record with its vector as given; `None` when there is no such record.
    async fn get(
        &self,
        collection: &CollectionName,
        id: &RecordId,
    ) -> Result<Option<StoredRecord>, SubstrateError>;

    /// Removes records, at most [`exo_types::limits::BATCH_RECORDS_MAX`] at once. Atomic and
    /// durable; answers how many were there.
    async fn delete(
        &self,
        collection: &CollectionName,
        ids: Vec<RecordId>,
    ) -> Result<u64, SubstrateError>;

    /// The best records for a target, one leg for its vector and one for its text.
    async fn search(
        &self,
        collection: &CollectionName,
        request: SearchRequest,
    ) -> Result<SearchAnswer, SubstrateError>;

    /// How often the terms of a text occur here: what other sources need so that their BM25 and
    /// this one's are comparable.
    async fn term_stats(
        &self,
        collection: &CollectionName,
        text: &str,
    ) -> Result<TermStats, SubstrateError>;

    /// What the whole substrate holds and uses.
    async fn stats(&self) -> Result<SubstrateStats, SubstrateError>;
}

/// A record to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRecord {
    /// The record.
    pub record: Record,
    /// Its vector, of the collection's dimensions and finite; `None` for text alone.
    pub vector: Option<Vec<f32>>,
    /// Hash of its title and text, computed by the caller.
    pub content: ContentHash,
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRecord {
    /// The record.
    pub record: Record,
    /// Its vector, bit for bit as given.
    pub vector: Option<Vec<f32>>,
    /// Hash of its title and text.
    pub content: ContentHash,
}

/// Names one import: a digest over its files and its mapping.
pub type ImportId = [u8; 32];

/// How far an import has come; stored in the transaction of the batch it comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportMark {
    /// The import.
    pub import_id: ImportId,
    /// Rows of it that are written once this batch is.
    pub rows_done: u64,
}

/// What a batch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutOutcome {
    /// Records that were new.
    pub inserted: u64,
    /// Records that took the place of one with the same id, in the store or earlier in the batch.
    pub replaced: u64,
}

/// What to search for in one collection.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchRequest {
    /// A vector, a text, or both.
    pub target: QueryTarget,
    /// Hits wanted of each leg.
    pub top_k: usize,
    /// Conditions on metadata, applied before the best are chosen.
    pub filter: Filter,
    /// Term statistics of all sources together; `None` to score text by this collection's own.
    pub terms: Option<TermStats>,
    /// Whether hits carry their vectors.
    pub with_vectors: bool,
}

impl SearchRequest {
    /// A request for the ten best, unfiltered, by own statistics, without vectors.
    pub fn new(target: QueryTarget) -> Self {
        Self { target, top_k: 10, filter: Filter::default(), terms: None, with_vectors: false }
    }

    /// Checks every bound; each backend does so before it searches.
    pub fn check(&self) -> Result<(), SubstrateError> {
        let at = |what| move |reason: CodecError| SubstrateError::Request { what, reason };
        self.target.check().map_err(at("query target"))?;
        check_top_k(self.top_k).map_err(at("query top_k"))?;
        self.filter.check().map_err(at("query filter"))?;
        crate::filter::check(&self.filter).map_err(at("query filter"))?;
        self.terms.as_ref().map_or(Ok(()), TermStats::check).map_err(at("term statistics"))
    }
}

/// One collection's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchAnswer {
    /// A vector leg if the target has a vector, then a text leg if it has a text. Hits are best
    /// first, ties by id; every score is exact even where the choice of hits is approximate.
    pub legs: Vec<Leg>,
    /// How the vector leg's hits were chosen; text and filtered legs are always exact.
    pub exactness: Exactness,
}

/// How the hits of a vector leg were chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// Every admitted record was scored.
    Exact,
    /// The best by an approximation were scored exactly: a hit could be missing.
    Approximate {
        /// How many were scored exactly.
        candidates: usize,
    },
}

/// What a substrate holds and uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubstrateStats {
    /// Collections.
    pub collections: u64,
    /// Records in all of them.
    pub records: u64,
    /// Records that carry a vector.
    pub vectors: u64,
    /// Size on disk, bytes; 0 when the backend cannot tell.
    pub disk_bytes: u64,
    /// Memory of the search structures, bytes; 0 when the backend cannot tell.
    pub memory_bytes: u64,
}
