//! The searchable data beside a node: the Substrate trait and the embedded default.

mod error;
pub mod filter;
mod instance;
mod substrate;

pub use error::SubstrateError;
pub use instance::{OpenOptions, SubstrateInstance};
pub use substrate::{
    Exactness, ImportId, ImportMark, NewRecord, PutOutcome, SearchAnswer, SearchRequest,
    StoredRecord, Substrate, SubstrateStats,
};
