//! Clients that append statements, each of its own, and write down what they saw.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::door::{Door, Reached};
use super::history::{Acknowledged, Append};

/// Clients at work.
pub(super) struct Clients {
    seen: Arc<Seen>,
    threads: Vec<JoinHandle<()>>,
}

struct Seen {
    began: Instant,
    stop: AtomicBool,
    appends: Mutex<Vec<Append>>,
    numbers: AtomicU64,
    load: Load,
}

/// What a client does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Clients at each node.
    pub(super) clients: usize,
    /// What it waits between two appends.
    pub(super) pause: Duration,
    /// Length of a statement, bytes.
    pub(super) bytes: usize,
    /// How long it waits for an answer.
    pub(super) deadline: Duration,
}

impl Default for Load {
    fn default() -> Self {
        let deadline = Duration::from_secs(5);
        Self { clients: 2, pause: Duration::from_millis(20), bytes: 64, deadline }
    }
}

impl Clients {
    /// Starts so many clients at each of the nodes.
    pub(super) fn start(doors: &[Arc<Door>], load: Load) -> Self {
        let seen = Arc::new(Seen {
            began: Instant::now(),
            stop: AtomicBool::new(false),
            appends: Mutex::default(),
            numbers: AtomicU64::new(0),
            load,
        });
        let mut threads = Vec::new();
        for client in 0..doors.len() * load.clients {
            let (seen, door) = (Arc::clone(&seen), Arc::clone(&doors[client % doors.len()]));
            threads.push(std::thread::spawn(move || seen.work(client, &door)));
        }
        Self { seen, threads }
    }

    /// Time since the beginning of the history.
    pub(super) fn now(&self) -> Duration {
        self.seen.began.elapsed()
    }

    /// What was seen so far.
    pub(super) fn so_far(&self) -> Vec<Append> {
        self.seen.appends.lock().expect("is whole").clone()
    }

    /// When the first of the appends was acknowledged that were invoked after this moment, waiting for it
    /// up to `patience` after it.
    pub(super) fn first_after(&self, moment: Duration, patience: Duration) -> Option<Duration> {
        loop {
            let appends = self.seen.appends.lock().expect("is whole");
            let later = appends.iter().filter(|append| append.invoked > moment);
            let first = later.filter_map(|append| append.acknowledged).map(|one| one.at).min();
            drop(appends);
            if first.is_some() || self.now() > moment + patience {
                return first;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends all clients; everything they saw.
    pub(super) fn finish(mut self) -> Vec<Append> {
        self.seen.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a client does not panic");
        }
        self.so_far()
    }
}

impl Seen {
    fn work(&self, client: usize, door: &Door) {
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            match self.append(door, format!("{MARK}{client}-{number};")) {
                Some(append) => self.appends.lock().expect("is whole").push(append),
                // It is down; somebody is about to start it again.
                None => std::thread::sleep(Duration::from_millis(20)),
            }
            std::thread::sleep(self.load.pause);
        }
    }

    /// Asks for one append; `None` when nobody was asked.
    fn append(&self, door: &Door, id: String) -> Option<Append> {
        let mut statement = id.clone().into_bytes();
        statement.resize(statement.len().max(self.load.bytes), b'.');
        let deadline = u64::try_from(self.load.deadline.as_millis()).expect("is short");
        let body = json!({"statement": BASE64.encode(&statement), "deadline_ms": deadline});
        let body = body.to_string().into_bytes();
        let invoked = self.began.elapsed();
        let wait = self.load.deadline + Duration::from_secs(2);
        let reached = door.ask("POST", "/v1/decisions", &body, wait);
        let at = self.began.elapsed();
        let index = match reached {
            Reached::Nobody => return None,
            Reached::Unknown => None,
            Reached::Answer(200, body) => {
                let commit: Value = serde_json::from_slice(&body).expect("JSON");
                assert_eq!(
                    (&commit["outcome"], &commit["certified"]),
                    (&"recorded".into(), &true.into())
                );
                Some(commit["index"].as_u64().expect("an index"))
            }
            Reached::Answer(status, body) => {
                let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
                let code = problem["code"].as_str().unwrap_or("none").to_owned();
                // What else could be said means that something is broken.
                let expected = ["no-quorum", "busy", "shutting-down", "no-vote"];
                assert!(expected.contains(&code.as_str()), "{status}: {problem}");
                None
            }
        };
        let acknowledged = index.map(|index| Acknowledged { at, index });
        Some(Append { id, invoked, acknowledged })
    }
}

/// What the log's entry of a statement is known by, up to the next semicolon.
pub(super) const MARK: &str = "append:";

/// How long acknowledged appends took: how many, the median and the slowest, milliseconds.
pub(super) fn latencies(appends: &[Append]) -> (usize, f64, f64) {
    let took =
        |append: &Append| Some((append.acknowledged?.at - append.invoked).as_secs_f64() * 1e3);
    let mut all: Vec<f64> = appends.iter().filter_map(took).collect();
    all.sort_by(f64::total_cmp);
    let most = all.last().copied().unwrap_or(f64::NAN);
    (all.len(), all.get(all.len() / 2).copied().unwrap_or(f64::NAN), most)
}
