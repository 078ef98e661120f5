//! Reads the driver's counters. They are shared by all tests of the binary, so a test asks only that
//! one has grown.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

#[derive(Clone, Default)]
struct Counts(Arc<Mutex<HashMap<String, Arc<AtomicU64>>>>);

impl Counts {
    fn get(&self, name: &str) -> Arc<AtomicU64> {
        let mut counts = self.0.lock().expect("no test panics while it counts");
        counts.entry(name.to_owned()).or_default().clone()
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: String = key.labels().map(|label| format!(" {}", label.value())).collect();
        Counter::from_arc(self.get(&format!("{}{labels}", key.name())))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

static COUNTS: OnceLock<Counts> = OnceLock::new();

/// The counter of a name and its label's value, as in `exo_net_refusals_total bad_proof`.
pub(super) fn count(name: &str) -> u64 {
    let counts = COUNTS.get_or_init(|| {
        let counts = Counts::default();
        metrics::set_global_recorder(counts.clone()).expect("no other recorder is set");
        counts
    });
    counts.get(name).load(Ordering::Relaxed)
}
