//! Questions through relays between real processes: the answers are those of direct questions, and what
//! the others write and show is the same whoever asked.
//!
//! All crates of this project log at every level here. Those of the transport (quinn, rustls) stay at
//! `info`, where they say nothing of a connection: below it they print each neighbour's packets with its
//! address, which they know as any transport does, and which no default and no document asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use exo_types::PeerId;
use serde_json::Value;

use super::data::{Corpus, write_rows};
use super::fleet::{Fleet, Process};

/// Members. Each asks all others.
const NAMES: [&str; 7] = ["ada", "ben", "cleo", "dora", "emil", "fay", "gus"];
/// Questions by vector, and by words, that each member asks.
const VECTORS: usize = 8;
/// See [`VECTORS`].
const TEXTS: usize = 2;
/// Every level of this project's crates.
const TRACE: &str = "info,exo=trace,exo_types=trace,exo_crypto=trace,exo_substrate=trace,\
                     exo_onion=trace,exo_node=trace,exo_federation=trace";
/// What the API shows whoever looks. The listing of peers is the member directory itself.
const SHOWN: [&str; 6] =
    ["/metrics", "/v1/status", "/v1/collections", "/v1/invites", "/v1/join", "/readyz"];

/// What a process has written and shows.
struct Traces {
    log: Vec<u8>,
    files: BTreeMap<String, Vec<u8>>,
    shown: BTreeMap<&'static str, Vec<u8>>,
}

impl Traces {
    fn of(node: &Process) -> Self {
        let mut files = BTreeMap::new();
        read_all(&node.dir, &node.dir, &mut files);
        let log = files.remove("log").expect("a log");
        let mut shown: BTreeMap<&'static str, Vec<u8>> =
            SHOWN.iter().map(|path| (*path, node.api("GET", path, "").into_bytes())).collect();
        // What a query of its own shows, but for the time it took.
        let local = node.api("POST", "/v1/queries", r#"{"text":"time","scope":"local"}"#);
        let local: Value = serde_json::from_str(&local).expect("JSON");
        let local = format!("{}{}", local["results"], local["complete"]);
        shown.insert("/v1/queries", local.into_bytes());
        Self { log, files, shown }
    }

    /// All that is in `self` and was not in `before`, by where it stands.
    fn since<'a>(&'a self, before: &'a Self) -> Vec<(String, &'a [u8])> {
        assert!(self.log.starts_with(&before.log), "a log only grows");
        let mut new = vec![("log".to_owned(), &self.log[before.log.len()..])];
        let files =
            self.files.iter().filter(|(name, bytes)| before.files.get(*name) != Some(bytes));
        new.extend(files.map(|(name, bytes)| (name.clone(), bytes.as_slice())));
        let shown = self.shown.iter().filter(|(path, body)| before.shown[*path] != **body);
        new.extend(shown.map(|(path, body)| ((*path).to_owned(), body.as_slice())));
        new
    }
}

fn read_all(root: &Path, dir: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).expect("lists") {
        let path = entry.expect("lists").path();
        if path.is_dir() {
            read_all(root, &path, into);
        } else {
            let name = path.strip_prefix(root).expect("is below").to_string_lossy().into_owned();
            into.insert(name, fs::read(&path).expect("reads"));
        }
    }
}

/// The forms in which a process could name another.
fn forms(node: &Process) -> Vec<(&'static str, Vec<u8>)> {
    let (id, mesh) = (node.ready("peer"), node.ready("mesh"));
    let peer: PeerId = id.parse().expect("an id");
    let mesh: std::net::SocketAddr = mesh.parse().expect("an address");
    let raw = peer.as_bytes().to_vec();
    let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    let debug = raw.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    vec![
        ("its id", id.into_bytes()),
        ("the beginning of its id", peer.short().into_bytes()),
        ("its id in hexadecimal", hex.into_bytes()),
        ("its id as numbers", debug.into_bytes()),
        ("its id in bytes", raw),
        ("its address", mesh.to_string().into_bytes()),
        ("its port", format!(":{}", mesh.port()).into_bytes()),
    ]
}

