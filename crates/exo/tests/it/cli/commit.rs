//! What the members decide together, from the command line: without a federation, and with four voters.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::http::{post, send};
use super::node::{Node, exo, until};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn refused(node: &Node, args: &[&str], exit: i32, code: &str) {
    let output = node.run(args);
    assert_eq!(output.status.code(), Some(exit), "{args:?}: {}", said(&output));
    assert!(said(&output).contains(&format!("error[{code}]")), "{args:?}: {}", said(&output));
}

/// Four nodes that vote, the first of which founded.
pub(super) fn four() -> Vec<Node> {
    let names = ["ada", "bob", "cleo", "dan"];
    let nodes: Vec<Node> = names.iter().map(|name| Node::start(name)).collect();
    for joiner in &nodes[1..] {
        let invite = nodes[0].json(&["invite", "new", "--auto-approve"]);
        let ticket = joiner.write("ticket", invite["ticket"].as_str().expect("a ticket"));
        // Where the approval takes a moment, the words are printed as well.
        let joined = joiner.run(&["join", "--ticket-file", &ticket]);
        assert!(joined.status.success(), "{}", said(&joined));
    }
    for node in &nodes {
        until("all four vote and reach each other", || {
            let voters = node.json(&["status"])["consensus"]["voters"].clone();
            let voters = voters.as_array().cloned().unwrap_or_default();
            voters.len() == 4 && voters.iter().all(|voter| voter["active"] == true)
        });
    }
    nodes
}

fn verify(proof: &Path, policy: &Path, more: &[&str]) -> Output {
    let mut command = exo();
    command.arg("verify").arg(proof).arg("--policy").arg(policy).args(more);
    command.env("EXO_DATA_DIR", "/nonexistent").output().expect("runs")
}

#[test]
fn a_proposal_that_cannot_be_meant_is_refused_before_any_node_is_asked() {
    for args in [
        &["commit"][..],
        &["commit", "propose"],
        &["commit", "propose", "--statement", "x", "--revoke", "y"],
        &["commit", "propose", "--statement", "x", "--reason", "y"],
        &["commit", "propose", "--statement", "x", "--deadline", "0"],
        &["commit", "propose", "--statement", "x", "--deadline", "1h"],
        &["commit", "propose", "--statement", ""],
        &["commit", "propose", "--statement", &"x".repeat(17 * 1024)],
        &["commit", "list", "--limit", "0"],
        &["commit", "list", "--limit", "1001"],
        &["commit", "show", "-1"],
        &["commit", "show", "x"],
        &["commit", "policy", "--epoch", "x"],
        &["init", "--name", "x", "--voters", "4"],
        &["init", "--name", "x", "--found", "--voters", "3"],
        &["init", "--name", "x", "--found", "--voters", "33"],
    ] {
        let output = exo().env("EXO_DATA_DIR", "/nonexistent").args(args).output().expect("runs");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", said(&output));
    }
}

#[test]
fn a_node_alone_decides_nothing_together_and_says_what_it_takes() {
    let node = Node::start("lab");
    for args in [
        &["commit", "propose", "--statement", "x"][..],
        &["commit", "list"],
        &["commit", "show", "0"],
        &["commit", "watch"],
        &["commit", "policy"],
    ] {
        refused(&node, args, 8, "insufficient-peers");
    }
    assert_eq!(node.json(&["status"])["consensus"], Value::Null);
    for code in [
        "insufficient-peers",
        "no-vote",
        "no-quorum",
        "update-too-long",
        "decision-not-found",
        "not-certified",
        "log-halted",
    ] {
        let explained = node.json(&["errors", code]);
        assert_eq!(explained["code"], code);
    }
    assert_eq!(node.json(&["errors", "no-quorum"])["exit"], 8);
}

#[test]
fn a_node_can_found_when_it_is_made() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("data");
    let free = ["--mesh-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"];
    let args =
        [&["init", "--name", "lab", "--found", "--voters", "7", "--json"][..], &free].concat();
    let made = super::node::run(&dir, &args);
    assert!(made.status.success(), "{}", said(&made));
    let doc: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    assert_eq!(doc["federation"].as_str().map(str::len), Some(52), "{doc}");
    let config = std::fs::read_to_string(dir.join("config.toml")).expect("the configuration");
    assert!(config.contains("founding_voters = 7"), "{config}");
    assert!(config.contains("mesh_listen = \"127.0.0.1:0\""), "{config}");
}

