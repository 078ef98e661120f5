//! What goes over the wires of a question through relays: lengths that say neither how long the path is
//! nor where on it one stands, on real streams between real nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use exo_crypto::{KemEpochKey, Verified};
use exo_federation::driver::net::{Purpose, RequestError};
use exo_federation::{
    FederatedMesh, FederationScope, PeerState, QuerySpec, QueryTarget, SourceStatus,
};
use exo_node::question::Question;
use exo_node::wire::{OnionRequest, Request, Response, SearchFor, TermsOf};
use exo_onion::{Hop, PacketClass, Reply, ReplyClass, ReplyFailure, ReplyKeys, ReplyOutcome, wrap};
use exo_types::{Filter, PeerId, TokenId, Wire};
use rand::TryRng;

use super::actor::{Actor, Reply::Usual};
use super::nodes::{
    Home, PATIENCE, admit, all_active, ask, by_text, by_vector, of, one_moth_each, state, stop,
    until, until_async,
};
use super::raw::{Raw, Session, now};
use super::tap::{Passed, Tap};

/// Real nodes that relay.
const RELAYS: usize = 4;

/// Length of a packet's frame on the wire.
fn packet_frame(class: PacketClass) -> usize {
    let packet = vec![0; class.packet_bytes()];
    let request = Request::Onion(OnionRequest { token: TokenId::new([0; 16]), packet });
    request.to_wire().expect("encodes").len()
}

/// Length of a reply's frame on the wire.
fn reply_frame(class: ReplyClass) -> usize {
    Response::Onion(vec![0; class.reply_bytes()]).to_wire().expect("encodes").len()
}

/// An asker that keeps no rule, real relays, and one member that sees the lengths of what passes it.
struct Stage {
    /// The real nodes live there.
    _homes: Vec<Home>,
    relays: Vec<FederatedMesh>,
    /// Answers, and sends nothing on.
    deaf: FederatedMesh,
    /// Stopped before the first packet.
    gone: PeerId,
    tap: Tap,
    _asker: Actor,
    sessions: BTreeMap<PeerId, Session>,
    keys: BTreeMap<PeerId, Verified<KemEpochKey>>,
}

/// What an asker got.
struct Got {
    reply: Reply,
    packet: usize,
    answer: usize,
}

impl Stage {
    async fn set() -> Self {
        let (mut homes, mut nodes) = (Vec::new(), Vec::<FederatedMesh>::new());
        for at in 0..RELAYS + 2 {
            let home = Home::new(&format!("n{at}"));
            if at == RELAYS {
                home.configure(|config| config.onion.relay = false);
            }
            let node = home.open().await;
            if let Some(founder) = nodes.first() {
                admit(founder, &node).await;
            }
            homes.push(home);
            nodes.push(node);
        }
        all_active(&nodes).await;
        let asker = Actor::idle(Raw::stranger(), &nodes[0], "asker", |_| Usual).await;
        let tap = Tap::join(&nodes[0], "tap").await;
        until("every node has a session with the tap", || {
            let sees =
                |node: &FederatedMesh| state(node, &tap.peer_id()) == Some(PeerState::Active);
            nodes.iter().all(sees).then_some(())
        })
        .await;
        let mut sessions = BTreeMap::new();
        for node in &nodes {
            sessions.insert(node.peer_id(), asker.raw.enter(node).await);
        }
        let at = tap.actor.raw.endpoint.local_address().expect("is bound");
        let channel = asker.raw.endpoint.connect(at, tap.peer_id(), Purpose::Member).await;
        let session = asker.raw.greet(channel.expect("connects"), tap.actor.federation).await;
        sessions.insert(tap.peer_id(), session);
        // Whoever gives nobody a token is not kept for long.
        sessions.values().for_each(|session| asker.serve(session.channel.clone()));
        let key = |(peer, session): (&PeerId, &Session)| {
            let identity = session.channel.peer_key();
            let descriptor = session.welcome.descriptor.verify(identity).expect("is its own");
            let keys = descriptor.kem_keys.iter();
            let mut keys = keys.map(|key| key.verify(identity).expect("is its own"));
            (*peer, keys.find(|key| key.usable_at(now())).expect("has a key for now"))
        };
        let keys = sessions.iter().map(key).collect();
        let last = nodes.pop().expect("has nodes");
        let gone = last.peer_id();
        stop(last).await;
        until("nobody has a session with the stopped node", || {
            let lost = |node: &FederatedMesh| state(node, &gone) == Some(PeerState::Unreachable);
            nodes.iter().all(lost).then_some(())
        })
        .await;
        let deaf = nodes.pop().expect("has nodes");
        let stage =
            Self { _homes: homes, relays: nodes, deaf, gone, tap, _asker: asker, sessions, keys };
        stage.warm_up().await;
        stage
    }

