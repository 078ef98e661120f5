//! What each simulated node holds, the substrate that searches it, and the exact answer that a
//! merge must give, computed anew and by other code.

use std::collections::{BTreeMap, BTreeSet};

use exo_crypto::content_hash;
use exo_types::{
    CollectionName, CollectionSpec, ContentHash, Hit, Leg, LegKind, Metric, PeerId, QuerySpec,
    QueryTarget, RecordId, ScoreScale, TermStats,
};

use super::rng::Rng;
use crate::effect::Search;
use crate::flow::answer::Reader;
use crate::policy::{CollectionPolicy, FieldSet, Readers};

/// One node's collections.
#[derive(Clone, Debug)]
pub(crate) struct Data(pub(crate) Vec<Collection>);

#[derive(Clone, Debug)]
pub(crate) struct Collection {
    pub(crate) spec: CollectionSpec,
    pub(crate) policy: CollectionPolicy,
    records: Vec<Content>,
}

/// A record is one of a small number of contents, so that sources hold copies of each other's, and
/// so few vectors exist that scores tie.
#[derive(Clone, Copy, Debug)]
struct Content(u8);

impl Content {
    fn id(self) -> Option<RecordId> {
        RecordId::new(format!("r{:03}", self.0)).ok()
    }

    fn words(self) -> [&'static str; 3] {
        let word = |at: u8| WORDS[usize::from(at) % WORDS.len()];
        [word(self.0), word(self.0 / 3), word(self.0.wrapping_mul(7))]
    }

    fn vector(self, dimensions: u32) -> Vec<f32> {
        (0..dimensions)
            .map(|i| f32::from((self.0 / 2).wrapping_mul(3 + i as u8) % 11) - 5.0)
            .collect()
    }

    fn hash(self) -> ContentHash {
        content_hash(&format!("content {}", self.0), "")
    }
}

impl Data {
    /// Draws what a node holds; `all` are the ids that a policy may name.
    pub(crate) fn draw(rng: &mut Rng, all: &[PeerId]) -> Self {
        let mut collections = Vec::new();
        for name in NAMES {
            if !rng.chance(700) {
                continue;
            }
            let Ok(name) = CollectionName::new(name) else { continue };
            let dimensions = if rng.chance(850) { DIMENSIONS } else { DIMENSIONS + 1 };
            let readers = match rng.below(10) {
                0 => Readers::Nobody,
                1 | 2 => Readers::Only(all.iter().filter(|_| rng.chance(500)).copied().collect()),
                _ => Readers::Members,
            };
            let results_max = if rng.chance(200) { rng.between(1, 4) as u32 } else { 1000 };
            let fields = FieldSet { vector: rng.chance(500), ..FieldSet::default() };
            let chosen: BTreeSet<u8> =
                (0..rng.below(14)).map(|_| rng.below(CONTENTS) as u8).collect();
            collections.push(Collection {
                spec: CollectionSpec {
                    name,
                    dimensions,
                    metric: Metric::Dot,
                    embedder: String::new(),
                },
                policy: CollectionPolicy {
                    readers,
                    fields,
                    results_max,
                    anonymous: rng.chance(700),
                },
                records: chosen.into_iter().map(Content).collect(),
            });
        }
        Self(collections)
    }

    pub(crate) fn specs(&self) -> Vec<CollectionSpec> {
        self.0.iter().map(|collection| collection.spec.clone()).collect()
    }

    fn named(&self, names: &[CollectionName]) -> impl Iterator<Item = &Collection> {
        self.0.iter().filter(|collection| names.contains(&collection.spec.name))
    }

    /// What the substrate answers a search.
    pub(crate) fn search(&self, names: &[CollectionName], search: &Search) -> Vec<Leg> {
        let Search { target, top_k, terms, vectors, .. } = search;
        self.named(names).flat_map(|c| c.legs(target, *top_k, terms.as_ref(), *vectors)).collect()
    }

    /// What the substrate answers a count of terms.
    pub(crate) fn terms(&self, names: &[CollectionName], text: &str) -> TermStats {
        let mut sum = TermStats::default();
        self.named(names).for_each(|collection| sum.add(&collection.terms(text)));
        sum
    }

