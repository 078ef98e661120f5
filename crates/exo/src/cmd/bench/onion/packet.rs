//! The packet by itself: what its asker and each member on its way do, without any link.
//!
//! Every case begins with bytes as a link gives them and ends with bytes for the next. The cases take
//! turns, round by round, so that whatever disturbs the machine disturbs all of them.

use std::hint::black_box;
use std::time::Duration;

use exo_crypto::{KemEpochKey, KemKeyring, PostQuantumKeypair, Verified};
use exo_onion::{
    Hop, OnionMessage, PacketClass, Peeled, Relay, RelayReply, ReplayCache, ReplyClass, ReplyKeys,
    Request, peel_layer, wrap,
};
use exo_types::limits::ONION_HOPS_MAX;
use exo_types::{PeerId, Timestamp};

use super::super::broken;
use super::super::cpu::spent;
use super::super::report::{Report, Unit};
use super::probe::{entropy, now};
use crate::exit::Failure;

/// A member that packets pass.
struct Member {
    peer: PeerId,
    keyring: KemKeyring,
    key: Verified<KemEpochKey>,
}

/// A length of packet and a length of path.
struct Case {
    class: PacketClass,
    hops: usize,
    content: Vec<u8>,
    /// As they come to the first member.
    packets: Vec<Vec<u8>>,
    build: Vec<f64>,
    unwrap: Vec<f64>,
}

/// Measures building and unwrapping for every length of packet and path, a relay's layer on a reply,
/// and what the asker does to open one.
pub(super) fn measure(report: &mut Report, rounds: usize) -> Result<(), Failure> {
    let members = (0..ONION_HOPS_MAX).map(|_| Member::new()).collect::<Result<Vec<_>, _>>()?;
    let mut cases = Vec::new();
    for class in PacketClass::ALL {
        for hops in 1..=ONION_HOPS_MAX {
            cases.push(Case::new(class, hops, &members)?);
        }
    }
    let mut layers = Vec::new();
    let mut openings = OPENINGS.map(|_| Vec::new());
    for round in 0..rounds + WARM_UP {
        for case in &mut cases {
            case.round(&members, round >= WARM_UP)?;
        }
        let layer = layer(&members)?;
        let opened = OPENINGS.map(|(reply, _, hops)| opening(&members, hops, reply));
        if round >= WARM_UP {
            layers.push(layer);
            for (times, opened) in openings.iter_mut().zip(opened) {
                times.push(opened?);
            }
        }
    }
    for case in &cases {
        let name = |what: &str| format!("{what}.{}.{}_hops", size(case.class), case.hops);
        report.samples(name("unwrap"), Unit::Micros, &case.unwrap);
        report.samples(name("build"), Unit::Micros, &case.build);
    }
    report.samples(LAYER, Unit::Micros, &layers);
    for ((_, reply, hops), times) in OPENINGS.iter().zip(&openings) {
        report.samples(format!("open.{reply}.{hops}_hops"), Unit::Micros, times);
    }
    if let Some(layer) = report.figure(LAYER).map(|figure| figure.p50) {
        report.goal("a relay's layer on 16 KiB of reply", layer, LAYER_MICROS_MAX, Unit::Micros);
    }
    Ok(())
}

impl Member {
    fn new() -> Result<Self, Failure> {
        let identity =
            PostQuantumKeypair::generate().map_err(|error| broken("an identity", error))?;
        let keyring =
            KemKeyring::generate(now()).map_err(|error| broken("a sealing key", error))?;
        let [key, _] =
            keyring.announce(&identity).map_err(|error| broken("a sealing key", error))?;
        Ok(Self { peer: identity.peer_id(), keyring, key })
    }
}

impl Case {
    fn new(class: PacketClass, hops: usize, members: &[Member]) -> Result<Self, Failure> {
        let content = vec![13; class.content_bytes_max()];
        let mut case = Self {
            class,
            hops,
            content,
            packets: Vec::new(),
            build: Vec::new(),
            unwrap: Vec::new(),
        };
        for _ in 0..BATCH {
            case.packets.push(case.packet(members, now())?);
        }
        Ok(case)
    }

    fn packet(&self, members: &[Member], now: Timestamp) -> Result<Vec<u8>, Failure> {
        let path: Vec<Hop<'_>> = members
            .iter()
            .take(self.hops)
            .map(|member| Hop { key: &member.key, delay_millis: 0 })
            .collect();
        let (class, reply) = (self.class, ReplyClass::Medium);
        let request = Request { path: &path, content: Some(&self.content), class, reply };
        let (message, keys) =
            wrap(&request, now, &mut entropy).map_err(|error| broken("a packet", error))?;
        black_box(keys);
        Ok(message.into_bytes())
    }

    /// Builds and unwraps [`BATCH`] packets. A sample is their mean.
    fn round(&mut self, members: &[Member], counts: bool) -> Result<(), Failure> {
        let now = now();
        let (built, building) = spent(|| {
            (0..BATCH).map(|_| self.packet(members, now)).collect::<Result<Vec<_>, Failure>>()
        });
        // A packet's life is short, so that those to unwrap are always the newest.
        self.packets = built?;
        let mut seen = ReplayCache::new();
        let first = members.first().ok_or_else(|| broken("a path", "nobody is on it"))?;
        let (unwrapped, unwrapping) = spent(|| {
            for packet in &self.packets {
                match peel(first, packet.clone(), &mut seen, now)? {
                    Peeled::Forward(forward) => drop(black_box(forward.message.into_bytes())),
                    Peeled::Deliver(delivery) => drop(black_box(delivery)),
                    Peeled::Cover(_) => return Err(broken("a packet", "it has no content")),
                }
            }
            Ok(())
        });
        unwrapped?;
        if counts {
            self.build.push(each(building));
            self.unwrap.push(each(unwrapping));
        }
        Ok(())
    }
}

