//! Sending the log to who asks for it: so much in a second to each member, and one piece at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exo_consensus::{Certificate, FetchLog, LoggedBatch, Message, log_piece};
use exo_types::PeerId;
use exo_types::limits::{SERVED_BYTES_PER_SECOND_MAX, SERVED_PEERS_MAX};

use super::Shared;
use super::outputs::frame;

/// What was sent to whom within the last second.
#[derive(Debug, Default)]
pub(super) struct Served(Mutex<BTreeMap<PeerId, Account>>);

#[derive(Clone, Copy, Debug)]
struct Account {
    since: Duration,
    bytes: u64,
    /// A piece is being made.
    busy: bool,
}

impl Account {
    fn is_over(&self, now: Duration) -> bool {
        !self.busy && now >= self.since + SECOND
    }
}

impl Served {
    /// Whether a piece is made for a member now; [`made`](Self::made) has to follow.
    fn begin(&self, peer: PeerId, now: Duration) -> bool {
        let mut accounts = self.lock();
        if accounts.len() >= SERVED_PEERS_MAX {
            accounts.retain(|_, account| !account.is_over(now));
        }
        if accounts.len() >= SERVED_PEERS_MAX && !accounts.contains_key(&peer) {
            return false;
        }
        let fresh = Account { since: now, bytes: 0, busy: false };
        let account = accounts.entry(peer).or_insert(fresh);
        if account.is_over(now) {
            *account = fresh;
        }
        let may = !account.busy && account.bytes < SERVED_BYTES_PER_SECOND_MAX;
        account.busy |= may;
        may
    }

    /// The piece is made and has so many bytes; none if there was none.
    fn made(&self, peer: &PeerId, bytes: u64) {
        if let Some(account) = self.lock().get_mut(peer) {
            account.busy = false;
            account.bytes = account.bytes.saturating_add(bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, Account>> {
        // Each change is one assignment: it is whole whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the making of a piece, whatever comes of it.
struct Making {
    served: Arc<Served>,
    to: PeerId,
    bytes: u64,
}

impl Drop for Making {
    fn drop(&mut self) {
        self.served.made(&self.to, self.bytes);
    }
}

impl Shared {
    /// Reads the log for who asks, where not too many are read for at once, nor too much for that member:
    /// it asks again.
    pub(super) fn serve(&self, to: PeerId, asked: FetchLog, certificate: Option<Arc<Certificate>>) {
        let Ok(permit) = Arc::clone(&self.serves).try_acquire_owned() else { return };
        if !self.served.begin(to, self.clock.now().mono) {
            return;
        }
        let mut making = Making { served: Arc::clone(&self.served), to, bytes: 0 };
        let (archive, lanes) = (self.archive.clone(), Arc::clone(&self.lanes));
        self.runtime.spawn_blocking(move || {
            if let Some(piece) = log_piece(&archive, asked, certificate) {
                let bytes: usize = piece.batches.iter().map(LoggedBatch::bytes).sum();
                making.bytes = bytes as u64 + AROUND_BATCHES_BYTES;
                if let Some(frame) = frame(&Message::LogPiece(Box::new(piece))) {
                    lanes.send(&to, &frame);
                }
            }
            drop((making, permit));
        });
    }
}

/// What a piece has beside its batches, about: cosignatures of a quorum and the path to its root, bytes.
const AROUND_BATCHES_BYTES: u64 = 64 * 1024;
const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_gets_one_piece_at_a_time_and_so_much_in_a_second() {
        let served = Served::default();
        let (one, other) = (PeerId::new([1; 32]), PeerId::new([2; 32]));
        let at = |millis: u64| Duration::from_millis(5_000 + millis);
        assert!(served.begin(one, at(0)));
        assert!(!served.begin(one, at(1)), "one is being made");
        served.made(&one, SERVED_BYTES_PER_SECOND_MAX - 1);
        assert!(served.begin(one, at(2)));
        served.made(&one, 10);
        assert!(!served.begin(one, at(999)), "it got what it may");
        assert!(served.begin(other, at(999)), "others are not concerned");
        assert!(served.begin(one, at(1_000)));
    }

    #[test]
    fn accounts_of_the_past_are_forgotten_and_those_of_now_are_bounded() {
        let served = Served::default();
        let peer = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
            PeerId::new(bytes)
        };
        for n in 0..SERVED_PEERS_MAX {
            assert!(served.begin(peer(n), Duration::ZERO));
            served.made(&peer(n), 1);
        }
        assert!(!served.begin(peer(SERVED_PEERS_MAX), Duration::ZERO));
        assert!(served.begin(peer(SERVED_PEERS_MAX), SECOND));
        assert_eq!(served.lock().len(), 1);
    }
}
