//! The steps of the demo, each verified.

use std::path::Path;
use std::time::{Duration, Instant};

use exo_federation::ErrorCode;
use exo_types::{NodeName, SourceStatus};
use serde_json::{Value, json};

use super::super::import;
use super::corpus::{self, EMBEDDER, Entry, Part};
use super::fleet::{self, Node, Processes};
use super::report::{Report, Step};
use super::{anonymous, ask, decide, join, shared};
use crate::exit::Failure;
use crate::span;

/// Runs every step; the nodes if all of them held.
pub(crate) fn all(
    report: &Report,
    processes: &Processes,
    root: &Path,
    count: usize,
) -> Result<Option<Vec<Node>>, Failure> {
    let parts = corpus::parts(count)?;
    let Some(mut nodes) = report.step("start", || start(processes, root, &parts))? else {
        return Ok(None);
    };
    let Some(()) = report.step("join", || join::all(&nodes))? else { return Ok(None) };
    let Some(()) = report.step("import", || load(report, root, &nodes, &parts))? else {
        return Ok(None);
    };
    for (text, asker) in QUESTIONS {
        let Some(()) = report.step("query", || ask::text(report, &nodes, asker, text))? else {
            return Ok(None);
        };
    }
    let Some(()) = report.step("similar", || similar(report, &nodes, &parts))? else {
        return Ok(None);
    };
    let Some(()) = report.step("exact", || exact(&nodes, &parts))? else { return Ok(None) };
    let Some(()) = report.step("anonymous", || anonymous::questions(&nodes, &parts, &QUESTIONS))?
    else {
        return Ok(None);
    };
    let Some(()) = report.step("crash", || crash(report, processes, &nodes, &parts))? else {
        return Ok(None);
    };
    let Some(()) = report.step("restart", || restart(report, processes, &mut nodes, &parts))?
    else {
        return Ok(None);
    };
    let Some(()) = report.step("shared", || shared::catch_up(processes, &mut nodes))? else {
        return Ok(None);
    };
    let Some(()) = report.step("commit", || decide::commit(root, &nodes))? else {
        return Ok(None);
    };
    if decide::LIARS {
        let Some(()) = report.step("lie", || decide::lie(root, processes, &mut nodes))? else {
            return Ok(None);
        };
    } else {
        let (detail, text) = decide::no_liar();
        report.skipped("lie", detail, &text)?;
    }
    let Some(()) = report.step("kill", || decide::kill(root, processes, &mut nodes))? else {
        return Ok(None);
    };
    Ok(Some(nodes))
}

/// Starts the node processes.
fn start(processes: &Processes, root: &Path, parts: &[Part]) -> Result<Step<Vec<Node>>, Failure> {
    let names: Vec<NodeName> = parts.iter().map(|part| part.node.clone()).collect();
    let voters = decide::voters(names.len());
    let nodes =
        fleet::start_with(processes, root, &names, &|config| config.founding_voters = voters)?;
    let shown: Vec<Value> = nodes
        .iter()
        .map(|node| {
            json!({
                "name": node.name, "peer": node.ready.peer,
                "mesh": node.ready.mesh, "api": node.ready.api,
            })
        })
        .collect();
    let lines = nodes
        .iter()
        .map(|node| {
            let peer = node.ready.peer.short();
            format!("{:<16} {peer}…  listens on {} (UDP)", node.name.as_str(), node.ready.mesh)
        })
        .collect();
    Ok(Step {
        wrong: Vec::new(),
        detail: json!({"nodes": shown}),
        headline: format!("{} node processes with keys of their own", nodes.len()),
        lines,
        value: nodes,
    })
}

