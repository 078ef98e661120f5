//! What of a node survives a restart, and its one file format.

use std::collections::BTreeMap;
use std::sync::Arc;

use exo_crypto::{Signed, Verified, VerifyError};
use exo_types::limits::{
    COLLECTIONS_MAX, INVITES_OPEN_MAX, JOINERS_PENDING_MAX, MEMBERS_MAX, ONION_FIRST_RELAYS_MAX,
};
use exo_types::{
    CodecError, CollectionName, FederationId, PeerId, Timestamp, Wire,
    codec::{bound, invalid},
};
use serde::{Deserialize, Serialize};

use crate::descriptor::MemberDescriptor;
use crate::invite::InviteBook;
use crate::node::StateError;
use crate::policy::CollectionPolicy;
use crate::roster::{Genesis, Roster, RosterBody};
use crate::ticket::Ticket;

/// How joining stands, as it survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Joining {
    /// Nothing under way.
    #[default]
    Idle,
    /// The ticket has not been accepted yet.
    Knocking(Ticket),
    /// The inviter must approve. The ticket's secret is spent.
    Waiting {
        /// The ticket.
        ticket: Ticket,
        /// The words to tell.
        words: String,
    },
    /// The inviter refused, or the membership ended.
    Ended(String),
    /// The inviter approved; the log that says so is still to be fetched and checked.
    Following,
}

/// The durable state as its file holds it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    version: u16,
    pub(crate) genesis: Option<Genesis>,
    pub(crate) roster: Option<Signed<RosterBody>>,
    pub(crate) descriptors: Vec<Signed<MemberDescriptor>>,
    pub(crate) book: InviteBook,
    pub(crate) joining: Joining,
    pub(crate) policies: BTreeMap<CollectionName, CollectionPolicy>,
    pub(crate) tokens_not_before: BTreeMap<PeerId, Timestamp>,
    /// Version of the descriptor that this node signed last: the next one's is higher, whatever the
    /// clock says.
    pub(crate) described: u64,
    /// The relays that this node's paths begin with.
    pub(crate) first: Vec<PeerId>,
}

impl Snapshot {
    /// An empty state in today's format.
    pub(crate) fn new() -> Self {
        Self { version: FORMAT_VERSION, ..Self::default() }
    }
}

impl Wire for Snapshot {
    const BYTES_MAX: usize = 32 * 1024 * 1024;

    fn check(&self) -> Result<(), CodecError> {
        if self.version != FORMAT_VERSION {
            return Err(invalid(format!("state format {} is not known here", self.version)));
        }
        bound(self.descriptors.len(), MEMBERS_MAX)?;
        bound(self.book.invites.len(), INVITES_OPEN_MAX)?;
        bound(self.book.joiners.len(), JOINERS_PENDING_MAX)?;
        bound(self.policies.len(), COLLECTIONS_MAX)?;
        bound(self.tokens_not_before.len(), MEMBERS_MAX)?;
        bound(self.first.len(), ONION_FIRST_RELAYS_MAX)?;
        self.policies.values().try_for_each(CollectionPolicy::check)
    }
}

/// A federation this node belongs to: every part of it verified.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) genesis: Genesis,
    pub(crate) id: FederationId,
    pub(crate) founder: PeerId,
    /// The last roster that the founder signed.
    pub(crate) signed: Signed<RosterBody>,
    pub(crate) founding: Arc<RosterBody>,
    /// The one in force.
    pub(crate) roster: Roster,
}

/// Why a roster was not taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// Its signature is not the founder's.
    #[error("the roster is not signed by the founder: {0}")]
    Signature(VerifyError),
    /// It is another federation's.
    #[error("the roster is another federation's")]
    Federation,
    /// It breaks a rule.
    #[error("the roster is out of bounds: {0}")]
    Rules(CodecError),
}

impl Membership {
    /// Verifies a roster under a genesis.
    pub(crate) fn verify(
        genesis: Genesis,
        signed: Signed<RosterBody>,
    ) -> Result<Self, RosterError> {
        let body: Verified<RosterBody> =
            signed.verify(&genesis.founder).map_err(RosterError::Signature)?;
        let id = genesis.id();
        if body.federation != id {
            return Err(RosterError::Federation);
        }
        let roster = Roster::new(&body).map_err(RosterError::Rules)?;
        let founder = genesis.founder.peer_id();
        let founding = Arc::new(body.into_inner());
        Ok(Self { genesis, id, founder, signed, founding, roster })
    }

    /// Whether the members decide together, and the founder no longer alone.
    pub(crate) fn is_constituted(&self) -> bool {
        !self.founding.voters.is_empty()
    }

    /// The same federation under a roster that its log gives.
    pub(crate) fn under(&self, roster: Roster) -> Self {
        Self {
            genesis: self.genesis.clone(),
            id: self.id,
            founder: self.founder,
            signed: self.signed.clone(),
            founding: Arc::clone(&self.founding),
            roster,
        }
    }
}

