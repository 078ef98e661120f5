//! Nodes that die in the middle of things.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::data::{DIMENSIONS, Seeded, write_source};
use super::fleet::{Fleet, documents, status_of};

const RECORDS: usize = 300;

#[test]
fn a_node_killed_in_the_middle_of_two_hundred_queries_is_named_and_comes_back_whole() {
    let mut fleet = Fleet::start(&["north", "east", "south"], None);
    let mut seeded = Seeded(3);
    let mut vector = |_| (0..DIMENSIONS).map(|_| seeded.next()).collect::<Vec<f32>>();
    for node in &fleet.nodes {
        let records: Vec<_> =
            (0..RECORDS).map(|at| (format!("{}:{at}", node.name), vector(at))).collect();
        write_source(fleet.path(), &node.name, &records);
        let file = |ending: &str| fleet.path().join(format!("{}{ending}", node.name));
        let (records, vectors) = (file(".jsonl"), file(".f32.npy"));
        let (records, vectors) = (records.to_str().expect("path"), vectors.to_str().expect("path"));
        node.ok(&["import", records, "--into", "all", "--vectors", vectors]);
    }
    let asked: Vec<_> = (0..200).map(|at| (format!("q:{at}"), vector(at))).collect();
    write_source(fleet.path(), "asked", &asked);
    let asked = fleet.path().join("asked.f32.npy");

    // Two seconds is each query's deadline; a node dies when some are answered.
    let mut child = fleet.nodes[0]
        .command(&["query", "--json", "--vectors", asked.to_str().expect("path")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the query starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut answers = Vec::new();
    for line in lines.by_ref().take(40) {
        answers.push(line.expect("a line"));
    }
    fleet.nodes[2].kill();
    let killed = Instant::now();
    answers.extend(lines.map(|line| line.expect("a line")));
    child.wait().expect("the query ends");
    let answers = documents(answers.join("\n").as_bytes());

    assert_eq!(answers.len(), 200);
    let mut partial = 0;
    for answer in &answers {
        let elapsed = answer["elapsed_ms"].as_f64().expect("a time");
        assert!(elapsed < 2_500.0, "a query hung for {elapsed} ms");
        assert_eq!(answer["results"].as_array().expect("results").len(), 10);
        assert_eq!(status_of(answer, "north"), "answered");
        assert_eq!(status_of(answer, "east"), "answered");
        let whole = answer["complete"] == true;
        assert_eq!(whole, status_of(answer, "south") == "answered");
        partial += usize::from(!whole);
    }
    assert!(partial > 0, "the kill came too late to be seen");
    println!("{partial} partial answers, the last {:?} after the kill", killed.elapsed());

    fleet.nodes[2].serve();
    fleet.wait_active();
    let whole = fleet.nodes[0].query(&["--vectors", asked.to_str().expect("path")]);
    assert!(whole.iter().all(|answer| answer["complete"] == true));
    let status = fleet.nodes[2].json(&["collection", "show", "all"]);
    assert_eq!(status["records"], RECORDS, "{status}");
}

#[test]
fn a_node_killed_during_an_import_has_every_acknowledged_record_and_none_in_half() {
    let mut fleet = Fleet::start(&["alone"], None);
    let mut seeded = Seeded(5);
    let records: Vec<_> = (0..6_000)
        .map(|at| (format!("r:{at}"), (0..DIMENSIONS).map(|_| seeded.next()).collect()))
        .collect();
    write_source(fleet.path(), "many", &records);
    let path = |ending: &str| fleet.path().join(format!("many{ending}"));
    let (lines, vectors) = (path(".jsonl"), path(".f32.npy"));
    let args = [
        "import",
        lines.to_str().expect("path"),
        "--into",
        "many",
        "--vectors",
        vectors.to_str().expect("path"),
    ];
    let mut last = 0;
    for wait in [150, 300, 450] {
        let mut import = fleet.nodes[0]
            .command(&args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the import starts");
        std::thread::sleep(Duration::from_millis(wait));
        fleet.nodes[0].kill();
        let ended = import.wait().expect("the import ends");
        fleet.nodes[0].serve();
        let shown = fleet.nodes[0].run(&["collection", "show", "many", "--json"]);
        let Some(shown) = documents(&shown.stdout).pop().filter(|_| shown.status.success()) else {
            continue; // Killed before the collection was made.
        };
        let (held, with_vector) = (shown["records"].as_u64(), shown["vectors"].as_u64());
        assert_eq!(held, with_vector, "a record without its vector");
        let held = held.expect("a number");
        assert!(held >= last, "{last} records were acknowledged, {held} are there");
        assert!(!ended.success() || held == 6_000);
        last = held;
        // Every record that is there is found by its text, too.
        if held > 0 {
            let id = format!("r:{}", held - 1);
            let answer = fleet.nodes[0].query(&["--like", &id, "--scope", "local", "--top", "1"]);
            assert_eq!(answer[0]["results"][0]["id"], id);
            let answer = fleet.nodes[0].query(&[&id, "--scope", "local", "--top", "1"]);
            assert_eq!(answer[0]["results"].as_array().expect("results").len(), 1);
        }
    }
    let done = fleet.nodes[0].json(&args);
    assert_eq!(done["records"], 6_000, "{done}");
    let shown = fleet.nodes[0].json(&["collection", "show", "many"]);
    assert_eq!(shown["records"], 6_000);
}
