//! The onion packet beside sphinx-packet and nym-outfox (Nym's mixnet, classical cryptography), in one
//! run on one core:
//! `cargo run --release --manifest-path benches/Cargo.toml --bin onion -- --help`.
//!
//! Every case begins with the bytes as they come from a link and ends with those for the next. Times are
//! CPU times of the thread; each round runs every case in turn, so that a slow moment of the machine
//! slows all of them, and the figures are medians over the rounds.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use exo_crypto::{KemEpochKey, KemKeyring, PostQuantumKeypair, Verified};
use exo_onion::{
    Hop, OnionMessage, PacketClass, Peeled, Relay, ReplayCache, ReplyClass, Request, peel_layer,
    wrap,
};
use exo_types::{PeerId, Timestamp};
use nym_outfox::packet::OutfoxPacket;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use sphinx_packet::SphinxPacket;
use sphinx_packet::header::delays::Delay;
use sphinx_packet::packet::builder::SphinxPacketBuilder;

/// The onion packet beside sphinx-packet and nym-outfox.
#[derive(Parser)]
struct Args {
    /// Rounds to take the median of.
    #[arg(long, default_value_t = 60)]
    rounds: usize,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const BATCH: usize = 64;

fn main() -> Result<()> {
    let args = Args::parse();
    let mut cases = Vec::new();
    for hops in [3, 5] {
        cases.extend(sphinx(hops)?);
        cases.extend(onion(hops)?);
    }
    cases.extend(outfox()?);
    cases.push(reply_layer()?);
    let mut times = vec![Vec::with_capacity(args.rounds); cases.len()];
    for _ in 0..args.rounds {
        for (case, times) in cases.iter_mut().zip(&mut times) {
            times.push((case.run)()? / BATCH as f64);
        }
    }
    let times: Vec<_> = cases
        .iter()
        .zip(times)
        .map(|(case, mut times)| {
            times.sort_by(f64::total_cmp);
            (case.name.as_str(), times)
        })
        .collect();
    if args.json {
        print_json(&times);
    } else {
        print_table(&times);
    }
    Ok(())
}

/// Cases with the sorted times of their rounds, microseconds.
type Times<'a> = [(&'a str, Vec<f64>)];

/// What is compared with what, and the ratio not to exceed.
const RATIOS: [(&str, &str, &str, f64); 4] = [
    ("unwrap 3 to sphinx", "exo unwrap 3", "sphinx unwrap 3", 0.50),
    ("unwrap 5 to sphinx", "exo unwrap 5", "sphinx unwrap 5", 0.50),
    ("build 3 to sphinx", "exo build 3", "sphinx build 3", 0.90),
    ("build 5 to sphinx", "exo build 5", "sphinx build 5", 0.65),
];

/// By the nearest rank.
fn percentile(times: &[f64], percent: usize) -> f64 {
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).copied().unwrap_or(f64::NAN)
}

fn ratio(times: &Times<'_>, of: &str, to: &str, percent: usize) -> f64 {
    let find = |name: &str| {
        let found = times.iter().find(|(case, _)| *case == name);
        found.map_or(f64::NAN, |(_, times)| percentile(times, percent))
    };
    find(of) / find(to)
}

fn print_table(times: &Times<'_>) {
    for (name, times) in times {
        println!("{name:<24} {:>9.2} us", percentile(times, 50));
    }
    for (name, of, to, goal) in RATIOS {
        println!("{name:<24} {:>9.2} x, at most {goal:.2}", ratio(times, of, to, 50));
    }
}

