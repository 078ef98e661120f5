//! One line of a JSON-lines file.
#![no_main]

use exo_fuzz::memory;
use exo_substrate::import::decode_record;
use exo_types::MetadataValue;
use exo_types::limits::IMPORT_LINE_BYTES_MAX;
use serde_json::{Map, Value, json};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if data.len() > IMPORT_LINE_BYTES_MAX {
        return;
    }
    match memory::bounded(64, data, || decode_record(data)) {
        Ok(record) => {
            record.check().expect("a record that was read is within its bounds");
            let metadata: Map<String, Value> =
                record.metadata.iter().map(|(key, value)| (key.clone(), plain(value))).collect();
            let line = json!({
                "id": record.id, "title": record.title, "text": record.text, "metadata": metadata,
            });
            let again = decode_record(line.to_string().as_bytes()).expect("what was read is read");
            assert_eq!((&again.id, &again.title), (&record.id, &record.title));
            assert_eq!(again.text, record.text);
            assert_eq!(again.metadata.len(), record.metadata.len());
            for (key, value) in &record.metadata {
                assert!(same(value, &again.metadata[key]), "{key}: {value:?}");
            }
        }
        Err(error) => assert!(error.to_string().len() <= 1024, "an error is short: {error}"),
    }
});

fn plain(value: &MetadataValue) -> Value {
    match value {
        MetadataValue::Bool(flag) => json!(flag),
        MetadataValue::Int(number) => json!(number),
        MetadataValue::Float(number) => json!(number),
        MetadataValue::Text(text) => json!(text),
        MetadataValue::List(items) => json!(items),
    }
}

/// Equal; a fraction may differ in its last digits, for the parser does not promise them.
fn same(a: &MetadataValue, b: &MetadataValue) -> bool {
    match (a, b) {
        (MetadataValue::Float(a), MetadataValue::Float(b)) => {
            (a - b).abs() <= a.abs() * 1e-14 + f64::MIN_POSITIVE
        }
        _ => a == b,
    }
}
