//! A voter whose identity the test has: it enters as that voter and sends what it is told to.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exo_consensus::{
    Blob, Bundle, BundleHead, Cosignature, Digest, Message, Point, Root, Statement, Status, Update,
    ViewChange, ViewChangeMessage, Vote, bundle_root,
};
use exo_crypto::{PostQuantumKeypair, Signed, load_cosigner, load_identity};
use exo_federation::driver::net::{
    BindConfig, EncryptedChannel, Endpoint, Lane, LaneFrame, NetLimits, Purpose,
};
use exo_federation::{CapabilitySet, FederationToken};
use exo_node::descriptor::MemberDescriptor;
use exo_node::wire::{Hello, Request, Response};
use exo_types::limits::{CONSENSUS_MESSAGE_BYTES_MAX, TOKEN_LIFE_MILLIS, UPDATE_BYTES_MAX};
use exo_types::{Epoch, FederationId, PeerId, Sequence, Timestamp, TokenId, View, Wire};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::voters::{Voter, Voters};

/// The voter, with a session to each of the others.
pub(super) struct Rogue {
    runtime: Runtime,
    identity: Arc<PostQuantumKeypair>,
    federation: FederationId,
    ways: Vec<Way>,
    heard: Arc<Mutex<Heard>>,
    stop: Arc<AtomicBool>,
    _endpoint: Endpoint,
}

#[derive(Clone)]
struct Way {
    channel: EncryptedChannel,
    lane: Lane,
}

/// The newest that the others said, to be said again.
#[derive(Default)]
struct Heard {
    frames: Vec<LaneFrame>,
    next: usize,
    status: Option<Status>,
}

/// What was sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) small: AtomicUsize,
    pub(super) large: AtomicUsize,
    pub(super) replayed: AtomicUsize,
    pub(super) full: AtomicUsize,
}

impl Rogue {
    /// Takes the place of a voter whose process was killed. `reads` is whether it hears the others.
    pub(super) fn take_over(voters: &Voters, victim: &Voter, reads: bool) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let keys = victim.dir.join("keys");
        let identity = Arc::new(load_identity(&keys.join("identity.key")).expect("its key"));
        let cosigner = load_cosigner(&keys.join("cosigner.key")).expect("its key");
        let status = voters.nodes[0].door.json("GET", "/v1/status", &Value::Null);
        let of = &status["federation"];
        let federation: FederationId =
            of["id"].as_str().and_then(|id| id.parse().ok()).expect("a federation");
        let epoch = Epoch(of["epoch"].as_u64().expect("an epoch"));
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (endpoint, ways) = runtime.block_on(async {
            let endpoint = Endpoint::bind(BindConfig {
                listen: ([127, 0, 0, 1], 0).into(),
                identity: identity.clone(),
                admit: Arc::new(|_| true),
                limits: NetLimits::default(),
            });
            let endpoint = endpoint.expect("binds");
            let descriptor = MemberDescriptor {
                peer: identity.peer_id(),
                version: now().0,
                addresses: Vec::new(),
                capabilities: CapabilitySet::of_this_version(),
                kem_keys: Vec::new(),
                cosigner: cosigner.public().clone(),
                expires: now().plus_millis(60 * 60 * 1000),
            };
            let descriptor = Signed::sign(descriptor, &identity).expect("signs").into_signed();
            let hello = Hello {
                federation,
                epoch,
                capabilities: CapabilitySet::of_this_version(),
                descriptor,
                token: None,
            };
            let mut ways = Vec::new();
            for node in voters.nodes.iter().filter(|node| node.peer != victim.peer) {
                ways.push(enter(&endpoint, &identity, node, &hello, &heard, reads).await);
            }
            (endpoint, ways)
        });
        let stop = Arc::new(AtomicBool::new(false));
        Self { runtime, identity, federation, ways, heard, stop, _endpoint: endpoint }
    }

    /// Sends every kind of wrong message to everybody from now on, until it is dropped.
    pub(super) fn flood(&self) -> Arc<Sent> {
        let sent = Arc::new(Sent::default());
        let forms = Arc::new(Forms::new(self.federation, &self.identity));
        for (seed, way) in (1..).zip(self.ways.clone()) {
            let (sent, forms, heard, stop) = (
                Arc::clone(&sent),
                Arc::clone(&forms),
                Arc::clone(&self.heard),
                Arc::clone(&self.stop),
            );
            self.runtime.spawn(async move {
                let mut tick = tokio::time::interval(TICK);
                let (mut number, mut ticks): (u64, u64) = (seed << 32, 0);
                while !stop.load(Ordering::Relaxed) && !way.channel.is_closed() {
                    tick.tick().await;
                    for _ in 0..SMALL_A_TICK {
                        number += 1;
                        let status = heard.lock().expect("is whole").status;
                        count(&sent, &sent.small, way.lane.send(&forms.small(status, number)));
                    }
                    for _ in 0..REPLAYED_A_TICK {
                        let frame = heard.lock().expect("is whole").again();
                        let Some(frame) = frame else { break };
                        count(&sent, &sent.replayed, way.lane.send(&frame));
                    }
                    ticks += 1;
                    if ticks % TICKS_A_LARGE == 0 {
                        count(
                            &sent,
                            &sent.large,
                            way.lane.send(forms.large(ticks / TICKS_A_LARGE)),
                        );
                    }
                }
            });
        }
        sent
    }

    /// Whether the others still bear with it.
    pub(super) fn sessions(&self) -> usize {
        self.ways.iter().filter(|way| !way.channel.is_closed()).count()
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for way in &self.ways {
            way.channel.close(0, "over");
        }
    }
}

