//! A node and everything that can come at it: a member and a stranger that send whatever they like,
//! in any order, with the token they were given put into their requests.
#![no_main]

use std::collections::BTreeSet;
use std::time::Duration;

use exo_crypto::Signed;
use exo_fuzz::sim::{joiner, met, node};
use exo_fuzz::{NOW, byte, identity, keypair, keyring};
use exo_node::Node;
use exo_node::effect::{CallFailure, CallId, Effect, ExchangeId, Input, JobId, Purpose, SessionId};
use exo_node::wire::{Request, Response};
use exo_types::{FederationScope, Leg, Now, QuerySpec, QueryTarget, TermStats, TokenId, Wire};

const STEPS_MAX: usize = 48;
const EFFECTS_MAX: usize = 10_000;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut world = World {
        node: node(keypair(), "founder", Some(met().founder_state.clone())),
        now: NOW,
        exchanges: 0,
        open: BTreeSet::new(),
        of_strangers: BTreeSet::new(),
        calls: Vec::new(),
        jobs: Vec::new(),
        token: None,
        sessions: Vec::new(),
    };
    world.session(false, false, Purpose::Member);
    world.session(false, true, Purpose::Member);
    world.session(true, false, Purpose::Join);
    let mut rest = data;
    for _ in 0..STEPS_MAX {
        if rest.is_empty() {
            break;
        }
        world.step(&mut rest);
        world.drain();
    }
});

struct World {
    node: Node,
    now: Now,
    exchanges: u64,
    open: BTreeSet<ExchangeId>,
    of_strangers: BTreeSet<ExchangeId>,
    calls: Vec<CallId>,
    jobs: Vec<(JobId, bool)>,
    token: Option<TokenId>,
    /// Every session there was, and whether it is a stranger's.
    sessions: Vec<(SessionId, bool)>,
}

impl World {
    fn session(&mut self, stranger: bool, dialled: bool, purpose: Purpose) {
        let key = if stranger { identity(3).public().clone() } else { joiner().public().clone() };
        let session = SessionId(1_000_000 + self.sessions.len() as u64);
        self.sessions.push((session, stranger));
        self.node.handle(
            self.now,
            Input::SessionUp { session, key, dialled, purpose, exporter: [5; 32] },
        );
        self.drain();
    }

    fn step(&mut self, rest: &mut &[u8]) {
        let session = usize::from(byte(rest)) % self.sessions.len();
        match byte(rest) % 10 {
            0 | 1 => {
                if let Ok(request) = Request::from_wire(frame(rest)) {
                    self.request(session, request);
                }
            }
            2 => {
                let said = &met().requests;
                let request = said[usize::from(byte(rest)) % said.len()].clone();
                self.request(session, request);
            }
            3 => self.respond(rest),
            4 => {
                let millis = 1 << (byte(rest) % 24);
                self.now.mono += Duration::from_millis(millis);
                self.now.wall = self.now.wall.plus_millis(millis);
                self.node.handle(self.now, Input::Tick);
            }
            5 => self.job_done(rest),
            6 => {
                let purpose = if byte(rest) % 2 == 0 { Purpose::Member } else { Purpose::Join };
                let (stranger, dialled) = (byte(rest) % 2 == 0, byte(rest) % 2 == 0);
                self.session(stranger, dialled, purpose);
            }
            7 => {
                let session = self.sessions[session].0;
                self.node.handle(self.now, Input::SessionDown { session, reason: None });
            }
            8 => {
                let scope = match byte(rest) % 2 {
                    0 => FederationScope::Direct,
                    _ => FederationScope::Global { max_hops: 1 },
                };
                let mut spec = QuerySpec::new(scope, QueryTarget::text("words"));
                spec.top_k = usize::from(byte(rest));
                let _ = self.node.query(self.now, spec);
            }
            _ => self.user(rest),
        }
    }

    /// What the node's own user does meanwhile.
    fn user(&mut self, rest: &mut &[u8]) {
        let stranger = identity(3).peer_id();
        let peer = if byte(rest) % 2 == 0 { joiner().peer_id() } else { stranger };
        match byte(rest) % 6 {
            0 => drop(self.node.revoke(self.now, &peer, "gone")),
            1 => self.node.revoke_tokens(self.now, &peer),
            2 => drop(self.node.reject(&peer)),
            3 => drop(self.node.ping(self.now, &peer)),
            4 => drop(self.node.join(self.now, met().tickets[1].clone())),
            _ => drop(self.node.found(self.now)),
        }
    }

