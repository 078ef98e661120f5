//! The demo from start to end, with its real processes.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::node::{exo, signal, until};

#[test]
fn every_step_of_the_demo_holds_and_nothing_is_left_behind() {
    let temporary = tempfile::tempdir().expect("a directory");
    let output = exo()
        .env("TMPDIR", temporary.path())
        .args(["demo", "--no-wait", "--json"])
        .output()
        .expect("runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let steps: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<&str> = steps.iter().filter_map(|step| step["step"].as_str()).collect();
    let expected = [
        "start",
        "join",
        "import",
        "query",
        "query",
        "query",
        "similar",
        "exact",
        "anonymous",
        "crash",
        "restart",
        "shared",
        "commit",
        "lie",
        "kill",
    ];
    assert_eq!(names, expected, "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for step in &steps {
        // Only a build with a liar in it can show what a lie does; without, nothing is claimed.
        let skipped = step["step"] == "lie" && !cfg!(feature = "liar");
        let ok = if skipped { serde_json::Value::Null } else { true.into() };
        assert_eq!((&step["schema"], &step["ok"]), (&"exo.demo/1".into(), &ok), "{step}");
        assert!(step["elapsed_ms"].is_f64() && step["detail"].is_object(), "{step}");
    }
    assert_eq!(output.status.code(), Some(0));
    let anonymous = &steps[8]["detail"];
    assert_eq!((&anonymous["hops"], &anonymous["queries"]), (&3.into(), &9.into()));
    let nodes = anonymous["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 5);
    for node in nodes {
        // Each node is asked by others, and none writes a word of it.
        assert!(node["delivered"].as_u64().expect("a count") >= 8, "{node}");
        assert_eq!(node["log_lines"], 0, "{node}");
    }
    let sum = |role: &str| nodes.iter().filter_map(|node| node[role].as_u64()).sum::<u64>();
    // Two relays between an asker and each member that answers it; more where a reply was late.
    assert!(sum("sent") >= sum("delivered") && sum("forwarded") >= 2 * 9 * 4, "{anonymous}");
    let lost: Vec<&Value> = steps[9]["detail"]["sources"]
        .as_array()
        .expect("sources")
        .iter()
        .filter(|source| source["status"] != "answered")
        .collect();
    assert_eq!(lost.len(), 1, "one source is missing");
    assert_eq!(lost[0]["source"], steps[9]["detail"]["query"]["killed"]);
    assert_eq!(steps[10]["detail"]["complete"], true);
    let shared = &steps[11]["detail"];
    assert_eq!((&shared["writes"], &shared["entries"]), (&500.into(), &501.into()), "{shared}");
    assert!(shared["received_bytes"].as_u64() > Some(500 * 40), "{shared}");
    assert!(shared["caught_up_ms"].is_f64() && shared["root"].is_string(), "{shared}");
    let commit = &steps[12]["detail"];
    assert_eq!((&commit["voters"], &commit["quorum"]), (&4.into(), &3.into()));
    assert!(commit["signers"].as_array().expect("signers").len() >= 3, "{commit}");
    assert!(
        steps[14]["detail"]["signers"].as_array().expect("signers").len() >= 3,
        "{}",
        steps[14]
    );
    assert_eq!(fs::read_dir(temporary.path()).expect("reads").count(), 0, "files are left");
}

#[test]
fn a_demo_that_is_stopped_takes_its_processes_along() {
    let temporary = tempfile::tempdir().expect("a directory");
    for (name, code) in [("INT", Some(130)), ("KILL", None)] {
        let mut child = exo()
            .env("TMPDIR", temporary.path())
            .arg("demo")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let root = temporary.path().to_str().expect("path");
        until("its nodes run", || processes(root) >= 5);
        signal(child.id(), name);
        assert_eq!(child.wait().expect("ends").code(), code, "SIG{name}");
        until("its nodes are gone", || processes(root) == 0);
    }
}

/// Processes whose command line names a path.
fn processes(path: &str) -> usize {
    let listed = Command::new("ps").args(["-eo", "args"]).output().expect("ps runs");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    text.lines().filter(|line| line.contains(path) && line.contains("serve")).count()
}
