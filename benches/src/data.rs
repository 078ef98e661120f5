//! What is searched: real records, or vectors made up from a seed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use exo_substrate::NewRecord;
use exo_substrate::import::{Header, ImportPlan};
use exo_types::{CollectionName, CollectionSpec, ContentHash, Metric, Record, RecordId};

use crate::TOP;

/// Records, their vectors and the queries.
pub(crate) struct Data {
    /// `files` or `made up`.
    pub(crate) origin: &'static str,
    /// Length of every vector.
    pub(crate) dimensions: usize,
    /// Records; a record's position is its id in every engine.
    pub(crate) records: Vec<NewRecord>,
    /// The same vectors of length one, one after another.
    pub(crate) units: Vec<f32>,
    /// Query vectors of length one.
    pub(crate) queries: Vec<Vec<f32>>,
}

impl Data {
    /// Reads a directory's pairs of files; where `wanted` is more, adds perturbed copies.
    pub(crate) fn read(directory: &Path, wanted: Option<usize>) -> Result<Self> {
        let queries = queries(&directory.join("_queries.f32.npy"))?;
        let dimensions = queries.first().context("no queries")?.len();
        let spec = spec(dimensions)?;
        let mut files: Vec<PathBuf> = fs::read_dir(directory)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        files.retain(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("_");
            name.ends_with(".jsonl") && !name.starts_with('_')
        });
        files.sort();
        let mut records = Vec::new();
        for path in files {
            let vectors = path.with_extension("f16.npy");
            let plan = ImportPlan::check(&path, Some(&vectors), &spec, |_| ())?;
            // Nothing here looks at the hash of a record's content.
            for batch in plan.batches(0, |_, _| ContentHash([0; 32]))? {
                records.extend(batch?.records);
            }
        }
        ensure!(!records.is_empty(), "{} holds no records", directory.display());
        let mut random = Random(SEED);
        let real = records.len();
        for copy in real..wanted.unwrap_or(real) {
            let mut record = records[copy % real].clone();
            if let Some(vector) = &mut record.vector {
                // Uniform noise of this width has about half the length of a unit vector.
                vector.iter_mut().for_each(|x| *x += (random.unit() - 0.5) * 0.09);
            }
            records.push(record);
        }
        Ok(Self::new("files", dimensions, records, queries))
    }

    /// Makes up vectors around many centres, as embeddings lie.
    pub(crate) fn make_up(count: usize) -> Self {
        let mut random = Random(SEED);
        let dimensions = 384;
        let direction = |random: &mut Random| -> Vec<f32> {
            // A sum of uniform deviates is near enough to a normal one.
            let normal = |r: &mut Random| (0..6).map(|_| r.unit() - 0.5).sum();
            unit((0..dimensions).map(|_| normal(random)).collect())
        };
        let centres: Vec<_> = (0..(count / 50).max(16)).map(|_| direction(&mut random)).collect();
        let mut near = || {
            let centre = &centres[(random.unit() * centres.len() as f32) as usize % centres.len()];
            let away = direction(&mut random);
            unit(centre.iter().zip(away).map(|(c, a)| c + 0.75 * a).collect())
        };
        let record = |vector| NewRecord {
            record: Record {
                id: RecordId::new("0").expect("an id"),
                title: "made up".to_owned(),
                text: "a text of no meaning".to_owned(),
                metadata: Default::default(),
            },
            vector: Some(vector),
            content: ContentHash([0; 32]),
        };
        let records = (0..count).map(|_| record(near())).collect();
        let queries = (0..100).map(|_| near()).collect();
        Self::new("made up", dimensions, records, queries)
    }

    fn new(
        origin: &'static str,
        dimensions: usize,
        mut records: Vec<NewRecord>,
        queries: Vec<Vec<f32>>,
    ) -> Self {
        let mut units = Vec::with_capacity(records.len() * dimensions);
        for (at, record) in records.iter_mut().enumerate() {
            // Every engine names a record by its position.
            record.record.id = RecordId::new(at.to_string()).expect("digits are an id");
            units.extend(unit(record.vector.clone().unwrap_or_default()));
        }
        let queries = queries.into_iter().map(unit).collect();
        Self { origin, dimensions, records, units, queries }
    }

    /// A record's vector of length one.
    pub(crate) fn unit(&self, record: usize) -> &[f32] {
        &self.units[record * self.dimensions..][..self.dimensions]
    }

    /// Cosine similarity in double precision.
    pub(crate) fn score(&self, query: &[f32], record: usize) -> f64 {
        Metric::Cosine.score(query, self.unit(record))
    }

    /// Per query the score that a right result has at least: that of the tenth best, within what
    /// single precision cannot tell.
    pub(crate) fn bars(&self) -> Vec<f64> {
        let records = self.records.len();
        let bar = |query: &Vec<f32>| {
            let mut scores: Vec<f64> = (0..records).map(|at| self.score(query, at)).collect();
            let at = TOP.min(records) - 1;
            *scores.select_nth_unstable_by(at, |a, b| b.total_cmp(a)).1 - 1e-6
        };
        self.queries.iter().map(bar).collect()
    }
}

/// The collection of these vectors.
pub(crate) fn spec(dimensions: usize) -> Result<CollectionSpec> {
    Ok(CollectionSpec {
        name: CollectionName::new("bench")?,
        dimensions: u32::try_from(dimensions)?,
        metric: Metric::Cosine,
        embedder: String::new(),
    })
}

fn queries(path: &Path) -> Result<Vec<Vec<f32>>> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let header = Header::decode(&bytes)?;
    let body = bytes.get(usize::try_from(header.start)?..).unwrap_or_default();
    let numbers: Vec<f32> =
        body.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number)).collect();
    Ok(numbers.chunks_exact(header.dimensions).map(<[f32]>::to_vec).collect())
}

fn unit(vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.into_iter().map(|x| x / length).collect()
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers on every machine.
struct Random(u64);

impl Random {
    /// From 0 up to but not 1.
    fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1_u64 << 24) as f32
    }
}

const SEED: u64 = 0x65_78_6f;
