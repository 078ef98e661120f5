//! Reads: a connection in a transaction, and the state that belongs to what it sees.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use exo_types::limits::HIT_TEXT_BYTES_MAX;
use exo_types::{CollectionSpec, Hit, Leg, LegKind, Record, RecordId, ScoreScale, TermStats};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::bits::Bits;
use super::collection::Collection;
use super::row;
use super::schema::Place;
use super::state::State;
use super::text::TextIndex;
use super::tokens::Tokenizer;
use super::vector;
use crate::error::SubstrateError;
use crate::substrate::{Exactness, ImportId, SearchAnswer, SearchRequest, StoredRecord};

/// One connection that reads, with its tokenizer.
#[derive(Debug)]
pub(super) struct Reader {
    connection: Connection,
    tokenizer: Tokenizer,
    place: Place,
}

impl Reader {
    /// Opens one.
    pub(super) fn open(place: &Place) -> Result<Self, SubstrateError> {
        let connection = place.open_reader()?;
        let tokenizer = Tokenizer::new().map_err(place.failed("making a tokenizer"))?;
        Ok(Self { connection, tokenizer, place: place.clone() })
    }

    /// Answers a search.
    pub(super) fn search(
        &mut self,
        collection: &Collection,
        request: &SearchRequest,
    ) -> Result<SearchAnswer, SubstrateError> {
        request.check()?;
        check_vector(collection, request)?;
        let terms = self.terms(&request.target.text)?;
        let snapshot = Snapshot::take(&self.connection, &self.place, collection)?;
        let admitted = snapshot.state.admitted(&request.filter);
        let mut answer = SearchAnswer { legs: Vec::new(), exactness: Exactness::Exact };
        if !request.target.vector.is_empty() {
            let target = &request.target.vector;
            let (best, exactness) =
                vector::search(&snapshot.state, target, admitted.as_deref(), request.top_k);
            answer.exactness = exactness;
            let scale = ScoreScale::Vector {
                metric: collection.spec.metric,
                dimensions: collection.spec.dimensions,
                embedder: collection.spec.embedder.clone(),
            };
            let hits = snapshot.hits(&best, request.with_vectors)?;
            answer.legs.push(Leg { kind: LegKind::Vector, scale, hits });
        }
        if !request.target.text.trim().is_empty() {
            answer.legs.push(snapshot.text_leg(&terms, request, admitted.as_deref())?);
        }
        Ok(answer)
    }

    /// How often the terms of a text occur.
    pub(super) fn term_stats(
        &mut self,
        collection: &Collection,
        text: &str,
    ) -> Result<TermStats, SubstrateError> {
        let terms = self.terms(text)?;
        Snapshot::take(&self.connection, &self.place, collection)?.text_index().stats(&terms)
    }

    /// One record.
    pub(super) fn get(
        &mut self,
        collection: &Collection,
        id: &RecordId,
    ) -> Result<Option<StoredRecord>, SubstrateError> {
        let failed = self.place.failed("reading a record");
        let transaction = self.connection.unchecked_transaction().map_err(failed)?;
        generation(&transaction, &self.place, collection)?;
        let mut statement = transaction
            .prepare_cached(&format!(
                "SELECT {}, {} FROM record_{} WHERE id = ?1",
                row::COLUMNS,
                row::VECTOR_COLUMNS,
                collection.number
            ))
            .map_err(failed)?;
        let mut rows = statement.query([id.as_str()]).map_err(failed)?;
        let Some(found) = rows.next().map_err(failed)? else { return Ok(None) };
        let dimensions = collection.spec.dimensions as usize;
        let stored = row::read(found, &self.place, dimensions, true)?;
        if stored.record.id != *id {
            return Err(self.place.damaged("its index of ids points to another record"));
        }
        Ok(Some(stored))
    }

    /// Rows of an import that are written.
    pub(super) fn import_progress(
        &mut self,
        collection: &Collection,
        import_id: &ImportId,
    ) -> Result<Option<u64>, SubstrateError> {
        let failed = self.place.failed("reading an import's progress");
        let rows: Option<i64> = self
            .connection
            .prepare_cached(
                "SELECT rows_done FROM import_mark WHERE collection = ?1 AND import_id = ?2",
            )
            .and_then(|mut read| {
                read.query_row(params![collection.number, import_id], |row| row.get(0)).optional()
            })
            .map_err(failed)?;
        rows.map(|rows| {
            u64::try_from(rows).map_err(|_| self.place.damaged("a negative import mark"))
        })
        .transpose()
    }

    fn terms(&mut self, text: &str) -> Result<Vec<String>, SubstrateError> {
        self.tokenizer.terms(text).map_err(self.place.failed("splitting a query's text"))
    }
}

/// One committed state: what is on disk as a transaction sees it, and what is in memory.
struct Snapshot<'a> {
    transaction: Transaction<'a>,
    place: &'a Place,
    collection: &'a Collection,
    state: Arc<State>,
}

