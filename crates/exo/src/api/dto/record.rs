//! Records in JSON, with flat metadata.

use std::collections::BTreeMap;

use exo_types::{CollectionName, MetadataValue, RecordId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Metadata as JSON has it.
pub(crate) type MetadataDoc = BTreeMap<String, Value>;

/// A record to write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRecordDoc {
    /// Its id, unique within the collection.
    pub(crate) id: RecordId,
    /// A short heading.
    #[serde(default)]
    pub(crate) title: String,
    /// The text that is searched and shown.
    #[serde(default)]
    pub(crate) text: String,
    /// Scalars and lists of texts.
    #[serde(default)]
    pub(crate) metadata: MetadataDoc,
    /// Its vector; absent for text alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vector: Option<Vec<f32>>,
}

/// A batch of records, written whole or not at all.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordsRequest {
    /// The records.
    pub(crate) records: Vec<NewRecordDoc>,
    /// The import they belong to, so that it can be resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) import: Option<ImportDoc>,
}

/// How far an import is once a batch is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportDoc {
    /// The import, 64 hexadecimal digits.
    pub(crate) id: String,
    /// Rows of it that are then written.
    pub(crate) rows_done: u64,
}

/// What a batch did, `exo.records/1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PutDoc {
    /// Records that were new.
    pub(crate) inserted: u64,
    /// Records that took the place of one with the same id.
    pub(crate) replaced: u64,
}

/// How far an import is, `exo.import-progress/1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProgressDoc {
    /// Rows durably written; null when the import is unknown.
    pub(crate) rows_done: Option<u64>,
}

/// A record as it is stored, `exo.record/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordDoc {
    /// The collection.
    pub(crate) collection: CollectionName,
    /// Its id.
    pub(crate) id: RecordId,
    /// Its title.
    pub(crate) title: String,
    /// Its whole text.
    pub(crate) text: String,
    /// Its metadata.
    pub(crate) metadata: MetadataDoc,
    /// Its vector, or null.
    pub(crate) vector: Option<Vec<f32>>,
}

/// Metadata as JSON, from the typed form.
pub(crate) fn metadata_doc(metadata: &BTreeMap<String, MetadataValue>) -> MetadataDoc {
    metadata.iter().map(|(key, value)| (key.clone(), value_doc(value))).collect()
}

/// The typed form of metadata; the error names the field.
pub(crate) fn metadata(doc: MetadataDoc) -> Result<BTreeMap<String, MetadataValue>, String> {
    let typed = |(key, value)| match metadata_value(value) {
        Ok(value) => Ok((key, value)),
        Err(reason) => Err(format!("metadata {key:?}: {reason}")),
    };
    doc.into_iter().map(typed).collect()
}

/// One metadata value as JSON.
pub(crate) fn value_doc(value: &MetadataValue) -> Value {
    match value {
        MetadataValue::Bool(value) => Value::from(*value),
        MetadataValue::Int(value) => Value::from(*value),
        MetadataValue::Float(value) => Value::from(*value),
        MetadataValue::Text(value) => Value::from(value.as_str()),
        MetadataValue::List(items) => Value::from(items.as_slice()),
    }
}

/// The typed form of one metadata value: a scalar, or a list of texts.
pub(crate) fn metadata_value(value: Value) -> Result<MetadataValue, String> {
    match value {
        Value::Bool(value) => Ok(MetadataValue::Bool(value)),
        Value::String(value) => Ok(MetadataValue::Text(value)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Ok(MetadataValue::Int(whole)),
            (None, Some(value)) if value.is_finite() => Ok(MetadataValue::Float(value)),
            _ => Err("the number is out of range".to_owned()),
        },
        Value::Array(items) => {
            let text = |item| match item {
                Value::String(text) => Ok(text),
                _ => Err("a list holds texts only".to_owned()),
            };
            items.into_iter().map(text).collect::<Result<_, _>>().map(MetadataValue::List)
        }
        Value::Null => Err("null is not a value; leave the field out".to_owned()),
        Value::Object(_) => {
            Err("an object is not a value; use dotted keys, such as \"a.b\"".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_round_trips_with_its_types() {
        let doc: MetadataDoc = serde_json::from_str(
            r#"{"a":true,"b":-3,"c":1.5,"d":"x","e":["p","q"],"f.g":9007199254740993}"#,
        )
        .expect("json");
        let typed = metadata(doc.clone()).expect("typed");
        assert_eq!(typed["b"], MetadataValue::Int(-3));
        assert_eq!(typed["c"], MetadataValue::Float(1.5));
        assert_eq!(metadata_doc(&typed), doc);
    }

    #[test]
    fn what_is_not_flat_is_refused_by_name() {
        for value in ["null", "{}", "[1]", "[[\"a\"]]"] {
            let doc = serde_json::from_str(&format!(r#"{{"field":{value}}}"#)).expect("json");
            let error = metadata(doc).expect_err(value);
            assert!(error.contains("\"field\""), "{error}");
        }
    }
}
