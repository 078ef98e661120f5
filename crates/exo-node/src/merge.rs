//! Merging the answers of many sources into one ranking.
//!
//! Scores of one [`ScoreScale`] are compared directly, so a vector query under one metric and
//! embedder gives exactly the ranking of the pooled data. Different scales are fused once, by
//! reciprocal rank (Cormack, Clarke & Buettcher 2009, k = 60). Equal content collapses into its
//! best copy, with every other place kept. The order is total: ties break by (peer, id).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use exo_types::{
    ContentHash, FederatedHit, Hit, Leg, LegKind, NodeName, PeerId, Provenance, QueryTarget,
    ScoreScale,
};

/// What one source sent.
#[derive(Clone, Debug)]
pub struct SourceAnswer {
    /// The member.
    pub peer: PeerId,
    /// Its name.
    pub source: NodeName,
    /// Its ranked lists.
    pub legs: Vec<Leg>,
}

/// Merges answers into at most `top_k` results. Any order of `answers` gives the same results.
pub fn merge(answers: Vec<SourceAnswer>, top_k: usize) -> Vec<FederatedHit> {
    let mut groups = group(answers);
    let mut merged = match groups.len() {
        0 => Vec::new(),
        1 => groups.pop_first().map_or_else(Vec::new, |(_, ranked)| ranked),
        _ => fuse(groups.into_values()),
    };
    merged.truncate(top_k);
    merged
}

/// Why a source's answer cannot be right.
pub fn lie(legs: &[Leg], target: &QueryTarget, top_k: usize) -> Option<&'static str> {
    let query = target.vector.as_slice();
    for leg in legs {
        let asked = match leg.kind {
            LegKind::Vector => !query.is_empty(),
            LegKind::Text => !target.text.is_empty(),
        };
        if !asked {
            // A scale of its own would turn the whole answer into a fusion by rank.
            return Some("it answered what was not asked");
        }
        if leg.hits.len() > top_k {
            return Some("it sent more results than were asked for");
        }
        if !leg.hits.is_sorted_by(|a, b| a.score >= b.score) {
            return Some("its results are not in the order of their scores");
        }
        let ScoreScale::Vector { metric, dimensions, embedder } = &leg.scale else { continue };
        let known = !embedder.is_empty() && !target.embedder.is_empty();
        if known && *embedder != target.embedder {
            return Some("it compared vectors of another model");
        }
        if *dimensions as usize != query.len() {
            return Some("it compared vectors of another number of dimensions");
        }
        for hit in &leg.hits {
            let Some(vector) = &hit.vector else { continue };
            if vector.len() != query.len() {
                return Some("a result's vector has another number of dimensions");
            }
            let real = metric.score(query, vector);
            if (real - f64::from(hit.score)).abs() > SCORE_TOLERANCE * real.abs().max(1.0) {
                return Some("a score does not follow from the result's vector");
            }
        }
    }
    None
}

/// Which scores may be compared. A list without results is nothing to compare. A source's own text statistics make a group of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    scale: ScoreScale,
    own: Option<(PeerId, usize)>,
}

fn group(answers: Vec<SourceAnswer>) -> BTreeMap<Group, Vec<FederatedHit>> {
    let mut groups: BTreeMap<Group, Vec<FederatedHit>> = BTreeMap::new();
    for answer in answers {
        let with_hits = |(_, leg): &(usize, Leg)| !leg.hits.is_empty();
        for (index, leg) in answer.legs.into_iter().enumerate().filter(with_hits) {
            let own = (leg.scale == ScoreScale::TextOwn).then_some((answer.peer, index));
            let hits = groups.entry(Group { scale: leg.scale, own }).or_default();
            let of = |hit: Hit| federated(answer.peer, &answer.source, hit);
            hits.extend(leg.hits.into_iter().map(of));
        }
    }
    groups.into_iter().map(|(key, hits)| (key, collapse(hits))).collect()
}

fn federated(peer: PeerId, source: &NodeName, hit: Hit) -> FederatedHit {
    FederatedHit {
        from: Provenance { peer, source: source.clone(), collection: hit.collection, id: hit.id },
        score: f64::from(hit.score),
        content: hit.content,
        title: hit.title,
        text: hit.text,
        metadata: hit.metadata,
        also: Vec::new(),
    }
}

/// Ranks hits and folds equal content into its first copy.
fn collapse(mut hits: Vec<FederatedHit>) -> Vec<FederatedHit> {
    hits.sort_by(rank);
    let mut places = Places::default();
    let mut also: Vec<BTreeSet<Provenance>> = Vec::new();
    let mut kept: Vec<FederatedHit> = Vec::with_capacity(hits.len());
    for mut hit in hits {
        match places.find(&hit, |at| &kept[at]) {
            Some(at) => {
                also[at].extend(hit.also);
                also[at].insert(hit.from);
            }
            None => {
                places.add(&hit, kept.len());
                also.push(hit.also.drain(..).collect());
                kept.push(hit);
            }
        }
    }
    for (best, mut others) in kept.iter_mut().zip(also) {
        others.remove(&best.from);
        best.also = others.into_iter().collect();
    }
    kept
}