    /// The tap's joining began an epoch: a member that has no token of it yet gives a packet up. Goes on
    /// until each has passed one on to each other.
    async fn warm_up(&self) {
        let mut all: Vec<PeerId> = self.relays.iter().map(FederatedMesh::peer_id).collect();
        all.push(self.tap.peer_id());
        let content = contents()[0].0.clone();
        let content = content.as_deref();
        let parcel = Parcel { content, packet: PacketClass::Small, reply: ReplyClass::Small };
        let last = [all.as_slice(), &[self.deaf.peer_id()]].concat();
        for (first, last) in all.iter().flat_map(|a| last.iter().map(move |b| (*a, *b))) {
            if first == last {
                continue;
            }
            until_async("a packet passes between two members", async || {
                let got = self.ask(&[first, last], &parcel).await;
                (got.reply.from == last).then_some(())
            })
            .await;
        }
        self.tap.take_passed();
    }

    /// Real relays with the tap at a place, counted from the asker, and whatever comes last.
    fn path(&self, hops: usize, place: usize, last: &[PeerId]) -> Vec<PeerId> {
        let mut path: Vec<PeerId> = self.relays.iter().map(FederatedMesh::peer_id).collect();
        path.insert(place, self.tap.peer_id());
        path.truncate(hops - last.len());
        path.extend(last);
        path
    }

    fn wrap(&self, path: &[PeerId], parcel: &Parcel<'_>) -> (Vec<u8>, ReplyKeys) {
        let hops: Vec<Hop<'_>> =
            path.iter().map(|peer| Hop { key: &self.keys[peer], delay_millis: 0 }).collect();
        let request = exo_onion::Request {
            path: &hops,
            content: parcel.content,
            class: parcel.packet,
            reply: parcel.reply,
        };
        let mut random = |bytes: &mut [u8]| {
            rand::rngs::SysRng.try_fill_bytes(bytes).expect("the system has randomness");
        };
        let (message, keys) = wrap(&request, now(), &mut random).expect("wraps");
        (message.into_bytes(), keys)
    }

    /// Sends a packet to a member; the length of what was sent, and what came back.
    async fn send(&self, to: &PeerId, packet: Vec<u8>) -> (usize, Result<Vec<u8>, RequestError>) {
        let session = &self.sessions[to];
        let request = Request::Onion(OnionRequest { token: session.token().id, packet });
        let body = request.to_wire().expect("encodes");
        (body.len(), session.channel.request(body, PATIENCE).await)
    }

    async fn ask(&self, path: &[PeerId], parcel: &Parcel<'_>) -> Got {
        let (packet, mut keys) = self.wrap(path, parcel);
        let (packet, answer) = self.send(&path[0], packet).await;
        let answer = answer.expect("is answered");
        let Response::Onion(mut chunks) = Response::from_wire(&answer).expect("decodes") else {
            panic!("not a reply");
        };
        let mut reply = None;
        for chunk in chunks.chunks_mut(keys.class().chunk_bytes()) {
            reply = keys.open(chunk).expect("opens");
        }
        Got { reply: reply.expect("is whole"), packet, answer: answer.len() }
    }

