//! NumPy's file format, as far as vectors need it: `[rows, dimensions]` of 32- or 16-bit floats.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>, versions 1 to 3.

use std::io::{self, Read};

use exo_types::limits::{DIMENSIONS_MAX, NPY_HEADER_BYTES_MAX};
use half::f16;

/// How a number is stored; little-endian both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// `<f4`
    F32,
    /// `<f2`
    F16,
}

impl Number {
    /// Bytes of one.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// A NumPy file's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How numbers are stored.
    pub number: Number,
    /// Vectors.
    pub rows: u64,
    /// Components of each, 1 to [`DIMENSIONS_MAX`].
    pub dimensions: usize,
    /// Bytes before the first number.
    pub start: u64,
}

/// Why a header is refused, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a NumPy file at all.
    #[error("is not a NumPy .npy file; save the array with numpy.save")]
    Magic,
    /// A version this reader does not know.
    #[error("has version {0} of the .npy format; save it with numpy.save, which writes version 1")]
    Version(u8),
    /// The file ends within its header, or the header is longer than the bound.
    #[error("its header is cut short or too long; save the array again")]
    Length,
    /// The header is not the dictionary it should be.
    #[error("its header is not understood: {0}; save the array with numpy.save")]
    Syntax(&'static str),
    /// Numbers of another kind.
    #[error("holds numbers of kind {0:?}; save array.astype('<f4') or '<f2'")]
    Number(String),
    /// Columns before rows.
    #[error("is stored in Fortran order; save numpy.ascontiguousarray(array)")]
    FortranOrder,
    /// Not rows of vectors.
    #[error("has the shape {0:?}; it must be [records, dimensions]")]
    Shape(Vec<u64>),
    /// Too many dimensions, or none.
    #[error("holds vectors of {0} dimensions; 1 to {DIMENSIONS_MAX} are possible")]
    Dimensions(u64),
}

impl Header {
    /// Decodes the header at the beginning of a file. Never panics, and allocates little more than
    /// the header's own length.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let [magic @ .., major, _minor] = bytes.first_chunk::<8>().ok_or(HeaderError::Magic)?;
        if magic != MAGIC {
            return Err(HeaderError::Magic);
        }
        let rest = &bytes[8..];
        let (len, rest) = match major {
            1 => split_len::<2>(rest).map(|(b, r)| (u32::from(u16::from_le_bytes(b)), r)),
            2 | 3 => split_len::<4>(rest).map(|(b, r)| (u32::from_le_bytes(b), r)),
            other => return Err(HeaderError::Version(*other)),
        }
        .ok_or(HeaderError::Length)?;
        let len = len as usize;
        if len > NPY_HEADER_BYTES_MAX {
            return Err(HeaderError::Length);
        }
        let text = rest.get(..len).ok_or(HeaderError::Length)?;
        let start = (bytes.len() - rest.len() + len) as u64;
        let text = std::str::from_utf8(text).map_err(|_| HeaderError::Syntax("not UTF-8"))?;
        Fields::parse(text)?.header(start)
    }

    /// Bytes the whole file has; `None` when the number overflows.
    pub fn file_bytes(&self) -> Option<u64> {
        let row = self.dimensions as u64 * self.number.bytes() as u64;
        self.rows.checked_mul(row)?.checked_add(self.start)
    }
}

/// Reads the vectors that follow a header, one at a time.
#[derive(Debug)]
pub(super) struct Rows<R> {
    reader: R,
    header: Header,
    bytes: Vec<u8>,
    read: u64,
}

impl<R: Read> Rows<R> {
    /// Reads the header from the beginning of a file.
    pub(super) fn new(mut reader: R) -> io::Result<Result<Self, HeaderError>> {
        // The longest part of a header that tells its length.
        let mut bytes = Vec::new();
        reader.by_ref().take(12).read_to_end(&mut bytes)?;
        let Some([.., major, _, a, b, c, d]) = bytes.first_chunk::<12>() else {
            return Ok(Err(HeaderError::Magic));
        };
        let header_bytes = match major {
            1 => 10 + usize::from(u16::from_le_bytes([*a, *b])),
            _ => 12 + (u32::from_le_bytes([*a, *b, *c, *d]) as usize).min(NPY_HEADER_BYTES_MAX),
        };
        let missing = header_bytes.saturating_sub(bytes.len()) as u64;
        reader.by_ref().take(missing).read_to_end(&mut bytes)?;
        Ok(Header::decode(&bytes).map(|header| {
            let row = vec![0; header.dimensions * header.number.bytes()];
            Self { reader, header, bytes: row, read: 0 }
        }))
    }

