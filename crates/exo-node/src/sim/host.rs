//! One simulated node: the real core, its disk, its clocks and what its driver keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use exo_crypto::{CosignerKey, CosignerKeypair, KemKeyring, PostQuantumKeypair};
use exo_onion::ReplayCache;
use exo_types::{Epoch, NodeName, Now, PeerAddress, PeerId, Timestamp, Wire};

use super::Violation;
use super::clock::Clocks;
use super::data::Data;
use super::net::{Exchanges, HostId, Stream};
use super::rng::Rng;
use crate::effect::CallId;
use crate::node::{Node, Settings};
use crate::policy::OnionPolicy;
use crate::state::{Joining, Snapshot};

/// What a node is in the simulated federation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Founds the federation, invites and approves.
    Founder,
    /// Joins and becomes a member.
    Member,
    /// Joins, becomes a member, and lies on the wire.
    Liar,
    /// Asks to join and is never approved.
    Pending,
    /// No node at all: an attacker with a key of its own.
    Outsider,
}

/// A node's disk: what the last completed save left.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) state: Option<Vec<u8>>,
    read: Option<Arc<OnDisk>>,
}

/// What a node would remember after a crash now.
#[derive(Debug, Default)]
pub(crate) struct OnDisk {
    pub(crate) epoch: Option<Epoch>,
    pub(crate) active: BTreeSet<PeerId>,
    pub(crate) revoked: BTreeSet<PeerId>,
    pub(crate) joiners: BTreeSet<PeerId>,
    pub(crate) invited: BTreeSet<PeerId>,
    pub(crate) waits: bool,
}

impl Disk {
    pub(crate) fn save(&mut self, bytes: Vec<u8>) {
        self.state = Some(bytes);
        self.read = None;
    }

    /// What the saved state says.
    pub(crate) fn read(&mut self) -> Result<Arc<OnDisk>, Violation> {
        if let Some(read) = &self.read {
            return Ok(Arc::clone(read));
        }
        let read = Arc::new(match &self.state {
            Some(bytes) => OnDisk::decode(bytes)?,
            None => OnDisk::default(),
        });
        self.read = Some(Arc::clone(&read));
        Ok(read)
    }
}

impl OnDisk {
    fn decode(bytes: &[u8]) -> Result<Self, Violation> {
        let bad = |error: &dyn std::fmt::Display| Violation(format!("a saved state: {error}"));
        let snapshot = Snapshot::from_wire(bytes).map_err(|error| bad(&error))?;
        let mut read = Self {
            waits: matches!(snapshot.joining, Joining::Waiting { .. }),
            joiners: snapshot.book.joiners.iter().map(|joiner| joiner.key.peer_id()).collect(),
            invited: snapshot.book.invites.iter().filter_map(|invite| invite.used_by).collect(),
            ..Self::default()
        };
        if let Some(roster) = snapshot.roster {
            let body = roster.claimed().map_err(|error| bad(&error))?;
            read.epoch = Some(body.epoch);
            for member in &body.members {
                let standing = match member.revoked {
                    None => &mut read.active,
                    Some(_) => &mut read.revoked,
                };
                standing.insert(member.key.peer_id());
            }
        }
        Ok(read)
    }
}

pub(crate) struct Host {
    pub(crate) id: HostId,
    pub(crate) role: Role,
    pub(crate) keypair: Arc<PostQuantumKeypair>,
    pub(crate) peer: PeerId,
    pub(crate) name: NodeName,
    pub(crate) data: Data,
    pub(crate) clocks: Clocks,
    pub(crate) disk: Disk,
    /// Grows with every restart; what was under way for an earlier life is lost.
    pub(crate) life: u32,
    pub(crate) node: Option<Node>,
    /// Saving failed: nothing leaves the node until it is started again.
    pub(crate) broken: bool,
    pub(crate) exchanges: Exchanges,
    pub(crate) calls: BTreeMap<CallId, Stream>,
    pub(crate) wake_at: Option<Duration>,
    /// Removed from the federation by its founder.
    pub(crate) revoked: bool,
    rng: Rng,
    next_number: u64,
}

