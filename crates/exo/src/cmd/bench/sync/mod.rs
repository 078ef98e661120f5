//! `exo bench sync`: three node processes share a collection. What a durable write takes, how quickly and
//! with how many bytes a node that was gone is up to date again, and what it takes two replicas of many
//! keys to find out in what they differ.

mod differ;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use exo_types::NodeName;
use exo_types::limits::ENTRY_VALUE_BYTES_MAX;

use super::federation::{JOIN_WITHIN, LOOK_EVERY, Stage};
use super::report::{Report, Unit};
use super::{broken, consensus, within};
use crate::api::dto::Document;
use crate::api::dto::node::{InviteRequest, JoinDoc, JoinRequest, NewInviteDoc, StatusDoc};
use crate::api::dto::shared::SharedCollectionDoc;
use crate::cmd::Context;
use crate::cmd::demo::fleet::{self, Node};
use crate::cmd::demo::shared::{alike, caught_up, put, write};
use crate::exit::Failure;
use crate::output::Output;
use crate::span;

/// Arguments of `exo bench sync`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Writes whose latency is measured, one at a time
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = puts)]
    puts: usize,
    /// How long writes are kept up
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = load_for)]
    load_for: Duration,
    /// Writes that are under way at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = in_flight)]
    in_flight: usize,
    /// Length of a value, bytes
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = bytes)]
    bytes: usize,
    /// Writes while a node is gone
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = writes)]
    writes: usize,
    /// How often a node goes and returns
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = rounds)]
    returns: usize,
    /// Keys of each of two replicas
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = keys)]
    keys: usize,
    /// How often the replicas find out what differs
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = rounds)]
    rounds: usize,
}

/// Measures.
pub(super) fn run(context: &Context, args: &Args) -> Result<Report, Failure> {
    let output = &context.output;
    let stage = Stage::set(*output)?;
    let mut report = Report::new("sync");
    report.param("nodes", NODES);
    report.param("puts", args.puts);
    report.param("load_seconds", args.load_for.as_secs_f64());
    report.param("in_flight", args.in_flight);
    report.param("value_bytes", args.bytes);
    report.param("writes", args.writes);
    report.param("returns", args.returns);
    report.param("keys", args.keys);
    report.param("rounds", args.rounds);
    report.param("cpus", std::thread::available_parallelism().map_or(1, usize::from));

    output.note("What the disk takes for a write that lasts …");
    consensus::disk::measure(&mut report, &stage.root)?;
    output.note("Nodes start and join …");
    let mut nodes = start(&stage)?;
    output.note("Writes, one at a time …");
    latency(&mut report, &nodes, args)?;
    output.note(&format!("Writes, {} at a time …", args.in_flight));
    rate(&mut report, &nodes[0], args)?;
    returning(&mut report, output, &stage, &mut nodes, args)?;
    drop(nodes);
    stage.processes.end();
    for differences in DIFFERENCES {
        output.note(&format!("Two replicas of {} keys, {differences} differ …", args.keys));
        differ::measure(&mut report, args.keys, differences, args.rounds)?;
    }
    report.remark("A write is answered once it is signed and on the disk; over HTTP on loopback.");
    report.remark(
        "Differences are found among the ids of all entries: bytes of every message, the list of what is wanted included, what is sent for it not. A quick search by its authors' newest batches, which usually finds all, comes first in a node and is left out.",
    );
    Ok(report)
}

