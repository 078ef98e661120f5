//! Measures the embedded substrate on a folder of real records: recall, latencies, import rate.
//!
//! `cargo run --release -p exo-substrate --example recall -- FOLDER` where FOLDER holds pairs
//! `NAME.jsonl` and `NAME.f16.npy`, queries `_queries.jsonl` with `_queries.f32.npy`, and
//! `_truth.part.jsonl`, per query the exact best by cosine.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use exo_substrate::import::{Header, ImportPlan};
use exo_substrate::{EmbeddedSubstrate, NewRecord, OpenOptions, SearchRequest, Substrate, metric};
use exo_types::{
    CollectionName, CollectionSpec, Condition, ContentHash, Filter, FilterOp, MetadataValue,
    Metric, QueryTarget, RecordId,
};
use serde_json::Value;

type Outcome<T> = Result<T, Box<dyn Error>>;

const DIMENSIONS: u32 = 384;
const LARGE: usize = 100_000;

struct Query {
    id: String,
    text: String,
    vector: Vec<f32>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("give the folder of records")?);
    let store_folder = tempfile::tempdir()?;
    let path = store_folder.path().join("store.db");
    let queries = queries(&folder)?;
    let truth = truth(&folder)?;

    let exact = OpenOptions { exact_scan_records_max: usize::MAX, ..OpenOptions::new(&path) };
    let approximate = OpenOptions { exact_scan_records_max: 0, ..OpenOptions::new(&path) };
    let store = EmbeddedSubstrate::open(exact.clone()).await?;
    let records = import(&store, &folder).await?;
    perturbed(&store, &records).await?;
    let stats = store.stats().await?;
    println!("on disk {} MB, in memory {} MB", stats.disk_bytes >> 20, stats.memory_bytes >> 20);
    drop(store);

    let mut scanned = None;
    for (how, options) in [("exact", &exact), ("two-stage", &approximate)] {
        let start = Instant::now();
        let store = EmbeddedSubstrate::open(options.clone()).await?;
        println!("\n{how}: opened in {:?}", start.elapsed());
        for name in ["all", "large"] {
            let (times, found) = vectors(&store, name, &queries, None).await?;
            let recall = match name {
                "all" => recall_by_truth(&found, &queries, &truth, &records),
                _ => recall_by_scan(&found, scanned.get_or_insert_with(|| found.clone())),
            };
            println!("  {name}: recall@10 {recall:.4}, {}", spread(times));
        }
        let condition = Condition {
            field: "source".into(),
            op: FilterOp::Eq,
            value: MetadataValue::Text("jargon".into()),
        };
        let filter = Some(Filter { all: vec![condition] });
        let (times, _) = vectors(&store, "all", &queries, filter).await?;
        println!("  all, filtered to one source (12%): exact, {}", spread(times));
    }
    texts(&exact, &queries).await
}

fn name(text: &str) -> Outcome<CollectionName> {
    Ok(CollectionName::new(text)?)
}

fn spec(text: &str) -> Outcome<CollectionSpec> {
    let embedder = "all-MiniLM-L6-v2".into();
    Ok(CollectionSpec {
        name: name(text)?,
        dimensions: DIMENSIONS,
        metric: Metric::Cosine,
        embedder,
    })
}

/// Imports every pair of files into `all`, and the largest source into `foldoc` as well.
async fn import(store: &EmbeddedSubstrate, folder: &Path) -> Outcome<Vec<NewRecord>> {
    store.create(spec("all")?).await?;
    store.create(spec("foldoc")?).await?;
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("_");
        name.ends_with(".jsonl") && !name.starts_with('_')
    });
    files.sort();
    let mut all = Vec::new();
    let (mut checking, mut writing) = (Duration::ZERO, Duration::ZERO);
    for path in files {
        let start = Instant::now();
        let vectors = path.with_extension("f16.npy");
        let plan = ImportPlan::check(&path, Some(&vectors), &spec("all")?, |_| ())?;
        checking += start.elapsed();
        // The content hash is the caller's to compute; any will do to measure.
        for batch in plan.batches(0, |_, _| ContentHash([0; 32]))? {
            let batch = batch?;
            all.extend(batch.records.iter().cloned());
            if path.ends_with("foldoc.jsonl") {
                store.put(&name("foldoc")?, batch.records.clone(), None).await?;
            }
            let start = Instant::now();
            store.put(&name("all")?, batch.records, Some(batch.mark)).await?;
            writing += start.elapsed();
        }
    }
    println!(
        "{} records: checked at {:.0} a second, written durably at {:.0} a second",
        all.len(),
        all.len() as f64 / checking.as_secs_f64(),
        all.len() as f64 / writing.as_secs_f64()
    );
    let mut times = Vec::new();
    for new in all.iter().take(100) {
        let start = Instant::now();
        store.put(&name("all")?, vec![new.clone()], None).await?;
        times.push(start.elapsed());
    }
    println!("one record a write, replaced in place: {}", spread(times));
    Ok(all)
}

