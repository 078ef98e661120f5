//! A federation of many hundreds on one machine, for what only shows in numbers: how paths spread over
//! the relays, and what a member holds in memory.
//!
//! Every member is the real node. Links are simulated: a connection comes up when somebody has something
//! to send over it, at most so many requests are under way on it, and each message takes a little while.
//! What members would learn from each other, roster and descriptors, they are given, and share.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use exo_crypto::{KemKeyring, PostQuantumKeypair, Signed, Verified};
use exo_onion::ReplayCache;
use exo_types::limits::{DEADLINE_MILLIS_MAX, STREAMS_PER_CONNECTION_MAX};
use exo_types::{
    CollectionName, CollectionSpec, Epoch, FederatedResult, FederationScope, Metric, NodeName, Now,
    PeerAddress, PeerId, QuerySpec, QueryTarget, SourceStatus, Timestamp, Wire,
};

use super::Violation;
use super::host::cosigner;
use super::rng::Rng;
use crate::Node;
use crate::descriptor::MemberDescriptor;
use crate::effect::{
    CallFailure, CallId, Effect, Event, ExchangeId, Input, PacketFate, Purpose, SessionId,
};
use crate::node::Settings;
use crate::policy::OnionPolicy;
use crate::roster::{Genesis, Member, RosterBody};
use crate::state::Membership;
use crate::wire::{Request, Response};

/// How big a crowd is, and what it does.
#[derive(Clone, Copy, Debug)]
pub struct CrowdOptions {
    /// Members.
    pub members: usize,
    /// Members that ask all others once.
    pub askers: usize,
    /// Paths that every member draws beside.
    pub draws: usize,
    /// Members on a path, the one that answers included.
    pub hops: u8,
    /// Seed of all chance.
    pub seed: u64,
}

/// What a crowd shows.
#[derive(Clone, Debug)]
pub struct CrowdReport {
    /// Sources that answered, of all that were asked.
    pub answered: (usize, usize),
    /// Packets that relays sent on for the queries.
    pub forwarded: u64,
    /// Simulated time of the slowest query.
    pub slowest: Duration,
    /// For each position on a path, the first one first: how often each member had it, in the drawn
    /// paths.
    pub positions: Vec<Vec<u32>>,
}

/// How evenly a position is shared.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// Times that each member would have it.
    pub fair: f64,
    /// Largest difference from that, of it.
    pub worst: f64,
    /// Chi-squared over its degrees of freedom: near one for draws by equal chance.
    pub chi_squared: f64,
}

impl Spread {
    /// The spread of counts, one a member.
    pub fn of(counts: &[u32]) -> Self {
        let fair = counts.iter().map(|c| f64::from(*c)).sum::<f64>() / counts.len().max(1) as f64;
        let off = |count: &u32| (f64::from(*count) - fair).abs() / fair.max(f64::MIN_POSITIVE);
        let square = |count: &u32| (f64::from(*count) - fair).powi(2) / fair.max(f64::MIN_POSITIVE);
        Self {
            fair,
            worst: counts.iter().map(off).fold(0.0, f64::max),
            chi_squared: counts.iter().map(square).sum::<f64>()
                / counts.len().saturating_sub(1).max(1) as f64,
        }
    }
}

/// The members and what is on its way between them.
pub struct Crowd {
    options: CrowdOptions,
    rng: Rng,
    now: Duration,
    nodes: Vec<Node>,
    places: BTreeMap<PeerId, usize>,
    /// The other end of each session.
    ends: BTreeMap<(usize, SessionId), (usize, SessionId)>,
    connecting: BTreeSet<(usize, usize)>,
    lanes: BTreeMap<(usize, SessionId), Lane>,
    exchanges: BTreeMap<(usize, ExchangeId), (usize, SessionId, CallId)>,
    queue: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    happenings: BTreeMap<u64, Happening>,
    number: u64,
    forwarded: u64,
    done: Vec<FederatedResult>,
}

/// One direction of a connection.
#[derive(Default)]
struct Lane {
    under_way: u32,
    waiting: VecDeque<(CallId, Box<Request>)>,
}

