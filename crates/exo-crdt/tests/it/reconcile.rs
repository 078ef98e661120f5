//! Federated answers as a replicated state: the join, and a ranking that depends on nothing else.

use std::collections::BTreeMap;

use exo_crdt::{Merge, RankOptions, Reconciled, Slot, SourceResponse, reconcile_crdt};
use exo_types::codec::Wire;
use exo_types::{
    CollectionName, ContentHash, Hit, Leg, LegKind, Metric, NodeName, QueryTarget, RecordId,
    ScoreScale,
};

use crate::support::{Numbers, bytes, peer};

const QUERY: [u8; 32] = [7; 32];
const ALL: RankOptions = RankOptions { top_k: 1000, per_source_max: 1000 };

fn hit(id: &str, score: f32, content: u8) -> Hit {
    Hit {
        collection: CollectionName::new("c").expect("a name"),
        id: RecordId::new(id).expect("an id"),
        score,
        content: ContentHash([content; 32]),
        title: format!("title {content}"),
        text: String::new(),
        metadata: BTreeMap::new(),
        vector: None,
    }
}

fn cosine(embedder: &str) -> ScoreScale {
    ScoreScale::Vector { metric: Metric::Cosine, dimensions: 2, embedder: embedder.to_owned() }
}

fn leg(scale: ScoreScale, hits: Vec<Hit>) -> Leg {
    let kind =
        if matches!(scale, ScoreScale::Vector { .. }) { LegKind::Vector } else { LegKind::Text };
    Leg { kind, scale, hits }
}

pub(crate) fn response(name: &str, legs: Vec<Leg>) -> SourceResponse {
    SourceResponse { name: NodeName::new(name).expect("a name"), legs }
}

pub(crate) fn slot(source: u8) -> Slot {
    Slot { query: QUERY, source: peer(source), snapshot: [0; 32] }
}

/// The state of sources 1, 2, … with one answer each.
fn state(legs: Vec<Vec<Leg>>) -> Reconciled {
    let mut state = Reconciled::default();
    for (n, legs) in (1u8..).zip(legs) {
        state.insert(slot(n), response(&format!("n{n}"), legs)).expect("valid");
    }
    state
}

fn target() -> QueryTarget {
    QueryTarget { vector: vec![1.0, 0.0], text: "moth".to_owned(), embedder: String::new() }
}

fn ids(state: &Reconciled, options: RankOptions) -> Vec<String> {
    let ranking = state.rank(&QUERY, &target(), options);
    ranking.results.iter().map(|hit| hit.from.id.to_string()).collect()
}

/// A small state with many ties, copies and contradictions.
pub(crate) fn random_reconciled(numbers: &mut Numbers) -> Reconciled {
    let mut state = Reconciled::default();
    for _ in 0..numbers.below(5) {
        let scales = [cosine(""), cosine("x"), ScoreScale::TextOwn, ScoreScale::TextGlobal];
        let legs = (0..numbers.below(3)).map(|_| {
            let hits = (0..numbers.below(4))
                .map(|_| {
                    let content = numbers.below(5) as u8;
                    hit(&format!("r{}", numbers.below(4)), numbers.below(4) as f32 - 1.5, content)
                })
                .collect();
            leg(scales[numbers.below(4) as usize].clone(), hits)
        });
        let legs = legs.collect();
        let at = Slot { snapshot: [numbers.below(2) as u8; 32], ..slot(numbers.below(3) as u8) };
        state.insert(at, response("n", legs)).expect("valid");
    }
    state
}

/// Every permutation, duplication and grouping of the answers gives the same ranking.
fn rankings(cases: u64) {
    for seed in 0..cases {
        let mut numbers = Numbers(seed);
        let mut parts: Vec<_> = (0..4).map(|_| random_reconciled(&mut numbers)).collect();
        let expected = reconcile_crdt(parts.clone());
        let ranked = expected.rank(&QUERY, &target(), ALL);
        for _ in 0..3 {
            for at in (1..parts.len()).rev() {
                parts.swap(at, numbers.below(at as u64 + 1) as usize);
            }
            let again = parts[numbers.below(4) as usize].clone();
            let (left, right) = parts.split_at(1 + numbers.below(3) as usize);
            let grouped = [reconcile_crdt(left.to_vec()), reconcile_crdt(right.to_vec()), again];
            let joined = reconcile_crdt(grouped);
            assert_eq!(bytes(&joined), bytes(&expected), "seed {seed}");
            assert_eq!(joined.rank(&QUERY, &target(), ALL), ranked, "seed {seed}");
        }
    }
}

