//! What the demo's nodes write together: one is killed, the others write on, and it catches up.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use exo_federation::ErrorCode;
use serde_json::json;

use super::fleet::{self, Node, Processes};
use super::report::Step;
use super::steps::missing;
use crate::api::dto::Document;
use crate::api::dto::shared::{SharedCollectionDoc, SharedCollectionsDoc, SharedDoc};
use crate::exit::Failure;
use crate::span;

/// Kills a node, writes at two others, starts it again and waits until it holds the same.
pub(super) fn catch_up(processes: &Processes, nodes: &mut [Node]) -> Result<Step<()>, Failure> {
    put(&nodes[VICTIM], COLLECTION, "begun", b"by the node that will be gone")?;
    let mut wrong = alike(&*nodes, COLLECTION)?.1;
    processes.kill(&nodes[VICTIM])?;
    let began = Instant::now();
    let writers = [&nodes[WRITERS[0]], &nodes[WRITERS[1]]];
    write(&writers, COLLECTION, WRITES, IN_FLIGHT, &|number| {
        format!("observation {number}: nothing unusual").into_bytes()
    })?;
    let wrote = began.elapsed();
    let (wanted, differ) = alike(writers, COLLECTION)?;
    wrong.extend(differ);
    let names = [writers[0].name.clone(), writers[1].name.clone()];
    fleet::restart(processes, &mut nodes[VICTIM])?;
    let back = caught_up(&nodes[VICTIM], &wanted)?;
    let (held, others) = alike(&*nodes, COLLECTION)?;
    wrong.extend(others);
    let victim = &nodes[VICTIM];
    let last = format!("write-{:05}", WRITES - 1);
    let entry: Document<SharedDoc> =
        victim.client.get(&format!("/v1/shared/{COLLECTION}/keys/{last}"))?;
    let expected = format!("observation {}: nothing unusual", WRITES - 1);
    if entry.body.value.as_deref() != Some(&expected) {
        wrong.push(format!("{} has another value at {last}", victim.name));
    }
    let root: String = held.root.chars().take(ROOT_CHARS).collect();
    Ok(Step {
        wrong,
        detail: json!({
            "stopped": victim.name, "writers": names, "writes": WRITES,
            "wrote_ms": span::millis(wrote), "caught_up_ms": span::millis(back.took),
            "received_bytes": back.received, "sent_bytes": back.sent,
            "entries": held.entries, "batches": held.batches, "root": held.root,
        }),
        headline: format!(
            "{} is killed, {} and {} write on; back, it has their {WRITES} writes after {}",
            victim.name,
            names[0],
            names[1],
            span::show(back.took)
        ),
        lines: vec![
            format!(
                "{WRITES} writes, each signed and on the disk before it was acknowledged, in {}",
                span::show(wrote)
            ),
            format!(
                "catching up: {} KiB received, {} KiB sent, {} signed batches held",
                back.received.div_ceil(1024),
                back.sent.div_ceil(1024),
                held.batches
            ),
            format!(
                "all {} nodes hold the same: {} entries, digest {root}…",
                nodes.len(),
                held.entries
            ),
        ],
        value: (),
    })
}

/// Writes a value at a key.
pub(crate) fn put(node: &Node, collection: &str, key: &str, value: &[u8]) -> Result<(), Failure> {
    let path = format!("/v1/shared/{collection}/keys/{key}");
    let _: Document<SharedDoc> = node.client.put_bytes(&path, value)?;
    Ok(())
}