    /// What a source must answer to a query; `None` when it must decline, for want of comparable
    /// vectors or because nobody said who asks.
    pub(crate) fn answer(
        &self,
        asker: Reader<'_>,
        spec: &QuerySpec,
        terms: Option<&TermStats>,
    ) -> Option<Vec<Leg>> {
        let readable: Vec<&Collection> = self.readable(asker, spec).collect();
        let fits = |collection: &&&Collection| {
            let vector = &spec.target.vector;
            vector.is_empty() || vector.len() == collection.spec.dimensions as usize
        };
        let fitting: Vec<&&Collection> = readable.iter().filter(fits).collect();
        if fitting.is_empty() && !readable.is_empty() {
            return None;
        }
        if self.denies(asker, spec) {
            return None;
        }
        let legs = fitting.into_iter().flat_map(|collection| {
            let most = match asker {
                Reader::Own => spec.top_k,
                _ => spec.top_k.min(collection.policy.results_max as usize),
            };
            let mut legs = collection.legs(&spec.target, spec.top_k, terms, false);
            legs.iter_mut().for_each(|leg| leg.hits.truncate(most));
            legs
        });
        Some(legs.collect())
    }

    /// The term statistics a source must tell.
    pub(crate) fn counts(&self, asker: Reader<'_>, spec: &QuerySpec) -> TermStats {
        let mut sum = TermStats::default();
        let fits = |collection: &&Collection| {
            // A source's own search leaves out what does not fit; a peer is told of all it may read.
            let vector = &spec.target.vector;
            !matches!(asker, Reader::Own)
                || vector.is_empty()
                || vector.len() == collection.spec.dimensions as usize
        };
        self.readable(asker, spec)
            .filter(fits)
            .for_each(|collection| sum.add(&collection.terms(&spec.target.text)));
        sum
    }

    /// Whether it neither counts nor answers, because it would for a member that says its name.
    pub(crate) fn denies(&self, asker: Reader<'_>, spec: &QuerySpec) -> bool {
        if !matches!(asker, Reader::Unknown) || self.readable(asker, spec).next().is_some() {
            return false;
        }
        let wanted = |c: &&Collection| spec.collection.as_ref().is_none_or(|w| *w == c.spec.name);
        let open = |c: &Collection| c.policy.readers == Readers::Members && !c.policy.anonymous;
        self.0.iter().filter(wanted).any(open)
    }

    fn readable<'a>(
        &'a self,
        asker: Reader<'_>,
        spec: &QuerySpec,
    ) -> impl Iterator<Item = &'a Collection> {
        let wanted = spec.collection.clone();
        let may = |collection: &&Collection| match (asker, &collection.policy.readers) {
            (Reader::Own, _) | (Reader::Member(_), Readers::Members) => true,
            (Reader::Member(asker), Readers::Only(readers)) => readers.contains(asker),
            (Reader::Unknown, Readers::Members) => collection.policy.anonymous,
            (_, Readers::Nobody | Readers::Only(_)) => false,
        };
        let may: Vec<&Collection> = self.0.iter().filter(may).collect();
        may.into_iter().filter(move |collection| {
            wanted.as_ref().is_none_or(|wanted| *wanted == collection.spec.name)
        })
    }
}

impl Collection {
    fn legs(
        &self,
        target: &QueryTarget,
        top_k: usize,
        terms: Option<&TermStats>,
        vectors: bool,
    ) -> Vec<Leg> {
        let mut legs = Vec::new();
        if !target.vector.is_empty() {
            let scored = self.records.iter().map(|content| {
                let vector = content.vector(self.spec.dimensions);
                let score = self.spec.metric.score(&target.vector, &vector) as f32;
                (*content, score, vectors.then_some(vector))
            });
            let hits = self.ranked(scored, top_k);
            let scale = ScoreScale::Vector {
                metric: self.spec.metric,
                dimensions: self.spec.dimensions,
                embedder: String::new(),
            };
            legs.push(Leg { kind: LegKind::Vector, scale, hits });
        }
        if !target.text.is_empty() {
            let own;
            let (scale, stats) = match terms {
                Some(terms) => (ScoreScale::TextGlobal, terms),
                None => {
                    own = self.terms(&target.text);
                    (ScoreScale::TextOwn, &own)
                }
            };
            let scored = self.records.iter().filter_map(|content| {
                let score = text_score(*content, &target.text, stats);
                (score > 0.0).then_some((*content, score, None))
            });
            let hits = self.ranked(scored, top_k);
            legs.push(Leg { kind: LegKind::Text, scale, hits });
        }
        legs
    }

