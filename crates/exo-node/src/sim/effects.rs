//! Carrying out what a simulated node wants, as the driver does: in its order, nothing sent once a
//! save has failed.

use std::time::Duration;

use exo_types::Wire;
use exo_types::limits::HANDSHAKE_TIMEOUT_MILLIS;

use super::clock::{Found, Happening};
use super::host::at_address;
use super::net::{EndState, HostId, Side, Stream};
use super::world::World;
use super::{Step, Violation};
use crate::effect::{CallFailure, CallId, Effect, ExchangeId, SessionId};
use crate::wire::{CloseReason, Request, Response};

impl World {
    /// Carries out everything a node wants. A crash may come between any two effects.
    pub(super) fn settle(&mut self, h: HostId) -> Step {
        loop {
            let host = &mut self.hosts[h];
            let Some(effect) = host.node.as_mut().and_then(crate::Node::poll_effect) else { break };
            if self.chaos && self.rng.below(self.weather.effects_per_crash) == 0 {
                self.trace(h, "crashes", || format!("before {}", name(&effect)));
                return self.crash(h);
            }
            if self.hosts[h].broken {
                continue;
            }
            self.carry_out(h, effect)?;
        }
        self.check_load(h)?;
        self.set_wake(h);
        Ok(())
    }

    fn set_wake(&mut self, h: HostId) {
        let host = &mut self.hosts[h];
        let wake = host.node.as_ref().and_then(crate::Node::next_wake);
        let wake = wake.map(|at| host.clocks.started + at);
        if wake != host.wake_at {
            host.wake_at = wake;
            if let Some(at) = wake {
                let life = host.life;
                // A driver's timer is late by a little.
                let late = Duration::from_micros(self.rng.between(0, WAKE_LATE_MICROS_MAX));
                self.queue.at(at.max(self.now) + late, Happening::Wake { host: h, life });
            }
        }
    }

    fn carry_out(&mut self, h: HostId, effect: Effect) -> Step {
        self.trace(h, name(&effect), || describe(&effect));
        match effect {
            Effect::Persist(bytes) => self.persist(h, bytes),
            Effect::Dial { peer, addresses, purpose } => {
                let life = self.hosts[h].life;
                match addresses.iter().find_map(at_address).filter(|to| *to < self.hosts.len()) {
                    Some(to) => {
                        let what =
                            Happening::Handshake { from: h, life, to, expect: peer, purpose };
                        let at = self.now + self.delay();
                        self.queue.at(at, what);
                    }
                    None => {
                        let refused = false;
                        let what = Happening::DialFails { host: h, life, peer, purpose, refused };
                        self.queue.at(self.now, what);
                    }
                }
            }
            Effect::Call { session, call, request, timeout } => {
                return self.call(h, session, call, &request, timeout);
            }
            Effect::Respond { exchange, response } => return self.respond(h, exchange, &response),
            Effect::Rekey { fresh } => {
                let ring = super::host::keyring(self.hosts[h].now(self.now).wall)?;
                return self.drive(h, |node, now| node.rekey(now, ring, fresh).is_ok()).map(|_| ());
            }
            Effect::Abandon { exchange } => self.abandon(h, exchange),
            Effect::Close { session, reason, drain } => self.close(h, session, reason, drain),
            Effect::Search { job, collections, search } => {
                self.checker.own_search(h, self.hosts[h].node.as_ref(), job, &search)?;
                let found = match self.chaos && self.rng.chance(self.weather.search_fails) {
                    true => Err("the disk is slow".to_owned()),
                    false => Ok(self.hosts[h].data.search(&collections, &search)),
                };
                self.found_later(h, job, Found::Hits(found));
            }
            Effect::Terms { job, collections, text } => {
                let found = match self.chaos && self.rng.chance(self.weather.search_fails) {
                    true => Err("the disk is slow".to_owned()),
                    false => Ok(self.hosts[h].data.terms(&collections, &text)),
                };
                self.found_later(h, job, Found::Terms(found));
            }
            Effect::Progress { query, report } => self.checker.progress(h, query, &report)?,
            Effect::QueryDone { query, result } => return self.query_done(h, query, &result),
            Effect::PingDone { .. }
            | Effect::Event(_)
            | Effect::Returned
            | Effect::Constituted { .. }
            | Effect::Propose(_)
            | Effect::Lane { .. }
            | Effect::Behind(_) => {}
        }
        Ok(())
    }

