//! The weather of a run, drawn from its seed, and the faults it brings.

use std::time::Duration;

use exo_types::limits::IDLE_TIMEOUT_MILLIS;

use super::Step;
use super::clock::Happening;
use super::host::Role;
use super::net::{EndState, HostId, Side};
use super::rng::Rng;
use super::world::World;

/// How bad it gets. Chances are in a thousand unless said otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// How long the storm lasts.
    pub(crate) storm: Duration,
    pub(crate) delay_millis: (u64, u64),
    /// Messages that take up to a second and a half.
    pub(crate) delay_tail: u64,
    /// One effect in so many is preceded by a crash.
    pub(crate) effects_per_crash: usize,
    pub(crate) saves_fail: u64,
    pub(crate) streams_reset: u64,
    pub(crate) search_fails: u64,
    pub(crate) search_slow: u64,
    fault_every_millis: (u64, u64),
    clocks_off: bool,
    pub(crate) question_every_millis: u64,
}

impl Weather {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let low = rng.between(1, 20);
        Self {
            storm: rng.millis(10_000, 50_000),
            delay_millis: (low, low + rng.between(1, 80)),
            delay_tail: if rng.chance(500) { rng.between(0, 60) } else { 0 },
            effects_per_crash: if rng.chance(600) { 300 } else { 100_000 },
            saves_fail: if rng.chance(300) { 10 } else { 0 },
            streams_reset: if rng.chance(400) { 15 } else { 0 },
            search_fails: if rng.chance(400) { 60 } else { 0 },
            search_slow: if rng.chance(400) { 80 } else { 0 },
            fault_every_millis: if rng.chance(800) { (300, 6_000) } else { (20_000, 60_000) },
            clocks_off: rng.chance(500),
            question_every_millis: rng.between(150, 900),
        }
    }

    /// How far a clock is off, milliseconds.
    pub(crate) fn draw_skew(&self, rng: &mut Rng) -> i64 {
        let most = if self.clocks_off && rng.chance(400) { 600_000 } else { 4_000 };
        rng.between(0, 2 * most) as i64 - most as i64
    }
}

impl World {
    /// Something breaks.
    pub(super) fn fault(&mut self) -> Step {
        if !self.chaos {
            return Ok(());
        }
        let (low, high) = self.weather.fault_every_millis;
        let next = self.now + self.rng.millis(low, high);
        self.queue.at(next, Happening::Fault);
        let h = self.rng.below(self.hosts.len());
        match self.rng.below(8) {
            0 | 1 => self.crash(h),
            2 => {
                self.isolate(h);
                Ok(())
            }
            3 | 4 => {
                self.cut_path(h);
                Ok(())
            }
            5 | 6 => {
                self.cut_connection(h);
                Ok(())
            }
            _ => {
                self.hosts[h].clocks.skew = self.weather.draw_skew(&mut self.rng);
                Ok(())
            }
        }
    }

    /// Ends a node's life between two effects: what it did not save is lost.
    pub(super) fn crash(&mut self, h: HostId) -> Step {
        if self.hosts[h].node.is_none() {
            return Ok(());
        }
        self.trace(h, "crash", String::new);
        self.stats.crashes += 1;
        self.checker.gone(h);
        let idle = Duration::from_millis(IDLE_TIMEOUT_MILLIS);
        for (conn, side) in self.net.ends_of(h) {
            if let Some(known) = self.net.conns.get_mut(&conn) {
                known.end_mut(side).state = EndState::Down;
            }
            let at = self.now + idle + self.rng.millis(0, 1_000);
            self.queue.at(at, Happening::Ends { conn, side: side.other(), code: None });
        }
        self.hosts[h].stop();
        let wait = if self.rng.chance(700) { (20, 1_500) } else { (1_500, 45_000) };
        let at = self.now + self.rng.millis(wait.0, wait.1);
        self.queue.at(at, Happening::Restart { host: h });
        Ok(())
    }

    /// Starts a node from its disk. Peers that still hold a connection of its former life are told,
    /// at the latest when they next send a sign of life (RFC 9000 section 10.3).
    pub(super) fn restart(&mut self, h: HostId) -> Step {
        if self.hosts[h].node.is_some() || self.hosts[h].role == Role::Outsider {
            return Ok(());
        }
        self.trace(h, "starts again", String::new);
        let life = self.hosts[h].life;
        let former: Vec<_> = self
            .net
            .conns
            .iter()
            .filter_map(|(id, conn)| {
                let of = |side: Side| conn.end(side).host == h && conn.end(side).life < life;
                [Side::Dialler, Side::Acceptor].into_iter().find(|s| of(*s)).map(|s| (*id, s))
            })
            .collect();
        for (conn, side) in former {
            let at = self.now + self.rng.millis(5, 10_000);
            self.queue.at(at, Happening::Ends { conn, side: side.other(), code: None });
        }
        self.hosts[h].start(self.now)?;
        self.check_restarted(h)?;
        self.settle(h)
    }

    fn mend_later(&mut self, from: HostId, to: HostId, wait: Duration) {
        self.net.paths.cut(from, to, self.now);
        self.queue.at(self.now + wait, Happening::Mend { from, to });
        self.stats.partitions += 1;
    }

    fn drawn_cut(&mut self) -> Duration {
        let (low, high) = if self.rng.chance(700) { (100, 5_000) } else { (5_000, 50_000) };
        self.rng.millis(low, high)
    }

    fn isolate(&mut self, h: HostId) {
        let wait = self.drawn_cut();
        for other in (0..self.hosts.len()).filter(|other| *other != h) {
            self.mend_later(h, other, wait);
            self.mend_later(other, h, wait);
        }
    }

    fn cut_path(&mut self, h: HostId) {
        let other = self.rng.below(self.hosts.len());
        let wait = self.drawn_cut();
        if other == h {
            return;
        }
        self.mend_later(h, other, wait);
        if self.rng.chance(600) {
            self.mend_later(other, h, wait);
        }
    }

    /// A connection is lost on both ends, each hearing of it in its own time.
    fn cut_connection(&mut self, h: HostId) {
        let ends = self.net.ends_of(h);
        let Some((conn, side)) = self.rng.pick(&ends).copied() else { return };
        self.stats.cuts += 1;
        for side in [side, side.other()] {
            let at = self.now + self.rng.millis(0, 800);
            self.queue.at(at, Happening::Ends { conn, side, code: None });
        }
    }
}