fn holds(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn seven_processes_answer_who_is_unknown_as_who_is_known_and_write_nothing_of_who_asked() {
    let corpus = Corpus::any();
    let fleet = Fleet::start_logging(&NAMES, None, Some(TRACE));
    for (at, node) in fleet.nodes.iter().enumerate() {
        let records = corpus.write_share(fleet.path(), &node.name, at, NAMES.len());
        let file = |ending: &str| {
            fleet.path().join(format!("{}{ending}", node.name)).to_str().expect("path").to_owned()
        };
        let done = node.json(&[
            "import",
            &file(".jsonl"),
            "--into",
            "all",
            "--vectors",
            &file(".f32.npy"),
        ]);
        assert_eq!(done["records"], records);
    }
    let asked = corpus.vectors.iter().take(VECTORS).map(Vec::as_slice);
    write_rows(fleet.path(), "asked", asked.collect::<Vec<_>>().into_iter());
    let asked = fleet.path().join("asked.f32.npy");
    let asked = asked.to_str().expect("path");

    // What each target logged and showed anew, for every asker.
    let mut told: BTreeMap<&str, BTreeSet<Vec<(String, String)>>> = BTreeMap::new();
    let mut pairs = 0;
    for asker in &fleet.nodes {
        let ask = |more: &[&str]| -> Vec<Value> {
            let mut answers = Vec::new();
            for text in corpus.texts.iter().take(TEXTS) {
                answers
                    .extend(asker.query(&[&[text.as_str(), "--deadline", "20s"], more].concat()));
            }
            answers
                .extend(asker.query(&[&["--vectors", asked, "--deadline", "20s"], more].concat()));
            answers
        };
        let direct = ask(&[]);
        let before: Vec<Traces> = fleet.nodes.iter().map(Traces::of).collect();
        let anonymous = ask(&["--anonymous"]);
        // What is late, a second packet or a reply that nobody waits for, comes to its end.
        std::thread::sleep(Duration::from_millis(500));

        assert_eq!(anonymous.len(), VECTORS + TEXTS);
        for (anonymous, direct) in anonymous.iter().zip(&direct) {
            assert_eq!(anonymous["complete"], true, "{}", anonymous["sources"]);
            assert_eq!(direct["complete"], true, "{}", direct["sources"]);
            assert_eq!(direct["results"].as_array().map(Vec::len), Some(10));
            assert_eq!(anonymous["results"], direct["results"]);
        }
        for (target, before) in fleet.nodes.iter().zip(&before) {
            if target.name == asker.name {
                continue;
            }
            let after = Traces::of(target);
            let known = forms(asker);
            // The directory has the asker as it has every member, and so the search would find it.
            assert!(holds(&before.files["state.bin"], &known[4].1), "{}", target.name);
            assert!(holds(&before.log, &known[1].1), "{}", target.name);
            let new = after.since(before);
            for (place, bytes) in &new {
                for (what, form) in &known {
                    assert!(
                        !holds(bytes, form),
                        "{} has {what} of {} in {place}: {}",
                        target.name,
                        asker.name,
                        String::from_utf8_lossy(bytes)
                    );
                }
            }
            // Relays log nothing at any level, so nothing ties what came to what went.
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let new = new.into_iter().filter(|(place, _)| place != "/metrics");
            told.entry(&target.name)
                .or_default()
                .insert(new.map(|(place, bytes)| (place, text(bytes))).collect());
            delivered(target, &after, before);
            pairs += 1;
        }
    }
    assert_eq!(pairs, 42);
    let nothing = BTreeSet::from([vec![("log".to_owned(), String::new())]]);
    for (target, told) in told {
        assert_eq!(told, nothing, "{target} wrote or showed something while others asked");
    }
}

/// The questions have come: one for each by vector, and two for each by words, and each was counted as
/// nothing but a number.
fn delivered(target: &Process, after: &Traces, before: &Traces) {
    let count = |traces: &Traces, fate: &str| -> u64 {
        let text = String::from_utf8_lossy(&traces.shown["/metrics"]).into_owned();
        let name = format!("exo_onion_packets_total{{fate=\"{fate}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.map_or(0, |value| value.trim().parse().expect("a number"))
    };
    let delivered = count(after, "delivered") - count(before, "delivered");
    assert!(delivered >= (VECTORS + 2 * TEXTS) as u64, "{}: {delivered}", target.name);
}
