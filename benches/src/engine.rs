//! The engines that are compared.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context, Result};
use exo_substrate::{EmbeddedSubstrate, OpenOptions, SearchRequest, Substrate};
use exo_types::limits::BATCH_RECORDS_MAX;
use exo_types::{CollectionName, QueryTarget};
use hnsw_rs::prelude::{DistDot, Hnsw};
use simsimd::SpatialSimilarity;

use crate::TOP;
use crate::data::{Data, spec};

/// Positions of records, best first.
pub(crate) type Found<'a> = Pin<Box<dyn Future<Output = Result<Vec<usize>>> + 'a>>;

/// Something that finds the ten nearest.
pub(crate) trait Engine {
    /// Its name in figures.
    fn name(&self) -> String;

    /// The positions of the ten records nearest to a query of length one.
    fn search<'a>(&'a self, query: &'a [f32]) -> Found<'a>;
}

/// Every score by SimSIMD's kernels for this processor, on one thread.
pub(crate) struct Scan {
    dimensions: usize,
    units: Vec<f32>,
}

impl Scan {
    pub(crate) fn build(data: &Data) -> Self {
        Self { dimensions: data.dimensions, units: data.units.clone() }
    }

    fn best(&self, query: &[f32]) -> Vec<usize> {
        let mut best: Vec<(f64, usize)> = Vec::with_capacity(TOP + 1);
        for (at, row) in self.units.chunks_exact(self.dimensions).enumerate() {
            let score = f32::dot(query, row).unwrap_or(f64::MIN);
            if best.len() == TOP && best.last().is_some_and(|(worst, _)| score <= *worst) {
                continue;
            }
            let place = best.partition_point(|(other, _)| *other >= score);
            best.insert(place, (score, at));
            best.truncate(TOP);
        }
        best.into_iter().map(|(_, at)| at).collect()
    }
}

impl Engine for Scan {
    fn name(&self) -> String {
        "scan".to_owned()
    }

    fn search<'a>(&'a self, query: &'a [f32]) -> Found<'a> {
        Box::pin(async move { Ok(self.best(query)) })
    }
}

/// The embedded substrate, as a node calls it.
pub(crate) struct Embedded {
    name: &'static str,
    store: EmbeddedSubstrate,
    collection: CollectionName,
}

impl Embedded {
    /// Writes every record durably. `exact` chooses the search.
    pub(crate) async fn build(
        name: &'static str,
        path: &Path,
        exact: bool,
        data: &Data,
    ) -> Result<Self> {
        let exact_scan_records_max = if exact { usize::MAX } else { 0 };
        let options = OpenOptions { exact_scan_records_max, ..OpenOptions::new(path) };
        let store = EmbeddedSubstrate::open(options).await?;
        let spec = spec(data.dimensions)?;
        let collection = spec.name.clone();
        store.create(spec).await?;
        for batch in data.records.chunks(BATCH_RECORDS_MAX) {
            store.put(&collection, batch.to_vec(), None).await?;
        }
        Ok(Self { name, store, collection })
    }
}

impl Engine for Embedded {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn search<'a>(&'a self, query: &'a [f32]) -> Found<'a> {
        Box::pin(async move {
            let mut request = SearchRequest::new(QueryTarget::vector(query.to_vec()));
            request.top_k = TOP;
            let answer = self.store.search(&self.collection, request).await?;
            let leg = answer.legs.first().context("no answer to a vector")?;
            leg.hits.iter().map(|hit| Ok(hit.id.as_str().parse()?)).collect()
        })
    }
}

/// A graph of hnsw_rs in memory: 16 neighbours a record, 200 looked at to place one; built on all
/// processors, searched on one.
#[derive(Clone)]
pub(crate) struct Graph {
    ef: usize,
    graph: Arc<Hnsw<'static, f32, DistDot>>,
}

impl Graph {
    pub(crate) fn build(data: &Data) -> Self {
        let records = data.records.len();
        // Of vectors of length one, the greatest inner product is the least cosine distance.
        let mut graph = Hnsw::new(NEIGHBOURS, records, LAYERS, EF_BUILD, DistDot {});
        let rows: Vec<(&[f32], usize)> = (0..records).map(|at| (data.unit(at), at)).collect();
        graph.parallel_insert_slice(&rows);
        graph.set_searching_mode(true);
        Self { ef: EF_BUILD, graph: Arc::new(graph) }
    }

    pub(crate) fn with_ef(self, ef: usize) -> Self {
        Self { ef, ..self }
    }
}

impl Engine for Graph {
    fn name(&self) -> String {
        format!("hnsw_ef{}", self.ef)
    }

    fn search<'a>(&'a self, query: &'a [f32]) -> Found<'a> {
        Box::pin(async move {
            let found = self.graph.search(query, TOP, self.ef);
            Ok(found.into_iter().map(|neighbour| neighbour.d_id).collect())
        })
    }
}

/// What the library's authors suggest for vectors of some hundred dimensions.
const NEIGHBOURS: usize = 16;
const LAYERS: usize = 16;
const EF_BUILD: usize = 200;
