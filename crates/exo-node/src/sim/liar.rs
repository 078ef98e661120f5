//! Attackers: a member that changes, replays and invents messages, and an outsider that has recorded
//! everything everybody said (more than any real one could) and tries it on all.

use exo_crypto::{JoinerSas, SasNonce, SasSession, Signed};
use exo_types::{Epoch, FederationId, Leg, LegKind, Metric, ScoreScale, TermStats, TokenId, Wire};

use super::clock::Happening;
use super::host::Role;
use super::net::{ConnId, HostId, Side, Stream};
use super::rng::Rng;
use super::world::World;
use crate::capability::CapabilitySet;
use crate::descriptor::MemberDescriptor;
use crate::effect::{CallId, Purpose};
use crate::flow::directory::sign_descriptor;
use crate::ticket::Ticket;
use crate::token::FederationToken;
use crate::wire::{Hello, JoinStart, Request, Response};

/// What attackers have recorded.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    requests: Vec<Request>,
    responses: Vec<Response>,
    tokens: Vec<TokenId>,
    signed: Vec<Signed<FederationToken>>,
    next_call: u64,
}

impl Knowledge {
    pub(crate) fn token(&mut self, token: TokenId) {
        remember(&mut self.tokens, token);
    }

    fn call(&mut self) -> CallId {
        self.next_call += 1;
        CallId(MADE_UP_CALLS + self.next_call)
    }
}

/// Keeps the latest.
fn remember<T>(known: &mut Vec<T>, new: T) {
    if known.len() >= REMEMBERED_MAX {
        known.remove(0);
    }
    known.push(new);
}

impl World {
    fn attacked(&self) -> bool {
        self.hosts.iter().any(|host| !host.honest())
    }

    pub(super) fn overheard_request(&mut self, h: HostId, request: &Request) {
        // A ticket's secret is told to its inviter alone, and whoever knows it may use it.
        if self.attacked() && self.hosts[h].honest() && !matches!(request, Request::JoinStart(_)) {
            remember(&mut self.knowledge.requests, request.clone());
        }
    }

    pub(super) fn overheard_response(&mut self, h: HostId, response: &Response) {
        if !self.attacked() || !self.hosts[h].honest() {
            return;
        }
        match response {
            Response::Token(token) => remember(&mut self.knowledge.signed, (**token).clone()),
            Response::Welcome(welcome) => {
                remember(&mut self.knowledge.signed, welcome.token.clone());
            }
            _ => {}
        }
        remember(&mut self.knowledge.responses, response.clone());
    }

    /// What becomes of a message that a node sends: liars change, keep or add some.
    pub(super) fn tampered(&mut self, from: HostId, what: Happening) -> Option<Happening> {
        if self.hosts[from].role != Role::Liar || !self.rng.chance(LIES) {
            return Some(what);
        }
        self.stats.lies += 1;
        if let Happening::Request { stream, .. } | Happening::Response { stream, .. } = &what
            && self.rng.chance(300)
        {
            let conn = stream.conn;
            let side = match &what {
                Happening::Request { .. } => stream.asker,
                _ => stream.asker.other(),
            };
            self.make_up_request(conn, side);
        }
        match what {
            Happening::Request { stream, bytes } => {
                let bytes = self.changed_request(bytes)?;
                Some(Happening::Request { stream, bytes })
            }
            Happening::Response { stream, bytes } => {
                let bytes = self.changed_response(bytes)?;
                Some(Happening::Response { stream, bytes })
            }
            other => Some(other),
        }
    }

    fn changed_request(&mut self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        match self.rng.below(5) {
            0 => None,
            1 | 2 => Some(damaged(&mut self.rng, bytes)),
            3 => self.some_request().and_then(|request| request.to_wire().ok()),
            _ => {
                let request = Request::from_wire(&bytes).ok()?;
                self.twisted_request(request).to_wire().ok()
            }
        }
    }

    /// A request that is well formed and not right.
    fn twisted_request(&mut self, request: Request) -> Request {
        let token = self.rng.pick(&self.knowledge.tokens).copied();
        let signed = self.rng.pick(&self.knowledge.signed).cloned();
        match request {
            Request::Hello(mut hello) => {
                hello.token = signed;
                if self.rng.chance(300) {
                    hello.epoch = Epoch(self.rng.next());
                }
                Request::Hello(hello)
            }
            Request::Search(mut search) => {
                search.token = token.unwrap_or(search.token);
                search.search.top_k = self.rng.between(1, 1000) as u32;
                Request::Search(search)
            }
            Request::Terms(mut terms) => {
                terms.token = token.unwrap_or(terms.token);
                Request::Terms(terms)
            }
            Request::Sync(mut sync) => {
                sync.epoch = Epoch(self.rng.below(3) as u64);
                sync.have.clear();
                Request::Sync(sync)
            }
            other => other,
        }
    }