/// Writes at keys `write-00000` and on, in turn at the writers, some at once at each of them.
pub(crate) fn write(
    writers: &[&Node],
    collection: &str,
    writes: usize,
    in_flight: usize,
    value: &(dyn Fn(usize) -> Vec<u8> + Sync),
) -> Result<(), Failure> {
    let failed = Mutex::new(None);
    let lanes = writers.len() * in_flight;
    std::thread::scope(|scope| {
        for lane in 0..lanes {
            let (writer, failed) = (writers[lane % writers.len()], &failed);
            scope.spawn(move || {
                for number in (lane..writes).step_by(lanes) {
                    let key = format!("write-{number:05}");
                    if let Err(failure) = put(writer, collection, &key, &value(number)) {
                        // The first is told; the others follow from it.
                        failed.lock().map(|mut slot| slot.get_or_insert(failure).silent).ok();
                        return;
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or(None).map_or(Ok(()), Err)
}

/// What catching up took.
pub(crate) struct Back {
    /// From the first look at the node that runs again.
    pub(crate) took: Duration,
    /// Bytes of messages about shared collections that the node has received since it started.
    pub(crate) received: u64,
    /// Bytes of such messages that it has sent.
    pub(crate) sent: u64,
}

/// Waits until a node that has just started again holds a collection as it is by now. Nobody may write
/// meanwhile, and who wrote must have settled: a node does not pass through what each writer held.
pub(crate) fn caught_up(node: &Node, wanted: &SharedCollectionDoc) -> Result<Back, Failure> {
    let began = Instant::now();
    loop {
        if holds(node, wanted.name.as_str())?.is_some_and(|held| held.root == wanted.root) {
            let took = began.elapsed();
            let (received, sent) = (counted(node, RECEIVED_METRIC)?, counted(node, SENT_METRIC)?);
            return Ok(Back { took, received, sent });
        }
        if began.elapsed() > SAME_WITHIN {
            return Err(Failure::new(
                ErrorCode::Unreachable,
                format!("{} does not catch up with the others", node.name),
            ));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until all nodes hold the same of a collection; what the first holds, and who differs.
pub(crate) fn alike<'a>(
    nodes: impl IntoIterator<Item = &'a Node, IntoIter: Clone>,
    collection: &str,
) -> Result<(SharedCollectionDoc, Vec<String>), Failure> {
    let (nodes, began) = (nodes.into_iter(), Instant::now());
    loop {
        let held: Result<Vec<_>, _> = nodes.clone().map(|node| holds(node, collection)).collect();
        let held = held?;
        let first = held.first().cloned().flatten();
        let differs = |held: &Option<SharedCollectionDoc>| {
            held.as_ref().map(|held| &held.root) != first.as_ref().map(|held| &held.root)
        };
        let others = nodes.clone().zip(&held).filter(|(_, held)| differs(held));
        let others: Vec<String> =
            others.map(|(node, _)| format!("{} holds something else", node.name)).collect();
        if let Some(first) = first
            && (others.is_empty() || began.elapsed() > SAME_WITHIN)
        {
            return Ok((first, others));
        }
        if began.elapsed() > SAME_WITHIN {
            return Err(missing("nothing is shared"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A collection as a node holds it.
fn holds(node: &Node, collection: &str) -> Result<Option<SharedCollectionDoc>, Failure> {
    let all: Document<SharedCollectionsDoc> = node.client.get("/v1/shared")?;
    Ok(all.body.collections.into_iter().find(|one| one.name.as_str() == collection))
}

/// A counter of a node; 0 before it counted anything.
fn counted(node: &Node, metric: &str) -> Result<u64, Failure> {
    let metrics = node.client.text("/metrics")?;
    let line = metrics.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    Ok(line.and_then(|count| count.trim().parse().ok()).unwrap_or(0))
}

/// What is shared.
const COLLECTION: &str = "observations";
/// The node that is killed.
const VICTIM: usize = 1;
/// The nodes that write on.
const WRITERS: [usize; 2] = [0, 2];
/// Writes while it is gone.
const WRITES: usize = 500;
/// Writes that are under way at once at each writer.
const IN_FLIGHT: usize = 4;
/// How long nodes may take to hold the same.
const SAME_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Characters of a digest that are shown.
const ROOT_CHARS: usize = 16;
/// Counts bytes of messages about shared collections that came.
const RECEIVED_METRIC: &str = "exo_shared_received_bytes_total";
/// Counts those that went.
const SENT_METRIC: &str = "exo_shared_sent_bytes_total";
