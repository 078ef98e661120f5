//! Queries by the command line and the API.

use std::collections::BTreeSet;

use serde_json::Value;

use super::http::{post, send};
use super::node::Node;

fn events(body: &str) -> Vec<(String, Value)> {
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name));
        line.map(|text| text.trim().to_owned())
    };
    let event = |block: &str| {
        let data = field(block, "data:")?;
        Some((field(block, "event:")?, serde_json::from_str(&data).expect("JSON")))
    };
    body.split("\n\n").filter_map(event).collect()
}

#[test]
fn events_tell_of_each_source_once_and_end_with_the_answer() {
    let (lab, clinic) = (Node::start("lab"), Node::start("clinic"));
    lab.import("notes", "{\"id\":\"lab:1\",\"text\":\"the moth and the moon\"}\n");
    clinic.import("notes", "{\"id\":\"clinic:1\",\"text\":\"the moon\"}\n");
    lab.admit(&clinic);
    let answer = send(
        &clinic,
        "POST",
        "/v1/queries",
        &["Accept: text/event-stream"],
        b"{\"text\":\"moon\"}",
    );
    assert_eq!(answer.status, 200);
    assert!(answer.head.to_lowercase().contains("content-type: text/event-stream"), "{answer:?}");
    let events = events(&answer.body);
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["source", "source", "done"]);
    let told: BTreeSet<&str> = events[..2].iter().filter_map(|e| e.1["source"].as_str()).collect();
    assert_eq!(told, BTreeSet::from(["clinic", "lab"]));
    let done = &events[2].1;
    assert_eq!((&done["schema"], &done["complete"]), (&"exo.query/1".into(), &true.into()));
    assert_eq!(done["results"].as_array().map(Vec::len), Some(2));
    assert_eq!(done["min_sources_met"], true);
    let few = post(&clinic, "/v1/queries", "{\"text\":\"moon\",\"min_sources\":3}");
    assert_eq!((few.status, &few.json()["min_sources_met"]), (200, &false.into()));
    // An error before the first event is a problem, not a stream.
    let refused = send(&clinic, "POST", "/v1/queries", &["Accept: text/event-stream"], b"{}");
    assert_eq!(refused.problem(), (400, "invalid-query".into()));
}

