//! Writes: each is one transaction, with the next state made before it commits.

use std::collections::HashMap;
use std::sync::Arc;

use exo_types::limits::{BATCH_RECORDS_MAX, COLLECTIONS_MAX, IMPORTS_REMEMBERED_MAX};
use exo_types::{CollectionSpec, RecordId};
use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params,
};

use super::collection::Collection;
use super::load::{metric_name, shape};
use super::row;
use super::schema::{Place, collection_tables, drop_collection_tables};
use super::segment::{SegmentBuilder, SegmentRecord};
use super::state::State;
use crate::error::SubstrateError;
use crate::metric;
use crate::substrate::{ImportMark, NewRecord, PutOutcome};

/// The one connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    place: Place,
    /// A commit failed in the operating system: what is on disk is unknown until the next opening.
    failed: bool,
}

impl Writer {
    /// Wraps the connection.
    pub(super) fn new(connection: Connection, place: Place) -> Self {
        Self { connection, place, failed: false }
    }

    /// Makes a collection.
    pub(super) fn create(
        &mut self,
        spec: CollectionSpec,
        exact_max: usize,
    ) -> Result<Collection, SubstrateError> {
        let number = self.write("creating a collection", |transaction, place, action| {
            let failed = place.failed(action);
            let count: i64 = transaction
                .query_row("SELECT count(*) FROM collection", [], |row| row.get(0))
                .map_err(failed)?;
            if usize::try_from(count).map_or(true, |count| count >= COLLECTIONS_MAX) {
                return Err(SubstrateError::TooManyCollections { max: COLLECTIONS_MAX });
            }
            transaction
                .execute(
                    "INSERT INTO collection
                     (name, dimensions, metric, embedder, generation, next_row, records)
                     VALUES (?1, ?2, ?3, ?4, 0, 1, 0)",
                    params![
                        spec.name.as_str(),
                        spec.dimensions,
                        metric_name(spec.metric),
                        spec.embedder
                    ],
                )
                .map_err(failed)?;
            let number = transaction.last_insert_rowid();
            transaction.execute_batch(&collection_tables(number)).map_err(failed)?;
            Ok(number)
        })?;
        let state = State::loaded(shape(&spec, exact_max), 0, Vec::new());
        Ok(Collection::new(number, spec, state))
    }

    /// Removes a collection.
    pub(super) fn drop_collection(
        &mut self,
        collection: &Collection,
    ) -> Result<(), SubstrateError> {
        self.write("dropping a collection", |transaction, place, action| {
            let failed = place.failed(action);
            let number = collection.number;
            transaction
                .execute("DELETE FROM collection WHERE number = ?1", [number])
                .map_err(failed)?;
            transaction.execute_batch(&drop_collection_tables(number)).map_err(failed)
        })
    }

    /// Writes a batch and its mark; the collection shows it when this returns.
    pub(super) fn put(
        &mut self,
        collection: &Collection,
        records: &[NewRecord],
        mark: Option<ImportMark>,
    ) -> Result<PutOutcome, SubstrateError> {
        check_batch(records.len())?;
        records.iter().try_for_each(|record| check(collection, record))?;
        // Of records with one id the last stands.
        let mut last: HashMap<&RecordId, usize> = HashMap::with_capacity(records.len());
        for (at, new) in records.iter().enumerate() {
            last.insert(&new.record.id, at);
        }
        let state = collection.state();
        let (next, outcome) = self.write("writing a batch", |transaction, place, action| {
            let mut batch = Batch::begin(transaction, place, collection, action)?;
            for (at, new) in records.iter().enumerate() {
                if last.get(&new.record.id) == Some(&at) {
                    batch.remove(&new.record.id)?;
                    batch.insert(new)?;
                }
            }
            if let Some(mark) = mark {
                batch.mark(mark)?;
            }
            let inserted = (last.len() - batch.gone.len()) as u64;
            let replaced = records.len() as u64 - inserted;
            Ok((batch.finish(&state)?, PutOutcome { inserted, replaced }))
        })?;
        collection.set(next);
        Ok(outcome)
    }

