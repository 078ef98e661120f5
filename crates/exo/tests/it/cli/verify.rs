//! `exo verify`: every frozen proof ends as it should, without a node and without a data directory.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::node::exo;

fn vectors() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../exo-log/tests/vectors")
}

fn verify(case: &Value, more: &[&str]) -> Output {
    let file = |name: &str| vectors().join(case[name].as_str().expect("a file"));
    let mut command = exo();
    command.arg("verify").arg(file("proof")).arg("--policy").arg(file("policy")).args(more);
    if !case["entry"].is_null() {
        command.arg("--entry").arg(file("entry"));
    }
    // Nothing is read there and nothing is made.
    command.env("EXO_DATA_DIR", "/nonexistent").output().expect("runs")
}

#[test]
fn every_frozen_proof_ends_with_its_reason_and_exit_code() {
    let text = std::fs::read(vectors().join("cases.json")).expect("reads");
    let cases: Value = serde_json::from_slice(&text).expect("is JSON");
    let cases = cases["cases"].as_array().expect("cases");
    assert!(cases.len() > 20);
    for case in cases {
        let outcome = case["outcome"].as_str().expect("an outcome");
        let done = verify(case, &["--json"]);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let doc: Value = serde_json::from_str(said.trim()).expect("one line of JSON");
        if outcome == "ok" {
            assert_eq!(done.status.code(), Some(0), "{case}: {said}");
            assert_eq!(doc["schema"], "exo.verify/1");
            assert_eq!(doc["valid"], true);
            let origin = doc["origin"].as_str().expect("a log");
            let signers = doc["signers"].as_array().expect("signers");
            assert!(!signers.is_empty());
            assert!(signers.iter().all(|s| s.as_str().is_some_and(|s| s.starts_with(origin))));
        } else {
            assert_eq!(done.status.code(), Some(7), "{case}: {said}");
            assert_eq!(doc["code"], "proof-invalid", "{said}");
            let message = doc["message"].as_str().expect("a message");
            assert!(message.contains(&format!(": {outcome}: ")), "{case}: {message}");
        }
    }
    let people = verify(&cases[0], &[]);
    assert!(String::from_utf8_lossy(&people.stdout).contains("The proof holds."));
}

#[test]
fn what_is_no_policy_or_not_there_is_said_by_name() {
    let good = vectors().join("proofs/good.tlog-proof");
    let done = exo().arg("verify").arg(&good).arg("--policy").arg(&good).output().expect("runs");
    assert_eq!(done.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&done.stderr).contains("is no policy"));
    let done = exo().args(["verify", "/nonexistent", "--policy", "/nonexistent"]).output();
    let done = done.expect("runs");
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("/nonexistent"));
}
