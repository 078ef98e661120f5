//! Shared collections: what members write together, each at its own node.
//!
//! A write is signed and on the disk here before it is acknowledged; it needs no other member. Readers that
//! can reach each other, over others where need be, come to hold the same. An undeclared collection is there
//! with its first write and is every member's to read and write; declared ones
//! ([`Proposal::Share`](crate::Proposal::Share)) have readers and writers that the members decide on.

use std::time::Duration;

use exo_crdt::Evidence;
use exo_node::share::{Change, Input, ShareRefusal, Shown, Written};
use exo_types::limits::SHARED_PAGE_KEYS_MAX;
use exo_types::{CollectionName, NodeName, PeerId, RecordId, Timestamp, Wire};
use tokio::sync::broadcast::{self, error::RecvError};

pub use exo_crdt::CollectionKind as SharedKind;
pub use exo_node::share::Access as SharedAccess;

use crate::driver::shared::{Noted, SharedHost};
use crate::error::{ErrorCode, FederationError};
use crate::mesh::FederatedMesh;

/// What stands at a key of a shared collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedValue {
    /// The value, at most [`ENTRY_VALUE_BYTES_MAX`](exo_types::limits::ENTRY_VALUE_BYTES_MAX) bytes; `None` where it was erased or has not come yet.
    pub value: Option<Vec<u8>>,
    /// Who wrote it.
    pub author: PeerId,
    /// The name under which that member is known now.
    pub author_name: Option<NodeName>,
    /// When, by the clocks of the members.
    pub at: Timestamp,
}

/// A key with what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedEntry {
    /// The key.
    pub key: RecordId,
    /// The value and whose it is.
    pub value: SharedValue,
}

/// A part of a shared collection, by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPage {
    /// Keys in order.
    pub entries: Vec<SharedEntry>,
    /// The key after which to go on; `None` when there are no more.
    pub next: Option<RecordId>,
}

/// A shared collection as this node holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedCollectionView {
    /// Its name.
    pub name: CollectionName,
    /// What its entries mean.
    pub kind: SharedKind,
    /// Who gets it.
    pub readers: SharedAccess,
    /// Whose entries count.
    pub writers: SharedAccess,
    /// The members have declared it. One that is not is every member's.
    pub declared: bool,
    /// This node may write.
    pub writable: bool,
    /// The number of the last checkpoint taken over; 0 before the first.
    pub checkpoint: u64,
    /// Hash of everything held: two nodes with the same hash hold the same.
    pub root: [u8; 32],
    /// Signed batches above the checkpoint.
    pub batches: u64,
    /// Entries held, removals included.
    pub entries: u64,
    /// Entries under the checkpoint that have not come yet.
    pub missing: u64,
    /// Members of which a proof is held that they signed two histories of it.
    pub accused: Vec<PeerId>,
}

/// Where another reader of a shared collection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedLag {
    /// Which collection.
    pub collection: CollectionName,
    /// Who.
    pub peer: PeerId,
    /// Its name.
    pub name: Option<NodeName>,
    /// There is a session with it.
    pub connected: bool,
    /// A synchronisation with it is under way.
    pub syncing: bool,
    /// What it has, as far as it has said.
    pub state: LagState,
}

/// Whether another reader has what this node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LagState {
    /// It has not said what it has since this node started.
    Unknown,
    /// It has the same.
    InStep,
    /// It has something else.
    Behind {
        /// For how long, at least.
        since: Duration,
        /// Batches by which this node has more; below zero when it has fewer.
        batches: i64,
    },
}

impl LagState {
    /// Its name in one word that never changes: `unknown`, `in-step` or `behind`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::InStep => "in-step",
            Self::Behind { .. } => "behind",
        }
    }
}

/// The proof that a member signed two histories of a shared collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedEvidence {
    /// Which collection.
    pub collection: CollectionName,
    /// Who.
    pub author: PeerId,
    /// The name under which that member is known now.
    pub author_name: Option<NodeName>,
    /// The number of which there are two batches.
    pub batch: u64,
    /// Both signed headers, encoded (docs/protocol/replication.md): enough for anybody who has the
    /// member's key.
    pub proof: Vec<u8>,
}

