//! What this node answers to whom: decided by the answering side alone.

use std::collections::BTreeSet;

use exo_crypto::{Label, hash};
use exo_onion::Diversity;
use exo_types::limits::{MEMBERS_MAX, ONION_PACKETS_PER_SECOND, TOP_K_MAX};
use exo_types::{CodecError, ContentHash, Hit, OrganisationName, PeerId, codec::bound};
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
    /// Whether a member that does not say who it is gets answers too. Only where every member may
    /// read: who is unknown is not on a list.
    pub anonymous: bool,
}

impl Default for CollectionPolicy {
    fn default() -> Self {
        Self {
            readers: Readers::Members,
            fields: FieldSet::default(),
            results_max: TOP_K_MAX as u32,
            anonymous: true,
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

    /// Whether some member that does not say who it is may read the collection.
    pub fn admits_unknown(&self) -> bool {
        self.anonymous && self.readers == Readers::Members
    }

    /// Checks bounds.
    pub fn check(&self) -> Result<(), CodecError> {
        exo_types::query::check_top_k(self.results_max as usize)?;
        match &self.readers {
            Readers::Only(peers) => bound(peers.len(), MEMBERS_MAX),
            Readers::Members | Readers::Nobody => Ok(()),
        }
    }

    /// Takes from a hit of this node what may not leave it.
    pub fn redact(&self, me: &PeerId, hit: &mut Hit) {
        if !self.fields.title || !self.fields.text {
            // The hash of what is kept back would let a guess be confirmed; one of the place tells
            // copies apart as well.
            let place = [hit.collection.as_str().as_bytes(), hit.id.as_str().as_bytes()];
            hit.content =
                ContentHash(hash(Label::CONTENT_HASH, &[me.as_bytes(), place[0], place[1]]));
        }
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

/// What this node does for onion packets of others, and how it chooses paths for its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnionPolicy {
    /// Whether it sends packets on.
    pub relays: bool,
    /// Packets a second that it takes from one neighbour, those that end here included.
    pub packets_per_second: u32,
    /// Whose node it is.
    pub organisation: Option<OrganisationName>,
    /// Whether two members of one organisation may be on a path of this node's own questions.
    pub diversity: Diversity,
    /// Cover packets that it sends a minute, on average; zero for none.
    pub cover_per_minute: u32,
}

impl Default for OnionPolicy {
    fn default() -> Self {
        Self {
            relays: true,
            packets_per_second: ONION_PACKETS_PER_SECOND,
            organisation: None,
            diversity: Diversity::default(),
            cover_per_minute: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use exo_crypto::content_hash;
    use exo_types::{CollectionName, RecordId};

    use super::*;

    #[test]
    fn a_text_that_is_kept_back_cannot_be_guessed_by_its_hash() {
        let hit = |id: &str| Hit {
            collection: CollectionName::new("notes").expect("a name"),
            id: RecordId::new(id).expect("an id"),
            score: 1.0,
            content: content_hash("title", "text"),
            title: "title".to_owned(),
            text: "text".to_owned(),
            metadata: BTreeMap::new(),
            vector: None,
        };
        let me = PeerId::new([1; 32]);
        let redacted = |fields: FieldSet, id: &str| {
            let mut hit = hit(id);
            CollectionPolicy { fields, ..CollectionPolicy::default() }.redact(&me, &mut hit);
            hit.content
        };
        let all = FieldSet::default();
        assert_eq!(redacted(all, "a"), content_hash("title", "text"));
        for fields in [FieldSet { title: false, ..all }, FieldSet { text: false, ..all }] {
            assert_ne!(redacted(fields, "a"), content_hash("title", "text"));
            assert_eq!(redacted(fields, "a"), redacted(fields, "a"));
            assert_ne!(redacted(fields, "a"), redacted(fields, "b"));
        }
    }
}
