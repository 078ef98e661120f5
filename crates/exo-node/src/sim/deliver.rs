//! What arrives at a node: handshakes, requests, answers, ends.

use std::time::Duration;

use exo_types::limits::{IDLE_TIMEOUT_MILLIS, SILENCE_MILLIS};
use exo_types::{PeerId, Wire};

use super::clock::{Found, Happening};
use super::effects::DIAL;
use super::net::{Conn, ConnId, End, EndState, Exchange, HostId, Side, Stream};
use super::world::World;
use super::{Step, host::Role};
use crate::effect::{CallFailure, CallId, ExchangeId, Input, Purpose, SessionId};
use crate::refusal::Refusal;
use crate::wire::{CloseReason, Request, Response};

impl World {
    pub(super) fn wake(&mut self, h: HostId, life: u32) -> Step {
        let host = &mut self.hosts[h];
        if host.life != life {
            return Ok(());
        }
        host.wake_at = None;
        self.input(h, Input::Tick)
    }

    /// A dial arrives; the gate is asked once the key is proven.
    pub(super) fn handshake(
        &mut self,
        from: HostId,
        life: u32,
        to: HostId,
        expect: PeerId,
        purpose: Purpose,
    ) {
        if self.hosts[from].life != life {
            return;
        }
        let fails =
            |refused| Happening::DialFails { host: from, life, peer: expect, purpose, refused };
        let paths = &self.net.paths;
        let reaches = paths.open(from, to) && paths.open(to, from);
        let answers = self.hosts[to].node.is_some() || self.hosts[to].role == Role::Outsider;
        if !reaches || !answers {
            return self.queue.at(self.now + DIAL, fails(false));
        }
        if self.hosts[to].peer != expect {
            let at = self.now + self.delay();
            return self.queue.at(at, fails(false));
        }
        let (dialler, now_there) = (self.hosts[from].peer, self.hosts[to].now(self.now));
        let admitted = self.hosts[to].node.as_ref().is_some_and(|n| n.admits(now_there, &dialler));
        let back = self.now + self.delay();
        if !admitted && self.rng.chance(500) {
            return self.queue.at(back, fails(true));
        }
        let exporter = self.rng.bytes();
        let (here, there) = (self.hosts[from].number(), self.hosts[to].number());
        let accepting = if admitted { EndState::Pending } else { EndState::Down };
        let conn = self.net.open(Conn {
            purpose,
            exporter,
            dialler: End::new(from, life, SessionId(here), EndState::Pending),
            acceptor: End::new(to, self.hosts[to].life, SessionId(there), accepting),
            over: false,
        });
        self.queue.at(back, Happening::Up { conn, side: Side::Dialler });
        let at = back + self.delay();
        if admitted {
            self.queue.at(at, Happening::Up { conn, side: Side::Acceptor });
        } else {
            // The dialling side learns only afterwards that it is not admitted.
            let code = Some(CloseReason::Refused.code());
            self.queue.at(at, Happening::Ends { conn, side: Side::Dialler, code });
        }
    }

    pub(super) fn dial_fails(
        &mut self,
        h: HostId,
        life: u32,
        peer: PeerId,
        purpose: Purpose,
        refused: bool,
    ) -> Step {
        if self.hosts[h].life != life {
            return Ok(());
        }
        let detail = if refused { "the peer refused the connection" } else { "nobody answers" };
        self.input(h, Input::DialFailed { peer, purpose, detail: detail.to_owned(), refused })
    }

    pub(super) fn up(&mut self, id: ConnId, side: Side) -> Step {
        let Some(conn) = self.net.conns.get_mut(&id) else { return Ok(()) };
        let (purpose, exporter) = (conn.purpose, conn.exporter);
        let peer = conn.end(side.other()).host;
        let end = conn.end_mut(side);
        let (h, life, session) = (end.host, end.life, end.session);
        if self.hosts[h].life != life {
            return Ok(());
        }
        if end.state == EndState::Down {
            // It ended before the node knew of it: to a dialler the dial has failed.
            return match side {
                Side::Dialler => self.dial_fails(h, life, self.hosts[peer].peer, purpose, false),
                Side::Acceptor => Ok(()),
            };
        }
        end.state = EndState::Up;
        if self.hosts[h].role == Role::Outsider {
            self.outsider_connected(id, side);
            return Ok(());
        }
        let key = self.hosts[peer].keypair.public().clone();
        let dialled = side == Side::Dialler;
        self.input(h, Input::SessionUp { session, key, dialled, purpose, exporter })
    }