/// Every node imports its own texts.
fn load(report: &Report, root: &Path, nodes: &[Node], parts: &[Part]) -> Result<Step<()>, Failure> {
    let mut records = 0;
    let mut wrong = Vec::new();
    let mut shown = Vec::new();
    // The steps report themselves: an import's own notes would only be in between.
    let mut output = report.output;
    output.json = true;
    for (node, part) in nodes.iter().zip(parts) {
        let file = |kind: &str| root.join(format!("{}.{kind}", node.name));
        part.write(&file("jsonl"), &file("npy"))?;
        let args =
            import::Args::pair(file("jsonl"), file("npy"), part.collection.clone(), EMBEDDER);
        let done = import::import(&output, &node.client, &args)?;
        if done.inserted != part.entries.len() as u64 {
            wrong.push(format!(
                "{} of {} records at {}",
                done.inserted,
                part.entries.len(),
                node.name
            ));
        }
        records += done.records;
        shown.push(json!({
            "node": node.name, "collection": part.collection, "records": done.records,
        }));
    }
    let lines = nodes
        .iter()
        .zip(parts)
        .map(|(node, part)| format!("{:<16} {:>5} records", node.name.as_str(), part.entries.len()))
        .collect();
    Ok(Step {
        wrong,
        detail: json!({"records": records, "nodes": shown}),
        headline: format!("{records} texts with their vectors, each node its own"),
        lines,
        value: (),
    })
}

/// Looks for what is near one node's record, everywhere.
fn similar(report: &Report, nodes: &[Node], parts: &[Part]) -> Result<Step<()>, Failure> {
    let (at, entry) = find(parts, LIKE_TITLE).unwrap_or((0, &parts[0].entries[0]));
    let request = ask::like(&entry.id);
    let answer = ask::ask(&nodes[at], &request)?;
    let mut wrong = ask::incomplete(&answer, nodes.len());
    wrong.extend(ask::differs(&answer, &corpus::exact(parts.iter(), &entry.vector), parts));
    let mut lines = ask::sources(&report.output, &answer);
    lines.extend(ask::results(&report.output, &answer, SHOWN));
    Ok(Step {
        wrong,
        detail: ask::detail(&nodes[at].name, &json!({"like": entry.id}), &answer),
        headline: format!(
            "{} asks for what is like its record \"{}\"",
            nodes[at].name, entry.title
        ),
        lines,
        value: (),
    })
}

/// Asks by many vectors and compares every answer with an exact search of all texts in one place.
fn exact(nodes: &[Node], parts: &[Part]) -> Result<Step<()>, Failure> {
    let mut wrong = Vec::new();
    let mut took = Vec::with_capacity(EXACT_QUERIES);
    for round in 0..EXACT_QUERIES {
        let part = &parts[round % parts.len()];
        // Spread over the part, the same on every run.
        let entry = &part.entries[(round * 7_919) % part.entries.len()];
        let request = ask::vector(&entry.vector);
        let answer = ask::ask(&nodes[(round + 1) % nodes.len()], &request)?;
        wrong.extend(ask::incomplete(&answer, nodes.len()));
        wrong.extend(ask::differs(&answer, &corpus::exact(parts.iter(), &entry.vector), parts));
        took.push(answer.elapsed_ms);
    }
    took.sort_by(f64::total_cmp);
    let median = took[took.len() / 2];
    Ok(Step {
        wrong,
        detail: json!({"queries": EXACT_QUERIES, "top": ask::TOP, "p50_ms": median}),
        headline: format!(
            "{EXACT_QUERIES} queries by vector: each top {} is the exact one over all texts, \
             p50 {median:.1} ms",
            ask::TOP
        ),
        lines: Vec::new(),
        value: (),
    })
}

