//! What the node tells its own users of itself.

use std::time::Duration;

use exo_types::{Epoch, FederationId, NodeName, PeerAddress, PeerId, Timestamp};

use crate::Node;
use crate::invite::Invite;
use crate::roster::Roster;
use crate::state::Joining;
use crate::token::FederationToken;

/// The federation as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederationView {
    /// Its id.
    pub id: FederationId,
    /// Who founded it.
    pub founder: PeerId,
    /// The founder's name.
    pub founder_name: NodeName,
    /// Whether this node is the founder.
    pub is_founder: bool,
    /// Members with a vote, by id; none as long as the founder decides alone.
    pub voters: Vec<PeerId>,
    /// The membership epoch.
    pub epoch: Epoch,
    /// Active members, this node included.
    pub members: usize,
}

/// How a peer stands to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// A member with a session in use.
    Active,
    /// A joiner that waits for approval.
    Pending,
    /// A member without a session.
    Unreachable,
    /// Removed.
    Revoked,
}

/// A peer as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Smoothed round trip.
    pub latency: Option<Duration>,
    /// Agreed capabilities.
    pub capabilities: Vec<String>,
    /// End of the token held there.
    pub token_expires: Option<Timestamp>,
    /// Epoch of its last change.
    pub since: Epoch,
    /// Why it is in this state.
    pub detail: String,
}

/// How joining stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinStatus {
    /// Nothing under way.
    Idle,
    /// Reaching the inviter.
    Connecting,
    /// The inviter must approve.
    Pending {
        /// Four words, to be read to the inviter.
        words: String,
    },
    /// Approved; the log of decisions that admits this node is being fetched and checked.
    Following,
    /// This node is a member.
    Member,
    /// The inviter refused, or the membership ended.
    Refused {
        /// Why.
        reason: String,
    },
}

/// How much the node holds in memory: each number is bounded, and falls when there is less to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Sessions, in whatever state.
    pub sessions: usize,
    /// Members that the node keeps or seeks a session with.
    pub links: usize,
    /// Requests sent and not answered yet.
    pub calls: usize,
    /// Searches and counts under way in this node's own data.
    pub jobs: usize,
    /// Queries of this node's own users.
    pub queries: usize,
    /// Onion packets whose reply is owed or awaited.
    pub packets: usize,
    /// Timers set.
    pub timers: usize,
    /// Effects that the driver has not taken.
    pub effects: usize,
}

impl Node {
    /// How much the node holds in memory.
    pub fn load(&self) -> Load {
        Load {
            sessions: self.sessions.len(),
            links: self.links.len(),
            calls: self.calls.len(),
            jobs: self.jobs.len(),
            queries: self.queries.len(),
            packets: self.owing.len() + self.relayed.len() + self.held.len() + self.sent.len(),
            timers: self.timers_len(),
            effects: self.effects_len(),
        }
    }

    /// The federation this node belongs to.
    pub fn federation(&self) -> Option<FederationView> {
        let membership = self.membership.as_ref()?;
        let founder = membership.roster.member(&membership.founder)?;
        Some(FederationView {
            id: membership.id,
            founder: membership.founder,
            founder_name: founder.name.clone(),
            is_founder: membership.founder == self.me,
            voters: membership.roster.voters().iter().copied().collect(),
            epoch: membership.roster.epoch,
            members: membership.roster.active().count(),
        })
    }

    /// The members, present and past, as far as this node knows.
    pub fn roster(&self) -> Option<&Roster> {
        self.membership.as_ref().map(|membership| &membership.roster)
    }

    /// How joining stands.
    pub fn join_status(&self) -> JoinStatus {
        match &self.joining {
            Joining::Knocking(_) => JoinStatus::Connecting,
            Joining::Waiting { words, .. } => JoinStatus::Pending { words: words.clone() },
            Joining::Ended(reason) => JoinStatus::Refused { reason: reason.clone() },
            Joining::Idle if self.membership.is_some() => JoinStatus::Member,
            Joining::Idle => JoinStatus::Idle,
            Joining::Following => JoinStatus::Following,
        }
    }

    /// The token this node holds at a member, while they have a session.
    pub fn token_at(&self, peer: &PeerId) -> Option<FederationToken> {
        let session = self.sessions.get(self.by_peer.get(peer)?)?;
        Some(session.there.clone()?.into_inner())
    }

    /// Open invites.
    pub fn invites(&self) -> &[Invite] {
        &self.book.invites
    }

    /// Members but this node, removed members, and waiting joiners.
    pub fn peers(&self) -> Vec<PeerView> {
        let mut shown = Vec::new();
        if let Some(membership) = &self.membership {
            for (peer, member) in membership.roster.all().filter(|(peer, _)| **peer != self.me) {
                let session = self.by_peer.get(peer).and_then(|id| self.sessions.get(id));
                let link = self.links.get(peer);
                let (state, detail) = match (&member.revoked, session) {
                    (Some(reason), _) => (PeerState::Revoked, reason.clone()),
                    (None, Some(_)) => (PeerState::Active, String::new()),
                    (None, None) => (
                        PeerState::Unreachable,
                        link.map(|link| link.detail.clone()).unwrap_or_default(),
                    ),
                };
                shown.push(PeerView {
                    peer: *peer,
                    name: member.name.clone(),
                    state,
                    unverified: member.unverified,
                    addresses: self
                        .directory
                        .get(peer)
                        .map(|d| d.addresses.clone())
                        .unwrap_or_default(),
                    latency: link.and_then(|link| link.latency),
                    capabilities: session
                        .map(|session| session.agreed.names().into_iter().collect())
                        .unwrap_or_default(),
                    token_expires: session
                        .and_then(|session| session.there.as_ref())
                        .map(|token| token.expires),
                    since: member.since,
                    detail,
                });
            }
        }
        shown.extend(self.joiners());
        shown
    }

    fn joiners(&self) -> impl Iterator<Item = PeerView> + '_ {
        let epoch = self.membership.as_ref().map_or(Epoch::GENESIS, |m| m.roster.epoch);
        self.book.joiners.iter().map(move |joiner| PeerView {
            peer: joiner.key.peer_id(),
            name: joiner.name.clone(),
            state: PeerState::Pending,
            unverified: false,
            addresses: joiner.descriptor.claimed().map(|d| d.addresses).unwrap_or_default(),
            latency: None,
            capabilities: Vec::new(),
            token_expires: None,
            since: epoch,
            detail: if joiner.rejected {
                "rejected".to_owned()
            } else {
                "waits for approval by its four words".to_owned()
            },
        })
    }
}
