//! Figures: samples, their percentiles, the frozen shape and a table to read.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::escape::visible;
use crate::exit::Failure;
use crate::output::{Output, Style, table};

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Unit {
    /// Microseconds.
    #[serde(rename = "us")]
    Micros,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Millis,
    /// Queries a second.
    #[serde(rename = "queries/s")]
    QueriesPerSecond,
    /// Records a second.
    #[serde(rename = "records/s")]
    RecordsPerSecond,
    /// Batches a second.
    #[serde(rename = "batches/s")]
    BatchesPerSecond,
    /// Writes a second.
    #[serde(rename = "writes/s")]
    WritesPerSecond,
    /// Bytes.
    #[serde(rename = "bytes")]
    Bytes,
    /// How often something happens.
    #[serde(rename = "count")]
    Count,
    /// Updates a second.
    #[serde(rename = "updates/s")]
    UpdatesPerSecond,
    /// Onion packets a second.
    #[serde(rename = "packets/s")]
    PacketsPerSecond,
    /// Milliseconds of a processor's time in a second.
    #[serde(rename = "ms/s")]
    MillisPerSecond,
    /// Kibibytes a second.
    #[serde(rename = "KiB/s")]
    KibibytesPerSecond,
    /// Processors kept busy.
    #[serde(rename = "cores")]
    Cores,
    /// One figure divided by another.
    #[serde(rename = "ratio")]
    Ratio,
}

/// One figure: percentiles by the nearest rank.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figure {
    /// What was measured.
    pub(super) name: String,
    /// In what.
    pub(super) unit: Unit,
    /// Half of the samples are at most this.
    pub(super) p50: f64,
    /// 95 of 100 samples are at most this.
    pub(super) p95: f64,
    /// 99 of 100 samples are at most this.
    pub(super) p99: f64,
    /// Samples.
    pub(super) n: usize,
}

/// A benchmark's figures, `exo.bench/1`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema: &'static str,
    bench: &'static str,
    params: Map<String, Value>,
    figures: Vec<Figure>,
    #[serde(skip)]
    goals: Vec<Goal>,
    #[serde(skip)]
    remarks: Vec<String>,
}

/// What a figure should come to.
#[derive(Debug)]
struct Goal {
    what: String,
    found: f64,
    at_most: f64,
    unit: Unit,
}