    fn ranked(
        &self,
        scored: impl Iterator<Item = (Content, f32, Option<Vec<f32>>)>,
        top_k: usize,
    ) -> Vec<Hit> {
        let mut hits: Vec<Hit> = scored
            .filter_map(|(content, score, vector)| {
                Some(Hit {
                    collection: self.spec.name.clone(),
                    id: content.id()?,
                    score,
                    content: content.hash(),
                    title: String::new(),
                    text: String::new(),
                    metadata: BTreeMap::new(),
                    vector,
                })
            })
            .collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        hits.truncate(top_k);
        hits
    }

    fn terms(&self, text: &str) -> TermStats {
        let terms: BTreeSet<&str> = text.split_whitespace().collect();
        let holding =
            |term: &&str| self.records.iter().filter(|r| r.words().contains(term)).count();
        TermStats {
            records: self.records.len() as u64,
            tokens: 3 * self.records.len() as u64,
            terms: terms.iter().map(|term| ((*term).to_owned(), holding(term) as u64)).collect(),
        }
    }
}

/// A score by the rarity of the words found, as BM25 without lengths.
fn text_score(content: Content, text: &str, stats: &TermStats) -> f32 {
    let words = content.words();
    let terms: BTreeSet<&str> = text.split_whitespace().collect();
    let rarity = |term: &&str| {
        let known = stats.terms.iter().find(|(known, _)| known == term);
        let holding = known.map_or(0, |(_, count)| *count);
        (1.0 + (stats.records.saturating_sub(holding) as f32 + 0.5) / (holding as f32 + 0.5)).ln()
    };
    terms.iter().filter(|term| words.contains(term)).map(rarity).sum()
}

/// One result as the oracle expects it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expected {
    pub(crate) peer: PeerId,
    pub(crate) collection: CollectionName,
    pub(crate) id: RecordId,
    pub(crate) score: f64,
    pub(crate) also: BTreeSet<(PeerId, CollectionName, RecordId)>,
}

/// The exact merge of honest answers: pool, rank, fold copies; two parts are fused by rank.
pub(crate) fn exact(answers: &[(PeerId, Vec<Leg>)], top_k: usize) -> Vec<Expected> {
    let part = |kind: LegKind| -> Vec<Expected> {
        let mut pool: Vec<(f64, PeerId, &Hit)> = Vec::new();
        for (peer, legs) in answers {
            for leg in legs.iter().filter(|leg| leg.kind == kind) {
                pool.extend(leg.hits.iter().map(|hit| (f64::from(hit.score), *peer, hit)));
            }
        }
        folded(pool)
    };
    // A part in which nothing was found changes no score.
    let parts: Vec<Vec<Expected>> = [LegKind::Vector, LegKind::Text].map(part).into();
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let mut merged = match parts.as_slice() {
        [] => Vec::new(),
        [only] => only.clone(),
        several => fused(answers, several),
    };
    merged.truncate(top_k);
    merged
}

