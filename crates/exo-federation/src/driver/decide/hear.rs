//! Messages of peers: decoded, checked and given to the replica.
//!
//! Votes and single signatures are checked by the task that reads the peer's lane; what takes longer is
//! checked on other threads, so many of one peer and so many of all at once, while the lane is read on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use exo_consensus::{Input, Message, Refused, check};
use exo_node::decide::LogTree;
use exo_types::limits::CHECKS_PER_PEER_MAX;
use exo_types::{PeerId, Sequence, Wire};
use tokio::sync::Semaphore;

use super::Shared;
use crate::driver::net::LaneMessage;

/// A peer's checks that are under way.
#[derive(Clone, Debug)]
pub(crate) struct Checks(Arc<Semaphore>);

impl Default for Checks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CHECKS_PER_PEER_MAX)))
    }
}

impl Shared {
    /// Takes one message of a peer.
    pub(crate) async fn hear(self: &Arc<Self>, from: PeerId, message: LaneMessage, of: &Checks) {
        if !is_long(&message.body) {
            return self.take(from, message);
        }
        // Nobody makes us decode or check a piece of the log that we did not ask for.
        if is_piece(&message.body) && !self.expects_piece_of(&from) {
            return refused("unasked");
        }
        let Ok(ours) = Arc::clone(&of.0).acquire_owned().await else { return };
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            let Ok(permit) = Arc::clone(&shared.checks).acquire_owned().await else { return };
            let checking = move || {
                shared.take(from, message);
                drop((ours, permit));
            };
            // A check that panicked is a message that was lost.
            let _ = tokio::task::spawn_blocking(checking).await;
        });
    }

    /// Checks a message and gives it to the replica.
    fn take(&self, from: PeerId, message: LaneMessage) {
        let piece = is_piece(&message.body);
        let decoded = Message::from_wire(&message.body);
        drop(message);
        let Ok(decoded) = decoded else {
            if piece {
                self.input(Input::FalsePiece(from));
            }
            return refused("malformed");
        };
        let directory = self.directory();
        if directory.voters.seat(&from).is_none() && !is_anybodys(&decoded) {
            return refused("no-vote");
        }
        // A quorum's are here: the others' are not worth a check, and the replica would drop them.
        if matches!(&decoded, Message::Cosignature(of) if self.has_certified(of.point.sequence)) {
            return;
        }
        // While it was decoded another may have come.
        if let Message::LogPiece(of) = &decoded
            && !self.expects_piece(&from, of.from)
        {
            return refused("unasked");
        }
        match check::<LogTree>(from, decoded, &directory, &self.keys) {
            Ok(checked) => self.input(Input::Received(Box::new(checked))),
            Err(Refused::Epoch(_)) => refused("epoch"),
            Err(Refused::NoVote(_)) => refused("no-vote"),
            Err(error @ Refused::False { .. }) => {
                tracing::warn!(peer = from.short(), %error, "a message does not hold");
                refused("false");
                if piece {
                    self.input(Input::FalsePiece(from));
                }
            }
        }
    }
}

impl Shared {
    fn expects_piece_of(&self, peer: &PeerId) -> bool {
        self.lock().decisions.replica().expects_piece_of(peer)
    }

    fn expects_piece(&self, peer: &PeerId, from: u64) -> bool {
        self.lock().decisions.replica().expects_piece(peer, from)
    }

    /// Whether a peer has a seat among the voters now.
    pub(crate) fn votes(&self, peer: &PeerId) -> bool {
        self.directory().voters.seat(peer).is_some()
    }

    fn has_certified(&self, sequence: Sequence) -> bool {
        sequence.0 <= self.certified.load(Ordering::Relaxed)
    }
}

/// What members without a vote say, too: who follows the log, and who passes it on.
fn is_anybodys(message: &Message) -> bool {
    matches!(message, Message::Status(_) | Message::FetchLog(_) | Message::LogPiece(_))
}

fn is_piece(body: &[u8]) -> bool {
    body.first() == Some(&LOG_PIECE)
}

/// Whether checking takes longer than a reader should: many signatures, or a long hash.
fn is_long(body: &[u8]) -> bool {
    body.len() > LONG_BYTES || body.first().is_some_and(|kind| LONG_KINDS.contains(kind))
}

fn refused(cause: &'static str) {
    metrics::counter!("exo_consensus_refused_total", "cause" => cause).increment(1);
}

/// Messages up to this length have few signatures and short hashes, bytes.
const LONG_BYTES: usize = 64 * 1024;
/// VIEW-CHANGE, NEW-VIEW and LOG-PIECE by their numbers (docs/protocol/consensus.md): they carry
/// certificates.
const LONG_KINDS: [u8; 3] = [5, 6, LOG_PIECE];
/// LOG-PIECE by its number.
const LOG_PIECE: u8 = 11;
