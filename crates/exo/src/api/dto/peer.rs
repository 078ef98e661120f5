//! Peers as the API shows them.

use exo_federation::view::{PeerState, PeerView};
use exo_types::{NodeName, PeerId};
use serde::{Deserialize, Serialize};

use super::decision::CommitDoc;
use super::rfc3339;
use crate::span::millis;

/// One peer, `exo.peer/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PeerDoc {
    /// Who.
    pub(crate) peer: PeerId,
    /// Its name.
    pub(crate) name: NodeName,
    /// How it stands.
    pub(crate) state: PeerStateDoc,
    /// Admitted without spoken words.
    pub(crate) unverified: bool,
    /// Where it is reached.
    pub(crate) addresses: Vec<String>,
    /// Smoothed round trip, milliseconds; null before the first.
    pub(crate) latency_ms: Option<f64>,
    /// Names of the capabilities negotiated with it.
    pub(crate) capabilities: Vec<String>,
    /// End of the token this node holds there, RFC 3339.
    pub(crate) token_expires: Option<String>,
    /// The membership epoch it was admitted or removed in.
    pub(crate) since: u64,
    /// Why it is in this state, or empty.
    pub(crate) detail: String,
    /// Whether its vote counts when the federation decides.
    #[serde(default)]
    pub(crate) votes: bool,
    /// The decision that removed it, by its index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) removed_by: Option<u64>,
    /// The decision just made about it, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) decision: Option<CommitDoc>,
}

/// States of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PeerStateDoc {
    /// A member with a live session.
    Active,
    /// A joiner that waits for approval.
    Pending,
    /// A member without a session now.
    Unreachable,
    /// Removed from the federation.
    Revoked,
}

/// Peers, `exo.peers/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PeersDoc {
    /// Members, joiners and removed members; this node is not among them.
    pub(crate) peers: Vec<PeerDoc>,
}

/// An approval by the joiner's words.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApproveRequest {
    /// The four words the joiner told.
    pub(crate) words: String,
}

/// A removal.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevokeRequest {
    /// Why; the member is told.
    #[serde(default)]
    pub(crate) reason: String,
}

/// A round trip, `exo.ping/1`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PingDoc {
    /// Who answered.
    pub(crate) peer: PeerId,
    /// The round trip, milliseconds.
    pub(crate) elapsed_ms: f64,
}

impl From<PeerView> for PeerDoc {
    fn from(view: PeerView) -> Self {
        Self {
            peer: view.peer,
            name: view.name,
            state: match view.state {
                PeerState::Active => PeerStateDoc::Active,
                PeerState::Pending => PeerStateDoc::Pending,
                PeerState::Unreachable => PeerStateDoc::Unreachable,
                PeerState::Revoked => PeerStateDoc::Revoked,
            },
            unverified: view.unverified,
            addresses: view.addresses.iter().map(ToString::to_string).collect(),
            latency_ms: view.latency.map(millis),
            capabilities: view.capabilities,
            token_expires: view.token_expires.map(rfc3339),
            since: view.since.0,
            detail: view.detail,
            votes: false,
            removed_by: None,
            decision: None,
        }
    }
}

impl PeerStateDoc {
    /// The state as it is printed.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Unreachable => "unreachable",
            Self::Revoked => "revoked",
        }
    }
}
