//! The JSON shapes that scripts rely on: names and order of their fields.

use serde_json::Value;

use super::node::{Node, exo, run};

/// Keys of an object in the order they were printed.
pub(super) fn keys(text: &str) -> Vec<String> {
    // serde_json keeps an object's order only in its text: look for the keys at the first depth.
    let (mut depth, mut keys, mut rest) = (0, Vec::new(), text.char_indices().peekable());
    while let Some((at, c)) = rest.next() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            '"' => {
                let mut end = at + 1;
                let mut escaped = false;
                for (next, c) in rest.by_ref() {
                    end = next;
                    match c {
                        '\\' if !escaped => escaped = true,
                        '"' if !escaped => break,
                        _ => escaped = false,
                    }
                }
                if depth == 1 && text[end + 1..].starts_with(':') {
                    keys.push(text[at + 1..end].to_owned());
                }
            }
            _ => {}
        }
    }
    keys
}

fn printed(node: &Node, args: &[&str]) -> String {
    let output = node.run(&[args, &["--json"]].concat());
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
}

#[test]
fn init_invite_query_and_import_keep_their_shapes() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("data");
    let free = "127.0.0.1:0";
    let made =
        run(&dir, &["init", "--name", "x", "--mesh-listen", free, "--api-listen", free, "--json"]);
    let text = String::from_utf8(made.stdout).expect("text");
    assert_eq!(
        keys(&text),
        ["schema", "name", "peer", "words", "mesh_listen", "api_listen"],
        "{text}"
    );
    let init: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&init["schema"], &init["name"]), (&"exo.init/1".into(), &"x".into()));
    assert_eq!(init["words"].as_array().map(Vec::len), Some(4));
    assert_eq!(init["peer"].as_str().map(str::len), Some(52));

    let node = Node::start("lab");
    let text = printed(&node, &["invite", "new", "--expires", "1h"]);
    assert_eq!(keys(&text), ["schema", "id", "ticket", "expires"], "{text}");
    let invite: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(invite["schema"], "exo.invite/1");
    let ticket = invite["ticket"].as_str().expect("a ticket");
    assert!(ticket.starts_with("exo1") && (134..=172).contains(&ticket.len()), "{ticket}");

    let file =
        node.write("r.jsonl", "{\"id\":\"a:1\",\"title\":\"T\",\"text\":\"the moth\",\"n\":1}\n");
    let text = printed(&node, &["import", &file, "--into", "notes"]);
    let expected =
        ["schema", "collection", "records", "inserted", "replaced", "resumed_from", "elapsed_ms"];
    assert_eq!(keys(&text), expected, "{text}");

    let text = printed(&node, &["query", "moth"]);
    assert_eq!(
        keys(&text),
        ["schema", "query", "results", "sources", "complete", "elapsed_ms"],
        "{text}"
    );
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&answer["schema"], &answer["query"]), (&"exo.query/1".into(), &0.into()));
    let result = keys(&text[text.find("{\"peer\"").expect("a result")..]);
    let fields =
        ["peer", "source", "collection", "id", "score", "title", "text", "metadata", "also"];
    assert_eq!(result[..fields.len()], fields, "{text}");
    assert_eq!(answer["results"][0]["id"], "a:1");
    assert_eq!(answer["results"][0]["metadata"]["n"], 1);
    let source = &text[text.find("\"sources\":[").expect("sources") + 11..];
    let fields = ["peer", "source", "status", "count", "elapsed_ms", "detail"];
    assert_eq!(keys(source)[..fields.len()], fields, "{text}");
}

#[test]
fn every_other_document_names_its_schema() {
    let node = Node::start("lab");
    node.import("notes", "{\"id\":\"a:1\",\"text\":\"x\"}\n");
    for (args, schema) in [
        (&["status"][..], "exo.status/1"),
        (&["peers", "list"], "exo.peers/1"),
        (&["invite", "list"], "exo.invites/1"),
        (&["collection", "list"], "exo.collections/1"),
        (&["collection", "show", "notes"], "exo.collection/1"),
        (&["collection", "policy", "notes", "--readers", "nobody"], "exo.collection/1"),
        (&["collection", "add", "more"], "exo.collection/1"),
        (&["collection", "drop", "more"], "exo.collection-dropped/1"),
        (&["shared", "list"], "exo.shared-collections/1"),
        (&["shared", "lag"], "exo.shared-lag/1"),
        (&["doctor"], "exo.doctor/1"),
        (&["config", "check"], "exo.config-check/1"),
        (&["config", "show", "--origin"], "exo.config/1"),
        (&["errors", "busy"], "exo.error-code/1"),
    ] {
        let document = node.json(args);
        assert_eq!(document["schema"], schema, "{args:?}");
    }
    let listed = node.json(&["collection", "show", "notes"]);
    assert_eq!(listed["policy"]["readers"], "nobody");
    assert_eq!(listed["policy"]["fields"], serde_json::json!(["title", "text", "metadata"]));
}

#[test]
fn an_error_is_a_document_on_standard_output_and_text_on_standard_error() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("data");
    let output = run(&dir, &["status", "--json"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(keys(&text), ["schema", "code", "message", "remedy", "retryable"], "{text}");
    let error: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&error["schema"], &error["code"]),
        (&"exo.error/1".into(), &"not-initialised".into())
    );
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert!(stderr.starts_with("error[not-initialised]: "), "{stderr}");
    assert!(stderr.contains("\n  help: "), "{stderr}");
    let plain = run(&dir, &["status"]);
    assert!(plain.stdout.is_empty(), "without --json an error is no data");

    // A command line that does not parse is a document too.
    let output = exo().args(["query", "--top", "0", "x", "--json"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    let error: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(error["code"], "invalid-argument");
}