/// Makes records around the real ones, at cosine 0.9 or so from each.
async fn perturbed(store: &EmbeddedSubstrate, records: &[NewRecord]) -> Outcome<()> {
    store.create(spec("large")?).await?;
    let mut state = 1_u64;
    let mut random = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let start = Instant::now();
    let mut batch = Vec::new();
    for (i, new) in records.iter().cycle().take(LARGE).enumerate() {
        let mut new = new.clone();
        new.record.id = RecordId::new(format!("{i}"))?;
        if let Some(vector) = &mut new.vector {
            // Uniform noise of this width has about half the length of the unit vector.
            vector.iter_mut().for_each(|x| *x += random() * 0.09);
        }
        batch.push(new);
        if batch.len() == 1000 {
            store.put(&name("large")?, std::mem::take(&mut batch), None).await?;
        }
    }
    store.put(&name("large")?, batch, None).await?;
    let rate = LARGE as f64 / start.elapsed().as_secs_f64();
    println!("{LARGE} perturbed records: written durably at {rate:.0} a second");
    Ok(())
}

fn queries(folder: &Path) -> Outcome<Vec<Query>> {
    let bytes = fs::read(folder.join("_queries.f32.npy"))?;
    let header = Header::decode(&bytes)?;
    let numbers: Vec<f32> = bytes[header.start as usize..]
        .as_chunks::<4>()
        .0
        .iter()
        .map(|number| f32::from_le_bytes(*number))
        .collect();
    let text = fs::read_to_string(folder.join("_queries.jsonl"))?;
    let mut queries = Vec::new();
    for (line, vector) in text.lines().zip(numbers.chunks_exact(header.dimensions)) {
        let line: Value = serde_json::from_str(line)?;
        let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        queries.push(Query { id: field("qid"), text: field("text"), vector: vector.to_vec() });
    }
    Ok(queries)
}

/// Per query the score of its tenth best record.
fn truth(folder: &Path) -> Outcome<HashMap<String, f32>> {
    let text = fs::read_to_string(folder.join("_truth.part.jsonl"))?;
    let mut truth = HashMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        let tenth = line["top100"][9][1].as_f64().ok_or("a truth without scores")?;
        truth.insert(line["qid"].as_str().unwrap_or_default().to_owned(), tenth as f32);
    }
    Ok(truth)
}

type Found = Vec<Vec<(RecordId, f32)>>;

async fn vectors(
    store: &EmbeddedSubstrate,
    collection: &str,
    queries: &[Query],
    filter: Option<Filter>,
) -> Outcome<(Vec<Duration>, Found)> {
    let (mut times, mut found) = (Vec::new(), Vec::new());
    for round in 0..4 {
        for query in queries {
            let mut request = SearchRequest::new(QueryTarget::vector(query.vector.clone()));
            request.filter = filter.clone().unwrap_or_default();
            let start = Instant::now();
            let answer = store.search(&name(collection)?, request).await?;
            // The first round warms the page cache.
            if round > 0 {
                times.push(start.elapsed());
            } else {
                let hits = &answer.legs[0].hits;
                found.push(hits.iter().map(|hit| (hit.id.clone(), hit.score)).collect());
            }
        }
    }
    Ok((times, found))
}

/// The share of hits that score no worse than the true tenth, recomputed, within the rounding of
/// the vectors to 16 bits.
fn recall_by_truth(
    found: &Found,
    queries: &[Query],
    truth: &HashMap<String, f32>,
    records: &[NewRecord],
) -> f64 {
    let by_id: HashMap<&RecordId, &NewRecord> = records.iter().map(|r| (&r.record.id, r)).collect();
    let mut right = 0;
    for (hits, query) in found.iter().zip(queries) {
        let bar = truth.get(&query.id).copied().unwrap_or(f32::MAX) - 0.001;
        for (id, score) in hits {
            let vector = by_id.get(id).and_then(|new| new.vector.as_deref()).unwrap_or_default();
            let recomputed = metric::score(Metric::Cosine, &query.vector, vector);
            right += usize::from(recomputed.to_bits() == score.to_bits() && *score >= bar);
        }
    }
    right as f64 / (10 * queries.len()) as f64
}

/// The share of hits that an exact scan gives, too.
fn recall_by_scan(found: &Found, exact: &Found) -> f64 {
    let mut right = 0;
    for (found, exact) in found.iter().zip(exact) {
        right += found.iter().filter(|hit| exact.contains(*hit)).count();
    }
    right as f64 / (10 * found.len()) as f64
}

async fn texts(options: &OpenOptions, queries: &[Query]) -> Outcome<()> {
    println!("\ntext");
    for collection in ["foldoc", "all", "large"] {
        let store = EmbeddedSubstrate::open(options.clone()).await?;
        let (mut first, mut again, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..3 {
            for query in queries {
                let start = Instant::now();
                let terms = store.term_stats(&name(collection)?, &query.text).await?;
                let counted = start.elapsed();
                let mut request = SearchRequest::new(QueryTarget::text(query.text.clone()));
                request.terms = Some(terms);
                let start = Instant::now();
                store.search(&name(collection)?, request).await?;
                if round == 0 {
                    first.push(counted + start.elapsed());
                } else {
                    counts.push(counted);
                    again.push(start.elapsed());
                }
            }
        }
        println!("  {collection}: first time after a write {}", spread(first));
        println!("  {collection}: again {}, its statistics {}", spread(again), spread(counts));
    }
    Ok(())
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    format!("p50 {:.2} ms, p99 {:.2} ms", at(50), at(99))
}
