//! Questions through relays: the same answers as directly asked, signed, from members that never see the
//! asker.

use exo_crypto::Signed;
use exo_federation::{
    AnswerSet, CollectionPolicy, ErrorCode, FederatedMesh, FederatedResult, FederationScope,
    QuerySpec, QueryTarget, Readers, SourceStatus, onion_query,
};
use exo_types::{PeerId, Wire};

use super::nodes::{
    Federation, ask, by_text, by_vector, fill, ids, of, one_moth_each, record, spec,
};

fn globally(query: QuerySpec, max_hops: u8) -> QuerySpec {
    QuerySpec { scope: FederationScope::Global { max_hops }, ..query }
}

/// What an answer says, without times and signatures.
fn said(answer: &FederatedResult) -> impl PartialEq + std::fmt::Debug + '_ {
    let sources: Vec<_> =
        answer.sources.iter().map(|s| (s.peer, s.status, s.count, s.detail.clone())).collect();
    (&answer.results, sources, answer.complete)
}

#[tokio::test(flavor = "multi_thread")]
async fn through_relays_the_answers_are_those_of_a_direct_query() {
    let federation = Federation::of(6).await;
    one_moth_each(&federation.nodes).await;
    for (at, node) in federation.nodes.iter().enumerate() {
        let far = [0.1, at as f32 + 1.0];
        fill(node, spec("far", 2), vec![record(&format!("far:{at}"), "far moths", Some(&far))])
            .await;
    }
    let asker = &federation.nodes[3];
    for query in [by_vector(), by_text()] {
        let direct = ask(asker, query.clone()).await;
        assert_eq!(direct.results.len(), 10);
        for hops in 1..=5 {
            let global = ask(asker, globally(query.clone(), hops)).await;
            assert_eq!(said(&global), said(&direct), "{hops} hops");
        }
    }
    let short = onion_query(asker, QueryTarget::text("moth"), 3).await.expect("is answered");
    let direct = ask(asker, by_text()).await;
    assert_eq!(said(&short), said(&direct));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_through_relays_proves_where_it_comes_from() {
    let federation = Federation::of(4).await;
    one_moth_each(&federation.nodes).await;
    let asker = federation.founder();
    let answer = ask(asker, globally(by_vector(), 3)).await;
    assert!(answer.complete, "{:?}", answer.sources);
    for (home, node) in federation.homes.iter().zip(&federation.nodes).skip(1) {
        let report = of(&answer, &node.peer_id());
        let bytes = &report.signed.as_ref().expect("is signed").0;
        let signed = Signed::<AnswerSet>::from_wire(bytes).expect("decodes");
        let set = signed.verify(home.identity().public()).expect("its own signature");
        assert_eq!(set.peer, node.peer_id());
        assert_eq!(set.legs[0].hits[0].id.as_str(), format!("{}:1", node.name()));
        let other = federation.homes[0].identity();
        assert!(signed.verify(other.public()).is_err(), "and no other's");
    }
    assert_eq!(of(&answer, &asker.peer_id()).signed, None, "its own answer went nowhere");
    assert!(ask(asker, by_vector()).await.sources.iter().all(|source| source.signed.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_say_who_it_is_reads_what_the_policy_gives_everybody() {
    let federation = Federation::of(4).await;
    one_moth_each(&federation.nodes).await;
    let (asker, source) = (&federation.nodes[0], &federation.nodes[1]);
    let found = async |what: &str| {
        for query in [by_vector(), by_text()] {
            let answer = ask(asker, globally(query, 3)).await;
            let report = of(&answer, &source.peer_id());
            assert_eq!((what, answer.results.len()), (what, 3 + report.count));
            let status = (report.status, report.count, report.detail.clone());
            match what {
                "allowed" => assert_eq!(status, (SourceStatus::Answered, 1, String::new())),
                "listed" => assert_eq!(status, (SourceStatus::Answered, 0, String::new())),
                _ => {
                    assert_eq!((status.0, status.1), (SourceStatus::Declined, 0));
                    assert!(status.2.starts_with("anonymous-denied"), "{}", status.2);
                }
            }
        }
        // A member that says who it is reads on.
        assert_eq!(of(&ask(asker, by_vector()).await, &source.peer_id()).count, 1);
    };
    let change = async |policy: CollectionPolicy| {
        let name = super::nodes::collection("notes");
        source.collection_policy(&name, policy).await.expect("changes");
    };
    found("allowed").await;
    change(CollectionPolicy { anonymous: false, ..Default::default() }).await;
    found("denied").await;
    // A list of readers is not told of, and who is unknown is not on it.
    let listed = Readers::Only([asker.peer_id()].into());
    change(CollectionPolicy { readers: listed, ..Default::default() }).await;
    found("listed").await;
    change(CollectionPolicy::default()).await;
    fill(source, spec("private", 2), vec![record("private:1", "a private moth", None)]).await;
    let name = super::nodes::collection("private");
    let denied = CollectionPolicy { anonymous: false, ..Default::default() };
    source.collection_policy(&name, denied).await.expect("changes");
    found("allowed").await;
    let wanted = QuerySpec { collection: Some(name), ..by_text() };
    let answer = ask(asker, globally(wanted, 3)).await;
    assert_eq!(of(&answer, &source.peer_id()).status, SourceStatus::Declined);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_federation_with_too_few_relays_says_so_at_once() {
    let federation = Federation::of(3).await;
    one_moth_each(&federation.nodes).await;
    let asker = federation.founder();
    assert!(ask(asker, globally(by_vector(), 2)).await.complete);
    let error = asker.federated_query(globally(by_vector(), 3)).await.expect_err("one relay only");
    assert_eq!(error.code, ErrorCode::NoPath);
    assert!(error.message.contains("2 relays were asked for, and 1 will do"), "{}", error.message);
    let mut long = by_vector();
    long.target.vector = vec![0.25; 4096];
    let error = asker.federated_query(globally(long, 2)).await.expect_err("too long for a packet");
    assert_eq!(error.code, ErrorCode::InvalidQuery);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_that_sends_too_many_packets_is_dropped_and_others_are_served() {
    let mut homes = Vec::new();
    let mut nodes: Vec<FederatedMesh> = Vec::new();
    for at in 0..4 {
        let home = super::nodes::Home::new(&format!("n{at}"));
        if at == 1 {
            home.configure(|config| config.onion.packets_per_second = 1);
        }
        let node = home.open().await;
        if let Some(founder) = nodes.first() {
            super::nodes::admit(founder, &node).await;
        }
        homes.push(home);
        nodes.push(node);
    }
    super::nodes::all_active(&nodes).await;
    one_moth_each(&nodes).await;
    // Through any path the limited one is asked more than it takes; it answers two at once and then one a second.
    let limited = nodes[1].peer_id();
    let mut answered = Vec::new();
    for _ in 0..10 {
        let mut query = globally(by_vector(), 1);
        query.deadline = std::time::Duration::from_millis(300);
        let answer = ask(&nodes[0], query).await;
        answered.push(of(&answer, &limited).status == SourceStatus::Answered);
        let others: Vec<&PeerId> = answer
            .sources
            .iter()
            .filter(|s| s.status == SourceStatus::Answered)
            .map(|s| &s.peer)
            .collect();
        assert!(others.len() >= 3, "{:?}", answer.sources);
    }
    let count = answered.iter().filter(|answered| **answered).count();
    assert!((2..8).contains(&count), "{answered:?}");
    // Another neighbour has a rate of its own.
    let answer = ask(&nodes[2], globally(by_vector(), 1)).await;
    assert_eq!(ids(&answer).len(), 4, "{:?}", answer.sources);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_answers_come_whole_after_short_ones_have_made_short_replies_usual() {
    let federation = Federation::of(4).await;
    one_moth_each(&federation.nodes).await;
    let asker = federation.founder();
    // Short answers: the next replies are asked for in the middle size.
    for _ in 0..3 {
        assert!(ask(asker, globally(by_vector(), 3)).await.complete);
    }
    let long = "a moth as long as an excerpt may be ".repeat(56);
    let records = (0..10).map(|at| record(&format!("long:{at}"), &long, Some(&[1.0, at as f32])));
    fill(&federation.nodes[2], spec("long", 2), records.collect()).await;
    let direct = ask(asker, by_vector()).await;
    for _ in 0..2 {
        let global = ask(asker, globally(by_vector(), 3)).await;
        assert_eq!(said(&global), said(&direct), "nothing is cut off");
    }
}
