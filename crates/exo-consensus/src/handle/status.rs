//! STATUS: saying what one has, and giving others what they lack (Castro & Liskov 2002, section 5.2).
//! Everything that a lost message could hold up is said again this way, until it is answered.

use std::collections::BTreeMap;
use std::time::Duration;

use exo_types::limits::{
    ACCEPTED_SEQUENCES_MAX, STATUS_ANSWER_MILLIS, STATUS_BUSY_MILLIS, VOTERS_MAX,
};
use exo_types::{PeerId, Sequence};

use super::again::{Kind, Told, pause};
use crate::ledger::Ledger;
use crate::message::{Message, PrePrepare, Status, Vote};
use crate::replica::{Phase, Replica};

/// How often whom was answered, so that nobody makes us send without end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    peers: BTreeMap<PeerId, Answered>,
}

#[derive(Clone, Debug, Default)]
struct Answered {
    status: Option<Duration>,
    since: Duration,
    served: u64,
    told: Told,
}

impl Answers {
    fn peer(&mut self, peer: &PeerId) -> &mut Answered {
        if self.peers.len() >= 2 * VOTERS_MAX && !self.peers.contains_key(peer) {
            self.peers.pop_first();
        }
        self.peers.entry(*peer).or_default()
    }

    fn may_answer(&mut self, peer: &PeerId, now: Duration) -> bool {
        let answered = self.peer(peer);
        let pause = Duration::from_millis(STATUS_ANSWER_MILLIS);
        let may = answered.status.is_none_or(|last| now >= last + pause);
        if may {
            answered.status = Some(now);
        }
        may
    }

    /// Contents and pieces of the log: so much in the time between two statuses.
    pub(crate) fn may_serve(&mut self, peer: &PeerId, now: Duration, cost: u64) -> bool {
        let answered = self.peer(peer);
        if now >= answered.since + Duration::from_millis(STATUS_BUSY_MILLIS) {
            answered.since = now;
            answered.served = 0;
        }
        answered.served = answered.served.saturating_add(cost);
        answered.served <= 2 * ACCEPTED_SEQUENCES_MAX
    }
}

impl<L: Ledger> Replica<L> {
    pub(crate) fn say_status(&mut self) {
        self.timers.status_said = self.now;
        self.broadcast(Message::Status(self.status()));
    }

    fn status(&self) -> Status {
        let us = self.seat();
        let (mut accepted, mut prepared, mut committed) = (0u32, 0u32, 0u32);
        for (i, sequence) in window(self.state.executed).enumerate() {
            let Some(slot) = self.slots.get(&sequence) else { continue };
            let bit = 1u32 << i;
            let ours = us.and_then(|us| slot.prepares.get(&us));
            if ours.is_some_and(|(view, _)| *view == self.view) {
                accepted |= bit;
            }
            if slot.prepared.is_some_and(|(view, _)| view == self.view) {
                prepared |= bit;
            }
            if slot.committed.is_some() {
                committed |= bit;
            }
        }
        let here = self.view_changes.iter().filter(|(_, l)| l.change.value.view == self.view);
        Status {
            epoch: self.state.epoch,
            view: self.view,
            active: self.phase == Phase::Active,
            executed: self.state.executed,
            stable: self.stable.sequence,
            accepted,
            prepared,
            committed,
            view_changes: here.fold(0, |bits, (seat, _)| bits | seat.bit()),
        }
    }

    pub(crate) fn on_poke(&mut self, peer: PeerId) {
        if self.answers.may_answer(&peer, self.now) {
            self.send(peer, Message::Status(self.status()));
        }
    }

    pub(crate) fn on_status(&mut self, from: PeerId, of: Status) {
        if self.is_ahead(of.epoch, of.stable) {
            self.hear_of_more(from, of.epoch, of.stable);
        }
        if !self.answers.may_answer(&from, self.now) {
            return;
        }
        let tell = of.epoch < self.state.epoch
            || (of.epoch == self.state.epoch
                && (of.stable.min(of.executed) < self.stable.sequence || of.view > self.view));
        if tell {
            self.send(from, Message::Status(self.status()));
        }
        if of.epoch == self.state.epoch {
            self.answers.peer(&from).told.hears(&of, self.config.view_timeout);
            self.help_into_view(from, &of);
            self.help_with_votes(from, &of);
        }
    }

