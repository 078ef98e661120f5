//! What members share, from the command line: with two nodes, and declared by four voters.

use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};

use serde_json::Value;

use super::commit::four;
use super::http::{Answer, send};
use super::node::{Node, exo, until};
use super::shapes::keys;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn refused(node: &Node, args: &[&str], exit: i32, code: &str) {
    let output = node.run(args);
    assert_eq!(output.status.code(), Some(exit), "{args:?}: {}", said(&output));
    assert!(said(&output).contains(&format!("error[{code}]")), "{args:?}: {}", said(&output));
}

/// What a node prints of a key: exactly its bytes.
fn get(node: &Node, collection: &str, key: &str) -> Vec<u8> {
    let output = node.run(&["shared", "get", collection, key]);
    if output.status.success() { output.stdout } else { Vec::new() }
}

fn two() -> (Node, Node) {
    let (ada, bob) = (Node::start("ada"), Node::start("bob"));
    ada.admit(&bob);
    (ada, bob)
}

#[test]
fn a_command_that_cannot_be_meant_is_refused_before_any_node_is_asked() {
    let long = "x".repeat(64 * 1024 + 1);
    for args in [
        &["shared"][..],
        &["shared", "put", "notes", "k"],
        &["shared", "put", "notes", "k", "v", "--file", "f"],
        &["shared", "put", "no name", "k", "v"],
        &["shared", "put", "notes", "k", &long],
        &["shared", "list", "notes", "--limit", "0"],
        &["shared", "list", "--prefix", "x"],
        &["shared", "declare", "notes"],
        &["shared", "declare", "notes", "--kind", "some"],
        &["commit", "propose", "--admit-needs", "0"],
        &["commit", "propose", "--admit-needs", "33"],
        &["commit", "propose", "--admit-needs", "2", "--statement", "x"],
    ] {
        let output = exo().env("EXO_DATA_DIR", "/nonexistent").args(args).output().expect("runs");
        assert_eq!(output.status.code(), Some(2), "{:?}: {}", args[1], said(&output));
    }
}

#[test]
fn a_node_alone_has_nobody_to_share_with() {
    let node = Node::start("lab");
    refused(&node, &["shared", "put", "notes", "k", "v"], 1, "not-a-member");
    refused(&node, &["shared", "watch", "notes"], 1, "not-a-member");
    refused(&node, &["shared", "declare", "notes", "--kind", "grow-only"], 8, "insufficient-peers");
    assert_eq!(node.json(&["shared", "list"])["collections"], serde_json::json!([]));
    for code in ["shared-not-found", "shared-key-not-found", "shared-denied", "value-too-long"] {
        assert_eq!(node.json(&["errors", code])["code"], code);
    }
}

