//! The ranking of a reconciled answer: a pure function, computed in integers.
//!
//! Scores of one scale are compared as they are, so one model and metric give exactly the ranking of the
//! pooled data. Different scales are fused once, by weighted reciprocal rank (Cormack, Clarke & Buettcher
//! 2009, k = 60; weights after the number of sources that a list stands for), in fixed-point numbers:
//! floating-point addition is not associative. Not CombMNZ, which rewards copies; not min-max, with which
//! one liar rescales everybody; never lists that were fused before.

use std::collections::{BTreeMap, BTreeSet};

use exo_types::{
    ContentHash, FederatedHit, Hit, LegKind, NodeName, PeerId, Provenance, QueryTarget, ScoreScale,
};

use crate::reconcile::Reconciled;

/// How a ranking is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankOptions {
    /// Results wanted.
    pub top_k: usize,
    /// Results of one list of one source that count at most: what is below in it does not.
    pub per_source_max: usize,
}

/// A ranked answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// Best first; ties by content hash, then place.
    pub results: Vec<FederatedHit>,
    /// Sources that contradicted themselves and were left out.
    pub contradicted: Vec<PeerId>,
    /// Sources of which a score did not follow from its vector; that score was computed again.
    pub corrected: Vec<PeerId>,
}

impl Reconciled {
    /// Ranks the answers to a query.
    pub fn rank(&self, query: &[u8; 32], target: &QueryTarget, options: RankOptions) -> Ranking {
        let mut ranking = Ranking { results: vec![], contradicted: vec![], corrected: vec![] };
        let mut groups: BTreeMap<Group, Scored<'_>> = BTreeMap::new();
        for (source, response) in self.responses(query) {
            let Some(response) = response else {
                ranking.contradicted.push(source);
                continue;
            };
            // One list of each kind counts: who sends ten has no ten votes.
            let mut kinds = BTreeSet::new();
            let mut corrected = false;
            for leg in response.legs.iter().filter(|leg| !leg.hits.is_empty()) {
                if !kinds.insert(leg.kind) {
                    continue;
                }
                let own = (leg.scale == ScoreScale::TextOwn).then_some(source);
                let group = groups.entry(Group { scale: leg.scale.clone(), own }).or_default();
                group.sources += 1;
                let mut hits: Vec<_> = leg
                    .hits
                    .iter()
                    .map(|hit| {
                        let (score, wrong) = true_score(hit, &leg.scale, leg.kind, target);
                        corrected |= wrong;
                        Copy::new(source, &response.name, hit, score)
                    })
                    .collect();
                hits.sort_by(Copy::order);
                hits.truncate(options.per_source_max);
                group.copies.extend(hits);
            }
            if corrected {
                ranking.corrected.push(source);
            }
        }
        let mut lists: Vec<_> = groups.into_values().map(Scored::collapse).collect();
        let documents = if lists.len() == 1 { lists.remove(0).documents } else { fuse(lists) };
        ranking.results =
            documents.into_iter().take(options.top_k).map(Document::into_hit).collect();
        ranking
    }
}

/// Which scores may be compared: those of one scale; a source's own text statistics only with themselves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    scale: ScoreScale,
    own: Option<PeerId>,
}

#[derive(Default)]
struct Scored<'a> {
    sources: u64,
    copies: Vec<Copy<'a>>,
}

/// A document as one source showed it.
#[derive(Clone)]
struct Copy<'a> {
    /// The score as an integer of the same order.
    key: i32,
    score: f32,
    hit: &'a Hit,
    from: Provenance,
}

/// Documents of one group, best first.
struct Ranked<'a> {
    sources: u64,
    documents: Vec<Document<'a>>,
}

/// A document with all places where it stands.
#[derive(Clone)]
struct Document<'a> {
    score: f64,
    best: Copy<'a>,
    also: BTreeSet<Provenance>,
}

impl<'a> Copy<'a> {
    fn new(source: PeerId, name: &NodeName, hit: &'a Hit, score: f32) -> Self {
        let (collection, id) = (hit.collection.clone(), hit.id.clone());
        let from = Provenance { peer: source, source: name.clone(), collection, id };
        Self { key: sortable(score), score, hit, from }
    }

    /// Best first.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        (other.key, self.identity(), &self.from).cmp(&(self.key, other.identity(), &other.from))
    }

    /// What makes two copies one document. A source names the hash of a text that it shows in part: it
    /// cannot put its own words before another's by naming that hash.
    fn identity(&self) -> (ContentHash, &'a str, &'a str) {
        (self.hit.content, &self.hit.title, &self.hit.text)
    }
}

