//! The world of one simulation and its main loop.

use std::time::Duration;

use exo_types::{Now, PeerId};

use super::clock::{Happening, Queue};
use super::data::Data;
use super::fault::Weather;
use super::host::{Host, Role, identities};
use super::invariant::Checker;
use super::liar::Knowledge;
use super::net::{HostId, Net};
use super::rng::Rng;
use super::watch::{Stats, Trace};
use super::{Options, Outcome, Step, Violation};
use crate::Node;
use crate::effect::Input;

pub(crate) struct World {
    seed: u64,
    pub(super) now: Duration,
    pub(super) queue: Queue,
    pub(super) rng: Rng,
    pub(super) hosts: Vec<Host>,
    pub(super) net: Net,
    pub(super) weather: Weather,
    /// Faults happen.
    pub(super) chaos: bool,
    pub(super) checker: Checker,
    pub(super) knowledge: Knowledge,
    pub(super) stats: Stats,
    pub(super) trace: Trace,
}

impl World {
    pub(super) fn new(seed: u64, options: &Options) -> Result<Self, Violation> {
        let mut rng = Rng::new(seed);
        let weather = Weather::draw(&mut rng);
        let mut roles = vec![Role::Founder];
        roles.extend(std::iter::repeat_n(Role::Member, rng.between(1, 4) as usize));
        for role in [Role::Liar, Role::Pending, Role::Outsider] {
            if rng.chance(400) {
                roles.push(role);
            }
        }
        let mut keys: Vec<_> = identities().iter().collect();
        let mut chosen = Vec::new();
        for _ in &roles {
            chosen.push(keys.remove(rng.below(keys.len())));
        }
        let ids: Vec<PeerId> = chosen.iter().map(|key| key.peer_id()).collect();
        let mut hosts = Vec::new();
        for (id, (role, key)) in roles.into_iter().zip(chosen).enumerate() {
            let data = Data::draw(&mut rng, &ids);
            let skew = weather.draw_skew(&mut rng);
            let chance = rng.fork();
            hosts.push(Host::new(id, role, key.clone(), skew, data, chance)?);
        }
        let checker = Checker::new(&hosts);
        Ok(Self {
            seed,
            now: Duration::ZERO,
            queue: Queue::default(),
            rng,
            hosts,
            net: Net::default(),
            weather,
            chaos: true,
            checker,
            knowledge: Knowledge::default(),
            stats: Stats::default(),
            trace: Trace::new(options.log),
        })
    }

    /// Runs the storm, the calm and the questions at the end.
    pub(super) fn play(&mut self) -> Step {
        for h in 0..self.hosts.len() {
            self.begin(h)?;
        }
        for what in [
            Happening::People,
            Happening::Question,
            Happening::Fault,
            Happening::Attack,
            Happening::Silence,
        ] {
            self.queue.at(Duration::from_millis(20), what);
        }
        let storm = self.weather.storm;
        self.run_until(storm)?;
        self.calm()?;
        self.converge()?;
        self.ask_everybody()?;
        self.fall_idle()
    }

    fn begin(&mut self, h: HostId) -> Step {
        let chaos = std::mem::replace(&mut self.chaos, false);
        self.hosts[h].start(self.now)?;
        let collections = self.hosts[h].data.0.clone();
        self.drive(h, |node, _| {
            for collection in collections {
                node.collection_added(collection.spec, Some(collection.policy));
            }
        })?;
        self.chaos = chaos;
        Ok(())
    }

    pub(super) fn run_until(&mut self, end: Duration) -> Step {
        while self.queue.next_at().is_some_and(|at| at <= end) {
            self.step()?;
        }
        self.now = end;
        Ok(())
    }

    /// Lets the next thing happen.
    pub(super) fn step(&mut self) -> Step {
        let Some((at, what)) = self.queue.pop() else { return Ok(()) };
        self.now = self.now.max(at);
        self.stats.events += 1;
        self.happen(what)?;
        self.checker.check_time(self.now)
    }

    fn happen(&mut self, what: Happening) -> Step {
        match what {
            Happening::Wake { host, life } => self.wake(host, life),
            Happening::Handshake { from, life, to, expect, purpose } => {
                self.handshake(from, life, to, expect, purpose);
                Ok(())
            }
            Happening::DialFails { host, life, peer, purpose, refused } => {
                self.dial_fails(host, life, peer, purpose, refused)
            }
            Happening::Up { conn, side } => self.up(conn, side),
            Happening::Request { stream, bytes } => self.request(stream, bytes),
            Happening::Response { stream, bytes } => self.response(stream, bytes),
            Happening::CallFails { host, life, call, why } => {
                self.call_fails(host, life, call, why)
            }
            Happening::Drained { conn, side, code } => {
                if self.net.is_up(conn, side) {
                    self.close_end(conn, side, Some(code));
                }
                Ok(())
            }
            Happening::Ends { conn, side, code } => {
                self.ends(conn, side, code);
                Ok(())
            }
            Happening::Down { conn, side, code } => self.down(conn, side, code),
            Happening::Found { host, life, job, found } => self.found(host, life, job, found),
            Happening::Restart { host } => self.restart(host),
            Happening::Mend { from, to } => {
                self.net.paths.mend(from, to);
                Ok(())
            }
            Happening::Fault => self.fault(),
            Happening::People => self.people(),
            Happening::Question => self.question(),
            Happening::Attack => {
                self.attack();
                Ok(())
            }
            Happening::Silence => self.silence(),
        }
    }

    /// Gives a node an input and carries out what it wants.
    pub(super) fn input(&mut self, h: HostId, input: Input) -> Step {
        self.trace.digest(&[self.now.as_micros() as u64, h as u64, kind(&input)]);
        let now = self.hosts[h].now(self.now);
        if let Some(node) = self.hosts[h].node.as_mut() {
            node.handle(now, input);
        }
        self.settle(h)
    }

    /// Does something with a node, as its user; `None` when there is no node, or it crashed over it.
    pub(super) fn drive<R>(
        &mut self,
        h: HostId,
        act: impl FnOnce(&mut Node, Now) -> R,
    ) -> Result<Option<R>, Violation> {
        let life = self.hosts[h].life;
        let now = self.hosts[h].now(self.now);
        let Some(node) = self.hosts[h].node.as_mut() else { return Ok(None) };
        let result = act(node, now);
        self.settle(h)?;
        let host = &self.hosts[h];
        Ok((host.life == life && host.works()).then_some(result))
    }

    pub(super) fn trace(&mut self, h: HostId, what: &'static str, more: impl FnOnce() -> String) {
        self.trace.line(self.now, h, what, more);
    }

    pub(super) fn outcome(self, violation: Option<Violation>) -> Outcome {
        Outcome {
            seed: self.seed,
            violation,
            digest: self.trace.value(),
            stats: self.stats,
            log: self.trace.into_lines(),
        }
    }
}

fn kind(input: &Input) -> u64 {
    match input {
        Input::SessionUp { .. } => 1,
        Input::SessionDown { .. } => 2,
        Input::DialFailed { .. } => 3,
        Input::Request { .. } => 4,
        Input::Response { result: Ok(_), .. } => 5,
        Input::Response { result: Err(_), .. } => 6,
        Input::SearchDone { .. } => 7,
        Input::TermsDone { .. } => 8,
        Input::Tick => 9,
        Input::Decided(_) => 10,
        Input::Certified => 11,
        Input::FellSilent(_) => 12,
        Input::SpeaksAgain(_) => 13,
    }
}
