//! Any sequence of writes leaves what a plain map would hold, and searches find what a plain scan
//! finds.

use std::collections::{BTreeMap, BTreeSet};

use exo_substrate::contract::plain_scan;
use exo_substrate::{EmbeddedSubstrate, NewRecord, OpenOptions, SearchRequest, Substrate};
use exo_types::{
    CollectionName, CollectionSpec, Condition, ContentHash, Filter, FilterOp, MetadataValue,
    Metric, QueryTarget, Record, RecordId,
};
use proptest::prelude::*;

const DIMENSIONS: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<NewRecord>),
    Delete(Vec<RecordId>),
    Reopen,
    Search { query: Vec<f32>, word: u8, filter: Filter, top_k: usize },
}

/// Few ids, so that replacing and deleting meet records that are there.
fn id() -> impl Strategy<Value = RecordId> {
    (0..30_u8).prop_map(|i| RecordId::new(format!("id {i}")).expect("a good id"))
}

/// Few distinct components, so that scores tie.
fn vector() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec((-2..3_i8).prop_map(f32::from), DIMENSIONS)
}

fn record() -> impl Strategy<Value = NewRecord> {
    let words = prop::collection::vec(0..8_u8, 0..6);
    (id(), words, prop::option::weighted(0.8, vector()), prop::option::of(0..4_i64)).prop_map(
        |(id, words, vector, n)| {
            let text: Vec<String> = words.iter().map(|w| format!("word{w}")).collect();
            let metadata = n.map(|n| ("n".to_owned(), MetadataValue::Int(n))).into_iter().collect();
            let record = Record { id, title: String::new(), text: text.join(" "), metadata };
            NewRecord { record, vector, content: ContentHash([7; 32]) }
        },
    )
}

fn filter() -> impl Strategy<Value = Filter> {
    let op = prop::sample::select(vec![FilterOp::Eq, FilterOp::Ne, FilterOp::Lt, FilterOp::Ge]);
    let condition = (op, 0..4_i64).prop_map(|(op, n)| Condition {
        field: "n".into(),
        op,
        value: MetadataValue::Int(n),
    });
    prop::collection::vec(condition, 0..2).prop_map(|all| Filter { all })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(record(), 0..12).prop_map(Step::Put),
        2 => prop::collection::vec(id(), 0..12).prop_map(Step::Delete),
        1 => Just(Step::Reopen),
        4 => (vector(), 0..8_u8, filter(), 1..40_usize)
            .prop_map(|(query, word, filter, top_k)| Step::Search { query, word, filter, top_k }),
    ]
}

fn metric() -> impl Strategy<Value = Metric> {
    prop::sample::select(vec![Metric::Cosine, Metric::Dot, Metric::L2])
}

type Model = BTreeMap<RecordId, NewRecord>;

async fn search(
    store: &EmbeddedSubstrate,
    name: &CollectionName,
    model: &Model,
    metric: Metric,
    step: &Step,
) {
    let Step::Search { query, word, filter, top_k } = step else { return };
    let text = format!("word{word}");
    let target = QueryTarget { text: text.clone(), ..QueryTarget::vector(query.clone()) };
    let request =
        SearchRequest { top_k: *top_k, filter: filter.clone(), ..SearchRequest::new(target) };
    let answer = store.search(name, request).await.expect("searches");
    let records: Vec<NewRecord> = model.values().cloned().collect();
    let nearest: Vec<_> =
        answer.legs[0].hits.iter().map(|hit| (hit.score, hit.id.clone())).collect();
    assert_eq!(nearest, plain_scan(&records, metric, query, filter, *top_k));

    let has = |new: &&NewRecord| new.record.text.split(' ').any(|w| w == text);
    let admitted = |new: &&NewRecord| exo_substrate::filter::admits(filter, &new.record.metadata);
    let wanted: BTreeSet<_> =
        records.iter().filter(has).filter(admitted).map(|new| new.record.id.clone()).collect();
    let found: BTreeSet<_> = answer.legs[1].hits.iter().map(|hit| hit.id.clone()).collect();
    assert_eq!(found.len(), wanted.len().min(*top_k));
    assert!(found.is_subset(&wanted));
    let stats = store.term_stats(name, &text).await.expect("counts");
    assert_eq!(stats.records, model.len() as u64);
    assert_eq!(stats.terms[0].1, records.iter().filter(has).count() as u64);
    let words =
        |new: &NewRecord| new.record.text.split(' ').filter(|w| !w.is_empty()).count() as u64;
    assert_eq!(stats.tokens, records.iter().map(words).sum::<u64>());
}

async fn run(metric: Metric, exact_max: usize, steps: Vec<Step>) {
    let folder = tempfile::tempdir().expect("a folder");
    let options = OpenOptions {
        exact_scan_records_max: exact_max,
        ..OpenOptions::new(folder.path().join("store.db"))
    };
    let name = CollectionName::new("c").expect("a good name");
    let spec = CollectionSpec {
        name: name.clone(),
        dimensions: DIMENSIONS as u32,
        metric,
        embedder: String::new(),
    };
    let mut store = EmbeddedSubstrate::open(options.clone()).await.expect("opens");
    store.create(spec).await.expect("creates");
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Put(records) => {
                let outcome = store.put(&name, records.clone(), None).await.expect("puts");
                let before = model.len();
                let all = records.len() as u64;
                model.extend(records.into_iter().map(|new| (new.record.id.clone(), new)));
                assert_eq!(outcome.inserted, (model.len() - before) as u64);
                assert_eq!(outcome.replaced, all - outcome.inserted);
            }
            Step::Delete(ids) => {
                let removed = ids.iter().filter(|id| model.remove(*id).is_some()).count();
                assert_eq!(store.delete(&name, ids).await.expect("deletes"), removed as u64);
            }
            Step::Reopen => {
                drop(store);
                store = EmbeddedSubstrate::open(options.clone()).await.expect("opens again");
            }
            Step::Search { .. } => search(&store, &name, &model, metric, &step).await,
        }
        let info = store.info(&name).await.expect("known");
        assert_eq!(info.records, model.len() as u64);
        let vectors = model.values().filter(|new| new.vector.is_some()).count();
        assert_eq!(info.vectors, vectors as u64);
    }
    for (id, new) in &model {
        let stored = store.get(&name, id).await.expect("reads").expect("is there");
        assert_eq!((&stored.record, &stored.vector), (&new.record, &new.vector));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    // With codes too: so few records are all candidates, so that results stay exact while codes
    // are made and dropped.
    #[test]
    fn any_sequence_of_writes_and_searches_is_as_in_a_plain_map(
        metric in metric(),
        exact_max in prop::sample::select(vec![0, 10, 20_000]),
        steps in prop::collection::vec(step(), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .expect("a runtime");
        runtime.block_on(run(metric, exact_max, steps));
    }
}
