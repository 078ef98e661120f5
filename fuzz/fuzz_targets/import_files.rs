//! A whole import of two files: what was checked is what comes out, row for row.
#![no_main]

use std::cell::RefCell;
use std::fs;

use exo_fuzz::byte;
use exo_substrate::import::ImportPlan;
use exo_types::limits::BATCH_RECORDS_MAX;
use exo_types::{CollectionName, CollectionSpec, ContentHash, Metric};
use tempfile::TempDir;

thread_local! {
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let dimensions = u32::from(byte(&mut rest) % 4);
    // The files are divided by the beginning that a NumPy file has.
    let at = rest.windows(6).position(|bytes| bytes == b"\x93NUMPY").unwrap_or(rest.len());
    let (lines, vectors) = rest.split_at(at);
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| {
            let memory = std::path::Path::new("/dev/shm");
            if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }
                .expect("makes a folder")
        });
        let (records, npy) = (folder.path().join("records"), folder.path().join("vectors"));
        fs::write(&records, lines).expect("writes");
        fs::write(&npy, vectors).expect("writes");
        let spec = CollectionSpec {
            name: CollectionName::new("fuzz").expect("a name"),
            dimensions,
            metric: Metric::Cosine,
            embedder: String::new(),
        };
        let npy = (dimensions > 0 || !vectors.is_empty()).then_some(npy);
        let Ok(plan) = ImportPlan::check(&records, npy.as_deref(), &spec, |_| {}) else { return };
        for skipped in [0, plan.rows() / 2] {
            let batches = plan.batches(skipped, |_, _| ContentHash([0; 32])).expect("opens");
            let mut rows = skipped;
            for batch in batches {
                let batch = batch.expect("what was checked is read again");
                assert!((1..=BATCH_RECORDS_MAX).contains(&batch.records.len()));
                rows += batch.records.len() as u64;
                assert_eq!(batch.mark.rows_done, rows);
                for new in &batch.records {
                    new.record.check().expect("within its bounds");
                    match &new.vector {
                        None => assert!(npy.is_none()),
                        Some(vector) => {
                            assert_eq!(vector.len(), dimensions as usize);
                            assert!(vector.iter().all(|x| x.is_finite()));
                        }
                    }
                }
            }
            assert_eq!(rows, plan.rows());
        }
    });
});
