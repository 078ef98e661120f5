//! The demo's texts: public-domain works with their vectors, dealt out to the nodes, and the exact
//! answers to compare with.

use std::collections::HashSet;
use std::path::Path;

use exo_crypto::content_hash;
use exo_federation::ErrorCode;
use exo_types::{CollectionName, ContentHash, Metric, NodeName, RecordId};
use serde::Deserialize;

use crate::exit::Failure;
use crate::npy::{self, Rows};

/// The model that made the vectors.
pub(crate) const EMBEDDER: &str = "all-MiniLM-L6-v2";

/// What one node holds.
pub(crate) struct Part {
    /// Name of the node.
    pub(crate) node: NodeName,
    /// Its collection.
    pub(crate) collection: CollectionName,
    /// Its records, in the order of their file.
    pub(crate) entries: Vec<Entry>,
}

/// One record with its vector.
pub(crate) struct Entry {
    /// Its id.
    pub(crate) id: RecordId,
    /// Its heading.
    pub(crate) title: String,
    /// Its vector.
    pub(crate) vector: Vec<f32>,
    /// Hash of title and text.
    pub(crate) content: ContentHash,
    /// Its line of the file.
    line: &'static str,
}

/// One exact result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Exact {
    /// What it is, wherever it stands.
    pub(crate) content: ContentHash,
    /// Cosine similarity.
    pub(crate) score: f64,
}

#[derive(Deserialize)]
struct Line {
    id: RecordId,
    title: String,
    text: String,
}

/// Deals the texts out: a node each for the two short works, the long one by letters over the rest.
pub(crate) fn parts(nodes: usize) -> Result<Vec<Part>, Failure> {
    let elements = entries(ELEMENTS.0, ELEMENTS.1)?;
    let devil = entries(DEVIL.0, DEVIL.1)?;
    let jargon = by_letter(entries(JARGON.0, JARGON.1)?, nodes.saturating_sub(2).max(1));
    let mut parts = vec![part("elements", "elements", elements)?, part("devil", "devil", devil)?];
    for (letters, entries) in jargon {
        parts.push(part(&format!("jargon-{letters}"), "jargon", entries)?);
    }
    Ok(parts)
}

/// All texts of some parts by nearness to a vector, best first: every vector scored in double
/// precision, equal contents counted once.
pub(crate) fn exact<'a>(parts: impl Iterator<Item = &'a Part>, vector: &[f32]) -> Vec<Exact> {
    let score = |entry: &Entry| Exact {
        content: entry.content,
        score: Metric::Cosine.score(vector, &entry.vector),
    };
    let mut all: Vec<Exact> = parts.flat_map(|part| part.entries.iter().map(score)).collect();
    all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.content.cmp(&b.content)));
    let mut seen = HashSet::new();
    all.retain(|exact| seen.insert(exact.content));
    all
}

impl Part {
    /// Writes the part as the files that an import reads: JSON lines, and vectors of 16 bits.
    pub(crate) fn write(&self, jsonl: &Path, vectors: &Path) -> Result<(), Failure> {
        let lines: Vec<&str> = self.entries.iter().map(|entry| entry.line).collect();
        let text = lines.join("\n") + "\n";
        std::fs::write(jsonl, text).map_err(|error| Failure::file(jsonl, &error))?;
        std::fs::write(vectors, self.npy()).map_err(|error| Failure::file(vectors, &error))
    }

