//! Behaviours of collections and writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use exo_types::limits::{BATCH_RECORDS_MAX, TEXT_BYTES_MAX, TITLE_BYTES_MAX};
use exo_types::{MetadataValue, Metric};

use super::data::{by_text, by_vector, id, ids, name, only_leg, record, spec, with};
use crate::error::SubstrateError;
use crate::instance::SubstrateInstance;
use crate::substrate::{ImportMark, PutOutcome};

pub(super) async fn collections(s: &SubstrateInstance) {
    assert_eq!(s.collections().await.expect("lists"), []);
    s.create(spec("b", 3, Metric::Cosine)).await.expect("creates");
    s.create(spec("a", 0, Metric::Dot)).await.expect("creates");
    s.create(spec("b", 3, Metric::Cosine)).await.expect("the same again is no change");
    let other = s.create(spec("b", 4, Metric::Cosine)).await;
    assert!(matches!(other, Err(SubstrateError::CollectionExists(found)) if found == name("b")));
    s.put(&name("b"), vec![record("1", "one", None)], None).await.expect("puts");
    let listed = s.collections().await.expect("lists");
    assert_eq!(listed.iter().map(|c| c.spec.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((listed[1].records, listed[1].vectors), (1, 0));
    assert_eq!(s.info(&name("b")).await.expect("known"), listed[1]);
    let stats = s.stats().await.expect("counts");
    assert_eq!((stats.collections, stats.records, stats.vectors), (2, 1, 0));

    s.drop_collection(&name("b")).await.expect("drops");
    let gone = |error: Option<SubstrateError>| match error {
        Some(SubstrateError::NoCollection(found)) => assert_eq!(found, name("b")),
        other => panic!("expected no collection, found {other:?}"),
    };
    gone(s.info(&name("b")).await.err());
    gone(s.drop_collection(&name("b")).await.err());
    gone(s.put(&name("b"), Vec::new(), None).await.err());
    gone(s.get(&name("b"), &id("1")).await.err());
    gone(s.delete(&name("b"), Vec::new()).await.err());
    gone(s.search(&name("b"), by_text("one", 1)).await.err());
    gone(s.term_stats(&name("b"), "one").await.err());
    gone(s.import_progress(&name("b"), [0; 32]).await.err());
    s.create(spec("b", 4, Metric::L2)).await.expect("the name is free again");
    assert_eq!(s.get(&name("b"), &id("1")).await.expect("reads"), None);
}

pub(super) async fn round_trip(s: &SubstrateInstance) {
    s.create(spec("c", 3, Metric::Cosine)).await.expect("creates");
    let odd = "quotes ' \" ; -- \u{0} \n é 日本語 🜁 \u{fffd}";
    let mut first = record("first", odd, Some(vec![f32::MIN_POSITIVE, -0.0, f32::MAX]));
    for (field, value) in [
        ("yes", MetadataValue::Bool(true)),
        ("whole", MetadataValue::Int(i64::MIN)),
        ("part", MetadataValue::Float(-0.1)),
        ("words", MetadataValue::Text(odd.into())),
        ("several.tags", MetadataValue::List(vec!["a".into(), String::new()])),
    ] {
        first = with(first, field, value);
    }
    let mut largest = record("largest", &"x".repeat(TEXT_BYTES_MAX), None);
    largest.record.title = "é".repeat(TITLE_BYTES_MAX / 2);
    let mut empty = record(" ", "", None);
    empty.record.title.clear();
    let all = vec![first, largest, empty];
    let outcome = s.put(&name("c"), all.clone(), None).await.expect("puts");
    assert_eq!(outcome, PutOutcome { inserted: 3, replaced: 0 });
    for new in all {
        let stored = s.get(&name("c"), &new.record.id).await.expect("reads").expect("is there");
        assert_eq!((stored.record, stored.content), (new.record, new.content));
        let bits = |v: Option<Vec<f32>>| v.map(|v| v.into_iter().map(f32::to_bits).collect());
        assert_eq!(bits(stored.vector), bits(new.vector) as Option<Vec<u32>>);
    }
    assert_eq!(s.get(&name("c"), &id("other")).await.expect("reads"), None);
}

pub(super) async fn replacement(s: &SubstrateInstance) {
    let c = name("c");
    s.create(spec("c", 2, Metric::Dot)).await.expect("creates");
    let before = record("1", "walrus", Some(vec![1.0, 0.0]));
    s.put(&c, vec![before, record("2", "otter", None)], None).await.expect("puts");
    let after = with(record("1", "heron", None), "kind", MetadataValue::Text("bird".into()));
    let batch = vec![record("1", "unseen", Some(vec![9.0, 9.0])), record("3", "x", None), after];
    let outcome = s.put(&c, batch, None).await.expect("puts");
    assert_eq!(outcome, PutOutcome { inserted: 1, replaced: 2 });
    let stored = s.get(&c, &id("1")).await.expect("reads").expect("is there");
    assert_eq!((stored.record.text.as_str(), stored.vector), ("heron", None));
    for (word, found) in [("walrus", 0), ("unseen", 0), ("heron", 1), ("otter", 1)] {
        let leg = only_leg(s.search(&c, by_text(word, 5)).await.expect("searches"));
        assert_eq!(leg.hits.len(), found, "{word}");
    }
    let leg = only_leg(s.search(&c, by_vector(&[1.0, 1.0], 5)).await.expect("searches"));
    assert_eq!(leg.hits, []);
    let info = s.info(&c).await.expect("known");
    assert_eq!((info.records, info.vectors), (3, 0));
    let stats = s.term_stats(&c, "walrus heron").await.expect("counts");
    assert_eq!(stats.terms.iter().map(|term| term.1).collect::<Vec<_>>(), [1, 0]);
}

pub(super) async fn refusals(s: &SubstrateInstance) {
    let c = name("c");
    s.create(spec("c", 2, Metric::L2)).await.expect("creates");
    s.create(spec("t", 0, Metric::L2)).await.expect("creates");
    let refused = [
        record("bad", "x", Some(vec![1.0])),
        record("bad", "x", Some(vec![])),
        record("bad", "x", Some(vec![1.0, f32::NAN])),
        record("bad", "x", Some(vec![f32::NEG_INFINITY, 1.0])),
        record("bad", &"x".repeat(TEXT_BYTES_MAX + 1), None),
        with(record("bad", "x", None), "f", MetadataValue::Float(f64::NAN)),
    ];
    for bad in refused {
        let mark = ImportMark { import_id: [1; 32], rows_done: 2 };
        let put = s.put(&c, vec![record("good", "x", None), bad], Some(mark)).await;
        assert!(matches!(&put, Err(SubstrateError::Record { id, .. }) if id == "bad"), "{put:?}");
    }
    let put = s.put(&name("t"), vec![record("bad", "x", Some(vec![1.0]))], None).await;
    assert!(matches!(put, Err(SubstrateError::Record { .. })));
    let many: Vec<_> = (0..=BATCH_RECORDS_MAX).map(|i| record(&i.to_string(), "x", None)).collect();
    let put = s.put(&c, many.clone(), None).await;
    assert!(matches!(put, Err(SubstrateError::BatchTooLong { .. })));
    let delete = s.delete(&c, many.into_iter().map(|new| new.record.id).collect()).await;
    assert!(matches!(delete, Err(SubstrateError::BatchTooLong { .. })));
    assert_eq!(s.stats().await.expect("counts").records, 0);
    assert_eq!(s.import_progress(&c, [1; 32]).await.expect("reads"), None);
}

pub(super) async fn deletion(s: &SubstrateInstance) {
    let c = name("c");
    s.create(spec("c", 2, Metric::Cosine)).await.expect("creates");
    let batch = (0..40).map(|i| record(&format!("{i:02}"), "word", Some(vec![1.0, i as f32])));
    s.put(&c, batch.collect(), None).await.expect("puts");
    let mut gone: Vec<_> = (0..38).map(|i| id(&format!("{i:02}"))).collect();
    gone.extend([id("none"), id("00")]);
    assert_eq!(s.delete(&c, gone).await.expect("deletes"), 38);
    for request in [by_text("word", 10), by_vector(&[1.0, 39.0], 10)] {
        let leg = only_leg(s.search(&c, request).await.expect("searches"));
        assert_eq!(ids(&leg).len(), 2);
        assert!(ids(&leg).iter().all(|id| ["38", "39"].contains(id)));
    }
    assert_eq!(s.get(&c, &id("00")).await.expect("reads"), None);
    let stats = s.term_stats(&c, "word").await.expect("counts");
    assert_eq!((stats.records, stats.terms), (2, vec![("word".into(), 2)]));
    assert_eq!(s.info(&c).await.expect("known").vectors, 2);
}

pub(super) async fn marks(s: &SubstrateInstance) {
    let c = name("c");
    s.create(spec("c", 0, Metric::Cosine)).await.expect("creates");
    let mark = |import: u8, rows_done| ImportMark { import_id: [import; 32], rows_done };
    for (import, rows) in [(1, 5), (2, 7), (1, 9)] {
        s.put(&c, vec![record("1", "x", None)], Some(mark(import, rows))).await.expect("puts");
    }
    assert_eq!(s.import_progress(&c, [1; 32]).await.expect("reads"), Some(9));
    assert_eq!(s.import_progress(&c, [2; 32]).await.expect("reads"), Some(7));
    assert_eq!(s.import_progress(&c, [3; 32]).await.expect("reads"), None);
    s.put(&c, Vec::new(), Some(mark(3, 0))).await.expect("an empty batch can carry a mark");
    assert_eq!(s.import_progress(&c, [3; 32]).await.expect("reads"), Some(0));
    s.drop_collection(&c).await.expect("drops");
    s.create(spec("c", 0, Metric::Cosine)).await.expect("creates");
    assert_eq!(s.import_progress(&c, [1; 32]).await.expect("reads"), None);
}

pub(super) async fn snapshots(s: &SubstrateInstance) {
    const RECORDS: usize = 20;
    let c = name("c");
    s.create(spec("c", 2, Metric::Dot)).await.expect("creates");
    // Each batch rewrites every record: their rounds are equal in any one state.
    let batch = |round: usize| {
        let one = |i: usize| {
            let new = record(&format!("{i}"), &format!("word round{round}"), Some(vec![1.0, 0.0]));
            with(new, "round", MetadataValue::Int(round as i64))
        };
        (0..RECORDS).map(one).collect::<Vec<_>>()
    };
    s.put(&c, batch(0), None).await.expect("puts");
    let done = Arc::new(AtomicBool::new(false));
    let searches: Vec<_> = [by_text("word", 50), by_vector(&[1.0, 0.0], 50)]
        .into_iter()
        .map(|request| {
            let (s, c, done) = (s.clone(), c.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut seen = 0;
                while !done.load(Ordering::Relaxed) || seen == 0 {
                    let answer = s.search(&c, request.clone()).await.expect("searches");
                    let leg = only_leg(answer);
                    assert_eq!(leg.hits.len(), RECORDS);
                    let round = leg.hits[0].metadata.get("round").cloned();
                    assert!(leg.hits.iter().all(|hit| hit.metadata.get("round") == round.as_ref()));
                    seen += 1;
                }
            })
        })
        .collect();
    for round in 1..40 {
        s.put(&c, batch(round), None).await.expect("puts");
    }
    done.store(true, Ordering::Relaxed);
    for search in searches {
        search.await.expect("every search saw one state");
    }
}