impl<'a> Snapshot<'a> {
    /// Begins a transaction and takes the state of the same generation. A write puts its state in
    /// place right after its commit: in between, the two differ for a moment.
    fn take(
        connection: &'a Connection,
        place: &'a Place,
        collection: &'a Collection,
    ) -> Result<Self, SubstrateError> {
        for _ in 0..SNAPSHOT_ATTEMPTS {
            let transaction =
                connection.unchecked_transaction().map_err(place.failed("beginning to read"))?;
            let generation = generation(&transaction, place, collection)?;
            let state = collection.state();
            if state.generation == generation {
                return Ok(Self { transaction, place, collection, state });
            }
            drop(transaction);
            thread::sleep(SNAPSHOT_WAIT);
        }
        Err(SubstrateError::Interrupted("writes kept overtaking a read".into()))
    }

    fn text_index(&self) -> TextIndex<'_> {
        TextIndex {
            connection: &self.transaction,
            place: self.place,
            number: self.collection.number,
            state: &self.state,
        }
    }

    fn text_leg(
        &self,
        terms: &[String],
        request: &SearchRequest,
        admitted: Option<&[Bits]>,
    ) -> Result<Leg, SubstrateError> {
        let given = request.terms.as_ref();
        let best = self.text_index().search(terms, given, admitted, request.top_k)?;
        let scale = if given.is_some() { ScoreScale::TextGlobal } else { ScoreScale::TextOwn };
        let hits = self.hits(&best, request.with_vectors)?;
        Ok(Leg { kind: LegKind::Text, scale, hits })
    }

    /// Reads what the best positions hold.
    fn hits(&self, best: &[(f32, u32)], with_vectors: bool) -> Result<Vec<Hit>, SubstrateError> {
        let failed = self.place.failed("reading hits");
        let vector = if with_vectors { row::VECTOR_COLUMNS } else { "NULL, NULL" };
        let mut statement = self
            .transaction
            .prepare_cached(&format!(
                "SELECT {}, {vector} FROM record_{} WHERE row = ?1",
                row::COLUMNS,
                self.collection.number
            ))
            .map_err(failed)?;
        let dimensions = self.collection.spec.dimensions as usize;
        let mut hits = Vec::with_capacity(best.len());
        for &(score, at) in best {
            let (entry, within) = self.state.place(at);
            let mut rows = statement.query([entry.segment.row(within)]).map_err(failed)?;
            let Some(found) = rows.next().map_err(failed)? else {
                return Err(self.place.damaged("a record that was there is gone"));
            };
            let stored = row::read(found, self.place, dimensions, with_vectors)?;
            if stored.record.id.as_str() != entry.segment.id(within) {
                return Err(self.place.damaged("a record changed its id"));
            }
            hits.push(self.hit(stored, score));
        }
        Ok(hits)
    }

    fn hit(&self, stored: StoredRecord, score: f32) -> Hit {
        let StoredRecord { record, vector, content } = stored;
        let Record { id, title, mut text, metadata } = record;
        text.truncate(char_boundary(&text, HIT_TEXT_BYTES_MAX));
        let collection = self.collection.spec.name.clone();
        Hit { collection, id, score, content, title, text, metadata, vector }
    }
}

/// The last place to cut a text at, at most `max` bytes in.
fn char_boundary(text: &str, max: usize) -> usize {
    let boundary = |at: &usize| text.is_char_boundary(*at);
    if text.len() <= max { text.len() } else { (0..=max).rev().find(boundary).unwrap_or(0) }
}

/// The number of the collection's last write as a transaction sees it.
fn generation(
    connection: &Connection,
    place: &Place,
    collection: &Collection,
) -> Result<i64, SubstrateError> {
    connection
        .prepare_cached("SELECT generation FROM collection WHERE number = ?1")
        .and_then(|mut read| read.query_row([collection.number], |row| row.get(0)).optional())
        .map_err(place.failed("reading a collection"))?
        .ok_or_else(|| SubstrateError::NoCollection(collection.spec.name.clone()))
}

/// Refuses a query vector that this collection's vectors cannot be compared with.
fn check_vector(collection: &Collection, request: &SearchRequest) -> Result<(), SubstrateError> {
    let target = &request.target;
    if target.vector.is_empty() {
        return Ok(());
    }
    let CollectionSpec { name, dimensions, embedder, .. } = &collection.spec;
    if target.vector.len() != *dimensions as usize {
        return Err(SubstrateError::Dimensions {
            collection: name.clone(),
            expected: *dimensions,
            actual: target.vector.len(),
        });
    }
    if !target.embedder.is_empty() && !embedder.is_empty() && target.embedder != *embedder {
        return Err(SubstrateError::Embedder {
            collection: name.clone(),
            expected: embedder.clone(),
            actual: target.embedder.clone(),
        });
    }
    Ok(())
}

/// How often a read tries to meet a state, and how long it waits between: two seconds in all.
const SNAPSHOT_ATTEMPTS: usize = 20_000;
/// See [`SNAPSHOT_ATTEMPTS`].
const SNAPSHOT_WAIT: Duration = Duration::from_micros(100);