    /// Gives the view we are in, or our part of the way to it.
    fn help_into_view(&mut self, to: PeerId, of: &Status) {
        let there = of.view > self.view || (of.view == self.view && of.active);
        if there {
            return;
        }
        let message = match self.phase {
            Phase::Active => self.new_view.as_ref().map(|new_view| new_view.message()),
            Phase::Changing => {
                let Some(us) = self.seat() else { return };
                let has = of.view == self.view && of.view_changes & us.bit() != 0;
                self.view_changes.get(&us).filter(|_| !has).map(|leaver| leaver.message())
            }
        };
        let Some(message) = message else { return };
        // They are long: what was said to all a moment ago is still on its way.
        let first = self.config.view_timeout;
        let what = (self.view, self.phase);
        if self.now >= self.timers.entered + first
            && self.answers.peer(&to).told.view.due(what, self.now, first)
        {
            self.send(to, message);
        }
    }

    /// Gives our votes, and as the primary our proposals, where they are lacking.
    fn help_with_votes(&mut self, to: PeerId, of: &Status) {
        let now = self.now;
        if let Some(ours) = self.our_cosignature.clone()
            && ours.point.sequence > of.stable
            && self.votes()
            && self.timers.uncertified.is_none_or(|since| now >= since + pause())
            && self.answers.peer(&to).told.cosignature.due(ours.point.sequence, now, pause())
        {
            self.send(to, Message::Cosignature(ours));
        }
        let Some(us) = self.seat().filter(|_| self.votes()) else { return };
        let epoch = self.state.epoch;
        let together = self.phase == Phase::Active && of.active && of.view == self.view;
        let leads = together && self.leads();
        let mut messages = Vec::new();
        for (i, sequence) in window(of.executed).enumerate() {
            let Some(slot) = self.slots.get(&sequence) else { continue };
            let lacks = |bits: u32| bits & (1 << i) == 0;
            if !lacks(of.committed) {
                continue;
            }
            let told = &mut self.answers.peer(&to).told;
            let mut due = |kind, what| told.due_at((sequence, kind), what, slot.since, now);
            let proposal = slot.proposal.filter(|_| leads && lacks(of.accepted));
            let proposes = proposal.is_some_and(|what| due(Kind::Proposal, what));
            let ours = slot.prepares.get(&us).filter(|(view, _)| *view == self.view);
            let ours = ours.copied().filter(|_| together && lacks(of.prepared));
            let prepare = ours.filter(|what| due(Kind::Prepare, *what));
            let commit = slot.commits.get(&us).copied().filter(|what| due(Kind::Commit, *what));
            if proposes {
                messages.extend(self.proposal_at(sequence));
            }
            if let Some((view, digest)) = prepare {
                messages.push(Message::Prepare(Vote { epoch, view, sequence, digest }));
            }
            if let Some((view, digest)) = commit {
                messages.push(Message::Commit(Vote { epoch, view, sequence, digest }));
            }
        }
        for message in messages {
            self.send(to, message);
        }
    }

    fn proposal_at(&self, sequence: Sequence) -> Option<Message> {
        let (view, digest) = self.slots.get(&sequence)?.proposal?;
        let batch = self.batches.get(&digest).filter(|batch| !batch.bundles().is_empty())?;
        Some(Message::PrePrepare(PrePrepare {
            epoch: self.state.epoch,
            view,
            sequence,
            batch: batch.to_batch(),
        }))
    }
}

/// The places that a status has bits for.
pub(crate) fn window(executed: Sequence) -> impl Iterator<Item = Sequence> {
    (1..=ACCEPTED_SEQUENCES_MAX).map(move |i| executed.plus(i))
}
