//! The embedded default: one file beside the node, searched in memory.
//!
//! SQLite holds the one truth, records with vectors and the full-text index, and makes a batch
//! atomic and durable. What searches scan (vectors, signs, metadata by field) stands in memory,
//! derived from the file when it is opened and brought up to date by each write.
//!
//! A store is open in one process at a time. Reads run side by side on a few connections, writes
//! one after another on one; all of it off the asynchronous threads.

mod best;
mod bits;
mod codes;
mod collection;
mod column;
mod load;
mod postings;
mod read;
mod row;
mod schema;
mod segment;
mod state;
mod text;
mod tokens;
mod vector;
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use async_trait::async_trait;
use exo_types::limits::{QUERY_TEXT_BYTES_MAX, READ_CONNECTIONS_MAX};
use exo_types::{CollectionInfo, CollectionName, CollectionSpec, RecordId, TermStats, codec};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use self::collection::Collection;
use self::read::Reader;
use self::schema::Place;
use self::write::Writer;
use crate::error::SubstrateError;
use crate::instance::OpenOptions;
use crate::substrate::{
    ImportId, ImportMark, NewRecord, PutOutcome, SearchAnswer, SearchRequest, StoredRecord,
    Substrate, SubstrateStats,
};

/// The embedded substrate. Cheap to clone; clones are the same store.
#[derive(Clone, Debug)]
pub struct EmbeddedSubstrate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    // Fields are dropped in this order: connections close before the lock is given up.
    writer: Arc<AsyncMutex<Writer>>,
    readers: Mutex<Vec<Reader>>,
    turns: Arc<Semaphore>,
    collections: RwLock<BTreeMap<CollectionName, Arc<Collection>>>,
    exact_max: usize,
    place: Place,
    _lock: File,
}

impl EmbeddedSubstrate {
    /// The name it is registered under.
    pub const NAME: &'static str = "embedded";

    /// Opens a store and reads what its searches need; makes the file when there is none.
    ///
    /// Refuses a store that another process has open, one of a newer format, and a damaged one.
    pub async fn open(options: OpenOptions) -> Result<Self, SubstrateError> {
        blocking(move || Self::open_blocking(options)).await
    }

    fn open_blocking(options: OpenOptions) -> Result<Self, SubstrateError> {
        let start = Instant::now();
        let place = Place::new(options.path);
        let lock = place.lock()?;
        let connection = place.open_writer()?;
        let exact_max = options.exact_scan_records_max;
        let collections: BTreeMap<_, _> = load::collections(&connection, &place, exact_max)?
            .into_iter()
            .map(|collection| (collection.spec.name.clone(), Arc::new(collection)))
            .collect();
        tracing::info!(
            collections = collections.len(),
            records = collections.values().map(|c| c.info().records).sum::<u64>(),
            millis = start.elapsed().as_millis() as u64,
            "substrate opened"
        );
        let turns = options.read_connections.clamp(1, READ_CONNECTIONS_MAX);
        let shared = Shared {
            writer: Arc::new(AsyncMutex::new(Writer::new(connection, place.clone()))),
            readers: Mutex::new(Vec::with_capacity(turns)),
            turns: Arc::new(Semaphore::new(turns)),
            collections: RwLock::new(collections),
            exact_max,
            place,
            _lock: lock,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Runs a read when it is its turn.
    async fn read<T: Send + 'static>(
        &self,
        name: &CollectionName,
        work: impl FnOnce(&mut Reader, &Collection) -> Result<T, SubstrateError> + Send + 'static,
    ) -> Result<T, SubstrateError> {
        let collection = self.shared.collection(name)?;
        let turn = Arc::clone(&self.shared.turns).acquire_owned().await;
        let turn = turn.map_err(|error| SubstrateError::Interrupted(error.to_string()))?;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let _turn = turn;
            let idle = shared.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut reader = idle.map_or_else(|| Reader::open(&shared.place), Ok)?;
            let done = work(&mut reader, &collection);
            shared.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            done
        })
        .await
    }

    /// Runs a write when it is its turn; it goes through even if the caller stops waiting.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &mut Writer) -> Result<T, SubstrateError> + Send + 'static,
    ) -> Result<T, SubstrateError> {
        let mut writer = Arc::clone(&self.shared.writer).lock_owned().await;
        let shared = Arc::clone(&self.shared);
        blocking(move || work(&shared, &mut writer)).await
    }
}

impl Shared {
    // Both change the map while they hold the writer, so that nobody else does; the map itself is
    // locked only for an instant.

