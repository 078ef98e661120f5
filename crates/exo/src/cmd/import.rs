//! `exo import`: reads records from a file, checks all of it, then sends it in batches that can be
//! resumed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use exo_crypto::content_hash;
use exo_federation::ErrorCode;
use exo_substrate::NewRecord;
use exo_substrate::import::{Batch, ImportPlan};
use exo_types::limits::IMPORT_BATCH_BYTES;
use exo_types::{CollectionName, CollectionSpec};
use serde::Serialize;

use super::Context;
use super::collection::{MetricArg, said, starting_policy};
use crate::api::dto::Document;
use crate::api::dto::collection::{
    CollectionDoc, CollectionRequest, PolicyDoc, ReadersDoc, ReadersName,
};
use crate::api::dto::record::{
    ImportDoc, NewRecordDoc, ProgressDoc, PutDoc, RecordsRequest, metadata_doc,
};
use crate::client::{Client, segment};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::progress::{Progress, rate};
use crate::span;

/// Arguments of `exo import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Records, one JSON object a line: {"id", "title", "text", and any other fields as metadata}
    file: PathBuf,
    /// The collection; made if it is not there
    #[arg(long, value_name = "NAME")]
    into: CollectionName,
    /// Vectors of the same rows in the same order: .npy of f32 or f16, [records, dimensions]
    #[arg(long, value_name = "F.npy")]
    vectors: Option<PathBuf>,
    /// How vectors are compared, for a new collection [default: cosine]
    #[arg(long, value_enum)]
    metric: Option<MetricArg>,
    /// The model that made the vectors, for a new collection
    #[arg(long, value_name = "NAME")]
    embedder: Option<String>,
    /// Nobody but this node's own users may read the new collection
    #[arg(long)]
    private: bool,
    /// Start from the first row, whatever an earlier run of this import has done
    #[arg(long)]
    from_start: bool,
}

/// What an import did, `exo.import/1`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ImportedDoc {
    schema: &'static str,
    collection: CollectionName,
    /// Rows of the file.
    pub(crate) records: u64,
    /// Records that were new.
    pub(crate) inserted: u64,
    /// Records that took the place of one with the same id.
    pub(crate) replaced: u64,
    /// Rows that an earlier run had written already.
    resumed_from: u64,
    elapsed_ms: f64,
}

impl Args {
    /// An import of a file pair into a new collection that members may read.
    pub(crate) fn pair(
        file: PathBuf,
        vectors: PathBuf,
        into: CollectionName,
        embedder: &str,
    ) -> Self {
        Self {
            file,
            into,
            vectors: Some(vectors),
            metric: None,
            embedder: Some(embedder.to_owned()),
            private: false,
            from_start: false,
        }
    }
}

/// Imports, and says what it did.
pub(crate) fn run(context: &Context, args: &Args) -> Outcome {
    let output = &context.output;
    let client = context.client()?;
    let done = import(output, &client, args)?;
    if output.json {
        output.json(&done)?;
        return Ok(Exit::Ok);
    }
    let elapsed = Duration::from_secs_f64(done.elapsed_ms / 1000.0);
    let written = done.inserted + done.replaced;
    let mut line = format!(
        "{} records are in {}: {} new, {} replaced, in {} ({:.0} a second)",
        done.records,
        done.collection,
        done.inserted,
        done.replaced,
        span::show(elapsed),
        rate(written, elapsed),
    );
    if done.resumed_from > 0 {
        line.push_str(&format!("; an earlier run had written {}", done.resumed_from));
    }
    output.line(&line)?;
    Ok(Exit::Ok)
}

/// Imports into the collection of a running node.
pub(crate) fn import(
    output: &Output,
    client: &Client,
    args: &Args,
) -> Result<ImportedDoc, Failure> {
    let began = Instant::now();
    let path = format!("/v1/collections/{}", segment(args.into.as_str()));
    let existing: Option<CollectionDoc> = match client.get::<Document<CollectionDoc>>(&path) {
        Ok(found) => Some(found.body),
        Err(failure) if failure.code == ErrorCode::CollectionNotFound.as_str() => None,
        Err(failure) => return Err(failure),
    };
    let spec = match &existing {
        Some(found) => agree(found, args)?,
        None => declare(args)?,
    };
    let plan = check(output, args, &spec)?;
    if existing.is_none() {
        let made: Document<CollectionDoc> =
            client.post("/v1/collections", &request(&spec, starting_policy(args.private)))?;
        if !output.json {
            output.note(&said(&made.body.policy));
        }
    }
    let id = HEXLOWER.encode(&plan.import_id());
    let progress: Document<ProgressDoc> = client.get(&format!("{path}/imports/{id}"))?;
    // A finished import that is run again writes all of it again.
    let resumed_from = match progress.body.rows_done {
        Some(rows) if rows < plan.rows() && !args.from_start => rows,
        _ => 0,
    };
    let put = send(output, client, &format!("{path}/records"), &plan, resumed_from)?;
    Ok(ImportedDoc {
        schema: "exo.import/1",
        collection: args.into.clone(),
        records: plan.rows(),
        inserted: put.inserted,
        replaced: put.replaced,
        resumed_from,
        elapsed_ms: span::millis(began.elapsed()),
    })
}