/// Fuses several rankings: each result's score becomes the sum of 1 / (60 + rank) over them.
fn fuse(rankings: impl Iterator<Item = Vec<FederatedHit>>) -> Vec<FederatedHit> {
    let mut places = Places::default();
    let mut fused: Vec<(f64, Vec<FederatedHit>)> = Vec::new();
    for ranking in rankings {
        for (rank, hit) in ranking.into_iter().enumerate() {
            let at = places.find(&hit, |at| &fused[at].1[0]).unwrap_or_else(|| {
                places.add(&hit, fused.len());
                fused.push((0.0, Vec::new()));
                fused.len() - 1
            });
            fused[at].0 += 1.0 / (RANK_CONSTANT + 1.0 + rank as f64);
            fused[at].1.push(hit);
        }
    }
    let same_score = |(score, copies): (f64, Vec<FederatedHit>)| {
        copies.into_iter().map(move |hit| FederatedHit { score, ..hit })
    };
    collapse(fused.into_iter().flat_map(same_score).collect())
}

/// Where results of one content stand in a list.
///
/// A source names the hash of a text that it shows in part. Two results are one only when what they
/// show agrees, too: a source cannot put its own words before another's text by naming that hash.
#[derive(Default)]
struct Places(BTreeMap<ContentHash, Vec<usize>>);

impl Places {
    fn find<'a>(
        &self,
        hit: &FederatedHit,
        stands: impl Fn(usize) -> &'a FederatedHit,
    ) -> Option<usize> {
        let shows_the_same = |at: &usize| {
            let known = stands(*at);
            known.title == hit.title && known.text == hit.text
        };
        self.0.get(&hit.content)?.iter().copied().find(shows_the_same)
    }

    fn add(&mut self, hit: &FederatedHit, at: usize) {
        self.0.entry(hit.content).or_default().push(at);
    }
}

/// The total order of results: score from high to low, then (peer, id), then collection.
fn rank(a: &FederatedHit, b: &FederatedHit) -> Ordering {
    let place = |hit: &FederatedHit| (hit.from.peer, hit.from.id.clone());
    b.score
        .total_cmp(&a.score)
        .then_with(|| place(a).cmp(&place(b)))
        .then_with(|| a.from.collection.cmp(&b.from.collection))
}

/// The constant of reciprocal rank fusion.
const RANK_CONSTANT: f64 = 60.0;

/// Relative difference between a claimed and a recomputed score that rounding explains.
const SCORE_TOLERANCE: f64 = 1e-3;

#[cfg(test)]
mod tests {
    use exo_types::{CollectionName, Metric, RecordId};
    use proptest::prelude::*;

    use super::*;

    fn hit(id: &str, score: f32, content: u8) -> Hit {
        Hit {
            collection: CollectionName::new("c").expect("name"),
            id: RecordId::new(id).expect("id"),
            score,
            content: ContentHash([content; 32]),
            title: String::new(),
            text: String::new(),
            metadata: BTreeMap::new(),
            vector: None,
        }
    }

    fn cosine() -> ScoreScale {
        ScoreScale::Vector { metric: Metric::Cosine, dimensions: 2, embedder: String::new() }
    }

    fn answer(peer: u8, scale: ScoreScale, hits: Vec<Hit>) -> SourceAnswer {
        let kind = match scale {
            ScoreScale::Vector { .. } => LegKind::Vector,
            _ => LegKind::Text,
        };
        SourceAnswer {
            peer: PeerId::new([peer; 32]),
            source: NodeName::new(format!("n{peer}")).expect("name"),
            legs: vec![Leg { kind, scale, hits }],
        }
    }

    fn ids(hits: &[FederatedHit]) -> Vec<&str> {
        hits.iter().map(|h| h.from.id.as_str()).collect()
    }

    #[test]
    fn one_scale_merges_by_score_and_ties_break_by_peer_then_id() {
        let merged = merge(
            vec![
                answer(2, cosine(), vec![hit("b", 0.9, 1), hit("a", 0.5, 2)]),
                answer(1, cosine(), vec![hit("z", 0.5, 3), hit("y", 0.1, 4)]),
            ],
            3,
        );
        assert_eq!(ids(&merged), ["b", "z", "a"]);
    }

    #[test]
    fn equal_content_collapses_and_keeps_every_place() {
        let merged = merge(
            vec![
                answer(1, cosine(), vec![hit("x", 0.4, 7)]),
                answer(2, cosine(), vec![hit("y", 0.6, 7)]),
                answer(3, cosine(), vec![hit("w", 0.5, 7)]),
            ],
            10,
        );
        assert_eq!(ids(&merged), ["y"]);
        let also: Vec<_> = merged[0].also.iter().map(|p| p.id.as_str()).collect();
        assert_eq!(also, ["x", "w"]);
    }

