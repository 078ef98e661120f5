//! The node itself: its state, its invites, and how its joining stands.

use exo_federation::ConsensusView;
use exo_federation::view::{InviteView, JoinStatus, NewInvite, NodeStatus};
use exo_types::{FederationId, NodeName, PeerId};
use serde::{Deserialize, Serialize};

use super::collection::SpecDoc;
use super::decision::ConsensusDoc;
use super::rfc3339;
use super::shared::{SharedCollectionDoc, SharedLagDoc};

/// A node's state, `exo.status/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StatusDoc {
    /// This node.
    pub(crate) peer: PeerId,
    /// Its name.
    pub(crate) name: NodeName,
    /// Four words of its identity.
    pub(crate) words: Vec<String>,
    /// The program's version.
    pub(crate) version: String,
    /// Where it listens for peers.
    pub(crate) mesh_listen: String,
    /// Where its API listens.
    pub(crate) api_listen: String,
    /// The addresses it tells its peers.
    pub(crate) advertised: Vec<String>,
    /// Its federation; null before it has one.
    pub(crate) federation: Option<FederationDoc>,
    /// How joining stands.
    pub(crate) join: JoinDoc,
    /// Peers by state.
    pub(crate) peers: PeerCounts,
    /// Its collections.
    pub(crate) collections: Vec<SpecDoc>,
    /// Since when it runs, RFC 3339.
    pub(crate) started: String,
    /// How deciding by consensus stands; null before the federation has its voters.
    #[serde(default)]
    pub(crate) consensus: Option<ConsensusDoc>,
    /// Shared collections, and where their other readers are.
    #[serde(default)]
    pub(crate) shared: SharedStatusDoc,
}

/// How sharing stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SharedStatusDoc {
    /// The collections of which this node may know, by name.
    pub(crate) collections: Vec<SharedCollectionDoc>,
    /// Each other reader of each of them.
    pub(crate) lag: Vec<SharedLagDoc>,
}

/// The federation of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FederationDoc {
    /// Its id.
    pub(crate) id: FederationId,
    /// Who founded it and admits members.
    pub(crate) founder: PeerId,
    /// The founder's name.
    pub(crate) founder_name: NodeName,
    /// Whether this node is the founder.
    pub(crate) is_founder: bool,
    /// Membership epoch.
    pub(crate) epoch: u64,
    /// Members, this node included.
    pub(crate) members: usize,
}

/// Peers by state, this node not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerCounts {
    /// Members with a live session.
    pub(crate) active: usize,
    /// Members that cannot be reached now.
    pub(crate) unreachable: usize,
    /// Joiners that wait for approval here.
    pub(crate) pending: usize,
}

/// How joining stands, `exo.join/1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinDoc {
    /// Where in it the node is.
    pub(crate) state: JoinState,
    /// While pending: the four words to tell the inviter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) words: Vec<String>,
    /// When refused: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// States of joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JoinState {
    /// Nothing under way.
    Idle,
    /// Reaching the inviter.
    Connecting,
    /// The inviter must approve.
    Pending,
    /// Approved; fetching what the federation has decided.
    Following,
    /// A member.
    Member,
    /// The inviter refused.
    Refused,
}

/// A request to join. A ticket is a secret: there is no Debug.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinRequest {
    /// The ticket, `exo1…`.
    pub(crate) ticket: String,
}

/// A request for a new invite.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InviteRequest {
    /// Its life, milliseconds; a day unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_ms: Option<u64>,
    /// Admit without spoken words.
    #[serde(default)]
    pub(crate) auto_approve: bool,
}

/// A new invite, `exo.invite/1`: the ticket is shown this once. A ticket is a secret: no Debug.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewInviteDoc {
    /// Its id.
    pub(crate) id: String,
    /// The ticket.
    pub(crate) ticket: String,
    /// When it ends, RFC 3339.
    pub(crate) expires: String,
}

/// An open invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InviteDoc {
    /// Its id.
    pub(crate) id: String,
    /// When it ends, RFC 3339.
    pub(crate) expires: String,
    /// Whether it admits without spoken words.
    pub(crate) auto_approve: bool,
    /// Who used it, or null.
    pub(crate) used_by: Option<PeerId>,
}

/// Open invites, `exo.invites/1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InvitesDoc {
    /// Every open invite.
    pub(crate) invites: Vec<InviteDoc>,
}

impl StatusDoc {
    /// The shape of a node's state.
    pub(crate) fn new(
        status: NodeStatus,
        consensus: Option<ConsensusView>,
        shared: SharedStatusDoc,
        api_listen: std::net::SocketAddr,
    ) -> Self {
        let federation = status.federation.map(|federation| FederationDoc {
            id: federation.id,
            founder: federation.founder,
            founder_name: federation.founder_name,
            is_founder: federation.is_founder,
            epoch: federation.epoch.0,
            members: federation.members,
        });
        Self {
            peer: status.peer,
            name: status.name,
            words: words(&status.words),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mesh_listen: status.mesh_listen.to_string(),
            api_listen: api_listen.to_string(),
            advertised: status.advertised.iter().map(ToString::to_string).collect(),
            federation,
            join: JoinDoc::from(status.join),
            peers: PeerCounts {
                active: status.peers_active,
                unreachable: status.peers_unreachable,
                pending: status.joiners_pending,
            },
            collections: status.collections.iter().map(SpecDoc::from).collect(),
            started: rfc3339(status.started),
            consensus: consensus.map(ConsensusDoc::from),
            shared,
        }
    }
}

impl From<JoinStatus> for JoinDoc {
    fn from(status: JoinStatus) -> Self {
        let plain = |state| Self { state, words: Vec::new(), reason: None };
        match status {
            JoinStatus::Idle => plain(JoinState::Idle),
            JoinStatus::Connecting => plain(JoinState::Connecting),
            JoinStatus::Following => plain(JoinState::Following),
            JoinStatus::Member => plain(JoinState::Member),
            JoinStatus::Pending { words: text } => {
                Self { words: words(&text), ..plain(JoinState::Pending) }
            }
            JoinStatus::Refused { reason } => {
                Self { reason: Some(reason), ..plain(JoinState::Refused) }
            }
        }
    }
}

impl From<NewInvite> for NewInviteDoc {
    fn from(invite: NewInvite) -> Self {
        Self { id: invite.id, ticket: invite.ticket, expires: rfc3339(invite.expires) }
    }
}

impl From<InviteView> for InviteDoc {
    fn from(invite: InviteView) -> Self {
        Self {
            id: invite.id,
            expires: rfc3339(invite.expires),
            auto_approve: invite.auto_approve,
            used_by: invite.used_by,
        }
    }
}

/// Words of a phrase, one by one.
pub(crate) fn words(phrase: &str) -> Vec<String> {
    phrase.split(|c: char| c.is_whitespace() || c == '-').map(str::to_owned).collect()
}