    /// Whether a message for an end may be taken in now; otherwise it waits or is dropped.
    fn arrives(&mut self, conn: ConnId, to: Side, what: Happening) -> Option<Happening> {
        let known = self.net.conns.get(&conn)?;
        let (from, end) = (known.end(to.other()).host, known.end(to));
        let (h, state) = (end.host, end.state);
        if self.hosts[h].life != end.life || state == EndState::Down {
            return None;
        }
        if !self.net.paths.open(from, h) {
            let later = self.now + self.rng.millis(100, 400);
            self.queue.at(later, what);
            return None;
        }
        if state == EndState::Pending {
            self.queue.at(self.now + Duration::from_millis(3), what);
            return None;
        }
        Some(what)
    }

    pub(super) fn request(&mut self, stream: Stream, bytes: Vec<u8>) -> Step {
        let to = stream.asker.other();
        let what = Happening::Request { stream, bytes };
        let Some(Happening::Request { bytes, .. }) = self.arrives(stream.conn, to, what) else {
            return Ok(());
        };
        let Some(end) = self.net.end(stream.conn, to).cloned() else { return Ok(()) };
        let h = end.host;
        if self.chaos && self.rng.chance(self.weather.streams_reset) {
            self.reset(stream);
            return Ok(());
        }
        if self.hosts[h].role == Role::Outsider || self.hosts[h].broken {
            return Ok(());
        }
        match Request::from_wire(&bytes) {
            Ok(request) => {
                self.overheard_request(h, &request);
                let entitled = self.entitled(h, stream, &request);
                let exchange = ExchangeId(self.hosts[h].number());
                self.hosts[h].exchanges.insert(exchange, Exchange { stream, entitled });
                self.trace(h, "is asked", || {
                    let text = format!("{:?} {request:?}", end.session);
                    text.chars().take(110).collect()
                });
                self.input(h, Input::Request { session: end.session, exchange, request })
            }
            Err(_) => {
                self.stats.malformed += 1;
                let refused = Response::Refused(Refusal::Malformed);
                if let Ok(bytes) = refused.to_wire() {
                    self.send(h, Happening::Response { stream, bytes });
                }
                Ok(())
            }
        }
    }

    /// Whether a request for data comes with a token that is good at this moment.
    fn entitled(&self, h: HostId, stream: Stream, request: &Request) -> bool {
        let token = match request {
            Request::Search(search) => search.token,
            Request::Terms(terms) => terms.token,
            Request::Onion(onion) => onion.token,
            _ => return false,
        };
        let Some(from) = self.net.end(stream.conn, stream.asker).map(|end| end.host) else {
            return false;
        };
        let membership = self.hosts[h].node.as_ref().and_then(|node| node.membership.as_ref());
        membership.is_some_and(|membership| {
            let (peer, epoch) = (self.hosts[from].peer, membership.roster.epoch);
            self.checker.entitles(h, peer, &token, epoch)
        })
    }

    /// The answering side gives a request up: its asker finds the answer lost.
    pub(super) fn reset(&mut self, stream: Stream) {
        let Some(end) = self.net.end(stream.conn, stream.asker) else { return };
        let (host, life) = (end.host, end.life);
        let (call, why) = (stream.call, CallFailure::Lost);
        let at = self.now + self.delay();
        self.queue.at(at, Happening::CallFails { host, life, call, why });
    }

    pub(super) fn response(&mut self, stream: Stream, bytes: Vec<u8>) -> Step {
        let what = Happening::Response { stream, bytes };
        let Some(Happening::Response { bytes, .. }) = self.arrives(stream.conn, stream.asker, what)
        else {
            return Ok(());
        };
        let Some(end) = self.net.end(stream.conn, stream.asker) else { return Ok(()) };
        let h = end.host;
        let decoded = Response::from_wire(&bytes);
        if let Ok(response) = &decoded {
            self.check_heard(h, stream, response)?;
            self.overheard_response(h, response);
        }
        if self.hosts[h].calls.remove(&stream.call).is_none() {
            return Ok(());
        }
        let result = decoded.map_err(|_| CallFailure::Garbage);
        self.trace(h, "hears", || {
            let text = format!("{:?} {result:?}", stream.call);
            text.chars().take(110).collect()
        });
        self.checker.answer(h, self.hosts[h].node.as_ref(), stream.call, &result);
        self.input(h, Input::Response { call: stream.call, result })
    }