    #[test]
    fn a_source_that_names_anothers_hash_does_not_hide_its_text() {
        let mut honest = hit("honest", 0.4, 7);
        honest.text = "what the owner wrote".to_owned();
        let mut liar = hit("liar", 0.9, 7);
        liar.text = "what somebody wants to be read".to_owned();
        for scale in [cosine(), ScoreScale::TextOwn] {
            let honest = answer(1, scale.clone(), vec![honest.clone()]);
            let merged = merge(vec![honest, answer(2, scale, vec![liar.clone()])], 10);
            let mut found = ids(&merged);
            found.sort_unstable();
            assert_eq!(found, ["honest", "liar"]);
            assert!(merged.iter().all(|hit| hit.also.is_empty()));
        }
    }

    #[test]
    fn different_scales_fuse_by_rank_and_agreement_wins() {
        let merged = merge(
            vec![
                answer(1, cosine(), vec![hit("v", 0.9, 1), hit("both", 0.8, 2)]),
                answer(1, ScoreScale::TextGlobal, vec![hit("t", 30.0, 3), hit("both", 20.0, 2)]),
            ],
            10,
        );
        assert_eq!(ids(&merged)[0], "both");
        assert!((merged[0].score - 2.0 / 62.0).abs() < 1e-12);
        assert!(merged[0].also.is_empty());
    }

    #[test]
    fn own_text_statistics_are_never_compared_across_sources() {
        let merged = merge(
            vec![
                answer(1, ScoreScale::TextOwn, vec![hit("a", 99.0, 1), hit("b", 98.0, 2)]),
                answer(2, ScoreScale::TextOwn, vec![hit("c", 0.1, 3)]),
            ],
            3,
        );
        assert_eq!(ids(&merged), ["a", "c", "b"]);
    }

    #[test]
    fn a_score_that_does_not_follow_from_its_vector_is_a_lie() {
        let mut honest = hit("a", 1.0, 1);
        honest.vector = Some(vec![2.0, 0.0]);
        let legs = |hit: Hit| vec![Leg { kind: LegKind::Vector, scale: cosine(), hits: vec![hit] }];
        let by = |vector: &[f32]| QueryTarget::vector(vector.to_vec());
        assert_eq!(lie(&legs(honest.clone()), &by(&[1.0, 0.0]), 1), None);
        let mut liar = honest;
        liar.vector = Some(vec![0.0, 1.0]);
        assert!(lie(&legs(liar), &by(&[1.0, 0.0]), 1).is_some());
        assert!(lie(&legs(hit("a", 1.0, 1)), &by(&[1.0, 0.0]), 0).is_some());
        assert!(lie(&legs(hit("a", 1.0, 1)), &by(&[1.0, 0.0, 0.0]), 1).is_some());
    }

    proptest! {
        #[test]
        fn any_order_of_sources_gives_the_same_answer(
            scores in prop::collection::vec((0u8..4, 0u8..6, 0u8..12), 1..40),
            rotate in 0usize..8,
            k in 1usize..12,
        ) {
            let mut by_peer: BTreeMap<u8, Vec<Hit>> = BTreeMap::new();
            for (i, (peer, score, content)) in scores.iter().enumerate() {
                by_peer.entry(*peer).or_default().push(hit(&format!("r{i}"), f32::from(*score), *content));
            }
            let answers: Vec<_> =
                by_peer.into_iter().map(|(peer, hits)| answer(peer, cosine(), hits)).collect();
            let mut turned = answers.clone();
            turned.rotate_left(rotate % answers.len());
            prop_assert_eq!(merge(answers, k), merge(turned, k));
        }

        #[test]
        fn the_merge_of_parts_is_the_top_of_the_whole(
            scores in prop::collection::vec((0u8..5, -100i16..100), 1..60), k in 1usize..20,
        ) {
            let mut by_peer: BTreeMap<u8, Vec<Hit>> = BTreeMap::new();
            let mut all = Vec::new();
            for (i, (peer, score)) in scores.iter().enumerate() {
                let score = f32::from(*score);
                let mut one = hit(&format!("r{i:03}"), score, 0);
                one.content = ContentHash(core::array::from_fn(|at| if at == 0 { i as u8 } else { 0 }));
                by_peer.entry(*peer).or_default().push(one);
                all.push((score, *peer, format!("r{i:03}")));
            }
            all.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, &a.2).cmp(&(b.1, &b.2))));
            let answers = by_peer.into_iter().map(|(peer, mut hits)| {
                hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
                hits.truncate(k);
                answer(peer, cosine(), hits)
            }).collect();
            let expected: Vec<_> = all.iter().take(k).map(|(_, _, id)| id.as_str()).collect();
            let merged = merge(answers, k);
            prop_assert_eq!(ids(&merged), expected);
        }
    }
}
