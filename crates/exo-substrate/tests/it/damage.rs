//! Files that are in use, of another kind, or damaged.

use std::fs;
use std::path::{Path, PathBuf};

use exo_substrate::contract::Numbers;
use exo_substrate::{
    EmbeddedSubstrate, NewRecord, OpenOptions, SearchRequest, Substrate, SubstrateError,
    SubstrateInstance,
};
use exo_types::{
    CollectionName, CollectionSpec, ContentHash, MetadataValue, Metric, QueryTarget, Record,
    RecordId,
};

const RECORDS: usize = 60;

fn name() -> CollectionName {
    CollectionName::new("c").expect("a good name")
}

fn record(i: usize) -> NewRecord {
    let record = Record {
        id: RecordId::new(format!("r{i}")).expect("a good id"),
        title: format!("title {i}"),
        text: format!("word and {}", "more ".repeat(i * 13 % 97)),
        metadata: [("n".to_owned(), MetadataValue::Int(i as i64))].into(),
    };
    let vector = Some(Numbers(i as u64).vector(24));
    NewRecord { record, vector, content: ContentHash([i as u8; 32]) }
}

async fn open(path: &Path) -> Result<EmbeddedSubstrate, SubstrateError> {
    EmbeddedSubstrate::open(OpenOptions::new(path)).await
}

async fn fill(path: &Path) {
    let store = open(path).await.expect("opens");
    let spec = CollectionSpec {
        name: name(),
        dimensions: 24,
        metric: Metric::Cosine,
        embedder: String::new(),
    };
    store.create(spec).await.expect("creates");
    for batch in (0..RECORDS).collect::<Vec<_>>().chunks(7) {
        let records = batch.iter().map(|i| record(*i)).collect();
        store.put(&name(), records, None).await.expect("puts");
    }
}

/// What a store may answer when its file is damaged: an error that names the file, or what is so.
async fn honest(path: &Path) -> bool {
    let names_it = |error: SubstrateError| {
        let told = error.to_string();
        assert!(told.contains(&*path.to_string_lossy()), "{told}");
        assert!(!matches!(error, SubstrateError::Interrupted(_)), "{told}");
    };
    let store = match open(path).await {
        Ok(store) => store,
        Err(error) => {
            names_it(error);
            return false;
        }
    };
    let mut whole = true;
    for i in 0..RECORDS {
        match store.get(&name(), &record(i).record.id).await {
            Ok(Some(stored)) => {
                let wanted = record(i);
                assert_eq!((stored.record, stored.vector), (wanted.record, wanted.vector));
            }
            Ok(None) => whole = false,
            Err(SubstrateError::NoCollection(_)) => whole = false,
            Err(error) => {
                whole = false;
                names_it(error);
            }
        }
    }
    let target = QueryTarget { text: "word".into(), ..QueryTarget::vector(vec![0.5; 24]) };
    let request = SearchRequest { top_k: 100, ..SearchRequest::new(target) };
    match store.search(&name(), request).await {
        Ok(answer) => {
            for hit in answer.legs.iter().flat_map(|leg| &leg.hits) {
                let i: usize = hit.id.as_str()[1..].parse().expect("an id of ours");
                assert_eq!(hit.title, record(i).record.title);
            }
            whole &= answer.legs.iter().all(|leg| leg.hits.len() == RECORDS);
        }
        Err(SubstrateError::NoCollection(_) | SubstrateError::Dimensions { .. }) => whole = false,
        Err(error) => {
            whole = false;
            names_it(error);
        }
    }
    whole
}

fn copy(of: &Path, folder: &Path, number: usize, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(of).expect("reads");
    change(&mut bytes);
    let path = folder.join(format!("{number}.db"));
    fs::write(&path, bytes).expect("writes");
    path
}

