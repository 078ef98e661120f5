//! What is asked: of whom, of what, and within which bounds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bounded;
use crate::codec::{CodecError, bound, invalid};
use crate::limits::{
    DEADLINE_MILLIS_MAX, DEADLINE_MILLIS_MIN, DIMENSIONS_MAX, EMBEDDER_BYTES_MAX,
    FILTER_CONDITIONS_MAX, HOPS_MAX, MEMBERS_MAX, METADATA_VALUE_BYTES_MAX, ONION_MIX_MILLIS_MAX,
    QUERY_TERMS_MAX, QUERY_TEXT_BYTES_MAX, TOP_K_MAX,
};
use crate::name::CollectionName;
use crate::record::MetadataValue;

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FederationScope {
    /// This node alone.
    Local,
    /// This node and every member it can reach itself; each learns who asks.
    Direct,
    /// This node and every member that answers through relays; each learns the last relay, not who
    /// asks.
    Global {
        /// Members that the question passes on its way to each, the one that answers included: 1 to
        /// [`HOPS_MAX`]. With 1 there is no relay, and who answers cannot tell the asker from one.
        max_hops: u8,
    },
}

/// How vectors are compared. A higher score is always the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Cosine similarity, -1 to 1.
    Cosine,
    /// Inner product.
    Dot,
    /// Euclidean distance, negated so that a higher score is nearer.
    L2,
}

impl Metric {
    /// The metric of two vectors of one length, in double precision: what a merger recomputes.
    /// Substrates compute in single precision; the two agree within rounding. A zero vector has
    /// cosine 0.
    pub fn score(self, a: &[f32], b: &[f32]) -> f64 {
        let dot = |x: &[f32], y: &[f32]| -> f64 {
            x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        match self {
            Self::Dot => dot(a, b),
            Self::Cosine => {
                let norms = (dot(a, a) * dot(b, b)).sqrt();
                if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
            }
            Self::L2 => {
                let square = |(x, y): (&f32, &f32)| (f64::from(*x) - f64::from(*y)).powi(2);
                -a.iter().zip(b).map(square).sum::<f64>().sqrt()
            }
        }
    }
}

/// What is looked for: nearness to a vector, words of a text, or both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueryTarget {
    /// Finite components; empty when the query is by text alone.
    #[serde(deserialize_with = "bounded::list::<_, _, DIMENSIONS_MAX>")]
    pub vector: Vec<f32>,
    /// Words; empty when the query is by vector alone.
    pub text: String,
    /// Which model made the vector; empty when unknown. A source with another model declines.
    pub embedder: String,
}

impl QueryTarget {
    /// A query by vector.
    pub fn vector(vector: Vec<f32>) -> Self {
        Self { vector, text: String::new(), embedder: String::new() }
    }

    /// A query by text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { vector: Vec::new(), text: text.into(), embedder: String::new() }
    }

    /// Checks bounds and refuses components that are not finite.
    pub fn check(&self) -> Result<(), CodecError> {
        bound(self.vector.len(), DIMENSIONS_MAX)?;
        bound(self.text.len(), QUERY_TEXT_BYTES_MAX)?;
        bound(self.embedder.len(), EMBEDDER_BYTES_MAX)?;
        if self.vector.is_empty() && self.text.trim().is_empty() {
            return Err(invalid("a query needs a text or a vector"));
        }
        match self.vector.iter().position(|x| !x.is_finite()) {
            Some(at) => Err(invalid(format!("component {at} of the query vector is not finite"))),
            None => Ok(()),
        }
    }
}

/// Conditions on metadata, all of which must hold. Flat on purpose: wire types do not recurse.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// Every condition must hold; an empty filter admits every record.
    #[serde(deserialize_with = "bounded::list::<_, _, FILTER_CONDITIONS_MAX>")]
    pub all: Vec<Condition>,
}

impl Filter {
    /// Checks bounds.
    pub fn check(&self) -> Result<(), CodecError> {
        bound(self.all.len(), FILTER_CONDITIONS_MAX)?;
        for condition in &self.all {
            bound(condition.field.len(), METADATA_VALUE_BYTES_MAX)?;
            condition.value.check()?;
        }
        Ok(())
    }
}

/// One condition on one metadata field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Dotted key of the field.
    pub field: String,
    /// The comparison.
    pub op: FilterOp,
    /// What it is compared with.
    pub value: MetadataValue,
}

/// How a field is compared with a condition's value. A missing field fails every comparison but
/// [`FilterOp::Ne`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilterOp {
    /// Equal; for a list field, one of its items is equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less than.
    Lt,
    /// At most.
    Le,
    /// Greater than.
    Gt,
    /// At least.
    Ge,
    /// Equal to one of the items of a list value.
    In,
}

/// A whole federated query as its asker states it.
#[derive(Clone, Debug, PartialEq)]
pub struct QuerySpec {
    /// Who is asked.
    pub scope: FederationScope,
    /// What is looked for.
    pub target: QueryTarget,
    /// The collection asked at every source; `None` for all that each source offers.
    pub collection: Option<CollectionName>,
    /// Conditions on metadata.
    pub filter: Filter,
    /// Results wanted, 1 to [`TOP_K_MAX`].
    pub top_k: usize,
    /// When the answer is due, counted from the start.
    pub deadline: Duration,
    /// Sources that must answer for the query to count as a success.
    pub min_sources: usize,
    /// How long each member on a path holds the question back, on average, so that what comes in and
    /// what goes out cannot be matched by time; zero for not at all. For [`FederationScope::Global`].
    pub mix: Duration,
}

