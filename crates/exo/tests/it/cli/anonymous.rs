//! Anonymous queries as their users give them: options, policies, configuration.

use std::fs;

use serde_json::Value;

use super::node::{Node, init, run};

/// Two members, the first with a record.
fn pair() -> (Node, Node) {
    let (lab, clinic) = (Node::start("lab"), Node::start("clinic"));
    lab.import("notes", "{\"id\":\"lab:1\",\"text\":\"the moth and the moon\"}\n");
    lab.admit(&clinic);
    (lab, clinic)
}

/// With one hop the packet goes to the source itself; a path of more needs more members.
const ASK: [&str; 5] = ["query", "moth", "--anonymous", "--max-hops", "1"];

fn source<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let sources = answer["sources"].as_array().expect("sources");
    sources.iter().find(|source| source["source"] == name).expect("was asked")
}

#[test]
fn a_collection_denies_questions_through_relays_and_allows_them_again() {
    let (lab, clinic) = pair();
    let text = |args: &[&str]| {
        let output = lab.run(args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let answer = clinic.json(&ASK);
    assert_eq!(answer["results"][0]["id"], "lab:1");

    let shown = text(&["collection", "policy", "notes", "--anonymous", "deny"]);
    assert!(shown.contains("questions through relays are declined"), "{shown}");
    assert_eq!(lab.json(&["collection", "show", "notes"])["policy"]["anonymous"], "deny");
    let answer = clinic.json(&ASK);
    let declined = source(&answer, "lab");
    assert_eq!((&declined["status"], &declined["count"]), (&"declined".into(), &0.into()));
    let detail = declined["detail"].as_str().expect("a detail");
    assert!(detail.starts_with("anonymous-denied"), "{detail}");
    // Who says who it is reads on.
    assert_eq!(clinic.json(&["query", "moth"])["results"][0]["id"], "lab:1");

    let shown = text(&["collection", "policy", "notes", "--anonymous", "allow"]);
    assert!(shown.contains("questions through relays are answered"), "{shown}");
    assert_eq!(clinic.json(&ASK)["results"][0]["id"], "lab:1");
    // Other changes leave it as it is.
    lab.json(&["collection", "policy", "notes", "--anonymous", "deny"]);
    let kept = lab.json(&["collection", "policy", "notes", "--max-results", "5"]);
    assert_eq!(kept["policy"]["anonymous"], "deny", "{kept}");
    lab.json(&["collection", "policy", "notes", "--anonymous", "allow"]);
    let shown = text(&["collection", "policy", "notes", "--readers", "clinic"]);
    assert!(shown.contains("not every member may read it"), "{shown}");
    let wrong = lab.run(&["collection", "policy", "notes", "--anonymous", "perhaps"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn options_of_anonymous_queries_go_together_or_are_refused() {
    let (_lab, clinic) = pair();
    for more in [
        &[][..],
        &["--scope", "global"],
        &["--mix", "5ms"],
        &["--scope", "global", "--mix", "5ms", "--top", "3"],
    ] {
        let answer = clinic.json(&[&ASK, more].concat());
        assert_eq!(
            (&answer["complete"], &answer["results"][0]["id"]),
            (&true.into(), &"lab:1".into())
        );
    }
    let named = clinic.json(&["query", "moth", "--scope", "global", "--max-hops", "1"]);
    assert_eq!(named["complete"], true);
    for (args, says) in [
        (&["--anonymous", "--scope", "direct"][..], "--anonymous goes with --scope global"),
        (&["--anonymous", "--scope", "local"], "--anonymous goes with --scope global"),
        (&["--max-hops", "2"], "--max-hops goes with --scope global"),
        (&["--mix", "5ms"], "--mix goes with --scope global"),
        (&["--scope", "local", "--mix", "5ms"], "--mix goes with --scope global"),
        (&["--anonymous", "--max-hops", "0"], "hops"),
        (&["--anonymous", "--max-hops", "6"], "hops"),
        (&["--anonymous", "--max-hops", "256"], "--max-hops"),
        (&["--anonymous", "--mix", "3s"], "mix"),
        (&["--anonymous", "--mix", "soon"], "--mix"),
    ] {
        let output = clinic.run(&[&["query", "moth"], args].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    }
    // Two members are too few for the usual path, and the node says what to do.
    let output = clinic.run(&["query", "moth", "--anonymous"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("error[no-path]") && stderr.contains("--max-hops"), "{stderr}");
}

#[test]
fn a_wrong_key_or_value_of_the_onion_section_is_refused_by_name() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("data");
    init(&dir, "lab");
    let path = dir.join("config.toml");
    for (line, says) in [
        ("relays = true", "unknown field `relays`"),
        ("relay = \"yes\"", "relay = "),
        ("packets_per_second = 0", "onion.packets_per_second: at least 1"),
        ("packets_per_second = 100001", "onion.packets_per_second: at most 100000"),
        ("packets_per_second = -1", "packets_per_second"),
        ("cover_per_minute = 601", "onion.cover_per_minute: at most 600"),
        ("organisation = \"\"", "a name of an organisation cannot be empty"),
        ("organisation = \"a\\u0007b\"", "a name of an organisation cannot contain"),
        ("any_relays = 1", "any_relays"),
    ] {
        fs::write(&path, format!("name = \"lab\"\n[onion]\n{line}\n")).expect("written");
        for args in [&["config", "check"][..], &["serve"]] {
            let output = run(&dir, args);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{line}: {stderr}");
            assert!(stderr.contains("error[config-invalid]"), "{line}: {stderr}");
            assert!(stderr.contains(says), "{line}: {stderr}");
        }
    }
    let section = "[onion]\nrelay = false\norganisation = \"A lab, and more\"\n";
    fs::write(&path, format!("name = \"lab\"\n{section}")).expect("written");
    let output = run(&dir, &["config", "show", "--origin", "--json"]);
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(shown["config"]["onion"]["organisation"], "A lab, and more");
    let origin = &shown["origin"];
    assert_eq!(
        (&origin["onion.relay"], &origin["onion.any_relays"]),
        (&"file".into(), &"default".into())
    );
    let output = run(&dir, &["config", "show"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("onion.relay = false\n"), "{text}");
}
