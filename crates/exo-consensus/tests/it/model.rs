//! The real `step` under a model checker: four replicas, one of them a liar that leads the first view,
//! two views.
//!
//! The liar is not run; it is everything that it could say out of two batches: proposals of either to
//! anybody, votes for either, view changes that claim either or nothing. Correct replicas deliver in any
//! order, and leave the first view at any moment. What is checked in every state: no two correct replicas
//! carry out different batches at one place, and none contradicts itself.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use exo_consensus::sim::{Tags, Tree, sign};
use exo_consensus::{
    Batch, Blob, Bundle, BundleHead, Claim, Config, Digest, Effect, Input, Message, Point,
    PrePrepare, Record, Replica, Start, Statement, Update, ViewChange, ViewChangeMessage, Vote,
    Voters, batch_digest, bundle_root, check,
};
use exo_types::{Epoch, Sequence, View, Wire};
use stateright::{Checker, Model, Property, UniformChooser};

use crate::lab::{FEDERATION, id, voter};

/// Replica 0 leads view 0 and lies; 1 leads view 1.
const CORRECT: [usize; 3] = [1, 2, 3];

struct Pbft {
    voters: Arc<Voters>,
    /// What the liar can say.
    lies: Vec<Message>,
    /// Whether anybody may leave the first view.
    leave: bool,
}

#[derive(Clone)]
struct World {
    replicas: Vec<Replica<Tree>>,
    /// On the way: to whom, from whom, and what, by its encoding.
    wire: BTreeSet<(usize, usize, Arc<[u8]>)>,
    /// Lies told already, by number and to whom.
    told: BTreeSet<(usize, usize)>,
    left: BTreeSet<usize>,
    logs: Vec<Vec<Digest>>,
    print: u64,
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.print.hash(state);
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "logs {:?}, {} on the way, told {:?}", self.logs, self.wire.len(), self.told)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Act {
    Deliver(usize, usize, Arc<[u8]>),
    Lie(usize, usize),
    Leave(usize),
}

impl World {
    fn print(&mut self) {
        let mut hasher = std::hash::DefaultHasher::new();
        for replica in &self.replicas {
            format!("{replica:?}").hash(&mut hasher);
        }
        (&self.wire, &self.told, &self.left).hash(&mut hasher);
        self.print = hasher.finish();
    }

    fn input(&mut self, at: usize, input: Input) {
        let now = if matches!(input, Input::Tick) { PATIENCE } else { Duration::ZERO };
        let mut inputs = vec![(now, input)];
        while let Some((now, input)) = inputs.pop() {
            for effect in self.replicas[at].step(now, input) {
                match effect {
                    Effect::Persist { number, record } => {
                        if let Record::Append(batch) = &record {
                            self.logs[at].push(batch.seal.digest);
                        }
                        inputs.push((Duration::ZERO, Input::Durable(number)));
                    }
                    Effect::Send { to, message } => self.post(at, &[to], &message),
                    Effect::Broadcast(message) => {
                        let all: Vec<_> = CORRECT.iter().map(|n| id(*n)).collect();
                        self.post(at, &all, &message);
                    }
                    Effect::Sign(statement) => {
                        let me = id(CORRECT[at]);
                        let signed = sign(&me, &*statement).expect("signs");
                        inputs.push((Duration::ZERO, Input::Signed(Box::new(signed))));
                    }
                    _ => {}
                }
            }
            // The disk first: what waits for it goes out before answers come.
            inputs.sort_by_key(|(_, input)| matches!(input, Input::Durable(_)));
        }
    }

    fn post(&mut self, from: usize, to: &[exo_types::PeerId], message: &Message) {
        // Checkpoints and repetitions play no part.
        if matches!(message, Message::Cosignature(_) | Message::Status(_)) {
            return;
        }
        let wire: Arc<[u8]> = message.to_wire().expect("encodes").into();
        for to in to {
            if let Some(at) = CORRECT.iter().position(|n| id(*n) == *to)
                && at != from
            {
                self.wire.insert((at, CORRECT[from], wire.clone()));
            }
        }
    }