fn peel(
    member: &Member,
    packet: Vec<u8>,
    seen: &mut ReplayCache,
    now: Timestamp,
) -> Result<Peeled, Failure> {
    let dropped = |error: exo_onion::Dropped| broken("a packet was dropped", error);
    let message = OnionMessage::from_bytes(packet).map_err(dropped)?;
    let forwards_to = |_: &PeerId| true;
    let from = PeerId::new([0; 32]);
    let relay =
        Relay { me: member.peer, from, keyring: &member.keyring, forwards_to: &forwards_to };
    peel_layer(message, &relay, seen, now).map_err(dropped)
}

/// Puts a relay's layer on [`BATCH`] replies of one chunk; what one takes, microseconds.
fn layer(members: &[Member]) -> Result<f64, Failure> {
    let (now, mut seen) = (now(), ReplayCache::new());
    let path: Vec<Hop<'_>> =
        members.iter().take(2).map(|member| Hop { key: &member.key, delay_millis: 0 }).collect();
    let (class, reply) = (PacketClass::Small, ReplyClass::Medium);
    let request = Request { path: &path, content: None, class, reply };
    let mut layers: Vec<RelayReply> = Vec::with_capacity(BATCH);
    for _ in 0..BATCH {
        let (message, _) =
            wrap(&request, now, &mut entropy).map_err(|error| broken("a packet", error))?;
        let first = members.first().ok_or_else(|| broken("a path", "nobody is on it"))?;
        match peel(first, message.into_bytes(), &mut seen, now)? {
            Peeled::Forward(forward) => layers.push(forward.reply),
            Peeled::Deliver(_) | Peeled::Cover(_) => return Err(broken("a path", "too short")),
        }
    }
    let mut chunk = vec![7; reply.chunk_bytes()];
    let (laid, time) = spent(|| {
        for layer in &mut layers {
            layer.layer(black_box(&mut chunk))?;
        }
        Ok::<(), exo_onion::LayerError>(())
    });
    laid.map_err(|error| broken("a layer", error))?;
    Ok(each(time))
}

/// Opens [`BATCH`] replies that come back over so many members; what one takes, microseconds.
fn opening(members: &[Member], hops: usize, class: ReplyClass) -> Result<f64, Failure> {
    let replies = (0..BATCH).map(|_| reply(members, hops, class));
    let mut replies = replies.collect::<Result<Vec<_>, Failure>>()?;
    let (opened, time) = spent(|| {
        for (keys, chunks) in &mut replies {
            for chunk in chunks.chunks_mut(class.chunk_bytes()) {
                black_box(keys.open(chunk)?);
            }
        }
        Ok::<(), exo_onion::ReplyError>(())
    });
    opened.map_err(|error| broken("a reply", error))?;
    Ok(each(time))
}

/// A reply as the first member of a path sends it, and what opens it.
fn reply(
    members: &[Member],
    hops: usize,
    reply: ReplyClass,
) -> Result<(ReplyKeys, Vec<u8>), Failure> {
    let now = now();
    let path: Vec<Hop<'_>> =
        members.iter().take(hops).map(|member| Hop { key: &member.key, delay_millis: 0 }).collect();
    let request =
        Request { path: &path, content: Some(&[13; 64]), class: PacketClass::Small, reply };
    let (message, keys) =
        wrap(&request, now, &mut entropy).map_err(|error| broken("a packet", error))?;
    let (mut packet, mut relays) = (message.into_bytes(), Vec::new());
    for member in members {
        match peel(member, packet, &mut ReplayCache::new(), now)? {
            Peeled::Forward(forward) => {
                packet = forward.message.into_bytes();
                relays.push(forward.reply);
            }
            Peeled::Deliver(delivery) => {
                let answer = vec![11; reply.answer_bytes_max()];
                let chunks =
                    delivery.reply.answer(&answer).map_err(|_| broken("an answer", "too long"))?;
                let mut chunks = chunks.concat();
                for relay in relays.iter_mut().rev() {
                    for chunk in chunks.chunks_mut(reply.chunk_bytes()) {
                        relay.layer(chunk).map_err(|error| broken("a layer", error))?;
                    }
                }
                return Ok((keys, chunks));
            }
            Peeled::Cover(_) => break,
        }
    }
    Err(broken("a packet", "it ended nowhere"))
}

fn each(of_batch: Duration) -> f64 {
    of_batch.as_secs_f64() * 1e6 / BATCH as f64
}

fn size(class: PacketClass) -> &'static str {
    match class {
        PacketClass::Small => "8_kib",
        PacketClass::Large => "16_kib",
    }
}

/// Packets of a case in one round.
const BATCH: usize = 16;
/// Rounds that are thrown away first.
const WARM_UP: usize = 3;
/// Replies that are opened: their length, its name, and members on the path.
const OPENINGS: [(ReplyClass, &str, usize); 4] = [
    (ReplyClass::Medium, "16_kib", 3),
    (ReplyClass::Medium, "16_kib", 5),
    (ReplyClass::Large, "64_kib", 3),
    (ReplyClass::Large, "64_kib", 5),
];
/// Name of the figure of a relay's layer on one chunk of reply.
const LAYER: &str = "reply_layer.16_kib";
/// What that layer may take.
const LAYER_MICROS_MAX: f64 = 10.0;
