//! Federated answers as a replicated state: which source said what to which query.
//!
//! The state keeps responses, never fused scores: the join is a union, and the ranking
//! ([`rank`](Reconciled::rank)) a pure function of it. So any order, grouping and repetition of partial
//! answers gives the same ranking, to the last bit.

use std::collections::BTreeMap;

use exo_crypto::Label;
use exo_types::bounded;
use exo_types::codec::{CodecError, Wire, bound, invalid};
use exo_types::limits::{
    CRDT_STATE_BYTES_MAX, RECONCILED_SLOTS_MAX, RESPONSE_LEGS_MAX, RESPONSES_PER_SLOT_MAX,
};
use exo_types::{Leg, MetadataValue, NodeName, PeerId};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hash::digest;
use crate::merge::Merge;

/// What one source answered. Whoever hands it in knows that it is from that source, by its signature or
/// the session it came over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceResponse {
    /// The member's name.
    pub name: NodeName,
    /// Its ranked lists.
    #[serde(deserialize_with = "bounded::list::<_, _, RESPONSE_LEGS_MAX>")]
    pub legs: Vec<Leg>,
}

impl SourceResponse {
    /// Makes a response canonical: −0 becomes 0.
    ///
    /// # Errors
    /// [`CodecError`] for a number that is not finite, or a bound that is broken.
    pub fn canonical(mut self) -> Result<Self, CodecError> {
        self.check()?;
        for hit in self.legs.iter_mut().flat_map(|leg| &mut leg.hits) {
            hit.score += 0.0;
            for value in hit.metadata.values_mut() {
                if let MetadataValue::Float(number) = value {
                    *number += 0.0;
                }
            }
            for component in hit.vector.iter_mut().flatten() {
                *component += 0.0;
            }
        }
        Ok(self)
    }

    fn check(&self) -> Result<(), CodecError> {
        bound(self.legs.len(), RESPONSE_LEGS_MAX)?;
        self.legs.iter().try_for_each(Leg::check)
    }

    fn id(&self) -> Result<ResponseId, CodecError> {
        let bytes = postcard::to_allocvec(self).map_err(CodecError::Malformed)?;
        Ok(ResponseId(digest(Label::RESPONSE_ID, &[&bytes])))
    }
}

/// What a response answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// Hash of the query, as the asker states it.
    pub query: [u8; 32],
    /// The member that answers.
    pub source: PeerId,
    /// Hash of the state of its data that it answers from; zeros when it does not say.
    pub snapshot: [u8; 32],
}

/// The id of a response, over its canonical encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ResponseId([u8; 32]);

/// Responses by what they answer. Of one slot the two with the least ids are kept: two different answers
/// from one state of the data are evidence against their source, and more add nothing to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reconciled {
    slots: BTreeMap<Slot, BTreeMap<ResponseId, SourceResponse>>,
}

/// Joins partial answers, in any order: the state behind a federated answer.
pub fn reconcile_crdt(parts: impl IntoIterator<Item = Reconciled>) -> Reconciled {
    let mut joined = Reconciled::default();
    parts.into_iter().for_each(|part| joined.merge(part));
    joined
}

impl Reconciled {
    /// Adds a response.
    ///
    /// # Errors
    /// [`CodecError`] for one that is not valid; nothing has changed then.
    pub fn insert(&mut self, slot: Slot, response: SourceResponse) -> Result<(), CodecError> {
        let response = response.canonical()?;
        let id = response.id()?;
        self.put(slot, id, response);
        Ok(())
    }

    /// The responses to a query from every source: one for a source that stands by what it said, none
    /// for one that contradicts itself about one snapshot. Of several snapshots the one with the least
    /// hash: a hash does not say which is newer.
    pub(crate) fn responses(
        &self,
        query: &[u8; 32],
    ) -> impl Iterator<Item = (PeerId, Option<&SourceResponse>)> {
        let mut by_source: BTreeMap<PeerId, Option<&SourceResponse>> = BTreeMap::new();
        for (slot, responses) in self.slots.iter().filter(|(slot, _)| slot.query == *query) {
            let contradicts = responses.len() > 1;
            let first = responses.values().next();
            let held = by_source.entry(slot.source).or_insert(first);
            if contradicts {
                *held = None;
            }
        }
        by_source.into_iter()
    }

    /// The sources that gave two answers about one snapshot, to any query, with the query.
    pub fn contradictions(&self) -> impl Iterator<Item = (PeerId, [u8; 32])> {
        let twice = self.slots.iter().filter(|(_, responses)| responses.len() > 1);
        twice.map(|(slot, _)| (slot.source, slot.query))
    }

    /// Slots with a response.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no response.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn put(&mut self, slot: Slot, id: ResponseId, response: SourceResponse) {
        let responses = self.slots.entry(slot).or_default();
        responses.insert(id, response);
        while responses.len() > RESPONSES_PER_SLOT_MAX {
            responses.pop_last();
        }
    }
}

impl Merge for Reconciled {
    fn merge(&mut self, other: Self) {
        for (slot, responses) in other.slots {
            for (id, response) in responses {
                self.put(slot, id, response);
            }
        }
    }

    fn joined_len(&self, other: &Self) -> usize {
        self.len() + other.slots.keys().filter(|slot| !self.slots.contains_key(slot)).count()
    }
}

impl Serialize for Reconciled {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let responses = |(slot, responses): (&Slot, &BTreeMap<ResponseId, SourceResponse>)| {
            (*slot, responses.values().cloned().collect::<Vec<_>>())
        };
        serializer.collect_seq(self.slots.iter().map(responses))
    }
}

impl<'de> Deserialize<'de> for Reconciled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let slots = bounded::list::<D, ResponsesAt, RECONCILED_SLOTS_MAX>(deserializer)?;
        if !slots.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(D::Error::custom("slots must be sorted and without repeats"));
        }
        let mut reconciled = Self::default();
        for ResponsesAt(slot, responses) in slots {
            let mut last = None;
            for response in responses {
                let id = response.id().map_err(D::Error::custom)?;
                if last.replace(id).is_some_and(|last| last >= id) {
                    return Err(D::Error::custom("responses must be sorted and without repeats"));
                }
                reconciled.put(slot, id, response);
            }
        }
        Ok(reconciled)
    }
}

#[derive(Deserialize)]
struct ResponsesAt(
    Slot,
    #[serde(deserialize_with = "bounded::list::<_, _, RESPONSES_PER_SLOT_MAX>")]
    Vec<SourceResponse>,
);

impl Wire for Reconciled {
    const BYTES_MAX: usize = CRDT_STATE_BYTES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        bound(self.slots.len(), RECONCILED_SLOTS_MAX)?;
        for responses in self.slots.values() {
            if responses.is_empty() {
                return Err(invalid("a slot without a response"));
            }
            for response in responses.values() {
                // The encodings tell −0 from 0, where a comparison of the values does not.
                let id = response.id()?;
                if response.clone().canonical()?.id()? != id {
                    return Err(invalid("a response is not canonical"));
                }
            }
        }
        Ok(())
    }
}