enum Happening {
    Connected { from: usize },
    Request { from: usize, over: SessionId, call: CallId, request: Box<Request> },
    Response { over: SessionId, call: CallId, result: Result<Box<Response>, CallFailure> },
}

impl Crowd {
    /// Members that know each other; nobody is connected yet.
    ///
    /// # Errors
    /// When the library makes no keys, or the members are more than a federation holds.
    pub fn new(options: CrowdOptions) -> Result<Self, Violation> {
        let mut rng = Rng::new(options.seed);
        let keypairs: Vec<Arc<PostQuantumKeypair>> = (0..options.members)
            .map(|_| PostQuantumKeypair::from_seed(&rng.bytes()).map(Arc::new).map_err(bad))
            .collect::<Result<_, _>>()?;
        let membership = Arc::new(membership(&keypairs)?);
        let mut nodes = keypairs
            .iter()
            .enumerate()
            .map(|(at, keypair)| node(at, keypair, rng.fork()))
            .collect::<Result<Vec<_>, _>>()?;
        let descriptors: Vec<Arc<Verified<MemberDescriptor>>> =
            nodes.iter().map(|node| Arc::new(node.descriptor.clone())).collect();
        for node in &mut nodes {
            node.membership = Some(Arc::clone(&membership));
            let me = node.me;
            let others = descriptors.iter().filter(|descriptor| descriptor.peer != me);
            node.directory = others.map(|d| (d.peer, Arc::clone(d))).collect();
        }
        let places = nodes.iter().enumerate().map(|(at, node)| (node.me, at)).collect();
        let mut crowd = Self {
            options,
            rng,
            now: Duration::ZERO,
            nodes,
            places,
            ends: BTreeMap::new(),
            connecting: BTreeSet::new(),
            lanes: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            number: 0,
            forwarded: 0,
            done: Vec::new(),
        };
        for at in 0..options.members {
            crowd.drive(at, |node, now| node.keep_links(now, true))?;
        }
        Ok(crowd)
    }

