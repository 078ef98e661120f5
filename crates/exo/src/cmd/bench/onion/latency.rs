//! How long a query takes through relays: one source, over paths of every length, beside the round trip
//! of a link and the source's own search, all in turn.

use std::time::Instant;

use exo_federation::ErrorCode;
use exo_onion::ReplyClass;
use exo_types::QueryTarget;
use exo_types::limits::HOPS_MAX;
use tokio::runtime::Runtime;

use super::super::data::Data;
use super::super::federation::Federation;
use super::super::report::{Report, Unit, percentile};
use super::TOP;
use super::probe::Probe;
use crate::api::dto::query::{QueryDoc, QueryRequest, ScopeDoc};
use crate::exit::Failure;
use crate::span::millis;

/// Samples, milliseconds.
#[derive(Default)]
struct Taken {
    ping: Vec<f64>,
    search: Vec<f64>,
    direct: Vec<f64>,
    /// By members on the path, one less.
    hops: Vec<Vec<f64>>,
    /// Over three members, in a short reply.
    short: Vec<f64>,
}

/// Measures queries by vector.
pub(super) fn measure(
    report: &mut Report,
    runtime: &Runtime,
    federation: &Federation,
    probe: &Probe,
    data: &Data,
    queries: usize,
) -> Result<(), Failure> {
    let mut taken = Taken::default();
    for query in 0..queries + WARM_UP {
        if query == WARM_UP {
            taken = Taken::default();
        }
        once(&mut taken, runtime, federation, probe, query, &data.by_vector(query))?;
    }
    let (ping, search) = (median(&taken.ping), median(&taken.search));
    let mut sample = |name: String, samples: &[f64]| {
        report.samples(name, Unit::Millis, samples);
    };
    sample("link.ping".to_owned(), &taken.ping);
    sample("source.search".to_owned(), &taken.search);
    sample("source.direct".to_owned(), &taken.direct);
    let over = |times: &[f64]| -> Vec<f64> { times.iter().map(|time| time - search).collect() };
    for (at, times) in taken.hops.iter().enumerate() {
        sample(format!("source.{}_hops", at + 1), times);
        sample(format!("source.{}_hops.over_search", at + 1), &over(times));
    }
    sample("source.3_hops.16_kib".to_owned(), &taken.short);
    sample("source.3_hops.16_kib.over_search".to_owned(), &over(&taken.short));
    let most = 3.0 * ping + OVER_ROUND_TRIPS_MILLIS;
    for (reply, times) in [("16 KiB", Some(&taken.short)), ("64 KiB", taken.hops.get(2))] {
        if let Some(times) = times {
            let what = format!(
                "ten hits in {reply} over 3 hops beyond the search, p50: 3 round trips of a link and 1 ms"
            );
            report.goal(what, median(&over(times)), most, Unit::Millis);
        }
    }
    Ok(())
}

/// Asks one query in every way.
fn once(
    taken: &mut Taken,
    runtime: &Runtime,
    federation: &Federation,
    probe: &Probe,
    round: usize,
    target: &QueryTarget,
) -> Result<(), Failure> {
    let (asker, Some(source)) = (&federation.asker, federation.others.last()) else {
        return Err(nobody());
    };
    let Some(way) = probe.ways.last() else { return Err(nobody()) };
    let next = &federation.others[round % federation.others.len()];
    taken.ping.push(millis(runtime.block_on(asker.ping(&next.ready.peer))?));
    let own: QueryDoc = source.client.post("/v1/queries", &local(target))?;
    taken.search.push(own.elapsed_ms);
    taken.direct.push(timed(runtime, TOP, way.ask(target.clone(), TOP))?);
    taken.hops.resize_with(usize::from(HOPS_MAX), Vec::new);
    for (at, times) in taken.hops.iter_mut().enumerate() {
        let path = probe.path(at + 1, round);
        times.push(timed(runtime, TOP, probe.ask(&path, target.clone(), TOP, ReplyClass::Large))?);
    }
    let path = probe.path(3, round);
    let short = probe.ask(&path, target.clone(), TOP, ReplyClass::Medium);
    taken.short.push(timed(runtime, TOP, short)?);
    Ok(())
}

/// How long an answer takes, milliseconds; it must have all its hits.
fn timed(
    runtime: &Runtime,
    wanted: usize,
    ask: impl Future<Output = Result<usize, Failure>>,
) -> Result<f64, Failure> {
    let began = Instant::now();
    let hits = runtime.block_on(ask)?;
    let took = millis(began.elapsed());
    if hits == wanted {
        return Ok(took);
    }
    Err(Failure::new(ErrorCode::TooFewSources, format!("{hits} hits of {wanted} came")))
}

fn local(target: &QueryTarget) -> QueryRequest {
    QueryRequest {
        scope: ScopeDoc::Local,
        vector: target.vector.clone(),
        embedder: target.embedder.clone(),
        top_k: Some(TOP),
        ..QueryRequest::default()
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 50).unwrap_or_default()
}

fn nobody() -> Failure {
    Failure::new(ErrorCode::Internal, "the federation has no other node")
}

/// What packets may take beyond the round trips of three links and the source's own search.
const OVER_ROUND_TRIPS_MILLIS: f64 = 1.0;
/// Queries that are thrown away first: connections, caches and congestion windows grow warm.
const WARM_UP: usize = 30;
