//! Queries and their answers.

use std::time::Duration;

use exo_types::{
    CollectionName, Condition, FederatedHit, FederatedResult, FederationScope, Filter, FilterOp,
    NodeName, PeerId, Provenance, QuerySpec, QueryTarget, RecordId, SourceReport, SourceStatus,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::{MetadataDoc, metadata_doc, metadata_value};
use crate::span::millis;

/// A query as it is posted. At least one of text, vector and like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueryRequest {
    /// Words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) text: String,
    /// Finite components.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) vector: Vec<f32>,
    /// The vector of a record of this node instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) like: Option<LikeDoc>,
    /// Which model made the vector.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) embedder: String,
    /// Who is asked; direct unless given.
    #[serde(default)]
    pub(crate) scope: ScopeDoc,
    /// Members that the question passes to each source, itself included, for the global scope; three
    /// unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_hops: Option<u8>,
    /// The collection asked at every source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) collection: Option<CollectionName>,
    /// Conditions on metadata, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) filter: Vec<ConditionDoc>,
    /// Results wanted; ten unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) top_k: Option<usize>,
    /// When the answer is due, milliseconds; 2,000 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deadline_ms: Option<u64>,
    /// Sources that must answer for it to be a success; one unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) min_sources: Option<usize>,
    /// How long each member on a path holds the question back, on average, milliseconds, for the global
    /// scope; not at all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mix_ms: Option<u64>,
}

/// A record whose vector is asked with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LikeDoc {
    /// Its id.
    pub(crate) id: RecordId,
    /// Its collection; all of this node's are looked through unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) collection: Option<CollectionName>,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ScopeDoc {
    /// This node alone.
    Local,
    /// Every member that this node reaches itself.
    #[default]
    Direct,
    /// Every member through relays; none learns who asks.
    Global,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConditionDoc {
    /// Dotted key of the field.
    pub(crate) field: String,
    /// The comparison.
    pub(crate) op: FilterOp,
    /// A scalar, or a list of texts.
    pub(crate) value: Value,
}

/// One query's answer, `exo.query/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct QueryDoc {
    /// Always `exo.query/1`.
    pub(crate) schema: String,
    /// Row of the query file; 0 for a single query.
    pub(crate) query: usize,
    /// Merged results, best first.
    pub(crate) results: Vec<ResultDoc>,
    /// One status per source.
    pub(crate) sources: Vec<SourceDoc>,
    /// Whether every source answered.
    pub(crate) complete: bool,
    /// From start to end, milliseconds.
    pub(crate) elapsed_ms: f64,
}

/// One result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ResultDoc {
    /// The member that holds the best copy.
    pub(crate) peer: PeerId,
    /// That member's name.
    pub(crate) source: NodeName,
    /// The collection.
    pub(crate) collection: CollectionName,
    /// The record.
    pub(crate) id: RecordId,
    /// Higher is better.
    pub(crate) score: f64,
    /// Its title.
    pub(crate) title: String,
    /// The beginning of its text.
    pub(crate) text: String,
    /// Its metadata.
    #[serde(default)]
    pub(crate) metadata: MetadataDoc,
    /// Other places with the same content.
    #[serde(default)]
    pub(crate) also: Vec<PlaceDoc>,
}

/// Where a copy stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlaceDoc {
    /// The member.
    pub(crate) peer: PeerId,
    /// Its name.
    pub(crate) source: NodeName,
    /// The collection.
    pub(crate) collection: CollectionName,
    /// The record.
    pub(crate) id: RecordId,
}

/// One source's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SourceDoc {
    /// The member.
    pub(crate) peer: PeerId,
    /// Its name.
    pub(crate) source: NodeName,
    /// How it took part.
    pub(crate) status: SourceStatus,
    /// Results it sent.
    pub(crate) count: usize,
    /// From the start of the query to its answer, milliseconds.
    pub(crate) elapsed_ms: f64,
    /// Why it did not answer, or empty.
    pub(crate) detail: String,
}

