//! Carrying out what the replica wants, in its order and under its lock.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use exo_consensus::{Certificate, Decline, Directory, Effect, Message, Update};
use exo_node::decide::{Decided, Output};
use exo_types::{PeerId, Wire};

use super::signer::Job;
use super::tickets::Settled;
use super::{Inner, Shared};
use crate::driver::net::LaneFrame;

impl Shared {
    pub(super) fn carry_out(&self, inner: &mut Inner, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Do(effect) => self.effect(inner, effect),
                Output::Decided(decided) => self.decided(inner, decided),
                Output::Roster(roster) => {
                    inner.changed = Some(inner.decisions.replica().point().size);
                    self.roster.send_modify(|told| {
                        told.roster = Some(roster);
                        told.certified = false;
                    });
                }
            }
            #[cfg(feature = "liar")]
            super::failpoint::passed();
        }
    }

    fn effect(&self, inner: &mut Inner, effect: Effect) {
        match effect {
            Effect::Persist { number, record } => self.disk.append(number, record),
            Effect::Rotate { number, records } => self.disk.rotate(number, records),
            Effect::Send { to, message } => self.outgoing(inner, std::iter::once(&to), &message),
            Effect::Broadcast(message) => {
                let directory = self.directory();
                let others = directory.voters.iter().map(|(_, voter)| &voter.id);
                self.outgoing(inner, others.filter(|id| **id != self.me), &message);
            }
            Effect::Sign(statement) => self.signer.sign(Job::Statement(statement)),
            Effect::SignBundle(head) => self.signer.sign(Job::Bundle(head)),
            Effect::Cosign { size, root } => {
                let key = inner.decisions.cosigner();
                self.signer.sign(Job::Log { size, root, key });
            }
            // The decisions carry it into the charter.
            Effect::Apply { .. } => {}
            Effect::Certified(certificate) => self.certified(inner, &certificate),
            Effect::Done { ticket, leaf, .. } => self.done(inner, ticket, leaf),
            Effect::Declined { ticket, why } => declined(inner, ticket, why),
            Effect::Serve { to, asked, certificate } => self.serve(to, asked, certificate),
            Effect::Epoch { epoch, voters } => {
                let federation = self.directory().federation;
                tracing::info!(%epoch, voters = voters.count(), "an epoch of consensus has begun");
                let directory = Arc::new(Directory { federation, epoch, voters });
                *self.directory.write().unwrap_or_else(PoisonError::into_inner) = directory;
            }
            Effect::Halted(contradiction) => self.halt(inner, contradiction.to_string()),
        }
    }

    /// Sends a message, made once for all.
    #[cfg_attr(
        not(feature = "liar"),
        expect(unused_variables, reason = "a liar signs with its key")
    )]
    fn outgoing<'a>(&self, inner: &Inner, to: impl Iterator<Item = &'a PeerId>, message: &Message) {
        #[cfg(feature = "liar")]
        if self.liar.lies() {
            return to.for_each(|to| self.lie(inner, to, message));
        }
        let Some(frame) = frame(message) else { return };
        to.for_each(|to| self.lanes.send(to, &frame));
    }

    fn decided(&self, inner: &mut Inner, decided: Vec<Decided>) {
        let now = self.clock.now().mono;
        for decided in decided {
            inner.outcomes.note(&decided);
            let decided = Arc::new(decided);
            let ours = decided.logged.member == self.me;
            if ours {
                inner.own.insert(decided.index, Arc::clone(&decided));
            }
            if ours
                && matches!(decided.logged.update, Update::Data(_))
                && let Some(since) = inner.tickets.carried_out()
            {
                let took = now.saturating_sub(since).as_secs_f64();
                metrics::histogram!("exo_commit_carried_out_seconds").record(took);
            }
            inner.fresh.push_back(decided);
        }
    }

    /// A longer prefix has its proof: what it covers is told.
    fn certified(&self, inner: &mut Inner, certificate: &Certificate) {
        self.certified.store(certificate.seal.sequence.0, Ordering::Relaxed);
        metrics::gauge!("exo_consensus_certified_sequence").set(certificate.seal.sequence.0 as f64);
        metrics::gauge!("exo_consensus_log_entries").set(certificate.size as f64);
        let covered = inner.fresh.partition_point(|decided| decided.index < certificate.size);
        let covered = inner.fresh.drain(..covered);
        // Mostly nobody watches.
        if self.events.receiver_count() > 0 {
            covered.for_each(|decided| drop(self.events.send(decided)));
        }
        if inner.changed.is_some_and(|size| size <= certificate.size) {
            inner.changed = None;
            self.roster.send_modify(|told| told.certified = true);
        }
    }

    fn done(&self, inner: &mut Inner, ticket: u64, leaf: u64) {
        metrics::counter!("exo_commits_total").increment(1);
        // Tickets are settled in the order of the log; what is left before has none.
        let later = inner.own.split_off(&leaf.saturating_add(1));
        let decided = std::mem::replace(&mut inner.own, later).remove(&leaf);
        let Some((since, to)) = inner.tickets.settle(ticket) else { return };
        let took = self.clock.now().mono.saturating_sub(since);
        metrics::histogram!("exo_commit_seconds").record(took.as_secs_f64());
        if let (Some(to), Some(decided)) = (to, decided) {
            // Who proposed it may have gone; it stands in the log.
            let _ = to.send(Settled::Certified(decided));
        }
    }
}

fn declined(inner: &mut Inner, ticket: u64, why: Decline) {
    metrics::counter!("exo_commits_declined_total").increment(1);
    if let Some((_, Some(to))) = inner.tickets.settle(ticket) {
        let _ = to.send(Settled::Declined(why));
    }
}

/// The message as it goes over every lane.
pub(super) fn frame(message: &Message) -> Option<LaneFrame> {
    let made = message.to_wire().and_then(|body| LaneFrame::new(&body));
    if let Err(error) = &made {
        // Every part was bounded when it was taken in.
        tracing::error!(%error, "a message of the commit protocol is over its bound");
    }
    made.ok()
}
