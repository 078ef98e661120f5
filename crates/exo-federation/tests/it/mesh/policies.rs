//! What the answering side keeps back, and that nobody can tell that it does.

use std::collections::{BTreeMap, BTreeSet};

use exo_federation::{
    CollectionPolicy, Condition, FederatedMesh, FederationScope, FieldSet, FilterOp, MetadataValue,
    QuerySpec, QueryTarget, Readers, RecordId, SourceStatus, content_hash,
};
use exo_node::wire::{Request, Response, SearchFor, SearchRequest, TermsOf, TermsRequest};
use exo_types::{CollectionName, Filter, TermStats, TokenId};

use super::nodes::{
    Federation, ask as query, by_text, by_vector, collection, fill, of, record, spec,
};
use super::raw::{Raw, Session, ask};

#[tokio::test]
async fn readers_decide_who_finds_what() {
    let federation = Federation::of(3).await;
    let [owner, friend, other] = federation.nodes.as_slice() else { panic!("three") };
    let one = vec![record("secret", "a secret moth", Some(&[1.0, 0.0]))];
    fill(owner, spec("notes", 2), one).await;
    let set = async |readers: Readers| {
        let policy = CollectionPolicy { readers, ..CollectionPolicy::default() };
        owner.collection_policy(&collection("notes"), policy).await.expect("holds at once");
    };
    let found = async |node: &FederatedMesh| {
        let mut counts = Vec::new();
        for make in [by_vector, by_text] {
            let answer = query(node, make()).await;
            assert!(answer.complete, "what is kept back is not mentioned: {:?}", answer.sources);
            counts.push(answer.results.len());
        }
        assert_eq!(counts[0], counts[1]);
        counts[0]
    };
    assert_eq!((found(friend).await, found(other).await), (1, 1));
    set(Readers::Only(BTreeSet::from([friend.peer_id()]))).await;
    assert_eq!((found(owner).await, found(friend).await, found(other).await), (1, 1, 0));
    set(Readers::Nobody).await;
    assert_eq!((found(owner).await, found(friend).await, found(other).await), (1, 0, 0));
    set(Readers::Members).await;
    assert_eq!((found(friend).await, found(other).await), (1, 1));
}

#[tokio::test]
async fn a_policy_survives_a_restart() {
    let mut federation = Federation::of(2).await;
    let owner = &federation.nodes[1];
    fill(owner, spec("notes", 2), vec![record("secret", "moth", Some(&[1.0, 0.0]))]).await;
    let hidden = CollectionPolicy { readers: Readers::Nobody, ..CollectionPolicy::default() };
    owner.collection_policy(&collection("notes"), hidden.clone()).await.expect("holds");
    let owner = federation.nodes.pop().expect("is there");
    super::nodes::stop(owner).await;
    federation.nodes.push(federation.homes[1].open().await);
    super::nodes::all_active(&federation.nodes).await;
    let view = federation.nodes[1].collection(&collection("notes")).await.expect("is there");
    assert_eq!(view.policy, hidden);
    assert_eq!(query(&federation.nodes[0], by_vector()).await.results.len(), 0);
}

#[tokio::test]
async fn a_hidden_collection_and_an_absent_one_look_the_same() {
    let federation = Federation::of(1).await;
    let node = federation.founder();
    let raw = Raw::member(node, "raw").await;
    let name = collection("vault");
    let session = raw.enter(node).await;
    let absent = everything_asked(&session, &name).await;

    let hidden = CollectionPolicy { readers: Readers::Nobody, ..CollectionPolicy::default() };
    node.collection_add(spec("vault", 2), hidden.clone()).await.expect("makes it");
    assert_eq!(everything_asked(&session, &name).await, absent, "empty");
    let secret = vec![record("secret", "a secret moth", Some(&[1.0, 0.0]))];
    node.put(&name, secret, None).await.expect("writes");
    assert_eq!(everything_asked(&session, &name).await, absent, "with a record");
    let readers = Readers::Only(BTreeSet::from([node.peer_id()]));
    let policy = CollectionPolicy { readers, ..hidden };
    node.collection_policy(&name, policy).await.expect("holds");
    assert_eq!(everything_asked(&session, &name).await, absent, "for others");

    let policy = CollectionPolicy::default();
    node.collection_policy(&name, policy).await.expect("holds");
    assert_ne!(everything_asked(&session, &name).await, absent, "it is there to be found");
    node.collection_drop(&name).await.expect("drops it");
    assert_eq!(everything_asked(&session, &name).await, absent, "dropped");
}

/// Every answer that a member gets about a collection: by vectors that fit and do not fit, by words
/// that occur and do not, by name and without.
async fn everything_asked(session: &Session, name: &CollectionName) -> Vec<Response> {
    let token = session.token().id;
    let mut answers = Vec::new();
    for collection in [None, Some(name.clone())] {
        for target in [
            QueryTarget::vector(vec![1.0, 0.0]),
            QueryTarget::vector(vec![1.0, 0.0, 0.0]),
            QueryTarget { embedder: "maxi".to_owned(), ..QueryTarget::vector(vec![1.0, 0.0]) },
            QueryTarget::text("secret"),
            QueryTarget::text("nothing"),
        ] {
            let request = search(token, collection.clone(), target);
            answers.push(ask(&session.channel, &request).await);
        }
        for text in ["secret", "nothing"] {
            let text = text.to_owned();
            let request = Request::Terms(TermsRequest {
                token,
                of: TermsOf { collection: collection.clone(), text },
            });
            answers.push(ask(&session.channel, &request).await);
        }
    }
    answers
}

