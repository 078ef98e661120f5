//! A record's row on disk: its columns, its encodings and the sums that show damage.
//!
//! The database checks its structure but not its content; each row carries sums of its own, which
//! are checked whenever the row leaves the store.

use std::collections::BTreeMap;

use exo_types::{ContentHash, MetadataValue, Record, RecordId};
use rusqlite::Row;

use super::schema::Place;
use crate::error::SubstrateError;
use crate::substrate::StoredRecord;

/// Columns that [`read`] expects, in its order, ahead of the vector.
pub(super) const COLUMNS: &str = "id, title, body, metadata, content, record_sum";
/// Columns of the vector, after those.
pub(super) const VECTOR_COLUMNS: &str = "vector, vector_sum";

/// Reads a row of [`COLUMNS`] and, if `with_vector`, [`VECTOR_COLUMNS`] of a collection of so many
/// dimensions; checks its sums.
pub(super) fn read(
    row: &Row<'_>,
    place: &Place,
    dimensions: usize,
    with_vector: bool,
) -> Result<StoredRecord, SubstrateError> {
    let failed = place.failed("reading a record");
    let id: String = row.get(0).map_err(failed)?;
    let title: String = row.get(1).map_err(failed)?;
    let text: String = row.get(2).map_err(failed)?;
    let metadata: &[u8] = bytes(row, 3, place)?;
    let content: [u8; 32] = row.get(4).map_err(failed)?;
    let sum: i64 = row.get(5).map_err(failed)?;
    if sum != record_sum(&id, &title, &text, metadata, &content) {
        return Err(place.damaged(format!("record {id:?} fails its checksum")));
    }
    let vector = if with_vector { vector(row, 6, place, dimensions)? } else { None };
    let metadata = decode_metadata(metadata, place)?;
    let id = RecordId::new(id).map_err(|error| place.damaged(error.to_string()))?;
    Ok(StoredRecord {
        record: Record { id, title, text, metadata },
        vector,
        content: ContentHash(content),
    })
}

/// Reads a vector and its sum from the columns at `at`.
pub(super) fn vector(
    row: &Row<'_>,
    at: usize,
    place: &Place,
    dimensions: usize,
) -> Result<Option<Vec<f32>>, SubstrateError> {
    let failed = place.failed("reading a vector");
    let (Some(bytes), Some(sum)) = (
        row.get_ref(at).map_err(failed)?.as_blob_or_null().map_err(|e| failed(e.into()))?,
        row.get::<_, Option<i64>>(at + 1).map_err(failed)?,
    ) else {
        return Ok(None);
    };
    if bytes.len() != 4 * dimensions || sum != vector_sum(bytes) {
        return Err(place.damaged("a vector fails its checksum"));
    }
    let (numbers, _) = bytes.as_chunks::<4>();
    Ok(Some(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()))
}

/// A vector as it is stored: its components as little-endian 32-bit floats.
pub(super) fn encode_vector(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Metadata as it is stored.
pub(super) fn encode_metadata(
    metadata: &BTreeMap<String, MetadataValue>,
) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_allocvec(metadata)
}

/// See [`encode_metadata`].
pub(super) fn decode_metadata(
    bytes: &[u8],
    place: &Place,
) -> Result<BTreeMap<String, MetadataValue>, SubstrateError> {
    postcard::from_bytes(bytes).map_err(|error| place.damaged(format!("metadata: {error}")))
}

/// The bytes of a column that cannot be null.
pub(super) fn bytes<'a>(
    row: &'a Row<'_>,
    at: usize,
    place: &Place,
) -> Result<&'a [u8], SubstrateError> {
    let failed = place.failed("reading a record");
    row.get_ref(at).map_err(failed)?.as_blob().map_err(|error| failed(error.into()))
}

/// The sum of everything of a record but its vector.
pub(super) fn record_sum(
    id: &str,
    title: &str,
    text: &str,
    metadata: &[u8],
    content: &[u8; 32],
) -> i64 {
    let mut hasher = blake3::Hasher::new();
    for part in [id.as_bytes(), title.as_bytes(), text.as_bytes(), metadata, content] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    short(&hasher.finalize())
}

/// The sum of a vector as it is stored.
pub(super) fn vector_sum(bytes: &[u8]) -> i64 {
    short(&blake3::hash(bytes))
}

fn short(hash: &blake3::Hash) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    i64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_keeps_its_encoding_on_disk() {
        let metadata = BTreeMap::from([
            ("a".to_owned(), MetadataValue::Bool(true)),
            ("b".to_owned(), MetadataValue::Int(-2)),
            ("c".to_owned(), MetadataValue::Float(0.5)),
            ("d".to_owned(), MetadataValue::Text("x".into())),
            ("e".to_owned(), MetadataValue::List(vec!["y".into(), "z".into()])),
        ]);
        let bytes = encode_metadata(&metadata).expect("encodes");
        assert_eq!(
            bytes,
            [
                5, 1, b'a', 0, 1, 1, b'b', 1, 3, 1, b'c', 2, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f, 1, b'd',
                3, 1, b'x', 1, b'e', 4, 2, 1, b'y', 1, b'z'
            ]
        );
        let place = Place::new("x".into());
        assert_eq!(decode_metadata(&bytes, &place).expect("decodes"), metadata);
    }

    #[test]
    fn sums_tell_where_one_part_ends_and_the_next_begins() {
        let content = [0; 32];
        assert_ne!(
            record_sum("a", "bc", "", &[], &content),
            record_sum("a", "b", "c", &[], &content)
        );
    }
}
