//! Who waits for what this node proposed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use exo_consensus::Decline;
use exo_node::decide::Decided;
use exo_types::Timestamp;
use tokio::sync::oneshot;

/// What became of something that was proposed.
#[derive(Clone, Debug)]
pub(crate) enum Settled {
    /// It is in the log, and certified.
    Certified(Arc<Decided>),
    /// It was not taken.
    Declined(Decline),
    /// This node decides nothing any more.
    Halted(String),
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Tickets {
    next: u64,
    waiting: HashMap<u64, (Duration, Option<oneshot::Sender<Settled>>)>,
    /// What was proposed and is not carried out, in order: as it is carried out, unless a vote was lost.
    ahead: VecDeque<(u64, Duration)>,
}

impl Tickets {
    /// Tickets that no former life of this node has given: those are in its journal.
    pub(super) fn new(started: Timestamp) -> Self {
        let next = (started.0 & STARTED_MASK) << LIFE_BITS;
        Self { next, waiting: HashMap::new(), ahead: VecDeque::new() }
    }

    /// A ticket for something proposed now. There are as many at once as the replica lets wait.
    pub(super) fn issue(&mut self, now: Duration, to: Option<oneshot::Sender<Settled>>) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.waiting.insert(ticket, (now, to));
        self.ahead.push_back((ticket, now));
        ticket
    }

    /// The oldest of this node's proposals that was ahead is carried out; since when it was proposed.
    pub(super) fn carried_out(&mut self) -> Option<Duration> {
        self.ahead.pop_front().map(|(_, since)| since)
    }

    /// Who waits and since when, once.
    pub(super) fn settle(
        &mut self,
        ticket: u64,
    ) -> Option<(Duration, Option<oneshot::Sender<Settled>>)> {
        // What is settled is not ahead any more, declined or carried out out of turn.
        if let Ok(at) = self.ahead.binary_search_by_key(&ticket, |(ahead, _)| *ahead) {
            self.ahead.remove(at);
        }
        self.waiting.remove(&ticket)
    }

    /// Nothing will be settled any more.
    pub(super) fn halt(&mut self, cause: &str) {
        for (_, to) in self.waiting.drain().map(|(_, waiting)| waiting) {
            if let Some(to) = to {
                let _ = to.send(Settled::Halted(cause.to_owned()));
            }
        }
    }
}

/// Tickets of one life: one in each microsecond for twelve days.
const LIFE_BITS: u32 = 20;
/// Milliseconds that fit above them, below the tickets that are not callers'.
const STARTED_MASK: u64 = (1 << 43) - 1;