    /// Has one member hold a directory of its own, as each does that runs by itself.
    ///
    /// # Errors
    /// When a descriptor does not decode.
    pub fn own_directory(&mut self, at: usize) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        let Some(membership) = node.membership.clone() else { return Ok(()) };
        for known in node.directory.values_mut() {
            let bytes = known.signed().to_wire().map_err(bad)?;
            let signed = Signed::<MemberDescriptor>::from_wire(&bytes).map_err(bad)?;
            let Some(member) = membership.roster.member(&known.peer) else { continue };
            *known = Arc::new(signed.verify(&member.key).map_err(bad)?);
        }
        let signed = membership.signed.to_wire().map_err(bad)?;
        let signed = Signed::<RosterBody>::from_wire(&signed).map_err(bad)?;
        let own = Membership::verify(membership.genesis.clone(), signed).map_err(bad)?;
        node.membership = Some(Arc::new(own));
        Ok(())
    }

    /// Everybody chooses a first relay; some ask all others; then everybody draws paths.
    ///
    /// # Errors
    /// What went wrong: a query that could not begin, a message that does not encode.
    pub fn play(&mut self) -> Result<CrowdReport, Violation> {
        let members = self.options.members;
        for at in 0..members {
            // One may be the member that is asked, or another's first choice.
            for _ in 0..3 {
                let other = (at + 1 + self.rng.below(members - 1)) % members;
                self.connect(at, other);
            }
        }
        self.run()?;
        for asker in 0..self.options.askers.min(members) {
            let spec = QuerySpec {
                deadline: Duration::from_millis(DEADLINE_MILLIS_MAX),
                ..QuerySpec::new(
                    FederationScope::Global { max_hops: self.options.hops },
                    QueryTarget::vector(vec![1.0, 0.0]),
                )
            };
            self.drive(asker, |node, now| node.query(now, spec))?.map_err(bad)?;
            self.run()?;
        }
        let answered = |done: &FederatedResult| {
            done.sources.iter().filter(|s| s.status == SourceStatus::Answered).count()
        };
        Ok(CrowdReport {
            answered: (
                self.done.iter().map(answered).sum(),
                self.done.iter().map(|done| done.sources.len()).sum(),
            ),
            forwarded: self.forwarded,
            slowest: self.done.iter().map(|done| done.elapsed).max().unwrap_or_default(),
            positions: self.draw()?,
        })
    }

    /// Draws paths, as queries do, and counts who stands where on them.
    fn draw(&mut self) -> Result<Vec<Vec<u32>>, Violation> {
        let (members, hops) = (self.options.members, usize::from(self.options.hops));
        let mut positions = vec![vec![0; members]; hops.saturating_sub(1)];
        let none = BTreeSet::new();
        for at in 0..members {
            for _ in 0..self.options.draws {
                let target = (at + 1 + self.rng.below(members - 1)) % members;
                let target = self.nodes[target].me;
                let path = self.drive(at, |node, now| node.path_to(now, target, hops, &none))?;
                for (position, peer) in path.map_err(bad)?.iter().take(hops - 1).enumerate() {
                    positions[position][self.places[peer]] += 1;
                }
            }
        }
        Ok(positions)
    }

    /// Lets everything happen that is on its way. Timers that only wait for a query's end are not
    /// waited for.
    fn run(&mut self) -> Result<(), Violation> {
        while let Some(Reverse((at, number, host))) = self.queue.pop() {
            self.now = self.now.max(at);
            match self.happenings.remove(&number) {
                Some(Happening::Connected { from }) => self.connected(from, host)?,
                Some(Happening::Request { from, over, call, request }) => {
                    self.number += 1;
                    let exchange = ExchangeId(self.number);
                    let Some((_, session)) = self.ends.get(&(from, over)).copied() else {
                        continue;
                    };
                    self.exchanges.insert((host, exchange), (from, over, call));
                    self.input(host, Input::Request { session, exchange, request: *request })?;
                }
                Some(Happening::Response { over, call, result }) => {
                    self.answered(host, over, call, result)?;
                }
                None => {}
            }
        }
        Ok(())
    }

    fn input(&mut self, at: usize, input: Input) -> Result<(), Violation> {
        self.drive(at, |node, now| node.handle(now, input))
    }

    fn drive<R>(
        &mut self,
        at: usize,
        act: impl FnOnce(&mut Node, Now) -> R,
    ) -> Result<R, Violation> {
        let result = act(&mut self.nodes[at], clock(self.now));
        while let Some(effect) = self.nodes[at].poll_effect() {
            self.carry_out(at, effect)?;
        }
        for next in self.nodes[at].awaited().collect::<BTreeSet<_>>() {
            self.connect(at, self.places[&next]);
        }
        Ok(result)
    }

    fn carry_out(&mut self, at: usize, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::Call { session, call, request, .. } => self.call(at, session, call, request),
            Effect::Respond { exchange, response } => {
                self.reply(at, exchange, Ok(response));
            }
            Effect::Abandon { exchange } => self.reply(at, exchange, Err(CallFailure::Lost)),
            Effect::Search { job, .. } => {
                let result = Ok(Vec::new());
                self.nodes[at].handle(clock(self.now), Input::SearchDone { job, result });
            }
            Effect::QueryDone { result, .. } => self.done.push(*result),
            Effect::Event(Event::Onion(PacketFate::Forwarded)) => self.forwarded += 1,
            // A dial is answered when something waits for it; what is saved is not read again.
            Effect::Dial { .. }
            | Effect::Persist(_)
            | Effect::Rekey { .. }
            | Effect::Close { .. }
            | Effect::Terms { .. }
            | Effect::Progress { .. }
            | Effect::PingDone { .. }
            | Effect::Returned
            | Effect::Constituted { .. }
            | Effect::Propose(_)
            | Effect::Lane { .. }
            | Effect::Behind(_)
            | Effect::Event(_) => {}
        }
        Ok(())
    }

    fn call(&mut self, at: usize, session: SessionId, call: CallId, request: Box<Request>) {
        let lane = self.lanes.entry((at, session)).or_default();
        if lane.under_way >= STREAMS_PER_CONNECTION_MAX {
            return lane.waiting.push_back((call, request));
        }
        lane.under_way += 1;
        if let Some((to, _)) = self.ends.get(&(at, session)).copied() {
            self.later(to, Happening::Request { from: at, over: session, call, request });
        }
    }

    fn reply(
        &mut self,
        at: usize,
        exchange: ExchangeId,
        result: Result<Box<Response>, CallFailure>,
    ) {
        if let Some((to, over, call)) = self.exchanges.remove(&(at, exchange)) {
            self.later(to, Happening::Response { over, call, result });
        }
    }

    fn answered(
        &mut self,
        at: usize,
        over: SessionId,
        call: CallId,
        result: Result<Box<Response>, CallFailure>,
    ) -> Result<(), Violation> {
        let lane = self.lanes.entry((at, over)).or_default();
        lane.under_way = lane.under_way.saturating_sub(1);
        if let Some((call, request)) = lane.waiting.pop_front() {
            self.call(at, over, call, request);
        }
        self.input(at, Input::Response { call, result: result.map(|response| *response) })
    }

    fn connect(&mut self, from: usize, to: usize) {
        if from != to && self.connecting.insert((from, to)) {
            self.later(to, Happening::Connected { from });
        }
    }

    fn connected(&mut self, from: usize, to: usize) -> Result<(), Violation> {
        self.number += 2;
        let (here, there) = (SessionId(self.number - 1), SessionId(self.number));
        self.ends.insert((from, here), (to, there));
        self.ends.insert((to, there), (from, here));
        let exporter = self.rng.bytes();
        for (at, session, other, dialled) in [(from, here, to, true), (to, there, from, false)] {
            let key = self.nodes[other].keypair.public().clone();
            let purpose = Purpose::Member;
            self.input(at, Input::SessionUp { session, key, dialled, purpose, exporter })?;
        }
        Ok(())
    }

    fn later(&mut self, host: usize, what: Happening) {
        let at = self.now + self.rng.millis(1, 3);
        self.number += 1;
        self.happenings.insert(self.number, what);
        self.queue.push(Reverse((at, self.number, host)));
    }
}