    /// Removes records; answers how many were there.
    pub(super) fn delete(
        &mut self,
        collection: &Collection,
        ids: &[RecordId],
    ) -> Result<u64, SubstrateError> {
        check_batch(ids.len())?;
        let state = collection.state();
        let (next, removed) = self.write("deleting records", |transaction, place, action| {
            let mut batch = Batch::begin(transaction, place, collection, action)?;
            for id in ids {
                batch.remove(id)?;
            }
            let removed = batch.gone.len() as u64;
            Ok((batch.finish(&state)?, removed))
        })?;
        collection.set(next);
        Ok(removed)
    }

    /// Runs one transaction; it is durable when this returns well, and undone when it does not.
    fn write<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&Transaction<'_>, &Place, &'static str) -> Result<T, SubstrateError>,
    ) -> Result<T, SubstrateError> {
        if self.failed {
            return Err(SubstrateError::Storage {
                path: self.place.path().to_owned(),
                action,
                reason: "an earlier write failed on disk; restart to recover".into(),
            });
        }
        let failed = self.place.failed(action);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let done = work(&transaction, &self.place, action)?;
        if let Err(error) = transaction.commit() {
            // A failed sync is never tried again: the system may have dropped what it could not
            // write. Opening anew recovers what the log holds.
            self.failed = error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
            return Err(self.place.failed(action)(error));
        }
        Ok(done)
    }
}

/// One write to one collection within a transaction.
struct Batch<'a> {
    transaction: &'a Transaction<'a>,
    place: &'a Place,
    collection: &'a Collection,
    action: &'static str,
    generation: i64,
    next_row: i64,
    came: SegmentBuilder,
    gone: Vec<i64>,
}

impl<'a> Batch<'a> {
    fn begin(
        transaction: &'a Transaction<'a>,
        place: &'a Place,
        collection: &'a Collection,
        action: &'static str,
    ) -> Result<Self, SubstrateError> {
        let found = transaction
            .prepare_cached("SELECT generation, next_row FROM collection WHERE number = ?1")
            .and_then(|mut statement| {
                statement
                    .query_row([collection.number], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            })
            .map_err(place.failed(action))?;
        let Some((generation, next_row)) = found else {
            return Err(SubstrateError::NoCollection(collection.spec.name.clone()));
        };
        let came = SegmentBuilder::default();
        let gone = Vec::new();
        Ok(Self { transaction, place, collection, action, generation, next_row, came, gone })
    }

    /// Removes a record if it is there.
    fn remove(&mut self, id: &RecordId) -> Result<(), SubstrateError> {
        let number = self.collection.number;
        let failed = self.place.failed(self.action);
        let row: Option<i64> = self
            .transaction
            .prepare_cached(&format!("DELETE FROM record_{number} WHERE id = ?1 RETURNING row"))
            .and_then(|mut delete| delete.query_row([id.as_str()], |row| row.get(0)).optional())
            .map_err(failed)?;
        let Some(row) = row else { return Ok(()) };
        self.transaction
            .prepare_cached(&format!("DELETE FROM text_{number} WHERE rowid = ?1"))
            .and_then(|mut delete| delete.execute([row]))
            .map_err(failed)?;
        self.gone.push(row);
        Ok(())
    }

    /// Adds a record whose id is not there.
    fn insert(&mut self, new: &NewRecord) -> Result<(), SubstrateError> {
        let number = self.collection.number;
        let failed = self.place.failed(self.action);
        let row = self.next_row;
        self.next_row += 1;
        let record = &new.record;
        self.transaction
            .prepare_cached(&format!(
                "INSERT INTO text_{number} (rowid, title, body) VALUES (?1, ?2, ?3)"
            ))
            .and_then(|mut insert| insert.execute(params![row, record.title, record.text]))
            .map_err(failed)?;
        let tokens = self.tokens(row)?;
        let metadata = row::encode_metadata(&record.metadata)
            .map_err(|error| refused(new, error.to_string()))?;
        let vector = new.vector.as_deref().map(row::encode_vector);
        let (id, title, text) = (record.id.as_str(), &record.title, &record.text);
        let sum = row::record_sum(id, title, text, &metadata, &new.content.0);
        let vector_sum = vector.as_deref().map(row::vector_sum);
        let content = &new.content.0;
        self.transaction
            .prepare_cached(&format!(
                "INSERT INTO record_{number} (row, id, tokens, record_sum, vector_sum, content,
                 metadata, vector, title, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
            ))
            .and_then(|mut insert| {
                insert.execute(params![
                    row, id, tokens, sum, vector_sum, content, metadata, vector, title, text
                ])
            })
            .map_err(failed)?;
        let metric = self.collection.spec.metric;
        let prepared = new.vector.as_deref().map(|vector| metric::prepared(metric, vector));
        self.came.push(&SegmentRecord {
            row,
            id,
            tokens,
            vector: prepared.as_deref(),
            metadata: &record.metadata,
        });
        Ok(())
    }

    /// The tokens of a record just indexed, as the index counted them: variable-length integers,
    /// one a column (the index's documented `%_docsize` table).
    fn tokens(&self, row: i64) -> Result<u32, SubstrateError> {
        let number = self.collection.number;
        let sizes: Vec<u8> = self
            .transaction
            .prepare_cached(&format!("SELECT sz FROM text_{number}_docsize WHERE id = ?1"))
            .and_then(|mut read| read.query_row([row], |row| row.get(0)))
            .map_err(self.place.failed(self.action))?;
        let mut total = 0_u32;
        let mut size = 0_u32;
        for byte in sizes {
            size = (size << 7) | u32::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                total = total.saturating_add(size);
                size = 0;
            }
        }
        Ok(total)
    }

