//! What a federated query answers: exactly what one pool of all records would.

use std::collections::BTreeMap;
use std::time::Duration;

use exo_federation::{
    CollectionPolicy, CollectionSpec, Condition, ErrorCode, FederatedHit, FederatedMesh,
    FederationScope, Filter, FilterOp, MetadataValue, Metric, NewRecord, PeerId, QuerySpec,
    QueryTarget, SourceStatus, content_hash,
};

use super::nodes::{
    Federation, Home, ask, by_text, by_vector, collection, fill, ids, of, one_moth_each, record,
    spec,
};

#[tokio::test]
async fn a_query_by_vector_gives_exactly_the_global_best() {
    let federation = Federation::of(5).await;
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let name = format!("{metric:?}").to_lowercase();
        let mut all: Vec<(PeerId, String, Vec<f32>)> = Vec::new();
        for (at, node) in federation.nodes.iter().enumerate() {
            let mut draw = Draw(at as u64 * 100 + metric as u64 + 1);
            let mut records = Vec::new();
            for i in 0..60 {
                let mut vector = draw.vector(16);
                if i % 20 == 0 {
                    // The same vector at every node: a tie that its places decide.
                    vector = Draw(7).vector(16);
                }
                let id = format!("{i:02}");
                let text = format!("{name} {at} {i}");
                records.push(record(&id, &text, Some(&vector)));
                all.push((node.peer_id(), id, vector));
            }
            let spec = CollectionSpec { metric, ..spec(&name, 16) };
            fill(node, spec, records).await;
        }
        let mut draw = Draw(99);
        let mut targets: Vec<_> = (0..6).map(|_| draw.vector(16)).collect();
        targets.push(Draw(7).vector(16));
        for (target, asker) in targets.iter().zip(federation.nodes.iter().cycle()) {
            for k in [1, 10, 57] {
                let mut query = direct(QueryTarget::vector(target.clone()));
                query.collection = Some(collection(&name));
                query.top_k = k;
                let answer = ask(asker, query).await;
                assert!(answer.complete, "{:?}", answer.sources);
                expect_best(&answer.results, &all, target, metric, k);
            }
        }
    }
}

