//! The searchable data beside a node: the Substrate trait and the embedded default.
//!
//! A [`Substrate`] holds collections of records, writes them in atomic, durable batches, and
//! answers searches by vector and by text with scores that can be compared with other members'.
//! [`SubstrateInstance`] is the handle to one, opened by the name of its backend;
//! [`EmbeddedSubstrate`] is the default, one file beside the node. [`import`] reads files into
//! batches, and [`metric`] computes the scores of vectors, to the bit, on every machine.
//!
//! ```
//! use exo_substrate::{NewRecord, OpenOptions, SearchRequest, SubstrateInstance};
//! use exo_types::{CollectionName, CollectionSpec, ContentHash, Metric, QueryTarget};
//! use exo_types::{Record, RecordId};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("substrate.db");
//! let substrate = SubstrateInstance::open("embedded", OpenOptions::new(path)).await?;
//! let birds = CollectionName::new("birds")?;
//! let spec = CollectionSpec {
//!     name: birds.clone(),
//!     dimensions: 2,
//!     metric: Metric::Cosine,
//!     embedder: "by hand".into(),
//! };
//! substrate.create(spec).await?;
//!
//! let record = Record {
//!     id: RecordId::new("heron")?,
//!     title: "Heron".into(),
//!     text: "Stands in the reeds.".into(),
//!     metadata: Default::default(),
//! };
//! // The hash of title and text is computed by the caller; here it is left out.
//! let content = ContentHash([0; 32]);
//! let new = NewRecord { record, vector: Some(vec![0.6, 0.8]), content };
//! substrate.put(&birds, vec![new], None).await?;
//!
//! let target = QueryTarget { text: "reeds".into(), ..QueryTarget::vector(vec![1.0, 0.0]) };
//! let answer = substrate.search(&birds, SearchRequest::new(target)).await?;
//! assert_eq!(answer.legs[0].hits[0].score, 0.6);
//! assert_eq!(answer.legs[1].hits[0].title, "Heron");
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "contract")]
pub mod contract;
pub mod embedded;
mod error;
pub mod filter;
pub mod import;
mod instance;
pub mod metric;
mod substrate;

pub use embedded::EmbeddedSubstrate;
pub use error::SubstrateError;
pub use instance::{OpenOptions, SubstrateInstance};
pub use substrate::{
    Exactness, ImportId, ImportMark, NewRecord, PutOutcome, SearchAnswer, SearchRequest,
    StoredRecord, Substrate, SubstrateStats,
};
