//! What this node answers to whom: decided by the answering side alone.

use std::collections::BTreeSet;

use exo_types::limits::{MEMBERS_MAX, TOP_K_MAX};
use exo_types::{CodecError, Hit, PeerId, codec::bound};
use serde::{Deserialize, Serialize};

/// Who may read a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Readers {
    /// Every member of the federation.
    #[default]
    Members,
    /// These members.
    Only(BTreeSet<PeerId>),
    /// Nobody but this node's own users.
    Nobody,
}

/// Which parts of a record leave the node besides id and score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldSet {
    /// The title.
    pub title: bool,
    /// The beginning of the text.
    pub text: bool,
    /// The metadata.
    pub metadata: bool,
    /// The vector; with it the asker recomputes the score.
    pub vector: bool,
}

impl Default for FieldSet {
    fn default() -> Self {
        Self { title: true, text: true, metadata: true, vector: false }
    }
}

/// The policy of one collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionPolicy {
    /// Who may read it.
    pub readers: Readers,
    /// What leaves the node.
    pub fields: FieldSet,
    /// Results a member's query gets at most, 1 to [`TOP_K_MAX`].
    pub results_max: u32,
}

impl Default for CollectionPolicy {
    fn default() -> Self {
        Self {
            readers: Readers::Members,
            fields: FieldSet::default(),
            results_max: TOP_K_MAX as u32,
        }
    }
}

impl CollectionPolicy {
    /// Whether a member may read the collection.
    pub fn admits(&self, peer: &PeerId) -> bool {
        match &self.readers {
            Readers::Members => true,
            Readers::Only(peers) => peers.contains(peer),
            Readers::Nobody => false,
        }
    }

    /// Checks bounds.
    pub fn check(&self) -> Result<(), CodecError> {
        exo_types::query::check_top_k(self.results_max as usize)?;
        match &self.readers {
            Readers::Only(peers) => bound(peers.len(), MEMBERS_MAX),
            Readers::Members | Readers::Nobody => Ok(()),
        }
    }

    /// Takes from a hit what may not leave the node.
    pub fn redact(&self, hit: &mut Hit) {
        if !self.fields.title {
            hit.title.clear();
        }
        if !self.fields.text {
            hit.text.clear();
        }
        if !self.fields.metadata {
            hit.metadata.clear();
        }
        if !self.fields.vector {
            hit.vector = None;
        }
    }
}
