//! Many queries at a time, until more at once are answered no faster.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use exo_federation::FederationError;
use exo_types::{FederationScope, QuerySpec};
use tokio::task::JoinSet;

use super::super::broken;
use super::super::data::Data;
use super::super::federation::Federation;
use super::super::report::{Report, Unit};
use super::TOP;
use crate::exit::Failure;

/// One answered query.
#[derive(Clone, Copy, Debug)]
struct Answered {
    at: Duration,
    took: Duration,
    complete: bool,
}

/// Keeps up 1, 2, 4 … queries by vector at once, each number for a while.
pub(super) async fn measure(
    report: &mut Report,
    federation: &Federation,
    data: &Data,
    each: Duration,
) -> Result<(), Failure> {
    let specs: Arc<Vec<QuerySpec>> = Arc::new(
        (0..data.vectors.len())
            .map(|query| {
                let target = data.by_vector(query);
                QuerySpec { top_k: TOP, ..QuerySpec::new(FederationScope::Direct, target) }
            })
            .collect(),
    );
    let mut best: Option<(usize, Vec<f64>, f64)> = None;
    for at_once in AT_ONCE {
        let answered = keep_up(federation, &specs, at_once, each).await?;
        let rates = rates(&answered, each);
        let times: Vec<Duration> = answered.iter().map(|answer| answer.took).collect();
        report.samples(format!("load.{at_once}"), Unit::QueriesPerSecond, &rates);
        report.millis(format!("load.{at_once}.latency"), &times);
        let cut = answered.iter().filter(|answer| !answer.complete).count();
        if cut > 0 {
            let share = cut as f64 / answered.len() as f64;
            report.samples(format!("load.{at_once}.incomplete"), Unit::Ratio, &[share]);
        }
        let mean = answered.len() as f64 / each.as_secs_f64();
        if best.as_ref().is_none_or(|(_, _, before)| mean > *before) {
            best = Some((at_once, rates, mean));
        }
    }
    if let Some((at_once, rates, _)) = best {
        report.samples("saturation", Unit::QueriesPerSecond, &rates);
        report.param("saturated_at", at_once);
    }
    Ok(())
}

/// Keeps so many queries under way for a while.
async fn keep_up(
    federation: &Federation,
    specs: &Arc<Vec<QuerySpec>>,
    at_once: usize,
    each: Duration,
) -> Result<Vec<Answered>, Failure> {
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut askers = JoinSet::new();
    for _ in 0..at_once {
        let (mesh, specs, next) = (federation.asker.clone(), specs.clone(), next.clone());
        askers.spawn(async move {
            let mut answered = Vec::new();
            while began.elapsed() < each {
                let query = next.fetch_add(1, Ordering::Relaxed) % specs.len();
                let asked = Instant::now();
                let result = mesh.federated_query(specs[query].clone()).await?;
                answered.push(Answered {
                    at: began.elapsed(),
                    took: asked.elapsed(),
                    complete: result.complete,
                });
            }
            Ok::<_, FederationError>(answered)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = askers.join_next().await {
        let answered = done.map_err(|error| broken("a task that asks", error))??;
        all.extend(answered.into_iter().filter(|answer| answer.at < each));
    }
    Ok(all)
}

/// Answers a second in each slice of the time; the first slice warms up when there are more.
fn rates(answered: &[Answered], each: Duration) -> Vec<f64> {
    let slices = (each.as_secs_f64() / SLICE.as_secs_f64()).floor().max(1.0) as usize;
    let slice = each.as_secs_f64() / slices as f64;
    let mut counts = vec![0_usize; slices];
    for answer in answered {
        let at = (answer.at.as_secs_f64() / slice) as usize;
        counts[at.min(slices - 1)] += 1;
    }
    let warm = usize::from(slices > 2);
    counts.into_iter().skip(warm).map(|count| count as f64 / slice).collect()
}

/// Queries under way at once.
const AT_ONCE: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Length of the slices whose rates are compared.
const SLICE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_answers_a_second_in_each_slice() {
        let at = |millis| Answered {
            at: Duration::from_millis(millis),
            took: Duration::ZERO,
            complete: true,
        };
        let answered = [at(10), at(260), at(270), at(510), at(999)];
        assert_eq!(rates(&answered, Duration::from_secs(1)), [8.0, 4.0, 4.0]);
        assert_eq!(rates(&answered[..1], Duration::from_millis(100)), [10.0]);
    }
}
