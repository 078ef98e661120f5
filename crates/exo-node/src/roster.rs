//! Who belongs to a federation: its genesis, and the roster that its founder signs.
//!
//! The federation's id is a hash of its genesis, which holds the founder's key: whoever knows the
//! id can check every roster. Each change is one epoch. The last roster that the founder signs is the
//! constitution: it says who votes, and from then on the members decide together
//! ([`decide`](crate::decide)).

use std::collections::{BTreeMap, BTreeSet};

use exo_crypto::{CosignerKey, IdentityKey, Label, SignedBody, hash};
use exo_types::limits::{MEMBERS_MAX, REASON_BYTES_MAX, VOTERS_MAX, VOTERS_MIN};
use exo_types::{
    CodecError, Epoch, FederationId, NodeName, PeerId, Timestamp, Wire, bounded,
    codec::{bound, invalid},
};
use serde::{Deserialize, Serialize};

/// The beginning of a federation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// The founder's identity key.
    pub founder: IdentityKey,
    /// When it was founded.
    pub created: Timestamp,
    /// Random, so that one founder can found several.
    pub nonce: [u8; 16],
}

impl Genesis {
    /// The federation's id.
    pub fn id(&self) -> FederationId {
        let created = self.created.0.to_be_bytes();
        FederationId::new(hash(Label::GENESIS, &[self.founder.as_bytes(), &created, &self.nonce]))
    }
}

/// One member, present or past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its identity key; its [`PeerId`] is this key's hash.
    pub key: IdentityKey,
    /// The key with which it cosigns the log, where it has a vote.
    pub cosigner: CosignerKey,
    /// Its name, unique among active members.
    pub name: NodeName,
    /// Admitted without spoken words.
    pub unverified: bool,
    /// The epoch of its last change.
    pub since: Epoch,
    /// Why it was removed; `None` while it is active.
    pub revoked: Option<String>,
}

/// The body the founder signs: every member in one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterBody {
    /// The federation.
    pub federation: FederationId,
    /// The epoch this roster begins.
    pub epoch: Epoch,
    /// Members present and past, each once.
    #[serde(deserialize_with = "bounded::list::<_, _, MEMBERS_MAX>")]
    pub members: Vec<Member>,
    /// Who votes from here on, in the order of the ids: the constitution, the last roster that the
    /// founder signs. Empty before.
    #[serde(deserialize_with = "bounded::list::<_, _, VOTERS_MAX>")]
    pub voters: Vec<PeerId>,
}

impl Wire for RosterBody {
    const BYTES_MAX: usize = MEMBERS_MAX * 4050;

    fn check(&self) -> Result<(), CodecError> {
        bound(self.members.len(), MEMBERS_MAX)?;
        bound(self.voters.len(), VOTERS_MAX)?;
        if !self.voters.is_empty() && self.voters.len() < VOTERS_MIN {
            return Err(invalid("too few voters to agree"));
        }
        if self.voters.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(invalid("the voters are not in order"));
        }
        let mut names = BTreeSet::new();
        for member in &self.members {
            if let Some(reason) = &member.revoked {
                bound(reason.len(), REASON_BYTES_MAX)?;
            } else if !names.insert(&member.name) {
                return Err(invalid("two active members have one name"));
            }
            if member.since > self.epoch {
                return Err(invalid("a member changed after its roster's epoch"));
            }
        }
        Ok(())
    }
}

impl SignedBody for RosterBody {
    const LABEL: Label = Label::ROSTER;

    fn signer(&self) -> Option<PeerId> {
        None // The genesis says who the founder is.
    }
}

/// A roster in force, indexed by member.
#[derive(Clone, Debug)]
pub struct Roster {
    /// The epoch.
    pub epoch: Epoch,
    members: BTreeMap<PeerId, Member>,
    voters: BTreeSet<PeerId>,
}

/// How a key stands in a roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A member.
    Active,
    /// No longer a member.
    Revoked,
    /// Never one.
    Unknown,
}

impl Roster {
    /// Indexes a body; refuses one key twice.
    pub fn new(body: &RosterBody) -> Result<Self, CodecError> {
        let mut members = BTreeMap::new();
        for member in &body.members {
            if members.insert(member.key.peer_id(), member.clone()).is_some() {
                return Err(invalid("a key stands in the roster twice"));
            }
        }
        let active = |peer| members.get(peer).is_some_and(|m: &Member| m.revoked.is_none());
        if !body.voters.iter().all(active) {
            return Err(invalid("a voter is not an active member"));
        }
        Ok(Self::of(body.epoch, members, body.voters.iter().copied().collect()))
    }

    /// A roster of parts that are known to fit.
    pub(crate) fn of(
        epoch: Epoch,
        members: BTreeMap<PeerId, Member>,
        voters: BTreeSet<PeerId>,
    ) -> Self {
        Self { epoch, members, voters }
    }

    /// Who has a vote: nobody as long as the founder decides alone.
    pub fn voters(&self) -> &BTreeSet<PeerId> {
        &self.voters
    }

    /// Whether a peer is an active member with a vote.
    pub fn votes(&self, peer: &PeerId) -> bool {
        self.voters.contains(peer) && self.standing(peer) == Standing::Active
    }

    /// How a peer stands.
    pub fn standing(&self, peer: &PeerId) -> Standing {
        match self.members.get(peer) {
            Some(member) if member.revoked.is_none() => Standing::Active,
            Some(_) => Standing::Revoked,
            None => Standing::Unknown,
        }
    }

    /// A member, present or past.
    pub fn member(&self, peer: &PeerId) -> Option<&Member> {
        self.members.get(peer)
    }

    /// Every member, present and past, by id.
    pub fn all(&self) -> impl Iterator<Item = (&PeerId, &Member)> {
        self.members.iter()
    }

    /// The active members, by id.
    pub fn active(&self) -> impl Iterator<Item = (&PeerId, &Member)> {
        self.members.iter().filter(|(_, member)| member.revoked.is_none())
    }

    /// Whether an active member other than `but` has this name.
    pub fn name_taken(&self, name: &NodeName, but: &PeerId) -> bool {
        self.active().any(|(peer, member)| member.name == *name && peer != but)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announced_number_of_members_over_the_bound_is_refused_before_room_is_made_for_them() {
        // So many members are announced, and what stands there is none.
        let refused = |announced: [u8; 2]| {
            let start = [[1; FederationId::LEN].as_slice(), &[0], &announced].concat();
            RosterBody::from_wire(&[start.as_slice(), &[0xff; 4000]].concat()).expect_err("refused")
        };
        let (of_129, of_1100) = ([0x81, 0x01], [0xcc, 0x08]);
        assert!(matches!(refused(of_129), CodecError::Malformed(_)));
        assert!(matches!(refused(of_1100), CodecError::Malformed(_)));
        // For their content the one, for their number the other.
        assert_ne!(refused(of_129), refused(of_1100));
    }
}
