//! Relays that are killed while questions pass them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::data::{DIMENSIONS, Seeded, write_rows, write_source};
use super::fleet::{Fleet, Process};

const NAMES: [&str; 7] = ["asker", "one", "two", "three", "four", "five", "six"];
/// Records of each member.
const RECORDS: usize = 100;
/// When each answer is due.
const DEADLINE: Duration = Duration::from_secs(2);
/// What a busy machine may add.
const MARGIN: Duration = Duration::from_millis(500);
/// A reply that has not come by then came over a second path: an eighth of the deadline, less what a
/// timer may be early.
const HEDGED: f64 = 245.0;

/// When a question was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// While all relays lived.
    Whole,
    /// Right after one was killed.
    First,
    /// After that, while it stayed dead.
    Later,
}

/// What was measured, milliseconds.
#[derive(Default)]
struct Figures {
    /// How long each living source took to answer.
    sources: BTreeMap<Kind, Vec<f64>>,
    /// How long the questions took as a whole.
    ends: BTreeMap<Kind, Vec<f64>>,
    /// Living sources that did not answer.
    missed: usize,
}

#[test]
fn while_relays_are_killed_every_living_source_answers_over_another_path() {
    kill_relays(3, 2);
}

#[test]
#[ignore = "long: sixty relays are killed"]
fn while_sixty_relays_are_killed_every_living_source_answers_over_another_path() {
    kill_relays(60, 3);
}

/// In every round a relay is killed, `questions` are asked with it dead, and it starts again.
fn kill_relays(rounds: usize, questions: usize) {
    let mut fleet = Fleet::start(&NAMES, None);
    let mut seeded = Seeded(11);
    let mut vector = || (0..DIMENSIONS).map(|_| seeded.next()).collect::<Vec<f32>>();
    for node in &fleet.nodes {
        let records: Vec<_> =
            (0..RECORDS).map(|at| (format!("{}:{at}", node.name), vector())).collect();
        write_source(fleet.path(), &node.name, &records);
        let file = |ending: &str| {
            fleet.path().join(format!("{}{ending}", node.name)).to_str().expect("path").to_owned()
        };
        node.ok(&["import", &file(".jsonl"), "--into", "all", "--vectors", &file(".f32.npy")]);
    }
    let asked = vector();
    write_rows(fleet.path(), "asked", std::iter::once(asked.as_slice()));
    let asked = fleet.path().join("asked.f32.npy");
    let asked = asked.to_str().expect("path").to_owned();

    let mut figures = Figures::default();
    for round in 0..rounds {
        let answer = ask(&fleet.nodes[0], &asked);
        assert_eq!(answer["complete"], true, "{}", answer["sources"]);
        figures.take(&answer, None, Kind::Whole);
        let victim = 1 + round % (NAMES.len() - 1);
        fleet.nodes[victim].kill();
        for question in 0..questions {
            let answer = ask(&fleet.nodes[0], &asked);
            let kind = if question == 0 { Kind::First } else { Kind::Later };
            figures.take(&answer, Some(NAMES[victim]), kind);
        }
        fleet.nodes[victim].serve();
        fleet.wait_active();
    }
    figures.print();
    assert_eq!(figures.missed, 0, "living sources did not answer");
    let hits = figures.hit(Kind::First) + figures.hit(Kind::Later);
    assert!(hits > 0.0, "the dead were on no path: nothing was shown");
}

/// Asks every member through relays; the answer is there by its deadline, whoever is dead.
fn ask(asker: &Process, vectors: &str) -> Value {
    let began = Instant::now();
    let deadline = format!("{}s", DEADLINE.as_secs());
    let args = ["--vectors", vectors, "--anonymous", "--deadline", &deadline];
    let answer = asker.query(&args).pop().expect("an answer");
    let waited = began.elapsed();
    let elapsed = answer["elapsed_ms"].as_f64().expect("a time");
    assert!(elapsed < millis(DEADLINE + MARGIN), "a question took {elapsed} ms");
    // The command itself starts and ends, too.
    assert!(waited < DEADLINE + 4 * MARGIN, "the command took {waited:?}");
    answer
}

impl Figures {
    fn take(&mut self, answer: &Value, dead: Option<&str>, kind: Kind) {
        self.ends.entry(kind).or_default().push(answer["elapsed_ms"].as_f64().expect("a time"));
        for source in answer["sources"].as_array().expect("sources") {
            let (name, status) = (source["source"].as_str(), source["status"].as_str());
            if name == Some(NAMES[0]) {
                continue;
            }
            if name == dead {
                let lost = matches!(status, Some("timeout" | "unreachable"));
                assert!(lost, "the dead member is reported as {source}");
            } else if status == Some("answered") {
                let took = source["elapsed_ms"].as_f64().expect("a time");
                self.sources.entry(kind).or_default().push(took);
            } else {
                println!("missed: {source}");
                self.missed += 1;
            }
        }
    }

    /// Share of the sources whose first path led to nothing.
    fn hit(&self, kind: Kind) -> f64 {
        let took = &self.sources[&kind];
        took.iter().filter(|took| **took >= HEDGED).count() as f64 / took.len() as f64
    }

    fn print(&self) {
        let answered: usize = self.sources.values().map(Vec::len).sum();
        println!("{answered} answers of living sources, {} missing", self.missed);
        for kind in [Kind::Whole, Kind::First, Kind::Later] {
            let (sources, ends) = (&self.sources[&kind], &self.ends[&kind]);
            println!(
                "{kind:?}: a source p50 {:.1} ms, p95 {:.1} ms; a question p50 {:.1} ms, p95 {:.1} \
                 ms, at most {:.1} ms; a second path {:.0} in 100",
                percentile(sources, 0.5),
                percentile(sources, 0.95),
                percentile(ends, 0.5),
                percentile(ends, 0.95),
                percentile(ends, 1.0),
                100.0 * self.hit(kind),
            );
        }
    }
}

fn percentile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * at).round() as usize]
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