impl<'a> Scored<'a> {
    /// Of each document the best copy, and where else it stands.
    fn collapse(mut self) -> Ranked<'a> {
        self.copies.sort_by(Copy::order);
        let mut places = BTreeMap::new();
        let mut documents: Vec<Document<'a>> = Vec::new();
        for copy in self.copies {
            let at = *places.entry(copy.identity()).or_insert(documents.len());
            match documents.get_mut(at) {
                Some(known) => {
                    known.also.insert(copy.from);
                }
                None => {
                    let score = f64::from(copy.score);
                    documents.push(Document { score, best: copy, also: BTreeSet::new() });
                }
            }
        }
        Ranked { sources: self.sources, documents }
    }
}

impl Document<'_> {
    fn into_hit(mut self) -> FederatedHit {
        self.also.remove(&self.best.from);
        FederatedHit {
            from: self.best.from,
            score: self.score,
            content: self.best.hit.content,
            title: self.best.hit.title.clone(),
            text: self.best.hit.text.clone(),
            metadata: self.best.hit.metadata.clone(),
            also: self.also.into_iter().collect(),
        }
    }
}

/// Fuses lists of different scales: a document's score is the sum of weight / (60 + rank) over them, the
/// weight being the list's share of the sources.
fn fuse(lists: Vec<Ranked<'_>>) -> Vec<Document<'_>> {
    let total = lists.iter().map(|list| list.sources).sum::<u64>().max(1);
    let mut fused: BTreeMap<_, (u64, Document<'_>)> = BTreeMap::new();
    for list in lists {
        let weight = list.sources * ONE / total;
        for (rank, document) in (1u64..).zip(list.documents) {
            let share = weight / (RANK_CONSTANT + rank);
            match fused.entry(document.best.identity()) {
                std::collections::btree_map::Entry::Vacant(vacant) => {
                    vacant.insert((share, document));
                }
                std::collections::btree_map::Entry::Occupied(mut held) => {
                    let (score, known) = held.get_mut();
                    *score += share;
                    known.also.extend(document.also);
                    // Scores of different scales do not say which copy is better.
                    let from = document.best.from.clone();
                    if from < known.best.from {
                        known.also.insert(std::mem::replace(&mut known.best, document.best).from);
                    } else {
                        known.also.insert(from);
                    }
                }
            }
        }
    }
    let mut documents: Vec<_> = fused.into_iter().collect();
    documents.sort_by(|(a, (score_a, _)), (b, (score_b, _))| score_b.cmp(score_a).then(a.cmp(b)));
    let scored = documents
        .into_iter()
        .map(|(_, (score, document))| Document { score: score as f64 / ONE as f64, ..document });
    scored.collect()
}

/// The score that a hit's vector gives where it is shown, and whether the source said another.
fn true_score(hit: &Hit, scale: &ScoreScale, kind: LegKind, target: &QueryTarget) -> (f32, bool) {
    let (ScoreScale::Vector { metric, .. }, LegKind::Vector, Some(vector)) =
        (scale, kind, &hit.vector)
    else {
        return (hit.score, false);
    };
    if vector.len() != target.vector.len() {
        return (hit.score, false);
    }
    let real = metric.score(&target.vector, vector);
    if !real.is_finite()
        || (real - f64::from(hit.score)).abs() <= SCORE_TOLERANCE * real.abs().max(1.0)
    {
        // Within rounding the source's own value stands: it is what the pooled data would give.
        return (hit.score, false);
    }
    let real = (real as f32).clamp(f32::MIN, f32::MAX);
    (real + 0.0, true)
}

/// An integer that sorts as the finite score does.
fn sortable(score: f32) -> i32 {
    let bits = score.to_bits() as i32;
    if bits < 0 { i32::MIN - bits } else { bits }
}

/// One, in the fixed-point numbers of fused scores.
const ONE: u64 = 1 << 40;

/// The constant of reciprocal rank fusion.
const RANK_CONSTANT: u64 = 60;

/// Relative difference between a said and a computed score that rounding explains.
const SCORE_TOLERANCE: f64 = 1e-3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_sort_as_scores_do() {
        let scores = [f32::MIN, -2.5, -1.0, -1e-40, 0.0, 1e-40, 0.1, 1.0, f32::MAX];
        assert!(scores.is_sorted_by(|a, b| sortable(*a) < sortable(*b)));
        assert_eq!(sortable(-0.0), sortable(0.0));
    }
}
