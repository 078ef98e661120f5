//! Signatures that were asked for and have not come: the host could not make them, as when a key was not
//! to be had for a moment. They are asked for again, ever more rarely.

use std::time::Duration;

use exo_crypto::Signed;
use exo_types::limits::SIGN_AGAIN_MILLIS;
use exo_types::{Sequence, View};

use super::again::Again;
use crate::effect::Effect;
use crate::entry::Point;
use crate::ledger::Ledger;
use crate::message::Statement;
use crate::replica::Replica;
use crate::update::BundleHead;

/// What was asked to be signed last, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    view_change: Again<View>,
    new_view: Again<View>,
    bundle: Again<u64>,
    log: Again<Sequence>,
}

impl<L: Ledger> Replica<L> {
    pub(crate) fn ask_statement(&mut self, statement: Statement) {
        let _ = self.statement_due(&statement);
        self.outbox.emit(Effect::Sign(Box::new(statement)));
    }

    pub(crate) fn ask_bundle(&mut self, head: BundleHead) {
        let _ = self.timers.signatures.bundle.due(head.number, self.now, pause());
        // What is asked for binds nothing: the bundle is recorded when it is signed.
        self.outbox.emit_now(Effect::SignBundle(head));
    }

    pub(crate) fn ask_log(&mut self, point: Point) {
        let _ = self.timers.signatures.log.due(point.sequence, self.now, pause());
        self.outbox.emit(Effect::Cosign { size: point.size, root: point.root });
    }

    fn statement_due(&mut self, statement: &Statement) -> bool {
        let (now, asked) = (self.now, &mut self.timers.signatures);
        match statement {
            Statement::ViewChange(of) => asked.view_change.due(of.view, now, pause()),
            Statement::NewView(of) => asked.new_view.due(of.view, now, pause()),
        }
    }

    /// Asks for what is overdue.
    pub(crate) fn sign_again(&mut self) {
        let us = self.seat();
        let signed = us.and_then(|us| self.view_changes.get(&us)).map(|of| of.change.value.view);
        let leaving = self.leaving.as_ref().map(|leaving| leaving.change.clone());
        let leaving = leaving.filter(|change| signed != Some(change.view));
        let entering = self.entering.as_ref().map(|entering| entering.value.clone());
        let statements = leaving.map(Statement::ViewChange);
        for statement in statements.into_iter().chain(entering.map(Statement::NewView)) {
            if self.statement_due(&statement) {
                self.outbox.emit(Effect::Sign(Box::new(statement)));
            }
        }
        if let Some(head) = self.client.signing_head().cloned()
            && self.timers.signatures.bundle.due(head.number, self.now, pause())
        {
            self.outbox.emit_now(Effect::SignBundle(head));
        }
        if let Some(point) = self.cosigning
            && self.timers.signatures.log.due(point.sequence, self.now, pause())
        {
            if point.sequence <= self.stable.sequence {
                // The others certified it: the next one is asked for.
                self.cosigning = None;
            } else {
                self.outbox.emit(Effect::Cosign { size: point.size, root: point.root });
            }
        }
    }

    /// Whether this very statement of ours was signed before: two signatures on it would be two view
    /// changes to those who name it by its digest.
    pub(crate) fn is_signed(&self, signed: &Signed<Statement>) -> bool {
        let Ok(Statement::ViewChange(change)) = signed.claimed() else { return false };
        let ours = self.seat().and_then(|us| self.view_changes.get(&us));
        ours.is_some_and(|ours| *ours.change.value == change)
    }
}

/// How long a signature may take before it is asked for again.
fn pause() -> Duration {
    Duration::from_millis(SIGN_AGAIN_MILLIS)
}
