//! What a replica knows about one place in the order.

use std::collections::BTreeMap;
use std::time::Duration;

use exo_types::View;
use exo_types::limits::ACCEPTED_DIGESTS_PER_SEQUENCE_MAX;

use crate::blob::Digest;
use crate::quorum::Quorum;
use crate::voter::Seat;

/// A view and what was voted for in it.
pub(crate) type Ballot = (View, Digest);

/// See the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    /// What the primary of the current view proposes here, by PRE-PREPARE or NEW-VIEW.
    pub(crate) proposal: Option<Ballot>,
    /// When that came.
    pub(crate) since: Duration,
    /// The last PREPARE of each replica, the primary's PRE-PREPARE and our own vote among them.
    pub(crate) prepares: BTreeMap<Seat, Ballot>,
    /// The last COMMIT of each replica, our own among them.
    pub(crate) commits: BTreeMap<Seat, Ballot>,
    /// What was prepared here last: our element of P.
    pub(crate) prepared: Option<Ballot>,
    /// What we accepted here, each with the last view: our elements of Q.
    pub(crate) accepted: Vec<Ballot>,
    /// What is committed here, once a quorum's COMMIT is known.
    pub(crate) committed: Option<Digest>,
}

impl Slot {
    /// Takes a PREPARE or PRE-PREPARE in: of one replica the first in a view, and the last view.
    pub(crate) fn prepare(&mut self, seat: Seat, ballot: Ballot) {
        vote(&mut self.prepares, seat, ballot);
    }

    /// Takes a COMMIT in. See [`prepare`](Self::prepare).
    pub(crate) fn commit(&mut self, seat: Seat, ballot: Ballot) {
        vote(&mut self.commits, seat, ballot);
    }

    /// Whether a quorum, we among them, accepted this.
    pub(crate) fn is_prepared(&self, us: Seat, ballot: Ballot, quorum: Quorum) -> bool {
        let votes = self.prepares.values().filter(|vote| **vote == ballot).count();
        self.prepares.get(&us) == Some(&ballot) && quorum.is_quorum(votes)
    }

    /// What a quorum's COMMIT in one view is for. Every quorum that changes the view has a correct
    /// member of this one, which prepared it: it is committed whatever this replica has seen itself.
    pub(crate) fn decided(&self, quorum: Quorum) -> Option<Digest> {
        quorum.agreed(&self.commits.values().copied()).map(|(_, digest)| digest)
    }

    /// Notes in Q that we accepted this.
    pub(crate) fn note_accepted(&mut self, (view, digest): Ballot) {
        self.accepted.retain(|(_, known)| *known != digest);
        if self.accepted.len() >= ACCEPTED_DIGESTS_PER_SEQUENCE_MAX {
            // The oldest says least: see docs/protocol/consensus.md.
            let oldest = self.accepted.iter().enumerate().min_by_key(|(_, (view, _))| *view);
            if let Some(at) = oldest.map(|(at, _)| at) {
                self.accepted.remove(at);
            }
        }
        self.accepted.push((view, digest));
    }

    /// Notes in P that this is prepared. What was accepted in earlier views can only have been prepared
    /// in earlier views, which this one overrides at every new primary: Q forgets it.
    pub(crate) fn note_prepared(&mut self, (view, digest): Ballot) {
        self.prepared = Some((view, digest));
        self.accepted.retain(|(accepted, _)| *accepted >= view);
    }

    /// Everything here that names a batch.
    pub(crate) fn digests(&self) -> impl Iterator<Item = Digest> + '_ {
        let ballots = self.proposal.iter().chain(&self.prepared).chain(&self.accepted);
        ballots.map(|(_, digest)| *digest).chain(self.committed)
    }
}

fn vote(votes: &mut BTreeMap<Seat, Ballot>, seat: Seat, ballot: Ballot) {
    match votes.get(&seat) {
        Some((view, _)) if *view >= ballot.0 => {}
        _ => {
            votes.insert(seat, ballot);
        }
    }
}
