//! Answering who fetches the log: what the driver does for [`Effect::Serve`](crate::Effect::Serve).

use std::sync::Arc;

use exo_types::Epoch;
use exo_types::limits::{TRANSFER_BATCHES_MAX, TRANSFER_BYTES_MAX};

use crate::blob::Root;
use crate::certificate::Certificate;
use crate::entry::LoggedBatch;
use crate::message::{FetchLog, LogPiece};

/// The log on the disk.
pub trait Archive {
    /// The certificate with which an epoch ended.
    fn end_of(&self, epoch: Epoch) -> Option<Arc<Certificate>>;

    /// The batch whose first leaf has this index, if there is one.
    fn batch_at(&self, leaf: u64) -> Option<LoggedBatch>;

    /// That the log of `old` leaves is the beginning of that of `new` (RFC 9162 section 2.1.4.1).
    fn consistency(&self, old: u64, new: u64) -> Option<Vec<Root>>;
}

/// The next piece of the log for who asks, up to the certificate's size and the bounds of a piece.
/// `None` when the log does not have it.
pub fn log_piece(
    archive: &impl Archive,
    asked: FetchLog,
    certificate: Option<Arc<Certificate>>,
) -> Option<LogPiece> {
    let certificate = certificate.or_else(|| archive.end_of(asked.epoch))?;
    let mut size = asked.size;
    let mut bytes = 0;
    let mut batches = Vec::new();
    while size < certificate.size && batches.len() < TRANSFER_BATCHES_MAX {
        let batch = archive.batch_at(size)?;
        bytes += batch.bytes();
        if bytes > TRANSFER_BYTES_MAX && !batches.is_empty() {
            break;
        }
        size += batch.size();
        batches.push(batch);
    }
    let proof = archive.consistency(size, certificate.size)?;
    Some(LogPiece { certificate, from: asked.size, batches, proof })
}
