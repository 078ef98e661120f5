//! What is searched and what is asked: made up from a seed, or real files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use exo_federation::ErrorCode;
use exo_types::limits::QUERY_ROWS_MAX;
use exo_types::{CollectionName, CollectionSpec, Metric, QueryTarget};
use serde_json::Value;

use super::broken;
use crate::exit::Failure;
use crate::npy;

/// Records in files, as an import reads them, and queries.
pub(super) struct Data {
    /// The collection at every node.
    pub(super) spec: CollectionSpec,
    /// The pairs of files, the largest first.
    pub(super) pairs: Vec<Pair>,
    /// Query vectors.
    pub(super) vectors: Vec<Vec<f32>>,
    /// Query texts.
    pub(super) texts: Vec<String>,
}

/// Records and their vectors.
#[derive(Clone)]
pub(super) struct Pair {
    /// JSON lines.
    pub(super) records: PathBuf,
    /// NumPy file of the same rows.
    pub(super) vectors: PathBuf,
}

impl Data {
    /// The pairs of files that one node of so many holds.
    pub(super) fn of_node(&self, node: usize, nodes: usize) -> impl Iterator<Item = &Pair> {
        self.pairs.iter().skip(node).step_by(nodes)
    }

    /// A query by vector.
    pub(super) fn by_vector(&self, query: usize) -> QueryTarget {
        let vector = self.vectors[query % self.vectors.len()].clone();
        QueryTarget { vector, text: String::new(), embedder: self.spec.embedder.clone() }
    }

    /// A query by text.
    pub(super) fn by_text(&self, query: usize) -> QueryTarget {
        QueryTarget::text(self.texts[query % self.texts.len()].clone())
    }
}

/// Real files of a directory.
pub(super) fn files(directory: &Path) -> Result<Data, Failure> {
    let failed = |error: std::io::Error| Failure::file(directory, &error);
    let mut pairs = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let records = entry.map_err(failed)?.path();
        let name = records.file_name().and_then(|name| name.to_str()).unwrap_or("_");
        if !name.ends_with(".jsonl") || name.starts_with('_') {
            continue;
        }
        let vectors = ["f16.npy", "f32.npy"].map(|end| records.with_extension(end));
        if let Some(vectors) = vectors.into_iter().find(|path| path.exists()) {
            let bytes = std::fs::metadata(&vectors).map_err(failed)?.len();
            pairs.push((bytes, Pair { records, vectors }));
        }
    }
    // In an order that does not depend on the file system.
    pairs.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.records.cmp(&b.1.records)));
    let pairs: Vec<Pair> = pairs.into_iter().map(|(_, pair)| pair).collect();
    let first = pairs.first().ok_or_else(|| missing(directory, "no pair of files"))?;
    let dimensions = npy::header(&first.vectors)?.dimensions;

    let rows = npy::read(&directory.join("_queries.f32.npy"), QUERY_ROWS_MAX)?;
    let vectors = (0..rows.len()).filter_map(|row| rows.get(row)).map(<[f32]>::to_vec).collect();
    let path = directory.join("_queries.jsonl");
    let lines = std::fs::read_to_string(&path).map_err(|error| Failure::file(&path, &error))?;
    let text = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["text"].as_str().map(str::to_owned)
    };
    let texts: Vec<String> = lines.lines().filter_map(text).collect();
    if texts.is_empty() || rows.is_empty() {
        return Err(missing(directory, "no queries"));
    }
    Ok(Data { spec: spec(dimensions)?, pairs, vectors, texts })
}

/// Records made up from a seed: vectors of length one around many centres, as embeddings lie, and
/// texts of words that occur as often as a language's do. A part for each node, all of one size.
pub(super) fn made_up(
    root: &Path,
    nodes: usize,
    records: usize,
    dims: usize,
) -> Result<Data, Failure> {
    let mut random = Random(SEED);
    let centres: Vec<Vec<f32>> =
        (0..(records / RECORDS_PER_CENTRE).max(16)).map(|_| random.direction(dims)).collect();
    let mut pairs = Vec::with_capacity(nodes);
    for node in 0..nodes {
        let of_node = records / nodes + usize::from(node < records % nodes);
        let path = |end: &str| root.join(format!("part-{node}.{end}"));
        let pair = Pair { records: path("jsonl"), vectors: path("f32.npy") };
        write_records(&pair.records, node, of_node, &mut random)
            .map_err(|error| Failure::file(&pair.records, &error))?;
        write_vectors(&pair.vectors, of_node, &centres, &mut random)
            .map_err(|error| Failure::file(&pair.vectors, &error))?;
        pairs.push(pair);
    }
    let vectors = (0..QUERIES).map(|_| random.near(&centres)).collect();
    let texts = (0..QUERIES).map(|_| random.words(3)).collect();
    Ok(Data { spec: spec(dims)?, pairs, vectors, texts })
}