/// In the shape of `exo bench`: `exo.bench/1`.
fn print_json(times: &Times<'_>) {
    let figure = |name: &str, unit: &str, n: usize, of: &dyn Fn(usize) -> f64| {
        let (p50, p95, p99) = (of(50), of(95), of(99));
        json!({ "name": name, "unit": unit, "p50": p50, "p95": p95, "p99": p99, "n": n })
    };
    let rounds = times.first().map_or(0, |(_, times)| times.len());
    let mut figures: Vec<_> = times
        .iter()
        .map(|(name, times)| figure(name, "us", rounds, &|p| percentile(times, p)))
        .collect();
    for (name, of, to, _) in RATIOS {
        figures.push(figure(name, "ratio", rounds, &|p| ratio(times, of, to, p)));
    }
    let params = json!({ "rounds": rounds, "batch": BATCH });
    let report = json!({
        "schema": "exo.bench/1",
        "bench": "onion-packet",
        "params": params,
        "figures": figures,
    });
    println!("{report}");
}

/// Something to measure: `run` does it [`BATCH`] times and says how many microseconds that took.
struct Case {
    name: String,
    run: Box<dyn FnMut() -> Result<f64>>,
}

fn case(name: String, run: impl FnMut() -> Result<f64> + 'static) -> Case {
    Case { name, run: Box::new(run) }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// CPU time of a piece of work, microseconds.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let start = cpu_time();
    black_box(work()?);
    Ok((cpu_time() - start).as_secs_f64() * 1e6)
}

fn member() -> Result<(PeerId, KemKeyring, Verified<KemEpochKey>)> {
    let identity = PostQuantumKeypair::generate()?;
    let ring = KemKeyring::generate(NOW)?;
    let [key, _] = ring.announce(&identity)?;
    Ok((identity.peer_id(), ring, key))
}

/// As good as random for a measurement, and quick.
fn counting() -> impl FnMut(&mut [u8]) {
    let mut next = 0u8;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            next = next.wrapping_mul(5).wrapping_add(41);
            *byte = next;
        }
    }
}

fn onion(hops: usize) -> Result<[Case; 2]> {
    let members = (0..hops).map(|_| member()).collect::<Result<Vec<_>>>()?;
    let keys: Vec<_> = members.iter().map(|(_, _, key)| key.clone()).collect();
    let build = move |random: &mut dyn FnMut(&mut [u8])| -> Result<OnionMessage> {
        let path: Vec<_> = keys.iter().map(|key| Hop { key, delay_millis: 0 }).collect();
        let (class, reply) = (PacketClass::Small, ReplyClass::Small);
        let request = Request { path: &path, content: Some(&[13; 2048]), class, reply };
        Ok(wrap(&request, NOW, random)?.0)
    };
    let packets = (0..BATCH).map(|_| build(&mut counting())).collect::<Result<Vec<_>>>()?;
    let (me, keyring, _) = members.into_iter().next().context("a member")?;
    let unwrap = move || {
        let forwards_to = |_: &PeerId| true;
        let from = PeerId::new([0; 32]);
        let relay = Relay { me, from, keyring: &keyring, forwards_to: &forwards_to };
        let mut seen = ReplayCache::new();
        timed(|| {
            for packet in &packets {
                let message = OnionMessage::from_bytes(packet.as_bytes().to_vec())?;
                match peel_layer(message, &relay, &mut seen, NOW)? {
                    Peeled::Forward(forward) => black_box(forward.message.into_bytes()),
                    other => anyhow::bail!("{other:?}"),
                };
            }
            Ok(())
        })
    };
    let build = move || {
        let mut random = counting();
        timed(|| {
            for _ in 0..BATCH {
                black_box(build(&mut random)?.into_bytes());
            }
            Ok(())
        })
    };
    Ok([case(format!("exo unwrap {hops}"), unwrap), case(format!("exo build {hops}"), build)])
}