    /// Stores how far an import has come; forgets the oldest one when there are too many.
    fn mark(&self, mark: ImportMark) -> Result<(), SubstrateError> {
        let number = self.collection.number;
        let failed = self.place.failed(self.action);
        let rows = i64::try_from(mark.rows_done).unwrap_or(i64::MAX);
        self.transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO import_mark (collection, import_id, rows_done, generation)
                 VALUES (?1, ?2, ?3, ?4)",
            )
            .and_then(|mut insert| {
                insert.execute(params![number, mark.import_id, rows, self.generation + 1])
            })
            .map_err(failed)?;
        self.transaction
            .prepare_cached(
                "DELETE FROM import_mark WHERE collection = ?1 AND import_id IN (
                     SELECT import_id FROM import_mark WHERE collection = ?1
                     ORDER BY generation DESC LIMIT -1 OFFSET ?2)",
            )
            .and_then(|mut delete| delete.execute(params![number, IMPORTS_REMEMBERED_MAX as i64]))
            .map_err(failed)?;
        Ok(())
    }

    /// Counts the write; answers the state it leads to.
    fn finish(self, state: &State) -> Result<Arc<State>, SubstrateError> {
        let generation = self.generation + 1;
        let next = state.next(generation, &self.gone, self.came.finish());
        self.transaction
            .prepare_cached(
                "UPDATE collection SET generation = ?2, next_row = ?3, records = ?4
                 WHERE number = ?1",
            )
            .and_then(|mut update| {
                let number = self.collection.number;
                update.execute(params![number, generation, self.next_row, next.records as i64])
            })
            .map_err(self.place.failed(self.action))?;
        Ok(Arc::new(next))
    }
}

fn check_batch(actual: usize) -> Result<(), SubstrateError> {
    if actual > BATCH_RECORDS_MAX {
        return Err(SubstrateError::BatchTooLong { max: BATCH_RECORDS_MAX, actual });
    }
    Ok(())
}

/// Refuses a record over a bound, or with a vector the collection cannot hold.
fn check(collection: &Collection, new: &NewRecord) -> Result<(), SubstrateError> {
    new.record.check().map_err(|error| refused(new, error.to_string()))?;
    let Some(vector) = &new.vector else { return Ok(()) };
    let dimensions = collection.spec.dimensions as usize;
    if dimensions == 0 {
        return Err(refused(new, "it has a vector, and the collection holds text alone"));
    }
    if vector.len() != dimensions {
        let reason = format!("its vector has {} dimensions, not {dimensions}", vector.len());
        return Err(refused(new, reason));
    }
    match vector.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(refused(new, format!("component {at} of its vector is not finite"))),
        None => Ok(()),
    }
}

fn refused(new: &NewRecord, reason: impl Into<String>) -> SubstrateError {
    SubstrateError::Record { id: new.record.id.to_string(), reason: reason.into() }
}
