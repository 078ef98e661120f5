//! The two-stage scan finds what an exact scan finds, nearly always.

use exo_substrate::contract::{Numbers, plain_scan};
use exo_substrate::{
    EmbeddedSubstrate, Exactness, NewRecord, OpenOptions, SearchRequest, Substrate,
};
use exo_types::{
    CollectionName, CollectionSpec, ContentHash, Filter, Metric, QueryTarget, Record, RecordId,
};

const DIMENSIONS: usize = 96;
const VECTORS: usize = 6000;

/// Vectors in clusters around a common offset, as embeddings are.
fn records(numbers: &mut Numbers, offset: f32) -> Vec<NewRecord> {
    let centers: Vec<Vec<f32>> = (0..60).map(|_| numbers.vector(DIMENSIONS)).collect();
    let one = |i: usize| {
        let center = &centers[numbers.below(60) as usize];
        let noise = numbers.vector(DIMENSIONS);
        let vector = center.iter().zip(noise).map(|(c, x)| c + x + offset).collect();
        let record = Record {
            id: RecordId::new(format!("{i}")).expect("a good id"),
            title: String::new(),
            text: String::new(),
            metadata: Default::default(),
        };
        NewRecord { record, vector: Some(vector), content: ContentHash([0; 32]) }
    };
    (0..VECTORS).map(one).collect()
}

#[tokio::test]
async fn above_the_limit_nearly_every_neighbour_is_found_and_scored_exactly() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = OpenOptions {
        exact_scan_records_max: 1000,
        ..OpenOptions::new(folder.path().join("store.db"))
    };
    let store = EmbeddedSubstrate::open(options).await.expect("opens");
    let mut numbers = Numbers(3);
    // All components positive in the second case: their plain signs would all be equal.
    for (metric, offset) in [
        (Metric::Cosine, 0.0),
        (Metric::Cosine, 2.0),
        (Metric::Dot, 0.0),
        (Metric::L2, 0.0),
        (Metric::L2, 2.0),
    ] {
        let name = CollectionName::new(format!("{metric:?}{offset}")).expect("a good name");
        let spec = CollectionSpec {
            name: name.clone(),
            dimensions: DIMENSIONS as u32,
            metric,
            embedder: String::new(),
        };
        store.create(spec).await.expect("creates");
        let records = records(&mut numbers, offset);
        for batch in records.chunks(1000) {
            store.put(&name, batch.to_vec(), None).await.expect("puts");
        }
        let mut found = 0;
        for _ in 0..30 {
            let near = &records[numbers.below(VECTORS as u64) as usize];
            let noise = numbers.vector(DIMENSIONS);
            let near = near.vector.as_deref().expect("has one");
            let query: Vec<f32> = near.iter().zip(noise).map(|(x, n)| x + n * 0.5).collect();
            let request = SearchRequest::new(QueryTarget::vector(query.clone()));
            let answer = store.search(&name, request).await.expect("searches");
            assert_eq!(answer.exactness, Exactness::Approximate { candidates: 1024 });
            let exact = plain_scan(&records, metric, &query, &Filter::default(), VECTORS);
            let bar = exact[9].0;
            for hit in &answer.legs[0].hits {
                let scored = exact.iter().find(|(_, id)| *id == hit.id).expect("a record");
                assert_eq!(hit.score.to_bits(), scored.0.to_bits());
                found += usize::from(hit.score >= bar);
            }
        }
        let recall = found as f64 / 300.0;
        assert!(recall >= 0.97, "{metric:?} around {offset}: recall@10 {recall}");
    }
}
