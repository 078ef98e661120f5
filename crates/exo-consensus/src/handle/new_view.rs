//! NEW-VIEW (Castro & Liskov 1999, section 4.4; decision of 2002, figure 4).

use std::sync::Arc;

use exo_crypto::Signed;

use crate::batch::Window;
use crate::certificate::Certificate;
use crate::check::{CheckedNewView, CheckedViewChange};
use crate::guard::{JournaledNewView, Record};
use crate::ledger::Ledger;
use crate::message::{Message, NewView, NewViewMessage, Statement, ViewChange, statement_digest};
use crate::replica::{Phase, Replica};
use crate::select::{Selection, select};
use crate::voter::{Seat, Voters};

/// A view that we are about to lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entering {
    pub(crate) value: NewView,
    pub(crate) view_changes: Vec<CheckedViewChange>,
    pub(crate) certificate: Option<Arc<Certificate>>,
}

impl<L: Ledger> Replica<L> {
    /// The primary of the view we are on the way to: as soon as the view changes decide, it says on which
    /// ones the view stands. More are waited for until they do (PBFT 2002, figure 4).
    pub(crate) fn lead(&mut self) {
        let Some(us) = self.seat().filter(|_| self.leads()) else { return };
        if self.phase != Phase::Changing || self.entering.is_some() {
            return;
        }
        let view = self.view;
        let here = || self.view_changes.values().filter(move |l| l.change.value.view == view);
        if !here().any(|leaver| leaver.change.seat == us) {
            return;
        }
        let values: Vec<&ViewChange> = here().map(|leaver| &*leaver.change.value).collect();
        let Some(selection) = select(&values, self.state.voters.quorum()) else { return };
        let highest = here().find(|leaver| leaver.change.value.stable == selection.stable);
        let certificate = highest.and_then(|leaver| leaver.certificate.clone());
        let view_changes: Vec<CheckedViewChange> = here().map(|l| l.change.clone()).collect();
        let named = view_changes.iter().map(|c| (c.seat, statement_digest(&c.signed))).collect();
        let value = NewView {
            federation: self.config.federation,
            epoch: self.state.epoch,
            view,
            sender: self.config.me,
            view_changes: named,
        };
        let entering = Box::new(Entering { value: value.clone(), view_changes, certificate });
        self.outbox.record(Record::NewView(Box::new(entering.journaled())));
        self.entering = Some(entering);
        self.ask_statement(Statement::NewView(value));
    }

    pub(crate) fn on_new_view_signed(&mut self, value: &NewView, signed: Signed<Statement>) {
        let Some(entering) = self.entering.take_if(|entering| entering.value == *value) else {
            return;
        };
        let Entering { value, view_changes, certificate } = *entering;
        self.enter(CheckedNewView { value, signed, view_changes, certificate });
    }

    /// A backup computes for itself what the view changes decide. It goes into the view whether it left
    /// its own or not: the view changes show that a quorum did.
    pub(crate) fn on_new_view(&mut self, of: CheckedNewView) {
        let view = of.value.view;
        let later = view > self.view || (view == self.view && self.phase == Phase::Changing);
        if of.value.epoch == self.state.epoch && later && of.value.sender != self.config.me {
            self.enter(of);
        }
    }

    fn enter(&mut self, of: CheckedNewView) {
        let Some(selection) = of.decide(self.state.voters.as_ref()) else { return };
        match &of.certificate {
            Some(certificate) => self.adopt(Arc::clone(certificate)),
            None if selection.stable == self.state.start => {}
            None => return,
        }
        if self.halted {
            return;
        }
        let ours = of.value.sender == self.config.me;
        self.outbox.record(Record::NewView(Box::new(of.journaled())));
        if ours {
            self.broadcast(of.message());
        }
        self.install(of, &selection);
        for (sequence, _) in selection.proposals() {
            self.accept(sequence);
            self.advance(sequence);
        }
        self.fetch_missing();
    }

    /// The view begins with what was selected; nothing is voted for yet.
    pub(crate) fn install(&mut self, of: CheckedNewView, selection: &Selection) {
        self.view = of.value.view;
        self.phase = Phase::Active;
        self.leaving = None;
        self.entering = None;
        self.new_view = Some(Box::new(of));
        self.window = Window::default();
        self.timers.entered = self.now;
        self.timers.quorum_leaves = None;
        self.view_changes.retain(|_, leaver| leaver.change.value.view > self.view);
        self.pending.unassign();
        self.slots.values_mut().for_each(|slot| slot.proposal = None);
        for (sequence, digest) in selection.proposals() {
            // What is certified here already is settled.
            if !self.in_window(sequence) {
                continue;
            }
            let slot = self.slots.entry(sequence).or_default();
            slot.proposal = Some((self.view, digest));
            slot.since = self.now;
            if let Some(batch) = self.batches.get(&digest) {
                self.pending.assign(batch.bundles());
            }
        }
    }
}

impl CheckedNewView {
    pub(crate) fn decide(&self, voters: &Voters) -> Option<Selection> {
        let values: Vec<&ViewChange> = self.view_changes.iter().map(|c| &*c.value).collect();
        select(&values, voters.quorum())
    }

    pub(crate) fn message(&self) -> Message {
        Message::NewView(Box::new(NewViewMessage {
            signed: self.signed.clone(),
            view_changes: self.view_changes.iter().map(|c| c.signed.clone()).collect(),
            certificate: self.certificate.clone(),
        }))
    }

    pub(crate) fn journaled(&self) -> JournaledNewView {
        JournaledNewView {
            statement: self.value.clone(),
            signed: Some(self.signed.clone()),
            view_changes: journaled(&self.view_changes),
            certificate: self.certificate.clone(),
        }
    }
}

impl Entering {
    pub(crate) fn journaled(&self) -> JournaledNewView {
        JournaledNewView {
            statement: self.value.clone(),
            signed: None,
            view_changes: journaled(&self.view_changes),
            certificate: self.certificate.clone(),
        }
    }
}

fn journaled(changes: &[CheckedViewChange]) -> Vec<(Seat, Signed<Statement>)> {
    changes.iter().map(|change| (change.seat, change.signed.clone())).collect()
}
