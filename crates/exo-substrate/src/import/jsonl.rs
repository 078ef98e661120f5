//! One line of a JSON-lines file as a record.

use std::collections::BTreeMap;

use exo_types::limits::{
    METADATA_FIELDS_MAX, METADATA_LIST_ITEMS_MAX, METADATA_VALUE_BYTES_MAX, TEXT_BYTES_MAX,
    TITLE_BYTES_MAX,
};
use exo_types::{MetadataValue, NameError, Record, RecordId};
use serde_json::{Map, Value};

/// Why a line is not a record, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The line is not JSON.
    #[error("is not JSON ({0}); write one JSON object a line")]
    Json(String),
    /// The line is JSON, but no object.
    #[error(
        "is not a JSON object; write one object a line, such as {{\"id\": \"1\", \"text\": \"…\"}}"
    )]
    NotObject,
    /// The object has no id.
    #[error(
        "has no \"id\"; give each record a text or a whole number that is unique in the collection"
    )]
    NoId,
    /// The id cannot be one.
    #[error("its \"id\" is not fit: {0}")]
    Id(String),
    /// The title or text is not a text.
    #[error("its {0:?} is not a text; write it in quotes or leave it out")]
    NotText(&'static str),
    /// A field is longer than its bound.
    #[error("its {field:?} has {actual} bytes and {max} are possible; shorten it")]
    TooLong {
        /// The field.
        field: String,
        /// The bound, bytes.
        max: usize,
        /// Bytes found.
        actual: usize,
    },
    /// The record has more metadata fields than the bound.
    #[error("has more than the {max} metadata fields that are possible; leave some out")]
    TooManyFields {
        /// The bound.
        max: usize,
    },
    /// A list has more items than the bound.
    #[error("its list {field:?} has {actual} items and {max} are possible; leave some out")]
    TooManyItems {
        /// The field.
        field: String,
        /// The bound.
        max: usize,
        /// Items found.
        actual: usize,
    },
    /// A list holds something else than texts.
    #[error(
        "its list {0:?} holds something else than texts; write the items in quotes, and keep \
         vectors in a .npy file"
    )]
    List(String),
    /// A whole number that cannot be kept exactly.
    #[error("its number {0:?} is too large to be kept exactly; write it in quotes")]
    Number(String),
    /// Two fields have the same name once they are flattened.
    #[error("its metadata field {0:?} is there twice; rename one of the two")]
    RepeatedField(String),
}

/// Decodes one line.
///
/// `id`, `title` and `text` are the record's own; `metadata` and every other field become flat
/// metadata, objects with dotted keys. Nulls are left out. Never panics, whatever the bytes.
pub fn decode_record(line: &[u8]) -> Result<Record, RecordError> {
    let value: Value =
        serde_json::from_slice(line).map_err(|error| RecordError::Json(error.to_string()))?;
    let Value::Object(mut object) = value else { return Err(RecordError::NotObject) };
    let id = match object.remove("id") {
        Some(Value::String(id)) => RecordId::new(id),
        Some(Value::Number(id)) if !id.is_f64() => RecordId::new(id.to_string()),
        None | Some(Value::Null) => return Err(RecordError::NoId),
        Some(_) => return Err(RecordError::Id("it is neither a text nor a whole number".into())),
    }
    .map_err(|error: NameError| RecordError::Id(error.to_string()))?;
    let title = text(&mut object, "title", TITLE_BYTES_MAX)?;
    let text = text(&mut object, "text", TEXT_BYTES_MAX)?;
    let mut metadata = BTreeMap::new();
    if let Some(Value::Object(fields)) = object.get_mut("metadata") {
        flatten(std::mem::take(fields), &mut metadata)?;
        object.remove("metadata");
    }
    flatten(object, &mut metadata)?;
    Ok(Record { id, title, text, metadata })
}

/// Takes a text field; empty when there is none.
fn text(
    object: &mut Map<String, Value>,
    field: &'static str,
    max: usize,
) -> Result<String, RecordError> {
    match object.remove(field) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => bound(field, text.len(), max).map(|()| text),
        Some(_) => Err(RecordError::NotText(field)),
    }
}