#[test]
fn four_voters_commit_list_show_and_prove_what_they_decide() {
    let nodes = four();
    let (ada, bob) = (&nodes[0], &nodes[1]);
    let (proof, policy, entry) = (ada.file("p"), ada.file("q"), ada.file("e"));
    let path = |path: &Path| path.to_str().expect("a path").to_owned();

    let output = bob.run(&["commit", "propose", "--statement", "the moon is far", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).expect("text");
    let fields = [
        "schema",
        "index",
        "sequence",
        "epoch",
        "member",
        "kind",
        "outcome",
        "have",
        "need",
        "reason",
        "bytes",
        "certified",
        "elapsed_ms",
    ];
    assert_eq!(super::shapes::keys(&text)[..fields.len()], fields, "{text}");
    let commit: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(commit["schema"], "exo.commit/1");
    assert_eq!((&commit["kind"], &commit["outcome"]), (&"statement".into(), &"recorded".into()));
    assert_eq!((&commit["certified"], &commit["member"]), (&true.into(), &bob.ready["peer"]));
    let number = commit["index"].to_string();

    // Another node has the same, with what proves it to anybody.
    until("the founder has it", || ada.run(&["commit", "show", &number]).status.success());
    let shown = ada.json(&[
        "commit",
        "show",
        &number,
        "--proof",
        &path(&proof),
        "--policy",
        &path(&policy),
        "--entry",
        &path(&entry),
    ]);
    assert_eq!(shown["summary"], commit["summary"]);
    assert!(shown["entry"].is_string(), "{shown}");
    let holds = verify(&proof, &policy, &["--entry", &path(&entry), "--json"]);
    assert_eq!(holds.status.code(), Some(0), "{}", said(&holds));
    let verified: Value = serde_json::from_slice(&holds.stdout).expect("JSON");
    assert_eq!(verified["index"], commit["index"]);
    assert!(verified["signers"].as_array().expect("signers").len() >= 3, "{verified}");

    // The content of a statement will do as well, no other content, and what it says is shown.
    let content = ada.file("content");
    std::fs::write(&content, "the moon is far").expect("written");
    let holds = verify(&proof, &policy, &["--entry", &path(&content)]);
    assert_eq!(holds.status.code(), Some(0), "{}", said(&holds));
    let text = String::from_utf8(holds.stdout).expect("text");
    assert!(text.contains("a statement of 15 bytes"), "{text}");
    assert!(text.contains(bob.ready["peer"].as_str().expect("an id")), "{text}");
    std::fs::write(&content, "the moon is near").expect("written");
    let other = verify(&proof, &policy, &["--entry", &path(&content)]);
    assert_eq!(other.status.code(), Some(7), "{}", said(&other));

    // Without one of its signatures too few are left, and the error says who is missing.
    let text = std::fs::read_to_string(&proof).expect("the proof");
    let mut lines: Vec<&str> = text.lines().collect();
    while lines.iter().filter(|line| line.starts_with('—')).count() > 2 {
        lines.pop();
    }
    std::fs::write(&proof, lines.join("\n") + "\n").expect("written");
    let short = verify(&proof, &policy, &[]);
    assert_eq!(short.status.code(), Some(7));
    assert!(said(&short).contains("too-few-signers: 2 of 3 have signed"), "{}", said(&short));

    let listed = ada.json(&["commit", "list", "--from", "0"]);
    assert_eq!(listed["schema"], "exo.commits/1");
    let of = |what: &str| {
        listed["commits"]
            .as_array()
            .expect("commits")
            .iter()
            .filter(|one| one["kind"] == what)
            .count()
    };
    assert_eq!(of("statement"), 1, "{listed}");
    assert!(listed["size"].as_u64() >= listed["certified"].as_u64(), "{listed}");
    let status = ada.json(&["status"]);
    assert_eq!(status["consensus"]["faults_tolerated"], 1);
    let people = String::from_utf8(ada.run(&["status"]).stdout).expect("text");
    assert!(people.contains("3 of 4 voters, 1 may fail"), "{people}");
    for (args, exit, code) in [
        (&["commit", "show", "999999"][..], 4, "decision-not-found"),
        (&["commit", "policy", "--epoch", "77"], 4, "decision-not-found"),
        (&["commit", "propose", "--grant-vote", "nobody"], 4, "peer-not-found"),
    ] {
        refused(ada, args, exit, code);
    }

    // A voter goes when a quorum wishes it: the first says what is missing.
    let first = ada.run(&["peers", "revoke", "dan", "--reason", "gone"]);
    let text = String::from_utf8(first.stdout).expect("text");
    assert!(text.contains("1 of 3 voters wish it") && text.contains("exo peers revoke"), "{text}");
    bob.json(&["commit", "propose", "--revoke", "dan", "--reason", "gone"]);
    let last = nodes[2].json(&["peers", "revoke", "dan", "--reason", "gone"]);
    assert_eq!(last["decision"]["outcome"], "effective", "{last}");
    assert_eq!(last["state"], "revoked", "{last}");
    assert_eq!(last["removed_by"], last["decision"]["index"], "{last}");
    let number = format!("revoked (commit #{})", last["removed_by"]);
    until("another voter shows what removed it", || {
        let listed = String::from_utf8(bob.run(&["peers", "list"]).stdout).expect("text");
        listed.contains(&number)
    });
}

#[test]
fn a_minority_of_voters_claims_nothing() {
    let mut nodes = four();
    for node in &mut nodes[1..] {
        node.signal("KILL");
        node.wait();
    }
    let args = ["commit", "propose", "--statement", "x", "--deadline", "1500ms", "--json"];
    let output = nodes[0].run(&args);
    assert_eq!(output.status.code(), Some(8), "{}", said(&output));
    let error: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&error["code"], &error["retryable"]), (&"no-quorum".into(), &true.into()));
    assert!(nodes[0].json(&["commit", "list"])["commits"].as_array().is_some_and(Vec::is_empty));
}