    /// The header.
    pub(super) fn header(&self) -> Header {
        self.header
    }

    /// The reader, wherever it stands.
    pub(super) fn into_reader(self) -> R {
        self.reader
    }

    /// The next vector into `row`; false after the last.
    pub(super) fn next(&mut self, row: &mut Vec<f32>) -> io::Result<bool> {
        row.clear();
        if self.read == self.header.rows {
            return Ok(false);
        }
        self.reader.read_exact(&mut self.bytes)?;
        self.read += 1;
        match self.header.number {
            Number::F32 => {
                row.extend(self.bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)));
            }
            Number::F16 => {
                row.extend(
                    self.bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()),
                );
            }
        }
        Ok(true)
    }

    /// Passes over the next vectors without decoding them.
    pub(super) fn skip(&mut self, rows: u64) -> io::Result<()> {
        for _ in 0..rows.min(self.header.rows - self.read) {
            self.reader.read_exact(&mut self.bytes)?;
            self.read += 1;
        }
        Ok(())
    }
}

fn split_len<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk::<N>().map(|(len, rest)| (*len, rest))
}

/// The header's dictionary, as far as it was read.
#[derive(Default)]
struct Fields<'a> {
    descr: Option<&'a str>,
    fortran_order: Option<bool>,
    shape: Option<Vec<u64>>,
}

impl<'a> Fields<'a> {
    /// Reads a Python dictionary of the three known keys.
    fn parse(text: &'a str) -> Result<Self, HeaderError> {
        let mut fields = Self::default();
        let mut rest = expect(text, "{")?;
        loop {
            rest = rest.trim_start();
            if let Some(end) = rest.strip_prefix('}') {
                return if end.trim().is_empty() {
                    Ok(fields)
                } else {
                    Err(HeaderError::Syntax("something follows the dictionary"))
                };
            }
            let (key, after) = quoted(rest)?;
            rest = fields.value(key, expect(after, ":")?.trim_start())?.trim_start();
            match rest.strip_prefix(',') {
                Some(after) => rest = after,
                None if rest.starts_with('}') => {}
                None => return Err(HeaderError::Syntax("a comma is missing")),
            }
        }
    }

