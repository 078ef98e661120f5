//! The node as a service: it says when it is ready, stops when told, and keeps its files private.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::node::{Node, exo, init, run, until};

#[test]
fn a_node_says_that_it_is_ready_and_stops_with_zero_when_told() {
    let mut node = Node::start("lab");
    let ready = node.ready.clone();
    let names: Vec<&String> = ready.as_object().expect("an object").keys().collect();
    assert_eq!(names.len(), 3, "{ready}");
    assert!(ready["peer"].is_string() && ready["mesh"].is_string() && ready["api"].is_string());
    let api = node.dir().join("api.json");
    for private in [api.clone(), node.dir().join("keys/api.token")] {
        let mode = fs::metadata(&private).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", private.display());
    }
    for signal in ["TERM", "INT"] {
        let began = Instant::now();
        node.signal(signal);
        assert_eq!(node.wait(), Some(0), "{}", node.log());
        assert!(began.elapsed() < Duration::from_secs(10));
        assert!(!api.exists() && !node.file("ready.json").exists(), "its announcements are gone");
        node.restart();
    }
}

#[test]
fn a_node_writes_no_core_files() {
    let node = Node::start("lab");
    let limits = fs::read_to_string(format!("/proc/{}/limits", node.id())).expect("its limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    let numbers: Vec<&str> = core.split_whitespace().skip(4).collect();
    assert_eq!(numbers[..2], ["0", "0"], "{core}");
}

#[test]
fn a_second_node_in_the_directory_is_refused() {
    let node = Node::start("lab");
    let second = node.run(&["serve"]);
    assert_eq!(second.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&second.stderr);
    assert!(stderr.contains("error[data-locked]"), "{stderr}");
    assert_eq!(node.run(&["status"]).status.code(), Some(0), "the first is none the worse");
}

#[test]
fn an_api_for_other_machines_is_a_decision() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("data");
    let made = run(
        &dir,
        &["init", "--name", "x", "--mesh-listen", "127.0.0.1:0", "--api-listen", "0.0.0.0:0"],
    );
    assert!(made.status.success());
    let refused = run(&dir, &["serve"]);
    assert_eq!(refused.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(stderr.contains("--allow-remote-api"), "{stderr}");
}

#[test]
fn a_node_stops_with_the_program_that_started_it() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("data");
    init(&dir, "lab");
    let ready = root.path().join("ready.json");
    let mut child = exo()
        .arg("--data-dir")
        .arg(&dir)
        .args(["serve", "--stop-with-stdin", "--ready-file"])
        .arg(&ready)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    until("it is ready", || ready.exists());
    child.stdin.as_mut().expect("piped").write_all(b"no end yet\n").expect("written");
    std::thread::sleep(Duration::from_millis(100));
    assert!(child.try_wait().expect("waits").is_none(), "it stopped too early");
    drop(child.stdin.take());
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}

#[test]
fn a_configuration_with_an_unknown_key_is_refused_by_name() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("data");
    init(&dir, "lab");
    let path = dir.join("config.toml");
    let text = fs::read_to_string(&path).expect("text") + "mesh_lisen = \"127.0.0.1:1\"\n";
    fs::write(&path, text).expect("written");
    for args in [&["config", "check"][..], &["serve"]] {
        let output = run(&dir, args);
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.contains("error[config-invalid]") && stderr.contains("mesh_lisen"),
            "{stderr}"
        );
    }
}

#[test]
fn logs_hold_no_secrets_and_no_text_of_users() {
    let node = Node::start("lab");
    node.import("notes", "{\"id\":\"a\",\"text\":\"canary-record\"}\n");
    let invite = node.json(&["invite", "new"]);
    node.json(&["query", "canary-query"]);
    let log = node.log();
    assert!(log.contains("ready"), "{log}");
    let ticket = invite["ticket"].as_str().expect("a ticket");
    for secret in [&node.token()[..], ticket, "canary-record", "canary-query"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