#[tokio::test]
async fn a_store_is_open_once_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let store = open(&path).await.expect("opens");
    let again = open(&path).await;
    assert!(matches!(&again, Err(SubstrateError::InUse { path: at }) if *at == path), "{again:?}");
    drop(store);
    open(&path).await.expect("opens once it is free");
}

#[tokio::test]
async fn what_a_broken_off_making_left_is_no_hindrance() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("store.db.new"), b"half").expect("writes");
    fs::write(folder.path().join("store.db.new-journal"), b"half").expect("writes");
    let path = folder.path().join("store.db");
    fill(&path).await;
    assert!(honest(&path).await);
}

#[tokio::test]
async fn an_unknown_backend_is_refused_with_those_known() {
    let opened = SubstrateInstance::open("papyrus", OpenOptions::new("/nowhere/x.db")).await;
    assert!(opened.expect_err("refused").to_string().contains("embedded"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_store_is_its_owners_alone_to_read() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    fill(&folder.path().join("store.db")).await;
    let store = open(&folder.path().join("store.db")).await.expect("opens");
    store.put(&name(), vec![record(0)], None).await.expect("puts");
    for file in fs::read_dir(folder.path()).expect("lists") {
        let file = file.expect("a file");
        let mode = file.metadata().expect("has a mode").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", file.path());
    }
}

#[tokio::test]
async fn files_of_another_kind_or_version_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    fill(&path).await;
    assert!(honest(&path).await);
    let refused = async |number, change: fn(&mut Vec<u8>)| {
        let path = copy(&path, folder.path(), number, change);
        let before = fs::read(&path).expect("reads");
        let error = open(&path).await.expect_err("refused");
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        assert_eq!(fs::read(&path).expect("reads"), before, "a refused file stays as it is");
        error
    };
    assert!(matches!(refused(1, Vec::clear).await, SubstrateError::Damaged { .. }));
    let text = refused(2, |bytes| *bytes = b"no database at all, ".repeat(100)).await;
    assert!(matches!(text, SubstrateError::Damaged { .. }));
    // The version that a program may set is at byte 60, the application's mark at 68.
    let newer = refused(3, |bytes| bytes[60..64].copy_from_slice(&2_u32.to_be_bytes())).await;
    assert!(matches!(newer, SubstrateError::NewerFormat { found: 2, known: 1, .. }));
    let other = refused(4, |bytes| bytes[68..72].copy_from_slice(&[0; 4])).await;
    assert!(matches!(other, SubstrateError::Damaged { .. }));
    let missing = open(&folder.path().join("none/store.db")).await;
    assert!(matches!(missing, Err(SubstrateError::Storage { .. })));
    let orphan = folder.path().join("orphan.db");
    fs::write(folder.path().join("orphan.db-wal"), b"x").expect("writes");
    assert!(matches!(open(&orphan).await, Err(SubstrateError::Damaged { .. })));
}

#[tokio::test]
async fn a_file_cut_short_is_refused_or_read_honestly() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    fill(&path).await;
    let len = fs::read(&path).expect("reads").len();
    for (number, cut) in (0..40).map(|i| (i, len * i / 40)) {
        let path = copy(&path, folder.path(), number, |bytes| bytes.truncate(cut));
        assert!(!honest(&path).await, "cut at {cut} of {len}");
    }
}

#[tokio::test]
async fn flipped_bytes_are_noticed_and_never_answered_as_truth() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    fill(&path).await;
    let mut numbers = Numbers(5);
    let mut noticed = 0;
    for number in 0..FLIPS {
        let path = copy(&path, folder.path(), 0, |bytes| {
            for _ in 0..=number % 3 {
                let at = numbers.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << numbers.below(8);
            }
        });
        noticed += usize::from(!honest(&path).await);
        fs::remove_file(folder.path().join("0.db-wal")).ok();
    }
    // Many bytes are free space, where a flip changes nothing.
    assert!(noticed > FLIPS / 10, "{noticed} of {FLIPS}");
}

const FLIPS: usize = 150;