/// Adds fields with dotted keys. The depth is bounded by the JSON parser's own.
///
/// Keys are put together one at a time and fields counted as they are added, so that a long name
/// over many fields costs no more memory than the record may have.
fn flatten(
    object: Map<String, Value>,
    into: &mut BTreeMap<String, MetadataValue>,
) -> Result<(), RecordError> {
    let mut levels = vec![(None, object.into_iter())];
    while let Some((prefix, fields)) = levels.last_mut() {
        let Some((name, value)) = fields.next() else {
            levels.pop();
            continue;
        };
        let key = match prefix {
            None => name,
            Some(prefix) => format!("{prefix}.{name}"),
        };
        let value = match value {
            Value::Null => continue,
            Value::Object(inner) => {
                bound(&key, key.len(), METADATA_VALUE_BYTES_MAX)?;
                levels.push((Some(key), inner.into_iter()));
                continue;
            }
            Value::Bool(flag) => MetadataValue::Bool(flag),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => MetadataValue::Int(whole),
                (None, Some(part)) if number.is_f64() => MetadataValue::Float(part),
                _ => return Err(RecordError::Number(shown(&key))),
            },
            Value::String(text) => {
                bound(&key, text.len(), METADATA_VALUE_BYTES_MAX)?;
                MetadataValue::Text(text)
            }
            Value::Array(items) => MetadataValue::List(list(&key, items)?),
        };
        bound(&key, key.len(), METADATA_VALUE_BYTES_MAX)?;
        if into.contains_key(&key) {
            return Err(RecordError::RepeatedField(shown(&key)));
        }
        if into.len() == METADATA_FIELDS_MAX {
            return Err(RecordError::TooManyFields { max: METADATA_FIELDS_MAX });
        }
        into.insert(key, value);
    }
    Ok(())
}

fn list(key: &str, items: Vec<Value>) -> Result<Vec<String>, RecordError> {
    let item = |item| match item {
        Value::String(text) => bound(key, text.len(), METADATA_VALUE_BYTES_MAX).map(|()| text),
        _ => Err(RecordError::List(shown(key))),
    };
    let (max, actual) = (METADATA_LIST_ITEMS_MAX, items.len());
    let items = items.into_iter().map(item).collect::<Result<_, _>>()?;
    if actual > max {
        return Err(RecordError::TooManyItems { field: shown(key), max, actual });
    }
    Ok(items)
}

fn bound(field: &str, actual: usize, max: usize) -> Result<(), RecordError> {
    if actual > max { Err(too_long(field, actual, max)) } else { Ok(()) }
}

fn too_long(field: &str, actual: usize, max: usize) -> RecordError {
    RecordError::TooLong { field: shown(field), max, actual }
}