/// What a watcher of a shared collection is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedEvent {
    /// Keys were written to, here or elsewhere; with what stands there when this is read. A key whose
    /// value is `None` has none any more.
    Changed(Vec<(RecordId, Option<SharedValue>)>),
    /// More has changed than is named: read the collection anew.
    Missed,
}

impl FederatedMesh {
    /// Writes a value at a key. When this returns it is signed and on the disk here; other members get it
    /// as soon as they are reached. A collection that nobody has declared is made by this.
    ///
    /// # Errors
    /// [`ErrorCode::SharedNotFound`], [`ErrorCode::SharedDenied`], [`ErrorCode::SharedFull`],
    /// [`ErrorCode::ValueTooLong`], [`ErrorCode::SharedCatchingUp`], [`ErrorCode::NotAMember`],
    /// [`ErrorCode::Busy`].
    pub async fn shared_put(
        &self,
        collection: &CollectionName,
        key: &RecordId,
        value: Vec<u8>,
    ) -> Result<(), FederationError> {
        self.write(collection, key, Change::Put(value)).await.map(drop)
    }

    /// Removes what stands at a key, durably; says whether something did.
    ///
    /// # Errors
    /// Those of [`shared_put`](Self::shared_put), and [`ErrorCode::SharedOnlyGrows`].
    pub async fn shared_remove(
        &self,
        collection: &CollectionName,
        key: &RecordId,
    ) -> Result<bool, FederationError> {
        let written = self.write(collection, key, Change::Remove).await?;
        Ok(written != Written::Nothing)
    }

    /// What stands at a key here and now.
    ///
    /// # Errors
    /// [`ErrorCode::SharedNotFound`], [`ErrorCode::NotAMember`].
    pub async fn shared_get(
        &self,
        collection: &CollectionName,
        key: &RecordId,
    ) -> Result<Option<SharedValue>, FederationError> {
        let (name, key) = (collection.clone(), key.clone());
        let shares = self.shares()?;
        let shown = shares.look(move |shared, now| shared.get(now.wall, &name, &key));
        let shown = shown.await?.map_err(|refusal| refused(&refusal))?;
        Ok(shown.map(|shown| self.shared_value(shown)))
    }

    /// Keys that have a value, in order: those that begin with a prefix, after a key, at most `limit` and
    /// [`SHARED_PAGE_KEYS_MAX`].
    ///
    /// # Errors
    /// [`ErrorCode::SharedNotFound`], [`ErrorCode::NotAMember`].
    pub async fn shared_list(
        &self,
        collection: &CollectionName,
        prefix: &str,
        after: Option<&RecordId>,
        limit: usize,
    ) -> Result<SharedPage, FederationError> {
        let limit = limit.clamp(1, SHARED_PAGE_KEYS_MAX);
        let (name, after, begin) = (collection.clone(), after.cloned(), prefix.to_owned());
        let shares = self.shares()?;
        let shown = shares.look(move |shared, now| {
            let first = RecordId::new(begin.as_str()).ok();
            // Nothing that begins with the prefix stands before the prefix itself.
            let (mut shown, after) = match (first, after) {
                (Some(first), after) if after.as_ref().is_none_or(|after| *after < first) => {
                    (shared.get(now.wall, &name, &first)?.into_iter().collect(), Some(first))
                }
                (_, after) => (Vec::new(), after),
            };
            shown.extend(shared.list(now.wall, &name, after.as_ref(), limit)?);
            Ok((shown, begin))
        });
        let (shown, begin) = shown.await?.map_err(|refusal: ShareRefusal| refused(&refusal))?;
        let full = shown.len() >= limit;
        let fits = |shown: &Shown| shown.key.as_str().starts_with(&begin);
        let mut entries: Vec<_> =
            shown.into_iter().take_while(fits).map(|s| self.entry(s)).collect();
        entries.truncate(limit);
        let next = entries.last().filter(|_| full && entries.len() == limit);
        let next = next.map(|entry| entry.key.clone());
        Ok(SharedPage { entries, next })
    }