impl Host {
    pub(crate) fn new(
        id: HostId,
        role: Role,
        keypair: Arc<PostQuantumKeypair>,
        skew: i64,
        data: Data,
        rng: Rng,
    ) -> Result<Self, Violation> {
        let name = NodeName::new(format!("n{id}")).map_err(|error| Violation(error.to_string()))?;
        Ok(Self {
            id,
            role,
            peer: keypair.peer_id(),
            keypair,
            name,
            data,
            clocks: Clocks { started: Duration::ZERO, skew },
            disk: Disk::default(),
            life: 0,
            node: None,
            broken: false,
            exchanges: Exchanges::new(),
            calls: BTreeMap::new(),
            wake_at: None,
            revoked: false,
            rng,
            next_number: 0,
        })
    }

    /// Starts the node from what its disk holds.
    pub(crate) fn start(&mut self, now: Duration) -> Result<(), Violation> {
        if self.role == Role::Outsider {
            return Ok(());
        }
        self.clocks.started = now;
        self.broken = false;
        let mut entropy = self.rng.fork();
        let settings = Settings {
            keypair: Arc::clone(&self.keypair),
            name: self.name.clone(),
            addresses: vec![address(self.id)],
            cosigner: cosigner(&self.keypair)?,
            founding_voters: usize::MAX,
            keyring: keyring(self.clocks.at(now).wall)?,
            replays: ReplayCache::new(),
            onion: OnionPolicy::default(),
            collections: self.data.specs(),
            state: self.disk.state.clone(),
            decided: None,
            entropy: Box::new(move |bytes| entropy.fill(bytes)),
        };
        let node = Node::new(self.clocks.at(now), settings)
            .map_err(|error| Violation(format!("a saved state does not load: {error}")))?;
        self.node = Some(node);
        Ok(())
    }

    /// Ends the present life. What was not saved is gone.
    pub(crate) fn stop(&mut self) {
        self.node = None;
        self.life += 1;
        self.exchanges.clear();
        self.calls.clear();
        self.wake_at = None;
    }

    pub(crate) fn now(&self, now: Duration) -> Now {
        self.clocks.at(now)
    }

    pub(crate) fn works(&self) -> bool {
        self.node.is_some() && !self.broken
    }

    /// Whether invariants of the wire are asked of it.
    pub(crate) fn honest(&self) -> bool {
        !matches!(self.role, Role::Liar | Role::Outsider)
    }

    /// Whether it is to be a member when all is well.
    pub(crate) fn belongs(&self) -> bool {
        matches!(self.role, Role::Founder | Role::Member | Role::Liar) && !self.revoked
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

/// A node's sealing keys. Every life has new ones, as after a crash.
pub(crate) fn keyring(now: Timestamp) -> Result<KemKeyring, Violation> {
    KemKeyring::generate(now).map_err(|error| Violation(error.to_string()))
}

/// The key with which the owner of an identity cosigns the log.
pub(crate) fn cosigner(keypair: &PostQuantumKeypair) -> Result<CosignerKey, Violation> {
    let pair = CosignerKeypair::from_seed(keypair.peer_id().as_bytes());
    pair.map(|pair| pair.public().clone()).map_err(|error| Violation(error.to_string()))
}

/// Where a host is reached.
pub(crate) fn address(id: HostId) -> PeerAddress {
    PeerAddress { peer: None, host: format!("10.0.0.{id}"), port: PORT }
}

/// The host at an address.
pub(crate) fn at_address(address: &PeerAddress) -> Option<HostId> {
    address.host.strip_prefix("10.0.0.")?.parse().ok()
}

/// Port of every simulated node.
pub(crate) const PORT: u16 = 7700;

/// Identities are expensive to expand and the same in every simulation; which host has which is drawn.
pub(crate) fn identities() -> &'static [Arc<PostQuantumKeypair>] {
    static IDENTITIES: OnceLock<Vec<Arc<PostQuantumKeypair>>> = OnceLock::new();
    IDENTITIES.get_or_init(|| {
        let seeds = (0..IDENTITIES_MAX as u8).map(|i| [i; 32]);
        seeds.filter_map(|seed| PostQuantumKeypair::from_seed(&seed).ok()).map(Arc::new).collect()
    })
}

const IDENTITIES_MAX: usize = 10;
