//! The embedded substrate by itself: all records in one collection.

use std::path::Path;
use std::time::Instant;

use exo_crypto::content_hash;
use exo_federation::ErrorCode;
use exo_substrate::import::ImportPlan;
use exo_substrate::{OpenOptions, SearchRequest, SubstrateError, SubstrateInstance};
use exo_types::QueryTarget;

use super::super::broken;
use super::super::data::Data;
use super::super::report::{Report, Unit};
use super::{TOP, WARM_UP};
use crate::exit::Failure;

/// Writes all records durably, then searches them; how many there are.
pub(super) async fn measure(
    report: &mut Report,
    root: &Path,
    data: &Data,
    queries: usize,
) -> Result<u64, Failure> {
    let failed = |error: SubstrateError| broken("the embedded substrate", error);
    let options = OpenOptions::new(root.join("embedded.db"));
    let store = SubstrateInstance::open("embedded", options).await.map_err(failed)?;
    store.create(data.spec.clone()).await.map_err(failed)?;
    let mut rates = Vec::new();
    let mut records = 0;
    for pair in &data.pairs {
        let refused = |error: exo_substrate::import::ImportError| {
            Failure::new(ErrorCode::ImportInvalid, error.to_string())
        };
        let plan = ImportPlan::check(&pair.records, Some(&pair.vectors), &data.spec, |_| ())
            .map_err(refused)?;
        records += plan.rows();
        for batch in plan.batches(0, content_hash).map_err(refused)? {
            let batch = batch.map_err(refused)?;
            let (began, size) = (Instant::now(), batch.records.len());
            store.put(&data.spec.name, batch.records, Some(batch.mark)).await.map_err(failed)?;
            rates.push(size as f64 / began.elapsed().as_secs_f64());
        }
    }
    report.samples("embedded.import", Unit::RecordsPerSecond, &rates);
    let vector = |query| data.by_vector(query);
    let text = |query| data.by_text(query);
    search(report, "embedded.vector", &store, data, queries, vector).await.map_err(failed)?;
    search(report, "embedded.text", &store, data, queries, text).await.map_err(failed)?;
    Ok(records)
}

async fn search(
    report: &mut Report,
    name: &str,
    store: &SubstrateInstance,
    data: &Data,
    queries: usize,
    target: impl Fn(usize) -> QueryTarget,
) -> Result<(), SubstrateError> {
    let mut times = Vec::with_capacity(queries);
    for query in 0..queries + WARM_UP {
        let mut request = SearchRequest::new(target(query));
        request.top_k = TOP;
        let began = Instant::now();
        store.search(&data.spec.name, request).await?;
        if query >= WARM_UP {
            times.push(began.elapsed());
        }
    }
    report.millis(name, &times);
    Ok(())
}
