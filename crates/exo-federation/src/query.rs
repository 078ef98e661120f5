//! Collections and queries of a node.

use exo_node::Node;
use exo_node::policy::CollectionPolicy;
use exo_substrate::{ImportId, ImportMark, NewRecord, PutOutcome, StoredRecord};
use exo_types::limits::MEMBERS_MAX;
use exo_types::{
    CollectionName, CollectionSpec, FederatedResult, QuerySpec, QueryTarget, RecordId,
};
use tokio::sync::mpsc;

use crate::convert;
use crate::driver::core::lock;
use crate::error::{ErrorCode, FederationError};
use crate::mesh::FederatedMesh;
use crate::view::{CollectionView, QueryEvent};

impl FederatedMesh {
    /// Makes a collection and says who may read it.
    ///
    /// # Errors
    /// [`ErrorCode::CollectionExists`] when one of that name was declared otherwise.
    pub async fn collection_add(
        &self,
        spec: CollectionSpec,
        policy: CollectionPolicy,
    ) -> Result<CollectionView, FederationError> {
        spec.check().map_err(convert::argument)?;
        policy.check().map_err(convert::argument)?;
        self.substrate().create(spec.clone()).await.map_err(convert::data)?;
        let name = spec.name.clone();
        self.inner.core.drive(|node, _| node.collection_added(spec, Some(policy)));
        self.inner.core.check()?;
        self.collection(&name).await
    }

    /// Every collection, by name.
    ///
    /// # Errors
    /// When the substrate cannot be read.
    pub async fn collections(&self) -> Result<Vec<CollectionView>, FederationError> {
        let infos = self.substrate().collections().await.map_err(convert::data)?;
        let view = |node: &Node, info: exo_types::CollectionInfo| {
            let policy = node.policy(&info.spec.name);
            CollectionView { info, policy }
        };
        Ok(self.inner.core.look(|n, _| infos.into_iter().map(|info| view(n, info)).collect()))
    }

    /// One collection.
    ///
    /// # Errors
    /// [`ErrorCode::CollectionNotFound`].
    pub async fn collection(
        &self,
        name: &CollectionName,
    ) -> Result<CollectionView, FederationError> {
        let info = self.substrate().info(name).await.map_err(convert::data)?;
        let policy = self.inner.core.look(|node, _| node.policy(name));
        Ok(CollectionView { info, policy })
    }

    /// Changes who may read a collection, and what of it. It holds from the next request on.
    ///
    /// # Errors
    /// [`ErrorCode::CollectionNotFound`], [`ErrorCode::InvalidArgument`].
    pub async fn collection_policy(
        &self,
        name: &CollectionName,
        policy: CollectionPolicy,
    ) -> Result<CollectionView, FederationError> {
        policy.check().map_err(convert::argument)?;
        let info = self.substrate().info(name).await.map_err(convert::data)?;
        self.inner.core.drive(|node, _| node.collection_added(info.spec, Some(policy)));
        self.inner.core.check()?;
        self.collection(name).await
    }

    /// Removes a collection with all its records.
    ///
    /// # Errors
    /// [`ErrorCode::CollectionNotFound`].
    pub async fn collection_drop(&self, name: &CollectionName) -> Result<(), FederationError> {
        // First it is not offered any more, then it is gone.
        self.substrate().info(name).await.map_err(convert::data)?;
        self.inner.core.drive(|node, _| node.collection_dropped(name));
        self.substrate().drop_collection(name).await.map_err(convert::data)?;
        self.inner.core.drive(|node, _| node.collection_gone(name));
        Ok(())
    }

    /// Writes a batch of records: all of it or nothing, durable when this returns.
    ///
    /// # Errors
    /// As [`exo_substrate::Substrate::put`].
    pub async fn put(
        &self,
        collection: &CollectionName,
        records: Vec<NewRecord>,
        mark: Option<ImportMark>,
    ) -> Result<PutOutcome, FederationError> {
        self.substrate().put(collection, records, mark).await.map_err(convert::data)
    }

    /// Rows of an import that are durably written; `None` when the import is not known.
    ///
    /// # Errors
    /// [`ErrorCode::CollectionNotFound`].
    pub async fn import_progress(
        &self,
        collection: &CollectionName,
        import_id: ImportId,
    ) -> Result<Option<u64>, FederationError> {
        self.substrate().import_progress(collection, import_id).await.map_err(convert::data)
    }

    /// One record of this node, with its vector.
    ///
    /// # Errors
    /// [`ErrorCode::CollectionNotFound`], [`ErrorCode::RecordNotFound`].
    pub async fn record(
        &self,
        collection: &CollectionName,
        id: &RecordId,
    ) -> Result<StoredRecord, FederationError> {
        let found = self.substrate().get(collection, id).await.map_err(convert::data)?;
        found.ok_or_else(|| {
            FederationError::new(
                ErrorCode::RecordNotFound,
                format!("collection {collection} has no record {id}"),
            )
        })
    }

    /// A query for what is like an existing record of this node: its vector and embedder.
    ///
    /// # Errors
    /// [`ErrorCode::RecordNotFound`] when no collection asked has the record, or it has no vector.
    pub async fn like(
        &self,
        id: &RecordId,
        collection: Option<&CollectionName>,
    ) -> Result<QueryTarget, FederationError> {
        for view in self.collections().await? {
            let spec = view.info.spec;
            if collection.is_some_and(|wanted| *wanted != spec.name) {
                continue;
            }
            let found = self.substrate().get(&spec.name, id).await.map_err(convert::data)?;
            if let Some(vector) = found.and_then(|record| record.vector) {
                return Ok(QueryTarget { vector, text: String::new(), embedder: spec.embedder });
            }
        }
        Err(FederationError::new(
            ErrorCode::RecordNotFound,
            format!("no record {id} with a vector is in this node's collections"),
        ))
    }

    /// Asks, and waits for the merged answer. Sources that do not answer are named in it; compare
    /// [`FederatedResult::answered`] with the query's `min_sources`.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidQuery`], [`ErrorCode::NotAMember`], [`ErrorCode::Busy`], and
    /// [`ErrorCode::NoPath`] for
    /// [`FederationScope::Global`](exo_types::FederationScope::Global).
    pub async fn federated_query(
        &self,
        spec: QuerySpec,
    ) -> Result<FederatedResult, FederationError> {
        let mut events = self.federated_query_events(spec)?;
        while let Some(event) = events.recv().await {
            if let QueryEvent::Done(result) = event {
                return Ok(result);
            }
        }
        self.inner.core.check()?;
        Err(FederationError::new(ErrorCode::Internal, "the query ended without an answer"))
    }

    /// Asks, and tells of every source as it finishes; the last event is the merged answer.
    ///
    /// # Errors
    /// As [`federated_query`](Self::federated_query).
    pub fn federated_query_events(
        &self,
        spec: QuerySpec,
    ) -> Result<mpsc::Receiver<QueryEvent>, FederationError> {
        let core = &self.inner.core;
        core.check()?;
        // Room for every source and the end: sending never waits.
        let (to, events) = mpsc::channel(MEMBERS_MAX + 2);
        let events = core
            .drive(|node, now| {
                let id = node.query(now, spec)?;
                lock(&core.queries).insert(id, to);
                Ok(events)
            })
            .map_err(|error: exo_node::QueryError| FederationError::from(error))?;
        // The node may have broken down since it was asked first; then nothing ends the query.
        core.check()?;
        Ok(events)
    }
}
