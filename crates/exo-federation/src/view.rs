//! What the node shows of itself: read models for status, peers, invites and joining.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use exo_types::{
    CollectionInfo, CollectionName, Epoch, FederatedResult, FederationId, NodeName, PeerAddress,
    PeerId, SourceReport, Timestamp,
};

pub use exo_node::policy::{CollectionPolicy, FieldSet, Readers};

/// A node's state at one moment.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// This node.
    pub peer: PeerId,
    /// Its name.
    pub name: NodeName,
    /// Four words of its identity, to compare by voice.
    pub words: String,
    /// Where it really listens for peers.
    pub mesh_listen: SocketAddr,
    /// The addresses it tells its peers.
    pub advertised: Vec<PeerAddress>,
    /// Its federation, once founded or joined.
    pub federation: Option<FederationView>,
    /// How joining stands.
    pub join: JoinStatus,
    /// Members by state: this node not counted.
    pub peers_active: usize,
    /// Members that cannot be reached now.
    pub peers_unreachable: usize,
    /// Joiners that wait for approval here.
    pub joiners_pending: usize,
    /// Its collections.
    pub collections: Vec<CollectionInfo>,
    /// Since when it runs.
    pub started: Timestamp,
}

/// The federation a node belongs to.
#[derive(Clone, Debug)]
pub struct FederationView {
    /// Its id.
    pub id: FederationId,
    /// Who founded it and admits members.
    pub founder: PeerId,
    /// The founder's name.
    pub founder_name: NodeName,
    /// Whether this node is the founder.
    pub is_founder: bool,
    /// Membership epoch.
    pub epoch: Epoch,
    /// Members, this node included, revoked ones not.
    pub members: usize,
}

/// How a peer stands to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// A member with a live session.
    Active,
    /// A joiner that waits for approval.
    Pending,
    /// A member without a session now.
    Unreachable,
    /// Removed from the federation.
    Revoked,
}

/// One peer as this node sees it.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// Who.
    pub peer: PeerId,
    /// Its name.
    pub name: NodeName,
    /// How it stands.
    pub state: PeerState,
    /// Admitted without spoken words.
    pub unverified: bool,
    /// Where it is reached.
    pub addresses: Vec<PeerAddress>,
    /// Round trip of the last answered request, smoothed.
    pub latency: Option<Duration>,
    /// What was negotiated with it: names of capabilities.
    pub capabilities: Vec<String>,
    /// End of the token this node holds there.
    pub token_expires: Option<Timestamp>,
    /// The epoch it was admitted or removed in.
    pub since: Epoch,
    /// Why it is in this state, where there is something to say.
    pub detail: String,
}

/// How joining a federation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinStatus {
    /// Nothing under way.
    Idle,
    /// Reaching the inviter.
    Connecting,
    /// The inviter must approve; these words are to be told.
    Pending {
        /// Four words, to be read to the inviter.
        words: String,
    },
    /// This node is a member.
    Member,
    /// The inviter refused, and why.
    Refused {
        /// The reason.
        reason: String,
    },
}

/// A new invite: the ticket is shown once and never stored.
#[derive(Clone, Debug)]
pub struct NewInvite {
    /// Its id, eight characters.
    pub id: String,
    /// The ticket, `exo1…`.
    pub ticket: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// An open invite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteView {
    /// Its id.
    pub id: String,
    /// When it ends.
    pub expires: Timestamp,
    /// Whether it admits without words.
    pub auto_approve: bool,
    /// Who used it, if anybody.
    pub used_by: Option<PeerId>,
}

/// How an invite is made.
#[derive(Clone, Copy, Debug)]
pub struct InviteOptions {
    /// Its life.
    pub life: Duration,
    /// Admit without spoken words; the member is shown as unverified for ever.
    pub auto_approve: bool,
}

/// What a running query reports.
#[derive(Clone, Debug)]
pub enum QueryEvent {
    /// A source has finished, one way or another.
    Source(SourceReport),
    /// The merged answer; nothing follows.
    Done(FederatedResult),
}

/// A collection and who may read it.
#[derive(Clone, Debug)]
pub struct CollectionView {
    /// The collection.
    pub info: CollectionInfo,
    /// Its policy.
    pub policy: CollectionPolicy,
}

/// Names of collections.
pub type CollectionNames = BTreeSet<CollectionName>;
