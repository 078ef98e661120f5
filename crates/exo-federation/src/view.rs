//! What the node shows of itself: read models for status, peers, invites and joining.

use std::net::SocketAddr;
use std::time::Duration;

use exo_types::{
    CollectionInfo, FederatedResult, NodeName, PeerAddress, PeerId, SourceReport, Timestamp,
};

pub use exo_node::policy::{CollectionPolicy, FieldSet, Readers};
pub use exo_node::{FederationView, JoinStatus, PeerState, PeerView};

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
