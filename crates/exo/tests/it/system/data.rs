//! The real texts and vectors, and larger sets made from them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The six sources.
pub(super) const SOURCES: [&str; 6] = ["devil", "elements", "foldoc", "jargon", "manpages", "vera"];

/// Dimensions of the vectors.
pub(super) const DIMENSIONS: usize = 384;

/// Where the data is; `None`, with a word about it, where it is not.
pub(super) fn dev_data() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/dev");
    let dir = std::env::var_os("EXO_DEV_DATA").map_or_else(beside, PathBuf::from);
    if dir.join("_queries.f32.npy").exists() {
        return Some(dir);
    }
    eprintln!("skipped: no data in {}", dir.display());
    None
}

/// The exact answers: per query ids and scores, best first.
pub(super) fn truth(dir: &Path) -> Vec<Vec<(String, f64)>> {
    let text = fs::read_to_string(dir.join("_truth.part.jsonl")).expect("the truth");
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).expect("JSON");
        let top = row["top100"].as_array().expect("a list");
        let pair = |pair: &Value| {
            let id = pair[0].as_str().expect("an id").to_owned();
            (id, pair[1].as_f64().expect("a score"))
        };
        top.iter().map(pair).collect()
    };
    text.lines().map(row).collect()
}

/// Rows of a `.npy` file of float16 or float32 in C order.
pub(super) fn rows(path: &Path) -> Vec<Vec<f32>> {
    let bytes = fs::read(path).expect("a .npy file");
    let header = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    let text = std::str::from_utf8(&bytes[10..10 + header]).expect("a header");
    let body = &bytes[10 + header..];
    let numbers: Vec<f32> = if text.contains("<f2") {
        let half = |two: &[u8]| half::f16::from_le_bytes([two[0], two[1]]).to_f32();
        body.chunks_exact(2).map(half).collect()
    } else {
        let single = |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
        body.chunks_exact(4).map(single).collect()
    };
    numbers.chunks_exact(DIMENSIONS).map(<[f32]>::to_vec).collect()
}

/// Writes records and their vectors as files to import.
pub(super) fn write_source(dir: &Path, name: &str, vectors: &[(String, Vec<f32>)]) {
    let line = |(id, _): &(String, _)| json!({ "id": id, "title": id, "text": id }).to_string();
    let lines: Vec<String> = vectors.iter().map(line).collect();
    write_lines(dir, name, lines.iter().map(String::as_str));
    write_rows(dir, name, vectors.iter().map(|(_, vector)| vector.as_slice()));
}

/// Writes `NAME.jsonl`.
fn write_lines<'a>(dir: &Path, name: &str, lines: impl Iterator<Item = &'a str>) {
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    fs::write(dir.join(format!("{name}.jsonl")), text).expect("written");
}

/// Writes `NAME.f32.npy`.
pub(super) fn write_rows<'a>(
    dir: &Path,
    name: &str,
    vectors: impl ExactSizeIterator<Item = &'a [f32]>,
) {
    let rows = vectors.len();
    let shape =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {DIMENSIONS}), }}");
    let padding = 64 - (10 + shape.len() + 1) % 64;
    let header = format!("{shape}{}\n", " ".repeat(padding));
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(vectors.flatten().flat_map(|x| x.to_le_bytes()));
    fs::write(dir.join(format!("{name}.f32.npy")), bytes).expect("written");
}

/// Real texts with vectors, and questions of both kinds.
pub(super) struct Corpus {
    records: Vec<(String, Vec<f32>)>,
    /// Vectors to ask with.
    pub(super) vectors: Vec<Vec<f32>>,
    /// Words to ask with.
    pub(super) texts: Vec<String>,
}

impl Corpus {
    /// The real data; where it is not, the texts that the demo brings along.
    pub(super) fn any() -> Self {
        match dev_data() {
            Some(dir) => {
                let asked = fs::read_to_string(dir.join("_queries.jsonl")).expect("the questions");
                let text = |line: &str| -> String {
                    let line: Value = serde_json::from_str(line).expect("JSON");
                    line["text"].as_str().expect("a text").to_owned()
                };
                Self {
                    records: SOURCES.iter().flat_map(|name| records(&dir, name)).collect(),
                    vectors: rows(&dir.join("_queries.f32.npy")),
                    texts: asked.lines().map(text).collect(),
                }
            }
            None => Self::bundled(),
        }
    }

    fn bundled() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
        let records: Vec<_> =
            ["devil", "elements", "jargon"].iter().flat_map(|name| records(&dir, name)).collect();
        let vectors = records.iter().step_by(97).map(|(_, vector)| vector.clone()).collect();
        let texts =
            ["liquid metal at room temperature", "politician who promises", "program crashes"];
        Self { records, vectors, texts: texts.map(str::to_owned).to_vec() }
    }

    /// Writes one of `parts` shares of the records as files to import; how many these are.
    pub(super) fn write_share(&self, dir: &Path, name: &str, share: usize, parts: usize) -> usize {
        let of_it: Vec<_> = self.records.iter().skip(share).step_by(parts).collect();
        write_lines(dir, name, of_it.iter().map(|(line, _)| line.as_str()));
        write_rows(dir, name, of_it.iter().map(|(_, vector)| vector.as_slice()));
        of_it.len()
    }
}

/// Lines of a source and their vectors.
fn records(dir: &Path, name: &str) -> Vec<(String, Vec<f32>)> {
    let lines = fs::read_to_string(dir.join(format!("{name}.jsonl"))).expect("records");
    let vectors = rows(&dir.join(format!("{name}.f16.npy")));
    lines.lines().map(str::to_owned).zip(vectors).collect()
}

/// Cosine similarity in double precision.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// A small generator with a seed (SplitMix64): the same set on every run.
pub(super) struct Seeded(pub(super) u64);

impl Seeded {
    /// A number in -1..1.
    pub(super) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}