    fn hear(&mut self, at: usize, from: usize, message: Message) {
        let directory = self.replicas[at].directory();
        if let Ok(checked) = check::<Tree>(id(from), message, &directory, &Tags) {
            self.input(at, Input::Received(Box::new(checked)));
        }
    }
}

impl Model for Pbft {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        let replicas = CORRECT
            .iter()
            .map(|n| {
                let config = Config::new(FEDERATION, id(*n));
                Replica::start(config, Arc::clone(&self.voters), Start::Founding)
            })
            .collect();
        let mut world = World {
            replicas,
            wire: BTreeSet::new(),
            told: BTreeSet::new(),
            left: BTreeSet::new(),
            logs: vec![Vec::new(); CORRECT.len()],
            print: 0,
        };
        for at in 0..CORRECT.len() {
            world.input(at, Input::Durable(1));
        }
        world.print();
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Act>) {
        actions.extend(world.wire.iter().map(|(to, from, m)| Act::Deliver(*to, *from, m.clone())));
        for lie in 0..self.lies.len() {
            for to in 0..CORRECT.len() {
                if !world.told.contains(&(lie, to)) {
                    actions.push(Act::Lie(lie, to));
                }
            }
        }
        if self.leave {
            let stays = (0..CORRECT.len()).filter(|at| !world.left.contains(at));
            actions.extend(stays.map(Act::Leave));
        }
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        let mut next = world.clone();
        match act {
            Act::Deliver(to, from, wire) => {
                next.wire.remove(&(to, from, wire.clone()));
                let message = Message::from_wire(&wire).expect("was encoded");
                next.hear(to, from, message);
            }
            Act::Lie(lie, to) => {
                next.told.insert((lie, to));
                next.hear(to, 0, self.lies[lie].clone());
            }
            Act::Leave(at) => {
                next.left.insert(at);
                next.input(at, Input::Tick);
            }
        }
        next.print();
        // What changed nothing leads nowhere.
        (next.print != world.print).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one batch at each place", |_, world: &World| {
                let longest = world.logs.iter().max_by_key(|log| log.len()).expect("three");
                world.logs.iter().all(|log| longest.starts_with(log))
            }),
            Property::sometimes("something is committed", |_, world: &World| {
                world.logs.iter().any(|log| !log.is_empty())
            }),
        ]
    }
}

fn batches() -> [Batch; 2] {
    [1u8, 2].map(|content| {
        let updates = vec![Update::Data(Blob::new(vec![content]).expect("short"))];
        let root = bundle_root(&updates);
        let head = BundleHead { federation: FEDERATION, member: id(0), number: 0, count: 1, root };
        let bundle = Bundle { head: sign(&id(0), &head).expect("signs"), updates };
        Batch { bundles: vec![Arc::new(bundle)] }
    })
}

/// The name that a correct replica gives a batch: it says it when it votes.
fn digest_of(voters: &Arc<Voters>, batch: &Batch) -> Digest {
    let config = Config::new(FEDERATION, id(1));
    let mut replica = Replica::<Tree>::start(config, Arc::clone(voters), Start::Founding);
    let message = Message::PrePrepare(proposal(batch));
    let checked =
        check::<Tree>(id(0), message, &replica.directory(), &Tags).expect("a good proposal");
    let mut effects = replica.step(Duration::ZERO, Input::Received(Box::new(checked)));
    effects.extend(replica.step(Duration::ZERO, Input::Durable(u64::MAX)));
    let vote = effects.into_iter().find_map(|effect| match effect {
        Effect::Broadcast(Message::Prepare(vote)) => Some(vote.digest),
        _ => None,
    });
    vote.expect("it votes")
}

fn proposal(batch: &Batch) -> PrePrepare {
    let (epoch, view, sequence) = (Epoch(0), View(0), Sequence(1));
    PrePrepare { epoch, view, sequence, batch: batch.clone() }
}