impl Heard {
    fn keep(&mut self, body: &[u8]) {
        let Ok(frame) = LaneFrame::new(body) else { return };
        if let Ok(Message::Status(status)) = Message::from_wire(body) {
            self.status = Some(status);
        }
        match self.frames.len() < HEARD_MAX {
            true => self.frames.push(frame),
            false => self.frames[self.next % HEARD_MAX] = frame,
        }
        self.next += 1;
    }

    fn again(&mut self) -> Option<LaneFrame> {
        self.next += 1;
        let count = self.frames.len();
        (count > 0).then(|| self.frames[self.next % count].clone())
    }
}

/// Opens a session as the voter and a lane in it.
async fn enter(
    endpoint: &Endpoint,
    identity: &Arc<PostQuantumKeypair>,
    node: &Voter,
    hello: &Hello,
    heard: &Arc<Mutex<Heard>>,
    reads: bool,
) -> Way {
    let peer: PeerId = node.peer.parse().expect("an id");
    let channel = endpoint.connect(node.mesh, peer, Purpose::Member).await.expect("connects");
    let body = Request::Hello(Box::new(hello.clone())).to_wire().expect("encodes");
    let answer = channel.request(body, Duration::from_secs(10)).await.expect("is answered");
    let answer = Response::from_wire(&answer).expect("decodes");
    assert!(matches!(answer, Response::Welcome(_)), "{answer:?}");
    channel.allow_lane();
    let lane = channel.open_lane(&tokio::runtime::Handle::current());
    tokio::spawn(serve(channel.clone(), Arc::clone(identity), hello.clone()));
    // The first request shows that the welcome came: now the other side asks for its token, and the
    // session is one.
    let ping = Request::Ping.to_wire().expect("encodes");
    channel.request(ping, Duration::from_secs(10)).await.expect("is answered");
    if reads {
        let (of, heard) = (channel.clone(), Arc::clone(heard));
        tokio::spawn(async move {
            while let Some(mut reader) = of.accept_lane().await {
                while let Some(message) = reader.next().await {
                    heard.lock().expect("is whole").keep(&message.body);
                }
            }
        });
    }
    Way { channel, lane }
}

/// Answers what a member has to answer so that the others keep a session with it: a token for who asks.
async fn serve(channel: EncryptedChannel, identity: Arc<PostQuantumKeypair>, hello: Hello) {
    while let Some(incoming) = channel.accept_request().await {
        let response = match Request::from_wire(&incoming.body) {
            Ok(Request::Grant) => {
                let mut id = [0; TokenId::LEN];
                id[..8].copy_from_slice(&now().0.to_le_bytes());
                id[8..16].copy_from_slice(&channel.peer().as_bytes()[..8]);
                let token = FederationToken {
                    id: TokenId::new(id),
                    federation: hello.federation,
                    issuer: identity.peer_id(),
                    holder: channel.peer(),
                    audience: identity.peer_id(),
                    capabilities: CapabilitySet::of_this_version().names(),
                    epoch: hello.epoch,
                    issued: now(),
                    expires: now().plus_millis(TOKEN_LIFE_MILLIS),
                };
                let token = Signed::sign(token, &identity).expect("signs").into_signed();
                Response::Token(Box::new(token))
            }
            _ => Response::Done,
        };
        // Whoever does not wait any more needs no answer.
        let _ = incoming.responder.respond(response.to_wire().expect("encodes")).await;
    }
}

/// What is sent.
struct Forms {
    view_change: Vec<u8>,
    request: Vec<u8>,
    large: Vec<LaneFrame>,
}

