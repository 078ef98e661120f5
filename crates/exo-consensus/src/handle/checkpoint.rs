//! CHECKPOINT: cosignatures on the log, and what a quorum of them certifies.
//!
//! A cosignature states a fact, that this prefix is committed; it is no vote. It is made after the batch
//! is in the log on the disk.

use std::sync::Arc;

use exo_types::limits::ACCEPTED_SEQUENCES_MAX;
use exo_types::{PeerId, Sequence};

use crate::blob::{Blob, Root};
use crate::certificate::{Certificate, SeatSignature};
use crate::effect::{Contradiction, Effect};
use crate::guard::Record;
use crate::ledger::Ledger;
use crate::message::{Cosignature, Message};
use crate::replica::Replica;

impl<L: Ledger> Replica<L> {
    /// PBFT 4.3, with a checkpoint after every batch. One cosignature is made at a time. When more
    /// batches were carried out meanwhile, the next is on the one whose number has the most factors of
    /// two: replicas that skip differently still meet at the same ones, and all of them at the last.
    pub(crate) fn cosign(&mut self) {
        let from = self.cosigned.max(self.stable.sequence);
        if !self.votes() || self.cosigning.is_some() || self.state.executed <= from {
            return;
        }
        let target = roundest(from, self.state.executed);
        let Some(past) = self.past.get(&target) else { return };
        let point = past.point;
        self.cosigned = target;
        self.cosigning = Some(point);
        self.outbox.record(Record::Cosigned(point));
        self.ask_log(point);
    }

    pub(crate) fn on_cosigned(&mut self, size: u64, root: Root, signature: Vec<u8>) {
        let asked = self.cosigning.filter(|point| (point.size, point.root) == (size, root));
        let (Some(point), Ok(signature)) = (asked, Blob::new(signature)) else { return };
        self.cosigning = None;
        let Some(seat) = self.seat() else { return };
        let ours = Cosignature { epoch: self.state.epoch, point, signature };
        self.our_cosignature = Some(ours.clone());
        self.broadcast(Message::Cosignature(ours.clone()));
        if point.sequence > self.stable.sequence {
            self.cosignatures.entry(point.sequence).or_default().insert(seat, ours);
        }
    }

    pub(crate) fn on_cosignature(&mut self, from: PeerId, of: Cosignature) {
        let Some(seat) = self.state.voters.seat(&from) else { return };
        let sequence = of.point.sequence;
        if of.epoch == self.state.epoch && self.in_window(sequence) {
            // The first counts: a correct replica cosigns one root.
            self.cosignatures.entry(sequence).or_default().entry(seat).or_insert(of);
        }
    }

    /// PBFT 4.3: a quorum on what we have ourselves is a stable checkpoint.
    pub(crate) fn certify(&mut self) {
        let quorum = self.state.voters.quorum();
        let mut certified = None;
        for (sequence, past) in self.past.iter().rev() {
            let Some(signed) = self.cosignatures.get(sequence) else { continue };
            let same = || signed.iter().filter(|(_, of)| of.point == past.point);
            if quorum.is_quorum(same().count()) {
                let signatures = same().map(|(seat, of)| SeatSignature {
                    seat: *seat,
                    signature: of.signature.clone(),
                });
                certified = Some(Arc::new(Certificate {
                    size: past.point.size,
                    root: past.point.root,
                    seal: past.seal.clone(),
                    peaks: past.peaks.clone(),
                    signatures: signatures.collect(),
                }));
                break;
            }
        }
        if let Some(certificate) = certified {
            self.adopt(certificate);
        }
    }

    /// Takes a certified checkpoint over, whoever collected it: the watermarks move (PBFT 4.3).
    pub(crate) fn adopt(&mut self, certificate: Arc<Certificate>) {
        let point = certificate.point();
        if certificate.epoch() != self.state.epoch || point.sequence <= self.stable.sequence {
            return;
        }
        if point.sequence <= self.state.executed
            && self.past.get(&point.sequence).is_none_or(|past| past.point != point)
        {
            self.contradict(point.sequence);
            return;
        }
        self.outbox.record(Record::Certified(Arc::clone(&certificate)));
        self.take_over(certificate);
    }

    /// Takes a certified checkpoint over that is in the journal.
    pub(crate) fn take_over(&mut self, certificate: Arc<Certificate>) {
        let point = certificate.point();
        if point.sequence <= self.stable.sequence {
            return;
        }
        self.stable = point;
        self.certificate = Some(Arc::clone(&certificate));
        self.past.retain(|sequence, _| *sequence > point.sequence);
        self.cosignatures.retain(|sequence, _| *sequence > point.sequence);
        self.timers.uncertified = (!self.past.is_empty()).then_some(self.now);
        self.prune_slots();
        self.outbox.emit(Effect::Certified(certificate));
    }

    /// Forgets places that are certified and carried out; of those that are certified only, as many are
    /// kept as a window has, for they may yet be carried out from what is here.
    pub(crate) fn prune_slots(&mut self) {
        let (stable, executed) = (self.stable.sequence, self.state.executed);
        self.slots.retain(|sequence, _| {
            let ahead = (1..=ACCEPTED_SEQUENCES_MAX).contains(&sequence.since(executed));
            *sequence > stable || (*sequence > executed && ahead)
        });
        self.prune_batches();
    }

    pub(crate) fn contradict(&mut self, sequence: Sequence) {
        self.halted = true;
        self.outbox.emit_now(Effect::Halted(Contradiction { sequence }));
    }
}

/// Of the numbers after `from` up to `to` the one with the most factors of two.
fn roundest(from: Sequence, to: Sequence) -> Sequence {
    let mut mask = u64::MAX;
    // Clear low bits of `to` for as long as it stays above `from`.
    while mask != 0 && (to.0 & (mask << 1)) > from.0 {
        mask <<= 1;
    }
    Sequence(to.0 & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roundest_number_is_chosen_and_the_last_is_reached() {
        assert_eq!(roundest(Sequence(0), Sequence(7)), Sequence(4));
        assert_eq!(roundest(Sequence(4), Sequence(7)), Sequence(6));
        assert_eq!(roundest(Sequence(6), Sequence(7)), Sequence(7));
        assert_eq!(roundest(Sequence(7), Sequence(9)), Sequence(8));
        assert_eq!(roundest(Sequence(0), Sequence(1)), Sequence(1));
        for from in 0..70u64 {
            for to in from + 1..80 {
                let got = roundest(Sequence(from), Sequence(to)).0;
                let best = (from + 1..=to).max_by_key(|n| n.trailing_zeros()).expect("one");
                assert!(got > from && got <= to);
                assert_eq!(got.trailing_zeros(), best.trailing_zeros(), "{from} {to}");
            }
        }
    }
}