    pub(super) fn call_fails(
        &mut self,
        h: HostId,
        life: u32,
        call: CallId,
        why: CallFailure,
    ) -> Step {
        if self.hosts[h].life != life || self.hosts[h].calls.remove(&call).is_none() {
            return Ok(());
        }
        self.input(h, Input::Response { call, result: Err(why) })
    }

    pub(super) fn ends(&mut self, conn: ConnId, side: Side, code: Option<u32>) {
        let Some(known) = self.net.conns.get(&conn) else { return };
        let (from, to) = (known.end(side.other()).host, known.end(side).host);
        if !self.net.paths.open(from, to) && code.is_some() {
            // The close is lost; silence will say it.
            let at = self.now + Duration::from_millis(IDLE_TIMEOUT_MILLIS);
            return self.queue.at(at, Happening::Ends { conn, side, code: None });
        }
        self.end_here(conn, side, code);
    }

    pub(super) fn down(&mut self, conn: ConnId, side: Side, code: Option<u32>) -> Step {
        let Some(end) = self.net.end(conn, side).cloned() else { return Ok(()) };
        if self.hosts[end.host].life != end.life {
            return Ok(());
        }
        let reason = code.and_then(|code| CloseReason::from_code(u64::from(code)));
        if self.hosts[end.host].role == Role::Outsider {
            return Ok(());
        }
        self.input(end.host, Input::SessionDown { session: end.session, reason })
    }

    pub(super) fn found(
        &mut self,
        h: HostId,
        life: u32,
        job: crate::effect::JobId,
        found: Found,
    ) -> Step {
        if self.hosts[h].life != life {
            return Ok(());
        }
        self.input(
            h,
            match found {
                Found::Hits(result) => Input::SearchDone { job, result },
                Found::Terms(result) => Input::TermsDone { job, result },
            },
        )
    }

    /// Connections over paths that have been cut too long are over on both ends; before that the ends notice
    /// that nothing comes.
    pub(super) fn silence(&mut self) -> Step {
        let idle = Duration::from_millis(IDLE_TIMEOUT_MILLIS);
        for (a, b) in self.net.paths.silent(self.now, idle) {
            for (id, side) in self.net.ends_of(a) {
                let Some(conn) = self.net.conns.get(&id) else { continue };
                if conn.end(side.other()).host != b {
                    continue;
                }
                for side in [side, side.other()] {
                    let at = self.now + self.rng.millis(0, 900);
                    self.queue.at(at, Happening::Ends { conn: id, side, code: None });
                }
            }
        }
        self.net.forget_over();
        self.queue.at(self.now + Duration::from_secs(1), Happening::Silence);
        self.hush()
    }

    /// Tells nodes whose peers have fallen silent, and whose speak again.
    fn hush(&mut self) -> Step {
        let cut = self.net.paths.silent(self.now, Duration::from_millis(SILENCE_MILLIS));
        let mut told = Vec::new();
        for conn in self.net.conns.values_mut() {
            for side in [Side::Dialler, Side::Acceptor] {
                let (other, end) = (conn.end(side.other()).clone(), conn.end_mut(side));
                let here = &self.hosts[end.host];
                if end.state != EndState::Up || here.life != end.life || here.node.is_none() {
                    continue;
                }
                let gone = self.hosts[other.host].life != other.life;
                let pairs = [(end.host, other.host), (other.host, end.host)];
                let silent = gone || pairs.iter().any(|pair| cut.contains(pair));
                if silent != end.silent {
                    end.silent = silent;
                    told.push((end.host, end.session, silent));
                }
            }
        }
        for (h, session, silent) in told {
            let input = if silent { Input::FellSilent } else { Input::SpeaksAgain };
            self.input(h, input(session))?;
        }
        Ok(())
    }
}
