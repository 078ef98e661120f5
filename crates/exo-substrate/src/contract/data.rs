//! Records, requests and the plain scan that the behaviours use.

use std::collections::BTreeMap;

use exo_types::{
    CollectionName, CollectionSpec, ContentHash, Filter, Leg, MetadataValue, Metric, QueryTarget,
    Record, RecordId,
};

use crate::filter;
use crate::metric;
use crate::substrate::{NewRecord, SearchAnswer, SearchRequest};

/// A stream of numbers that is the same for the same seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `end`, without it.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end.max(1)
    }

    /// A vector whose components lie between -1 and 1.
    pub fn vector(&mut self, dimensions: usize) -> Vec<f32> {
        (0..dimensions).map(|_| (self.below(2001) as f32 - 1000.0) / 1000.0).collect()
    }
}

/// Scores every admitted record with a vector; best first, ties by id.
pub fn plain_scan(
    records: &[NewRecord],
    metric: Metric,
    query: &[f32],
    filter: &Filter,
    top_k: usize,
) -> Vec<(f32, RecordId)> {
    let mut scores: Vec<_> = records
        .iter()
        .filter(|new| filter::admits(filter, &new.record.metadata))
        .filter_map(|new| {
            let vector = new.vector.as_deref()?;
            Some((metric::score(metric, query, vector), new.record.id.clone()))
        })
        .collect();
    scores.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    scores.truncate(top_k);
    scores
}

pub(super) fn name(text: &str) -> CollectionName {
    CollectionName::new(text).expect("a good name")
}

pub(super) fn id(text: &str) -> RecordId {
    RecordId::new(text).expect("a good id")
}

pub(super) fn spec(text: &str, dimensions: u32, metric: Metric) -> CollectionSpec {
    CollectionSpec { name: name(text), dimensions, metric, embedder: "model-a".into() }
}

/// A record; its content hash is its text's length and first bytes, enough to tell them apart.
pub(super) fn record(id_text: &str, text: &str, vector: Option<Vec<f32>>) -> NewRecord {
    let mut content = [0; 32];
    for (to, from) in content.iter_mut().zip(text.bytes().chain([text.len() as u8])) {
        *to = from;
    }
    let record = Record {
        id: id(id_text),
        title: format!("title of {id_text}"),
        text: text.into(),
        metadata: BTreeMap::new(),
    };
    NewRecord { record, vector, content: ContentHash(content) }
}

pub(super) fn with(mut new: NewRecord, field: &str, value: MetadataValue) -> NewRecord {
    new.record.metadata.insert(field.into(), value);
    new
}

pub(super) fn by_vector(vector: &[f32], top_k: usize) -> SearchRequest {
    SearchRequest { top_k, ..SearchRequest::new(QueryTarget::vector(vector.to_vec())) }
}

pub(super) fn by_text(text: &str, top_k: usize) -> SearchRequest {
    SearchRequest { top_k, ..SearchRequest::new(QueryTarget::text(text)) }
}

/// The one leg of an answer.
pub(super) fn only_leg(answer: SearchAnswer) -> Leg {
    let [leg] = <[Leg; 1]>::try_from(answer.legs).expect("one leg");
    leg.check().expect("a leg within its bounds");
    leg
}

pub(super) fn ids(leg: &Leg) -> Vec<&str> {
    leg.hits.iter().map(|hit| hit.id.as_str()).collect()
}

pub(super) fn scores(leg: &Leg) -> Vec<(f32, RecordId)> {
    leg.hits.iter().map(|hit| (hit.score, hit.id.clone())).collect()
}