#[test]
fn any_order_grouping_and_repetition_of_answers_gives_the_same_ranking() {
    rankings(300);
}

#[test]
#[ignore = "a hundred thousand cases; run with --release"]
fn any_order_grouping_and_repetition_of_answers_gives_the_same_ranking_at_length() {
    rankings(100_000);
}

#[test]
fn one_scale_gives_the_ranking_of_the_pooled_data() {
    for seed in 0..300 {
        let mut numbers = Numbers(seed);
        let mut legs: Vec<Vec<Hit>> = vec![Vec::new(); 4];
        let mut all = Vec::new();
        for n in 0..40u8 {
            let score = numbers.below(1000) as f32 / 500.0 - 1.0;
            let at = numbers.below(4) as usize;
            legs[at].push(hit(&format!("r{n}"), score, n));
            all.push((score, n));
        }
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let expected: Vec<_> = all.iter().take(10).map(|(_, n)| format!("r{n}")).collect();
        for hits in &mut legs {
            hits.sort_by(|a, b| b.score.total_cmp(&a.score));
        }
        let state = state(legs.into_iter().map(|hits| vec![leg(cosine(""), hits)]).collect());
        assert_eq!(ids(&state, RankOptions { top_k: 10, per_source_max: 1000 }), expected);
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused_and_minus_zero_is_zero() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut state = Reconciled::default();
        let legs = vec![leg(cosine(""), vec![hit("a", bad, 1)])];
        assert!(state.insert(slot(1), response("n1", legs)).is_err());
        assert!(state.is_empty());
        let mut vector = hit("a", 1.0, 1);
        vector.vector = Some(vec![bad, 0.0]);
        assert!(
            state.insert(slot(1), response("n1", vec![leg(cosine(""), vec![vector])])).is_err()
        );
    }
    let with = |score| state(vec![vec![leg(cosine(""), vec![hit("a", score, 1)])]]);
    assert_eq!(bytes(&with(-0.0)), bytes(&with(0.0)));
    // An encoding with −0 in it is not taken.
    let mut wire = bytes(&with(1.0));
    let at = wire.windows(4).position(|w| w == 1.0f32.to_le_bytes()).expect("the score");
    wire[at..at + 4].copy_from_slice(&(-0.0f32).to_le_bytes());
    assert!(Reconciled::from_wire(&wire).is_err());
    wire[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(Reconciled::from_wire(&wire).is_err());
}

#[test]
fn equal_content_collapses_and_every_place_is_kept() {
    let of = |id: &str, score| vec![leg(cosine(""), vec![hit(id, score, 3)])];
    let state = state(vec![of("x", 0.4), of("y", 0.6), of("w", 0.5)]);
    let ranking = state.rank(&QUERY, &target(), ALL);
    assert_eq!(ranking.results.len(), 1);
    assert_eq!(ranking.results[0].from.id.as_str(), "y");
    let also: Vec<_> = ranking.results[0].also.iter().map(|p| p.id.as_str()).collect();
    assert_eq!(also, ["x", "w"]);
}

#[test]
fn a_source_that_names_anothers_hash_does_not_hide_its_text() {
    let mut liar = hit("liar", 0.9, 3);
    liar.text = "what somebody wants to be read".to_owned();
    let honest = hit("honest", 0.4, 3);
    let state = state(vec![vec![leg(cosine(""), vec![honest])], vec![leg(cosine(""), vec![liar])]]);
    assert_eq!(ids(&state, ALL), ["liar", "honest"]);
}

#[test]
fn a_score_that_does_not_follow_from_its_vector_is_computed_again() {
    let mut lie = hit("lie", 1.0, 1);
    lie.vector = Some(vec![0.0, 1.0]);
    let mut truth = hit("truth", 0.7, 2);
    truth.vector = Some(vec![0.7, (1.0f32 - 0.49).sqrt()]);
    let state = state(vec![vec![leg(cosine(""), vec![lie])], vec![leg(cosine(""), vec![truth])]]);
    let ranking = state.rank(&QUERY, &target(), ALL);
    assert_eq!(ids(&state, ALL), ["truth", "lie"]);
    assert_eq!(ranking.corrected, [peer(1)]);
    assert!((ranking.results[0].score - 0.7).abs() < 1e-6);
}

#[test]
fn two_answers_about_one_snapshot_are_evidence_and_neither_counts() {
    let one = vec![leg(cosine(""), vec![hit("a", 0.9, 1)])];
    let two = vec![leg(cosine(""), vec![hit("b", 0.9, 2)])];
    let mut state = state(vec![one.clone(), vec![leg(cosine(""), vec![hit("c", 0.1, 3)])]]);
    state.insert(slot(1), response("n1", one.clone())).expect("valid");
    assert_eq!(ids(&state, ALL), ["a", "c"], "the same answer twice is one answer");
    state.insert(slot(1), response("n1", two)).expect("valid");
    assert_eq!(state.contradictions().collect::<Vec<_>>(), [(peer(1), QUERY)]);
    let ranking = state.rank(&QUERY, &target(), ALL);
    assert_eq!(ranking.contradicted, [peer(1)]);
    assert_eq!(ids(&state, ALL), ["c"]);
    // More answers add nothing, and the state does not grow.
    let size = bytes(&state).len();
    for n in 3..9 {
        let more = vec![leg(cosine(""), vec![hit("z", 0.5, n)])];
        state.insert(slot(1), response("n1", more)).expect("valid");
    }
    assert_eq!(bytes(&state).len(), size);
    // Of two states of the data there may be two answers.
    let later = Slot { snapshot: [1; 32], ..slot(3) };
    state.insert(slot(3), response("n3", one.clone())).expect("valid");
    state.insert(later, response("n3", Vec::new())).expect("valid");
    assert_eq!(ids(&state, ALL), ["a", "c"]);
}

#[test]
fn one_source_with_a_scale_of_its_own_does_not_reorder_or_overrun_the_others() {
    let honest = |n: u8| {
        let hits = (0..10u8).map(|i| {
            hit(&format!("h{n}-{i}"), 1.0 - f32::from(i) / 10.0 - f32::from(n) / 100.0, n * 10 + i)
        });
        vec![leg(cosine("model"), hits.collect())]
    };
    let without = state((0..4).map(honest).collect());
    let alone = ids(&without, RankOptions { top_k: 20, ..ALL });
    let mut with = without;
    let hits = || (0..100u8).map(|i| hit(&format!("liar-{i}"), 1e30, 100 + i)).collect::<Vec<_>>();
    let legs = vec![
        leg(cosine("odd"), hits()),
        leg(cosine("odder"), hits()),
        leg(ScoreScale::TextOwn, hits()),
    ];
    with.insert(slot(9), response("n9", legs)).expect("valid");
    let mixed = ids(&with, RankOptions { top_k: 20, ..ALL });
    let kept: Vec<_> = mixed.iter().filter(|id| id.starts_with('h')).collect();
    assert_eq!(kept, alone.iter().take(kept.len()).collect::<Vec<_>>());
    assert!(kept.len() >= 18, "{mixed:?}");
    // What counts of one list of one source can be bounded further.
    let capped = ids(&with, RankOptions { top_k: 100, per_source_max: 2 });
    assert!(capped.iter().filter(|id| id.starts_with("liar")).count() <= 2);
}

#[test]
fn a_document_that_two_scales_agree_on_is_first() {
    let hits = |ids: [(&str, u8); 2]| {
        ids.map(|(id, content)| hit(id, f32::from(9 - content), content)).to_vec()
    };
    let legs = vec![
        leg(cosine(""), hits([("v", 1), ("both", 2)])),
        leg(ScoreScale::TextGlobal, hits([("both", 2), ("t", 3)])),
    ];
    let state = state(vec![legs]);
    let ranking = state.rank(&QUERY, &target(), ALL);
    assert_eq!(ids(&state, ALL), ["both", "v", "t"]);
    let expected = 0.5 / 62.0 + 0.5 / 61.0;
    assert!((ranking.results[0].score - expected).abs() < 1e-10);
    assert!(ranking.results[0].also.is_empty());
}

#[test]
fn joining_reconciled_answers_is_a_union() {
    let mut a = state(vec![vec![leg(cosine(""), vec![hit("a", 0.9, 1)])]]);
    let b = state(vec![vec![], vec![leg(cosine(""), vec![hit("b", 0.8, 2)])]]);
    assert_eq!(a.joined_len(&b), 2);
    a.merge(b);
    assert_eq!(a.len(), 2);
}
