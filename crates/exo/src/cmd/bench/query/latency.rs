//! One query at a time: each source's own search, the federated query, and the same through the API.

use std::time::{Duration, Instant};

use exo_federation::{ErrorCode, FederatedMesh};
use exo_types::{FederationScope, QuerySpec, QueryTarget};
use tokio::runtime::Runtime;

use super::super::report::{Report, Unit, percentile};
use super::data::Data;
use super::federation::Federation;
use super::{TOP, WARM_UP};
use crate::api::dto::query::{QueryDoc, QueryRequest, ScopeDoc};
use crate::exit::Failure;

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
    let Federation { asker, others } = federation;
    let mut local = vec![Vec::with_capacity(queries); others.len() + 1];
    let (mut federated, mut http) = (Vec::new(), Vec::new());
    for query in 0..queries + WARM_UP {
        let target = target(query);
        let counts = query >= WARM_UP;
        // What a source takes is its own figure: the way to it through the API is not in it.
        let own = runtime.block_on(ask(asker, FederationScope::Local, &target))?.0;
        for (node, times) in others.iter().zip(&mut local[1..]) {
            let answer: QueryDoc =
                node.client.post("/v1/queries", &request(ScopeDoc::Local, &target))?;
            if counts {
                times.push(answer.elapsed_ms);
            }
        }
        let whole = runtime.block_on(ask(asker, FederationScope::Direct, &target))?.1;
        let through_api = match others.first() {
            Some(node) => {
                let began = Instant::now();
                let answer: QueryDoc =
                    node.client.post("/v1/queries", &request(ScopeDoc::Direct, &target))?;
                check(answer.answered(), others.len() + 1)?;
                began.elapsed()
            }
            None => whole,
        };
        if counts {
            local[0].push(own.as_secs_f64() * 1e3);
            federated.push(whole.as_secs_f64() * 1e3);
            http.push(through_api.as_secs_f64() * 1e3);
        }
    }
    let median = |samples: &Vec<f64>| {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        percentile(&sorted, 50).unwrap_or_default()
    };
    let slowest = local.into_iter().max_by(|a, b| median(a).total_cmp(&median(b)));
    let slowest = slowest.unwrap_or_default();
    let bar = median(&slowest);
    let over: Vec<f64> = federated.iter().map(|time| time - bar).collect();
    report.samples(format!("local.{name}.slowest"), Unit::Millis, &slowest);
    report.samples(format!("federated.{name}"), Unit::Millis, &federated);
    report.samples(format!("federated.{name}.over_slowest_local"), Unit::Millis, &over);
    report.samples(format!("http.{name}"), Unit::Millis, &http);
    Ok(median(&over))
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
