//! Two nodes in memory that have met: what fuzzing of a node's inputs begins with.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use exo_crypto::PostQuantumKeypair;
use exo_node::effect::{CallId, Effect, ExchangeId, Input, Purpose, SessionId};
use exo_node::policy::OnionPolicy;
use exo_node::ticket::Ticket;
use exo_node::wire::{Request, Response};
use exo_node::{Node, Settings};
use exo_onion::ReplayCache;
use exo_types::{CollectionName, CollectionSpec, Metric, NodeName, Now, PeerAddress};

use crate::{NOW, identity, keypair, keyring};

/// What two nodes said to each other until they were members and had greeted each other.
pub struct Met {
    /// The founder's state.
    pub founder_state: Vec<u8>,
    /// The joiner's state.
    pub joiner_state: Vec<u8>,
    /// The ticket that was used, and one that was not.
    pub tickets: [Ticket; 2],
    /// Every request and every answer, in order.
    pub requests: Vec<Request>,
    /// See `requests`.
    pub responses: Vec<Response>,
}

/// The founder's identity is [`keypair`], the joiner's is this one.
pub fn joiner() -> &'static Arc<PostQuantumKeypair> {
    static KEY: OnceLock<Arc<PostQuantumKeypair>> = OnceLock::new();
    KEY.get_or_init(|| Arc::new(identity(2)))
}

/// Starts a node with one collection.
pub fn node(keypair: &Arc<PostQuantumKeypair>, name: &str, state: Option<Vec<u8>>) -> Node {
    try_node(keypair, name, state).expect("starts")
}

/// Starts a node from a state that may be refused.
pub fn try_node(
    keypair: &Arc<PostQuantumKeypair>,
    name: &str,
    state: Option<Vec<u8>>,
) -> Result<Node, exo_node::StateError> {
    let mut seed = keypair.peer_id().as_bytes()[0];
    let address: PeerAddress = "127.0.0.1:7700".parse().expect("an address");
    let settings = Settings {
        keypair: Arc::clone(keypair),
        name: NodeName::new(name).expect("a name"),
        addresses: vec![PeerAddress { peer: Some(keypair.peer_id()), ..address }],
        cosigner: cosigner(),
        founding_voters: 4,
        keyring: keyring(),
        replays: ReplayCache::new(),
        onion: OnionPolicy::default(),
        collections: vec![spec()],
        state,
        decided: None,
        entropy: Box::new(move |bytes| {
            for byte in bytes {
                seed = seed.wrapping_mul(5).wrapping_add(3);
                *byte = seed;
            }
        }),
    };
    Node::new(NOW, settings)
}

/// A key that cosigns the log.
pub fn cosigner() -> exo_crypto::CosignerKey {
    exo_crypto::CosignerKeypair::from_seed(&[3; 32]).expect("a key").public().clone()
}

/// The collection that every node has.
pub fn spec() -> CollectionSpec {
    CollectionSpec {
        name: CollectionName::new("notes").expect("a name"),
        dimensions: 3,
        metric: Metric::Cosine,
        embedder: String::new(),
    }
}

/// Lets the two meet, once.
pub fn met() -> &'static Met {
    static MET: OnceLock<Met> = OnceLock::new();
    MET.get_or_init(meet)
}

fn meet() -> Met {
    let mut world = World {
        nodes: [node(keypair(), "founder", None), node(joiner(), "joiner", None)],
        states: [Vec::new(), Vec::new()],
        next: 0,
        waiting: VecDeque::new(),
        requests: Vec::new(),
        responses: Vec::new(),
    };
    let at = [SocketAddr::from(([127, 0, 0, 1], 7700))];
    let mut ticket = || world.nodes[0].invite(NOW, 3_600_000, true, &at).expect("invites").1;
    let tickets = [ticket(), ticket()];
    world.nodes[1].join(NOW, tickets[0].clone()).expect("joins");
    world.run();
    // Members are dialled when it is time to, which is soon.
    for millis in [0, 500] {
        let mono = NOW.mono + Duration::from_millis(millis);
        let now = Now { wall: NOW.wall.plus_millis(millis), mono };
        for node in &mut world.nodes {
            node.handle(now, Input::Tick);
        }
        world.run();
    }
    let greeted = |request: &Request| matches!(request, Request::Hello(_));
    assert!(world.requests.iter().any(greeted), "they have greeted each other");
    let peer = joiner().peer_id();
    assert!(world.nodes[0].peers().iter().any(|view| view.peer == peer), "the joiner is a member");
    let [founder_state, joiner_state] = world.states;
    let (requests, responses) = (world.requests, world.responses);
    Met { founder_state, joiner_state, tickets, requests, responses }
}

struct World {
    nodes: [Node; 2],
    states: [Vec<u8>; 2],
    next: u64,
    /// Whose call is answered under which exchange.
    waiting: VecDeque<(ExchangeId, usize, CallId)>,
    requests: Vec<Request>,
    responses: Vec<Response>,
}

impl World {
    /// Carries out effects until there are none, or enough.
    fn run(&mut self) {
        for _ in 0..10_000 {
            let Some((from, effect)) =
                (0..2).find_map(|at| self.nodes[at].poll_effect().map(|effect| (at, effect)))
            else {
                return;
            };
            self.carry_out(from, effect);
        }
    }

    fn carry_out(&mut self, from: usize, effect: Effect) {
        let to = 1 - from;
        match effect {
            Effect::Persist(bytes) => self.states[from] = bytes,
            Effect::Dial { purpose, .. } => self.dial(from, purpose),
            Effect::Call { session, call, request, .. } => {
                self.next += 1;
                let exchange = ExchangeId(self.next);
                self.waiting.push_back((exchange, from, call));
                self.requests.push((*request).clone());
                self.nodes[to].handle(NOW, Input::Request { session, exchange, request: *request });
            }
            Effect::Respond { exchange, response } => {
                let at = self.waiting.iter().position(|(waiting, ..)| *waiting == exchange);
                let (_, asker, call) =
                    at.and_then(|at| self.waiting.remove(at)).expect("one answer a request");
                self.responses.push((*response).clone());
                self.nodes[asker].handle(NOW, Input::Response { call, result: Ok(*response) });
            }
            Effect::Close { session, reason, .. } => {
                for node in &mut self.nodes {
                    node.handle(NOW, Input::SessionDown { session, reason: Some(reason) });
                }
            }
            _ => {}
        }
    }

    fn dial(&mut self, from: usize, purpose: Purpose) {
        self.next += 1;
        let session = SessionId(self.next);
        let keys = [keypair().public(), joiner().public()];
        for at in [1 - from, from] {
            let input = Input::SessionUp {
                session,
                key: keys[1 - at].clone(),
                dialled: at == from,
                purpose,
                exporter: [5; 32],
            };
            self.nodes[at].handle(NOW, input);
        }
    }
}