fn membership(keypairs: &[Arc<PostQuantumKeypair>]) -> Result<Membership, Violation> {
    let Some(founder) = keypairs.first() else { return Err(Violation("nobody".to_owned())) };
    let genesis = Genesis { founder: founder.public().clone(), created: START, nonce: [7; 16] };
    let member = |(at, keypair): (usize, &Arc<PostQuantumKeypair>)| {
        Ok(Member {
            key: keypair.public().clone(),
            cosigner: cosigner(keypair)?,
            name: name(at)?,
            unverified: false,
            since: Epoch::GENESIS,
            revoked: None,
        })
    };
    let members = keypairs.iter().enumerate().map(member).collect::<Result<_, Violation>>()?;
    let body =
        RosterBody { federation: genesis.id(), epoch: Epoch::GENESIS, members, voters: Vec::new() };
    let signed = Signed::sign(body, founder).map_err(bad)?;
    Membership::verify(genesis, signed.into_signed()).map_err(bad)
}

fn node(at: usize, keypair: &Arc<PostQuantumKeypair>, mut rng: Rng) -> Result<Node, Violation> {
    let settings = Settings {
        keypair: Arc::clone(keypair),
        name: name(at)?,
        addresses: vec![
            PeerAddress::new(None, &format!("10.0.{}.{}", at / 256, at % 256), 1).map_err(bad)?,
        ],
        cosigner: cosigner(keypair)?,
        founding_voters: usize::MAX,
        keyring: KemKeyring::generate(START).map_err(bad)?,
        replays: ReplayCache::new(),
        onion: OnionPolicy::default(),
        collections: vec![CollectionSpec {
            name: CollectionName::new("notes").map_err(bad)?,
            dimensions: 2,
            metric: Metric::Dot,
            embedder: String::new(),
        }],
        state: None,
        decided: None,
        entropy: Box::new(move |bytes| rng.fill(bytes)),
    };
    Node::new(clock(Duration::ZERO), settings).map_err(bad)
}

fn name(at: usize) -> Result<NodeName, Violation> {
    NodeName::new(format!("n{at}")).map_err(bad)
}

fn clock(now: Duration) -> Now {
    Now { wall: START.plus_millis(now.as_millis() as u64), mono: now }
}

// By value, for `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn bad(error: impl std::fmt::Display) -> Violation {
    Violation(error.to_string())
}

const START: Timestamp = Timestamp(1_800_000_000_000);
