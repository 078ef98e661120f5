//! Writers, one at each node, that put and remove and write down what they were told.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::book::{Book, Once};
use super::door::{Door, Reached};
use super::voters::Voters;

/// Writers at work.
pub(super) struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    book: Mutex<Book>,
    stop: AtomicBool,
    pause: AtomicBool,
    /// Writers that write nothing while they are to pause.
    idle: AtomicUsize,
}

/// One of them.
struct Pen {
    node: usize,
    door: Arc<Door>,
    shared: Arc<Shared>,
    random: u64,
    number: u64,
}

/// What became of a write.
enum Told {
    Acknowledged(Value),
    Open,
    /// Nobody was asked.
    Nobody,
}

impl Writers {
    /// Declares the first of the [`COLLECTIONS`], and starts a writer at each node.
    pub(super) fn start(voters: &Voters, seed: u64) -> Self {
        let declared = json!({"name": COLLECTIONS[0], "kind": "last-writer"});
        voters.nodes[0].door.json("POST", "/v1/shared", &declared);
        let shared = Arc::new(Shared {
            book: Mutex::default(),
            stop: AtomicBool::new(false),
            pause: AtomicBool::new(false),
            idle: AtomicUsize::new(0),
        });
        let pen = |(node, door): (usize, Arc<Door>)| {
            let random = (seed << 8) + node as u64 + 1;
            let mut pen = Pen { node, door, shared: Arc::clone(&shared), random, number: 0 };
            std::thread::spawn(move || pen.work())
        };
        let threads = voters.doors().into_iter().enumerate().map(pen).collect();
        Self { shared, threads }
    }

    /// Has them stop, and waits until all have; or go on.
    pub(super) fn pause(&self, pause: bool) {
        self.shared.pause.store(pause, Ordering::Relaxed);
        while pause && self.shared.idle.load(Ordering::Relaxed) < self.threads.len() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Acknowledged so far.
    pub(super) fn acknowledged(&self) -> usize {
        self.shared.book.lock().expect("is whole").acknowledged
    }

    /// Ends them all; what was written.
    pub(super) fn finish(mut self) -> Book {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a writer does not panic");
        }
        std::mem::take(&mut *self.shared.book.lock().expect("is whole"))
    }
}

impl Pen {
    fn work(&mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            if self.shared.pause.load(Ordering::Relaxed) {
                self.shared.idle.fetch_add(1, Ordering::Relaxed);
                while self.shared.pause.load(Ordering::Relaxed)
                    && !self.shared.stop.load(Ordering::Relaxed)
                {
                    std::thread::sleep(Duration::from_millis(5));
                }
                self.shared.idle.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            self.step();
            std::thread::sleep(PAUSE);
        }
    }

    fn step(&mut self) {
        let name = COLLECTIONS[self.below(COLLECTIONS.len())];
        self.number += 1;
        let number = self.number;
        match self.below(12) {
            0..4 => self.own(name, Some(number)),
            4 | 5 => self.own(name, None),
            6 | 7 => {
                // All write these and nobody knows which write counts: only that it is the same everywhere.
                let key = format!("common-{}", self.below(8));
                let change = (self.below(3) > 0).then_some(number);
                let told = self.ask(name, &key, change);
                self.count(&told);
            }
            8 | 9 => self.write_once(name),
            _ => self.remove_anothers(),
        }
    }

    /// Puts a number at one of this node's keys, or removes what is there.
    fn own(&mut self, name: &'static str, change: Option<u64>) {
        let slot = self.below(12);
        let key = format!("own-{}-{slot}", self.node);
        let told = self.ask(name, &key, change);
        if matches!(told, Told::Nobody) {
            return;
        }
        let acknowledged = matches!(told, Told::Acknowledged(_));
        let mut book = self.shared.book.lock().expect("is whole");
        book.own.entry((name, key)).or_default().push((change, acknowledged));
        drop(book);
        self.count(&told);
    }

    fn write_once(&mut self, name: &'static str) {
        let key = format!("once-{}-{}", self.node, self.number);
        let told = self.ask(name, &key, Some(self.number));
        if matches!(told, Told::Acknowledged(_)) {
            let mut book = self.shared.book.lock().expect("is whole");
            book.once.insert((name, key), Once::Written(self.node));
        }
        self.count(&told);
    }

    /// Removes a key that another node wrote, if it has come here.
    fn remove_anothers(&mut self) {
        let draw = self.below(usize::MAX);
        let mut book = self.shared.book.lock().expect("is whole");
        let others = |once: &Once| matches!(once, Once::Written(by) if *by != self.node);
        let all: Vec<_> = book.once.iter().filter(|(_, once)| others(once)).collect();
        // Half of them stay.
        if all.len() <= book.once.len() / 2 {
            return;
        }
        let Some(((name, key), was)) = all.get(draw % all.len().max(1)).copied() else { return };
        let (name, key, was) = (*name, key.clone(), *was);
        // No other node is asked meanwhile.
        book.once.insert((name, key.clone()), Once::Unknown);
        drop(book);
        let told = self.ask(name, &key, None);
        let now = match &told {
            Told::Acknowledged(answer) if answer["removed"] == true => Once::Removed,
            Told::Acknowledged(_) | Told::Nobody => was,
            Told::Open => Once::Unknown,
        };
        self.shared.book.lock().expect("is whole").once.insert((name, key), now);
        self.count(&told);
    }

    fn ask(&self, name: &str, key: &str, change: Option<u64>) -> Told {
        let path = format!("/v1/shared/{name}/keys/{key}");
        let reached = match change {
            Some(number) => {
                let body = json!({"value": number.to_string()}).to_string();
                self.door.ask("PUT", &path, body.as_bytes(), WAIT)
            }
            None => self.door.ask("DELETE", &path, &[], WAIT),
        };
        match reached {
            Reached::Nobody => {
                std::thread::sleep(Duration::from_millis(10));
                Told::Nobody
            }
            Reached::Unknown => Told::Open,
            Reached::Answer(200, body) => {
                Told::Acknowledged(serde_json::from_slice(&body).expect("JSON"))
            }
            Reached::Answer(status, body) => {
                let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
                let code = problem["code"].as_str().unwrap_or("none").to_owned();
                // What was removed elsewhere right after it was put; and what else could be said means that
                // something is broken.
                let removed = code == "shared-key-not-found" && key.starts_with("common");
                let expected = ["busy", "shutting-down", "shared-not-found"];
                assert!(removed || expected.contains(&code.as_str()), "{status}: {problem}");
                Told::Open
            }
        }
    }

    fn count(&self, told: &Told) {
        let mut book = self.shared.book.lock().expect("is whole");
        match told {
            Told::Acknowledged(_) => book.acknowledged += 1,
            Told::Open => book.open += 1,
            Told::Nobody => {}
        }
    }

    fn below(&mut self, end: usize) -> usize {
        below(&mut self.random, end)
    }
}

/// xorshift64.
pub(super) fn below(random: &mut u64, end: usize) -> usize {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    usize::try_from(*random % end.max(1) as u64).expect("is less than the end")
}

/// The collections that are written to: the first is declared, and so is cut by checkpoints.
pub(super) const COLLECTIONS: [&str; 3] = ["minutes", "notes", "plans"];
const PAUSE: Duration = Duration::from_millis(30);
const WAIT: Duration = Duration::from_secs(20);