    /// Reads the value of a key; answers what follows it.
    fn value(&mut self, key: &str, text: &'a str) -> Result<&'a str, HeaderError> {
        match key {
            "descr" => {
                if !text.starts_with(['\'', '"']) {
                    // A list of named fields: an array of structures.
                    return Err(HeaderError::Number(text.chars().take(40).collect()));
                }
                let (descr, rest) = quoted(text)?;
                self.descr = Some(descr);
                Ok(rest)
            }
            "fortran_order" => {
                let (flag, rest) = match (text.strip_prefix("True"), text.strip_prefix("False")) {
                    (Some(rest), _) => (true, rest),
                    (_, Some(rest)) => (false, rest),
                    _ => {
                        return Err(HeaderError::Syntax("fortran_order is neither True nor False"));
                    }
                };
                self.fortran_order = Some(flag);
                Ok(rest)
            }
            "shape" => {
                let inner = expect(text, "(")?;
                let end = inner.find(')').ok_or(HeaderError::Syntax("the shape does not end"))?;
                let numbers = inner[..end].split(',').map(str::trim).filter(|n| !n.is_empty());
                let shape = numbers
                    // Versions of NumPy for Python 2 wrote long integers with an L.
                    .map(|number| number.trim_end_matches('L').parse())
                    .collect::<Result<_, _>>()
                    .map_err(|_| HeaderError::Syntax("the shape is not made of numbers"))?;
                self.shape = Some(shape);
                Ok(&inner[end + 1..])
            }
            _ => Err(HeaderError::Syntax("an unknown key")),
        }
    }

    fn header(self, start: u64) -> Result<Header, HeaderError> {
        let (Some(descr), Some(fortran_order), Some(shape)) =
            (self.descr, self.fortran_order, self.shape)
        else {
            return Err(HeaderError::Syntax("descr, fortran_order or shape is missing"));
        };
        let number = match descr {
            "<f4" => Number::F32,
            "<f2" => Number::F16,
            other => return Err(HeaderError::Number(other.to_owned())),
        };
        let [rows, dimensions] = *shape.as_slice() else { return Err(HeaderError::Shape(shape)) };
        if fortran_order {
            return Err(HeaderError::FortranOrder);
        }
        match usize::try_from(dimensions) {
            Ok(d @ 1..=DIMENSIONS_MAX) => Ok(Header { number, rows, dimensions: d, start }),
            _ => Err(HeaderError::Dimensions(dimensions)),
        }
    }
}

/// Passes over blanks and a sign.
fn expect<'a>(text: &'a str, sign: &'static str) -> Result<&'a str, HeaderError> {
    text.trim_start().strip_prefix(sign).ok_or(HeaderError::Syntax("a sign is missing"))
}

/// Splits a quoted text, without escapes, from what follows it.
fn quoted(text: &str) -> Result<(&str, &str), HeaderError> {
    let error = HeaderError::Syntax("a quoted text was expected");
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or(error.clone())?;
    text[1..].split_once(quote).ok_or(error)
}

const MAGIC: &[u8; 6] = b"\x93NUMPY";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(version: u8, dictionary: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((dictionary.len() as u16).to_le_bytes()),
            _ => bytes.extend((dictionary.len() as u32).to_le_bytes()),
        }
        bytes.extend(dictionary.as_bytes());
        bytes
    }

    #[test]
    fn headers_of_every_version_are_read() {
        let text = "{'descr': '<f2', 'fortran_order': False, 'shape': (9000, 384), }     \n";
        for (version, start) in [(1, 10), (2, 12), (3, 12)] {
            let header = Header::decode(&file(version, text)).expect("decodes");
            let start = start + text.len() as u64;
            assert_eq!(header, Header { number: Number::F16, rows: 9000, dimensions: 384, start });
            assert_eq!(header.file_bytes(), Some(start + 9000 * 384 * 2));
        }
        let other = "{\"shape\":(2L,3),\"fortran_order\":False,\"descr\":\"<f4\"}";
        assert_eq!(Header::decode(&file(1, other)).map(|h| h.number), Ok(Number::F32));
    }

    #[test]
    fn headers_that_mean_something_else_are_refused_with_a_remedy() {
        let decode = |text: &str| Header::decode(&file(1, text)).expect_err(text).to_string();
        let case = |descr: &str, order: &str, shape: &str| {
            decode(&format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}"))
        };
        assert!(case("'<f8'", "False", "(1, 2)").contains("astype"));
        assert!(case("'>f4'", "False", "(1, 2)").contains("astype"));
        assert!(case("[('a', '<f4')]", "False", "(1, 2)").contains("astype"));
        assert!(case("'<f4'", "True", "(1, 2)").contains("ascontiguousarray"));
        assert!(case("'<f4'", "False", "(1,)").contains("[records, dimensions]"));
        assert!(case("'<f4'", "False", "(1, 2, 3)").contains("[records, dimensions]"));
        assert!(case("'<f4'", "False", "(1, 0)").contains("dimensions"));
        assert!(case("'<f4'", "False", "(1, 99999)").contains("dimensions"));
        assert!(decode("{'descr': '<f4'}").contains("missing"));
        assert_eq!(Header::decode(b"PK\x03\x04abcdef"), Err(HeaderError::Magic));
        assert_eq!(Header::decode(&file(9, "")), Err(HeaderError::Version(9)));
    }

    #[test]
    fn an_announced_size_is_never_believed() {
        let huge =
            "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551615, 4096)}";
        assert_eq!(Header::decode(&file(1, huge)).expect("decodes").file_bytes(), None);
        let mut long = file(2, "");
        long[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Header::decode(&long), Err(HeaderError::Length));
        assert!(matches!(Rows::new(&long[..]).expect("reads"), Err(HeaderError::Length)));
    }

    #[test]
    fn rows_come_one_by_one() {
        let mut bytes = file(1, "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 2)}");
        for x in [1.0, -0.5, 65504.0, 0.0] {
            bytes.extend(f16::from_f32(x).to_le_bytes());
        }
        let mut rows = Rows::new(&bytes[..]).expect("reads").expect("decodes");
        let mut row = Vec::new();
        assert!(rows.next(&mut row).expect("reads"));
        assert_eq!(row, [1.0, -0.5]);
        assert!(rows.next(&mut row).expect("reads"));
        assert_eq!(row, [65504.0, 0.0]);
        assert!(!rows.next(&mut row).expect("reads"));
        let mut rows = Rows::new(&bytes[..]).expect("reads").expect("decodes");
        rows.skip(1).expect("skips");
        assert!(rows.next(&mut row).expect("reads") && row[0] == 65504.0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(
            version in 0_u8..5,
            tail in prop::collection::vec(any::<u8>(), 0..200),
            text in "[{}'\":, ()a-z<>_0-9TF]{0,80}",
        ) {
            let _ = Header::decode(&tail);
            let _ = Header::decode(&[&MAGIC[..], &[version, 0], &tail].concat());
            let _ = Header::decode(&file(version, &text));
            let _ = Rows::new(&[&MAGIC[..], &[version, 0], &tail].concat()[..]);
        }
    }
}