/// The results are the best of all records, in the order of (score, peer, id).
fn expect_best(
    results: &[FederatedHit],
    all: &[(PeerId, String, Vec<f32>)],
    target: &[f32],
    metric: Metric,
    k: usize,
) {
    let mut ranked: Vec<_> =
        all.iter().map(|(peer, id, vector)| (metric.score(target, vector), *peer, id)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    let expected: Vec<_> = ranked[..k].iter().map(|(_, peer, id)| (*peer, id.as_str())).collect();
    let found: Vec<_> = results.iter().map(|hit| (hit.from.peer, hit.from.id.as_str())).collect();
    assert_eq!(found, expected, "{metric:?}, {k}");
    for (hit, (score, ..)) in results.iter().zip(&ranked) {
        assert!((hit.score - score).abs() < 1e-5 * score.abs().max(1.0), "{} {score}", hit.score);
    }
}

#[tokio::test]
async fn a_query_by_text_ranks_as_one_pool_of_all_records() {
    let federation = Federation::of(5).await;
    let pool = Home::new("pool");
    let pool = pool.open().await;
    let mut pooled = Vec::new();
    let mut draw = Draw(3);
    for (at, node) in federation.nodes.iter().enumerate() {
        let mut records = Vec::new();
        for i in 0..40 {
            // Words are rare at one node and common at another, texts short here and long there.
            let words = (0..3 + draw.below(10 + 10 * at as u64)).map(|_| {
                let word = draw.below(6 + 4 * at as u64).min(draw.below(30));
                WORDS[word as usize % WORDS.len()]
            });
            let text = words.collect::<Vec<_>>().join(" ");
            records.push(record(&format!("{at}:{i:02}"), &text, None));
        }
        pooled.extend(records.clone());
        fill(node, spec("notes", 0), records).await;
    }
    fill(&pool, spec("notes", 0), pooled).await;

    for text in
        ["moth", "moon lamp", "owl owl moth", "night nobody", "moth moon lamp owl night dust"]
    {
        let mut query = direct(QueryTarget::text(text));
        query.top_k = 60;
        let mut local = query.clone();
        local.scope = FederationScope::Local;
        let expected = ask(&pool, local).await;
        assert!(expected.results.len() > 5, "{text}: too few to compare");
        for asker in &federation.nodes {
            let answer = ask(asker, query.clone()).await;
            assert!(answer.complete, "{:?}", answer.sources);
            // Of equal scores the places decide, which differ in a pool: compare by (score, id).
            let ranked = |results: &[FederatedHit]| {
                let mut ranked: Vec<_> = results
                    .iter()
                    .map(|hit| ((hit.score * 1e6).round() as i64, hit.from.id.to_string()))
                    .collect();
                ranked.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
                ranked
            };
            let (found, expected) = (ranked(&answer.results), ranked(&expected.results));
            let cut = found.last().map_or(0, |last| last.0);
            let above = |ranked: &[(i64, String)]| {
                ranked.iter().filter(|(score, _)| *score > cut).cloned().collect::<Vec<_>>()
            };
            assert_eq!(above(&found).len(), above(&expected).len(), "{text}");
            for ((a, id), (b, other)) in above(&found).iter().zip(&above(&expected)) {
                assert!((a - b).abs() <= 1 && id == other, "{text}: {id} {a}, {other} {b}");
            }
            assert_eq!(found.len(), expected.len(), "{text}");
        }
    }
}

#[tokio::test]
async fn a_query_by_text_and_vector_fuses_both() {
    let federation = Federation::of(3).await;
    let [a, b, c] = federation.nodes.as_slice() else { panic!("three") };
    let both = record("both", "the moth", Some(&[1.0, 0.1]));
    fill(a, spec("notes", 2), vec![record("near", "nothing", Some(&[1.0, 0.0]))]).await;
    fill(b, spec("notes", 2), vec![record("word", "moth moth moth", Some(&[-1.0, 0.0])), both])
        .await;
    fill(c, spec("notes", 2), vec![record("far", "nothing at all", Some(&[-1.0, 0.1]))]).await;
    let target =
        QueryTarget { vector: vec![1.0, 0.0], text: "moth".to_owned(), embedder: String::new() };
    for asker in &federation.nodes {
        let answer = ask(asker, direct(target.clone())).await;
        assert!(answer.complete, "{:?}", answer.sources);
        // What both parts of the query find comes before what one of them finds best.
        assert_eq!(ids(&answer)[0], "both");
        assert_eq!(answer.results.len(), 4);
        let score = answer.results[0].score;
        assert!((score - 2.0 / 62.0).abs() < 1e-9, "second in both: {score}");
    }
}

#[tokio::test]
async fn equal_records_collapse_and_every_place_is_named() {
    let federation = Federation::of(3).await;
    let [a, b, c] = federation.nodes.as_slice() else { panic!("three") };
    let mut copy = record("one", "the same moth", Some(&[1.0, 0.0]));
    copy.record.title = "same".to_owned();
    copy.content = content_hash("same", "the same moth");
    let mut places = Vec::new();
    for (node, id) in [(a, "one"), (b, "two"), (c, "three")] {
        copy.record.id = exo_federation::RecordId::new(id).expect("an id");
        fill(node, spec("notes", 2), vec![copy.clone()]).await;
        places.push((node.peer_id(), id.to_owned()));
    }
    fill(a, spec("more", 2), vec![copy.clone()]).await;
    places.push((a.peer_id(), "three".to_owned()));
    places.sort();
    for query in [by_vector(), by_text()] {
        let answer = ask(b, query).await;
        let [hit] = answer.results.as_slice() else { panic!("{:?}", answer.results) };
        assert!(hit.also.is_sorted(), "{:?}", hit.also);
        let all = std::iter::once(&hit.from).chain(&hit.also);
        let mut found: Vec<_> = all.map(|place| (place.peer, place.id.to_string())).collect();
        found.sort();
        assert_eq!(found, places);
    }
}

#[tokio::test]
async fn only_comparable_collections_are_compared() {
    let federation = Federation::of(4).await;
    let [a, b, c, d] = federation.nodes.as_slice() else { panic!("four") };
    let made_by = |embedder: &str, dimensions| CollectionSpec {
        embedder: embedder.to_owned(),
        ..spec("notes", dimensions)
    };
    fill(a, made_by("mini", 2), vec![record("a", "moth", Some(&[1.0, 0.0]))]).await;
    fill(b, made_by("maxi", 2), vec![record("b", "moth", Some(&[1.0, 0.0]))]).await;
    fill(c, made_by("mini", 3), vec![record("c", "moth", Some(&[1.0, 0.0, 0.0]))]).await;
    fill(d, made_by("", 2), vec![record("d", "moth and moon", Some(&[1.0, 0.0]))]).await;
    let mut target = QueryTarget::vector(vec![1.0, 0.0]);
    target.embedder = "mini".to_owned();
    for asker in [a, b] {
        let answer = ask(asker, direct(target.clone())).await;
        for (node, expected) in [
            (a, SourceStatus::Answered),
            (b, SourceStatus::Declined),
            (c, SourceStatus::Declined),
            (d, SourceStatus::Answered),
        ] {
            let report = of(&answer, &node.peer_id());
            assert_eq!(report.status, expected, "{report:?}");
            if expected == SourceStatus::Declined {
                assert!(report.detail.contains("embedder-mismatch"), "{report:?}");
            }
        }
        assert!(!answer.complete);
        assert_eq!(answer.results.len(), 2);
    }
    // Without a vector nothing has to fit.
    let answer = ask(a, by_text()).await;
    assert!(answer.complete, "{:?}", answer.sources);
}

#[tokio::test]
async fn a_list_without_results_changes_no_score() {
    let federation = Federation::of(2).await;
    one_moth_each(&federation.nodes).await;
    let before = ask(&federation.nodes[0], by_vector()).await;
    // Nothing is in it, so there is nothing that could not be compared.
    let empty = CollectionSpec { metric: Metric::Dot, ..spec("empty", 2) };
    fill(&federation.nodes[1], empty, Vec::new()).await;
    let after = ask(&federation.nodes[0], by_vector()).await;
    assert!(after.complete, "{:?}", after.sources);
    assert_eq!(after.results, before.results);
}

#[tokio::test]
async fn a_named_collection_and_a_filter_narrow_every_source() {
    let federation = Federation::of(2).await;
    for node in &federation.nodes {
        let made = |id: &str, year: i64| {
            let mut record = record(id, "moth", Some(&[1.0, 0.0]));
            record.record.id =
                exo_federation::RecordId::new(format!("{}:{id}", node.name())).expect("an id");
            record.record.title = record.record.id.to_string();
            record.content = content_hash(&record.record.title, "moth");
            record.record.metadata =
                BTreeMap::from([("year".to_owned(), MetadataValue::Int(year))]);
            record
        };
        fill(node, spec("old", 2), vec![made("a", 1900), made("b", 1950)]).await;
        fill(node, spec("new", 2), vec![made("c", 2000), made("d", 2020)]).await;
    }
    let found = async |query: QuerySpec| {
        let answer = ask(&federation.nodes[1], query).await;
        assert!(answer.complete, "{:?}", answer.sources);
        let mut ids: Vec<_> = ids(&answer).into_iter().map(str::to_owned).collect();
        ids.sort();
        ids
    };
    for make in [by_vector, by_text] {
        let named = QuerySpec { collection: Some(collection("new")), ..make() };
        assert_eq!(found(named.clone()).await, ["n0:c", "n0:d", "n1:c", "n1:d"]);
        let filter = |op, year| Filter {
            all: vec![Condition { field: "year".to_owned(), op, value: MetadataValue::Int(year) }],
        };
        let late = QuerySpec { filter: filter(FilterOp::Ge, 1950), ..make() };
        assert_eq!(found(late).await.len(), 6);
        let one = QuerySpec { filter: filter(FilterOp::Lt, 2010), ..named };
        assert_eq!(found(one).await, ["n0:c", "n1:c"]);
        let none = QuerySpec { filter: filter(FilterOp::Eq, 7), ..make() };
        assert_eq!(found(none).await, [""; 0]);
        let absent = QuerySpec { collection: Some(collection("nowhere")), ..make() };
        assert_eq!(found(absent).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_query_out_of_bounds_is_refused_before_anybody_is_asked() {
    let federation = Federation::of(1).await;
    let node = federation.founder();
    one_moth_each(&federation.nodes).await;
    type Change = fn(&mut QuerySpec);
    let wrong: [(&str, Change); 10] = [
        ("no results", |q| q.top_k = 0),
        ("too many results", |q| q.top_k = 1001),
        ("endless results", |q| q.top_k = usize::MAX),
        ("a component that is no number", |q| q.target.vector = vec![1.0, f32::NAN]),
        ("an endless component", |q| q.target.vector = vec![f32::NEG_INFINITY, 0.0]),
        ("nothing asked", |q| q.target = QueryTarget::text("  ")),
        ("too long a text", |q| q.target = QueryTarget::text("x".repeat(9000))),
        ("too many dimensions", |q| q.target.vector = vec![0.5; 4097]),
        ("no time", |q| q.deadline = Duration::ZERO),
        ("endless time", |q| q.deadline = Duration::MAX),
    ];
    for scope in [FederationScope::Local, FederationScope::Direct] {
        for (what, change) in &wrong {
            let mut query = by_vector();
            query.scope = scope;
            change(&mut query);
            let error = node.federated_query(query).await.expect_err(what);
            assert_eq!(error.code, ErrorCode::InvalidQuery, "{what}");
        }
    }
    let mut hops = by_vector();
    hops.scope = FederationScope::Global { max_hops: 9 };
    assert_eq!(node.federated_query(hops).await.expect_err("hops").code, ErrorCode::InvalidQuery);
}

#[tokio::test]
async fn a_node_without_a_federation_answers_its_own_users_alone() {
    let home = Home::new("loner");
    let node = home.open().await;
    fill(&node, spec("notes", 2), vec![record("a", "moth", Some(&[1.0, 0.0]))]).await;
    for make in [by_vector, by_text] {
        let error = node.federated_query(make()).await.expect_err("is alone");
        assert_eq!(error.code, ErrorCode::NotAMember);
        let local = QuerySpec { scope: FederationScope::Local, ..make() };
        let answer = ask(&node, local).await;
        assert!(answer.complete);
        assert_eq!((ids(&answer).len(), answer.sources.len()), (1, 1));
        assert_eq!(answer.sources[0].peer, node.peer_id());
    }
}

#[tokio::test]
async fn sources_are_counted_and_the_count_is_left_to_the_asker() {
    let mut federation = Federation::of(3).await;
    one_moth_each(&federation.nodes).await;
    federation.retire_last().await;
    let mut query = by_vector();
    query.min_sources = 3;
    query.deadline = Duration::from_millis(500);
    let answer = ask(federation.founder(), query.clone()).await;
    assert_eq!((answer.answered(), answer.sources.len()), (2, 3));
    assert!(answer.answered() < query.min_sources && !answer.complete);
    assert_eq!(answer.results.len(), 2, "what there is is given");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_queries_at_once_all_end_with_their_own_answers() {
    let federation = Federation::of(3).await;
    for (at, node) in federation.nodes.iter().enumerate() {
        let records: Vec<NewRecord> = (0..40)
            .map(|i| {
                let angle = (3 * i + at) as f32 / 40.0;
                record(
                    &format!("{at}:{i}"),
                    &format!("moth {at} {i}"),
                    Some(&[angle.cos(), angle.sin()]),
                )
            })
            .collect();
        fill(node, spec("notes", 2), records).await;
    }
    let one = |node: &FederatedMesh, i: usize| {
        let node = node.clone();
        tokio::spawn(async move {
            let angle = i as f32 / 40.0;
            let mut query = direct(QueryTarget::vector(vec![angle.cos(), angle.sin()]));
            query.top_k = 1;
            query.deadline = Duration::from_secs(10);
            (i, ask(&node, query).await)
        })
    };
    let running: Vec<_> = (0..60)
        .flat_map(|i| federation.nodes.iter().map(move |node| (node, i)))
        .map(|(node, i)| one(node, i))
        .collect();
    for query in running {
        let (i, answer) = query.await.expect("ends");
        assert!(answer.complete, "{:?}", answer.sources);
        assert_eq!(ids(&answer), [format!("{}:{}", i % 3, i / 3)]);
    }
}

#[tokio::test]
async fn a_collection_is_offered_while_it_is_there() {
    let federation = Federation::of(2).await;
    one_moth_each(&federation.nodes).await;
    let [a, b] = federation.nodes.as_slice() else { panic!("two") };
    let more = vec![record("more", "moth", Some(&[1.0, 0.0]))];
    fill(b, spec("more", 2), more.clone()).await;
    assert_eq!(ask(a, by_vector()).await.results.len(), 3);
    b.collection_drop(&collection("more")).await.expect("drops it");
    assert_eq!(ask(a, by_vector()).await.results.len(), 2);
    let error = b.put(&collection("more"), more, None).await.expect_err("is gone");
    assert_eq!(error.code, ErrorCode::CollectionNotFound);
    let again = b.collection_add(spec("notes", 3), CollectionPolicy::default()).await;
    assert_eq!(again.expect_err("is another").code, ErrorCode::CollectionExists);
    assert_eq!(ask(a, by_vector()).await.results.len(), 2);
}

fn direct(target: QueryTarget) -> QuerySpec {
    QuerySpec::new(FederationScope::Direct, target)
}

/// Numbers that are the same on every run (splitmix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn vector(&mut self, dimensions: usize) -> Vec<f32> {
        (0..dimensions).map(|_| (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
    }
}

const WORDS: [&str; 12] = [
    "moth", "moon", "lamp", "night", "owl", "wing", "dust", "light", "wool", "leaf", "larva",
    "flame",
];