    fn some_request(&mut self) -> Option<Request> {
        let known = self.rng.pick(&self.knowledge.requests).cloned();
        let made_up = match self.rng.below(6) {
            0 => Request::Grant,
            1 => Request::JoinPoll,
            2 => Request::JoinReveal { nonce: SasNonce::new(self.rng.bytes()) },
            3 => Request::Notify { epoch: Epoch(self.rng.next()) },
            _ => return known.map(|request| self.twisted_request(request)),
        };
        Some(made_up)
    }

    fn changed_response(&mut self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        match self.rng.below(5) {
            0 => None,
            1 => Some(damaged(&mut self.rng, bytes)),
            2 => self.rng.pick(&self.knowledge.responses)?.to_wire().ok(),
            _ => {
                let response = Response::from_wire(&bytes).ok()?;
                let twisted = self.twisted_response(response);
                // What does not encode is not sent: its receiver would refuse it unread.
                twisted.to_wire().ok()
            }
        }
    }

    fn twisted_response(&mut self, response: Response) -> Response {
        let signed = self.rng.pick(&self.knowledge.signed).cloned();
        match response {
            Response::Answer { mut legs } => {
                twist_legs(&mut self.rng, &mut legs);
                Response::Answer { legs }
            }
            Response::Terms(mut stats) => {
                stats.records = u64::MAX;
                stats.tokens = u64::MAX;
                if self.rng.chance(500) {
                    stats.terms = (0..64).map(|i| (format!("t{i:02}"), u64::MAX)).collect();
                }
                Response::Terms(stats)
            }
            Response::Welcome(mut welcome) => {
                welcome.token = signed.unwrap_or(welcome.token);
                welcome.epoch = Epoch(self.rng.next());
                Response::Welcome(welcome)
            }
            Response::Token(token) => Response::Token(signed.map_or(token, Box::new)),
            Response::Synced(mut synced) => {
                let old = self.knowledge.responses.iter().find_map(|known| match known {
                    Response::JoinApproved(approved) => Some(approved.roster.clone()),
                    _ => None,
                });
                synced.roster = old.or(synced.roster);
                Response::Synced(synced)
            }
            _ => Response::Terms(TermStats::default()),
        }
    }

    /// Sends something out of turn; the answer goes to nobody.
    fn make_up_request(&mut self, conn: ConnId, side: Side) {
        if let Some(request) = self.some_request() {
            self.say(conn, side, &request);
        }
    }

    /// Attackers connect to somebody, or end a connection with a lie.
    pub(super) fn attack(&mut self) {
        let next = self.now + self.rng.millis(100, 2_000);
        self.queue.at(next, Happening::Attack);
        let attackers: Vec<HostId> =
            (0..self.hosts.len()).filter(|h| !self.hosts[*h].honest()).collect();
        let Some(from) = self.rng.pick(&attackers).copied() else { return };
        let to = self.rng.below(self.hosts.len());
        if to == from {
            return;
        }
        if self.hosts[from].role == Role::Liar {
            let ends = self.net.ends_of(from);
            if self.rng.chance(100)
                && let Some((conn, side)) = self.rng.pick(&ends).copied()
            {
                let code = Some(self.rng.below(7) as u32);
                self.close_end(conn, side, code);
            }
            return;
        }
        let purpose = if self.rng.chance(500) { Purpose::Member } else { Purpose::Join };
        let (life, expect) = (self.hosts[from].life, self.hosts[to].peer);
        let at = self.now + self.delay();
        self.queue.at(at, Happening::Handshake { from, life, to, expect, purpose });
    }

    /// The outsider has a connection: it says whatever it has heard.
    pub(super) fn outsider_connected(&mut self, conn: ConnId, side: Side) {
        for _ in 0..self.rng.below(6) {
            match self.rng.below(4) {
                0 => self.knock_with_guess(conn, side),
                1 => self.greet_as_member(conn, side),
                _ => self.make_up_request(conn, side),
            }
        }
        if self.rng.chance(500) {
            let at = self.now + self.rng.millis(10, 8_000);
            self.queue.at(at, Happening::Drained { conn, side, code: 0 });
        }
    }

