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
fn onion_measures_packets_relays_and_queries_and_leaves_nothing_behind() {
    let sizes = ["--rounds", "2", "--packets", "320", "--queries", "3", "--mix-queries", "2"];
    let data = ["--records", "300", "--dims", "16", "--cover-for", "1s"];
    let report = figures(&[&["onion"][..], &sizes, &data].concat());
    assert_eq!((&report["bench"], &report["params"]["packets"]), (&"onion".into(), &320.into()));
    for packet in ["8_kib", "16_kib"] {
        for hops in 1..=5 {
            let unwrap = figure(&report, &format!("unwrap.{packet}.{hops}_hops"), "us");
            let build = figure(&report, &format!("build.{packet}.{hops}_hops"), "us");
            assert!(unwrap < build * 4.0, "unwrapping is the lighter work: {unwrap} {build}");
        }
    }
    figure(&report, "reply_layer.16_kib", "us");
    figure(&report, "open.64_kib.3_hops", "us");
    for reply in ["16_kib", "64_kib"] {
        figure(&report, &format!("relay.reply_{reply}.saturated"), "packets/s");
    }
    let search = figure(&report, "source.search", "ms");
    for hops in 1..=5 {
        let whole = figure(&report, &format!("source.{hops}_hops"), "ms");
        let over = found(&report, &format!("source.{hops}_hops.over_search"));
        let over = over["p50"].as_f64().expect("a number");
        assert!((whole - search - over).abs() < 1e-3, "{whole} {search} {over}");
    }
    for figures in ["link.ping", "source.direct", "source.3_hops.16_kib", "mix.none.whole_query"] {
        figure(&report, figures, "ms");
    }
    let held = figure(&report, "mix.200_ms.each_source", "ms");
    assert!(held > 100.0, "three members hold a packet back 200 ms each: {held} ms");
    figure(&report, "cover.60_per_minute.all_links_of_sender", "KiB/s");
    if cfg!(target_os = "linux") {
        let each = figure(&report, "relay.reply_16_kib.cpu", "us");
        let rate = figure(&report, "relay.reply_16_kib.per_core", "packets/s");
        assert!((rate * each / 1e6 - 1.0).abs() < 0.5, "one is the other's inverse: {rate} {each}");
        figure(&report, "cover.none.cpu_of_node", "ms/s");
        figure(&report, "cover.60_per_minute.cpu_of_node", "ms/s");
    }
}

#[test]
fn consensus_measures_four_voting_processes_and_leaves_nothing_behind() {
    let sizes = ["--load-for", "500ms", "--commits", "10", "--batch", "1", "--batch", "50"];
    let report = figures(&[&["consensus"][..], &sizes].concat());
    assert_eq!((&report["params"]["nodes"], &report["params"]["commits"]), (&4.into(), &10.into()));
    figure(&report, "fdatasync.4_kib", "us");
    for node in ["primary", "backup"] {
        figure(&report, &format!("low_load.{node}.proved"), "ms");
    }
    for batch in [1, 50] {
        let batches = figure(&report, &format!("batch_{batch}.batches"), "batches/s");
        let updates = figure(&report, &format!("batch_{batch}.updates"), "updates/s");
        assert!(updates >= batches, "a batch without an update: {updates} {batches}");
        if cfg!(target_os = "linux") {
            figure(&report, &format!("batch_{batch}.cpu_a_batch"), "ms");
        }
    }
}

#[test]
fn sync_measures_writes_a_node_that_returns_and_what_differs() {
    let sizes = ["--puts", "10", "--load-for", "300ms", "--in-flight", "8", "--writes", "40"];
    let more = ["--returns", "1", "--keys", "10000", "--rounds", "1"];
    let report = figures(&[&["sync"][..], &sizes, &more].concat());
    assert_eq!(
        (&report["params"]["nodes"], &report["params"]["keys"]),
        (&3.into(), &10_000.into())
    );
    figure(&report, "put.durable", "ms");
    figure(&report, "put.rate", "writes/s");
    figure(&report, "return.up_to_date", "ms");
    let received = figure(&report, "return.received", "bytes");
    assert!(received > 40.0 * 256.0, "the values themselves are more: {received}");
    for differences in [100.0, 10_000.0] {
        let name = |what: &str| format!("differ.{differences}.{what}");
        let bytes = figure(&report, &name("bytes"), "bytes");
        let ratio = figure(&report, &name("bytes_over_ids"), "ratio");
        assert!((ratio - bytes / (32.0 * differences)).abs() < 1e-4 * ratio, "{ratio} {bytes}");
        figure(&report, &name("round_trips"), "count");
        figure(&report, &name("cpu"), "ms");
    }
}

#[test]
fn a_benchmark_that_could_not_mean_anything_is_refused() {
    for args in [
        &["crypto", "--rounds", "0"][..],
        &["query", "--nodes", "1"],
        &["query", "--records", "100", "--data", "x"],
        &["query", "--load-for", "1ms"],
        &["onion", "--packets", "1"],
        &["consensus", "--nodes", "3"],
        &["consensus", "--batch", "0"],
        &["sync", "--keys", "9999"],
        &["sync", "--writes", "0"],
        &["onion", "--cover-for", "10ms"],
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
