//! Collections and who may read them.

use std::collections::BTreeSet;

use exo_federation::view::{CollectionPolicy, CollectionView, FieldSet, Readers};
use exo_types::limits::TOP_K_MAX;
use exo_types::{CollectionInfo, CollectionName, CollectionSpec, Metric, PeerId};
use serde::{Deserialize, Serialize};

/// A collection and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SpecDoc {
    /// Its name.
    pub(crate) name: CollectionName,
    /// Dimensions of its vectors; 0 when it holds text alone.
    pub(crate) dimensions: u32,
    /// How vectors are compared.
    pub(crate) metric: Metric,
    /// Which model made them; empty when undeclared.
    pub(crate) embedder: String,
    /// Records in it.
    pub(crate) records: u64,
    /// Records that carry a vector.
    pub(crate) vectors: u64,
}

/// A collection with its policy, `exo.collection/1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CollectionDoc {
    /// The collection.
    #[serde(flatten)]
    pub(crate) spec: SpecDoc,
    /// Who may read what of it.
    pub(crate) policy: PolicyDoc,
}

/// Collections, `exo.collections/1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CollectionsDoc {
    /// Every collection of the node.
    pub(crate) collections: Vec<CollectionDoc>,
}

/// A new collection.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CollectionRequest {
    /// Its name.
    pub(crate) name: CollectionName,
    /// Dimensions of its vectors; 0 for text alone.
    #[serde(default)]
    pub(crate) dimensions: u32,
    /// How vectors are compared; cosine unless given.
    #[serde(default = "cosine")]
    pub(crate) metric: Metric,
    /// Which model made them.
    #[serde(default)]
    pub(crate) embedder: String,
    /// Who may read it; every member unless given.
    #[serde(default)]
    pub(crate) policy: PolicyDoc,
}

/// Who may read a collection, and what leaves the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyDoc {
    /// `"members"`, `"nobody"`, or the ids of those who may.
    #[serde(default = "members")]
    pub(crate) readers: ReadersDoc,
    /// Which of title, text, metadata and vector leave the node.
    #[serde(default = "usual_fields")]
    pub(crate) fields: BTreeSet<Field>,
    /// Results one query of a member gets at most.
    #[serde(default = "usual_results")]
    pub(crate) max_results: u32,
    /// Whether a member that does not say who it is gets answers, where every member may read.
    #[serde(default)]
    pub(crate) anonymous: AnonymousDoc,
}

/// Whether questions through relays are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AnonymousDoc {
    /// They are.
    #[default]
    Allow,
    /// They are not.
    Deny,
}

/// Who may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum ReadersDoc {
    /// All or nobody.
    Named(ReadersName),
    /// These members.
    Only(BTreeSet<PeerId>),
}

/// All members, or nobody but the node's own users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReadersName {
    /// Every member.
    Members,
    /// Nobody but the node's own users.
    Nobody,
}

/// A part of a record that a policy lets out or keeps.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Field {
    /// The title.
    Title,
    /// The beginning of the text.
    Text,
    /// The metadata.
    Metadata,
    /// The vector, with which the asker recomputes the score.
    Vector,
}

impl Default for PolicyDoc {
    fn default() -> Self {
        Self {
            readers: members(),
            fields: usual_fields(),
            max_results: usual_results(),
            anonymous: AnonymousDoc::Allow,
        }
    }
}

impl From<&CollectionInfo> for SpecDoc {
    fn from(info: &CollectionInfo) -> Self {
        Self {
            name: info.spec.name.clone(),
            dimensions: info.spec.dimensions,
            metric: info.spec.metric,
            embedder: info.spec.embedder.clone(),
            records: info.records,
            vectors: info.vectors,
        }
    }
}

impl From<CollectionView> for CollectionDoc {
    fn from(view: CollectionView) -> Self {
        Self { spec: SpecDoc::from(&view.info), policy: PolicyDoc::from(&view.policy) }
    }
}

impl From<&CollectionPolicy> for PolicyDoc {
    fn from(policy: &CollectionPolicy) -> Self {
        let fields = &policy.fields;
        let shown = [
            (Field::Title, fields.title),
            (Field::Text, fields.text),
            (Field::Metadata, fields.metadata),
            (Field::Vector, fields.vector),
        ];
        Self {
            readers: match &policy.readers {
                Readers::Members => ReadersDoc::Named(ReadersName::Members),
                Readers::Nobody => ReadersDoc::Named(ReadersName::Nobody),
                Readers::Only(peers) => ReadersDoc::Only(peers.clone()),
            },
            fields: shown.into_iter().filter(|(_, on)| *on).map(|(field, _)| field).collect(),
            max_results: policy.results_max,
            anonymous: if policy.anonymous { AnonymousDoc::Allow } else { AnonymousDoc::Deny },
        }
    }
}

impl PolicyDoc {
    /// The policy this shape stands for; its bounds are checked by the node.
    pub(crate) fn to_policy(&self) -> CollectionPolicy {
        CollectionPolicy {
            readers: match &self.readers {
                ReadersDoc::Named(ReadersName::Members) => Readers::Members,
                ReadersDoc::Named(ReadersName::Nobody) => Readers::Nobody,
                ReadersDoc::Only(peers) => Readers::Only(peers.clone()),
            },
            fields: FieldSet {
                title: self.fields.contains(&Field::Title),
                text: self.fields.contains(&Field::Text),
                metadata: self.fields.contains(&Field::Metadata),
                vector: self.fields.contains(&Field::Vector),
            },
            results_max: self.max_results,
            anonymous: self.anonymous == AnonymousDoc::Allow,
        }
    }
}

impl CollectionRequest {
    /// What the collection is declared to hold.
    pub(crate) fn spec(&self) -> CollectionSpec {
        CollectionSpec {
            name: self.name.clone(),
            dimensions: self.dimensions,
            metric: self.metric,
            embedder: self.embedder.clone(),
        }
    }
}

fn cosine() -> Metric {
    Metric::Cosine
}

fn members() -> ReadersDoc {
    ReadersDoc::Named(ReadersName::Members)
}

fn usual_fields() -> BTreeSet<Field> {
    BTreeSet::from([Field::Title, Field::Text, Field::Metadata])
}

fn usual_results() -> u32 {
    TOP_K_MAX as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_policy_is_the_nodes_own_default() {
        assert_eq!(PolicyDoc::default().to_policy(), CollectionPolicy::default());
        let empty: PolicyDoc = serde_json::from_str("{}").expect("all defaults");
        assert_eq!(empty, PolicyDoc::default());
    }

    #[test]
    fn readers_are_a_word_or_a_list_of_peers() {
        let peer = PeerId::new([3; 32]);
        for readers in [
            serde_json::json!("members"),
            serde_json::json!("nobody"),
            serde_json::json!([peer.to_string()]),
        ] {
            let doc: ReadersDoc = serde_json::from_value(readers.clone()).expect("parses");
            assert_eq!(serde_json::to_value(&doc).expect("json"), readers);
        }
        assert!(serde_json::from_str::<PolicyDoc>(r#"{"readers":"everybody"}"#).is_err());
        assert!(serde_json::from_str::<PolicyDoc>(r#"{"reader":"members"}"#).is_err());
    }
}