/// Everything that the liar may say: `votes` in view 0, `changes` among view changes.
fn model(leave: bool, second_view: bool) -> Pbft {
    let voters = Arc::new(Voters::new((0..4).map(|n| voter(n, 0)).collect()).expect("four"));
    let batches = batches();
    let digests = batches.each_ref().map(|batch| digest_of(&voters, batch));
    let mut lies: Vec<Message> = batches.iter().map(|b| Message::PrePrepare(proposal(b))).collect();
    let sequence = Sequence(1);
    let views = if second_view { 0..2 } else { 0..1 };
    for view in views.map(View) {
        for digest in digests.into_iter().chain(second_view.then(|| batch_digest(&[]))) {
            let vote = Vote { epoch: Epoch(0), view, sequence, digest };
            if view == View(1) {
                lies.push(Message::Prepare(vote));
            }
            lies.push(Message::Commit(vote));
        }
    }
    if leave {
        let stable = {
            let config = Config::new(FEDERATION, id(1));
            let replica = Replica::<Tree>::start(config, Arc::clone(&voters), Start::Founding);
            let point: Point = replica.point();
            point
        };
        let claims = [None, Some(digests[0]), Some(digests[1])];
        for digest in claims {
            let claim = digest.map(|digest| Claim { sequence, digest, view: View(0) });
            let change = ViewChange {
                federation: FEDERATION,
                epoch: Epoch(0),
                view: View(1),
                sender: id(0),
                stable,
                prepared: claim.into_iter().collect(),
                accepted: claim.into_iter().collect(),
            };
            let signed = sign(&id(0), &Statement::ViewChange(change)).expect("signs");
            let message = ViewChangeMessage { signed, certificate: None };
            lies.push(Message::ViewChange(Box::new(message)));
        }
    }
    Pbft { voters, lies, leave }
}

fn verify(model: Pbft, depth: usize, states: usize) -> (usize, bool) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let checker = model
        .checker()
        .threads(threads)
        .target_max_depth(depth)
        .target_state_count(states)
        .spawn_bfs()
        .join();
    let found = checker.discoveries();
    if let Some(path) = found.get("one batch at each place") {
        panic!("{:?}", path.clone().into_actions());
    }
    (checker.unique_state_count(), found.contains_key("something is committed"))
}

/// Random walks to the end, for as long as is given: they go where no full search comes.
fn walk(model: Pbft, seconds: u64) -> (usize, bool) {
    let checker = model
        .checker()
        .timeout(Duration::from_secs(seconds))
        .spawn_simulation(7, UniformChooser)
        .join();
    let found = checker.discoveries();
    if let Some(path) = found.get("one batch at each place") {
        panic!("{:?}", path.clone().into_actions());
    }
    (checker.state_count(), found.contains_key("something is committed"))
}

#[test]
fn random_walks_of_deliveries_and_lies_commit_and_do_not_differ() {
    let (states, committed) = walk(model(true, true), 4);
    assert!(committed, "{states} states");
}

#[test]
fn no_order_of_deliveries_and_lies_makes_replicas_differ() {
    let (states, _) = verify(model(true, false), 4, 4_000);
    assert!(states > 500, "{states}");
}

/// `EXO_MODEL_DEPTH` and `EXO_MODEL_STATES` bound the longer run.
#[test]
#[ignore = "minutes to hours: see docs/testing.md"]
fn no_order_of_deliveries_and_lies_makes_replicas_differ_at_length() {
    let number =
        |name, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let depth = number("EXO_MODEL_DEPTH", 9);
    let states = number("EXO_MODEL_STATES", 300_000);
    let (one, _) = verify(model(false, false), depth + 3, states);
    let (two, _) = verify(model(true, true), depth, states);
    println!("{one} states of one view, {two} of two views, to depth {depth}");
    let (walked, committed) = walk(model(true, true), number("EXO_MODEL_SECONDS", 60) as u64);
    println!("{walked} states on random walks");
    assert!(committed);
}

const PATIENCE: Duration = Duration::from_secs(2);
