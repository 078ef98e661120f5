//! Fetching the log: a certified checkpoint and the batches before it, piece by piece, each checked
//! against the certified root.

use std::collections::BTreeSet;
use std::time::Duration;

use exo_types::PeerId;
use exo_types::limits::TRANSFER_TIMEOUT_MILLIS;

use crate::effect::Effect;
use crate::ledger::Ledger;
use crate::message::{FetchLog, LogPiece, Message};
use crate::replica::Replica;
use crate::state::Replicated;
use crate::voter::Seat;

/// Whom we asked for a piece, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transfer {
    asked: Option<(PeerId, Duration)>,
    /// Who gave the last piece.
    source: Option<PeerId>,
    /// Who was asked in vain since then: not asked again before a correct peer was.
    vain: BTreeSet<PeerId>,
    turn: u8,
}

impl Transfer {
    /// When the one asked has had its time.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.asked.map(|(_, at)| at + Duration::from_millis(TRANSFER_TIMEOUT_MILLIS))
    }
}

impl<L: Ledger> Replica<L> {
    /// Asks a peer that says it has more, unless another is being asked.
    pub(crate) fn fetch_log(&mut self, from: PeerId) {
        self.give_up_asking();
        if self.transfer.asked.is_none() && !self.transfer.vain.contains(&from) {
            self.transfer.asked = Some((from, self.now));
            let asked = FetchLog { epoch: self.state.epoch, size: self.ledger.size() };
            // It says nothing of our votes, but it says what we have: after that is on the disk.
            self.send(from, Message::FetchLog(asked));
        }
    }

    /// Who was asked has had its time. When more were asked in vain than can be faulty, all may be asked
    /// again; until then nobody who boasts and sends nothing is asked twice.
    fn give_up_asking(&mut self) {
        if self.transfer.deadline().is_some_and(|deadline| self.now >= deadline) {
            self.asked_in_vain();
        }
    }

    fn asked_in_vain(&mut self) {
        let Some((peer, _)) = self.transfer.asked.take() else { return };
        self.transfer.vain.insert(peer);
        if self.transfer.vain.len() > self.state.voters.quorum().faults() {
            self.transfer.vain.clear();
        }
    }

    /// While we know of a certified checkpoint that we do not have the log of, somebody is asked, each
    /// voter in turn: a quorum has it.
    pub(crate) fn fetch_log_of_anybody(&mut self) {
        self.give_up_asking();
        if self.stable.sequence <= self.state.executed || self.transfer.asked.is_some() {
            return;
        }
        let count = self.state.voters.count();
        for _ in 0..count {
            self.transfer.turn = (self.transfer.turn + 1) % count.max(1) as u8;
            let voter = self.state.voters.voter(Seat(self.transfer.turn));
            if let Some(id) = voter.map(|v| v.id).filter(|id| *id != self.config.me) {
                self.fetch_log(id);
                if self.transfer.asked.is_some() {
                    return;
                }
            }
        }
    }

    /// After the turn of an epoch: whoever gave us its end may have more.
    pub(crate) fn transfer_goes_on(&mut self) {
        if let Some(source) = self.transfer.source.take() {
            self.fetch_log(source);
        }
    }

    pub(crate) fn on_fetch_log(&mut self, from: PeerId, asked: FetchLog) {
        let certificate = if asked.epoch == self.state.epoch {
            // Nothing is served beyond what we carried out, nor of an epoch that has just begun.
            let whole = self.stable.sequence <= self.state.executed;
            let ours = self.certificate.clone().filter(|c| c.epoch() == asked.epoch);
            match ours.filter(|c| whole && c.size >= asked.size) {
                Some(certificate) => Some(certificate),
                None => return,
            }
        } else if asked.epoch < self.state.epoch {
            None
        } else {
            return;
        };
        if self.answers.may_serve(&from, self.now, PIECE_COST) {
            self.outbox.emit(Effect::Serve { to: from, asked, certificate });
        }
    }

    pub(crate) fn on_log_piece(&mut self, from: PeerId, piece: LogPiece) {
        if piece.certificate.epoch() != self.state.epoch || piece.from != self.ledger.size() {
            return;
        }
        if self.follows(&piece).is_none() {
            if self.transfer.asked.is_some_and(|(asked, _)| asked == from) {
                self.asked_in_vain();
            }
            return;
        }
        self.transfer.asked = None;
        self.transfer.vain.clear();
        self.transfer.source = Some(from);
        for batch in piece.batches {
            if self.state.follow(&batch).is_err() {
                return;
            }
            self.append(batch);
            if self.halted {
                return;
            }
        }
        self.adopt(piece.certificate);
        self.prune_slots();
        if self.stable.sequence > self.state.executed {
            self.fetch_log(from);
        }
    }

    /// Whether the piece goes on from our log and is the beginning of the certified one, tried on a copy.
    fn follows(&self, piece: &LogPiece) -> Option<()> {
        let mut state: Replicated = self.state.clone();
        let mut ledger = self.ledger.clone();
        for batch in &piece.batches {
            state.follow(batch).ok()?;
            batch.leaves().for_each(|leaf| ledger.append(L::leaf_hash(&leaf)));
        }
        let (size, root) = (ledger.size(), ledger.root());
        let certified = &piece.certificate;
        L::consistent(size, root, certified.size, certified.root, &piece.proof).then_some(())
    }
}

/// A piece of the log counts for as many contents of batches.
const PIECE_COST: u64 = 8;
