//! What of a node survives a restart, and its one file format.

use std::collections::BTreeMap;

use exo_crypto::{Signed, Verified, VerifyError};
use exo_types::limits::{COLLECTIONS_MAX, INVITES_OPEN_MAX, JOINERS_PENDING_MAX, MEMBERS_MAX};
use exo_types::{
    CodecError, CollectionName, FederationId, PeerId, Timestamp, Wire,
    codec::{bound, invalid},
};
use serde::{Deserialize, Serialize};

use crate::descriptor::MemberDescriptor;
use crate::invite::InviteBook;
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
        self.policies.values().try_for_each(CollectionPolicy::check)
    }
}

/// A federation this node belongs to: every part of it verified.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) genesis: Genesis,
    pub(crate) id: FederationId,
    pub(crate) founder: PeerId,
    pub(crate) signed: Signed<RosterBody>,
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
        Ok(Self { genesis, id, founder, signed, roster })
    }
}

/// Format of the state file.
const FORMAT_VERSION: u16 = 1;
