//! One query at a time: each source's own search, the federated query, and the same through the API.

use std::time::{Duration, Instant};

use exo_federation::{ErrorCode, FederatedMesh};
use exo_types::{FederationScope, QuerySpec, QueryTarget};
use tokio::runtime::Runtime;

use super::super::broken;
use super::super::data::Data;
use super::super::federation::Federation;
use super::super::report::{Report, Unit, percentile};
use super::{TOP, WARM_UP};
use crate::api::dto::query::{QueryDoc, QueryRequest, ScopeDoc};
use crate::cmd::demo::fleet::Node;
use crate::exit::Failure;
use crate::span::millis;

/// Measures queries by vector, then queries by text.
pub(super) fn measure(
    report: &mut Report,
    runtime: &Runtime,
    federation: &Federation,
    data: &Data,
    queries: usize,
) -> Result<(), Failure> {
    let vector = |query| data.by_vector(query);
    let over = kind(report, runtime, federation, "vector", queries, vector)?;
    let what = "federated vector query over the slowest source's own search, p50";
    report.goal(what, over, OVER_LOCAL_MILLIS_MAX, Unit::Millis);
    kind(report, runtime, federation, "text", queries, |query| data.by_text(query))?;
    Ok(())
}

/// What one kind of query took, milliseconds.
#[derive(Default)]
struct Taken {
    /// Each source's own search with nothing else going on, a list a source.
    local: Vec<Vec<f64>>,
    /// The slowest of all sources' own searches when they run at the same time.
    at_once: Vec<f64>,
    /// The whole query, asked through the library.
    federated: Vec<f64>,
    /// The whole query, asked through the API of another node.
    http: Vec<f64>,
}

/// Measures one kind of query; how much longer the federated one takes than the slowest source's
/// own search, median against median, milliseconds.
fn kind(
    report: &mut Report,
    runtime: &Runtime,
    federation: &Federation,
    name: &str,
    queries: usize,
    target: impl Fn(usize) -> QueryTarget,
) -> Result<f64, Failure> {
    let mut taken = Taken::default();
    for query in 0..queries + WARM_UP {
        if query == WARM_UP {
            taken = Taken::default();
        }
        once(&mut taken, runtime, federation, &target(query))?;
    }
    let median = |samples: &[f64]| {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        percentile(&sorted, 50).unwrap_or_default()
    };
    let slowest = taken.local.into_iter().max_by(|a, b| median(a).total_cmp(&median(b)));
    let slowest = slowest.unwrap_or_default();
    let bar = median(&slowest);
    let over: Vec<f64> = taken.federated.iter().map(|time| time - bar).collect();
    report.samples(format!("local.{name}.slowest"), Unit::Millis, &slowest);
    report.samples(format!("local.{name}.all_at_once"), Unit::Millis, &taken.at_once);
    report.samples(format!("federated.{name}"), Unit::Millis, &taken.federated);
    report.samples(format!("federated.{name}.over_slowest_local"), Unit::Millis, &over);
    report.samples(format!("http.{name}"), Unit::Millis, &taken.http);
    Ok(median(&over))
}

/// Asks one query in every way.
fn once(
    taken: &mut Taken,
    runtime: &Runtime,
    federation: &Federation,
    target: &QueryTarget,
) -> Result<(), Failure> {
    let Federation { asker, others, .. } = federation;
    taken.local.resize_with(others.len() + 1, Vec::new);
    // What a source takes is its own figure: the way to it through the API is not in it.
    let own = || runtime.block_on(ask(asker, FederationScope::Local, target));
    let others_own = |node: &Node| -> Result<f64, Failure> {
        let answer: QueryDoc =
            node.client.post("/v1/queries", &request(ScopeDoc::Local, target))?;
        Ok(answer.elapsed_ms)
    };
    taken.local[0].push(millis(own()?.0));
    for (node, times) in others.iter().zip(&mut taken.local[1..]) {
        times.push(others_own(node)?);
    }
    let at_once = std::thread::scope(|scope| {
        let begun: Vec<_> = others.iter().map(|node| scope.spawn(|| others_own(node))).collect();
        let mut slowest = millis(own()?.0);
        for one in begun {
            let took = one.join().map_err(|_| broken("a search", "its thread panicked"))??;
            slowest = slowest.max(took);
        }
        Ok::<f64, Failure>(slowest)
    })?;
    taken.at_once.push(at_once);
    taken.federated.push(millis(runtime.block_on(ask(asker, FederationScope::Direct, target))?.1));
    if let Some(node) = others.first() {
        let began = Instant::now();
        let answer: QueryDoc =
            node.client.post("/v1/queries", &request(ScopeDoc::Direct, target))?;
        check(answer.answered(), others.len() + 1)?;
        taken.http.push(millis(began.elapsed()));
    }
    Ok(())
}

/// Asks through the library: what the node says it took, and what the caller waited.
async fn ask(
    mesh: &FederatedMesh,
    scope: FederationScope,
    target: &QueryTarget,
) -> Result<(Duration, Duration), Failure> {
    let mut spec = QuerySpec::new(scope, target.clone());
    spec.top_k = TOP;
    let began = Instant::now();
    let result = mesh.federated_query(spec).await?;
    let waited = began.elapsed();
    check(result.answered(), result.sources.len())?;
    Ok((result.elapsed, waited))
}

fn request(scope: ScopeDoc, target: &QueryTarget) -> QueryRequest {
    QueryRequest {
        scope,
        text: target.text.clone(),
        vector: target.vector.clone(),
        embedder: target.embedder.clone(),
        top_k: Some(TOP),
        ..QueryRequest::default()
    }
}

fn check(answered: usize, sources: usize) -> Result<(), Failure> {
    if answered == sources {
        return Ok(());
    }
    let message =
        format!("{answered} of {sources} sources answered: the figures would mean nothing");
    Err(Failure::new(ErrorCode::TooFewSources, message))
}

/// What a federated query may take over the slowest source's own search.
const OVER_LOCAL_MILLIS_MAX: f64 = 1.5;