    fn persist(&mut self, h: HostId, bytes: Vec<u8>) {
        if self.chaos && self.rng.chance(self.weather.saves_fail) {
            self.trace(h, "a save fails", String::new);
            self.hosts[h].broken = true;
            self.checker.gone(h);
            return;
        }
        self.hosts[h].disk.save(bytes);
    }

    fn found_later(&mut self, h: HostId, job: crate::effect::JobId, found: Found) {
        let wait = match self.chaos && self.rng.chance(self.weather.search_slow) {
            true => self.rng.millis(200, 4_000),
            false => self.rng.millis(0, 20),
        };
        let life = self.hosts[h].life;
        self.queue.at(self.now + wait, Happening::Found { host: h, life, job, found });
    }

    fn call(
        &mut self,
        h: HostId,
        session: SessionId,
        call: CallId,
        request: &Request,
        timeout: Duration,
    ) -> Step {
        let life = self.hosts[h].life;
        let fails = |why| Happening::CallFails { host: h, life, call, why };
        let found = self.net.find(h, life, session);
        let Some((conn, side)) = found.filter(|(conn, side)| self.net.is_up(*conn, *side)) else {
            self.queue.at(self.now, fails(CallFailure::Lost));
            // What is asked of nobody reaches nobody.
            self.hosts[h]
                .calls
                .insert(call, Stream { conn: super::net::ConnId(0), asker: Side::Dialler, call });
            return Ok(());
        };
        let stream = Stream { conn, asker: side, call };
        self.check_call(h, stream, request)?;
        let bytes = request.to_wire();
        let bytes = bytes.map_err(|error| Violation(format!("{h} encodes no request: {error}")))?;
        self.hosts[h].calls.insert(call, stream);
        self.queue.at(self.now + timeout, fails(CallFailure::Timeout));
        self.send(h, Happening::Request { stream, bytes });
        Ok(())
    }

    fn respond(&mut self, h: HostId, exchange: ExchangeId, response: &Response) -> Step {
        let Some(known) = self.hosts[h].exchanges.remove(&exchange) else { return Ok(()) };
        if !self.net.is_up(known.stream.conn, known.stream.asker.other()) {
            return Ok(());
        }
        self.check_respond(h, &known, response)?;
        let bytes = response.to_wire();
        let bytes = bytes.map_err(|error| Violation(format!("{h} encodes no answer: {error}")))?;
        self.send(h, Happening::Response { stream: known.stream, bytes });
        Ok(())
    }

    /// A request's stream is ended without an answer, which its asker sees a little later.
    fn abandon(&mut self, h: HostId, exchange: ExchangeId) {
        let Some(known) = self.hosts[h].exchanges.remove(&exchange) else { return };
        let Stream { conn, asker, call } = known.stream;
        let Some(end) = self.net.conns.get(&conn).map(|conn| conn.end(asker)) else { return };
        let fails =
            Happening::CallFails { host: end.host, life: end.life, call, why: CallFailure::Lost };
        let at = self.now + self.delay();
        self.queue.at(at, fails);
    }

    /// Puts a message on its way. Liars change what they send.
    pub(super) fn send(&mut self, from: HostId, what: Happening) {
        let at = self.now + self.delay();
        match self.tampered(from, what) {
            Some(what) => self.queue.at(at, what),
            None => self.stats.swallowed += 1,
        }
    }

    fn close(&mut self, h: HostId, session: SessionId, reason: CloseReason, drain: bool) {
        let life = self.hosts[h].life;
        let Some((conn, side)) = self.net.find(h, life, session) else { return };
        if drain {
            let what = Happening::Drained { conn, side, code: reason.code() };
            self.queue.at(self.now + DRAIN, what);
        } else {
            self.close_end(conn, side, Some(reason.code()));
        }
    }

