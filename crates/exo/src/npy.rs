//! Query vectors from NumPy files. The format's header is the substrate's to understand.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use exo_federation::ErrorCode;
use exo_substrate::import::{Header, Number};
use exo_types::limits::NPY_HEADER_BYTES_MAX;
use half::f16;

use crate::exit::Failure;

/// Vectors of one number of dimensions, one after the other.
#[derive(Debug, PartialEq)]
pub(crate) struct Rows {
    dimensions: usize,
    numbers: Vec<f32>,
}

impl Rows {
    /// How many vectors there are.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len() / self.dimensions
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// One vector.
    pub(crate) fn get(&self, row: usize) -> Option<&[f32]> {
        let start = row.checked_mul(self.dimensions)?;
        self.numbers.get(start..start.checked_add(self.dimensions)?)
    }
}

/// Reads a header and nothing else: what a file announces.
pub(crate) fn header(path: &Path) -> Result<Header, Failure> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(|error| Failure::file(path, &error))?;
    file.take(HEADER_READ_BYTES)
        .read_to_end(&mut start)
        .map_err(|error| Failure::file(path, &error))?;
    Header::decode(&start).map_err(|error| refused(path, &error.to_string()))
}

/// Reads a file of at most `rows_max` finite vectors.
pub(crate) fn read(path: &Path, rows_max: usize) -> Result<Rows, Failure> {
    let header = header(path)?;
    if header.rows > rows_max as u64 {
        let rows = header.rows;
        return Err(refused(path, &format!("holds {rows} rows; at most {rows_max} at once")));
    }
    // Announced lengths are compared with the real one before anything is read.
    let found = std::fs::metadata(path).map_err(|error| Failure::file(path, &error))?.len();
    if header.file_bytes() != Some(found) {
        let text = format!("has {found} bytes, which is not what its header announces");
        return Err(refused(path, &text));
    }
    let bytes = std::fs::read(path).map_err(|error| Failure::file(path, &error))?;
    decode(&bytes).map_err(|reason| refused(path, &reason))
}

/// Decodes a whole file of finite vectors.
pub(crate) fn decode(bytes: &[u8]) -> Result<Rows, String> {
    let header = Header::decode(bytes).map_err(|error| error.to_string())?;
    if header.file_bytes() != Some(bytes.len() as u64) {
        return Err("its length is not what its header announces".to_owned());
    }
    let start = usize::try_from(header.start).unwrap_or(usize::MAX);
    let body = bytes.get(start..).unwrap_or_default();
    let numbers: Vec<f32> = match header.number {
        Number::F32 => body.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Number::F16 => body.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
    };
    if let Some(at) = numbers.iter().position(|number| !number.is_finite()) {
        let (row, component) = (at / header.dimensions, at % header.dimensions);
        return Err(format!("row {row}, component {component} is not a finite number"));
    }
    Ok(Rows { dimensions: header.dimensions, numbers })
}

fn refused(path: &Path, reason: &str) -> Failure {
    Failure::new(ErrorCode::InvalidQuery, format!("{}: {reason}", path.display())).with_remedy(
        "Give a .npy file of f32 or f16, [queries, dimensions], as numpy.save writes it.",
    )
}

/// Bytes that surely hold a whole header.
const HEADER_READ_BYTES: u64 = NPY_HEADER_BYTES_MAX as u64 + 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(descr: &str, rows: usize, body: &[u8]) -> Vec<u8> {
        let text =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, 2), }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn both_widths_are_read() {
        let body: Vec<u8> = [1.0_f32, -2.5].iter().flat_map(|x| x.to_le_bytes()).collect();
        let rows = decode(&file("<f4", 1, &body)).expect("decodes");
        assert_eq!((rows.len(), rows.get(0), rows.get(1)), (1, Some(&[1.0, -2.5][..]), None));
        let body: Vec<u8> =
            [1.0, -2.5, 0.0, 4.0].iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
        let rows = decode(&file("<f2", 2, &body)).expect("decodes");
        assert_eq!(rows.get(1), Some(&[0.0, 4.0][..]));
    }

    #[test]
    fn a_cut_file_and_a_number_that_is_none_are_refused() {
        let body: Vec<u8> = [1.0_f32, f32::NAN].iter().flat_map(|x| x.to_le_bytes()).collect();
        let error = decode(&file("<f4", 1, &body)).expect_err("NaN");
        assert!(error.contains("row 0, component 1"), "{error}");
        assert!(decode(&file("<f4", 2, &body)).is_err());
        assert!(decode(&file("<f4", usize::MAX, &body)).is_err());
        assert!(decode(b"").is_err());
    }
}
