//! Imports: what is refused before anything is written, and what goes on after a break.

use std::fs;
use std::path::{Path, PathBuf};

use exo_substrate::import::{ImportError, ImportPlan, ImportProblem};
use exo_substrate::{EmbeddedSubstrate, OpenOptions, Substrate};
use exo_types::limits::IMPORT_LINE_BYTES_MAX;
use exo_types::{CollectionName, CollectionSpec, ContentHash, Metric, RecordId};
use tempfile::TempDir;

fn spec(dimensions: u32) -> CollectionSpec {
    let name = CollectionName::new("c").expect("a good name");
    CollectionSpec { name, dimensions, metric: Metric::Cosine, embedder: String::new() }
}

fn content(title: &str, text: &str) -> ContentHash {
    let mut hash = [0; 32];
    hash[0] = title.len() as u8;
    hash[1] = text.len() as u8;
    ContentHash(hash)
}

fn npy(rows: u64, dimensions: usize, numbers: &[f32]) -> Vec<u8> {
    let header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimensions}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).expect("writes");
        path
    }

    fn lines(&self, lines: &str) -> PathBuf {
        self.write("records.jsonl", lines)
    }

    fn refused(&self, lines: &str, vectors: &[u8], dimensions: u32) -> ImportError {
        let (lines, vectors) = (self.lines(lines), self.write("vectors.npy", vectors));
        ImportPlan::check(&lines, Some(&vectors), &spec(dimensions), |_| ()).expect_err("refused")
    }
}

#[test]
fn a_bad_row_is_refused_with_its_file_and_number() {
    let files = Files::new();
    let good = npy(2, 2, &[1.0, 2.0, 3.0, 4.0]);
    let two = "{\"id\": \"1\"}\n{\"id\": \"2\"}\n";
    let cases: Vec<(ImportError, &str, Option<u64>, &str)> = vec![
        (
            files.refused("{\"id\":\"1\"}\n\n{\"id\":\"1\"}\n", &good, 2),
            "jsonl",
            Some(3),
            "row 1 already",
        ),
        (files.refused("{\"id\":\"1\"}\nnot json\n", &good, 2), "jsonl", Some(2), "not JSON"),
        (
            files.refused("{\"id\":\"1\"}\n{\"text\":\"x\"}", &good, 2),
            "jsonl",
            Some(2),
            "no \"id\"",
        ),
        (files.refused("\n \n", &good, 2), "jsonl", None, "no record"),
        (
            files.refused(two, &npy(2, 2, &[1.0, 2.0, 3.0, f32::NAN]), 2),
            "npy",
            Some(2),
            "component 1",
        ),
        (
            files.refused(two, &npy(2, 2, &[f32::INFINITY, 2.0, 3.0, 4.0]), 2),
            "npy",
            Some(1),
            "component 0",
        ),
        (files.refused(two, &npy(3, 2, &[0.5; 6]), 2), "npy", None, "3 vectors"),
        (files.refused(two, &npy(1, 2, &[0.5; 2]), 2), "npy", None, "2 records"),
        (files.refused(two, &npy(2, 2, &[0.5; 3]), 2), "npy", None, "cut short"),
        (files.refused(two, &npy(2, 2, &[0.5; 5]), 2), "npy", None, "cut short"),
        (files.refused(two, &npy(u64::MAX, 2, &[0.5; 4]), 2), "npy", None, "cut short"),
        (files.refused(two, &good, 3), "npy", None, "2 dimensions"),
        (files.refused(two, &good, 0), "npy", None, "without vectors"),
        (files.refused(two, b"PK", 2), "npy", None, ".npy file"),
        (files.refused(two, &good[..20], 2), "npy", None, "header"),
    ];
    for (error, ending, row, says) in cases {
        let told = error.to_string();
        assert!(error.file.to_string_lossy().ends_with(ending), "{told}");
        assert_eq!(error.row, row, "{told}");
        assert!(told.contains(says), "{told}");
        assert!(told.contains(&*error.file.to_string_lossy()), "{told}");
    }
    let missing = ImportPlan::check(Path::new("/nowhere/x.jsonl"), None, &spec(0), |_| ());
    assert!(matches!(missing.expect_err("refused").problem, ImportProblem::Io(_)));
    let folder = ImportPlan::check(files.folder.path(), None, &spec(0), |_| ());
    assert!(matches!(folder.expect_err("refused").problem, ImportProblem::Io(_)));
}

