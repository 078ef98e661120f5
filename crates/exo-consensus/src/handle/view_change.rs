//! VIEW-CHANGE (Castro & Liskov 1999, section 4.4; P and Q of 2002, section 4.5).

use std::sync::Arc;

use exo_crypto::Signed;
use exo_types::{Sequence, View};

use crate::certificate::Certificate;
use crate::check::CheckedViewChange;
use crate::guard::{Leaving, Record};
use crate::ledger::Ledger;
use crate::message::{Claim, Message, Statement, ViewChange, ViewChangeMessage};
use crate::replica::{Phase, Replica};
use crate::slot::{Ballot, Slot};

/// Somebody's view change and the proof of its checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Leaver {
    pub(crate) change: CheckedViewChange,
    pub(crate) certificate: Option<Arc<Certificate>>,
}

impl<L: Ledger> Replica<L> {
    /// Gives the view up for a later one and says so, with everything prepared and accepted. From here
    /// on nothing is voted for in any earlier view: the record says so after a crash.
    pub(crate) fn leave_for(&mut self, view: View) {
        if !self.votes() || view <= self.view {
            return;
        }
        self.view = view;
        self.phase = Phase::Changing;
        self.timers.fruitless = self.timers.fruitless.saturating_add(1);
        self.timers.quorum_leaves = None;
        self.entering = None;
        self.new_view = None;
        let change = self.view_change();
        // At the beginning of an epoch the checkpoint is the one everybody began with.
        let begun = self.stable.sequence > self.state.start.sequence;
        let certificate = self.certificate.clone().filter(|_| begun);
        let leaving = Box::new(Leaving { change: change.clone(), certificate });
        self.outbox.record(Record::ViewChange(leaving.clone()));
        self.leaving = Some(leaving);
        self.ask_statement(Statement::ViewChange(change));
    }

    fn view_change(&self) -> ViewChange {
        let mut prepared = Vec::new();
        let mut accepted = Vec::new();
        let claim = |sequence: &Sequence, (view, digest): Ballot| Claim {
            sequence: *sequence,
            digest,
            view,
        };
        let window: Vec<(&Sequence, &Slot)> =
            self.slots.iter().filter(|(sequence, _)| self.in_window(**sequence)).collect();
        for (sequence, slot) in window {
            prepared.extend(slot.prepared.map(|ballot| claim(sequence, ballot)));
            let mut known: Vec<Claim> =
                slot.accepted.iter().map(|ballot| claim(sequence, *ballot)).collect();
            known.sort_unstable();
            accepted.extend(known);
        }
        ViewChange {
            federation: self.config.federation,
            epoch: self.state.epoch,
            view: self.view,
            sender: self.config.me,
            stable: self.stable,
            prepared,
            accepted,
        }
    }

    /// What we asked to have signed is signed, and durable since before that.
    pub(crate) fn on_signed(&mut self, signed: Signed<Statement>) {
        if self.is_signed(&signed) {
            return;
        }
        let Ok(statement) = signed.claimed() else { return };
        match statement {
            Statement::ViewChange(change) => self.on_view_change_signed(change, signed),
            Statement::NewView(new_view) => self.on_new_view_signed(&new_view, signed),
        }
    }

    fn on_view_change_signed(&mut self, change: ViewChange, signed: Signed<Statement>) {
        let Some(seat) = self.seat() else { return };
        let ours = self.leaving.as_ref().filter(|leaving| leaving.change == change);
        let Some(certificate) = ours.map(|leaving| leaving.certificate.clone()) else { return };
        let change = CheckedViewChange { seat, value: Arc::new(change), signed };
        let leaver = Leaver { change, certificate };
        self.broadcast(leaver.message());
        self.timers.entered = self.now;
        self.view_changes.insert(seat, leaver);
        self.after_view_change();
    }

    pub(crate) fn on_view_change(
        &mut self,
        change: CheckedViewChange,
        certificate: Option<Arc<Certificate>>,
    ) {
        let value = Arc::clone(&change.value);
        if value.epoch != self.state.epoch || value.sender == self.config.me {
            return;
        }
        match &certificate {
            Some(certificate) => self.adopt(Arc::clone(certificate)),
            None if value.stable == self.state.start => {}
            // A checkpoint without its proof.
            None => return,
        }
        let seat = change.seat;
        let known = self.view_changes.get(&seat).map(|known| known.change.value.view);
        if self.halted || value.view <= View::FIRST || known.is_some_and(|v| v >= value.view) {
            return;
        }
        self.view_changes.insert(seat, Leaver { change, certificate });
        self.after_view_change();
    }

    fn after_view_change(&mut self) {
        self.join();
        let quorum = self.state.voters.quorum();
        let on_the_way = self.view_changes.values().filter(|l| l.change.value.view >= self.view);
        if self.phase == Phase::Changing
            && self.timers.quorum_leaves.is_none()
            && quorum.is_quorum(on_the_way.count())
        {
            // PBFT 4.4: only now the wait for the new view begins.
            self.timers.quorum_leaves = Some(self.now);
        }
        self.lead();
    }

    /// PBFT 4.5.2: when `f + 1` others are on their way to later views, one of them is correct, and we go
    /// along without waiting for our own timer, to the highest view that a correct one has reached.
    fn join(&mut self) {
        let us = self.seat();
        let others = self.view_changes.iter().filter(|(seat, _)| Some(**seat) != us);
        let views = others.map(|(_, leaver)| leaver.change.value.view);
        if let Some(view) = self.state.voters.quorum().reached_by_correct(views)
            && view > self.view
        {
            self.leave_for(view);
        }
    }
}

impl Leaver {
    pub(crate) fn message(&self) -> Message {
        Message::ViewChange(Box::new(ViewChangeMessage {
            signed: self.change.signed.clone(),
            certificate: self.certificate.clone(),
        }))
    }
}
