//! Behaviours of searches.

use exo_types::limits::{HIT_TEXT_BYTES_MAX, QUERY_TERMS_MAX, QUERY_TEXT_BYTES_MAX, TOP_K_MAX};
use exo_types::{
    Condition, Filter, FilterOp, LegKind, MetadataValue, Metric, QueryTarget, ScoreScale, TermStats,
};

use super::data::{
    Numbers, by_text, by_vector, id, ids, name, only_leg, plain_scan, record, scores, spec, with,
};
use crate::error::SubstrateError;
use crate::instance::SubstrateInstance;
use crate::substrate::{Exactness, NewRecord, SearchRequest};

pub(super) async fn metrics(s: &SubstrateInstance) {
    let mut numbers = Numbers(7);
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let c = format!("{metric:?}");
        s.create(spec(&c, 37, metric)).await.expect("creates");
        let mut records: Vec<NewRecord> =
            (0..300).map(|i| record(&format!("r{i}"), "x", Some(numbers.vector(37)))).collect();
        records.push(record("zero", "x", Some(vec![0.0; 37])));
        records.push(record("none", "x", None));
        s.put(&name(&c), records.clone(), None).await.expect("puts");
        for query in [numbers.vector(37), vec![0.0; 37], records[0].vector.clone().expect("has")] {
            for top_k in [1, 10, 400] {
                let answer = s.search(&name(&c), by_vector(&query, top_k)).await.expect("searches");
                assert_eq!(answer.exactness, Exactness::Exact);
                let leg = only_leg(answer);
                let plain = plain_scan(&records, metric, &query, &Filter::default(), top_k);
                assert_eq!(scores(&leg), plain);
                let scale =
                    ScoreScale::Vector { metric, dimensions: 37, embedder: "model-a".into() };
                assert_eq!((leg.kind, leg.scale), (LegKind::Vector, scale));
            }
        }
    }
}

pub(super) async fn ties(s: &SubstrateInstance) {
    let c = name("c");
    s.create(spec("c", 2, Metric::Cosine)).await.expect("creates");
    for i in (0..300).rev() {
        let text = if i % 2 == 0 { "even" } else { "odd" };
        let new = record(&format!("{:03}", i * 7 % 300), text, Some(vec![2.0, 2.0]));
        s.put(&c, vec![new], None).await.expect("puts");
    }
    let wanted: Vec<String> = (0..5).map(|i| format!("{i:03}")).collect();
    let leg = only_leg(s.search(&c, by_vector(&[1.0, 0.0], 5)).await.expect("searches"));
    assert_eq!(ids(&leg), wanted);
    let leg = only_leg(s.search(&c, by_text("even", 5)).await.expect("searches"));
    assert!(ids(&leg).is_sorted(), "{:?}", ids(&leg));
    assert_eq!(ids(&leg)[0], "000");
}

