//! The logs that the nodes hold, entry by entry, and the proofs of what is in them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use exo_log::{CommitProof, Note, Policy};
use serde_json::Value;

use super::clients::{Clients, MARK, latencies};
use super::door::{Door, Reached};
use super::history::{Append, check};
use super::voters::Voters;

/// All certified entries of a node's log, seals and all, by the files that it serves.
pub(super) fn entries(door: &Door) -> Vec<Vec<u8>> {
    let note = Note::parse(&door.bytes("GET", "/v1/log/checkpoint", &[])).expect("a signed note");
    let size: u64 = note.text().lines().nth(1).and_then(|line| line.parse().ok()).expect("a size");
    let mut entries = Vec::new();
    for number in 0..size.div_ceil(TILE) {
        let width = TILE.min(size - number * TILE);
        let part = if width < TILE { format!(".p/{width}") } else { String::new() };
        let path = format!("/v1/log/tile/entries/{}{part}", path_of(number));
        let mut bundle = door.bytes("GET", &path, &[]).into_iter();
        while let (Some(high), Some(low)) = (bundle.next(), bundle.next()) {
            let entry: Vec<u8> =
                bundle.by_ref().take(usize::from(u16::from_be_bytes([high, low]))).collect();
            entries.push(entry);
        }
    }
    assert_eq!(entries.len() as u64, size, "the bundles hold the log");
    entries
}

/// A tile's number in its path (c2sp.org/tlog-tiles).
fn path_of(number: u64) -> String {
    let mut path = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

/// The clients' statements in a log, each with its index.
pub(super) fn statements(entries: &[Vec<u8>]) -> Vec<(u64, String)> {
    let id = |entry: &Vec<u8>| {
        let at = entry.windows(MARK.len()).position(|part| part == MARK.as_bytes())?;
        let end = entry[at..].iter().position(|byte| *byte == b';')?;
        String::from_utf8(entry[at..=at + end].to_vec()).ok()
    };
    (0..).zip(entries).filter_map(|(index, entry)| Some((index, id(entry)?))).collect()
}

/// Ends the clients, waits until all nodes have the whole log, and checks everything there is to check:
/// no log contradicts another, the history is that of an append-only log, every acknowledged statement
/// has a proof that holds. Gives the history.
pub(super) fn check_all(voters: &Voters, clients: Clients, before: &[Vec<Vec<u8>>]) -> Vec<Append> {
    let appends = clients.finish();
    let size = voters.wait_same();
    let logs: Vec<_> = voters.nodes.iter().map(|node| entries(&node.door)).collect();
    for log in logs.iter().chain(before) {
        let longest = logs.iter().max_by_key(|log| log.len()).expect("a log");
        assert!(longest.starts_with(log), "two logs contradict each other");
    }
    assert!(logs.iter().all(|log| log.len() as u64 == size), "a log is not whole");
    if let Err(violation) = check(&appends, &statements(&logs[0])) {
        panic!("no append-only log explains what the clients saw: {violation:?}");
    }
    let proofs = check_proofs(voters, &appends, &logs[0]);
    let (acknowledged, median, most) = latencies(&appends);
    println!(
        "{acknowledged} of {} appends acknowledged in {median:.1} ms (median), {most:.0} ms at most; \
         {size} entries; {proofs} proofs hold",
        appends.len()
    );
    appends
}

/// Checks the proof of every acknowledged append, fetched from the nodes in turn; how many.
fn check_proofs(voters: &Voters, appends: &[Append], log: &[Vec<u8>]) -> usize {
    let indices: Vec<u64> =
        appends.iter().filter_map(|append| Some(append.acknowledged?.index)).collect();
    let policies = policies(&voters.nodes[0].door);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for node in &voters.nodes {
            scope.spawn(|| {
                while let Some(index) = indices.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let path = format!("/v1/decisions/{index}/proof");
                    let file = node.door.bytes("GET", &path, &[]);
                    let proof = CommitProof::from_bytes(&file).expect("a proof's file");
                    assert_eq!(proof.index(), *index);
                    let entry = &log[usize::try_from(*index).expect("an index")];
                    let mut tried = policies.values();
                    let holds = tried.find_map(|policy| proof.verify(policy, Some(entry)).ok());
                    assert!(holds.is_some(), "the proof of {index} does not hold");
                }
            });
        }
    });
    indices.len()
}

/// The policies of all epochs. A proof is by the voters of the newest certificate, which may be of any of
/// them.
fn policies(door: &Door) -> BTreeMap<u64, Policy> {
    let newest = door.consensus()["epoch"].as_u64().expect("an epoch");
    let policy = |epoch: u64| {
        let text = door.bytes("GET", &format!("/v1/decisions/policy?epoch={epoch}"), &[]);
        (epoch, Policy::parse(&text).expect("a policy"))
    };
    (0..=newest).map(policy).collect()
}

/// Whether the node says of itself that it does not decide any more.
pub(super) fn halted(consensus: &Value) -> bool {
    consensus["role"] == "halted"
}

/// The code with which a node refuses to commit a statement in so many milliseconds; `None` where it
/// commits.
pub(super) fn refusal(door: &Door, statement: &str, deadline_ms: u64) -> Option<String> {
    let statement = data_encoding::BASE64.encode(statement.as_bytes());
    let body = serde_json::json!({"statement": statement, "deadline_ms": deadline_ms}).to_string();
    let wait = std::time::Duration::from_millis(deadline_ms + 5_000);
    match door.ask("POST", "/v1/decisions", body.as_bytes(), wait) {
        Reached::Answer(200, _) => None,
        Reached::Answer(_, problem) => {
            let problem: Value = serde_json::from_slice(&problem).expect("JSON");
            Some(problem["code"].as_str().expect("a code").to_owned())
        }
        other => panic!("{other:?}"),
    }
}

/// Entries of a full tile.
const TILE: u64 = 256;
