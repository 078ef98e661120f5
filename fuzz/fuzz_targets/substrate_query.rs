//! A search as a peer may ask it, in a store of a few records: text goes through the text index, the
//! filter through the columns.
#![no_main]

use std::collections::BTreeMap;
use std::sync::OnceLock;

use exo_node::wire::{Request, SearchFor};
use exo_substrate::{EmbeddedSubstrate, NewRecord, OpenOptions, SearchRequest, Substrate, filter};
use exo_types::limits::QUERY_TERMS_MAX;
use exo_types::{
    CollectionName, CollectionSpec, ContentHash, Filter, MetadataValue, Metric, QueryTarget,
    Record, RecordId, Wire,
};
use tokio::runtime::{Builder, Runtime};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let search = match Request::from_wire(data) {
        Ok(Request::Search(request)) => request.search,
        _ => match std::str::from_utf8(data) {
            Ok(text) => by_text(text),
            Err(_) => return,
        },
    };
    let Store { runtime, substrate, name, metadata } = store();
    let stats = runtime.block_on(substrate.term_stats(name, &search.target.text));
    if let Ok(stats) = &stats {
        stats.check().expect("statistics that any asker takes");
        assert!(stats.terms.len() <= QUERY_TERMS_MAX);
    }
    let request = SearchRequest {
        target: search.target,
        top_k: search.top_k as usize,
        filter: search.filter,
        terms: search.terms,
        with_vectors: search.vectors,
    };
    let Ok(answer) = runtime.block_on(substrate.search(name, request.clone())) else { return };
    assert!(stats.is_ok() || request.target.text.trim().is_empty());
    for leg in &answer.legs {
        leg.check().expect("a leg that any asker takes");
        assert!(leg.hits.len() <= request.top_k);
        assert!(
            leg.hits.is_sorted_by(|a, b| a.score > b.score || (a.score == b.score && a.id < b.id))
        );
        for hit in &leg.hits {
            assert!(filter::admits(&request.filter, &metadata[&hit.id]));
        }
    }
});

fn by_text(text: &str) -> SearchFor {
    SearchFor {
        collection: None,
        target: QueryTarget::text(text),
        filter: Filter::default(),
        top_k: 10,
        terms: None,
        vectors: false,
    }
}

struct Store {
    runtime: Runtime,
    substrate: EmbeddedSubstrate,
    name: CollectionName,
    metadata: BTreeMap<RecordId, BTreeMap<String, MetadataValue>>,
}

fn store() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder").keep();
        let name = CollectionName::new("fuzz").expect("a name");
        let records: Vec<NewRecord> = (0..24_u8).map(record).collect();
        let metadata = records
            .iter()
            .map(|new| (new.record.id.clone(), new.record.metadata.clone()))
            .collect();
        let spec = CollectionSpec {
            name: name.clone(),
            dimensions: 3,
            metric: Metric::Cosine,
            embedder: String::new(),
        };
        let substrate = runtime.block_on(async {
            let options = OpenOptions::new(folder.join("store.db"));
            let substrate = EmbeddedSubstrate::open(options).await.expect("opens");
            substrate.create(spec).await.expect("creates");
            substrate.put(&name, records, None).await.expect("writes");
            substrate
        });
        Store { runtime, substrate, name, metadata }
    })
}

/// Records with texts of several scripts and metadata of every kind.
fn record(number: u8) -> NewRecord {
    let words = ["Ångström near", "naïve café", "东京 search", "running runs ran", "a AND b OR c*"];
    let metadata = [
        ("n", MetadataValue::Int(i64::from(number))),
        ("f", MetadataValue::Float(f64::from(number) / 3.0)),
        ("even", MetadataValue::Bool(number.is_multiple_of(2))),
        ("kind", MetadataValue::Text(words[usize::from(number) % 5].to_owned())),
        ("tags", MetadataValue::List(vec![format!("t{}", number % 3), "all".to_owned()])),
    ];
    let kept = metadata.into_iter().skip(usize::from(number % 4));
    NewRecord {
        record: Record {
            id: RecordId::new(format!("r{number:02}")).expect("an id"),
            title: format!("record {number}"),
            text: words[usize::from(number) % 5].repeat(1 + usize::from(number % 3)),
            metadata: kept.map(|(key, value)| (key.to_owned(), value)).collect(),
        },
        vector: Some(vec![f32::from(number), 1.0, -f32::from(number % 7)]),
        content: ContentHash([number; 32]),
    }
}