    /// The shared collections of which this node may know, by name. None before it is a member.
    ///
    /// # Errors
    /// [`ErrorCode::Io`] when nothing is kept any more.
    pub async fn shared_collections(&self) -> Result<Vec<SharedCollectionView>, FederationError> {
        let Ok(shares) = self.shares() else { return Ok(Vec::new()) };
        let views = shares.look(|shared, now| shared.collections(now)).await?;
        Ok(views.into_iter().map(view).collect())
    }

    /// Changes of a collection from now on. One that does not exist yet is watched as well.
    ///
    /// # Errors
    /// [`ErrorCode::NotAMember`], [`ErrorCode::Busy`] when as many are watched as may.
    pub fn shared_watch(
        &self,
        collection: &CollectionName,
    ) -> Result<SharedWatch, FederationError> {
        let changes = self.shares()?.watch(collection).ok_or_else(|| {
            FederationError::new(ErrorCode::Busy, "too many collections are watched")
        })?;
        Ok(SharedWatch { changes, collection: collection.clone(), mesh: self.clone() })
    }

    /// Where the other readers of each collection are, as far as they have said. None before this node is
    /// a member.
    ///
    /// # Errors
    /// [`ErrorCode::Io`] when nothing is kept any more.
    pub async fn shared_lag(&self) -> Result<Vec<SharedLag>, FederationError> {
        let Ok(shares) = self.shares() else { return Ok(Vec::new()) };
        let views = shares.look(|shared, now| shared.collections(now)).await?;
        let of = |view: exo_node::share::CollectionView| {
            let name = view.name;
            view.lag.into_iter().map(move |lag| (name.clone(), lag))
        };
        let lag = |(collection, lag): (CollectionName, exo_node::share::Lag)| SharedLag {
            collection,
            peer: lag.peer,
            name: self.name_of(&lag.peer),
            connected: lag.connected,
            syncing: lag.syncing,
            state: match lag.same {
                None => LagState::Unknown,
                Some(true) => LagState::InStep,
                Some(false) => LagState::Behind {
                    since: Duration::from_millis(lag.behind_millis),
                    batches: lag.behind_batches,
                },
            },
        };
        Ok(views.into_iter().flat_map(of).map(lag).collect())
    }

    /// Destroys the values that were ever written at a key: here, durably, and those that this node wrote
    /// at every member that is honest, as soon as it is reached. Says how many were destroyed here. A
    /// member that kept a copy cannot be stopped.
    ///
    /// # Errors
    /// [`ErrorCode::SharedNotFound`], [`ErrorCode::NotAMember`].
    pub async fn shared_erase(
        &self,
        collection: &CollectionName,
        key: &RecordId,
    ) -> Result<usize, FederationError> {
        let (collection, key) = (collection.clone(), key.clone());
        let erase = |ticket| Input::Erase { ticket, collection, key };
        match self.shares()?.ask(erase).await?.map_err(|refusal| refused(&refusal))? {
            Written::Erased(count) => Ok(count),
            Written::Entry(_) | Written::Nothing => Ok(0),
        }
    }

    /// The proofs held here that members signed two histories of a collection.
    ///
    /// # Errors
    /// [`ErrorCode::Io`] when nothing is kept any more.
    pub async fn shared_evidence(&self) -> Result<Vec<SharedEvidence>, FederationError> {
        let Ok(shares) = self.shares() else { return Ok(Vec::new()) };
        let held = shares.look(|shared, now| {
            let views = shared.collections(now).into_iter();
            let accused = views.filter(|view| !view.accused.is_empty()).map(|view| view.name);
            let names: Vec<_> = accused.collect();
            let of = |name: CollectionName| {
                let evidence = shared.replica(&name).map(exo_crdt::Replica::evidence);
                let all = evidence.into_iter().flat_map(exo_crdt::EvidenceSet::iter);
                all.map(move |(at, proof)| (name.clone(), *at, proof.clone())).collect::<Vec<_>>()
            };
            names.into_iter().flat_map(of).collect::<Vec<(_, _, Evidence)>>()
        });
        let shown = |(collection, (author, batch), proof): (_, (PeerId, u64), Evidence)| {
            let proof = proof.to_wire().map_err(|error| {
                FederationError::new(ErrorCode::Internal, format!("a proof: {error}"))
            })?;
            let author_name = self.name_of(&author);
            Ok(SharedEvidence { collection, author, author_name, batch, proof })
        };
        held.await?.into_iter().map(shown).collect()
    }

