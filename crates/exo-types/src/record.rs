//! Records and the collections that hold them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bounded;
use crate::codec::{CodecError, bound, invalid};
use crate::limits::{
    DIMENSIONS_MAX, EMBEDDER_BYTES_MAX, METADATA_FIELDS_MAX, METADATA_LIST_ITEMS_MAX,
    METADATA_VALUE_BYTES_MAX, TEXT_BYTES_MAX, TITLE_BYTES_MAX,
};
use crate::name::{CollectionName, RecordId};
use crate::query::Metric;

/// One record as its owner keeps it, without its vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its id, unique within the collection.
    pub id: RecordId,
    /// A short heading; may be empty.
    pub title: String,
    /// The text that is searched and shown.
    pub text: String,
    /// Flat fields to filter on; nested input is flattened with dotted keys at import.
    #[serde(deserialize_with = "bounded::map::<_, _, _, METADATA_FIELDS_MAX>")]
    pub metadata: BTreeMap<String, MetadataValue>,
}

impl Record {
    /// Checks every bound of a record.
    pub fn check(&self) -> Result<(), CodecError> {
        bound(self.title.len(), TITLE_BYTES_MAX)?;
        bound(self.text.len(), TEXT_BYTES_MAX)?;
        check_metadata(&self.metadata)
    }
}

/// Checks the bounds of a record's or a hit's metadata.
pub fn check_metadata(metadata: &BTreeMap<String, MetadataValue>) -> Result<(), CodecError> {
    bound(metadata.len(), METADATA_FIELDS_MAX)?;
    for (key, value) in metadata {
        bound(key.len(), METADATA_VALUE_BYTES_MAX)?;
        value.check()?;
    }
    Ok(())
}

/// A metadata value: a scalar or a list of texts. Never nested deeper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MetadataValue {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A finite number.
    Float(f64),
    /// A text.
    Text(String),
    /// Several texts, such as tags.
    List(#[serde(deserialize_with = "bounded::list::<_, _, METADATA_LIST_ITEMS_MAX>")] Vec<String>),
}

impl MetadataValue {
    /// Checks the value's bounds.
    pub fn check(&self) -> Result<(), CodecError> {
        match self {
            Self::Float(number) if !number.is_finite() => {
                Err(invalid("a metadata number must be finite"))
            }
            Self::Bool(_) | Self::Int(_) | Self::Float(_) => Ok(()),
            Self::Text(text) => bound(text.len(), METADATA_VALUE_BYTES_MAX),
            Self::List(items) => {
                bound(items.len(), METADATA_LIST_ITEMS_MAX)?;
                items.iter().try_for_each(|item| bound(item.len(), METADATA_VALUE_BYTES_MAX))
            }
        }
    }
}

/// SHA-256 over a record's title and text: equal content collapses into one result.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentHash(pub [u8; 32]);

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "ContentHash({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// What a collection is declared to hold; fixed when it is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionSpec {
    /// Its name.
    pub name: CollectionName,
    /// Dimensions of its vectors; 0 for a collection that holds text alone.
    pub dimensions: u32,
    /// How its vectors are compared.
    pub metric: Metric,
    /// Which model made the vectors, for example `all-MiniLM-L6-v2`; empty when unknown. Scores of
    /// different embedders are never compared.
    pub embedder: String,
}

impl CollectionSpec {
    /// Checks the declaration's bounds.
    pub fn check(&self) -> Result<(), CodecError> {
        bound(self.dimensions as usize, DIMENSIONS_MAX)?;
        bound(self.embedder.len(), EMBEDDER_BYTES_MAX)
    }
}

/// A collection and what it holds now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionInfo {
    /// Its declaration.
    pub spec: CollectionSpec,
    /// Records in it.
    pub records: u64,
    /// Records that carry a vector.
    pub vectors: u64,
}
