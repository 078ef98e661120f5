//! Fetching the log: a certified checkpoint and the batches before it, piece by piece, each checked
//! against the certified root.
//!
//! Anybody may say that it has more, and send nothing, little, or what does not hold. So whoever was asked
//! longest ago is asked first, a peer is left little time before the next one is asked beside it, and
//! voters and others take turns after an ask in vain: however many members lie, every second ask goes to a
//! voter, and every liar among the voters costs one ask before a correct one is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use exo_types::limits::{
    AGAIN_MILLIS_MAX, TRANSFER_CLAIMS_MAX, TRANSFER_TIMEOUT_MILLIS, TRANSFER_TIMEOUT_MILLIS_MAX,
    VOTERS_MAX,
};
use exo_types::{Epoch, PeerId, Sequence};

use crate::effect::Effect;
use crate::guard::Record;
use crate::ledger::Ledger;
use crate::message::{FetchLog, LogPiece, Message};
use crate::replica::Replica;
use crate::state::Replicated;

/// Who says that it has more, whom we asked for a piece, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transfer {
    sources: BTreeMap<PeerId, Source>,
    /// The size of our log with which `asked` were asked.
    size: u64,
    /// Who may still send the piece from there on.
    asked: BTreeSet<PeerId>,
    /// Who was asked last, and when: nobody else is until its time is over.
    waiting: Option<(PeerId, Duration)>,
    /// Whether the last one asked in vain had a vote.
    vain: Option<bool>,
    /// How often somebody was asked.
    asks: u64,
    /// How long the last piece took.
    took: Duration,
    /// How often somebody was asked again for the same piece.
    rounds: u32,
}

/// What we know of somebody who may have more of the log.
#[derive(Clone, Copy, Debug, Default)]
struct Source {
    /// The checkpoint that it says it has; taken back when it is asked for it in vain.
    claim: Option<(Epoch, Sequence)>,
    /// Which ask was the last one of it; 0: none.
    asked: u64,
    at: Duration,
    /// It sent what does not hold: it is left alone until then.
    barred: Duration,
}

impl Transfer {
    /// When the one asked last has had its time.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.waiting.map(|(_, at)| at + self.patience())
    }

    /// Twice as long as the last piece took, so that who is far away is not asked in vain; and longer when
    /// nobody has answered.
    fn patience(&self) -> Duration {
        let least = Duration::from_millis(TRANSFER_TIMEOUT_MILLIS);
        let patience = (2 * self.took).max(least) * (1 << self.rounds.min(8));
        patience.min(Duration::from_millis(TRANSFER_TIMEOUT_MILLIS_MAX))
    }

    /// Room for one more; of those who have no vote only so many are known.
    fn source(&mut self, peer: PeerId, votes: bool) -> Option<&mut Source> {
        let most = if votes { VOTERS_MAX + TRANSFER_CLAIMS_MAX } else { TRANSFER_CLAIMS_MAX };
        if self.sources.len() >= most && !self.sources.contains_key(&peer) {
            let idle = self.sources.iter().filter(|(_, of)| of.claim.is_none());
            let oldest = idle.min_by_key(|(_, of)| of.asked).map(|(peer, _)| *peer)?;
            self.sources.remove(&oldest);
        }
        Some(self.sources.entry(peer).or_default())
    }

    /// Who was asked last has not sent a piece: it has to say again that it has one.
    fn give_up(&mut self, votes: impl Fn(&PeerId) -> bool) {
        let Some((peer, _)) = self.waiting.take() else { return };
        self.vain = Some(votes(&peer));
        if let Some(source) = self.sources.get_mut(&peer) {
            source.claim = None;
        }
    }

    /// Of some who may have more the one that was asked longest ago, of the kind whose turn it is.
    fn choose(
        &self,
        among: impl Iterator<Item = PeerId>,
        votes: impl Fn(&PeerId) -> bool,
        now: Duration,
    ) -> Option<PeerId> {
        let of = |peer: &PeerId| self.sources.get(peer).copied().unwrap_or_default();
        let others_turn = self.vain == Some(true);
        let free = among.filter(|peer| now >= of(peer).barred);
        free.min_by_key(|peer| (votes(peer) == others_turn, of(peer).asked))
    }
}

impl<L: Ledger> Replica<L> {
    /// A peer says that it has more.
    pub(crate) fn hear_of_more(&mut self, from: PeerId, epoch: Epoch, stable: Sequence) {
        let votes = self.state.voters.seat(&from).is_some();
        if let Some(source) = self.transfer.source(from, votes) {
            source.claim = Some((epoch, stable));
            self.fetch_log();
        }
    }

    /// Whether that is more than we have.
    pub(crate) fn is_ahead(&self, epoch: Epoch, stable: Sequence) -> bool {
        // It has a certificate of what we carried out ourselves: an epoch may turn on it.
        let late = || {
            let since = self.timers.uncertified;
            since.is_some_and(|at| self.now > at + self.config.status_busy)
        };
        epoch > self.state.epoch
            || (epoch == self.state.epoch
                && (stable > self.state.executed || (stable > self.stable.sequence && late())))
    }