impl QuerySpec {
    /// A direct query with the usual bounds: ten results, two seconds, one source.
    pub fn new(scope: FederationScope, target: QueryTarget) -> Self {
        Self {
            scope,
            target,
            collection: None,
            filter: Filter::default(),
            top_k: 10,
            deadline: Duration::from_secs(2),
            min_sources: 1,
            mix: Duration::ZERO,
        }
    }

    /// Checks every bound.
    pub fn check(&self) -> Result<(), CodecError> {
        self.target.check()?;
        self.filter.check()?;
        check_top_k(self.top_k)?;
        bound(self.min_sources, MEMBERS_MAX)?;
        if let FederationScope::Global { max_hops } = self.scope
            && !(1..=HOPS_MAX).contains(&max_hops)
        {
            return Err(invalid(format!("max_hops must be 1 to {HOPS_MAX}")));
        }
        if self.mix > Duration::from_millis(ONION_MIX_MILLIS_MAX) {
            return Err(invalid(format!(
                "mixing must hold back {ONION_MIX_MILLIS_MAX} ms at most"
            )));
        }
        let millis = self.deadline.as_millis();
        if !(u128::from(DEADLINE_MILLIS_MIN)..=u128::from(DEADLINE_MILLIS_MAX)).contains(&millis) {
            return Err(invalid(format!(
                "the deadline must be {DEADLINE_MILLIS_MIN} to {DEADLINE_MILLIS_MAX} ms"
            )));
        }
        Ok(())
    }
}

/// Refuses a number of results that is zero or over its bound.
pub fn check_top_k(top_k: usize) -> Result<(), CodecError> {
    if (1..=TOP_K_MAX).contains(&top_k) {
        Ok(())
    } else {
        Err(invalid(format!("top_k must be 1 to {TOP_K_MAX}, not {top_k}")))
    }
}

/// How often the terms of a text query occur, over one collection or summed over many: what BM25
/// needs so that scores of different sources are comparable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermStats {
    /// Records counted.
    pub records: u64,
    /// Tokens in all of them.
    pub tokens: u64,
    /// Per term of the query, as the source's tokenizer split it, the records that contain it.
    /// Sorted by term, without repeats.
    #[serde(deserialize_with = "bounded::list::<_, _, QUERY_TERMS_MAX>")]
    pub terms: Vec<(String, u64)>,
}

impl TermStats {
    /// Adds another source's counts. Commutative and associative; saturates.
    pub fn add(&mut self, other: &Self) {
        self.records = self.records.saturating_add(other.records);
        self.tokens = self.tokens.saturating_add(other.tokens);
        for (term, count) in &other.terms {
            match self.terms.binary_search_by(|(known, _)| known.cmp(term)) {
                Ok(at) => self.terms[at].1 = self.terms[at].1.saturating_add(*count),
                Err(at) => self.terms.insert(at, (term.clone(), *count)),
            }
        }
        self.terms.truncate(QUERY_TERMS_MAX);
    }

    /// Checks bounds, order and that no term occurs in more records than there are.
    pub fn check(&self) -> Result<(), CodecError> {
        bound(self.terms.len(), QUERY_TERMS_MAX)?;
        if !self.terms.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(invalid("terms must be sorted and without repeats"));
        }
        for (term, count) in &self.terms {
            bound(term.len(), QUERY_TEXT_BYTES_MAX)?;
            if *count > self.records {
                return Err(invalid("a term occurs in more records than there are"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_out_of_bounds_is_refused() {
        let good = QuerySpec::new(FederationScope::Direct, QueryTarget::text("moth"));
        assert_eq!(good.check(), Ok(()));
        let refused = |change: fn(&mut QuerySpec)| {
            let mut spec = good.clone();
            change(&mut spec);
            spec.check().is_err()
        };
        assert!(refused(|q| q.top_k = 0));
        assert!(refused(|q| q.top_k = usize::MAX));
        assert!(refused(|q| q.deadline = Duration::ZERO));
        assert!(refused(|q| q.deadline = Duration::MAX));
        assert!(refused(|q| q.target.text = " ".into()));
        assert!(refused(|q| q.target.vector = vec![1.0, f32::NAN]));
        assert!(refused(|q| q.target.vector = vec![f32::INFINITY]));
        assert!(refused(|q| q.mix = Duration::from_millis(ONION_MIX_MILLIS_MAX + 1)));
        assert!(refused(|q| q.scope = FederationScope::Global { max_hops: 0 }));
        assert!(refused(|q| q.scope = FederationScope::Global { max_hops: 6 }));
    }

    #[test]
    fn term_statistics_add_up_in_any_order() {
        let one = TermStats { records: 3, tokens: 30, terms: vec![("a".into(), 2)] };
        let two =
            TermStats { records: 5, tokens: 10, terms: vec![("a".into(), 1), ("b".into(), 5)] };
        let mut left = one.clone();
        left.add(&two);
        let mut right = two;
        right.add(&one);
        assert_eq!(left, right);
        assert_eq!(left.terms, vec![("a".into(), 3), ("b".into(), 5)]);
        assert_eq!(left.check(), Ok(()));
    }
}