fn write_records(
    path: &Path,
    node: usize,
    records: usize,
    random: &mut Random,
) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for record in 0..records {
        let (title, length) = (random.words(3), 20 + random.below(40));
        let text = random.words(length);
        let line = serde_json::json!({
            "id": format!("{node}:{record}"), "title": title, "text": text, "part": node,
        });
        writeln!(file, "{line}")?;
    }
    file.flush()
}

fn write_vectors(
    path: &Path,
    records: usize,
    centres: &[Vec<f32>],
    random: &mut Random,
) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let dims = centres.first().map_or(0, Vec::len);
    let shape = format!("({records}, {dims})");
    let head = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&(head.len() as u16).to_le_bytes())?;
    file.write_all(head.as_bytes())?;
    for _ in 0..records {
        for number in random.near(centres) {
            file.write_all(&number.to_le_bytes())?;
        }
    }
    file.flush()
}

fn spec(dimensions: usize) -> Result<CollectionSpec, Failure> {
    let name = CollectionName::new("bench").map_err(|error| broken("a name", error))?;
    let dimensions = u32::try_from(dimensions).map_err(|error| broken("dimensions", error))?;
    Ok(CollectionSpec { name, dimensions, metric: Metric::Cosine, embedder: "bench".to_owned() })
}

fn missing(directory: &Path, what: &str) -> Failure {
    Failure::new(ErrorCode::InvalidArgument, format!("{} holds {what}", directory.display()))
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to but not 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.unit() * bound as f64) as usize
    }

    /// A vector of length one, every direction as likely as any other.
    fn direction(&mut self, dims: usize) -> Vec<f32> {
        // Box and Muller's normal deviates.
        let normal = |random: &mut Self| {
            let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
            (radius * (std::f64::consts::TAU * random.unit()).cos()) as f32
        };
        let vector: Vec<f32> = (0..dims).map(|_| normal(self)).collect();
        normalised(vector)
    }

    /// A vector of length one near one of some centres.
    fn near(&mut self, centres: &[Vec<f32>]) -> Vec<f32> {
        let centre = &centres[self.below(centres.len())];
        let away = self.direction(centre.len());
        normalised(centre.iter().zip(&away).map(|(c, a)| c + SPREAD * a).collect())
    }

    /// Words of a made-up language; the word of rank r comes about 1/r as often as the first.
    fn words(&mut self, count: usize) -> String {
        let mut text = String::with_capacity(8 * count);
        for word in 0..count {
            if word > 0 {
                text.push(' ');
            }
            let mut rank = (VOCABULARY as f64).powf(self.unit()) as usize;
            // Syllables spell the rank, so that every word is itself on every machine.
            loop {
                text.push_str(SYLLABLES[rank % SYLLABLES.len()]);
                rank /= SYLLABLES.len();
                if rank == 0 {
                    break;
                }
            }
        }
        text
    }
}

fn normalised(vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.into_iter().map(|x| x / length).collect()
}

const SEED: u64 = 0x65_78_6f;
/// Records around one centre, about.
const RECORDS_PER_CENTRE: usize = 50;
/// How far a vector lies from its centre: cosine 0.8 or so to it.
const SPREAD: f32 = 0.75;
/// Different queries that are made up.
const QUERIES: usize = 500;
/// Different words.
const VOCABULARY: usize = 20_000;
const SYLLABLES: [&str; 28] = [
    "ba", "be", "bo", "da", "de", "du", "fa", "fi", "ga", "go", "ka", "ke", "la", "li", "lo", "ma",
    "mi", "mu", "na", "no", "pa", "pe", "ra", "ro", "sa", "su", "ta", "ti",
];

#[cfg(test)]
mod tests {
    use exo_substrate::import::ImportPlan;

    use super::*;

    #[test]
    fn what_is_made_up_can_be_imported_and_is_the_same_every_time() {
        let [first, second] = [(); 2].map(|()| tempfile::tempdir().expect("directory"));
        let one = made_up(first.path(), 3, 100, 8).expect("makes up");
        let two = made_up(second.path(), 3, 100, 8).expect("makes up");
        let mut rows = 0;
        for node in 0..3 {
            for (a, b) in one.of_node(node, 3).zip(two.of_node(node, 3)) {
                let plan = ImportPlan::check(&a.records, Some(&a.vectors), &one.spec, |_| ());
                rows += plan.expect("fits").rows();
                for (a, b) in [(&a.records, &b.records), (&a.vectors, &b.vectors)] {
                    assert_eq!(std::fs::read(a).expect("reads"), std::fs::read(b).expect("reads"));
                }
            }
        }
        assert_eq!(rows, 100);
        assert_eq!((one.vectors, one.texts), (two.vectors, two.texts));
    }

    #[test]
    fn vectors_lie_around_centres() {
        let mut random = Random(1);
        let centres: Vec<_> = (0..20).map(|_| random.direction(64)).collect();
        for _ in 0..50 {
            let vector = random.near(&centres);
            let best =
                centres.iter().map(|c| Metric::Cosine.score(c, &vector)).fold(-1.0, f64::max);
            assert!((0.7..0.95).contains(&best), "{best}");
        }
    }
}