#[test]
fn the_api_takes_lists_checks_proofs_and_serves_the_log_as_files() {
    let nodes = four();
    let (ada, bob) = (&nodes[0], &nodes[1]);
    let mut watch = exo();
    watch.arg("--data-dir").arg(bob.dir()).args(["commit", "watch", "--json"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().expect("starts");
    let mut seen = BufReader::new(watch.stdout.take().expect("piped")).lines();

    // Those that are proposed before the watcher has begun are not for it: until it tells of one.
    let (told, first) = std::sync::mpsc::channel();
    std::thread::spawn(move || told.send((seen.next(), seen)));
    let mut proposed = 0;
    let (line, mut seen) = loop {
        ada.json(&["commit", "propose", "--statement", "are you there?"]);
        proposed += 1;
        assert!(proposed < 100, "the watcher tells of nothing");
        if let Ok(found) = first.recv_timeout(Duration::from_millis(200)) {
            break found;
        }
    };
    let line = line.expect("a line").expect("text");
    let before: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&before["schema"], &before["kind"]), (&"exo.commit/1".into(), &"statement".into()));

    let answer = post(ada, "/v1/decisions", r#"{"statements":["b25l","dHdv","dGhyZWU="]}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    let list = answer.json();
    let commits = list["commits"].as_array().expect("commits");
    assert_eq!((&list["schema"], commits.len()), (&"exo.commits/1".into(), 3));
    assert!(commits.iter().all(|commit| commit["certified"] == true), "{list}");
    let last = commits[2]["index"].as_u64().expect("a number");
    // The watcher tells of all of them, each once and in order.
    let mut at = before["index"].as_u64().expect("a number");
    while at < last {
        let line = seen.next().expect("a line").expect("text");
        let next: Value = serde_json::from_str(&line).expect("JSON");
        let index = next["index"].as_u64().expect("a number");
        assert!(index > at, "{next} after {at}");
        at = index;
    }
    watch.kill().expect("killed");
    watch.wait().expect("gone");

    for (body, code) in [
        (r#"{}"#, "invalid-argument"),
        (r#"{"statements":[]}"#, "invalid-argument"),
        (r#"{"statements":["%"]}"#, "invalid-argument"),
        (r#"{"statements":["b25l"],"revoke":"bob"}"#, "invalid-argument"),
        (r#"{"statement":"b25l","grant_vote":"bob"}"#, "invalid-argument"),
        (r#"{"statement":""}"#, "update-too-long"),
        (r#"{"statement":"b25l","deadline_ms":0}"#, "invalid-argument"),
    ] {
        let answer = post(ada, "/v1/decisions", body);
        assert_eq!(answer.problem(), (400, code.to_owned()), "{body}: {answer:?}");
    }

    let proof = send(bob, "GET", &format!("/v1/decisions/{last}/proof"), &[], b"");
    assert_eq!(proof.status, 200, "{proof:?}");
    let policy = send(bob, "GET", "/v1/decisions/policy", &[], b"").body;
    for request in [
        serde_json::json!({"proof": proof.body}),
        serde_json::json!({"proof": proof.body, "policy": policy}),
    ] {
        let checked = post(ada, "/v1/proofs/verify", &request.to_string());
        assert_eq!(checked.status, 200, "{checked:?}");
        assert_eq!(
            (&checked.json()["valid"], &checked.json()["index"]),
            (&true.into(), &last.into())
        );
    }
    let other = serde_json::json!({"proof": proof.body, "entry": "b3RoZXI="}).to_string();
    let refused = post(ada, "/v1/proofs/verify", &other);
    assert_eq!(refused.problem(), (422, "proof-invalid".to_owned()), "{refused:?}");

    let note = send(ada, "GET", "/v1/log/checkpoint", &[], b"");
    let size: u64 = note.body.lines().nth(1).and_then(|line| line.parse().ok()).expect("a size");
    assert!(note.body.starts_with("exo-federation/") && size > last && size < 256, "{note:?}");
    let hashes = send(ada, "GET", &format!("/v1/log/tile/0/000.p/{size}"), &[], b"");
    let length = format!("content-length: {}", 32 * size);
    assert_eq!(hashes.status, 200, "{hashes:?}");
    assert!(hashes.head.to_lowercase().contains(&length), "{hashes:?}");
    assert!(hashes.head.to_lowercase().contains("immutable"), "{hashes:?}");
    let bundle = send(ada, "GET", &format!("/v1/log/tile/entries/000.p/{size}"), &[], b"");
    assert!(bundle.status == 200 && bundle.body.contains("three"), "{bundle:?}");
    for missing in ["0/000", "0/001.p/1", "entries/x", "9/000.p/1"] {
        let answer = send(ada, "GET", &format!("/v1/log/tile/{missing}"), &[], b"");
        assert_eq!(answer.problem().0, 404, "{missing}: {answer:?}");
    }
}