/// Starts nodes and waits until each has a session with every other.
fn start(stage: &Stage) -> Result<Vec<Node>, Failure> {
    let names: Vec<NodeName> = (1..=NODES)
        .map(|node| NodeName::new(format!("node-{node}")))
        .collect::<Result<_, _>>()
        .map_err(|error| broken("a name", error))?;
    let nodes = fleet::start_with(&stage.processes, &stage.root, &names, &|_| {})?;
    let (founder, joiners) = nodes.split_first().ok_or_else(|| broken("nodes", "none"))?;
    for joiner in joiners {
        let request = InviteRequest { expires_ms: None, auto_approve: true };
        let invite: Document<NewInviteDoc> = founder.client.post("/v1/invites", &request)?;
        let request = JoinRequest { ticket: invite.body.ticket };
        let _: Document<JoinDoc> = joiner.client.post("/v1/join", &request)?;
    }
    let began = Instant::now();
    for node in &nodes {
        loop {
            let status: Document<StatusDoc> = node.client.get("/v1/status")?;
            if status.body.peers.active + 1 == NODES {
                break;
            }
            if began.elapsed() > JOIN_WITHIN {
                return Err(broken("nodes", format!("{} does not reach all", node.name)));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
    Ok(nodes)
}

/// One write at a time, each answered before the next.
fn latency(report: &mut Report, nodes: &[Node], args: &Args) -> Result<(), Failure> {
    let mut times = Vec::with_capacity(args.puts);
    for number in 0..WARM_UP + args.puts {
        let value = value(args.bytes, number);
        let began = Instant::now();
        put(&nodes[0], COLLECTION, &format!("one-{number:06}"), &value)?;
        if number >= WARM_UP {
            times.push(began.elapsed());
        }
    }
    report.millis("put.durable", &times);
    Ok(())
}

/// As many writes as go.
fn rate(report: &mut Report, node: &Node, args: &Args) -> Result<(), Failure> {
    let (turn, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let end = Instant::now() + args.load_for;
    let mut windows = Vec::new();
    let failed = std::sync::Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..args.in_flight {
            scope.spawn(|| {
                while Instant::now() < end {
                    let number = turn.fetch_add(1, Ordering::Relaxed);
                    let key = format!("many-{number:06}");
                    if let Err(failure) = put(node, COLLECTION, &key, &value(args.bytes, number)) {
                        // The first is told; the others follow from it.
                        failed.lock().map(|mut slot| slot.get_or_insert(failure).silent).ok();
                        return;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let count = (args.load_for.as_secs_f64() / WINDOW.as_secs_f64()).round().max(1.0) as u32;
        let mut before = (done.load(Ordering::Relaxed), Instant::now());
        for _ in 0..count {
            std::thread::sleep(args.load_for / count);
            let now = (done.load(Ordering::Relaxed), Instant::now());
            windows.push((now.0 - before.0) as f64 / (now.1 - before.1).as_secs_f64());
            before = now;
        }
    });
    if let Some(failure) = failed.into_inner().unwrap_or(None) {
        return Err(failure);
    }
    report.samples("put.rate", Unit::WritesPerSecond, &windows);
    Ok(())
}

/// A node is killed, the others write on, and it returns.
fn returning(
    report: &mut Report,
    output: &Output,
    stage: &Stage,
    nodes: &mut [Node],
    args: &Args,
) -> Result<(), Failure> {
    let (mut took, mut received, mut sent) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..args.returns {
        output.note(&format!("A node is gone for {} writes, and returns …", args.writes));
        let collection = format!("{COLLECTION}-{round}");
        put(&nodes[GONE], &collection, "begun", b"here")?;
        settled(&*nodes, &collection)?;
        stage.processes.kill(&nodes[GONE])?;
        let number = round * args.writes;
        let of = |at: usize| value(args.bytes, number + at);
        let writers = [&nodes[0], &nodes[1]];
        write(&writers, &collection, args.writes, WRITERS, &of)?;
        let wanted = settled(writers, &collection)?;
        fleet::restart(&stage.processes, &mut nodes[GONE])?;
        let back = caught_up(&nodes[GONE], &wanted)?;
        took.push(back.took);
        received.push(back.received as f64);
        sent.push(back.sent as f64);
    }
    report.millis("return.up_to_date", &took);
    report.samples("return.received", Unit::Bytes, &received);
    report.samples("return.sent", Unit::Bytes, &sent);
    Ok(())
}

/// Waits until nodes hold the same of a collection, and tells what.
fn settled<'a>(
    nodes: impl IntoIterator<Item = &'a Node, IntoIter: Clone>,
    collection: &str,
) -> Result<SharedCollectionDoc, Failure> {
    let (held, differ) = alike(nodes, collection)?;
    differ.into_iter().next().map_or(Ok(held), |differs| Err(broken("nodes", differs)))
}

/// A value that no other is like.
fn value(bytes: usize, number: usize) -> Vec<u8> {
    let mut numbers = differ::Numbers(number as u64);
    let mut value: Vec<u8> =
        (0..bytes.div_ceil(8)).flat_map(|_| numbers.next().to_le_bytes()).collect();
    value.truncate(bytes);
    value
}

fn load_for(text: &str) -> Result<Duration, String> {
    let each = span::parse(text)?;
    if (LOAD_FOR_MIN..=LOAD_FOR_MAX).contains(&each) {
        return Ok(each);
    }
    Err(format!("must be {} to {}", span::show(LOAD_FOR_MIN), span::show(LOAD_FOR_MAX)))
}

fn puts(text: &str) -> Result<usize, String> {
    within(text, 10, 1_000_000)
}

fn in_flight(text: &str) -> Result<usize, String> {
    within(text, 1, 200)
}

fn bytes(text: &str) -> Result<usize, String> {
    within(text, 8, ENTRY_VALUE_BYTES_MAX)
}

fn writes(text: &str) -> Result<usize, String> {
    within(text, 10, 100_000)
}

fn rounds(text: &str) -> Result<usize, String> {
    within(text, 1, 1000)
}

fn keys(text: &str) -> Result<usize, String> {
    within(text, DIFFERENCES[DIFFERENCES.len() - 1], 10_000_000)
}

/// Node processes.
const NODES: usize = 3;
/// The node that goes.
const GONE: usize = 2;
/// What they share.
const COLLECTION: &str = "bench";
/// Places in which two replicas differ.
const DIFFERENCES: [usize; 2] = [100, 10_000];
/// Writes that are thrown away first.
const WARM_UP: usize = 20;
/// Writes that are under way at once at each writer while a node is gone.
const WRITERS: usize = 4;
/// Length of one sample of the rate.
const WINDOW: Duration = Duration::from_secs(1);
/// Shortest load that says anything.
const LOAD_FOR_MIN: Duration = Duration::from_millis(100);
/// Longest load that is of use.
const LOAD_FOR_MAX: Duration = Duration::from_secs(600);