fn sphinx(hops: usize) -> Result<[Case; 2]> {
    use sphinx_packet::crypto::{PrivateKey, PublicKey};
    use sphinx_packet::route::{Destination, DestinationAddressBytes, Node, NodeAddressBytes};
    let secrets: Vec<_> = (0..hops).map(|_| PrivateKey::random()).collect();
    let node = |secret| Node::new(NodeAddressBytes::from_bytes([5; 32]), PublicKey::from(secret));
    let route: Vec<_> = secrets.iter().map(node).collect();
    let destination = Destination::new(DestinationAddressBytes::from_bytes([3; 32]), [4; 16]);
    let delays = vec![Delay::new_from_millis(10); hops];
    let build = move || -> Result<SphinxPacket> {
        // The payload's own overhead is taken off, so that the payload is 2 KiB in all.
        let message = [13; 2000];
        SphinxPacketBuilder::new()
            .with_payload_size(2048)
            .build_packet(message, &route, &destination, &delays)
            .map_err(|error| anyhow::anyhow!("sphinx-packet: {error}"))
    };
    let packet = build()?.to_bytes();
    let first = secrets.into_iter().next().context("a node")?;
    let unwrap = move || {
        timed(|| {
            for _ in 0..BATCH {
                let processed = SphinxPacket::from_bytes(&packet).and_then(|p| p.process(&first));
                black_box(processed.map_err(|error| anyhow::anyhow!("sphinx-packet: {error}"))?);
            }
            Ok(())
        })
    };
    let build = move || {
        timed(|| {
            for _ in 0..BATCH {
                black_box(build()?.to_bytes());
            }
            Ok(())
        })
    };
    Ok([case(format!("sphinx unwrap {hops}"), unwrap), case(format!("sphinx build {hops}"), build)])
}

/// Its paths have four hops, always.
fn outfox() -> Result<[Case; 2]> {
    use sphinx_packet_06::crypto::{PrivateKey, PublicKey};
    use sphinx_packet_06::route::{Destination, DestinationAddressBytes, Node, NodeAddressBytes};
    let secrets = [(); 4].map(|()| PrivateKey::random());
    let node = |secret| Node::new(NodeAddressBytes::from_bytes([5; 32]), PublicKey::from(secret));
    let route = secrets.each_ref().map(node);
    let destination = Destination::new(DestinationAddressBytes::from_bytes([3; 32]), [4; 16]);
    let build = move || -> Result<Vec<u8>> {
        Ok(OutfoxPacket::build([13; 2048], &route, &destination, Some(2048))?.to_bytes()?)
    };
    let packet = build()?;
    let [first, ..] = secrets;
    let unwrap = move || {
        timed(|| {
            for _ in 0..BATCH {
                let mut packet = OutfoxPacket::try_from(packet.as_slice())?;
                black_box(packet.decode_next_layer(&first)?);
                black_box(packet.to_bytes()?);
            }
            Ok(())
        })
    };
    let build = move || {
        timed(|| {
            for _ in 0..BATCH {
                black_box(build()?);
            }
            Ok(())
        })
    };
    Ok([case("outfox unwrap 4".into(), unwrap), case("outfox build 4".into(), build)])
}

/// A relay's layer on one chunk of 16 KiB.
fn reply_layer() -> Result<Case> {
    let (me, keyring, key) = member()?;
    let (_, _, next) = member()?;
    let path = [&key, &next].map(|key| Hop { key, delay_millis: 0 });
    let (class, reply) = (PacketClass::Small, ReplyClass::Medium);
    let request = Request { path: &path, content: None, class, reply };
    let packets = (0..BATCH)
        .map(|_| Ok(wrap(&request, NOW, &mut counting())?.0.into_bytes()))
        .collect::<Result<Vec<_>>>()?;
    Ok(case("exo reply layer 16 KiB".into(), move || {
        let forwards_to = |_: &PeerId| true;
        let from = PeerId::new([0; 32]);
        let relay = Relay { me, from, keyring: &keyring, forwards_to: &forwards_to };
        let mut seen = ReplayCache::new();
        let mut layers = Vec::with_capacity(BATCH);
        for packet in &packets {
            let message = OnionMessage::from_bytes(packet.clone())?;
            match peel_layer(message, &relay, &mut seen, NOW)? {
                Peeled::Forward(forward) => layers.push(forward.reply),
                other => anyhow::bail!("{other:?}"),
            }
        }
        let mut chunk = vec![7; ReplyClass::Medium.chunk_bytes()];
        timed(|| {
            for layer in &mut layers {
                layer.layer(&mut chunk)?;
                black_box(&chunk);
            }
            Ok(())
        })
    }))
}
