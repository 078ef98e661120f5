//! A few nodes on wires held in hand: nothing arrives before the test lets it, and every effect can
//! be looked at. For single flows; whole federations are simulated.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use exo_crypto::{KemKeyring, PostQuantumKeypair};
use exo_node::decide::Decision;
use exo_node::effect::{
    CallFailure, CallId, Effect, Event, ExchangeId, Input, JobId, Purpose, SessionId,
};
use exo_node::policy::OnionPolicy;
use exo_node::roster::{Roster, RosterBody};
use exo_node::ticket::Ticket;
use exo_node::wire::{CloseReason, Request, Response};
use exo_node::{Node, Settings};
use exo_onion::ReplayCache;
use exo_types::{
    CollectionName, CollectionSpec, Metric, NodeName, Now, PeerAddress, PeerId, Timestamp, Wire,
};

/// Something on its way, or to be done.
#[derive(Debug)]
pub(crate) enum Pending {
    Request {
        from: usize,
        to: usize,
        session: SessionId,
        call: CallId,
        request: Request,
    },
    Response {
        to: usize,
        call: CallId,
        response: Response,
    },
    Dial {
        from: usize,
        to: usize,
        purpose: Purpose,
    },
    Search {
        at: usize,
        job: JobId,
    },
    Terms {
        at: usize,
        job: JobId,
    },
    /// A request that was given up without an answer.
    Lost {
        to: usize,
        call: CallId,
    },
    Close {
        at: usize,
        session: SessionId,
        reason: CloseReason,
        drain: bool,
    },
}

/// One node and what its driver keeps.
pub(crate) struct Host {
    pub(crate) node: Option<Node>,
    pub(crate) keypair: Arc<PostQuantumKeypair>,
    pub(crate) disk: Option<Vec<u8>>,
    pub(crate) events: Vec<Event>,
    /// Effects that it may still carry out before it crashes.
    pub(crate) effects_left: usize,
    pub(crate) done: Vec<exo_types::FederatedResult>,
    pub(crate) host_name: String,
    pub(crate) onion: OnionPolicy,
    /// Seed of the key with which it cosigns.
    pub(crate) cosigner: [u8; 32],
    /// The constitution it was told of, and what it proposed since.
    pub(crate) founding: Option<Arc<RosterBody>>,
    /// It was told that it had been a member before.
    pub(crate) again: bool,
    pub(crate) proposed: Vec<Decision>,
    pub(crate) lanes: BTreeMap<PeerId, Option<SessionId>>,
    pub(crate) behind: Vec<PeerId>,
    salt: u8,
}

struct Conn {
    ends: [(usize, SessionId); 2],
    open: bool,
}

/// The nodes, the time, and what is on its way.
pub(crate) struct Wires {
    pub(crate) hosts: Vec<Host>,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) now: Duration,
    /// How far every wall clock has been set back, milliseconds.
    pub(crate) back: u64,
    /// With how many members a federation decides together.
    founding_voters: usize,
    conns: Vec<Conn>,
    exchanges: Vec<(usize, ExchangeId, usize, CallId)>,
    next: u64,
}

impl Wires {
    pub(crate) fn new(count: usize) -> Self {
        Self::with(count, |_| OnionPolicy::default())
    }

    /// As [`new`](Self::new), each node with a policy of its own for onion packets.
    pub(crate) fn with(count: usize, onion: impl Fn(usize) -> OnionPolicy) -> Self {
        Self::build(count, usize::MAX, onion)
    }

    /// Nodes that decide together once they are so many.
    pub(crate) fn deciding(count: usize, founding_voters: usize) -> Self {
        Self::build(count, founding_voters, |_| OnionPolicy::default())
    }

