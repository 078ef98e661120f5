//! What comes back: hits of one source, and the merged answer with one status per source.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bounded;
use crate::codec::{CodecError, bound, invalid};
use crate::id::PeerId;
use crate::limits::{
    DIMENSIONS_MAX, EMBEDDER_BYTES_MAX, HIT_TEXT_BYTES_MAX, METADATA_FIELDS_MAX, TITLE_BYTES_MAX,
    TOP_K_MAX,
};
use crate::name::{CollectionName, NodeName, RecordId};
use crate::query::Metric;
use crate::record::{ContentHash, MetadataValue, check_metadata};

/// One result of one source for one leg of a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// The collection it stands in.
    pub collection: CollectionName,
    /// The record's id there.
    pub id: RecordId,
    /// Higher is better; finite. Its meaning is the leg's [`ScoreScale`].
    pub score: f32,
    /// Hash of the whole record's title and text.
    pub content: ContentHash,
    /// Title, where the source's policy shows it.
    pub title: String,
    /// The beginning of the text, at most [`HIT_TEXT_BYTES_MAX`] bytes, where the policy shows it.
    pub text: String,
    /// Metadata, where the policy shows it.
    #[serde(deserialize_with = "bounded::map::<_, _, _, METADATA_FIELDS_MAX>")]
    pub metadata: BTreeMap<String, MetadataValue>,
    /// The record's vector, where the policy shows it: the asker then recomputes the score.
    #[serde(deserialize_with = "bounded::optional_list::<_, _, DIMENSIONS_MAX>")]
    pub vector: Option<Vec<f32>>,
}

impl Hit {
    /// Checks every bound and that the numbers are finite.
    pub fn check(&self) -> Result<(), CodecError> {
        bound(self.title.len(), TITLE_BYTES_MAX)?;
        bound(self.text.len(), HIT_TEXT_BYTES_MAX)?;
        check_metadata(&self.metadata)?;
        if !self.score.is_finite() {
            return Err(invalid("a score must be finite"));
        }
        if let Some(vector) = &self.vector {
            bound(vector.len(), DIMENSIONS_MAX)?;
            if vector.iter().any(|x| !x.is_finite()) {
                return Err(invalid("a vector's components must be finite"));
            }
        }
        Ok(())
    }
}

/// Which part of a query a list of hits answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LegKind {
    /// Nearness to the query's vector.
    Vector,
    /// Words of the query's text.
    Text,
}

/// What a leg's scores mean. Scores of one scale are compared; different scales are fused by rank.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ScoreScale {
    /// Exact values of a metric over vectors of one embedder.
    Vector {
        /// The metric.
        metric: Metric,
        /// Dimensions.
        dimensions: u32,
        /// The embedder, empty when undeclared.
        embedder: String,
    },
    /// BM25 computed with the term statistics of all sources together.
    TextGlobal,
    /// BM25 by one source's own statistics: comparable with nothing else.
    TextOwn,
}

/// One source's ranked hits for one leg of the query, best first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leg {
    /// Which part of the query it answers.
    pub kind: LegKind,
    /// What its scores mean.
    pub scale: ScoreScale,
    /// Best first, at most as many as asked.
    #[serde(deserialize_with = "bounded::list::<_, _, TOP_K_MAX>")]
    pub hits: Vec<Hit>,
}

impl Leg {
    /// Checks bounds and that a leg's scale fits its kind.
    pub fn check(&self) -> Result<(), CodecError> {
        bound(self.hits.len(), TOP_K_MAX)?;
        let kind = match &self.scale {
            ScoreScale::Vector { dimensions, embedder, .. } => {
                bound(*dimensions as usize, DIMENSIONS_MAX)?;
                bound(embedder.len(), EMBEDDER_BYTES_MAX)?;
                LegKind::Vector
            }
            ScoreScale::TextGlobal | ScoreScale::TextOwn => LegKind::Text,
        };
        if kind != self.kind {
            return Err(invalid("a leg's scale must fit its kind"));
        }
        self.hits.iter().try_for_each(Hit::check)
    }
}

/// Where a result stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Provenance {
    /// The member that holds it.
    pub peer: PeerId,
    /// That member's name.
    pub source: NodeName,
    /// The collection.
    pub collection: CollectionName,
    /// The record.
    pub id: RecordId,
}

/// One merged result: the best copy, and where else the same content stands.
#[derive(Clone, Debug, PartialEq)]
pub struct FederatedHit {
    /// Where the best copy stands.
    pub from: Provenance,
    /// Cosine similarity for a query by vector; otherwise as [`ScoreScale`], or the fused rank
    /// score when several scales were fused.
    pub score: f64,
    /// Hash of its content.
    pub content: ContentHash,
    /// Its title.
    pub title: String,
    /// The beginning of its text.
    pub text: String,
    /// Its metadata.
    pub metadata: BTreeMap<String, MetadataValue>,
    /// Other places with the same content, in order.
    pub also: Vec<Provenance>,
}

/// How a source took part in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceStatus {
    /// It answered, perhaps with no results.
    Answered,
    /// It chose not to: its policy, no such collection, another embedder, or too busy.
    Declined,
    /// It did not answer by the deadline.
    Timeout,
    /// No connection could be made or kept.
    Unreachable,
    /// It refused this node: unknown, revoked, or a token that is not good there.
    Refused,
    /// It answered with something that is wrong.
    Failed,
}

/// One source's part in a query.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceReport {
    /// The member.
    pub peer: PeerId,
    /// Its name.
    pub source: NodeName,
    /// How it took part.
    pub status: SourceStatus,
    /// Results it sent.
    pub count: usize,
    /// From the start of the query to its answer.
    pub elapsed: Duration,
    /// Why, when it did not answer, or what is missing from its answer; empty otherwise.
    pub detail: String,
    /// Its answer as it signed it, where the answer came through relays.
    pub signed: Option<SignedAnswer>,
}

/// A source's answer as it signed it, encoded: whoever has the source's key can check it.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedAnswer(pub Vec<u8>);

impl fmt::Debug for SignedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedAnswer({} bytes)", self.0.len())
    }
}

/// A federated query's whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct FederatedResult {
    /// Merged, best first; ties by (peer, id).
    pub results: Vec<FederatedHit>,
    /// Every source that was asked, by peer id.
    pub sources: Vec<SourceReport>,
    /// Whether every source answered.
    pub complete: bool,
    /// From the start to the end.
    pub elapsed: Duration,
}

impl FederatedResult {
    /// Sources that answered.
    pub fn answered(&self) -> usize {
        self.sources.iter().filter(|s| s.status == SourceStatus::Answered).count()
    }
}
