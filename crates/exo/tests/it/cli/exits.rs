//! Exit codes: each means one thing.

use std::io::Read;
use std::process::Stdio;

use super::node::{Node, exo, init, run};

fn code(node: &Node, args: &[&str]) -> Option<i32> {
    node.run(args).status.code()
}

#[test]
fn each_way_to_fail_has_its_exit_code() {
    let node = Node::start("lab");
    node.import("notes", "{\"id\":\"a:1\",\"text\":\"moth\"}\n");
    assert_eq!(code(&node, &["query", "moth", "--scope", "local"]), Some(0));
    assert_eq!(code(&node, &["--help"]), Some(0));
    // Usage.
    for args in [
        &["query"][..],
        &["query", "moth", "--top", "0"],
        &["query", "moth", "--top", "1001"],
        &["query", "moth", "--top", "9223372036854775808"],
        &["query", "moth", "--deadline", "2"],
        &["query", "moth", "--deadline", "1h"],
        &["query", "moth", "--deadline", "1ms"],
        &["query", "moth", "--max-hops", "2"],
        &["query", "moth", "--filter", "nonsense"],
        &["query", "moth", "--filter", "n<true", "--scope", "local"],
        &["collection", "add", "no name"],
        &["collection", "add", "big", "--dimensions", "5000"],
        &["collection", "policy", "notes", "--max-results", "0"],
        &["invite", "new", "--expires", "60d"],
        &["nothing"],
    ] {
        assert_eq!(code(&node, args), Some(2), "{args:?}");
    }
    // Too few sources; the answer is printed all the same.
    let few = node.run(&["query", "moth", "--scope", "local", "--min-sources", "2", "--json"]);
    assert_eq!(few.status.code(), Some(3));
    let answer: serde_json::Value = serde_json::from_slice(&few.stdout).expect("one document");
    assert_eq!(answer["results"][0]["id"], "a:1");
    // Without a federation there is nobody to ask but the node itself.
    let alone = node.run(&["query", "moth"]);
    assert_eq!(alone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&alone.stderr).contains("error[not-a-member]"));
    // Not found.
    node.json(&["invite", "new"]);
    for args in [
        &["peers", "show", "nobody"][..],
        &["peers", "approve", "able", "able", "able", "able"],
        &["invite", "revoke", "00000000"],
        &["collection", "show", "none"],
        &["query", "--like", "none:1"],
        &["errors", "no-such-code"],
    ] {
        assert_eq!(code(&node, args), Some(4), "{args:?}");
    }
    let direct = node.run(&["query", "moth", "--anonymous", "--scope", "direct"]);
    assert_eq!(direct.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&direct.stderr).contains("--anonymous goes with"));
}

#[test]
fn a_node_that_does_not_run_is_unreachable() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("data");
    init(&dir, "lab");
    let output = run(&dir, &["query", "moth"]);
    assert_eq!(output.status.code(), Some(6));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("error[node-not-running]") && stderr.contains("exo serve"), "{stderr}");

    // Nor does one that was killed and left its announcement behind.
    let mut node = Node::start("lab");
    node.signal("KILL");
    node.wait();
    assert_eq!(code(&node, &["status"]), Some(6));
}

#[test]
fn a_token_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::start("lab");
    let token = node.dir().join("keys/api.token");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let output = node.run(&["status"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&output.stderr).contains("error[key-permissions]"));
    assert_eq!(code(&node, &["doctor"]), Some(1));
}

#[test]
fn an_interrupted_command_exits_with_130() {
    let node = Node::start("lab");
    let mut command = exo();
    command.arg("--data-dir").arg(node.dir()).args(["status", "--watch"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    // Once it has printed, it watches for signals.
    let mut first = [0_u8; 1];
    child.stdout.as_mut().expect("piped").read_exact(&mut first).expect("prints");
    super::node::signal(child.id(), "INT");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = exo()
        .args(["errors", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.is_empty(), "{stderr}");
    assert_eq!(output.status.code(), Some(0));
}