fn search(token: TokenId, collection: Option<CollectionName>, target: QueryTarget) -> Request {
    let terms = (!target.text.is_empty()).then(|| TermStats {
        records: 10,
        tokens: 30,
        terms: vec![("nothing".to_owned(), 1), ("secret".to_owned(), 1)],
    });
    Request::Search(Box::new(SearchRequest {
        token,
        search: SearchFor {
            collection,
            target,
            filter: Filter::default(),
            top_k: 10,
            terms,
            vectors: true,
        },
    }))
}

#[tokio::test]
async fn fields_and_counts_are_cut_by_the_owner() {
    let federation = Federation::of(2).await;
    let [owner, asker] = federation.nodes.as_slice() else { panic!("two") };
    let mut records = Vec::new();
    for i in 0..8 {
        let mut one = record("x", &format!("moth number {i}"), Some(&[1.0, i as f32 / 10.0]));
        one.record.id = RecordId::new(format!("r{i}")).expect("an id");
        one.record.title = format!("title {i}");
        one.record.metadata = BTreeMap::from([("year".to_owned(), MetadataValue::Int(1900 + i))]);
        one.content = content_hash(&one.record.title, &one.record.text);
        records.push(one);
    }
    fill(owner, spec("notes", 2), records).await;
    let all = FieldSet { title: true, text: true, metadata: true, vector: true };
    for shown in [
        all,
        FieldSet { title: false, ..all },
        FieldSet { text: false, ..all },
        FieldSet { metadata: false, ..all },
        FieldSet { vector: false, ..all },
        FieldSet { title: false, text: false, metadata: false, vector: false },
    ] {
        for results_max in [1, 3, 1000] {
            let policy = CollectionPolicy { fields: shown, results_max, ..Default::default() };
            owner.collection_policy(&collection("notes"), policy).await.expect("holds");
            for make in [by_vector, by_text] {
                let answer = query(asker, make()).await;
                assert!(answer.complete, "{:?}", answer.sources);
                assert_eq!(answer.results.len(), 8.min(results_max as usize));
                for hit in &answer.results {
                    assert_eq!(hit.title.is_empty(), !shown.title);
                    assert_eq!(hit.text.is_empty(), !shown.text);
                    assert_eq!(hit.metadata.is_empty(), !shown.metadata);
                }
            }
            // This node's own users see everything.
            let local = QuerySpec { scope: FederationScope::Local, ..by_vector() };
            let own = query(owner, local).await;
            assert_eq!(own.results.len(), 8);
            assert!(own.results.iter().all(|hit| !hit.title.is_empty() && !hit.text.is_empty()));
        }
    }
}

#[tokio::test]
async fn a_filter_tells_nothing_of_metadata_that_is_kept_back() {
    let federation = Federation::of(2).await;
    let [owner, asker] = federation.nodes.as_slice() else { panic!("two") };
    let mut one = record("a", "moth", Some(&[1.0, 0.0]));
    one.record.metadata = BTreeMap::from([("year".to_owned(), MetadataValue::Int(1999))]);
    fill(owner, spec("notes", 2), vec![one]).await;
    for (shown, found) in [(true, [1, 0]), (false, [0, 0])] {
        let fields = FieldSet { metadata: shown, ..FieldSet::default() };
        let policy = CollectionPolicy { fields, ..CollectionPolicy::default() };
        owner.collection_policy(&collection("notes"), policy).await.expect("holds");
        for (op, expected) in [FilterOp::Eq, FilterOp::Ne].into_iter().zip(found) {
            let value = MetadataValue::Int(1999);
            let filter = Filter { all: vec![Condition { field: "year".to_owned(), op, value }] };
            for make in [by_vector, by_text] {
                let answer = query(asker, QuerySpec { filter: filter.clone(), ..make() }).await;
                assert_eq!(answer.results.len(), expected, "shown {shown}, {op:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_vector_leaves_the_node_only_where_the_policy_lets_it() {
    let federation = Federation::of(1).await;
    let node = federation.founder();
    let raw = Raw::member(node, "raw").await;
    fill(node, spec("notes", 2), vec![record("a", "moth", Some(&[1.0, 0.5]))]).await;
    let session = raw.enter(node).await;
    let request = search(session.token().id, None, QueryTarget::vector(vec![1.0, 0.0]));
    for vector in [false, true, false] {
        let fields = FieldSet { vector, ..FieldSet::default() };
        let policy = CollectionPolicy { fields, ..CollectionPolicy::default() };
        node.collection_policy(&collection("notes"), policy).await.expect("holds");
        let Response::Answer { legs } = ask(&session.channel, &request).await else {
            panic!("no answer")
        };
        assert_eq!(legs[0].hits[0].vector, vector.then(|| vec![1.0, 0.5]));
    }
}

#[tokio::test]
async fn a_source_that_offers_nothing_answers_with_nothing() {
    let federation = Federation::of(2).await;
    let [a, b] = federation.nodes.as_slice() else { panic!("two") };
    fill(a, spec("notes", 2), vec![record("a", "moth", Some(&[1.0, 0.5]))]).await;
    for make in [by_vector, by_text] {
        for asker in [a, b] {
            let answer = query(asker, make()).await;
            let report = of(&answer, &b.peer_id());
            assert_eq!((report.status, report.count), (SourceStatus::Answered, 0), "{report:?}");
            assert_eq!(answer.results.len(), 1);
        }
    }
}