/// The constitution in a saved state, from which its log of decisions is read.
///
/// # Errors
/// [`StateError`] when the state is damaged.
pub fn constitution(state: &[u8]) -> Result<Option<(FederationId, Arc<RosterBody>)>, StateError> {
    let snapshot = Snapshot::from_wire(state).map_err(StateError::Codec)?;
    let (Some(genesis), Some(roster)) = (snapshot.genesis, snapshot.roster) else {
        return Ok(None);
    };
    let membership = Membership::verify(genesis, roster).map_err(StateError::Roster)?;
    Ok(membership.is_constituted().then_some((membership.id, membership.founding)))
}

/// Format of the state file.
const FORMAT_VERSION: u16 = 3;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::net::SocketAddr;
    use std::path::{Path, PathBuf};

    use exo_types::NodeName;
    use proptest::prelude::*;

    use super::*;
    use crate::invite::{Invite, Joiner};
    use crate::policy::{FieldSet, Readers};
    use crate::wire::Response;

    fn path(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(format!("{name}.bin"))
    }

    fn ticket() -> Ticket {
        Ticket {
            federation: [1; 16],
            inviter: PeerId::new([2; 32]),
            secret: [3; 16],
            expires: Timestamp(1_800_000_000_000),
            addresses: vec![
                SocketAddr::from(([127, 0, 0, 1], 7700)),
                SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 1)),
            ],
        }
    }

    /// A state in which every part is there; its signed parts are those of a frozen answer.
    fn whole() -> Snapshot {
        let approved = fs::read(path("response-join-approved")).expect("the vector is there");
        let Ok(Response::JoinApproved(approved)) = Response::from_wire(&approved) else {
            panic!("the vector does not decode")
        };
        let invite = Invite {
            id: "0a0b0c0d".to_owned(),
            secret_hash: [4; 32],
            expires: Timestamp(1_800_000_000_000),
            auto_approve: true,
            used_by: Some(PeerId::new([5; 32])),
        };
        let joiner = Joiner {
            key: approved.genesis.founder.clone(),
            name: NodeName::new("joiner").expect("a name"),
            words: "zoo able about abandon".to_owned(),
            since: Timestamp(1_799_999_999_999),
            descriptor: approved.descriptors[0].clone(),
            rejected: true,
        };
        let policy = |readers| CollectionPolicy {
            readers,
            fields: FieldSet { title: true, text: false, metadata: true, vector: true },
            results_max: 300,
            anonymous: false,
        };
        let name = |name: &str| CollectionName::new(name).expect("a name");
        Snapshot {
            genesis: Some(approved.genesis),
            roster: Some(approved.roster),
            descriptors: approved.descriptors,
            book: InviteBook { invites: vec![invite], joiners: vec![joiner] },
            joining: Joining::Idle,
            policies: BTreeMap::from([
                (name("all"), policy(Readers::Members)),
                (name("few"), policy(Readers::Only(BTreeSet::from([PeerId::new([6; 32])])))),
                (name("none"), policy(Readers::Nobody)),
            ]),
            tokens_not_before: BTreeMap::from([(PeerId::new([7; 32]), Timestamp(300))]),
            described: 1_800_000_000_123,
            first: vec![PeerId::new([8; 32]), PeerId::new([9; 32])],
            ..Snapshot::new()
        }
    }

    fn check(name: &str, snapshot: &Snapshot) {
        let bytes = snapshot.to_wire().expect("encodes");
        if std::env::var_os("EXO_VECTORS_FREEZE").is_some() {
            fs::write(path(name), &bytes).expect("writes");
        }
        let frozen = fs::read(path(name)).expect("the vector is there");
        assert!(frozen == bytes, "the format of {name} has changed");
        assert_eq!(&Snapshot::from_wire(&frozen).expect("decodes"), snapshot, "{name}");
    }

    #[test]
    fn the_format_is_frozen() {
        check("state", &whole());
        check("state-empty", &Snapshot::new());
        let joining = |joining| Snapshot { joining, ..Snapshot::new() };
        check("state-knocking", &joining(Joining::Knocking(ticket())));
        let words = "zoo able about abandon".to_owned();
        check("state-waiting", &joining(Joining::Waiting { ticket: ticket(), words }));
        check("state-ended", &joining(Joining::Ended("rejected".to_owned())));
        check("state-following", &joining(Joining::Following));
    }

    #[test]
    fn a_state_of_another_version_cut_short_or_longer_is_refused() {
        let mut bytes = whole().to_wire().expect("encodes");
        for len in (0..bytes.len()).step_by(97) {
            assert!(Snapshot::from_wire(&bytes[..len]).is_err(), "{len}");
        }
        bytes.push(0);
        assert_eq!(Snapshot::from_wire(&bytes), Err(CodecError::Trailing(1)));
        let mut newer = Snapshot::new().to_wire().expect("encodes");
        newer[0] += 1;
        assert!(matches!(Snapshot::from_wire(&newer), Err(CodecError::Invalid(_))));
    }

    proptest! {
        #[test]
        fn a_damaged_state_loads_or_is_refused_without_panic(at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut bytes = fs::read(path("state")).expect("the vector is there");
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let _ = Snapshot::from_wire(&bytes);
        }
    }
}