impl Forms {
    fn new(federation: FederationId, identity: &PostQuantumKeypair) -> Self {
        let me = identity.peer_id();
        let stable = Point { sequence: Sequence(0), size: 0, root: Root([0; 32]) };
        let statement = Statement::ViewChange(ViewChange {
            federation,
            epoch: Epoch(0),
            view: View(1_000_000),
            sender: me,
            stable,
            prepared: Vec::new(),
            accepted: Vec::new(),
        });
        let signed = Signed::sign(statement, identity).expect("signs").into_signed();
        let view_change =
            Message::ViewChange(Box::new(ViewChangeMessage { signed, certificate: None }));
        let request = request(federation, identity, UPDATE_BYTES_MAX);
        let large = vec![
            frame(&over_long_update(&request)),
            frame(&over_long_batch(&request)),
            frame(&vec![1; CONSENSUS_MESSAGE_BYTES_MAX]),
        ];
        let view_change = view_change.to_wire().expect("encodes");
        Self { view_change, request, large }
    }

    /// Forged, future and out of turn, by number.
    fn small(&self, status: Option<Status>, number: u64) -> LaneFrame {
        let (epoch, view, executed) =
            status.map_or((0, 0, 0), |status| (status.epoch.0, status.view.0, status.executed.0));
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        let vote = |epoch: u64, view: u64, sequence: u64| Vote {
            epoch: Epoch(epoch),
            view: View(view),
            sequence: Sequence(sequence),
            digest: Digest(digest),
        };
        let message = match number % 9 {
            0 => Message::Prepare(vote(epoch, view, executed + 1 + number % 32)),
            1 => Message::Commit(vote(epoch, view, executed + 1 + number % 32)),
            2 => Message::Commit(vote(epoch, view + number % 1_000_000, executed + 1)),
            3 => Message::Prepare(vote(epoch, view, executed + 10_000 + number % 1_000_000)),
            4 => Message::Commit(vote(epoch + 1 + number % 1_000, 0, 1)),
            5 => Message::Cosignature(Cosignature {
                epoch: Epoch(epoch),
                point: Point { sequence: Sequence(executed), size: number, root: Root(digest) },
                signature: Blob::new(vec![7; 2420]).expect("fits"),
            }),
            6 => return frame(&flipped(&self.view_change, number)),
            7 => return frame(&self.view_change),
            _ => return frame(&flipped(&self.request, number)),
        };
        frame(&message.to_wire().expect("encodes"))
    }

    fn large(&self, number: u64) -> &LaneFrame {
        &self.large[usize::try_from(number % self.large.len() as u64).expect("is small")]
    }
}

/// A request that holds, with one update.
fn request(federation: FederationId, identity: &PostQuantumKeypair, bytes: usize) -> Vec<u8> {
    let updates = vec![Update::Data(Blob::new(vec![b'x'; bytes]).expect("fits"))];
    let head = BundleHead {
        federation,
        member: identity.peer_id(),
        number: 1 << 40,
        count: 1,
        root: bundle_root(&updates),
    };
    let head = Signed::sign(head, identity).expect("signs").into_signed();
    Message::Request(Arc::new(Bundle { head, updates })).to_wire().expect("encodes")
}

/// The same request with an update of 64 KiB, which nobody could encode: its end is written by hand.
fn over_long_update(request: &[u8]) -> Vec<u8> {
    // The update's content is at the end, its length in three bytes of LEB128 before it.
    let mut bytes = request[..request.len() - UPDATE_BYTES_MAX - 3].to_vec();
    bytes.extend([0x80, 0x80, 0x04]);
    bytes.extend(vec![b'x'; 64 * 1024]);
    bytes
}

/// A batch of 64 bundles, twice as long as one may be.
fn over_long_batch(request: &[u8]) -> Vec<u8> {
    // PRE-PREPARE, epoch 0, view 0, place 1, 64 bundles.
    let mut bytes = vec![1, 0, 0, 1, 64];
    (0..64).for_each(|_| bytes.extend(&request[1..]));
    bytes
}

fn flipped(bytes: &[u8], number: u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = usize::try_from(number).unwrap_or(usize::MAX) % bytes.len();
    bytes[at] ^= 1 << (number % 8);
    bytes
}

fn frame(body: &[u8]) -> LaneFrame {
    LaneFrame::new(body).expect("fits")
}

fn count(sent: &Sent, of: &AtomicUsize, went: bool) {
    let counter = if went { of } else { &sent.full };
    counter.fetch_add(1, Ordering::Relaxed);
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Messages of others that are remembered.
const HEARD_MAX: usize = 256;
const TICK: Duration = Duration::from_millis(10);
/// Messages to each of the others in each tick.
const SMALL_A_TICK: usize = 5;
const REPLAYED_A_TICK: usize = 5;
/// Ticks from one large message to the next.
const TICKS_A_LARGE: u64 = 16;
