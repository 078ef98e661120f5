//! How the demo asks, and how it checks what comes back.

use std::collections::HashMap;
use std::time::Duration;

use exo_types::{ContentHash, NodeName, RecordId};
use serde_json::{Value, json};

use super::super::query::show::{result_lines, source_line};
use super::corpus::{EMBEDDER, Exact, Part};
use super::fleet::Node;
use super::report::{Report, Step};
use crate::api::dto::query::{LikeDoc, QueryDoc, QueryRequest, ResultDoc};
use crate::exit::Failure;
use crate::output::Output;

/// Deadline of the demo's queries.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);
/// Results of a query that is compared with the exact answer.
pub(crate) const TOP: usize = 10;

/// A query by text, shown with its sources.
pub(crate) fn text(
    report: &Report,
    nodes: &[Node],
    asker: usize,
    text: &str,
) -> Result<Step<()>, Failure> {
    let answer = ask(&nodes[asker], &words(text))?;
    let mut wrong = incomplete(&answer, nodes.len());
    if answer.results.is_empty() {
        wrong.push("there is no result".to_owned());
    }
    if !answer.results.is_sorted_by(|a, b| a.score >= b.score) {
        wrong.push("the results are not in order".to_owned());
    }
    let mut lines = sources(&report.output, &answer);
    lines.extend(results(&report.output, &answer, SHOWN));
    Ok(Step {
        wrong,
        detail: detail(&nodes[asker].name, &json!({"text": text}), &answer),
        headline: format!("{} asks: \"{text}\"", nodes[asker].name),
        lines,
        value: (),
    })
}

/// A query by words.
pub(crate) fn words(text: &str) -> QueryRequest {
    QueryRequest { text: text.to_owned(), ..usual(SHOWN) }
}

/// A query for what is near a record of the node that asks.
pub(crate) fn like(id: &RecordId) -> QueryRequest {
    QueryRequest { like: Some(LikeDoc { id: id.clone(), collection: None }), ..usual(TOP) }
}

/// A query by vector.
pub(crate) fn vector(vector: &[f32]) -> QueryRequest {
    QueryRequest { vector: vector.to_vec(), embedder: EMBEDDER.to_owned(), ..usual(TOP) }
}

/// Asks a node.
pub(crate) fn ask(node: &Node, request: &QueryRequest) -> Result<QueryDoc, Failure> {
    node.client.post("/v1/queries", request)
}

/// What is wrong when not every node answered.
pub(crate) fn incomplete(answer: &QueryDoc, nodes: usize) -> Vec<String> {
    if answer.complete && answer.answered() == nodes {
        return Vec::new();
    }
    vec![format!("{} of {nodes} nodes answered", answer.answered())]
}

/// What is wrong when an answer is not the exact one: at each rank the same content, or one whose
/// score rounding cannot tell from it. `exact` ranks all texts that could be found.
pub(crate) fn differs(answer: &QueryDoc, exact: &[Exact], parts: &[Part]) -> Option<String> {
    let contents: HashMap<&RecordId, ContentHash> =
        parts.iter().flat_map(|part| &part.entries).map(|e| (&e.id, e.content)).collect();
    let scores: HashMap<ContentHash, f64> = exact.iter().map(|e| (e.content, e.score)).collect();
    let best = &exact[..TOP.min(exact.len())];
    if answer.results.len() != best.len() {
        return Some(format!("{} results instead of {}", answer.results.len(), best.len()));
    }
    let right = |result: &ResultDoc, exact: &Exact| {
        let own = contents.get(&result.id).and_then(|content| scores.get(content));
        own.is_some_and(|own| (own - exact.score).abs() < ROUNDING)
            && (result.score - exact.score).abs() < ROUNDING
    };
    let rank = answer.results.iter().zip(best).position(|(r, e)| !right(r, e))?;
    Some(format!(
        "rank {} is {} with {:.6}, not the exact result with {:.6}",
        rank + 1,
        answer.results[rank].id,
        answer.results[rank].score,
        best[rank].score
    ))
}

/// A line a source, by name.
pub(crate) fn sources(output: &Output, answer: &QueryDoc) -> Vec<String> {
    let mut sources: Vec<_> = answer.sources.iter().collect();
    sources.sort_by(|a, b| a.source.cmp(&b.source));
    sources.into_iter().map(|source| source_line(output, source)).collect()
}

/// The first results.
pub(crate) fn results(output: &Output, answer: &QueryDoc, shown: usize) -> Vec<String> {
    result_lines(output, &answer.results[..shown.min(answer.results.len())])
}

/// An answer for JSON, without its texts.
pub(crate) fn detail(asker: &NodeName, asked: &Value, answer: &QueryDoc) -> Value {
    let top: Vec<Value> = answer
        .results
        .iter()
        .map(|result| {
            json!({
                "source": result.source, "id": result.id,
                "score": result.score, "title": result.title,
            })
        })
        .collect();
    json!({
        "asked_by": asker, "query": asked, "complete": answer.complete,
        "sources": answer.sources, "results": top, "elapsed_ms": answer.elapsed_ms,
    })
}

fn usual(top: usize) -> QueryRequest {
    QueryRequest {
        top_k: Some(top),
        deadline_ms: Some(DEADLINE.as_millis() as u64),
        ..QueryRequest::default()
    }
}

/// Results shown of a query by text.
const SHOWN: usize = 3;
/// Nodes score in single precision, the comparison in double.
const ROUNDING: f64 = 1e-5;