    /// Closes one end: what it waits for is lost, and the other side hears of it.
    pub(super) fn close_end(&mut self, conn: super::net::ConnId, side: Side, code: Option<u32>) {
        self.end_here(conn, side, None);
        let at = self.now + self.delay();
        self.queue.at(at, Happening::Ends { conn, side: side.other(), code });
    }

    /// An end is over: its calls are lost, its requests are forgotten, its node will be told.
    pub(super) fn end_here(&mut self, conn: super::net::ConnId, side: Side, code: Option<u32>) {
        let Some(end) = self.net.conns.get_mut(&conn).map(|known| known.end_mut(side)) else {
            return;
        };
        if end.state == EndState::Down {
            return;
        }
        let told = end.state == EndState::Up;
        end.state = EndState::Down;
        let (h, life) = (end.host, end.life);
        if self.hosts[h].life != life {
            return;
        }
        let host = &mut self.hosts[h];
        host.exchanges.retain(|_, known| known.stream.conn != conn);
        let lost: Vec<CallId> = host
            .calls
            .iter()
            .filter(|(_, stream)| stream.conn == conn && stream.asker == side)
            .map(|(call, _)| *call)
            .collect();
        for call in lost {
            let soon = self.now + self.rng.millis(0, 2);
            let why = CallFailure::Lost;
            self.queue.at(soon, Happening::CallFails { host: h, life, call, why });
        }
        if told {
            let soon = self.now + self.rng.millis(0, 2);
            self.queue.at(soon, Happening::Down { conn, side, code });
        }
    }

    /// How long a message is on its way.
    pub(super) fn delay(&mut self) -> Duration {
        let (low, high) = self.weather.delay_millis;
        if self.chaos && self.rng.chance(self.weather.delay_tail) {
            return self.rng.millis(high, 1_500);
        }
        self.rng.millis(low, high)
    }
}

/// The word for an effect in a trace.
fn name(effect: &Effect) -> &'static str {
    match effect {
        Effect::Persist(_) => "saves",
        Effect::Dial { .. } => "dials",
        Effect::Call { .. } => "asks",
        Effect::Respond { .. } => "answers",
        Effect::Abandon { .. } => "abandons",
        Effect::Rekey { .. } => "wants keys",
        Effect::Close { .. } => "closes",
        Effect::Search { .. } => "searches",
        Effect::Terms { .. } => "counts",
        Effect::Progress { .. } => "reports",
        Effect::QueryDone { .. } => "ends a query",
        Effect::PingDone { .. } => "ends a ping",
        Effect::Event(_) => "tells",
        Effect::Returned => "was a member before",
        Effect::Constituted { .. } => "begins to decide",
        Effect::Propose(_) => "proposes",
        Effect::Lane { .. } => "names a lane",
        Effect::Behind(_) => "is behind",
    }
}

fn describe(effect: &Effect) -> String {
    match effect {
        Effect::Persist(bytes) => format!("{} bytes", bytes.len()),
        Effect::Call { session, call, request, .. } => {
            let text = format!("{request:?}");
            format!("{session:?} {call:?} {}", text.chars().take(90).collect::<String>())
        }
        Effect::Respond { exchange, response } => {
            let text = format!("{response:?}");
            format!("{exchange:?} {}", text.chars().take(90).collect::<String>())
        }
        other => {
            let text = format!("{other:?}");
            text.chars().take(160).collect()
        }
    }
}

/// How long a session that is replaced may finish what is under way.
const DRAIN: Duration = Duration::from_secs(2);
/// How late a driver's timer is, at most.
pub(super) const WAKE_LATE_MICROS_MAX: u64 = 2_000;
/// How long a dial may take.
pub(super) const DIAL: Duration = Duration::from_millis(HANDSHAKE_TIMEOUT_MILLIS);