fn folded(mut pool: Vec<(f64, PeerId, &Hit)>) -> Vec<Expected> {
    pool.sort_by(|(a_score, a_peer, a), (b_score, b_peer, b)| {
        b_score
            .total_cmp(a_score)
            .then_with(|| (a_peer, &a.id, &a.collection).cmp(&(b_peer, &b.id, &b.collection)))
    });
    let mut kept: Vec<(ContentHash, Expected)> = Vec::new();
    for (score, peer, hit) in pool {
        match kept.iter_mut().find(|(content, _)| *content == hit.content) {
            Some((_, first)) => {
                let place = (peer, hit.collection.clone(), hit.id.clone());
                if place != (first.peer, first.collection.clone(), first.id.clone()) {
                    first.also.insert(place);
                }
            }
            None => kept.push((
                hit.content,
                Expected {
                    peer,
                    collection: hit.collection.clone(),
                    id: hit.id.clone(),
                    score,
                    also: BTreeSet::new(),
                },
            )),
        }
    }
    kept.into_iter().map(|(_, expected)| expected).collect()
}

/// Reciprocal rank fusion (Cormack, Clarke & Buettcher 2009) of rankings without copies.
fn fused(answers: &[(PeerId, Vec<Leg>)], parts: &[Vec<Expected>]) -> Vec<Expected> {
    let mut content: BTreeMap<(PeerId, CollectionName, RecordId), ContentHash> = BTreeMap::new();
    for (peer, legs) in answers {
        for hit in legs.iter().flat_map(|leg| &leg.hits) {
            content.insert((*peer, hit.collection.clone(), hit.id.clone()), hit.content);
        }
    }
    let of = |e: &Expected| content.get(&(e.peer, e.collection.clone(), e.id.clone())).copied();
    let mut scores: BTreeMap<ContentHash, f64> = BTreeMap::new();
    for part in parts {
        for (rank, expected) in part.iter().enumerate() {
            if let Some(hash) = of(expected) {
                *scores.entry(hash).or_default() += 1.0 / (61.0 + rank as f64);
            }
        }
    }
    let mut merged: Vec<(ContentHash, Expected)> = Vec::new();
    let mut heads: Vec<&Expected> = parts.iter().flatten().collect();
    heads.sort_by(|a, b| (a.peer, &a.id, &a.collection).cmp(&(b.peer, &b.id, &b.collection)));
    for head in heads {
        let Some(hash) = of(head) else { continue };
        let place = (head.peer, head.collection.clone(), head.id.clone());
        match merged.iter_mut().find(|(known, _)| *known == hash) {
            Some((_, first)) => {
                first.also.extend(head.also.iter().cloned().chain([place]));
                first.also.remove(&(first.peer, first.collection.clone(), first.id.clone()));
            }
            None => {
                let score = scores.get(&hash).copied().unwrap_or_default();
                merged.push((hash, Expected { score, ..head.clone() }));
            }
        }
    }
    let mut merged: Vec<Expected> = merged.into_iter().map(|(_, expected)| expected).collect();
    merged.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| (a.peer, &a.id, &a.collection).cmp(&(b.peer, &b.id, &b.collection)))
    });
    merged
}

/// A query's target, drawn: by vector, by words or by both.
pub(crate) fn draw_target(rng: &mut Rng) -> QueryTarget {
    let vector =
        || -> Vec<f32> { (0..DIMENSIONS).map(|i| [1.0, -2.0, 0.5][i as usize % 3]).collect() };
    let turn = rng.below(3) as f32;
    let mut text = String::new();
    for _ in 0..=rng.below(2) {
        text.push_str(WORDS[rng.below(WORDS.len())]);
        text.push(' ');
    }
    let text = text.trim().to_owned();
    let vector: Vec<f32> = vector().into_iter().map(|x| x + turn).collect();
    match rng.below(3) {
        0 => QueryTarget::vector(vector),
        1 => QueryTarget::text(text),
        _ => QueryTarget { vector, text, embedder: String::new() },
    }
}

/// A collection that a query may name.
pub(crate) fn draw_collection(rng: &mut Rng) -> Option<CollectionName> {
    if rng.chance(700) {
        return None;
    }
    rng.pick(&NAMES).and_then(|name| CollectionName::new(*name).ok())
}

const NAMES: [&str; 3] = ["notes", "papers", "private"];
const WORDS: [&str; 7] = ["moth", "lamp", "river", "stone", "cedar", "wind", "salt"];
const DIMENSIONS: u32 = 3;
const CONTENTS: usize = 40;
