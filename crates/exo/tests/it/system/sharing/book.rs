//! What was written, what of it was acknowledged, and so what must stand at the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::door::Door;
use super::voters::Voters;
use super::writers::COLLECTIONS;

/// Everything that was done to the keys that are checked.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Of each key that one node alone writes, in its order: what, and whether it was acknowledged.
    pub(super) own: BTreeMap<At, Vec<(Option<u64>, bool)>>,
    /// Keys that are written once, and removed once by another node.
    pub(super) once: BTreeMap<At, Once>,
    /// Writes and removals that were acknowledged, and that were not.
    pub(super) acknowledged: usize,
    pub(super) open: usize,
}

/// A collection and a key.
pub(super) type At = (&'static str, String);

/// How it stands with a key that is written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Once {
    /// It was written, with an acknowledgement, by that node.
    Written(usize),
    /// Another node was asked to remove it, and what it did is not known.
    Unknown,
    /// It was removed where it was seen, with an acknowledgement.
    Removed,
}

/// What stands in the collections of a node.
type Standing = BTreeMap<At, String>;

impl Book {
    /// Panics unless what stands is what was acknowledged last, or was asked for after it.
    fn check(&self, standing: &Standing) {
        for (at, writes) in &self.own {
            let last = writes.iter().rposition(|(_, acknowledged)| *acknowledged);
            let after = &writes[last.unwrap_or(0)..];
            let value = standing.get(at).map(|text| text.parse().expect("a number"));
            let explained = after.iter().any(|(written, _)| *written == value);
            let nothing_yet = last.is_none() && value.is_none();
            assert!(explained || nothing_yet, "{at:?} is {value:?}, written were {after:?}");
        }
        for (at, once) in &self.once {
            match once {
                Once::Written(by) => {
                    assert!(standing.contains_key(at), "{at:?} of node {by} is lost");
                }
                Once::Removed => assert!(!standing.contains_key(at), "{at:?} has come back"),
                Once::Unknown => {}
            }
        }
    }
}

/// Ends the writers' work: all nodes come to hold the same, it is what was acknowledged, and nobody is
/// accused of anything.
pub(super) fn check_all(voters: &Voters, book: &Book) {
    wait_same(voters, Instant::now(), Duration::from_secs(60));
    for node in &voters.nodes {
        book.check(&standing(&node.door, &COLLECTIONS));
        let shared = node.door.json("GET", "/v1/shared", &Value::Null);
        for one in shared["collections"].as_array().expect("collections") {
            assert_eq!(one["accused"], serde_json::json!([]), "{}: {one}", node.name);
        }
    }
    let removed = book.once.values().filter(|once| **once == Once::Removed).count();
    println!(
        "{} writes and removals acknowledged, {} without an answer; {} keys of one writer, {removed} of {} \
         removed by another",
        book.acknowledged,
        book.open,
        book.own.len(),
        book.once.len()
    );
    assert!(removed > 0, "nothing was removed by another: nothing was shown");
}

/// The digest of each collection that a node knows, and the number of its checkpoint.
fn digests(door: &Door) -> BTreeMap<String, (String, u64)> {
    let shared = door.json("GET", "/v1/shared", &Value::Null);
    let of = |one: &Value| {
        let text = |what: &str| one[what].as_str().expect("a text").to_owned();
        (text("name"), (text("root"), one["checkpoint"].as_u64().expect("a number")))
    };
    shared["collections"].as_array().expect("collections").iter().map(of).collect()
}

/// Waits until all nodes have the same digests; how long it took since `began`.
pub(super) fn wait_same(voters: &Voters, began: Instant, patience: Duration) -> Duration {
    loop {
        let all: Vec<_> = voters.nodes.iter().map(|node| digests(&node.door)).collect();
        if all.iter().all(|one| *one == all[0]) {
            return began.elapsed();
        }
        if began.elapsed() > patience {
            let lags = voters.nodes.iter().map(|node| {
                let lag = node.door.json("GET", "/v1/shared/lag", &Value::Null);
                let log = node.log();
                let end: Vec<&str> = log.lines().rev().take(30).collect();
                format!("{}: {lag}\n{}", node.name, end.join("\n"))
            });
            let lags: Vec<_> = lags.collect();
            panic!("the digests stay different: {all:#?}\n{}", lags.join("\n---\n"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What stands at all keys of these collections at a node.
fn standing(door: &Door, collections: &[&'static str]) -> Standing {
    let mut all = Standing::new();
    for name in collections {
        let mut after = String::new();
        loop {
            let path = format!("/v1/shared/{name}/keys?limit=1000{after}");
            let page = door.json("GET", &path, &Value::Null);
            for entry in page["entries"].as_array().expect("entries") {
                let key = entry["key"].as_str().expect("a key").to_owned();
                let value = entry["value"].as_str().expect("the value has come").to_owned();
                all.insert((name, key), value);
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
    }
    all
}

const LOOK_EVERY: Duration = Duration::from_millis(100);