/// The declaration of a collection that is there; what was asked for must not differ from it.
fn agree(found: &CollectionDoc, args: &Args) -> Result<CollectionSpec, Failure> {
    let spec = &found.spec;
    let differs = |what: &str| {
        Err(Failure::new(
            ErrorCode::CollectionExists,
            format!("collection {} is declared with another {what}", spec.name),
        ))
    };
    if args.metric.is_some_and(|metric| exo_types::Metric::from(metric) != spec.metric) {
        return differs("metric");
    }
    if args.embedder.as_ref().is_some_and(|embedder| *embedder != spec.embedder) {
        return differs("embedder");
    }
    let nobody = ReadersDoc::Named(ReadersName::Nobody);
    if args.private && found.policy.readers != nobody {
        return Err(Failure::new(
            ErrorCode::InvalidArgument,
            format!("collection {} is there and members may read it", spec.name),
        )
        .with_remedy(format!(
            "`exo collection policy {} --readers nobody` makes it private first.",
            spec.name
        )));
    }
    Ok(CollectionSpec {
        name: spec.name.clone(),
        dimensions: spec.dimensions,
        metric: spec.metric,
        embedder: spec.embedder.clone(),
    })
}

/// The declaration of a new collection; its dimensions are the vectors' own.
fn declare(args: &Args) -> Result<CollectionSpec, Failure> {
    let dimensions = match &args.vectors {
        Some(path) => {
            crate::npy::header(path)
                .map_err(|failure| Failure::new(ErrorCode::ImportInvalid, failure.message))?
                .dimensions
        }
        None => 0,
    };
    let spec = CollectionSpec {
        name: args.into.clone(),
        dimensions: u32::try_from(dimensions).unwrap_or(u32::MAX),
        metric: args.metric.unwrap_or(MetricArg::Cosine).into(),
        embedder: args.embedder.clone().unwrap_or_default(),
    };
    spec.check().map_err(|error| {
        Failure::new(ErrorCode::InvalidArgument, format!("the collection: {error}"))
    })?;
    Ok(spec)
}

fn request(spec: &CollectionSpec, policy: PolicyDoc) -> CollectionRequest {
    CollectionRequest {
        name: spec.name.clone(),
        dimensions: spec.dimensions,
        metric: spec.metric,
        embedder: spec.embedder.clone(),
        policy,
    }
}

/// Reads the files to their end before anything is written.
fn check(output: &Output, args: &Args, spec: &CollectionSpec) -> Result<ImportPlan, Failure> {
    let mut told = Instant::now();
    let say = |rows| {
        if told.elapsed() >= CHECK_LINE_EVERY {
            told = Instant::now();
            output.note(&format!("checked {rows} rows"));
        }
    };
    ImportPlan::check(&args.file, vectors(args), spec, say)
        .map_err(|error| Failure::new(ErrorCode::ImportInvalid, error.to_string()))
}

fn vectors(args: &Args) -> Option<&Path> {
    args.vectors.as_deref()
}

/// Sends what is not written yet.
fn send(
    output: &Output,
    client: &Client,
    path: &str,
    plan: &ImportPlan,
    from: u64,
) -> Result<PutDoc, Failure> {
    let mut progress = Progress::start(*output, "importing", "records", from, plan.rows());
    let mut total = PutDoc { inserted: 0, replaced: 0 };
    let batches = plan
        .batches(from, content_hash)
        .map_err(|error| Failure::new(ErrorCode::ImportInvalid, error.to_string()))?;
    for batch in batches {
        let batch =
            batch.map_err(|error| Failure::new(ErrorCode::ImportInvalid, error.to_string()))?;
        for request in requests(batch) {
            let rows_done = request.import.as_ref().map_or(0, |import| import.rows_done);
            let put: Document<PutDoc> =
                patiently(|| client.post_within(path, &request, PUT_WITHIN))?;
            total.inserted += put.body.inserted;
            total.replaced += put.body.replaced;
            progress.at(rows_done);
        }
    }
    progress.finish();
    Ok(total)
}

