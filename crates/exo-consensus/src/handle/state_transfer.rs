//! Fetching the log: a certified checkpoint and the batches before it, piece by piece, each checked
//! against the certified root.

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
        if self.transfer.deadline().is_none_or(|deadline| self.now >= deadline) {
            self.transfer.asked = Some((from, self.now));
            let asked = FetchLog { epoch: self.state.epoch, size: self.ledger.size() };
            // It says nothing of our votes, but it says what we have: after that is on the disk.
            self.send(from, Message::FetchLog(asked));
        }
    }

    /// While we know of a certified checkpoint that we do not have the log of, somebody is asked, each
    /// voter in turn: a quorum has it.
    pub(crate) fn fetch_log_of_anybody(&mut self) {
        if self.transfer.deadline().is_some_and(|deadline| self.now >= deadline) {
            self.transfer.asked = None;
        }
        if self.stable.sequence <= self.state.executed || self.transfer.asked.is_some() {
            return;
        }
        let count = self.state.voters.count();
        for _ in 0..count {
            self.transfer.turn = (self.transfer.turn + 1) % count.max(1) as u8;
            let voter = self.state.voters.voter(Seat(self.transfer.turn));
            if let Some(id) = voter.map(|v| v.id).filter(|id| *id != self.config.me) {
                self.fetch_log(id);
                return;
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
        if self.answers.may_serve(&from, self.now) {
            self.outbox.emit(Effect::Serve { to: from, asked, certificate });
        }
    }

    pub(crate) fn on_log_piece(&mut self, from: PeerId, piece: LogPiece) {
        if piece.certificate.epoch() != self.state.epoch || piece.from != self.ledger.size() {
            return;
        }
        if self.follows(&piece).is_none() {
            return;
        }
        self.transfer.asked = None;
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
            batch.leaves().for_each(|leaf| ledger.append(&leaf));
        }
        let (size, root) = (ledger.size(), ledger.root());
        let certified = &piece.certificate;
        L::consistent(size, root, certified.size, certified.root, &piece.proof).then_some(())
    }
}