impl Report {
    /// No figures yet.
    pub(super) fn new(bench: &'static str) -> Self {
        Self {
            schema: "exo.bench/1",
            bench,
            params: Map::new(),
            figures: Vec::new(),
            goals: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// Says with what it was measured.
    pub(super) fn param(&mut self, name: &str, value: impl Into<Value>) {
        self.params.insert(name.to_owned(), value.into());
    }

    /// Adds a figure of samples; none without a sample.
    pub(super) fn samples(&mut self, name: impl Into<String>, unit: Unit, samples: &[f64]) {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |percent| percentile(&sorted, percent);
        if let (Some(p50), Some(p95), Some(p99)) = (at(50), at(95), at(99)) {
            self.figures.push(Figure { name: name.into(), unit, p50, p95, p99, n: sorted.len() });
        }
    }

    /// Adds a figure whose percentiles somebody else has found.
    pub(super) fn told(
        &mut self,
        name: impl Into<String>,
        unit: Unit,
        (p50, p95, p99): (f64, f64, f64),
        n: usize,
    ) {
        let (p50, p95, p99) = (rounded(p50), rounded(p95), rounded(p99));
        self.figures.push(Figure { name: name.into(), unit, p50, p95, p99, n });
    }

    /// Adds a figure of times in milliseconds.
    pub(super) fn millis(&mut self, name: impl Into<String>, times: &[Duration]) {
        let samples: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        self.samples(name, Unit::Millis, &samples);
    }

    /// Adds a figure of times in microseconds.
    pub(super) fn micros(&mut self, name: impl Into<String>, times: &[Duration]) {
        let samples: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
        self.samples(name, Unit::Micros, &samples);
    }

    /// Adds how one figure compares with another, percentile by percentile, and gives the ratio of
    /// their medians.
    pub(super) fn ratio(&mut self, name: impl Into<String>, of: &str, to: &str) -> Option<f64> {
        let (of, to) = (self.figure(of)?, self.figure(to)?);
        let figure = Figure {
            name: name.into(),
            unit: Unit::Ratio,
            p50: rounded(of.p50 / to.p50),
            p95: rounded(of.p95 / to.p95),
            p99: rounded(of.p99 / to.p99),
            n: of.n.min(to.n),
        };
        let found = figure.p50;
        self.figures.push(figure);
        Some(found)
    }

    /// A figure that is there.
    pub(super) fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }

    /// Sets a goal beside a figure. It is shown to people; the shape for programs stays as it is.
    pub(super) fn goal(&mut self, what: impl Into<String>, found: f64, at_most: f64, unit: Unit) {
        self.goals.push(Goal { what: what.into(), found, at_most, unit });
    }

    /// Adds a line that people see below the figures.
    pub(super) fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    /// Prints the figures: one document, or a table.
    pub(super) fn print(&self, output: &Output) -> Result<(), Failure> {
        if output.json {
            return output.json(self);
        }
        let params: Vec<String> =
            self.params.iter().map(|(name, value)| format!("{name} {value}")).collect();
        output.line(&output.style(&visible(&params.join(", ")), Style::Dim))?;
        for (row, line) in table(&self.rows()).into_iter().enumerate() {
            let line = if row == 0 { output.style(&line, Style::Strong) } else { line };
            output.line(&line)?;
        }
        for goal in &self.goals {
            let held = goal.found <= goal.at_most;
            let (word, style) = if held { ("held", Style::Good) } else { ("missed", Style::Warn) };
            let (found, most) = (number(goal.found), number(goal.at_most));
            let unit = unit_name(goal.unit);
            let text = format!("goal {word}: {}, {found} of at most {most} {unit}", goal.what);
            output.line(&output.style(&text, style))?;
        }
        for remark in &self.remarks {
            output.line(&output.style(remark, Style::Dim))?;
        }
        Ok(())
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows =
            vec![["FIGURE", "p50", "p95", "p99", "UNIT", "n"].map(str::to_owned).to_vec()];
        rows.extend(self.figures.iter().map(|figure| {
            vec![
                figure.name.clone(),
                number(figure.p50),
                number(figure.p95),
                number(figure.p99),
                unit_name(figure.unit),
                figure.n.to_string(),
            ]
        }));
        rows
    }
}

/// The nearest-rank percentile of sorted samples: the smallest that `percent` of 100 are at most.
pub(super) fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().map(rounded)
}

/// Cuts what no clock here can tell: six significant digits are left.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

/// A number for people: three significant digits, or all before the point.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

fn unit_name(unit: Unit) -> String {
    match serde_json::to_value(unit) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_of_the_nearest_rank() {
        let sorted: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 50), Some(100.0));
        assert_eq!(percentile(&sorted, 95), Some(190.0));
        assert_eq!(percentile(&sorted, 99), Some(198.0));
        assert_eq!(percentile(&[7.0], 99), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn the_document_has_its_frozen_shape() {
        let mut report = Report::new("crypto");
        report.param("rounds", 2);
        report.samples("ml_dsa_65.sign", Unit::Micros, &[3.0, 1.0, 2.0]);
        report.samples("ed25519.sign", Unit::Micros, &[1.0, 0.5, 4.0]);
        assert_eq!(report.ratio("sign.ratio", "ml_dsa_65.sign", "ed25519.sign"), Some(2.0));
        report.goal("signing", 2.0, 1.0, Unit::Ratio);
        report.samples("nothing", Unit::Millis, &[]);
        assert_eq!(
            serde_json::to_string(&report).expect("json"),
            concat!(
                r#"{"schema":"exo.bench/1","bench":"crypto","params":{"rounds":2},"figures":["#,
                r#"{"name":"ml_dsa_65.sign","unit":"us","p50":2.0,"p95":3.0,"p99":3.0,"n":3},"#,
                r#"{"name":"ed25519.sign","unit":"us","p50":1.0,"p95":4.0,"p99":4.0,"n":3},"#,
                r#"{"name":"sign.ratio","unit":"ratio","p50":2.0,"p95":0.75,"p99":0.75,"n":3}]}"#
            )
        );
    }

    #[test]
    fn numbers_are_short_and_keep_what_matters() {
        assert_eq!([1234.5, 12.34, 1.234, 0.1234].map(number), ["1234", "12.3", "1.23", "0.123"]);
    }
}