#[test]
fn a_line_without_end_is_refused_at_its_bound() {
    let files = Files::new();
    let path = files.lines(&"x".repeat(2 * IMPORT_LINE_BYTES_MAX));
    let error = ImportPlan::check(&path, None, &spec(0), |_| ()).expect_err("refused");
    assert!(matches!(error.problem, ImportProblem::LineTooLong { .. }));
}

#[test]
fn records_and_vectors_come_in_order_with_marks() {
    let files = Files::new();
    let lines: Vec<String> =
        (0..2500).map(|i| format!("{{\"id\": {i}, \"text\": \"t{i}\"}}")).collect();
    // A byte-order mark, Windows line ends, no line end at the end.
    let path = files.lines(&format!("\u{feff}{}", lines.join("\r\n")));
    let numbers: Vec<f32> = (0..2500).flat_map(|i| [i as f32, 1.0]).collect();
    let vectors = files.write("v.npy", npy(2500, 2, &numbers));
    let mut told = 0;
    let plan =
        ImportPlan::check(&path, Some(&vectors), &spec(2), |rows| told = rows).expect("fits");
    assert_eq!((plan.rows(), told), (2500, 2500));
    for (skipped, marks) in [(0, vec![1000, 2000, 2500]), (1700, vec![2500]), (2500, vec![])] {
        let batches: Vec<_> = plan
            .batches(skipped, content)
            .expect("opens")
            .map(|batch| batch.expect("reads"))
            .collect();
        assert_eq!(batches.iter().map(|b| b.mark.rows_done).collect::<Vec<_>>(), marks);
        let records = batches.iter().flat_map(|batch| &batch.records);
        for (new, i) in records.zip(skipped..) {
            assert_eq!(new.record.id.as_str(), i.to_string());
            assert_eq!(new.vector, Some(vec![i as f32, 1.0]));
            assert_eq!(new.content, content("", &format!("t{i}")));
        }
    }
    let same = ImportPlan::check(&path, Some(&vectors), &spec(2), |_| ()).expect("fits");
    assert_eq!(same.import_id(), plan.import_id());
    let alone = ImportPlan::check(&path, None, &spec(2), |_| ()).expect("fits");
    assert_ne!(alone.import_id(), plan.import_id());
}

#[test]
fn files_that_change_between_the_passes_are_noticed() {
    let files = Files::new();
    let path = files.lines("{\"id\": \"1\"}\n");
    let plan = ImportPlan::check(&path, None, &spec(0), |_| ()).expect("fits");
    files.lines("{\"id\": \"2\"}\n");
    let last = plan.batches(0, content).expect("opens").last().expect("something");
    assert!(matches!(last.expect_err("noticed").problem, ImportProblem::Changed));
}

#[tokio::test]
async fn a_broken_off_import_goes_on_where_it_stopped() {
    let files = Files::new();
    let lines: String = (0..3200).map(|i| format!("{{\"id\": \"r{i}\"}}\n")).collect();
    let path = files.lines(&lines);
    let spec = spec(0);
    let name = spec.name.clone();
    let plan = ImportPlan::check(&path, None, &spec, |_| ()).expect("fits");
    let options = OpenOptions::new(files.folder.path().join("store.db"));
    let store = EmbeddedSubstrate::open(options.clone()).await.expect("opens");
    store.create(spec).await.expect("creates");
    for batch in plan.batches(0, content).expect("opens").take(2) {
        let batch = batch.expect("reads");
        store.put(&name, batch.records, Some(batch.mark)).await.expect("puts");
    }
    drop(store);

    let store = EmbeddedSubstrate::open(options).await.expect("opens");
    let done = store.import_progress(&name, plan.import_id()).await.expect("reads");
    assert_eq!(done, Some(2000));
    let mut outcome = 0;
    for batch in plan.batches(done.unwrap_or(0), content).expect("opens") {
        let batch = batch.expect("reads");
        outcome += store.put(&name, batch.records, Some(batch.mark)).await.expect("puts").inserted;
    }
    assert_eq!(outcome, 1200);
    assert_eq!(store.info(&name).await.expect("known").records, 3200);
    let last = RecordId::new("r3199").expect("a good id");
    assert!(store.get(&name, &last).await.expect("reads").is_some());
}
