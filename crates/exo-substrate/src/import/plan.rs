//! The two passes over the files of an import.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use exo_types::limits::{BATCH_RECORDS_MAX, IMPORT_LINE_BYTES_MAX};
use exo_types::{CollectionSpec, ContentHash, Record};

use super::jsonl::decode_record;
use super::npy::Rows;
use super::{ImportError, ImportProblem};
use crate::substrate::{ImportId, ImportMark, NewRecord};

/// Files that were read to their end and found fit for a collection.
#[derive(Clone, Debug)]
pub struct ImportPlan {
    records: PathBuf,
    vectors: Option<PathBuf>,
    spec: CollectionSpec,
    rows: u64,
    digests: (blake3::Hash, Option<blake3::Hash>),
}

/// One batch of an import.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Its records, at most [`BATCH_RECORDS_MAX`], in the files' order.
    pub records: Vec<NewRecord>,
    /// What to store with them.
    pub mark: ImportMark,
}

impl ImportPlan {
    /// Reads both files to their end and refuses them if anything is wrong.
    ///
    /// `records` holds one JSON object a line (blank lines are passed over), `vectors` a NumPy
    /// array of as many rows in the same order. `progress` is told now and then how many rows were
    /// checked. Memory: about 50 bytes a row, to find repeated ids.
    pub fn check(
        records: &Path,
        vectors: Option<&Path>,
        spec: &CollectionSpec,
        mut progress: impl FnMut(u64),
    ) -> Result<Self, ImportError> {
        let mut files = Files::open(records, vectors, spec)?;
        let mut first_rows: HashMap<[u8; 16], u64> = HashMap::new();
        let mut rows = 0;
        while let Some((record, _)) = files.next()? {
            // Sixteen bytes of a digest instead of the id: no two ids share them by accident.
            let id = record.id.as_str();
            let digest = blake3::hash(id.as_bytes());
            let Some(key) = digest.as_bytes().first_chunk::<16>() else { continue };
            if let Some(first) = first_rows.insert(*key, files.lines.row) {
                return Err(files.lines.fault(ImportProblem::RepeatedId { id: id.into(), first }));
            }
            rows += 1;
            if rows % PROGRESS_ROWS == 0 {
                progress(rows);
            }
        }
        if rows == 0 {
            return Err(ImportError {
                file: records.into(),
                row: None,
                problem: ImportProblem::Empty,
            });
        }
        progress(rows);
        Ok(Self {
            records: records.into(),
            vectors: vectors.map(Into::into),
            spec: spec.clone(),
            rows,
            digests: files.finish(rows)?,
        })
    }

    /// Rows to import.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Names this import by the content of its files. No secret, and no proof of anything.
    pub fn import_id(&self) -> ImportId {
        let mut hasher = blake3::Hasher::new_derive_key("exo-substrate import 1");
        hasher.update(self.digests.0.as_bytes());
        if let Some(vectors) = &self.digests.1 {
            hasher.update(vectors.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    /// Reads the files again and gives what follows the first `rows_done` rows, batch by batch.
    ///
    /// `content` computes the hash of a title and a text. Fails, after its last batch at the
    /// latest, when the files are no longer those that were checked.
    pub fn batches<F: Fn(&str, &str) -> ContentHash>(
        &self,
        rows_done: u64,
        content: F,
    ) -> Result<Batches<'_, F>, ImportError> {
        let mut files = Files::open(&self.records, self.vectors.as_deref(), &self.spec)?;
        let rows_done = rows_done.min(self.rows);
        files.skip(rows_done)?;
        Ok(Batches { plan: self, files: Some(files), rows_done, content })
    }
}

/// Batches of an import, in order. See [`ImportPlan::batches`].
#[derive(Debug)]
pub struct Batches<'a, F> {
    plan: &'a ImportPlan,
    files: Option<Files>,
    rows_done: u64,
    content: F,
}

impl<F: Fn(&str, &str) -> ContentHash> Batches<'_, F> {
    fn batch(&mut self, files: &mut Files) -> Result<Batch, ImportError> {
        let mut records = Vec::with_capacity(BATCH_RECORDS_MAX);
        while records.len() < BATCH_RECORDS_MAX {
            let Some((record, vector)) = files.next()? else { break };
            let content = (self.content)(&record.title, &record.text);
            records.push(NewRecord { record, vector, content });
        }
        self.rows_done += records.len() as u64;
        let mark = ImportMark { import_id: self.plan.import_id(), rows_done: self.rows_done };
        Ok(Batch { records, mark })
    }
}