    /// Asks for the next piece of the log, unless somebody is being asked or there is nothing to ask for.
    pub(crate) fn fetch_log(&mut self) {
        // The next epoch is about to begin, and asks for itself.
        let turns = self.state.turn.is_some() && self.stable.sequence == self.state.executed;
        if turns || self.transfer.deadline().is_some_and(|deadline| self.now < deadline) {
            return;
        }
        let voters = std::sync::Arc::clone(&self.state.voters);
        let votes = |peer: &PeerId| voters.seat(peer).is_some();
        let last = self.transfer.waiting.map(|(peer, _)| peer);
        self.transfer.give_up(votes);
        let claims = self.transfer.sources.iter().filter_map(|(peer, of)| Some((*peer, of.claim?)));
        let ahead = claims.filter(|(_, (epoch, stable))| self.is_ahead(*epoch, *stable));
        let ahead: Vec<PeerId> = ahead.map(|(peer, _)| peer).collect();
        // Where a certified checkpoint is known without the log before it, a quorum has that.
        let certified = self.stable.sequence > self.state.executed;
        let anybody = voters.iter().map(|(_, voter)| voter.id);
        let anybody = anybody.filter(|id| certified && *id != self.config.me && Some(*id) != last);
        let chosen = self.transfer.choose(ahead.into_iter(), votes, self.now);
        if let Some(peer) = chosen.or_else(|| self.transfer.choose(anybody, votes, self.now)) {
            self.ask_for_log(peer);
        }
    }

    fn ask_for_log(&mut self, peer: PeerId) {
        let size = self.ledger.size();
        if self.transfer.size != size {
            self.transfer.size = size;
            self.transfer.asked.clear();
            self.transfer.rounds = 0;
        }
        if !self.transfer.asked.insert(peer) {
            self.transfer.rounds = self.transfer.rounds.saturating_add(1);
        }
        self.transfer.asks += 1;
        self.transfer.waiting = Some((peer, self.now));
        let (asks, now) = (self.transfer.asks, self.now);
        let votes = self.state.voters.seat(&peer).is_some();
        if let Some(source) = self.transfer.source(peer, votes) {
            (source.asked, source.at) = (asks, now);
        }
        let asked = FetchLog { epoch: self.state.epoch, size };
        // It says nothing of our votes, but it says what we have: after that is on the disk.
        self.send(peer, Message::FetchLog(asked));
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

    /// After the turn of an epoch: what was asked for before it is of no use any more.
    pub(crate) fn transfer_goes_on(&mut self) {
        self.transfer.waiting = None;
        self.transfer.asked.clear();
        self.fetch_log();
    }

    /// Whether a piece of the log from this peer, of the log from `from` on, was asked for and is still of
    /// use. All others are dropped, and need not be checked before.
    pub fn expects_piece(&self, peer: &PeerId, from: u64) -> bool {
        let transfer = &self.transfer;
        !self.halted
            && from == self.ledger.size()
            && from == transfer.size
            && transfer.asked.contains(peer)
    }

    /// Whether any piece of the log from this peer was asked for.
    pub fn expects_piece_of(&self, peer: &PeerId) -> bool {
        self.expects_piece(peer, self.ledger.size())
    }

    pub(crate) fn on_log_piece(&mut self, from: PeerId, piece: LogPiece) {
        if piece.certificate.epoch() != self.state.epoch || !self.expects_piece(&from, piece.from) {
            return;
        }
        let certified = piece.certificate.point();
        let brings = !piece.batches.is_empty() || certified.sequence > self.stable.sequence;
        if !brings || self.follows(&piece).is_none() {
            return self.on_false_piece(from);
        }
        self.take_piece_of(&from);
        // Before the batches: after a crash among them they must count as certified, for there may be more
        // than a window of them.
        let ahead = certified.sequence > self.state.executed;
        if ahead {
            self.outbox.record(Record::Certified(Arc::clone(&piece.certificate)));
        }
        for batch in piece.batches {
            if self.state.follow(&batch).is_err() {
                return;
            }
            self.append(batch);
            if self.halted {
                return;
            }
        }
        if ahead {
            self.take_over(piece.certificate);
        } else {
            self.adopt(piece.certificate);
        }
        self.prune_slots();
        self.fetch_log();
    }

    /// A piece that does not hold: the next one is asked, and that peer not for a while.
    pub(crate) fn on_false_piece(&mut self, from: PeerId) {
        if !self.transfer.asked.remove(&from) {
            return;
        }
        let until = self.now + Duration::from_millis(AGAIN_MILLIS_MAX);
        if let Some(source) = self.transfer.sources.get_mut(&from) {
            source.barred = until;
        }
        if self.transfer.waiting.is_some_and(|(asked, _)| asked == from) {
            let votes = self.state.voters.seat(&from).is_some();
            self.transfer.give_up(|_| votes);
            self.fetch_log();
        }
    }

    /// The piece that was waited for is here.
    fn take_piece_of(&mut self, from: &PeerId) {
        let asked = self.transfer.sources.get(from).map_or(self.now, |source| source.at);
        self.transfer.took = self.now.saturating_sub(asked);
        self.transfer.asked.clear();
        self.transfer.waiting = None;
        self.transfer.vain = None;
        self.transfer.rounds = 0;
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