/// As much of a key as an error shows.
fn shown(key: &str) -> String {
    key.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_becomes_a_record() {
        let line = r#"{"id": 7, "title": "t", "text": "x", "source": "s", "year": 1999,
            "score": 0.5, "done": true, "tags": ["a", "b"], "nothing": null,
            "metadata": {"lang": "en", "place": {"city": "Bern", "at": {"lat": 46.9}}}}"#;
        let record = decode_record(line.as_bytes()).expect("decodes");
        assert_eq!(
            (record.id.as_str(), record.title.as_str(), record.text.as_str()),
            ("7", "t", "x")
        );
        let keys: Vec<&str> = record.metadata.keys().map(String::as_str).collect();
        let wanted =
            ["done", "lang", "place.at.lat", "place.city", "score", "source", "tags", "year"];
        assert_eq!(keys, wanted);
        assert_eq!(record.metadata["year"], MetadataValue::Int(1999));
        assert_eq!(record.metadata["score"], MetadataValue::Float(0.5));
        assert_eq!(record.metadata["tags"], MetadataValue::List(vec!["a".into(), "b".into()]));
        assert_eq!(record.metadata["place.at.lat"], MetadataValue::Float(46.9));
        let bare = decode_record(br#"{"id": "x", "title": null}"#).expect("decodes");
        assert_eq!((bare.title.as_str(), bare.text.as_str()), ("", ""));
    }

    #[test]
    fn lines_that_are_no_records_are_refused_with_the_reason() {
        let refused = |line: &str| decode_record(line.as_bytes()).expect_err(line);
        assert!(matches!(refused("{"), RecordError::Json(_)));
        assert!(matches!(refused("{} x"), RecordError::Json(_)));
        assert!(matches!(refused(&"[".repeat(100_000)), RecordError::Json(_)));
        assert_eq!(refused("[1]"), RecordError::NotObject);
        assert_eq!(refused(r#"{"text": "x"}"#), RecordError::NoId);
        assert_eq!(refused(r#"{"id": null}"#), RecordError::NoId);
        for id in ["1.5", "\"\"", "\"a\\nb\"", "[]", "true"] {
            assert!(matches!(refused(&format!("{{\"id\": {id}}}")), RecordError::Id(_)), "{id}");
        }
        assert_eq!(refused(r#"{"id": "1", "text": 5}"#), RecordError::NotText("text"));
        assert_eq!(refused(r#"{"id": "1", "v": [0.5, 1]}"#), RecordError::List("v".into()));
        assert_eq!(
            refused(r#"{"id": "1", "n": 18446744073709551615}"#),
            RecordError::Number("n".into())
        );
        for line in [
            r#"{"id": "1", "a": 1, "metadata": {"a": 2}}"#,
            r#"{"id": "1", "a.b": 1, "a": {"b": 2}}"#,
        ] {
            assert!(matches!(refused(line), RecordError::RepeatedField(_)), "{line}");
        }
    }

    #[test]
    fn fields_over_their_bound_are_named() {
        let text = "x".repeat(TEXT_BYTES_MAX + 1);
        let error = decode_record(format!("{{\"id\":\"1\",\"text\":\"{text}\"}}").as_bytes());
        assert!(matches!(error, Err(RecordError::TooLong { field, .. }) if field == "text"));
        let value = "x".repeat(METADATA_VALUE_BYTES_MAX + 1);
        let error =
            decode_record(format!("{{\"id\":\"1\",\"m\":{{\"k\":\"{value}\"}}}}").as_bytes());
        assert!(matches!(error, Err(RecordError::TooLong { field, .. }) if field == "m.k"));
        let fields: Vec<String> =
            (0..=METADATA_FIELDS_MAX).map(|i| format!("\"f{i}\":1")).collect();
        let error = decode_record(format!("{{\"id\":\"1\",{}}}", fields.join(",")).as_bytes());
        assert!(matches!(error, Err(RecordError::TooManyFields { .. })));
        let items = vec!["\"a\""; METADATA_LIST_ITEMS_MAX + 1].join(",");
        let error = decode_record(format!("{{\"id\":\"1\",\"l\":[{items}]}}").as_bytes());
        assert!(matches!(error, Err(RecordError::TooManyItems { .. })));
    }

    #[test]
    fn a_long_line_costs_little_more_than_its_length() {
        let refused = |line: String| decode_record(line.as_bytes()).expect_err("refused");
        let many = |count: usize| {
            let fields: Vec<String> = (0..count).map(|i| format!("\"{i}\":1")).collect();
            fields.join(",")
        };
        // Were the name put before every field at once, these would take 40 GB and 400 MB.
        let name = "n".repeat(400_000);
        let error = refused(format!("{{\"id\":\"1\",\"{name}\":{{{}}}}}", many(60_000)));
        let RecordError::TooLong { field, .. } = &error else { panic!("{error}") };
        assert!(field.len() <= 80 && error.to_string().len() < 200);
        let name = "n".repeat(METADATA_VALUE_BYTES_MAX - 10);
        let error = refused(format!("{{\"id\":\"1\",\"{name}\":{{{}}}}}", many(90_000)));
        assert_eq!(error, RecordError::TooManyFields { max: METADATA_FIELDS_MAX });
        // Were all fields looked through for every object, this would take minutes.
        let empty: Vec<String> = (0..90_000).map(|i| format!("\"{i}\":{{}}")).collect();
        let line = format!("{{\"id\":\"1\",{}}}", empty.join(","));
        assert_eq!(decode_record(line.as_bytes()).expect("decodes").metadata.len(), 0);
        let name = "n".repeat(400_000);
        for value in ["18446744073709551615", "[1]", "[\"x\"],\"b\":[1]"] {
            let error = refused(format!("{{\"id\":\"1\",\"{name}\":{value}}}"));
            assert!(error.to_string().len() < 400, "{}", error.to_string().len());
        }
        assert_eq!(
            decode_record(br#"{"id":"1","":{"b":1}}"#).expect("decodes").metadata[".b"],
            MetadataValue::Int(1)
        );
    }

    proptest! {
        #[test]
        fn no_line_makes_the_decoder_panic_and_what_it_gives_is_within_bounds(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            text in r#"[{}\[\]":,.a-d0-9eE\\-]{0,80}"#,
        ) {
            let object = format!("{{\"id\":\"1\",{text}}}");
            for line in [&bytes[..], text.as_bytes(), object.as_bytes()] {
                if let Ok(record) = decode_record(line) {
                    prop_assert_eq!(record.check(), Ok(()));
                }
            }
        }
    }
}
