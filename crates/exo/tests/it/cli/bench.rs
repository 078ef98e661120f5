//! The benchmarks, short ones: their shape, and that they leave nothing behind.

use std::fs;

use serde_json::Value;

use super::node::exo;

#[test]
fn crypto_prints_figures_of_both_kinds_of_keys_and_their_ratios() {
    let report = figures(&["crypto", "--rounds", "2"]);
    assert_eq!((&report["bench"], &report["params"]["rounds"]), (&"crypto".into(), &2.into()));
    for side in ["client", "server"] {
        for what in ["tls", "connection"] {
            let of = figure(&report, &format!("{what}.{side}.post_quantum"), "us");
            let to = figure(&report, &format!("{what}.{side}.classical"), "us");
            let ratio = figure(&report, &format!("{what}.{side}.ratio"), "ratio");
            assert!((ratio - of / to).abs() < 1e-4 * ratio, "{ratio} {of} {to}");
        }
        figure(&report, &format!("endpoint.{side}.post_quantum"), "us");
    }
    for operation in ["ml_dsa_65.sign", "x_wing.decapsulate", "aead.aes_256_gcm.seal_2k"] {
        figure(&report, operation, "us");
    }
}

#[test]
fn query_measures_real_processes_and_leaves_nothing_behind() {
    let sizes = ["--nodes", "3", "--records", "300", "--dims", "16", "--queries", "12"];
    let report = figures(&[&["query", "--load-for", "200ms"][..], &sizes].concat());
    assert_eq!(
        (&report["params"]["nodes"], &report["params"]["records"]),
        (&3.into(), &300.into())
    );
    for kind in ["vector", "text"] {
        let local = figure(&report, &format!("local.{kind}.slowest"), "ms");
        let federated = figure(&report, &format!("federated.{kind}"), "ms");
        let over = found(&report, &format!("federated.{kind}.over_slowest_local"));
        let over = over["p50"].as_f64().expect("a number");
        assert!((federated - local - over).abs() < 1e-3, "{federated} {local} {over}");
        figure(&report, &format!("local.{kind}.all_at_once"), "ms");
        figure(&report, &format!("http.{kind}"), "ms");
        figure(&report, &format!("embedded.{kind}"), "ms");
    }
    figure(&report, "embedded.import", "records/s");
    figure(&report, "http.import", "records/s");
    figure(&report, "load.64.latency", "ms");
    figure(&report, "saturation", "queries/s");
}

#[test]
fn a_benchmark_that_could_not_mean_anything_is_refused() {
    for args in [
        &["crypto", "--rounds", "0"][..],
        &["query", "--nodes", "1"],
        &["query", "--records", "100", "--data", "x"],
        &["query", "--load-for", "1ms"],
    ] {
        let output = exo().arg("bench").args(args).output().expect("runs");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

/// Runs a benchmark; its document, of the frozen shape.
fn figures(args: &[&str]) -> Value {
    let temporary = tempfile::tempdir().expect("a directory");
    let output = exo()
        .env("TMPDIR", temporary.path())
        .arg("bench")
        .args(args)
        .arg("--json")
        .output()
        .expect("runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert_eq!(fs::read_dir(temporary.path()).expect("reads").count(), 0, "files are left");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!(report["schema"], "exo.bench/1");
    let keys: Vec<&String> = report.as_object().expect("an object").keys().collect();
    assert_eq!(keys.len(), 4, "{keys:?}");
    for figure in report["figures"].as_array().expect("figures") {
        assert_eq!(figure.as_object().expect("an object").len(), 6, "{figure}");
        let at = |name: &str| figure[name].as_f64().expect("a number");
        let ordered = at("p50") <= at("p95") && at("p95") <= at("p99") && at("n") >= 1.0;
        assert!(ordered || figure["unit"] == "ratio", "{figure}");
    }
    report
}

fn found<'a>(report: &'a Value, name: &str) -> &'a Value {
    let figures = report["figures"].as_array().expect("figures");
    figures.iter().find(|figure| figure["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

/// The median of a figure, which must be there in this unit and positive.
fn figure(report: &Value, name: &str, unit: &str) -> f64 {
    let found = found(report, name);
    assert_eq!(found["unit"], unit, "{found}");
    let median = found["p50"].as_f64().expect("a number");
    assert!(median > 0.0, "{found}");
    median
}