    /// Asks to join with a secret that is guessed.
    fn knock_with_guess(&mut self, conn: ConnId, side: Side) {
        let Some((federation, _)) = self.federation() else { return };
        let Some((host, descriptor)) = self.own_descriptor(conn, side) else { return };
        let (joiner, name) = (self.hosts[host].peer, self.hosts[host].name.clone());
        let session = SasSession {
            exporter: self.rng.bytes(),
            joiner,
            inviter: self.hosts[super::people::FOUNDER].peer,
        };
        let (_, commitment) = JoinerSas::start(session, SasNonce::new(self.rng.bytes()));
        let (federation, secret) = (Ticket::tag(&federation), self.rng.bytes());
        let start = JoinStart { federation, secret, commitment, name, descriptor };
        self.say(conn, side, &Request::JoinStart(Box::new(start)));
    }

    /// Says hello as a member would, under a key that is nobody's.
    fn greet_as_member(&mut self, conn: ConnId, side: Side) {
        let Some((federation, epoch)) = self.federation() else { return };
        let Some((_, descriptor)) = self.own_descriptor(conn, side) else { return };
        let token = match self.rng.chance(500) {
            true => self.rng.pick(&self.knowledge.signed).cloned(),
            false => None,
        };
        let capabilities = CapabilitySet::of_this_version();
        let hello = Hello { federation, epoch, capabilities, descriptor, token };
        self.say(conn, side, &Request::Hello(Box::new(hello)));
    }

    /// What everybody who has seen a member may know.
    fn federation(&self) -> Option<(FederationId, Epoch)> {
        let founder = self.hosts[super::people::FOUNDER].node.as_ref()?;
        let membership = founder.membership.as_ref()?;
        Some((membership.id, membership.roster.epoch))
    }

    /// A descriptor of the attacker at one end of a connection, signed by itself.
    fn own_descriptor(
        &self,
        conn: ConnId,
        side: Side,
    ) -> Option<(HostId, Signed<MemberDescriptor>)> {
        let host = &self.hosts[self.net.end(conn, side)?.host];
        let now = host.now(self.now).wall;
        let described = sign_descriptor(
            &host.keypair,
            &[super::host::address(host.id)],
            &[],
            &super::host::cosigner(&host.keypair).ok()?,
            &CapabilitySet::of_this_version(),
            now.0,
            now,
        );
        Some((host.id, described.ok()?.into_signed()))
    }

    /// Puts a request on its way whose answer goes to nobody.
    fn say(&mut self, conn: ConnId, side: Side, request: &Request) {
        let Ok(bytes) = request.to_wire() else { return };
        let stream = Stream { conn, asker: side, call: self.knowledge.call() };
        let at = self.now + self.delay();
        self.stats.lies += 1;
        self.queue.at(at, Happening::Request { stream, bytes });
    }
}

/// Bytes with something wrong. Flips never leave a byte as it was, so that what happens does not
/// depend on the bytes of signatures.
fn damaged(rng: &mut Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    match rng.below(3) {
        0 => bytes.truncate(rng.below(bytes.len())),
        1 => bytes.extend_from_slice(&rng.bytes::<8>()[..1 + rng.below(8)]),
        _ => {
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= rng.between(1, 255) as u8;
                }
            }
        }
    }
    bytes
}

fn twist_legs(rng: &mut Rng, legs: &mut Vec<Leg>) {
    match rng.below(5) {
        0 => {
            for hit in legs.iter_mut().flat_map(|leg| &mut leg.hits) {
                hit.score = rng.between(0, 2_000) as f32 - 1_000.0;
            }
        }
        1 => legs.iter_mut().for_each(|leg| leg.hits.reverse()),
        2 => {
            for leg in legs.iter_mut() {
                let again = leg.hits.clone();
                leg.hits.extend(again);
            }
        }
        3 => {
            let scale =
                ScoreScale::Vector { metric: Metric::L2, dimensions: 0, embedder: "x".to_owned() };
            let hits = legs.first().map(|leg| leg.hits.clone()).unwrap_or_default();
            legs.push(Leg { kind: LegKind::Vector, scale, hits });
        }
        _ => legs.clear(),
    }
}

/// Numbers of calls that no node made.
const MADE_UP_CALLS: u64 = 1 << 40;
/// Messages of each kind that attackers remember.
const REMEMBERED_MAX: usize = 48;
/// Messages of a liar that it changes, in a thousand.
const LIES: u64 = 120;
