//! Ask every organisation's data one question, without pooling the data.
//!
//! A node stands beside its organisation's own searchable data. Nodes join a federation by a
//! post-quantum handshake and answer each other's queries; every answer is merged, with its
//! provenance and one status per source.
//!
//! ```
//! use std::time::Duration;
//!
//! use exo_federation::{
//!     CollectionName, CollectionPolicy, CollectionSpec, Config, FederatedMesh, FederationScope,
//!     InviteOptions, Metric, NewRecord, NodeName, QuerySpec, QueryTarget, Record, RecordId, SignedAnswer,
//!     content_hash, join_federation,
//! };
//!
//! /// A node in a directory of its own, listening on a port the system chooses.
//! async fn node(dir: &std::path::Path, name: &str) -> anyhow::Result<FederatedMesh> {
//!     let mut config = Config::new(NodeName::new(name)?);
//!     config.mesh_listen = "127.0.0.1:0".parse()?;
//!     FederatedMesh::init(dir, &config)?;
//!     Ok(FederatedMesh::open(dir).await?)
//! }
//!
//! /// One collection with one record.
//! async fn add(mesh: &FederatedMesh, id: &str, text: &str) -> anyhow::Result<()> {
//!     let name = CollectionName::new("notes")?;
//!     let spec = CollectionSpec {
//!         name: name.clone(),
//!         dimensions: 0,
//!         metric: Metric::Cosine,
//!         embedder: String::new(),
//!     };
//!     mesh.collection_add(spec, CollectionPolicy::default()).await?;
//!     let record = Record {
//!         id: RecordId::new(id)?,
//!         title: String::new(),
//!         text: text.to_owned(),
//!         metadata: Default::default(),
//!     };
//!     let content = content_hash(&record.title, &record.text);
//!     mesh.put(&name, vec![NewRecord { record, vector: None, content }], None).await?;
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> anyhow::Result<()> {
//!     let dir = tempfile::tempdir()?;
//!     let lab = node(&dir.path().join("lab"), "lab").await?;
//!     let clinic = node(&dir.path().join("clinic"), "clinic").await?;
//!     add(&lab, "lab:1", "moths navigate by the moon").await?;
//!     add(&clinic, "clinic:1", "the moon does not explain insomnia").await?;
//!
//!     // The lab founds a federation by inviting; people would compare words and approve.
//!     let invite = lab.invite_new(InviteOptions {
//!         life: Duration::from_secs(60),
//!         auto_approve: true,
//!     })?;
//!     let token = join_federation(&clinic, &invite.ticket, Duration::from_secs(10)).await?;
//!     assert_eq!(token.audience, lab.peer_id());
//!
//!     let query = QuerySpec::new(FederationScope::Direct, QueryTarget::text("moon"));
//!     let answer = clinic.federated_query(query).await?;
//!     assert!(answer.complete, "{:?}", answer.sources);
//!     assert_eq!(answer.results.len(), 2);
//!     for source in &answer.sources {
//!         println!("{}: {:?}, {} results", source.source, source.status, source.count);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! [`onion_query`] asks the same without saying who asks: each source by a packet of its own over relays
//! ([`FederationScope::Global`]).
//!
//! With four members and more a federation decides together ([`decisions`]): [`byzantine_commit`] gives the
//! proof that an update is committed.
//!
//! What members write together each holds itself ([`shared`]): a write needs nobody else and reaches all.

pub mod config;
mod convert;
pub mod decisions;
pub mod driver;
mod entry;
pub mod error;
mod join;
mod mesh;
mod onion;
mod query;
pub mod shared;
pub mod view;

pub use config::{Config, OnionConfig};
pub use decisions::{
    ConsensusRole, ConsensusView, DecisionEvent, DecisionKind, DecisionOutcome, DecisionPage,
    DecisionView, DecisionWatch, Joiner, Proposal, Rules, StateUpdate, Void, VoterView,
    byzantine_commit,
};
pub use driver::net::EncryptedChannel;
pub use entry::LoggedEntry;
pub use error::{ErrorCode, FederationError};
pub use join::join_federation;
pub use mesh::{FederatedMesh, Initialised};
pub use onion::onion_query;
pub use shared::{
    LagState, SharedAccess, SharedCollectionView, SharedEntry, SharedEvent, SharedEvidence,
    SharedKind, SharedLag, SharedPage, SharedValue, SharedWatch,
};
pub use view::{
    CollectionPolicy, CollectionView, FederationView, FieldSet, InviteOptions, InviteView,
    JoinStatus, NewInvite, NodeStatus, PeerState, PeerView, QueryEvent, Readers,
};

pub use exo_crypto::{PostQuantumKeypair, SharedSecret, content_hash};
pub use exo_log::{CommitProof, Policy as ProofPolicy, ProofError, VerifiedCommit};
pub use exo_node::capability::{Capability, CapabilitySet};
pub use exo_node::question::AnswerSet;
pub use exo_node::token::FederationToken;
pub use exo_onion::{OnionHeader, OnionMessage, peel_layer};
pub use exo_substrate::{
    ImportId, ImportMark, NewRecord, PutOutcome, StoredRecord, Substrate, SubstrateInstance,
};
pub use exo_types::{
    CollectionInfo, CollectionName, CollectionSpec, Condition, FederatedHit, FederatedResult,
    FederationId, FederationScope, Filter, FilterOp, MetadataValue, Metric, NodeName,
    OrganisationName, PeerAddress, PeerId, Provenance, QuerySpec, QueryTarget, Record, RecordId,
    SignedAnswer, SourceReport, SourceStatus, Timestamp,
};