/// Kills a node and asks on: the answer comes in time, lacks that node alone, and says so.
fn crash(
    report: &Report,
    processes: &Processes,
    nodes: &[Node],
    parts: &[Part],
) -> Result<Step<()>, Failure> {
    let (victim, asker) = (&nodes[VICTIM], &nodes[ASKER]);
    processes.kill(victim)?;
    let entry = &parts[VICTIM].entries[CRASH_ENTRY];
    let began = Instant::now();
    let answer = ask::ask(asker, &ask::vector(&entry.vector))?;
    let waited = began.elapsed();
    let mut wrong = Vec::new();
    if waited > ask::DEADLINE + GRACE {
        wrong.push(format!("the answer took {}", span::show(waited)));
    }
    if answer.complete {
        wrong.push("the answer claims to be complete".to_owned());
    }
    for source in &answer.sources {
        let lost = matches!(source.status, SourceStatus::Timeout | SourceStatus::Unreachable);
        let right = if source.peer == victim.ready.peer {
            lost
        } else {
            source.status == SourceStatus::Answered
        };
        if !right {
            wrong.push(format!("{} is reported as {:?}", source.source, source.status));
        }
    }
    if !answer.sources.iter().any(|source| source.peer == victim.ready.peer) {
        wrong.push(format!("{} is not reported at all", victim.name));
    }
    let rest = parts.iter().filter(|part| part.node != victim.name);
    wrong.extend(ask::differs(&answer, &corpus::exact(rest, &entry.vector), parts));
    Ok(Step {
        wrong,
        detail: ask::detail(&asker.name, &json!({"killed": victim.name}), &answer),
        headline: format!(
            "{} is killed; {} asks on and has the rest of the answer after {}",
            victim.name,
            asker.name,
            span::show(waited)
        ),
        lines: ask::sources(&report.output, &answer),
        value: (),
    })
}

/// Starts the killed node again and asks until the answer is whole.
fn restart(
    report: &Report,
    processes: &Processes,
    nodes: &mut [Node],
    parts: &[Part],
) -> Result<Step<()>, Failure> {
    fleet::restart(processes, &mut nodes[VICTIM])?;
    let (victim, asker) = (&nodes[VICTIM], &nodes[ASKER]);
    let entry = &parts[VICTIM].entries[CRASH_ENTRY];
    let expected = corpus::exact(parts.iter(), &entry.vector);
    let began = Instant::now();
    loop {
        let answer = ask::ask(asker, &ask::vector(&entry.vector))?;
        let mut wrong = ask::incomplete(&answer, nodes.len());
        if wrong.is_empty() || began.elapsed() > WHOLE_WITHIN {
            wrong.extend(ask::differs(&answer, &expected, parts));
            return Ok(Step {
                wrong,
                detail: ask::detail(&asker.name, &json!({"restarted": victim.name}), &answer),
                headline: format!(
                    "{} is back with all its records; the answer is whole",
                    victim.name
                ),
                lines: ask::sources(&report.output, &answer),
                value: (),
            });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn find<'a>(parts: &'a [Part], title: &str) -> Option<(usize, &'a Entry)> {
    parts.iter().enumerate().find_map(|(at, part)| {
        part.entries.iter().find(|entry| entry.title == title).map(|entry| (at, entry))
    })
}

/// A step could not find what it needs.
pub(crate) fn missing(what: &str) -> Failure {
    Failure::new(ErrorCode::Internal, format!("the demo: {what}"))
}

/// What is asked by text, and of which node: the answers stand at different nodes.
const QUESTIONS: [(&str, usize); 3] = [
    ("liquid metal at room temperature", 2),
    ("politician who promises", 0),
    ("program crashes under heavy load", 1),
];
/// The record that similar ones are looked for.
const LIKE_TITLE: &str = "politics";
/// Results shown.
const SHOWN: usize = 3;
/// Queries that are compared with the exact answer.
const EXACT_QUERIES: usize = 20;
/// The node that is killed: not the founder, and not the one that asks.
const VICTIM: usize = 1;
/// The node that asks while one is missing.
const ASKER: usize = 2;
/// The record of the killed node that is asked with.
const CRASH_ENTRY: usize = 100;
/// What an answer may take past its deadline, on a machine that is busy.
const GRACE: Duration = Duration::from_millis(1_000);
/// How long a restarted node may take to be asked again.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);
