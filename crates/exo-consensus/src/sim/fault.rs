//! What goes wrong: the weather of a run, and single faults.

use std::collections::BTreeSet;
use std::time::Duration;

use exo_types::PeerId;

use super::Step;
use super::disk::Disk;
use super::host::voter;
use super::rng::Rng;
use super::world::{Happening, World};
use crate::guard::Role;
use crate::replica::Start;
use crate::update::Update;
use crate::voter::Change;

/// How bad it is.
#[derive(Debug)]
pub(crate) struct Weather {
    pub(crate) storm: Duration,
    lost_in_thousand: u64,
    twice_in_thousand: u64,
    slow_in_thousand: u64,
    delay_micros: (u64, u64),
    pub(crate) crash_in_thousand: u64,
    pub(crate) submit_micros: u64,
    pub(crate) burst: u64,
    /// Links on which nothing passes, from and to.
    pub(crate) cut: BTreeSet<(PeerId, PeerId)>,
    cuts: bool,
    crashes: bool,
    wipes: bool,
    pub(crate) changes: bool,
    slow_disks: bool,
    unsigned_in_thousand: u64,
}

impl Weather {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let bad = |rng: &mut Rng, most: u64| if rng.chance(500) { rng.between(0, most) } else { 0 };
        let low = rng.between(50, 1_000);
        let high = low + rng.between(100, 20_000);
        Self {
            storm: rng.micros(1_500_000, 6_000_000),
            lost_in_thousand: bad(rng, 250),
            twice_in_thousand: bad(rng, 150),
            slow_in_thousand: bad(rng, 60),
            delay_micros: (low, high),
            crash_in_thousand: bad(rng, 60),
            submit_micros: rng.between(5_000, 250_000),
            burst: if rng.chance(200) { 12 } else { 2 },
            cut: BTreeSet::new(),
            cuts: rng.chance(500),
            crashes: rng.chance(500),
            wipes: rng.chance(250),
            changes: rng.chance(250),
            slow_disks: rng.chance(300),
            unsigned_in_thousand: if rng.chance(300) { rng.between(0, 150) } else { 0 },
        }
    }

    /// From now on messages arrive, soon and once.
    pub(crate) fn calm(&mut self) {
        self.lost_in_thousand = 0;
        self.twice_in_thousand = 0;
        self.slow_in_thousand = 0;
        self.unsigned_in_thousand = 0;
        self.delay_micros = (self.delay_micros.0, self.delay_micros.0 + 2_000);
        self.cut.clear();
    }

    pub(crate) fn draw_sync(&self, rng: &mut Rng) -> (u64, u64) {
        let slow = self.slow_disks && rng.chance(300);
        if slow { (5_000, 60_000) } else { (50, 1_500) }
    }

    pub(crate) fn is_cut(&self, from: &PeerId, to: &PeerId) -> bool {
        !self.cut.is_empty() && self.cut.contains(&(*from, *to))
    }

    pub(crate) fn copies(&self, rng: &mut Rng) -> usize {
        if rng.chance(self.lost_in_thousand) {
            0
        } else {
            1 + usize::from(rng.chance(self.twice_in_thousand))
        }
    }

    /// Whether a signature that was asked for is not made.
    pub(crate) fn unsigned(&self, rng: &mut Rng) -> bool {
        rng.chance(self.unsigned_in_thousand)
    }

    pub(crate) fn delay(&self, rng: &mut Rng) -> Duration {
        let wait = rng.micros(self.delay_micros.0, self.delay_micros.1);
        if rng.chance(self.slow_in_thousand) { wait + rng.micros(10_000, 900_000) } else { wait }
    }
}

impl World {
    pub(super) fn fault(&mut self) -> Step {
        if !self.storm {
            return Ok(());
        }
        match self.rng.below(5) {
            0 | 1 if self.weather.cuts => self.cut(),
            2 if self.weather.crashes => {
                let host = self.rng.below(self.hosts.len());
                if self.hosts[host].core.is_some() {
                    self.crash(host);
                }
            }
            3 if self.weather.wipes => self.wipe(),
            4 if self.weather.changes => self.change()?,
            _ => {}
        }
        let wait = self.rng.micros(50_000, 700_000);
        self.after(wait, Happening::Fault);
        Ok(())
    }

    /// Parts some nodes from the others, in one direction or both.
    fn cut(&mut self) {
        let ids: Vec<PeerId> = self.hosts.iter().map(|host| host.id).collect();
        let apart: BTreeSet<PeerId> =
            ids.iter().filter(|_| self.rng.chance(400)).copied().collect();
        let ways = self.rng.below(3);
        for a in &ids {
            for b in &ids {
                let (out, into) = (apart.contains(a), apart.contains(b));
                if out != into && (ways == 2 || (ways == 0) == out) {
                    self.weather.cut.insert((*a, *b));
                }
            }
        }
        let wait = self.rng.micros(50_000, 3_000_000);
        self.after(wait, Happening::Mend);
    }

    /// A node loses its disk; it counts as faulty until it has come back.
    fn wipe(&mut self) {
        let lost = self.hosts.iter().filter(|host| {
            host.honest()
                && matches!(host.start, Start::Wiped { .. })
                && host.core.as_ref().is_none_or(|core| core.role() != Role::Voter)
        });
        let liars: BTreeSet<PeerId> =
            self.hosts.iter().filter(|host| !host.honest()).map(|host| host.id).collect();
        if lost.count() + liars.len() >= self.faults_max {
            return;
        }
        let host = self.rng.below(self.hosts.len());
        let node = &self.hosts[host];
        if !node.honest() || node.core.as_ref().is_none_or(|core| core.role() != Role::Voter) {
            return;
        }
        self.stats.wipes += 1;
        self.crash(host);
        let nonce = self.rng.next();
        let node = &mut self.hosts[host];
        node.disk = Disk::default();
        node.guards.clear();
        node.start = Start::Wiped { nonce };
        self.trace(host, "loses its disk", String::new);
    }

    /// All correct nodes wish for the same change.
    fn change(&mut self) -> Step {
        let spare = self.hosts.len() - 1;
        let newest = self.hosts.iter().filter_map(|h| h.core.as_ref()).max_by_key(|c| c.epoch());
        let Some(voters) = newest.map(|core| core.directory().voters) else { return Ok(()) };
        let spare_id = self.hosts[spare].id;
        let names: Vec<PeerId> = voters.iter().map(|(_, v)| v.id).collect();
        let one = self.rng.pick(&names).copied().unwrap_or(spare_id);
        let change = if self.rng.chance(500) && voters.seat(&spare_id).is_none() {
            Change::Admit(voter(self.stats.nodes as usize, 0))
        } else if self.rng.chance(500) && voters.count() as u64 >= self.stats.nodes {
            Change::Remove(one)
        } else {
            let mut rotated = voters.named(&one).cloned().unwrap_or_else(|| voter(0, 0));
            let generation = vec![self.rng.next() as u8];
            rotated.keys = crate::blob::Blob::new(generation).unwrap_or_default();
            Change::Rotate(rotated)
        };
        for host in 0..self.hosts.len() {
            if self.hosts[host].honest() && !self.rng.chance(100) {
                self.tickets += 1;
                let ticket = self.tickets;
                self.submit_update(host, ticket, Update::Wish(change.clone()))?;
            }
        }
        Ok(())
    }
}