impl QueryRequest {
    /// The query these fields state. `like` is resolved by the node and given as `target`.
    pub(crate) fn spec(self, like: Option<QueryTarget>) -> Result<QuerySpec, String> {
        let mut target = like.unwrap_or_else(|| QueryTarget::vector(self.vector));
        target.text = self.text;
        if !self.embedder.is_empty() {
            target.embedder = self.embedder;
        }
        if self.mix_ms.is_some() && self.scope != ScopeDoc::Global {
            return Err("mix_ms goes with the global scope alone".to_owned());
        }
        let scope = match (self.scope, self.max_hops) {
            (ScopeDoc::Global, hops) => {
                FederationScope::Global { max_hops: hops.unwrap_or(USUAL_HOPS) }
            }
            (_, Some(_)) => return Err("max_hops goes with the global scope alone".to_owned()),
            (ScopeDoc::Local, None) => FederationScope::Local,
            (ScopeDoc::Direct, None) => FederationScope::Direct,
        };
        let mut spec = QuerySpec::new(scope, target);
        spec.collection = self.collection;
        spec.filter = Filter {
            all: self.filter.into_iter().map(ConditionDoc::condition).collect::<Result<_, _>>()?,
        };
        spec.top_k = self.top_k.unwrap_or(spec.top_k);
        spec.deadline = self.deadline_ms.map_or(spec.deadline, Duration::from_millis);
        spec.min_sources = self.min_sources.unwrap_or(spec.min_sources);
        spec.mix = self.mix_ms.map_or(spec.mix, Duration::from_millis);
        Ok(spec)
    }
}

/// Members on a path unless the asker says otherwise: two relays, neither of which knows both ends.
const USUAL_HOPS: u8 = 3;

impl ConditionDoc {
    fn condition(self) -> Result<Condition, String> {
        let value = metadata_value(self.value)
            .map_err(|reason| format!("filter on {:?}: {reason}", self.field))?;
        Ok(Condition { field: self.field, op: self.op, value })
    }
}

impl QueryDoc {
    /// The shape of an answer.
    pub(crate) fn new(query: usize, result: FederatedResult) -> Self {
        Self {
            schema: "exo.query/1".to_owned(),
            query,
            results: result.results.into_iter().map(ResultDoc::from).collect(),
            sources: result.sources.into_iter().map(SourceDoc::from).collect(),
            complete: result.complete,
            elapsed_ms: millis(result.elapsed),
        }
    }

    /// Sources that answered.
    pub(crate) fn answered(&self) -> usize {
        self.sources.iter().filter(|source| source.status == SourceStatus::Answered).count()
    }
}

impl From<FederatedHit> for ResultDoc {
    fn from(hit: FederatedHit) -> Self {
        Self {
            peer: hit.from.peer,
            source: hit.from.source,
            collection: hit.from.collection,
            id: hit.from.id,
            score: hit.score,
            title: hit.title,
            text: hit.text,
            metadata: metadata_doc(&hit.metadata),
            also: hit.also.into_iter().map(PlaceDoc::from).collect(),
        }
    }
}

impl From<Provenance> for PlaceDoc {
    fn from(place: Provenance) -> Self {
        Self { peer: place.peer, source: place.source, collection: place.collection, id: place.id }
    }
}

impl From<SourceReport> for SourceDoc {
    fn from(report: SourceReport) -> Self {
        Self {
            peer: report.peer,
            source: report.source,
            status: report.status,
            count: report.count,
            elapsed_ms: millis(report.elapsed),
            detail: report.detail,
        }
    }
}

