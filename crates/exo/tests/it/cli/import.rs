//! Imports: checked before anything is written, resumable, and replacing by id.

use std::process::Stdio;

use super::http::{post, send};
use super::node::{Node, exo, until};

fn lines(rows: usize, text: &str) -> String {
    (0..rows).map(|n| format!("{{\"id\":\"r:{n}\",\"text\":\"{text} {n}\"}}\n")).collect()
}

#[test]
fn a_faulty_file_is_refused_with_its_row_and_nothing_is_imported() {
    let node = Node::start("lab");
    let bad = lines(700, "moth") + "{\"id\":\"r:5\",\"text\":\"again\"}\n";
    for (text, says) in [
        (bad.as_str(), "row 701"),
        ("{\"id\":\"a\"}\nnot json\n", "row 2"),
        ("", "holds no record"),
    ] {
        let file = node.write("bad.jsonl", text);
        let output = node.run(&["import", &file, "--into", "notes", "--json"]);
        assert_eq!(output.status.code(), Some(1));
        let error: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(error["code"], "import-invalid");
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains(says) && message.contains("bad.jsonl"), "{message}");
        let shown = node.run(&["collection", "show", "notes"]);
        assert_eq!(shown.status.code(), Some(4), "the collection was made");
    }
}

#[test]
fn an_import_goes_on_where_it_stopped_and_replaces_when_run_again() {
    let node = Node::start("lab");
    let file = node.write("r.jsonl", &lines(1200, "moth"));
    let first = node.json(&["import", &file, "--into", "notes"]);
    assert_eq!((&first["inserted"], &first["resumed_from"]), (&1200.into(), &0.into()));
    let again = node.json(&["import", &file, "--into", "notes"]);
    assert_eq!((&again["inserted"], &again["replaced"]), (&0.into(), &1200.into()));

    // As an import leaves it that was stopped after its first batch.
    let file = node.write("s.jsonl", &lines(1200, "wasp"));
    let mut child = exo()
        .arg("--data-dir")
        .arg(node.dir())
        .args(["import", &file, "--into", "wasps"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    until("some rows are written", || {
        let shown = node.run(&["collection", "show", "wasps", "--json"]);
        let document: Result<serde_json::Value, _> = serde_json::from_slice(&shown.stdout);
        document.is_ok_and(|d| d["records"].as_u64().is_some_and(|n| n > 0))
    });
    let _ = child.kill();
    let _ = child.wait();
    let rest = node.json(&["import", &file, "--into", "wasps"]);
    let written = |d: &serde_json::Value| {
        d["inserted"].as_u64().unwrap_or(0) + d["replaced"].as_u64().unwrap_or(0)
    };
    let resumed = rest["resumed_from"].as_u64().expect("a number");
    assert!(resumed == 0 || written(&rest) == 1200 - resumed, "{rest}");
    assert_eq!(node.json(&["collection", "show", "wasps"])["records"], 1200);
}

#[test]
fn acknowledged_rows_survive_a_kill() {
    let mut node = Node::start("lab");
    let id = "ab".repeat(32);
    assert_eq!(post(&node, "/v1/collections", "{\"name\":\"notes\"}").status, 201);
    let body = format!(
        "{{\"records\":[{{\"id\":\"a\",\"text\":\"moth\"}}],\"import\":{{\"id\":\"{id}\",\"rows_done\":1}}}}"
    );
    assert_eq!(post(&node, "/v1/collections/notes/records", &body).status, 200);
    node.restart();
    let progress = send(&node, "GET", &format!("/v1/collections/notes/imports/{id}"), &[], b"");
    assert_eq!(progress.json()["rows_done"], 1);
    let record = send(&node, "GET", "/v1/collections/notes/records/a", &[], b"");
    assert_eq!(record.json()["text"], "moth");
}

#[test]
fn records_that_do_not_fit_are_refused_whole() {
    let node = Node::start("lab");
    assert_eq!(post(&node, "/v1/collections", "{\"name\":\"v\",\"dimensions\":2}").status, 201);
    for (body, code) in [
        (
            "{\"records\":[{\"id\":\"a\",\"vector\":[1,2]},{\"id\":\"b\",\"vector\":[1]}]}",
            "invalid-argument",
        ),
        ("{\"records\":[{\"id\":\"a\",\"vector\":[1,1e39]}]}", "invalid-argument"),
        ("{\"records\":[{\"id\":\"\",\"vector\":[1,2]}]}", "invalid-argument"),
        ("{\"records\":[{\"id\":\"a\",\"metadata\":{\"k\":{\"l\":1}}}]}", "invalid-argument"),
        ("{\"records\":[{\"id\":\"a\",\"txt\":\"x\"}]}", "invalid-argument"),
        ("{\"records\":[],\"import\":{\"id\":\"xx\",\"rows_done\":1}}", "invalid-argument"),
    ] {
        let answer = post(&node, "/v1/collections/v/records", body);
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert_eq!(answer.problem().1, code, "{body}");
    }
    let many: Vec<String> = (0..1001).map(|n| format!("{{\"id\":\"{n}\"}}")).collect();
    let body = format!("{{\"records\":[{}]}}", many.join(","));
    assert_eq!(post(&node, "/v1/collections/v/records", &body).problem().0, 400);
    assert_eq!(node.json(&["collection", "show", "v"])["records"], 0);
}

#[test]
fn private_records_do_not_go_into_a_shared_collection() {
    let node = Node::start("lab");
    node.import("notes", "{\"id\":\"a\",\"text\":\"x\"}\n");
    let file = node.write("p.jsonl", "{\"id\":\"secret\",\"text\":\"x\"}\n");
    let output = node.run(&["import", &file, "--into", "notes", "--private"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(node.json(&["collection", "show", "notes"])["records"], 1);
}
