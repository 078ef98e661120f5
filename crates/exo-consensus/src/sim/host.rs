//! One simulated node: the real core, its disk, its clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use exo_types::{Epoch, FederationId, PeerId, Sequence, View};

use super::disk::Disk;
use super::liar::Liar;
use super::rng::Rng;
use super::tree::Tree;
use super::{Step, Violation};
use crate::blob::{Blob, Digest};
use crate::effect::Effect;
use crate::guard::Guard;
use crate::replica::{Config, Replica, Start};
use crate::voter::{Voter, Voters};

/// A vote as others see it: kind, epoch, view, place.
pub(crate) type Said = (u8, Epoch, View, Sequence);

pub(crate) struct Host {
    pub(crate) id: PeerId,
    pub(crate) core: Option<Replica<Tree>>,
    pub(crate) disk: Disk,
    pub(crate) life: u32,
    pub(crate) liar: Option<Liar>,
    /// How it begins when its disk is empty.
    pub(crate) start: Start,
    pub(crate) voters: Arc<Voters>,
    /// Its clock: thousandths of the true rate, and when the life began.
    rate: u64,
    /// When its next wake is set for.
    pub(crate) wake: Option<Duration>,
    /// Microseconds that an fsync takes.
    pub(crate) sync_micros: (u64, u64),
    /// What it said in all its lives.
    pub(crate) said: BTreeMap<Said, Digest>,
    /// Guards on its disk, with the place of their record.
    pub(crate) guards: BTreeMap<(Said, Digest), usize>,
    pub(crate) left: BTreeMap<Epoch, View>,
    pub(crate) done: BTreeSet<u64>,
    pub(crate) executed: Sequence,
    genesis: Arc<Voters>,
    rotate: u64,
}

impl Host {
    pub(crate) fn new(
        id: PeerId,
        liar: Option<Liar>,
        start: Start,
        genesis: &Arc<Voters>,
        rng: &mut Rng,
        sync_micros: (u64, u64),
    ) -> Self {
        Self {
            id,
            core: None,
            disk: Disk::default(),
            life: 0,
            liar,
            start,
            voters: Arc::clone(genesis),
            rate: rng.between(800, 1250),
            wake: None,
            sync_micros,
            said: BTreeMap::new(),
            guards: BTreeMap::new(),
            left: BTreeMap::new(),
            done: BTreeSet::new(),
            executed: Sequence::ZERO,
            genesis: Arc::clone(genesis),
            rotate: rng.between(20, 400),
        }
    }

    /// Starts the core from what is on the disk.
    pub(crate) fn start(&mut self, now: Duration) -> Result<Vec<Effect>, Violation> {
        let mut config = Config::new(FEDERATION, self.id);
        config.rotate_records = self.rotate;
        self.life += 1;
        self.wake = None;
        let local = self.local(now);
        let (core, effects) = if self.disk.len() == 0 {
            let mut core = Replica::start(config, Arc::clone(&self.genesis), self.start);
            let effects = core.step(local, crate::effect::Input::Tick);
            (core, effects)
        } else {
            Replica::recover(config, local, self.disk.records())
                .map_err(|e| Violation(format!("{:?} does not recover: {e}", self.id)))?
        };
        self.voters = core.directory().voters;
        self.core = Some(core);
        Ok(effects)
    }

    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        self.core = None;
        self.life += 1;
        self.wake = None;
        let kept = self.disk.crash(rng);
        self.guards.retain(|_, at| *at < kept);
    }

    /// The node's own time at a moment of the simulation.
    pub(crate) fn local(&self, now: Duration) -> Duration {
        Duration::from_nanos((now.as_nanos() as u64 / 1000) * self.rate)
    }

    /// The moment of the simulation at which the node's clock shows this.
    pub(crate) fn global(&self, local: Duration) -> Duration {
        Duration::from_nanos((local.as_nanos() as u64 / self.rate + 1) * 1000)
    }

    pub(crate) fn honest(&self) -> bool {
        self.liar.is_none()
    }

    /// Notes a record that guards a vote.
    pub(crate) fn guarded(&mut self, said: Said, digest: Digest, at: usize) {
        self.guards.entry((said, digest)).or_insert(at);
    }

    /// A correct replica says what it said before, and only what is on its disk.
    pub(crate) fn says(&mut self, said: Said, digest: Digest) -> Step {
        let bad = |what: &str| Err(Violation(format!("{:?} {what}: {said:?} {digest:?}", self.id)));
        let durable = self.disk.durable();
        let guard = if said.0 == PRE_PREPARE { (PREPARE, said.1, said.2, said.3) } else { said };
        if self.guards.get(&(guard, digest)).is_none_or(|at| *at >= durable) {
            return bad("says what is not on its disk");
        }
        match self.said.get(&said) {
            Some(before) if *before != digest => bad("contradicts itself"),
            Some(_) => Ok(()),
            None => {
                self.said.insert(said, digest);
                Ok(())
            }
        }
    }

    /// A correct replica casts no vote in a view that it said it left. (It may say again, or for the
    /// first time after a crash, what it voted before: its view change told of that.)
    pub(crate) fn votes(&self, guard: &Guard) -> Step {
        let left = self.left.get(&guard.epoch).copied().unwrap_or(View::FIRST);
        if self.honest() && guard.view < left {
            return Err(Violation(format!("{:?} votes in a view it left: {guard:?}", self.id)));
        }
        Ok(())
    }
}

/// The identity of a number.
pub(crate) fn identity(n: usize) -> PeerId {
    let mut bytes = [0x55; 32];
    bytes[..2].copy_from_slice(&(n as u16 + 1).to_be_bytes());
    PeerId::new(bytes)
}

pub(crate) fn voter(n: usize, generation: u8) -> Voter {
    Voter { id: identity(n), keys: Blob::new(vec![generation]).unwrap_or_default() }
}

/// The federation of all simulations.
pub(crate) const FEDERATION: FederationId = FederationId::new([7; 32]);
pub(crate) const PRE_PREPARE: u8 = 0;
pub(crate) const PREPARE: u8 = 1;
pub(crate) const COMMIT: u8 = 2;
pub(crate) const VIEW_CHANGE: u8 = 3;
pub(crate) const CHECKPOINT: u8 = 4;
