//! A store's file with some of its bytes changed: it is refused or it answers, never worse.
#![no_main]

use std::fs;
use std::sync::OnceLock;

use exo_substrate::{EmbeddedSubstrate, NewRecord, OpenOptions, SearchRequest, Substrate};
use exo_types::{
    CollectionName, CollectionSpec, ContentHash, MetadataValue, Metric, QueryTarget, Record,
    RecordId,
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

// The input is a list of patches: three bytes of place, one of length, and the bytes to put there.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let base = base();
    let mut bytes = base.bytes.clone();
    let mut rest = data;
    while let Some(([a, b, c, len], after)) = rest.split_first_chunk::<4>() {
        let at = u32::from_be_bytes([0, *a, *b, *c]) as usize % bytes.len();
        let (patch, after) = after.split_at(usize::from(*len).min(after.len()));
        for (byte, new) in bytes[at..].iter_mut().zip(patch) {
            *byte = *new;
        }
        rest = after;
    }
    let path = base.folder.path().join("store.db");
    for ending in ["-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(base.folder.path().join(format!("store.db{ending}")));
    }
    fs::write(&path, &bytes).expect("writes");
    base.runtime.block_on(async {
        let Ok(store) = EmbeddedSubstrate::open(OpenOptions::new(&path)).await else { return };
        let Ok(collections) = store.collections().await else { return };
        for collection in collections {
            let name = collection.spec.name;
            let mut target = QueryTarget::text("first record");
            target.vector = vec![0.5; collection.spec.dimensions as usize];
            if let Ok(answer) = store.search(&name, SearchRequest::new(target)).await {
                for leg in answer.legs {
                    leg.check().expect("a leg that any asker takes");
                }
            }
            let _ = store.get(&name, &RecordId::new("r1").expect("an id")).await;
            let _ = store.put(&name, vec![record(9)], None).await;
        }
    });
});

struct Base {
    runtime: Runtime,
    folder: TempDir,
    bytes: Vec<u8>,
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        let folder = folder.expect("makes a folder");
        let path = folder.path().join("base.db");
        runtime.block_on(async {
            let store = EmbeddedSubstrate::open(OpenOptions::new(&path)).await.expect("opens");
            let name = CollectionName::new("fuzz").expect("a name");
            let spec = CollectionSpec {
                name: name.clone(),
                dimensions: 3,
                metric: Metric::Cosine,
                embedder: String::new(),
            };
            store.create(spec).await.expect("creates");
            store.put(&name, (0..6).map(record).collect(), None).await.expect("writes");
        });
        let bytes = fs::read(&path).expect("reads");
        Base { runtime, folder, bytes }
    })
}

fn record(number: u8) -> NewRecord {
    NewRecord {
        record: Record {
            id: RecordId::new(format!("r{number}")).expect("an id"),
            title: format!("record {number}"),
            text: "the first of many".repeat(usize::from(number)),
            metadata: [("n".to_owned(), MetadataValue::Int(i64::from(number)))].into(),
        },
        vector: (number != 3).then(|| vec![f32::from(number), 1.0, 2.0]),
        content: ContentHash([number; 32]),
    }
}
