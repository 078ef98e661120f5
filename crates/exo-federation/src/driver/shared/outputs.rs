//! Carrying out what the collections want, in its order and under their lock.

use exo_node::share::{Output, ShareEvent};

use super::disk::Work;
use super::host::{Inner, Keeper};
use super::metric;

impl Keeper {
    pub(super) fn carry_out(&self, inner: &mut Inner, output: Output) {
        match output {
            Output::Commit { number, collection, write, erase } => {
                self.disk.push(Work::Commit { number, collection, write, erase });
            }
            Output::Send { peer, message } => {
                if let Some(lane) = inner.lanes.get(&peer) {
                    lane.send(message);
                }
            }
            Output::Propose(decision) => self.propose(decision),
            Output::Done { ticket, result } => {
                if let Some(to) = inner.tickets.remove(&ticket) {
                    // Who wrote it may have gone; it is kept all the same.
                    let _ = to.send(result);
                }
            }
            Output::Changed { collection, keys, more } => self.tell(&collection, keys, more),
            Output::Event(event) => self.happened(event),
        }
    }

    /// Tells the log. No key and no value goes there.
    fn happened(&self, event: ShareEvent) {
        match event {
            ShareEvent::TwoHistories { collection, author } => {
                tracing::warn!(
                    %collection, author = author.short(),
                    "a member has signed two histories of a shared collection: the proof is kept"
                );
            }
            ShareEvent::CutOff { peer, reason } => {
                metric::cut_off(reason);
                tracing::warn!(
                    peer = peer.short(),
                    ?reason,
                    "a member is not listened to for a while"
                );
            }
            ShareEvent::Refused { peer, collection, reason, count } => {
                metric::refused(reason, count);
                tracing::debug!(
                    peer = peer.short(), %collection, ?reason, count,
                    "entries of a shared collection were refused"
                );
            }
            ShareEvent::Closed { peer, collection, reason } => {
                metric::broken(reason);
                tracing::debug!(
                    peer = peer.short(), %collection, ?reason,
                    "a synchronisation ended before its time"
                );
            }
            ShareEvent::Adopted { collection, epoch, again } => {
                metrics::counter!("exo_shared_checkpoints_total").increment(1);
                tracing::info!(%collection, epoch, again, "took a checkpoint over");
                // What it prunes leaves the files.
                self.disk.push(Work::Compact(collection));
            }
            ShareEvent::NoCut { collection, reason } => {
                tracing::warn!(%collection, %reason, "a checkpoint is due and cannot be proposed");
            }
        }
    }
}