impl<F: Fn(&str, &str) -> ContentHash> Iterator for Batches<'_, F> {
    type Item = Result<Batch, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut files = self.files.take()?;
        match self.batch(&mut files) {
            Ok(batch) if batch.records.is_empty() => match files.finish(self.rows_done) {
                Ok(digests) if digests == self.plan.digests => None,
                Ok(_) => Some(Err(ImportError {
                    file: self.plan.records.clone(),
                    row: None,
                    problem: ImportProblem::Changed,
                })),
                Err(error) => Some(Err(error)),
            },
            Ok(batch) => {
                self.files = Some(files);
                Some(Ok(batch))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// A record and its vector.
type Row = (Record, Option<Vec<f32>>);

/// Both files, read side by side.
#[derive(Debug)]
struct Files {
    lines: Lines,
    vectors: Option<Vectors>,
}

impl Files {
    fn open(
        records: &Path,
        vectors: Option<&Path>,
        spec: &CollectionSpec,
    ) -> Result<Self, ImportError> {
        let vectors = vectors.map(|path| Vectors::open(path, spec)).transpose()?;
        Ok(Self { lines: Lines::open(records)?, vectors })
    }

    /// The next record with its vector; `None` after the last line.
    fn next(&mut self) -> Result<Option<Row>, ImportError> {
        if !self.lines.advance()? {
            return Ok(None);
        }
        let record = decode_record(&self.lines.line)
            .map_err(|error| self.lines.fault(ImportProblem::Record(error)))?;
        // When vectors run out first, the count at the end tells both numbers.
        let vector = self.vectors.as_mut().map(Vectors::next).transpose()?.flatten();
        Ok(Some((record, vector)))
    }

    fn skip(&mut self, rows: u64) -> Result<(), ImportError> {
        for _ in 0..rows {
            if !self.lines.advance()? {
                break;
            }
        }
        self.vectors.as_mut().map_or(Ok(()), |vectors| vectors.skip(rows))
    }

    /// Compares the numbers of rows; answers the digests of both files.
    fn finish(self, rows: u64) -> Result<(blake3::Hash, Option<blake3::Hash>), ImportError> {
        let Self { lines, vectors } = self;
        let vectors = vectors.map(|vectors| vectors.finish(rows, &lines.path)).transpose()?;
        Ok((lines.reader.into_inner().hasher.finalize(), vectors))
    }
}

/// The file of records, line by line.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    reader: BufReader<Digested>,
    line: Vec<u8>,
    /// The line's number, from 1.
    row: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, ImportError> {
        let reader = BufReader::with_capacity(READ_BYTES, Digested::open(path)?);
        Ok(Self { path: path.into(), reader, line: Vec::new(), row: 0 })
    }

    /// Reads the next line that is not blank; false at the end.
    fn advance(&mut self) -> Result<bool, ImportError> {
        loop {
            self.line.clear();
            self.row += 1;
            let mut bounded = (&mut self.reader).take(IMPORT_LINE_BYTES_MAX as u64 + 1);
            let read = bounded.read_until(b'\n', &mut self.line);
            let read = read.map_err(|error| self.fault(ImportProblem::Io(error)))?;
            if read > IMPORT_LINE_BYTES_MAX {
                return Err(self.fault(ImportProblem::LineTooLong { max: IMPORT_LINE_BYTES_MAX }));
            }
            // A byte-order mark, as some programs write it, is not part of the first record.
            if self.row == 1 && self.line.starts_with(b"\xef\xbb\xbf") {
                self.line.drain(..3);
            }
            if read == 0 || !self.line.iter().all(u8::is_ascii_whitespace) {
                return Ok(read > 0);
            }
        }
    }

    fn fault(&self, problem: ImportProblem) -> ImportError {
        ImportError { file: self.path.clone(), row: Some(self.row), problem }
    }
}

/// The file of vectors.
#[derive(Debug)]
struct Vectors {
    path: PathBuf,
    rows: Rows<BufReader<Digested>>,
    row: u64,
}

impl Vectors {
    fn open(path: &Path, spec: &CollectionSpec) -> Result<Self, ImportError> {
        let whole = |problem| ImportError { file: path.into(), row: None, problem };
        if spec.dimensions == 0 {
            return Err(whole(ImportProblem::NoVectors(spec.name.to_string())));
        }
        let digested = Digested::open(path)?;
        let actual = digested.file.metadata().map_err(|e| whole(ImportProblem::Io(e)))?.len();
        let rows = Rows::new(BufReader::with_capacity(READ_BYTES, digested))
            .map_err(|error| whole(ImportProblem::Io(error)))?
            .map_err(|error| whole(ImportProblem::Header(error)))?;
        let header = rows.header();
        if header.dimensions != spec.dimensions as usize {
            return Err(whole(ImportProblem::Dimensions {
                collection: spec.name.to_string(),
                expected: spec.dimensions,
                actual: header.dimensions as u64,
            }));
        }
        let expected = header.file_bytes().unwrap_or(u64::MAX);
        if expected != actual {
            return Err(whole(ImportProblem::Length { expected, actual }));
        }
        Ok(Self { path: path.into(), rows, row: 0 })
    }

    fn next(&mut self) -> Result<Option<Vec<f32>>, ImportError> {
        let mut vector = Vec::new();
        self.row += 1;
        if !self.rows.next(&mut vector).map_err(|error| self.fault(ImportProblem::Io(error)))? {
            return Ok(None);
        }
        match vector.iter().position(|x| !x.is_finite()) {
            Some(component) => Err(self.fault(ImportProblem::NotFinite { component })),
            None => Ok(Some(vector)),
        }
    }

    fn skip(&mut self, rows: u64) -> Result<(), ImportError> {
        self.row += rows;
        self.rows.skip(rows).map_err(|error| self.fault(ImportProblem::Io(error)))
    }

    fn finish(self, records: u64, other: &Path) -> Result<blake3::Hash, ImportError> {
        let vectors = self.rows.header().rows;
        if vectors != records {
            return Err(ImportError {
                file: self.path,
                row: None,
                problem: ImportProblem::RowCount { vectors, records, other: other.into() },
            });
        }
        Ok(self.rows.into_reader().into_inner().hasher.finalize())
    }

    fn fault(&self, problem: ImportProblem) -> ImportError {
        ImportError { file: self.path.clone(), row: Some(self.row), problem }
    }
}

/// A file whose content is digested as it is read.
#[derive(Debug)]
struct Digested {
    file: File,
    hasher: blake3::Hasher,
}

impl Digested {
    fn open(path: &Path) -> Result<Self, ImportError> {
        let fault =
            |error| ImportError { file: path.into(), row: None, problem: ImportProblem::Io(error) };
        let file = File::open(path).map_err(fault)?;
        if file.metadata().map_err(fault)?.is_dir() {
            return Err(fault(io::ErrorKind::IsADirectory.into()));
        }
        Ok(Self { file, hasher: blake3::Hasher::new() })
    }
}

impl Read for Digested {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// Bytes read from a file at once.
const READ_BYTES: usize = 256 * 1024;
/// Rows between two calls that report progress.
const PROGRESS_ROWS: u64 = 1000;
