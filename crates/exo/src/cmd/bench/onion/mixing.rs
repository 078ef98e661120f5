//! Whole queries through the asking node itself: all sources at once, and what it costs to have every
//! member on the way hold the packets back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use exo_federation::{FederationError, SourceStatus};
use exo_types::{FederatedResult, FederationScope, PeerId, QuerySpec};
use tokio::task::JoinSet;

use super::super::broken;
use super::super::data::Data;
use super::super::federation::Federation;
use super::super::report::Report;
use super::TOP;
use crate::exit::Failure;

/// What queries took.
#[derive(Default)]
struct Taken {
    /// Each of the other sources, from the beginning of the query to its answer.
    sources: Vec<Duration>,
    /// The whole query, as its caller waits for it.
    queries: Vec<Duration>,
}

/// Measures queries over three members each, first at once, then held back.
pub(super) async fn measure(
    report: &mut Report,
    federation: &Federation,
    data: &Data,
    queries: usize,
) -> Result<(), Failure> {
    for (name, mean, at_once) in MEANS {
        let count = if at_once == 1 { queries + WARM_UP } else { queries };
        let mut taken = keep_up(federation, data, count, mean, at_once).await?;
        if at_once == 1 {
            let others = federation.others.len();
            taken.sources.drain(..WARM_UP * others);
            taken.queries.drain(..WARM_UP);
        }
        report.millis(format!("{name}.each_source"), &taken.sources);
        report.millis(format!("{name}.whole_query"), &taken.queries);
    }
    Ok(())
}

/// Asks so many queries, a few at once: what is held back takes no processor's time.
async fn keep_up(
    federation: &Federation,
    data: &Data,
    queries: usize,
    mean: Duration,
    at_once: usize,
) -> Result<Taken, Failure> {
    let specs: Arc<Vec<QuerySpec>> = Arc::new(
        (0..queries)
            .map(|query| QuerySpec {
                top_k: TOP,
                mix: mean,
                deadline: DEADLINE,
                ..QuerySpec::new(FederationScope::Global { max_hops: HOPS }, data.by_vector(query))
            })
            .collect(),
    );
    let next = Arc::new(AtomicUsize::new(0));
    let mut askers = JoinSet::new();
    for _ in 0..at_once {
        let (mesh, specs, next) = (federation.asker.clone(), specs.clone(), next.clone());
        askers.spawn(async move {
            let mut answers = Vec::new();
            while let Some(spec) = specs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let began = Instant::now();
                let result = mesh.federated_query(spec.clone()).await?;
                answers.push((began.elapsed(), result));
            }
            Ok::<_, FederationError>(answers)
        });
    }
    let (me, mut taken) = (federation.asker.peer_id(), Taken::default());
    while let Some(done) = askers.join_next().await {
        for (took, result) in done.map_err(|error| broken("a task that asks", error))?? {
            taken.queries.push(took);
            taken.sources.extend(sources(&result, me)?);
        }
    }
    Ok(taken)
}

/// What each source but the asker took.
fn sources(result: &FederatedResult, me: PeerId) -> Result<Vec<Duration>, Failure> {
    let others = result.sources.iter().filter(|source| source.peer != me);
    others
        .map(|source| match source.status {
            SourceStatus::Answered => Ok(source.elapsed),
            _ => Err(broken("a source did not answer", &source.detail)),
        })
        .collect()
}

/// Name, mean time for which each member holds a packet back, and queries under way at once.
const MEANS: [(&str, Duration, usize); 3] = [
    ("mix.none", Duration::ZERO, 1),
    ("mix.50_ms", Duration::from_millis(50), AT_ONCE),
    ("mix.200_ms", Duration::from_millis(200), AT_ONCE),
];
/// Members on each path, the source the last.
const HOPS: u8 = 3;
/// See [`MEANS`].
const AT_ONCE: usize = 4;
/// Long enough for the longest wait that is likely.
const DEADLINE: Duration = Duration::from_secs(20);
/// Queries that are thrown away first.
const WARM_UP: usize = 10;