    fn request(&mut self, session: usize, mut request: Request) {
        if let Some(token) = self.token {
            match &mut request {
                Request::Search(search) => search.token = token,
                Request::Terms(terms) => terms.token = token,
                Request::Onion(onion) => onion.token = token,
                _ => {}
            }
        }
        self.exchanges += 1;
        let exchange = ExchangeId(self.exchanges);
        self.open.insert(exchange);
        let (session, stranger) = self.sessions[session];
        if stranger {
            self.of_strangers.insert(exchange);
        }
        self.node.handle(self.now, Input::Request { session, exchange, request });
    }

    fn respond(&mut self, rest: &mut &[u8]) {
        let Some(at) = usize::from(byte(rest)).checked_rem(self.calls.len()) else { return };
        let call = self.calls.swap_remove(at);
        let result = match byte(rest) % 4 {
            0 => Err(CallFailure::Timeout),
            1 => {
                let said = &met().responses;
                Ok(said[usize::from(byte(rest)) % said.len()].clone())
            }
            _ => Response::from_wire(frame(rest)).map_err(|_| CallFailure::Garbage),
        };
        self.node.handle(self.now, Input::Response { call, result });
    }

    fn job_done(&mut self, rest: &mut &[u8]) {
        let Some(at) = usize::from(byte(rest)).checked_rem(self.jobs.len()) else { return };
        let (job, search) = self.jobs.swap_remove(at);
        let bytes = frame(rest);
        let input = if search {
            let legs = postcard::from_bytes::<Vec<Leg>>(bytes).unwrap_or_default();
            let checked = legs.iter().try_for_each(Leg::check).map(|()| legs);
            Input::SearchDone { job, result: checked.map_err(|error| error.to_string()) }
        } else {
            let stats = postcard::from_bytes::<TermStats>(bytes).unwrap_or_default();
            let checked = stats.check().map(|()| stats);
            Input::TermsDone { job, result: checked.map_err(|error| error.to_string()) }
        };
        self.node.handle(self.now, input);
    }

    fn drain(&mut self) {
        for _ in 0..EFFECTS_MAX {
            let Some(effect) = self.node.poll_effect() else { return };
            match effect {
                Effect::Respond { exchange, response } => {
                    assert!(self.open.remove(&exchange), "one answer a request");
                    response.to_wire().expect("an answer that its asker takes");
                    self.learn(&response);
                    if self.of_strangers.contains(&exchange) {
                        let data = matches!(
                            *response,
                            Response::Answer { .. }
                                | Response::Terms(_)
                                | Response::Synced(_)
                                | Response::Welcome(_)
                                | Response::Token(_)
                                | Response::Onion(_)
                        );
                        assert!(!data, "a stranger got {response:?}");
                    }
                }
                Effect::Abandon { exchange } => {
                    assert!(self.open.remove(&exchange), "one answer a request");
                }
                Effect::Rekey { .. } => {
                    self.node.rekey(self.now, keyring(), false).expect("signs");
                }
                Effect::Call { call, request, .. } => {
                    request.to_wire().expect("a request that its receiver takes");
                    self.calls.push(call);
                }
                Effect::Search { job, .. } => self.jobs.push((job, true)),
                Effect::Terms { job, .. } => self.jobs.push((job, false)),
                Effect::Event(exo_node::effect::Event::StateNotSaved(error)) => {
                    panic!("the state was not saved: {error}");
                }
                _ => {}
            }
        }
        panic!("more effects than any input gives cause to");
    }

    /// Keeps the token that the member was given.
    fn learn(&mut self, response: &Response) {
        let token = match response {
            Response::Welcome(welcome) => Some(&welcome.token),
            Response::Token(token) => Some(&**token),
            _ => None,
        };
        if let Some(token) = token.map(Signed::claimed) {
            self.token = Some(token.expect("it decodes").id);
        }
    }
}

/// Two bytes of length, and so many bytes or what is left.
fn frame<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let len = usize::from(byte(rest)) << 8 | usize::from(byte(rest));
    let (frame, after) = rest.split_at(len.min(rest.len()));
    *rest = after;
    frame
}