    fn build(count: usize, founding_voters: usize, onion: impl Fn(usize) -> OnionPolicy) -> Self {
        let host = |seed: usize| Host {
            node: None,
            keypair: Arc::new(
                PostQuantumKeypair::from_seed(&[seed as u8 + 1; 32]).expect("a seed expands"),
            ),
            disk: None,
            events: Vec::new(),
            effects_left: usize::MAX,
            done: Vec::new(),
            host_name: format!("10.0.0.{seed}"),
            onion: onion(seed),
            cosigner: [seed as u8 + 100; 32],
            founding: None,
            again: false,
            proposed: Vec::new(),
            lanes: BTreeMap::new(),
            behind: Vec::new(),
            salt: 0,
        };
        let mut wires = Self {
            hosts: (0..count).map(host).collect(),
            pending: VecDeque::new(),
            now: Duration::from_secs(1),
            back: 0,
            founding_voters,
            conns: Vec::new(),
            exchanges: Vec::new(),
            next: 0,
        };
        (0..count).for_each(|at| wires.start(at));
        wires
    }

    /// Nodes of which the first founded, and all others joined by tickets that need no words.
    pub(crate) fn federation(count: usize) -> Self {
        Self::federation_with(count, |_| OnionPolicy::default())
    }

    /// As [`federation`](Self::federation), each node with a policy of its own for onion packets.
    pub(crate) fn federation_with(count: usize, onion: impl Fn(usize) -> OnionPolicy) -> Self {
        let mut wires = Self::with(count, onion);
        for joiner in 1..count {
            let ticket = wires.invite(true);
            wires.drive(joiner, |node, now| node.join(now, ticket)).expect("joins");
            wires.run();
        }
        wires.pass(Duration::from_secs(4));
        for a in 0..count {
            for b in (0..count).filter(|b| *b != a) {
                assert!(wires.session(a, b).is_some(), "{a} has no session with {b}");
            }
        }
        wires
    }

    fn clock(&self) -> Now {
        let now = clock(self.now);
        Now { wall: Timestamp(now.wall.0 - self.back), ..now }
    }

    pub(crate) fn peer(&self, at: usize) -> PeerId {
        self.hosts[at].keypair.peer_id()
    }

    pub(crate) fn node(&self, at: usize) -> &Node {
        self.hosts[at].node.as_ref().expect("the node runs")
    }

    pub(crate) fn invite(&mut self, auto_approve: bool) -> Ticket {
        let address = SocketAddr::from(([10, 0, 0, 0], 1));
        let invited =
            self.drive(0, |node, now| node.invite(now, 3_600_000, auto_approve, &[address]));
        invited.expect("invites").1
    }

    /// Starts a node from its disk.
    pub(crate) fn start(&mut self, at: usize) {
        self.start_with(at, None);
    }

    /// Starts a node from its disk and from the roster of its log.
    pub(crate) fn start_decided(&mut self, at: usize, decided: Arc<Roster>) {
        self.start_with(at, Some(decided));
    }

    fn start_with(&mut self, at: usize, decided: Option<Arc<Roster>>) {
        let keyring = KemKeyring::generate(self.clock().wall).expect("keys");
        let host = &mut self.hosts[at];
        host.salt += 1;
        host.effects_left = usize::MAX;
        let mut drawn = u64::from(host.salt) << 32 | (at as u64) << 16;
        let settings = Settings {
            keypair: host.keypair.clone(),
            name: NodeName::new(format!("n{at}")).expect("a name"),
            addresses: vec![PeerAddress::new(None, &host.host_name, 1).expect("address")],
            cosigner: exo_crypto::CosignerKeypair::from_seed(&host.cosigner)
                .expect("a key")
                .public()
                .clone(),
            founding_voters: self.founding_voters,
            keyring,
            replays: ReplayCache::new(),
            onion: host.onion.clone(),
            collections: vec![collection()],
            state: host.disk.clone(),
            decided,
            entropy: Box::new(move |bytes| {
                for byte in bytes {
                    drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    *byte = (drawn >> 56) as u8;
                }
            }),
        };
        let now = self.clock();
        self.hosts[at].node = Some(Node::new(now, settings).expect("starts"));
        self.take_effects(at);
    }