pub(super) async fn filters(s: &SubstrateInstance) {
    let c = name("c");
    s.create(spec("c", 4, Metric::L2)).await.expect("creates");
    let mut numbers = Numbers(11);
    let kinds = ["red", "green", "blue"];
    let records: Vec<NewRecord> = (0..200)
        .map(|i| {
            let new = record(&format!("r{i}"), "word", Some(numbers.vector(4)));
            let new = with(new, "n", MetadataValue::Int(i));
            match i % 4 {
                3 => new,
                k => with(new, "kind", MetadataValue::Text(kinds[k as usize].into())),
            }
        })
        .collect();
    for batch in records.chunks(30) {
        s.put(&c, batch.to_vec(), None).await.expect("puts");
    }
    let text = |t: &str| MetadataValue::Text(t.into());
    let list = MetadataValue::List(vec!["red".into(), "blue".into()]);
    let cases: Vec<Vec<(&str, FilterOp, MetadataValue)>> = vec![
        vec![("kind", FilterOp::Eq, text("red"))],
        vec![("kind", FilterOp::Ne, text("red"))],
        vec![("kind", FilterOp::In, list)],
        vec![("n", FilterOp::Lt, MetadataValue::Int(3))],
        vec![
            ("n", FilterOp::Ge, MetadataValue::Float(150.5)),
            ("kind", FilterOp::Eq, text("blue")),
        ],
        vec![("n", FilterOp::Gt, MetadataValue::Int(10_000))],
        vec![("absent", FilterOp::Eq, text("x"))],
        vec![("absent", FilterOp::Ne, text("x"))],
        vec![("n", FilterOp::Eq, text("3"))],
    ];
    for case in cases {
        let condition =
            |(field, op, value): (&str, _, _)| Condition { field: field.into(), op, value };
        let filter = Filter { all: case.into_iter().map(condition).collect() };
        let query = numbers.vector(4);
        let request = SearchRequest { filter: filter.clone(), ..by_vector(&query, 10) };
        let answer = s.search(&c, request).await.expect("searches");
        assert_eq!(answer.exactness, Exactness::Exact);
        let plain = plain_scan(&records, Metric::L2, &query, &filter, 10);
        assert_eq!(scores(&only_leg(answer)), plain, "{filter:?}");
        let admitted = plain_scan(&records, Metric::L2, &query, &filter, 1000);
        let request = SearchRequest { filter: filter.clone(), ..by_text("word", 1000) };
        let leg = only_leg(s.search(&c, request).await.expect("searches"));
        assert_eq!(leg.hits.len(), admitted.len(), "{filter:?}");
    }
}