    async fn write(
        &self,
        collection: &CollectionName,
        key: &RecordId,
        change: Change,
    ) -> Result<Written, FederationError> {
        let (collection, key) = (collection.clone(), key.clone());
        let write = |ticket| Input::Write { ticket, collection, key, change };
        self.shares()?.ask(write).await?.map_err(|refusal| refused(&refusal))
    }

    fn shares(&self) -> Result<SharedHost, FederationError> {
        self.inner.core.check()?;
        self.inner.core.shares().ok_or_else(|| {
            FederationError::new(
                ErrorCode::NotAMember,
                "this node belongs to no federation: there is nobody to share with",
            )
        })
    }

    fn entry(&self, shown: Shown) -> SharedEntry {
        SharedEntry { key: shown.key.clone(), value: self.shared_value(shown) }
    }

    fn shared_value(&self, shown: Shown) -> SharedValue {
        SharedValue {
            value: shown.value,
            author: shown.author,
            author_name: self.name_of(&shown.author),
            at: Timestamp(shown.at.millis()),
        }
    }

    fn name_of(&self, peer: &PeerId) -> Option<NodeName> {
        self.inner.core.look(|node, _| {
            node.roster().and_then(|roster| roster.member(peer)).map(|member| member.name.clone())
        })
    }
}

/// Changes of one shared collection as they come.
#[derive(Debug)]
pub struct SharedWatch {
    changes: broadcast::Receiver<Noted>,
    collection: CollectionName,
    mesh: FederatedMesh,
}

impl SharedWatch {
    /// The next change; `None` when the node has stopped. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<SharedEvent> {
        match self.changes.recv().await {
            Ok(Noted { more: true, .. }) | Err(RecvError::Lagged(_)) => Some(SharedEvent::Missed),
            Ok(Noted { keys, .. }) => {
                let mut changed = Vec::new();
                for key in keys.iter() {
                    match self.mesh.shared_get(&self.collection, key).await {
                        Ok(value) => changed.push((key.clone(), value)),
                        // It is not this node's to read any more.
                        Err(_) => return Some(SharedEvent::Missed),
                    }
                }
                Some(SharedEvent::Changed(changed))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

fn view(view: exo_node::share::CollectionView) -> SharedCollectionView {
    let count = |n: usize| n as u64;
    SharedCollectionView {
        name: view.name,
        kind: view.spec.kind,
        readers: view.spec.readers,
        writers: view.spec.writers,
        declared: view.declared,
        writable: view.writes,
        checkpoint: view.epoch,
        root: view.root.0,
        batches: count(view.batches),
        entries: count(view.entries),
        missing: count(view.missing),
        accused: view.accused,
    }
}

fn refused(refusal: &ShareRefusal) -> FederationError {
    let code = match refusal {
        ShareRefusal::NoCollection(_) => ErrorCode::SharedNotFound,
        ShareRefusal::TooManyCollections | ShareRefusal::Quota(_) => ErrorCode::SharedFull,
        ShareRefusal::NotAWriter(_) => ErrorCode::SharedDenied,
        ShareRefusal::OnlyGrows(_) => ErrorCode::SharedOnlyGrows,
        ShareRefusal::TooLong { .. } => ErrorCode::ValueTooLong,
        ShareRefusal::Busy(_) => ErrorCode::Busy,
        ShareRefusal::OwnHistory(_) => ErrorCode::SharedCatchingUp,
        ShareRefusal::Failed(_) => ErrorCode::Internal,
    };
    FederationError::new(code, refusal.to_string())
}
