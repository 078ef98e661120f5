//! Decisions as fast as they go: lists of updates, some of them under way at any time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use data_encoding::BASE64;

use super::super::broken;
use super::super::federation::Stage;
use super::super::process::Used;
use super::super::report::{Report, Unit};
use super::{Args, standing};
use crate::api::dto::Document;
use crate::api::dto::decision::{CommitsDoc, ProposeRequest};
use crate::cmd::demo::fleet::Node;
use crate::exit::Failure;

/// Keeps lists of `batch` updates under way at the node that leads, in windows of a second.
pub(super) fn measure(
    report: &mut Report,
    stage: &Stage,
    nodes: &[Node],
    args: &Args,
    batch: usize,
) -> Result<(), Failure> {
    let first = standing(&nodes[0])?;
    let leads = |node: &&Node| Some(node.ready.peer) == first.primary;
    let node = nodes.iter().find(leads).unwrap_or(&nodes[0]);
    let bodies: Vec<Vec<u8>> = (0..BODIES).map(|number| list(batch, args.bytes, number)).collect();
    let (turn, failed) = (AtomicU64::new(0), Mutex::new(None));
    let end = Instant::now() + WARM_UP + args.load_for;
    let mut taken = Taken::default();
    std::thread::scope(|scope| {
        for _ in 0..args.in_flight {
            scope.spawn(|| {
                while Instant::now() < end {
                    let turn = turn.fetch_add(1, Ordering::Relaxed);
                    let body = &bodies[(turn % BODIES) as usize];
                    let sent: Result<Document<CommitsDoc>, Failure> =
                        node.client.post_bytes("/v1/decisions", body);
                    if let Err(failure) = sent {
                        // The first is told; the others follow from it.
                        failed.lock().map(|mut slot| slot.get_or_insert(failure).silent).ok();
                        return;
                    }
                }
            });
        }
        std::thread::sleep(WARM_UP);
        taken.windows(stage, nodes, args.load_for)
    })?;
    if let Some(failure) = failed.into_inner().unwrap_or(None) {
        return Err(failure);
    }
    let name = |what: &str| format!("batch_{batch}.{what}");
    report.samples(name("batches"), Unit::BatchesPerSecond, &taken.batches);
    report.samples(name("updates"), Unit::UpdatesPerSecond, &taken.updates);
    report.samples(name("cpu_a_batch"), Unit::Millis, &taken.cpu);
    Ok(())
}

/// Samples, one a window.
#[derive(Default)]
struct Taken {
    batches: Vec<f64>,
    updates: Vec<f64>,
    /// Processor time of all voters for a batch, milliseconds.
    cpu: Vec<f64>,
}

impl Taken {
    fn windows(&mut self, stage: &Stage, nodes: &[Node], all: Duration) -> Result<(), Failure> {
        let count = (all.as_secs_f64() / WINDOW.as_secs_f64()).round().max(1.0) as u32;
        let window = all / count;
        let mut before = (standing(&nodes[0])?, used(stage, nodes), Instant::now());
        for _ in 0..count {
            std::thread::sleep(window);
            let now = (standing(&nodes[0])?, used(stage, nodes), Instant::now());
            let seconds = (now.2 - before.2).as_secs_f64();
            let batches = now.0.executed.saturating_sub(before.0.executed);
            // Each batch has a seal beside its updates.
            let updates = now.0.size.saturating_sub(before.0.size).saturating_sub(batches);
            self.batches.push(batches as f64 / seconds);
            self.updates.push(updates as f64 / seconds);
            if let Some(spent) = between(&before.1, &now.1)
                && batches > 0
            {
                self.cpu.push(spent.as_secs_f64() * 1e3 / batches as f64);
            }
            before = now;
        }
        if self.updates.iter().all(|updates| *updates == 0.0) {
            return Err(broken("the nodes", "nothing was decided"));
        }
        Ok(())
    }
}

/// Processor time that the nodes have used so far.
pub(super) fn used(stage: &Stage, nodes: &[Node]) -> Vec<Used> {
    let process = |node| stage.processes.id(node).map_or_else(Used::default, Used::by);
    nodes.iter().map(process).collect()
}

/// What they have used since; `None` where the system does not tell.
pub(super) fn spent(stage: &Stage, nodes: &[Node], before: &[Used]) -> Option<Duration> {
    between(before, &used(stage, nodes))
}

fn between(before: &[Used], now: &[Used]) -> Option<Duration> {
    now.iter().zip(before).map(|(now, before)| now.since(before)).sum()
}

/// The body that proposes one update.
pub(super) fn one(bytes: usize, number: u64) -> Vec<u8> {
    let statement = Some(update(bytes, number));
    body(&ProposeRequest { statement, ..ProposeRequest::default() })
}

/// The body that proposes many, and asks for no more than to hear that they are proved.
fn list(batch: usize, bytes: usize, number: u64) -> Vec<u8> {
    let first = (number + 1) << 32;
    let statements = (0..batch as u64).map(|at| update(bytes, first + at)).collect();
    let deadline_ms = Some(DEADLINE_MILLIS);
    body(&ProposeRequest {
        statements: Some(statements),
        brief: true,
        deadline_ms,
        ..ProposeRequest::default()
    })
}

fn body(request: &ProposeRequest) -> Vec<u8> {
    // A shape of plain values always serialises.
    serde_json::to_vec(request).unwrap_or_default()
}

/// An update that no other is like: splitmix64 from its number.
fn update(bytes: usize, number: u64) -> String {
    let mut state = number;
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        content.extend_from_slice(&(word ^ word >> 31).to_le_bytes());
    }
    content.truncate(bytes);
    BASE64.encode(&content)
}

/// Different lists that are proposed again and again.
const BODIES: u64 = 8;
/// Load before anything is measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// Length of one sample.
const WINDOW: Duration = Duration::from_secs(1);
/// How long a list may take, milliseconds.
const DEADLINE_MILLIS: u64 = 30_000;