/// Tries again for a while when the node is busy. A batch that was written all the same is written
/// once more with the same ids: nothing is doubled.
fn patiently<T>(mut call: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let began = Instant::now();
    loop {
        match call() {
            Err(failure)
                if failure.code == ErrorCode::Busy.as_str() && began.elapsed() < BUSY_WITHIN =>
            {
                std::thread::sleep(BUSY_PAUSE);
            }
            other => return other,
        }
    }
}

/// Cuts a batch into requests that are neither long nor large; each carries how far it brings the
/// import.
fn requests(batch: Batch) -> Vec<RecordsRequest> {
    let id = HEXLOWER.encode(&batch.mark.import_id);
    let mut rows_done = batch.mark.rows_done - batch.records.len() as u64;
    let mut requests = Vec::new();
    let mut records = Vec::new();
    let mut bytes = 0;
    let mut close = |records: &mut Vec<NewRecordDoc>| {
        rows_done += records.len() as u64;
        requests.push(RecordsRequest {
            records: std::mem::take(records),
            import: Some(ImportDoc { id: id.clone(), rows_done }),
        });
    };
    for record in batch.records {
        let size = json_bytes(&record);
        if !records.is_empty()
            && (records.len() >= BATCH_RECORDS || bytes + size > IMPORT_BATCH_BYTES)
        {
            close(&mut records);
            bytes = 0;
        }
        bytes += size;
        records.push(doc(record));
    }
    if !records.is_empty() {
        close(&mut records);
    }
    requests
}

/// About how long a record is in JSON: a number takes up to sixteen characters, a byte of text
/// rarely more than two.
fn json_bytes(new: &NewRecord) -> usize {
    let record = &new.record;
    let metadata: usize = record
        .metadata
        .iter()
        .map(|(key, value)| match value {
            exo_types::MetadataValue::Text(text) => key.len() + text.len() + 8,
            exo_types::MetadataValue::List(items) => {
                key.len() + items.iter().map(|item| item.len() + 4).sum::<usize>() + 8
            }
            _ => key.len() + 32,
        })
        .sum();
    let text = record.id.as_str().len() + record.title.len() + record.text.len() + metadata;
    2 * text + 16 * new.vector.as_ref().map_or(0, Vec::len) + 64
}

fn doc(new: NewRecord) -> NewRecordDoc {
    let metadata = metadata_doc(&new.record.metadata);
    let record = new.record;
    NewRecordDoc {
        id: record.id,
        title: record.title,
        text: record.text,
        metadata,
        vector: new.vector,
    }
}

/// Records sent at once: large enough that a sync to disk is shared, small enough to be quick.
const BATCH_RECORDS: usize = 500;
/// How often checking says how far it is.
const CHECK_LINE_EVERY: Duration = Duration::from_secs(10);
/// How long one batch may take to be written.
const PUT_WITHIN: Duration = Duration::from_secs(120);
/// How long a busy node is asked again.
const BUSY_WITHIN: Duration = Duration::from_secs(60);
/// Pause before a busy node is asked again.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use exo_substrate::ImportMark;
    use exo_types::{Record, RecordId};

    use super::*;

    fn batch(records: usize, text: usize, rows_done: u64) -> Batch {
        let record = |n: usize| NewRecord {
            record: Record {
                id: RecordId::new(format!("r:{n}")).expect("id"),
                title: String::new(),
                text: "x".repeat(text),
                metadata: BTreeMap::new(),
            },
            vector: None,
            content: content_hash("", ""),
        };
        Batch {
            records: (0..records).map(record).collect(),
            mark: ImportMark { import_id: [7; 32], rows_done },
        }
    }

    #[test]
    fn every_request_says_how_far_it_brings_the_import() {
        let requests = requests(batch(1000, 10, 3000));
        let done: Vec<_> = requests
            .iter()
            .map(|r| (r.records.len(), r.import.as_ref().expect("mark").rows_done))
            .collect();
        assert_eq!(done, [(500, 2500), (500, 3000)]);
    }

    #[test]
    fn large_records_make_small_requests() {
        let requests = requests(batch(100, 256 * 1024, 100));
        assert!(requests.len() > 5, "{}", requests.len());
        for request in &requests {
            let bytes = serde_json::to_vec(request).expect("json").len();
            assert!(bytes <= exo_types::limits::API_RECORDS_BODY_BYTES_MAX, "{bytes}");
        }
        let last = requests.last().and_then(|r| r.import.as_ref()).expect("mark");
        assert_eq!(last.rows_done, 100);
    }
}