    /// Ends a node's life. Its connections end at the other side when the test says so.
    pub(crate) fn crash(&mut self, at: usize) {
        self.hosts[at].node = None;
        self.exchanges.retain(|(host, ..)| *host != at);
    }

    pub(crate) fn drive<R>(&mut self, at: usize, act: impl FnOnce(&mut Node, Now) -> R) -> R {
        let now = self.clock();
        let result = act(self.hosts[at].node.as_mut().expect("the node runs"), now);
        self.take_effects(at);
        result
    }

    pub(crate) fn input(&mut self, at: usize, input: Input) {
        let now = self.clock();
        if let Some(node) = self.hosts[at].node.as_mut() {
            node.handle(now, input);
            self.take_effects(at);
        }
    }

    fn take_effects(&mut self, at: usize) {
        while let Some(effect) = self.hosts[at].node.as_mut().and_then(Node::poll_effect) {
            if self.hosts[at].effects_left == 0 {
                return self.crash(at);
            }
            self.hosts[at].effects_left -= 1;
            self.carry_out(at, effect);
        }
    }

    fn carry_out(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Persist(bytes) => self.hosts[at].disk = Some(bytes),
            Effect::Dial { addresses, purpose, .. } => {
                let host = addresses[0].host.strip_prefix("10.0.0.").expect("an address of ours");
                let to = host.parse().expect("a number");
                self.pending.push_back(Pending::Dial { from: at, to, purpose });
            }
            Effect::Call { session, call, request, .. } => match self.other_end(at, session) {
                Some((to, session)) => {
                    let bytes = request.to_wire().expect("encodes");
                    let request = Request::from_wire(&bytes).expect("decodes");
                    let from = at;
                    self.pending.push_back(Pending::Request { from, to, session, call, request });
                }
                None => {
                    let result = Err(CallFailure::Lost);
                    self.input(at, Input::Response { call, result });
                }
            },
            Effect::Respond { exchange, response } => {
                let known = |(host, known, ..): &(usize, ExchangeId, usize, CallId)| {
                    (*host, *known) == (at, exchange)
                };
                let place = self.exchanges.iter().position(known).expect("a request waits");
                let (.., to, call) = self.exchanges.remove(place);
                let bytes = response.to_wire().expect("encodes");
                let response = Response::from_wire(&bytes).expect("decodes");
                self.pending.push_back(Pending::Response { to, call, response });
            }
            Effect::Rekey { fresh } => {
                let keyring = KemKeyring::generate(self.clock().wall).expect("keys");
                self.drive(at, |node, now| node.rekey(now, keyring, fresh)).expect("signs");
            }
            Effect::Abandon { exchange } => {
                let known = |(host, known, ..): &(usize, ExchangeId, usize, CallId)| {
                    (*host, *known) == (at, exchange)
                };
                let place = self.exchanges.iter().position(known).expect("a request waits");
                let (.., to, call) = self.exchanges.remove(place);
                self.pending.push_back(Pending::Lost { to, call });
            }
            Effect::Close { session, reason, drain } => {
                self.pending.push_back(Pending::Close { at, session, reason, drain });
            }
            Effect::Search { job, .. } => self.pending.push_back(Pending::Search { at, job }),
            Effect::Terms { job, .. } => self.pending.push_back(Pending::Terms { at, job }),
            Effect::QueryDone { result, .. } => self.hosts[at].done.push(*result),
            Effect::Event(event) => self.hosts[at].events.push(event),
            Effect::Progress { .. } | Effect::PingDone { .. } | Effect::Returned => {}
            Effect::Constituted { founding, again } => {
                self.hosts[at].founding = Some(founding);
                self.hosts[at].again = again;
            }
            Effect::Propose(decision) => self.hosts[at].proposed.push(*decision),
            Effect::Lane { peer, session } => {
                self.hosts[at].lanes.insert(peer, session);
            }
            Effect::Behind(peer) => self.hosts[at].behind.push(peer),
        }
    }

    /// Lets the first thing that fits happen; false when nothing fits.
    pub(crate) fn step(&mut self, fits: impl Fn(&Pending) -> bool) -> bool {
        let Some(place) = self.pending.iter().position(fits) else { return false };
        match self.pending.remove(place).expect("was found") {
            Pending::Request { from, to, session, call, request } => {
                self.next += 1;
                let exchange = ExchangeId(self.next);
                self.exchanges.push((to, exchange, from, call));
                self.input(to, Input::Request { session, exchange, request });
            }
            Pending::Response { to, call, response } => {
                self.input(to, Input::Response { call, result: Ok(response) });
            }
            Pending::Lost { to, call } => {
                self.input(to, Input::Response { call, result: Err(CallFailure::Lost) });
            }
            Pending::Dial { from, to, purpose } => self.connect(from, to, purpose),
            Pending::Search { at, job } => {
                self.input(at, Input::SearchDone { job, result: Ok(Vec::new()) });
            }
            Pending::Terms { at, job } => {
                let stats = exo_types::TermStats::default();
                self.input(at, Input::TermsDone { job, result: Ok(stats) });
            }
            Pending::Close { at, session, reason, .. } => self.end(at, session, Some(reason)),
        }
        true
    }

    /// Lets everything happen but closes that drain, until nothing is on its way.
    pub(crate) fn run(&mut self) {
        self.run_but(|_| false);
    }

    /// As [`run`](Self::run), and keeps back what the test holds.
    pub(crate) fn run_but(&mut self, held: impl Fn(&Pending) -> bool) {
        let drains = |what: &Pending| matches!(what, Pending::Close { drain: true, .. });
        for _ in 0..10_000 {
            if !self.step(|what| !held(what) && !drains(what)) {
                return;
            }
        }
        panic!("the nodes never fall silent");
    }

    /// Lets time pass, in small steps; what drains is closed.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.tick(Duration::from_millis(50).min(end - self.now));
            self.run();
            while self.step(|what| matches!(what, Pending::Close { .. })) {
                self.run();
            }
        }
    }

    /// Moves the clock on and wakes whoever wanted to be; what that brings about waits.
    pub(crate) fn tick(&mut self, time: Duration) {
        self.now += time;
        for at in 0..self.hosts.len() {
            let due = |node: &Node| node.next_wake().is_some_and(|wake| wake <= self.now);
            if self.hosts[at].node.as_ref().is_some_and(due) {
                self.input(at, Input::Tick);
            }
        }
    }

    /// A connection comes up; the dialler hears of it first.
    pub(crate) fn connect(&mut self, from: usize, to: usize, purpose: Purpose) {
        let peer = self.peer(from);
        let admits = |node: &Node| node.admits(self.clock(), &peer);
        if !self.hosts[to].node.as_ref().is_some_and(admits) {
            let (peer, refused) = (self.peer(to), self.hosts[to].node.is_some());
            let detail = "nobody answers".to_owned();
            return self.input(from, Input::DialFailed { peer, purpose, detail, refused });
        }
        self.next += 2;
        let (here, there) = (SessionId(self.next), SessionId(self.next + 1));
        self.conns.push(Conn { ends: [(from, here), (to, there)], open: true });
        let mut exporter = [7; 32];
        exporter[..8].copy_from_slice(&self.next.to_be_bytes());
        for (at, session, other, dialled) in [(from, here, to, true), (to, there, from, false)] {
            let key = self.hosts[other].keypair.public().clone();
            self.input(at, Input::SessionUp { session, key, dialled, purpose, exporter });
        }
    }

    fn other_end(&self, at: usize, session: SessionId) -> Option<(usize, SessionId)> {
        let conn =
            self.conns.iter().find(|conn| conn.open && conn.ends.contains(&(at, session)))?;
        conn.ends.iter().find(|end| **end != (at, session)).copied()
    }

    /// A connection ends; what is on its way over it is lost, and the side that did not close it
    /// hears the reason.
    pub(crate) fn end(&mut self, at: usize, session: SessionId, reason: Option<CloseReason>) {
        let Some((other, there)) = self.other_end(at, session) else { return };
        for conn in &mut self.conns {
            conn.open &= !conn.ends.contains(&(at, session));
        }
        let over = |what: &Pending| match what {
            Pending::Request { to, session: over, .. } => {
                [(at, session), (other, there)].contains(&(*to, *over))
            }
            _ => false,
        };
        let lost: Vec<(usize, CallId)> = self
            .pending
            .iter()
            .filter(|what| over(what))
            .filter_map(|what| match what {
                Pending::Request { from, call, .. } => Some((*from, *call)),
                _ => None,
            })
            .collect();
        self.pending.retain(|what| !over(what));
        self.input(at, Input::SessionDown { session, reason: None });
        self.input(other, Input::SessionDown { session: there, reason });
        for (from, call) in lost {
            self.input(from, Input::Response { call, result: Err(CallFailure::Lost) });
        }
    }

    /// The open sessions of a node with another, oldest first.
    pub(crate) fn sessions(&self, at: usize, other: usize) -> Vec<SessionId> {
        let open = self.conns.iter().filter(|conn| conn.open);
        let pairs = open.filter_map(|conn| match conn.ends {
            [(a, session), (b, _)] | [(b, _), (a, session)] if (a, b) == (at, other) => {
                Some(session)
            }
            [(a, _), (b, session)] if (b, a) == (at, other) => Some(session),
            _ => None,
        });
        pairs.collect()
    }

    pub(crate) fn session(&self, at: usize, other: usize) -> Option<SessionId> {
        self.sessions(at, other).last().copied()
    }

    /// The number a held request would be answered under is made here: a request out of turn.
    pub(crate) fn ask(
        &mut self,
        from: usize,
        to: usize,
        session: SessionId,
        request: Request,
    ) -> CallId {
        self.next += 1;
        let call = CallId((1 << 50) + self.next);
        self.pending.push_back(Pending::Request { from, to, session, call, request });
        call
    }

    /// Tells the wires of a session whose other end is elsewhere.
    pub(crate) fn introduce(&mut self, at: usize, session: SessionId, other: usize) {
        self.conns.push(Conn { ends: [(at, session), (other, session)], open: true });
    }

    /// Takes the next request that a node has put on the wires.
    pub(crate) fn take_request(&mut self, of: usize) -> Option<(CallId, Request)> {
        let is = |what: &Pending| matches!(what, Pending::Request { from, .. } if *from == of);
        let place = self.pending.iter().position(is)?;
        match self.pending.remove(place) {
            Some(Pending::Request { call, request, .. }) => Some((call, request)),
            _ => None,
        }
    }

    /// Takes the answer to a request out of turn.
    pub(crate) fn answer(&mut self, call: CallId) -> Option<Response> {
        let is = |what: &Pending| matches!(what, Pending::Response { call: of, .. } if *of == call);
        let place = self.pending.iter().position(is)?;
        match self.pending.remove(place) {
            Some(Pending::Response { response, .. }) => Some(response),
            _ => None,
        }
    }
}

/// Both clocks at a moment.
pub(crate) fn clock(now: Duration) -> Now {
    Now { wall: Timestamp(1_800_000_000_000 + now.as_millis() as u64), mono: now }
}

fn collection() -> CollectionSpec {
    CollectionSpec {
        name: CollectionName::new("notes").expect("a name"),
        dimensions: 2,
        metric: Metric::Dot,
        embedder: String::new(),
    }
}