    fn create(&self, writer: &mut Writer, spec: CollectionSpec) -> Result<(), SubstrateError> {
        match self.collection(&spec.name) {
            Ok(known) if known.spec == spec => Ok(()),
            Ok(_) => Err(SubstrateError::CollectionExists(spec.name)),
            Err(_) => {
                let name = spec.name.clone();
                let created = Arc::new(writer.create(spec, self.exact_max)?);
                self.collections
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(name, created);
                Ok(())
            }
        }
    }

    fn drop_collection(
        &self,
        writer: &mut Writer,
        name: &CollectionName,
    ) -> Result<(), SubstrateError> {
        let collection = self.collection(name)?;
        writer.drop_collection(&collection)?;
        self.collections.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }

    fn collection(&self, name: &CollectionName) -> Result<Arc<Collection>, SubstrateError> {
        self.collections
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
            .ok_or_else(|| SubstrateError::NoCollection(name.clone()))
    }
}

#[async_trait]
impl Substrate for EmbeddedSubstrate {
    async fn collections(&self) -> Result<Vec<CollectionInfo>, SubstrateError> {
        let collections = self.shared.collections.read().unwrap_or_else(PoisonError::into_inner);
        Ok(collections.values().map(|collection| collection.info()).collect())
    }

    async fn create(&self, spec: CollectionSpec) -> Result<(), SubstrateError> {
        spec.check().map_err(|reason| SubstrateError::Request { what: "collection", reason })?;
        self.write(move |shared, writer| shared.create(writer, spec)).await
    }

    async fn drop_collection(&self, name: &CollectionName) -> Result<(), SubstrateError> {
        let name = name.clone();
        self.write(move |shared, writer| shared.drop_collection(writer, &name)).await
    }

    async fn info(&self, name: &CollectionName) -> Result<CollectionInfo, SubstrateError> {
        Ok(self.shared.collection(name)?.info())
    }

    async fn put(
        &self,
        collection: &CollectionName,
        records: Vec<NewRecord>,
        mark: Option<ImportMark>,
    ) -> Result<PutOutcome, SubstrateError> {
        let collection = self.shared.collection(collection)?;
        self.write(move |_, writer| writer.put(&collection, &records, mark)).await
    }

    async fn import_progress(
        &self,
        collection: &CollectionName,
        import_id: ImportId,
    ) -> Result<Option<u64>, SubstrateError> {
        self.read(collection, move |reader, collection| {
            reader.import_progress(collection, &import_id)
        })
        .await
    }

    async fn get(
        &self,
        collection: &CollectionName,
        id: &RecordId,
    ) -> Result<Option<StoredRecord>, SubstrateError> {
        let id = id.clone();
        self.read(collection, move |reader, collection| reader.get(collection, &id)).await
    }

    async fn delete(
        &self,
        collection: &CollectionName,
        ids: Vec<RecordId>,
    ) -> Result<u64, SubstrateError> {
        let collection = self.shared.collection(collection)?;
        self.write(move |_, writer| writer.delete(&collection, &ids)).await
    }

    async fn search(
        &self,
        collection: &CollectionName,
        request: SearchRequest,
    ) -> Result<SearchAnswer, SubstrateError> {
        self.read(collection, move |reader, collection| reader.search(collection, &request)).await
    }

    async fn term_stats(
        &self,
        collection: &CollectionName,
        text: &str,
    ) -> Result<TermStats, SubstrateError> {
        codec::bound(text.len(), QUERY_TEXT_BYTES_MAX)
            .map_err(|reason| SubstrateError::Request { what: "query text", reason })?;
        let text = text.to_owned();
        self.read(collection, move |reader, collection| reader.term_stats(collection, &text)).await
    }

    async fn stats(&self) -> Result<SubstrateStats, SubstrateError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let mut stats =
                SubstrateStats { disk_bytes: shared.place.disk_bytes(), ..Default::default() };
            let collections = shared.collections.read().unwrap_or_else(PoisonError::into_inner);
            for collection in collections.values() {
                let state = collection.state();
                stats.collections += 1;
                stats.records += state.records as u64;
                stats.vectors += state.vectors as u64;
                stats.memory_bytes += state.bytes() as u64;
            }
            Ok(stats)
        })
        .await
    }
}

/// Runs work that waits for a disk or computes for long on a thread made for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SubstrateError> + Send + 'static,
) -> Result<T, SubstrateError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(SubstrateError::Interrupted(error.to_string())))
}