/// A status as it is printed.
pub(crate) const fn status_name(status: SourceStatus) -> &'static str {
    match status {
        SourceStatus::Answered => "answered",
        SourceStatus::Declined => "declined",
        SourceStatus::Timeout => "timeout",
        SourceStatus::Unreachable => "unreachable",
        SourceStatus::Refused => "refused",
        SourceStatus::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use exo_types::{ContentHash, MetadataValue};

    use super::*;

    fn answer() -> FederatedResult {
        let place = |n: u8, id: &str| Provenance {
            peer: PeerId::new([n; 32]),
            source: NodeName::new(format!("node{n}")).expect("name"),
            collection: CollectionName::new("c").expect("name"),
            id: RecordId::new(id).expect("id"),
        };
        FederatedResult {
            results: vec![FederatedHit {
                from: place(1, "foldoc:12"),
                score: 0.83,
                content: ContentHash([0; 32]),
                title: "T".into(),
                text: "X".into(),
                metadata: BTreeMap::from([("year".into(), MetadataValue::Int(1911))]),
                also: vec![place(2, "copy:1")],
            }],
            sources: vec![SourceReport {
                peer: PeerId::new([1; 32]),
                source: NodeName::new("node1").expect("name"),
                status: SourceStatus::Answered,
                count: 10,
                elapsed: Duration::from_micros(3_100),
                detail: String::new(),
                signed: None,
            }],
            complete: true,
            elapsed: Duration::from_micros(9_800),
        }
    }

    #[test]
    fn the_answer_has_its_frozen_shape() {
        let (one, two) = (PeerId::new([1; 32]), PeerId::new([2; 32]));
        let expected = format!(
            concat!(
                r#"{{"schema":"exo.query/1","query":7,"results":[{{"peer":"{one}","source":"node1","#,
                r#""collection":"c","id":"foldoc:12","score":0.83,"title":"T","text":"X","#,
                r#""metadata":{{"year":1911}},"also":[{{"peer":"{two}","source":"node2","#,
                r#""collection":"c","id":"copy:1"}}]}}],"sources":[{{"peer":"{one}","source":"node1","#,
                r#""status":"answered","count":10,"elapsed_ms":3.1,"detail":""}}],"#,
                r#""complete":true,"elapsed_ms":9.8}}"#
            ),
            one = one,
            two = two
        );
        let doc = QueryDoc::new(7, answer());
        assert_eq!(serde_json::to_string(&doc).expect("json"), expected);
        assert_eq!(doc.answered(), 1);
        assert_eq!(serde_json::from_str::<QueryDoc>(&expected).expect("parses"), doc);
    }

    #[test]
    fn a_request_states_a_query_with_the_usual_bounds() {
        let request: QueryRequest = serde_json::from_str(
            r#"{"text":"moth","filter":[{"field":"year","op":"ge","value":1900}]}"#,
        )
        .expect("parses");
        let spec = request.spec(None).expect("states a query");
        assert_eq!((spec.top_k, spec.deadline), (10, Duration::from_secs(2)));
        assert_eq!(spec.scope, FederationScope::Direct);
        assert_eq!(spec.filter.all[0].value, MetadataValue::Int(1900));
        assert_eq!(spec.check(), Ok(()));
    }

    #[test]
    fn what_a_query_cannot_mean_is_refused() {
        for text in [
            r#"{"txt":"moth"}"#,
            r#"{"text":"moth","top_k":-1}"#,
            r#"{"text":"moth","top_k":1.5}"#,
            r#"{"vector":[null]}"#,
            r#"{"vector":[NaN]}"#,
            r#"{"vector":[1e999]}"#,
            r#"{"text":"moth","scope":"everywhere"}"#,
            r#"{"text":"moth","filter":[{"field":"a","op":"like","value":1}]}"#,
            r#"{"like":{"id":"a\u0000b"}}"#,
        ] {
            assert!(serde_json::from_str::<QueryRequest>(text).is_err(), "{text}");
        }
        let overflow: QueryRequest = serde_json::from_str(r#"{"vector":[1e300]}"#).expect("json");
        assert!(overflow.spec(None).expect("states").check().is_err());
        let mixed = QueryRequest { mix_ms: Some(2), ..QueryRequest::default() };
        assert!(mixed.spec(None).is_err());
        let hops = QueryRequest { max_hops: Some(2), ..QueryRequest::default() };
        assert!(hops.spec(None).is_err());
    }

    #[test]
    fn vectors_keep_every_bit_through_json() {
        let mut state = 1_u32;
        for _ in 0..10_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = f32::from_bits(state);
            if value.is_finite() {
                let text = serde_json::to_string(&value).expect("json");
                let back: f32 = serde_json::from_str(&text).expect("parses");
                assert_eq!(back.to_bits(), value.to_bits(), "{text}");
            }
        }
    }
}
