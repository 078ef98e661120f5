//! Figures in the shape of `exo bench`: `exo.bench/1`, or a table to read.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};

/// A benchmark's figures.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    bench: &'static str,
    params: Map<String, Value>,
    figures: Vec<Figure>,
}

#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    unit: &'static str,
    p50: f64,
    p95: f64,
    p99: f64,
    n: usize,
}

impl Report {
    pub(crate) fn new(bench: &'static str) -> Self {
        Self { schema: "exo.bench/1", bench, params: Map::new(), figures: Vec::new() }
    }

    pub(crate) fn param(&mut self, name: &str, value: impl Into<Value>) {
        self.params.insert(name.to_owned(), value.into());
    }

    /// Times of single queries.
    pub(crate) fn millis(&mut self, name: impl Into<String>, times: &[Duration]) {
        self.add(name, "ms", times.iter().map(|time| time.as_secs_f64() * 1e3).collect());
    }

    /// One long time.
    pub(crate) fn seconds(&mut self, name: impl Into<String>, time: Duration) {
        self.add(name, "s", vec![time.as_secs_f64()]);
    }

    /// A part of a whole.
    pub(crate) fn share(&mut self, name: impl Into<String>, share: f64) {
        self.add(name, "ratio", vec![share]);
    }

    /// One figure divided by another, percentile by percentile.
    pub(crate) fn ratio(&mut self, name: impl Into<String>, of: &str, to: &str) {
        let find = |name: &str| self.figures.iter().find(|figure| figure.name == name);
        let (Some(of), Some(to)) = (find(of), find(to)) else { return };
        self.figures.push(Figure {
            name: name.into(),
            unit: "ratio",
            p50: of.p50 / to.p50,
            p95: of.p95 / to.p95,
            p99: of.p99 / to.p99,
            n: of.n.min(to.n),
        });
    }

    /// Percentiles by the nearest rank.
    fn add(&mut self, name: impl Into<String>, unit: &'static str, mut samples: Vec<f64>) {
        samples.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let rank = (samples.len() * percent).div_ceil(100).max(1);
            samples.get(rank - 1).copied()
        };
        if let (Some(p50), Some(p95), Some(p99)) = (at(50), at(95), at(99)) {
            self.figures.push(Figure { name: name.into(), unit, p50, p95, p99, n: samples.len() });
        }
    }

    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        println!("{}", serde_json::to_string(&self.params)?);
        println!(
            "{:<36}{:>10}{:>10}{:>10}  {:<6}{:>6}",
            "FIGURE", "p50", "p95", "p99", "UNIT", "n"
        );
        for Figure { name, unit, p50, p95, p99, n } in &self.figures {
            println!("{name:<36}{p50:>10.4}{p95:>10.4}{p99:>10.4}  {unit:<6}{n:>6}");
        }
        Ok(())
    }
}
