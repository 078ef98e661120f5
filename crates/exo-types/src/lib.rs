//! The words every crate of exo-federation shares: identifiers, time, bounds, the bounded codec,
//! and the shapes of records, queries and their answers.
//!
//! Nothing here does I/O, reads a clock or draws randomness.

pub mod address;
pub mod bounded;
pub mod codec;
pub mod id;
pub mod limits;
pub mod name;
pub mod query;
pub mod record;
pub mod result;
pub mod time;

pub use address::PeerAddress;
pub use codec::{CodecError, Wire};
pub use id::{Epoch, FederationId, PeerId, QueryId, Sequence, TokenId, View};
pub use name::{CollectionName, NameError, NodeName, OrganisationName, RecordId};
pub use query::{
    Condition, FederationScope, Filter, FilterOp, Metric, QuerySpec, QueryTarget, TermStats,
};
pub use record::{CollectionInfo, CollectionSpec, ContentHash, MetadataValue, Record};
pub use result::{
    FederatedHit, FederatedResult, Hit, Leg, LegKind, Provenance, ScoreScale, SignedAnswer,
    SourceReport, SourceStatus,
};
pub use time::{Now, Timestamp};