#[test]
fn what_one_node_puts_the_other_gets_and_both_hold_the_same() {
    let (ada, bob) = two();
    let output = ada.run(&["shared", "put", "notes", "moon/1", "far\nand cold", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).expect("text");
    let fields =
        ["schema", "collection", "key", "value", "encoding", "author", "author_name", "at"];
    assert_eq!(keys(&text), fields, "{text}");
    until("the other has it", || get(&bob, "notes", "moon/1") == b"far\nand cold");
    let entry = bob.json(&["shared", "get", "notes", "moon/1"]);
    assert_eq!(entry, serde_json::from_str::<Value>(&text).expect("JSON"));
    assert_eq!((&entry["schema"], &entry["author_name"]), (&"exo.shared/1".into(), &"ada".into()));
    assert_eq!((&entry["encoding"], &entry["author"]), (&"text".into(), &ada.ready["peer"]));

    // Bytes that are no text arrive as they were, from a file and from standard input.
    let bytes: Vec<u8> = (0..=255).collect();
    let file = bob.file("bytes");
    std::fs::write(&file, &bytes).expect("written");
    let put = bob.run(&["shared", "put", "notes", "bytes", "--file", file.to_str().expect("path")]);
    assert!(put.status.success(), "{}", said(&put));
    let put = bob.run_with_stdin(&["shared", "put", "notes", "moon/2", "--file", "-"], "near\n");
    assert!(put.status.success(), "{}", said(&put));
    until("the first has both", || {
        get(&ada, "notes", "bytes") == bytes && get(&ada, "notes", "moon/2") == b"near\n"
    });
    assert_eq!(ada.json(&["shared", "get", "notes", "bytes"])["encoding"], "base64");

    let listed = ada.run(&["shared", "list", "notes", "--prefix", "moon/", "--json"]);
    let text = String::from_utf8(listed.stdout).expect("text");
    let entries: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let keys: Vec<&str> = entries.iter().filter_map(|entry| entry["key"].as_str()).collect();
    assert_eq!(keys, ["moon/1", "moon/2"], "{text}");
    assert!(entries.iter().all(|entry| entry["schema"] == "exo.shared/1"), "{text}");
    let first = ada.run(&["shared", "list", "notes", "--limit", "1"]);
    let text = String::from_utf8_lossy(&first.stdout).into_owned();
    assert!(text.contains("bytes") && !text.contains("moon"), "{text}");
    assert!(said(&first).contains("more after bytes"), "{}", said(&first));

    // The digests agree, and each knows it of the other.
    until("both are in step", || {
        let root = |node: &Node| node.json(&["shared", "list"])["collections"][0]["root"].clone();
        let state = |node: &Node| node.json(&["shared", "lag"])["lag"][0]["state"].clone();
        root(&ada) == root(&bob) && state(&ada) == "in-step" && state(&bob) == "in-step"
    });
    let status = bob.json(&["status"]);
    assert_eq!(status["shared"]["collections"][0]["name"], "notes");
    assert_eq!(status["shared"]["lag"][0]["name"], "ada");
    let people = String::from_utf8(bob.run(&["status"]).stdout).expect("text");
    assert!(people.contains("notes: 3 entries; ada in step"), "{people}");
}

#[test]
fn what_is_removed_or_erased_is_gone_at_both_nodes_and_exits_with_4() {
    let (ada, bob) = two();
    for key in ["secret", "old"] {
        assert!(ada.run(&["shared", "put", "notes", key, "x1"]).status.success());
        until("the other has it", || get(&bob, "notes", key) == b"x1");
    }
    let removed = bob.json(&["shared", "rm", "notes", "old"]);
    assert_eq!(
        (&removed["schema"], &removed["removed"]),
        (&"exo.shared-removed/1".into(), &true.into())
    );
    until("it is gone at the author's", || {
        ada.run(&["shared", "get", "notes", "old"]).status.code() == Some(4)
    });
    refused(&ada, &["shared", "get", "notes", "old"], 4, "shared-key-not-found");
    assert_eq!(ada.json(&["shared", "rm", "notes", "old"])["removed"], false);

    let erased = ada.json(&["shared", "erase", "notes", "secret"]);
    assert_eq!((&erased["schema"], &erased["erased"]), (&"exo.shared-erased/1".into(), &1.into()));
    for node in [&ada, &bob] {
        until("its bytes are destroyed", || {
            let output = node.run(&["shared", "get", "notes", "secret", "--json"]);
            let entry: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            output.status.code() == Some(4) && entry["value"].is_null()
        });
        refused(node, &["shared", "get", "notes", "secret"], 4, "shared-key-not-found");
        refused(node, &["shared", "get", "none", "k"], 4, "shared-not-found");
        refused(node, &["shared", "list", "none"], 4, "shared-not-found");
    }
}

#[test]
fn a_watcher_is_told_of_what_the_other_writes_and_removes() {
    let (ada, bob) = two();
    assert!(bob.run(&["shared", "put", "notes", "first", "1"]).status.success());
    let mut watch = exo();
    watch.arg("--data-dir").arg(bob.dir()).args(["shared", "watch", "notes", "--all", "--json"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().expect("starts");
    let mut seen = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let mut next = || -> Value {
        serde_json::from_str(&seen.next().expect("a line").expect("text")).expect("JSON")
    };
    // Once it has printed what stands there, it watches.
    assert_eq!((&next()["key"], ()), (&"first".into(), ()));
    assert!(ada.run(&["shared", "put", "notes", "second", "2"]).status.success());
    let second = next();
    assert_eq!((&second["schema"], &second["value"]), (&"exo.shared/1".into(), &"2".into()));
    assert_eq!(second["author_name"], "ada");
    until("it can be removed where it was written", || get(&ada, "notes", "first") == b"1");
    assert!(ada.run(&["shared", "rm", "notes", "first"]).status.success());
    let gone = next();
    assert_eq!((&gone["key"], &gone["removed"]), (&"first".into(), &true.into()));
    assert!(gone["value"].is_null() && gone["author"].is_null(), "{gone}");
    let _ = watch.kill();
    let _ = watch.wait();
}

#[test]
fn the_api_takes_bytes_and_json_and_says_what_is_wrong_with_others() {
    let (ada, _bob) = two();
    let put = |key: &str, kind: &str, body: &[u8]| -> Answer {
        let kind = format!("Content-Type: {kind}");
        send(&ada, "PUT", &format!("/v1/shared/lag/keys/{key}"), &[&kind], body)
    };
    // A collection may be called as a route is.
    for (key, kind, body, value, encoding) in [
        ("a", "application/octet-stream", &[0xff_u8][..], "/w==", "base64"),
        ("b", "text/plain; charset=utf-8", b"moth", "moth", "text"),
        ("c", "application/json", br#"{"value":"/w==","encoding":"base64"}"#, "/w==", "base64"),
        ("d%2Fe", "application/json", br#"{"value":"moth"}"#, "moth", "text"),
    ] {
        let answer = put(key, kind, body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let entry = answer.json();
        assert_eq!((&entry["value"], &entry["encoding"]), (&value.into(), &encoding.into()));
    }
    for (kind, body, status, code) in [
        ("application/json", &b"\"moth\""[..], 400, "invalid-argument"),
        ("application/json", br#"{"value":"?","encoding":"base64"}"#, 400, "invalid-argument"),
        ("application/json", br#"{"value":"x","more":1}"#, 400, "invalid-argument"),
        ("image/png", b"x", 415, "invalid-argument"),
        ("text/plain", &[b'x'; 64 * 1024 + 1], 413, "value-too-long"),
        ("text/plain", &[b'x'; 256 * 1024 + 1], 413, "body-too-large"),
    ] {
        assert_eq!(put("k", kind, body).problem(), (status, code.to_owned()), "{kind}");
    }
    let get = |path: &str, more: &[&str]| send(&ada, "GET", path, more, b"");
    let bytes = get("/v1/shared/lag/keys/d%2Fe", &["Accept: application/octet-stream"]);
    assert_eq!((bytes.status, bytes.body.as_str()), (200, "moth"));
    let page = get("/v1/shared/lag/keys?limit=2", &[]).json();
    assert_eq!((&page["entries"][1]["key"], &page["next"]), (&"b".into(), &"b".into()));
    let rest = get("/v1/shared/lag/keys?limit=2&after=b", &[]).json();
    assert_eq!(rest["entries"][1]["key"], "d/e");
    assert_eq!(get("/v1/shared/lag", &[]).json()["schema"], "exo.shared-lag/1");
    for (path, status, code) in [
        ("/v1/shared/lag/keys?limit=0", 400, "invalid-argument"),
        ("/v1/shared/lag/keys?limit=1025", 400, "invalid-argument"),
        ("/v1/shared/lag/keys/none", 404, "shared-key-not-found"),
        ("/v1/shared/none/keys/none", 404, "shared-not-found"),
    ] {
        assert_eq!(get(path, &[]).problem(), (status, code.to_owned()), "{path}");
    }
}

#[test]
fn four_voters_declare_whose_a_collection_is_and_what_admits_a_member() {
    let nodes = four();
    let (ada, bob, cleo) = (&nodes[0], &nodes[1], &nodes[2]);
    let declare = ["shared", "declare", "minutes", "--kind", "last-writer"];
    let whose = ["--readers", "ada,bob", "--writers", "ada"];
    let commit = ada.json(&[&declare[..], &whose].concat());
    assert_eq!((&commit["schema"], &commit["kind"]), (&"exo.commit/1".into(), &"share".into()));
    assert_eq!(commit["outcome"], "effective", "{commit}");
    assert!(ada.run(&["shared", "put", "minutes", "may", "we met"]).status.success());
    until("its reader has it", || get(bob, "minutes", "may") == b"we met");
    // A reader may not write; for others it does not exist.
    refused(bob, &["shared", "put", "minutes", "may", "we did not"], 5, "shared-denied");
    refused(bob, &["shared", "rm", "minutes", "may"], 5, "shared-denied");
    refused(cleo, &["shared", "get", "minutes", "may"], 4, "shared-not-found");
    assert_eq!(cleo.json(&["shared", "list"])["collections"], serde_json::json!([]));
    let listed = bob.json(&["shared", "list"])["collections"][0].clone();
    assert_eq!((&listed["declared"], &listed["writable"]), (&true.into(), &false.into()));
    assert_eq!(listed["writers"][0]["name"], "ada", "{listed}");
    assert_eq!(listed["readers"].as_array().map(Vec::len), Some(2), "{listed}");

    // The kind never changes, and in a collection that only grows nothing is removed.
    let kind = ["shared", "declare", "minutes", "--kind", "grow-only"];
    assert_eq!(ada.run(&kind).status.code(), Some(1));
    ada.json(&["shared", "declare", "seals", "--kind", "grow-only"]);
    until("another knows of it", || {
        bob.json(&["shared", "list"])["collections"][1]["declared"] == true
    });
    assert!(bob.run(&["shared", "put", "seals", "one", "x"]).status.success());
    refused(bob, &["shared", "rm", "seals", "one"], 1, "shared-only-grows");
    refused(
        ada,
        &["shared", "declare", "x", "--kind", "grow-only", "--readers", "nobody"],
        4,
        "peer-not-found",
    );

    // Rules take a quorum.
    let wished = ada.json(&["commit", "propose", "--admit-needs", "2"]);
    assert_eq!((&wished["kind"], &wished["outcome"]), (&"rules".into(), &"wished".into()));
    bob.json(&["commit", "propose", "--admit-needs", "2"]);
    let last = cleo.json(&["commit", "propose", "--admit-needs", "2"]);
    assert_eq!(last["outcome"], "effective", "{last}");
}