    fn npy(&self) -> Vec<u8> {
        let dimensions = self.entries.first().map_or(0, |entry| entry.vector.len());
        let shape = format!("({}, {dimensions})", self.entries.len());
        let head = format!("{{'descr': '<f2', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((head.len() as u16).to_le_bytes());
        bytes.extend(head.as_bytes());
        let numbers = self.entries.iter().flat_map(|entry| &entry.vector);
        bytes.extend(numbers.flat_map(|number| half::f16::from_f32(*number).to_le_bytes()));
        bytes
    }
}

fn part(node: &str, collection: &str, entries: Vec<Entry>) -> Result<Part, Failure> {
    let broken = |error: exo_types::NameError| broken(&error.to_string());
    Ok(Part {
        node: NodeName::new(node).map_err(broken)?,
        collection: CollectionName::new(collection).map_err(broken)?,
        entries,
    })
}

fn entries(jsonl: &'static str, vectors: &[u8]) -> Result<Vec<Entry>, Failure> {
    let rows: Rows = npy::decode(vectors).map_err(|error| broken(&error))?;
    let entry = |(row, line): (usize, &'static str)| {
        let parsed: Line =
            serde_json::from_str(line).map_err(|error| broken(&error.to_string()))?;
        let vector = rows.get(row).ok_or_else(|| broken("more lines than vectors"))?.to_vec();
        let content = content_hash(&parsed.title, &parsed.text);
        Ok(Entry { id: parsed.id, title: parsed.title, vector, content, line })
    };
    jsonl.lines().enumerate().map(entry).collect()
}

/// Splits entries into `parts` of about the same size, each a run of first letters.
fn by_letter(entries: Vec<Entry>, parts: usize) -> Vec<(String, Vec<Entry>)> {
    let mut letters: Vec<Vec<Entry>> = (0..26).map(|_| Vec::new()).collect();
    let total = entries.len();
    for entry in entries {
        // What begins with a digit or a sign goes with the first letter.
        let letter = entry.title.bytes().find(u8::is_ascii_alphabetic).unwrap_or(b'a');
        letters[usize::from(letter.to_ascii_lowercase() - b'a')].push(entry);
    }
    let mut split: Vec<(String, Vec<Entry>)> = Vec::new();
    let (mut from, mut held, mut seen) = (b'a', Vec::new(), 0);
    for (letter, mut group) in (b'a'..=b'z').zip(letters) {
        seen += group.len();
        held.append(&mut group);
        let full = seen * parts >= total * (split.len() + 1);
        if !held.is_empty() && (full && split.len() + 1 < parts || letter == b'z') {
            let (first, last) = (char::from(from), char::from(letter));
            split.push((format!("{first}-{last}"), std::mem::take(&mut held)));
            from = letter + 1;
        }
    }
    split
}

fn broken(what: &str) -> Failure {
    Failure::new(ErrorCode::Internal, format!("the demo's texts: {what}"))
}

const ELEMENTS: (&str, &[u8]) = (
    include_str!("../../../demo/elements.jsonl"),
    include_bytes!("../../../demo/elements.f16.npy"),
);
const DEVIL: (&str, &[u8]) =
    (include_str!("../../../demo/devil.jsonl"), include_bytes!("../../../demo/devil.f16.npy"));
const JARGON: (&str, &[u8]) =
    (include_str!("../../../demo/jargon.jsonl"), include_bytes!("../../../demo/jargon.f16.npy"));

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_text_goes_to_exactly_one_node() {
        for nodes in [5, 9, super::super::NODES_MAX] {
            let parts = parts(nodes).expect("deals out");
            assert_eq!(parts.len(), nodes);
            let names: BTreeSet<_> = parts.iter().map(|part| part.node.clone()).collect();
            assert_eq!(names.len(), nodes, "{names:?}");
            let ids: BTreeSet<_> =
                parts.iter().flat_map(|part| part.entries.iter().map(|e| e.id.clone())).collect();
            assert_eq!(ids.len(), 959 + 137 + 2164);
            assert!(parts.iter().all(|part| !part.entries.is_empty()));
        }
    }

    #[test]
    fn vectors_survive_the_file_that_is_imported() {
        let parts = parts(5).expect("deals out");
        let rows = npy::decode(&parts[0].npy()).expect("decodes");
        assert_eq!(rows.len(), parts[0].entries.len());
        assert_eq!(rows.get(3), Some(&parts[0].entries[3].vector[..]));
    }

    #[test]
    fn the_nearest_to_a_record_is_the_record_itself() {
        let parts = parts(5).expect("deals out");
        let asked = &parts[1].entries[100];
        let best = exact(parts.iter(), &asked.vector);
        assert_eq!(best[0].content, asked.content);
        assert!((best[0].score - 1.0).abs() < 1e-6 && best.is_sorted_by(|a, b| a.score >= b.score));
    }
}
