//! What a durable write takes on this disk: no decision is quicker.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::report::Report;
use crate::exit::Failure;

/// Writes 4 KiB again and again into room that is there, and waits for the disk each time.
pub(in crate::cmd::bench) fn measure(report: &mut Report, root: &Path) -> Result<(), Failure> {
    let path = root.join("sync");
    let times = times(&path).map_err(|error| Failure::file(&path, &error))?;
    report.micros("fdatasync.4_kib", &times);
    Ok(())
}

fn times(path: &Path) -> std::io::Result<Vec<Duration>> {
    let file = File::create(path)?;
    let block = [7_u8; BLOCK_BYTES];
    for at in 0..WRITES {
        file.write_all_at(&block, at * BLOCK_BYTES as u64)?;
    }
    file.sync_all()?;
    let mut times = Vec::new();
    for at in 0..WRITES {
        file.write_all_at(&block, at * BLOCK_BYTES as u64)?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(times)
}

/// Length of one write, bytes.
const BLOCK_BYTES: usize = 4096;
/// Writes that are measured.
const WRITES: u64 = 300;
