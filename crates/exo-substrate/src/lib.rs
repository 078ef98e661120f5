//! The searchable data beside a node: the Substrate trait and the embedded default.

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
