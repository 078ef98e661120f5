//! Decisions one at a time: how long until one is committed, and until it is proved.

use std::time::Instant;

use super::super::federation::Stage;
use super::super::report::{Report, Unit};
use super::{Args, load, standing};
use crate::api::dto::Document;
use crate::api::dto::decision::CommitDoc;
use crate::cmd::demo::fleet::Node;
use crate::exit::Failure;

/// Proposes at a node that leads and at one that does not, in turn.
pub(super) fn measure(
    report: &mut Report,
    stage: &Stage,
    nodes: &[Node],
    args: &Args,
) -> Result<(), Failure> {
    let first = standing(&nodes[0])?;
    let leads = |node: &&Node| Some(node.ready.peer) == first.primary;
    let primary = nodes.iter().find(leads).unwrap_or(&nodes[0]);
    let backup = nodes.iter().find(|node| !leads(node)).unwrap_or(&nodes[0]);
    for number in 0..WARM_UP {
        let at = if number % 2 == 0 { primary } else { backup };
        let _: Document<CommitDoc> =
            at.client.post_bytes("/v1/decisions", &load::one(args.bytes, number as u64))?;
    }
    for (node, name) in [(primary, "primary"), (backup, "backup")] {
        let (mut node_time, mut http) = (Vec::new(), Vec::new());
        let used = load::used(stage, nodes);
        let executed = standing(&nodes[0])?.executed;
        for number in 0..args.commits {
            let body = load::one(args.bytes, (WARM_UP + number) as u64);
            let began = Instant::now();
            let commit: Document<CommitDoc> = node.client.post_bytes("/v1/decisions", &body)?;
            http.push(began.elapsed());
            node_time.extend(commit.body.elapsed_ms);
        }
        let batches = standing(&nodes[0])?.executed.saturating_sub(executed);
        report.samples(format!("low_load.{name}.proved"), Unit::Millis, &node_time);
        report.millis(format!("low_load.{name}.proved_over_http"), &http);
        committed(report, node, name)?;
        if let Some(spent) = load::spent(stage, nodes, &used) {
            let each = spent.as_secs_f64() * 1e3 / batches.max(1) as f64;
            report.samples(format!("low_load.{name}.cpu_a_batch"), Unit::Millis, &[each]);
        }
    }
    let proved = report.figure("low_load.primary.proved").map(|figure| (figure.p50, figure.p99));
    if let Some((p50, _)) = proved {
        report.goal("a decision is proved (p50)", p50, PROVED_MS, Unit::Millis);
    }
    let committed = report.figure("low_load.primary.committed").map(|f| (f.p50, f.p99));
    if let Some((p50, p99)) = committed {
        report.goal("a decision is committed (p50)", p50, COMMITTED_MS.0, Unit::Millis);
        report.goal("a decision is committed (p99)", p99, COMMITTED_MS.1, Unit::Millis);
    }
    Ok(())
}

/// From the proposal until the decision is carried out, as the node itself measures it.
fn committed(report: &mut Report, node: &Node, name: &str) -> Result<(), Failure> {
    let metrics = node.client.text("/metrics")?;
    let quantile = |of: &str| {
        let begin = format!("{COMMIT_METRIC}{{quantile=\"{of}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&begin))?;
        line.trim().parse::<f64>().ok().map(|seconds| seconds * 1e3)
    };
    if let (Some(p50), Some(p95), Some(p99)) = (quantile("0.5"), quantile("0.95"), quantile("0.99"))
    {
        let count = metrics
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{COMMIT_METRIC}_count ")))
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0);
        report.told(format!("low_load.{name}.committed"), Unit::Millis, (p50, p95, p99), count);
    }
    Ok(())
}

/// Decisions that are thrown away first.
const WARM_UP: usize = 40;
/// What a decision may take until it is proved, milliseconds.
const PROVED_MS: f64 = 3.0;
/// What it may take until it is committed, milliseconds: half of them, 99 of 100.
const COMMITTED_MS: (f64, f64) = (2.0, 4.0);
/// Where a node tells how long its decisions took until they were carried out.
const COMMIT_METRIC: &str = "exo_commit_carried_out_seconds";
