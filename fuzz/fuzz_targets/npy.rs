//! The header of a NumPy file.
#![no_main]

use exo_fuzz::memory;
use exo_substrate::import::{Header, HeaderError, Number};
use exo_types::limits::{DIMENSIONS_MAX, NPY_HEADER_BYTES_MAX};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check(data);
    // The dictionary alone, behind a right beginning.
    for version in [1_u8, 2] {
        let mut file = b"\x93NUMPY".to_vec();
        file.extend([version, 0]);
        match (version, u16::try_from(data.len()), u32::try_from(data.len())) {
            (1, Ok(len), _) => file.extend(len.to_le_bytes()),
            (2, _, Ok(len)) => file.extend(len.to_le_bytes()),
            _ => continue,
        }
        file.extend_from_slice(data);
        check(&file);
    }
});

fn check(file: &[u8]) {
    match memory::bounded(16, file, || Header::decode(file)) {
        Ok(header) => {
            assert!((1..=DIMENSIONS_MAX).contains(&header.dimensions));
            assert!(header.start as usize <= file.len());
            assert!(header.start as usize <= 12 + NPY_HEADER_BYTES_MAX);
            // What NumPy itself would write for this array means the same.
            let kind = match header.number {
                Number::F32 => "<f4",
                Number::F16 => "<f2",
            };
            let text = format!(
                "{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}, {}), }}\n",
                header.rows, header.dimensions
            );
            let mut again = b"\x93NUMPY\x01\x00".to_vec();
            again.extend((text.len() as u16).to_le_bytes());
            again.extend_from_slice(text.as_bytes());
            let start = again.len() as u64;
            assert_eq!(Header::decode(&again), Ok(Header { start, ..header }));
            if let Some(bytes) = header.file_bytes() {
                let row = header.dimensions * header.number.bytes();
                assert_eq!(bytes - header.start, header.rows * row as u64);
            }
        }
        Err(HeaderError::Number(shown)) => assert!(shown.len() <= NPY_HEADER_BYTES_MAX),
        Err(_) => {}
    }
}