    /// Asks, and holds every frame at the asker and at the tap to the two lengths that its classes have.
    async fn ask_and_measure(&self, path: &[PeerId], parcel: &Parcel<'_>, passes: bool) -> Reply {
        let (packet, answer) = (packet_frame(parcel.packet), reply_frame(parcel.reply));
        let got = self.ask(path, parcel).await;
        assert_eq!((got.packet, got.answer), (packet, answer));
        let mut expected = vec![Passed::PacketIn(packet)];
        if passes {
            expected.extend([Passed::PacketOut(packet), Passed::ReplyIn(answer)]);
        }
        expected.push(Passed::ReplyOut(answer));
        assert_eq!(self.tap.take_passed(), expected);
        got.reply
    }
}

/// What a packet carries, and how long it and its reply are.
#[derive(Clone, Copy)]
struct Parcel<'a> {
    content: Option<&'a [u8]>,
    packet: PacketClass,
    reply: ReplyClass,
}

/// Contents of packets: what is answered with statistics, with a signed list, and not at all.
fn contents() -> [(Option<Vec<u8>>, bool); 4] {
    let text = "moth".to_owned();
    let terms = Question::Terms(TermsOf { collection: None, text });
    let search = Question::Search(Box::new(SearchFor {
        collection: None,
        target: QueryTarget::text("moth"),
        filter: Filter::default(),
        top_k: 10,
        terms: None,
        vectors: false,
    }));
    let encoded = |question: Question| Some(question.to_wire().expect("encodes"));
    [
        (encoded(terms), true),
        (encoded(search), true),
        (Some(b"no question".to_vec()), false),
        (None, true),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_has_one_length_for_its_class_whatever_the_path_and_the_place_on_it() {
    // The figures of the protocol document; a frame adds its choice, the token and the length.
    assert_eq!(PacketClass::ALL.map(PacketClass::packet_bytes), [8192, 16384]);
    assert_eq!(ReplyClass::ALL.map(ReplyClass::reply_bytes), [4096, 16384, 65536]);
    let stage = Stage::set().await;
    one_moth_each(&stage.relays).await;
    let (mut packets, mut replies) = (BTreeSet::new(), BTreeSet::new());
    for (hops, place) in (1..=5).flat_map(|hops| (0..hops).map(move |place| (hops, place))) {
        let path = stage.path(hops, place, &[]);
        for (packet, reply) in
            PacketClass::ALL.into_iter().flat_map(|p| ReplyClass::ALL.map(|r| (p, r)))
        {
            for (content, understood) in &contents() {
                let parcel = Parcel { content: content.as_deref(), packet, reply };
                let got = stage.ask_and_measure(&path, &parcel, place + 1 < hops).await;
                assert_eq!(Some(&got.from), path.last());
                let failed = matches!(got.outcome, ReplyOutcome::Failure(ReplyFailure::Malformed));
                assert_eq!(failed, !understood, "{hops} hops, {:?}", got.outcome);
                packets.insert(packet_frame(packet));
                replies.insert(reply_frame(reply));
            }
        }
    }
    assert_eq!((packets.len(), replies.len()), (2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_has_the_length_of_its_class_also_where_a_relay_could_not_go_on() {
    let stage = Stage::set().await;
    let content = contents()[0].0.clone();
    let relay = stage.relays[RELAYS - 1].peer_id();
    for (hops, place) in (2..=5).flat_map(|hops| (0..hops - 1).map(move |place| (hops, place))) {
        for (packet, reply) in
            PacketClass::ALL.into_iter().flat_map(|p| ReplyClass::ALL.map(|r| (p, r)))
        {
            let parcel = Parcel { content: content.as_deref(), packet, reply };
            // Whoever comes before the member that is gone gives up; that may be the tap itself.
            let path = stage.path(hops, place, &[stage.gone]);
            let got = stage.ask_and_measure(&path, &parcel, place + 2 < hops).await;
            assert_eq!(
                got.from,
                path[hops - 2],
                "{hops} hops, the tap at {place}: {:?}",
                got.outcome
            );
            assert_eq!(got.outcome, ReplyOutcome::Failure(ReplyFailure::Unreachable));
            // A member that does not relay says so to the asker alone.
            if place + 2 < hops {
                let path = stage.path(hops, place, &[stage.deaf.peer_id(), relay]);
                let got = stage.ask_and_measure(&path, &parcel, true).await;
                assert_eq!(got.from, stage.deaf.peer_id());
                assert_eq!(got.outcome, ReplyOutcome::Failure(ReplyFailure::Denied));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_is_dropped_is_answered_with_nothing_at_all() {
    let stage = Stage::set().await;
    let content = contents()[0].0.clone();
    let parcel = Parcel {
        content: content.as_deref(),
        packet: PacketClass::Small,
        reply: ReplyClass::Small,
    };
    let path = stage.path(3, 1, &[]);
    let dropped = async |packet: Vec<u8>, what: &str| {
        let (_, answer) = stage.send(&path[0], packet).await;
        let code = match answer {
            Err(RequestError::Abandoned { code }) => code,
            other => panic!("{what}: {other:?}"),
        };
        assert_eq!((what, code), (what, 1));
        assert_eq!((what, stage.tap.take_passed()), (what, Vec::new()));
    };
    let (packet, _) = stage.wrap(&path, &parcel);
    // Version, epoch, tag, ciphertext, slots, payload.
    for at in [0, 4, 8, 24, 1144, 4000, 8191] {
        let mut altered = packet.clone();
        altered[at] ^= 1;
        dropped(altered, &format!("byte {at} is altered")).await;
    }
    dropped(packet[..8191].to_vec(), "a byte is missing").await;
    dropped([packet.as_slice(), &[0]].concat(), "a byte is too many").await;
    let (_, first) = stage.send(&path[0], packet.clone()).await;
    first.expect("is answered");
    assert_eq!(stage.tap.take_passed().len(), 4);
    dropped(packet, "it came before").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn among_nodes_that_ask_and_cover_nothing_has_another_length() {
    let (mut homes, mut nodes) = (Vec::new(), Vec::<FederatedMesh>::new());
    for at in 0..5 {
        let home = Home::new(&format!("n{at}"));
        home.configure(|config| config.onion.cover_per_minute = 600);
        let node = home.open().await;
        if let Some(founder) = nodes.first() {
            admit(founder, &node).await;
        }
        homes.push(home);
        nodes.push(node);
    }
    all_active(&nodes).await;
    one_moth_each(&nodes).await;
    let tap = Tap::join(&nodes[0], "tap").await;
    until("every node has a session with the tap", || {
        let sees = |node: &FederatedMesh| state(node, &tap.peer_id()) == Some(PeerState::Active);
        nodes.iter().all(sees).then_some(())
    })
    .await;
    let long_text = QueryTarget::text(["moth"; 800].join(" "));
    let long_vector = QueryTarget::vector(vec![0.25; 2000]);
    let long = |target| QuerySpec::new(FederationScope::Direct, target);
    let many = QuerySpec { top_k: 50, ..by_vector() };
    let queries = [by_vector(), by_text(), many, long(long_text), long(long_vector)];
    let mut passed = BTreeSet::new();
    for max_hops in 1..=5 {
        for (asker, query) in nodes.iter().zip(&queries) {
            let scope = FederationScope::Global { max_hops };
            let spec = QuerySpec { scope, deadline: Duration::from_secs(10), ..query.clone() };
            let answer = ask(asker, spec).await;
            // Two thousand dimensions are not what the others hold.
            let declines = query.target.vector.len() == 2000;
            assert!(answer.complete || declines, "{max_hops} hops: {:?}", answer.sources);
            assert_eq!(of(&answer, &tap.peer_id()).status, SourceStatus::Answered);
        }
        passed.extend(tap.take_passed());
    }
    until("cover packets have passed as well", || {
        passed.extend(tap.take_passed());
        let packets = passed.iter().filter(|frame| matches!(frame, Passed::PacketOut(_)));
        (packets.count() == 2).then_some(())
    })
    .await;
    let packets = PacketClass::ALL.map(packet_frame);
    // The product asks for replies of the two larger classes.
    let replies = [ReplyClass::Medium, ReplyClass::Large].map(reply_frame);
    let frames = packets.iter().flat_map(|n| [Passed::PacketIn(*n), Passed::PacketOut(*n)]);
    let frames =
        frames.chain(replies.iter().flat_map(|n| [Passed::ReplyIn(*n), Passed::ReplyOut(*n)]));
    assert_eq!(passed, frames.collect::<BTreeSet<_>>());
}