pub(super) async fn words(s: &SubstrateInstance) {
    let c = name("c");
    s.create(spec("c", 0, Metric::Dot)).await.expect("creates");
    let texts = [
        ("1", "the heron stands in the reeds"),
        ("2", "the heron and the otter, the heron again"),
        ("3", "the walrus"),
        ("4", "the stone"),
        ("5", ""),
    ];
    let batch = texts.map(|(id, text)| record(id, text, None)).to_vec();
    s.put(&c, batch, None).await.expect("puts");
    let find = async |text: &str| {
        let leg = only_leg(s.search(&c, by_text(text, 10)).await.expect("searches"));
        assert_eq!((leg.kind, leg.scale.clone()), (LegKind::Text, ScoreScale::TextOwn));
        assert!(leg.hits.is_sorted_by(|a, b| a.score >= b.score && a.score > 0.0));
        leg.hits.iter().map(|hit| hit.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(find("otter walrus").await, ["3", "2"]);
    assert_eq!(find("heron").await, ["2", "1"]);
    assert_eq!(find("HÉRON!").await, find("heron").await);
    assert_eq!(find("heron heron heron").await, find("heron").await);
    assert_eq!(find("the otter").await[0], "2");
    assert_eq!(find("nowhere").await, [""; 0]);
    // Titles are searched too: each is "title of" and the id.
    assert_eq!(find("title").await.len(), 5);
    assert_eq!(find("5").await, ["5"]);
    let stats = s.term_stats(&c, "otter the nowhere the").await.expect("counts");
    assert_eq!(stats.records, 5);
    assert_eq!(stats.tokens, 5 * 3 + 6 + 8 + 2 + 2);
    assert_eq!(stats.terms.iter().map(|term| term.1).collect::<Vec<_>>(), [0, 1, 4]);
    assert_eq!(stats.check(), Ok(()));
    let many: Vec<String> = (0..2 * QUERY_TERMS_MAX).map(|i| format!("w{i}")).collect();
    let stats = s.term_stats(&c, &many.join(" ")).await.expect("counts");
    assert_eq!(stats.terms.len(), QUERY_TERMS_MAX);
}

pub(super) async fn global_text(s: &SubstrateInstance) {
    let (small, large) = (name("small"), name("large"));
    s.create(spec("small", 0, Metric::Dot)).await.expect("creates");
    s.create(spec("large", 0, Metric::Dot)).await.expect("creates");
    let shared = record("shared", "a heron by the river", None);
    s.put(&small, vec![shared.clone()], None).await.expect("puts");
    let mut batch: Vec<_> =
        (0..50).map(|i| record(&format!("r{i}"), "a heron and other birds", None)).collect();
    batch.push(shared);
    s.put(&large, batch, None).await.expect("puts");

    let query = "heron river";
    let mut all = s.term_stats(&small, query).await.expect("counts");
    all.add(&s.term_stats(&large, query).await.expect("counts"));
    let find = async |c, terms: Option<TermStats>| {
        let request = SearchRequest { terms, ..by_text(query, 60) };
        let leg = only_leg(s.search(c, request).await.expect("searches"));
        let hit = leg.hits.iter().find(|hit| hit.id == id("shared")).expect("is found").clone();
        (hit.score, leg.scale)
    };
    let (one, two) = (find(&small, Some(all.clone())).await, find(&large, Some(all)).await);
    assert_eq!(one.1, ScoreScale::TextGlobal);
    assert_eq!(one.0.to_bits(), two.0.to_bits(), "one record, one score at every source");
    assert_ne!(find(&small, None).await.0, find(&large, None).await.0);
    // Own statistics, given, are own scores.
    let own = s.term_stats(&large, query).await.expect("counts");
    assert_eq!(find(&large, Some(own)).await.0.to_bits(), find(&large, None).await.0.to_bits());
}

pub(super) async fn operators(s: &SubstrateInstance) {
    let c = name("c");
    s.create(spec("c", 0, Metric::Dot)).await.expect("creates");
    let texts = [("1", "alpha beta"), ("2", "alpha gamma"), ("3", "not near or and")];
    s.put(&c, texts.map(|(id, text)| record(id, text, None)).to_vec(), None).await.expect("puts");
    let hostile = [
        "alpha NOT beta",
        "\"alpha",
        "alpha*",
        "al*",
        "title:alpha",
        "{title body}: alpha",
        "^alpha",
        "NEAR(alpha beta, 1)",
        "alpha AND zeta",
        "(((",
        ")",
        "''; DROP TABLE x; --",
        "-alpha",
        "alpha\u{0}beta",
        "+",
        "alpha%",
        "\\",
        "🜁",
        "NULL",
        "body MATCH 'x'",
    ];
    for text in hostile {
        let leg = only_leg(s.search(&c, by_text(text, 10)).await.expect(text));
        let words: Vec<String> =
            text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect();
        let found = |word: &str| words.iter().any(|w| w == word);
        for (id, text) in texts {
            let has = text.split(' ').any(found) || found("title") || found("of") || found(id);
            assert_eq!(ids(&leg).contains(&id), has, "{words:?} in {text}");
        }
        s.term_stats(&c, text).await.expect(text);
    }
    // The longest query that is allowed, of one word, of many, and of signs alone.
    for part in ["x", "ab ", "\" ", "é"] {
        let text = part.repeat(QUERY_TEXT_BYTES_MAX / part.len());
        only_leg(s.search(&c, by_text(&text, 1)).await.expect("searches"));
    }
}

pub(super) async fn both_legs(s: &SubstrateInstance) {
    let c = name("c");
    s.create(spec("c", 2, Metric::Dot)).await.expect("creates");
    let long = "é".repeat(HIT_TEXT_BYTES_MAX);
    let near = with(record("near", &long, Some(vec![3.0, 4.0])), "n", MetadataValue::Int(1));
    let named = record("named", "heron", Some(vec![0.0, 0.0]));
    s.put(&c, vec![near.clone(), named.clone()], None).await.expect("puts");
    let target = QueryTarget { text: "heron".into(), ..QueryTarget::vector(vec![1.0, 1.0]) };
    let mut request = SearchRequest { top_k: 1, with_vectors: true, ..SearchRequest::new(target) };
    let answer = s.search(&c, request.clone()).await.expect("searches");
    assert_eq!(
        answer.legs.iter().map(|leg| leg.kind).collect::<Vec<_>>(),
        [LegKind::Vector, LegKind::Text]
    );
    let hit = &answer.legs[0].hits[0];
    assert_eq!((&hit.collection, &hit.id, hit.score), (&c, &near.record.id, 7.0));
    assert_eq!((&hit.title, &hit.metadata), (&near.record.title, &near.record.metadata));
    assert_eq!((hit.content, &hit.vector), (near.content, &near.vector));
    assert!(long.starts_with(&hit.text) && hit.text.len() > HIT_TEXT_BYTES_MAX - 2);
    assert!(hit.text.len() <= HIT_TEXT_BYTES_MAX);
    let hit = &answer.legs[1].hits[0];
    assert_eq!(
        (&hit.id, &hit.text, &hit.vector),
        (&named.record.id, &named.record.text, &named.vector)
    );
    request.with_vectors = false;
    let answer = s.search(&c, request).await.expect("searches");
    assert!(answer.legs.iter().flat_map(|leg| &leg.hits).all(|hit| hit.vector.is_none()));
}

pub(super) async fn bounds(s: &SubstrateInstance) {
    let (c, t) = (name("c"), name("t"));
    s.create(spec("c", 2, Metric::Dot)).await.expect("creates");
    s.create(spec("t", 0, Metric::Dot)).await.expect("creates");
    let good = by_vector(&[1.0, 1.0], 1);
    let refused = async |request: SearchRequest| {
        let answer = s.search(&c, request.clone()).await;
        let is = matches!(answer, Err(SubstrateError::Request { .. }));
        assert!(is, "{request:?} gave {answer:?}");
    };
    refused(SearchRequest { top_k: 0, ..good.clone() }).await;
    refused(SearchRequest { top_k: TOP_K_MAX + 1, ..good.clone() }).await;
    refused(SearchRequest { top_k: usize::MAX, ..good.clone() }).await;
    refused(by_vector(&[1.0, f32::NAN], 1)).await;
    refused(by_vector(&[f32::INFINITY, 1.0], 1)).await;
    refused(by_text(" ", 1)).await;
    refused(by_text(&"x".repeat(QUERY_TEXT_BYTES_MAX + 1), 1)).await;
    let condition = Condition { field: "f".into(), op: FilterOp::In, value: MetadataValue::Int(1) };
    refused(SearchRequest { filter: Filter { all: vec![condition] }, ..good.clone() }).await;
    let terms = TermStats { records: 1, tokens: 1, terms: vec![("x".into(), 2)] };
    refused(SearchRequest { terms: Some(terms), ..by_text("x", 1) }).await;
    let long = s.term_stats(&c, &"x".repeat(QUERY_TEXT_BYTES_MAX + 1)).await;
    assert!(matches!(long, Err(SubstrateError::Request { .. })));

    for (collection, components, held) in [(&c, 3, 2), (&t, 2, 0)] {
        let answer = s.search(collection, by_vector(&vec![1.0; components], 1)).await;
        assert!(matches!(answer, Err(SubstrateError::Dimensions { expected, actual, .. })
            if expected == held && actual == components));
    }
    let embedded = |embedder: &str| {
        let target = QueryTarget { embedder: embedder.into(), ..QueryTarget::vector(vec![1.0; 2]) };
        SearchRequest::new(target)
    };
    let answer = s.search(&c, embedded("model-b")).await;
    assert!(matches!(answer, Err(SubstrateError::Embedder { .. })));
    s.search(&c, embedded("model-a")).await.expect("the same model");
    s.search(&c, embedded("")).await.expect("an undeclared model");
    assert_eq!(only_leg(s.search(&c, good).await.expect("searches")).hits, []);
}