#[test]
fn rows_are_answered_in_order_and_like_finds_the_record_itself() {
    let node = Node::start("lab");
    let rows: u16 = 40;
    let lines: String =
        (0..rows).map(|n| format!("{{\"id\":\"v:{n}\",\"title\":\"t{n}\"}}\n")).collect();
    let file = node.write("v.jsonl", &lines);
    let unit = |n: u16| {
        let angle = f32::from(n) / f32::from(rows) * 3.0;
        [angle.cos(), angle.sin()]
    };
    let vectors: Vec<f32> = (0..rows).flat_map(unit).collect();
    let npy = node.file("v.npy");
    std::fs::write(&npy, npy_f32(usize::from(rows), &vectors)).expect("written");
    let npy = npy.to_str().expect("path");
    node.json(&["import", &file, "--into", "v", "--vectors", npy]);

    let output = node.run(&["query", "--vectors", npy, "--top", "3", "--scope", "local", "--json"]);
    let text = String::from_utf8(output.stdout).expect("text");
    let answers: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), usize::from(rows));
    for (row, answer) in answers.iter().enumerate() {
        assert_eq!(answer["query"], row);
        assert_eq!(answer["results"][0]["id"], format!("v:{row}"));
        assert_eq!(answer["results"].as_array().map(Vec::len), Some(3));
    }
    let like = node.json(&[
        "query",
        "--like",
        "v:7",
        "--collection",
        "v",
        "--top",
        "1",
        "--scope",
        "local",
    ]);
    assert_eq!(like["results"][0]["id"], "v:7");
    assert!((like["results"][0]["score"].as_f64().expect("a score") - 1.0).abs() < 1e-6);

    // Other dimensions are a refusal by the source that has none such, not a crash.
    let wrong = post(&node, "/v1/queries", "{\"vector\":[1.0,2.0,3.0],\"scope\":\"local\"}");
    assert_eq!(wrong.status, 200);
    assert_eq!(wrong.json()["sources"][0]["status"], "declined", "{wrong:?}");
    let cut = &npy_f32(usize::from(rows), &vectors)[..200];
    std::fs::write(node.file("cut.npy"), cut).expect("written");
    let cut = node.file("cut.npy");
    let output = node.run(&["query", "--vectors", cut.to_str().expect("path")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cut.npy"));
}

#[test]
fn filters_narrow_what_is_found() {
    let node = Node::start("lab");
    node.import(
        "notes",
        concat!(
            "{\"id\":\"1\",\"text\":\"moth\",\"year\":1900,\"tag\":[\"a\",\"b\"]}\n",
            "{\"id\":\"2\",\"text\":\"moth\",\"year\":1950,\"lang\":\"en\"}\n",
            "{\"id\":\"3\",\"text\":\"moth moth\",\"year\":2000,\"lang\":\"de\"}\n",
        ),
    );
    let found = |filters: &[&str]| -> BTreeSet<String> {
        let mut args = vec!["query", "moth", "--scope", "local"];
        for filter in filters {
            args.extend(["--filter", filter]);
        }
        let answer = node.json(&args);
        let results = answer["results"].as_array().expect("results").clone();
        results.iter().filter_map(|r| r["id"].as_str().map(str::to_owned)).collect()
    };
    let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(found(&["year>=1950"]), set(&["2", "3"]));
    assert_eq!(found(&["year>=1950", "lang!=de"]), set(&["2"]));
    assert_eq!(found(&["lang=in:en,de"]), set(&["2", "3"]));
    assert_eq!(found(&["tag=b"]), set(&["1"]));
    assert_eq!(found(&["year<1900"]), set(&[]));
}

#[test]
fn text_of_others_cannot_drive_the_terminal() {
    let node = Node::start("lab");
    node.import(
        "notes",
        "{\"id\":\"1\",\"title\":\"moth \\u001b[2J\\u009b31m\",\"text\":\"moth\\u202e\\r\\n\\u0007x\"}\n",
    );
    let local = ["query", "moth", "--scope", "local"];
    for more in [&[][..], &["--json"], &["--explain"]] {
        let args = [&local[..], more].concat();
        let output = node.run(&args);
        assert!(output.status.success());
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        assert!(text.contains("moth"), "{text}");
        let acts = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{202e}';
        assert_eq!(text.chars().find(acts), None, "{text:?}");
    }
    // The value in JSON is what it was.
    let title = node.json(&local)["results"][0]["title"].clone();
    assert_eq!(title, "moth \u{1b}[2J\u{9b}31m");
}

#[test]
fn a_policy_keeps_back_what_it_says() {
    let (lab, clinic) = (Node::start("lab"), Node::start("clinic"));
    lab.import("open", "{\"id\":\"o:1\",\"title\":\"T\",\"text\":\"moth one\",\"k\":\"v\"}\n");
    let file = lab.write("p.jsonl", "{\"id\":\"p:1\",\"text\":\"moth two\"}\n");
    lab.json(&["import", &file, "--into", "own", "--private"]);
    lab.admit(&clinic);
    let seen = |node: &Node| -> Vec<String> {
        let answer = node.json(&["query", "moth"]);
        let results = answer["results"].as_array().expect("results").clone();
        results.iter().filter_map(|r| r["id"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(seen(&clinic), ["o:1"]);
    assert_eq!(seen(&lab).len(), 2, "its own users see both");
    lab.json(&["collection", "policy", "open", "--fields", "title"]);
    let result = &clinic.json(&["query", "moth"])["results"][0];
    assert_eq!((&result["title"], &result["text"]), (&"T".into(), &"".into()));
    assert_eq!(result["metadata"], serde_json::json!({}));
    lab.json(&["collection", "policy", "open", "--readers", "nobody"]);
    assert!(seen(&clinic).is_empty());
    lab.json(&["collection", "policy", "open", "--readers", "clinic"]);
    assert_eq!(seen(&clinic), ["o:1"]);
}

fn npy_f32(rows: usize, numbers: &[f32]) -> Vec<u8> {
    let dimensions = numbers.len() / rows;
    let head =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimensions}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((head.len() as u16).to_le_bytes());
    bytes.extend(head.as_bytes());
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes
}
