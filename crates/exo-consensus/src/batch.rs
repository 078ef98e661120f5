//! Requests that wait to be ordered, and how a primary puts them into batches.

use std::collections::BTreeMap;
use std::time::Duration;

use exo_types::PeerId;
use exo_types::limits::{
    BATCH_BUNDLES_MAX, BATCH_BYTES_MAX, BATCHES_IN_FLIGHT_MAX, BATCHES_IN_FLIGHT_MIN,
    BUNDLES_PENDING_PER_MEMBER_MAX,
};

use crate::state::Replicated;
use crate::update::CheckedBundle;
use crate::voter::Voters;

/// Requests that wait, of each member a few.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    members: BTreeMap<PeerId, BTreeMap<u64, Waiting>>,
    arrivals: u64,
}

#[derive(Clone, Debug)]
struct Waiting {
    bundle: CheckedBundle,
    since: Duration,
    arrival: u64,
    /// It is in a batch of this view that is not yet carried out.
    assigned: bool,
}

impl Pending {
    /// Takes a request in. Of a member's requests those with the lowest numbers are kept, for only they
    /// can be next. False when it is not kept.
    pub(crate) fn insert(
        &mut self,
        bundle: CheckedBundle,
        state: &Replicated,
        now: Duration,
    ) -> bool {
        let (member, number) = (bundle.head().member, bundle.head().number);
        if state.next.get(&member).is_none_or(|next| number < *next) {
            return false;
        }
        let waiting = self.members.entry(member).or_default();
        if waiting.contains_key(&number) {
            return false;
        }
        if waiting.len() >= BUNDLES_PENDING_PER_MEMBER_MAX {
            let Some((last, _)) = waiting.last_key_value().filter(|(last, _)| **last > number)
            else {
                return false;
            };
            let last = *last;
            waiting.remove(&last);
        }
        self.arrivals += 1;
        let arrival = self.arrivals;
        waiting.insert(number, Waiting { bundle, since: now, arrival, assigned: false });
        true
    }

    /// Forgets what was carried out, or can no longer be.
    pub(crate) fn prune(&mut self, state: &Replicated) {
        self.members.retain(|member, waiting| {
            let Some(next) = state.next.get(member) else { return false };
            *waiting = waiting.split_off(next);
            !waiting.is_empty()
        });
    }

    /// Forgets who has no vote any more.
    pub(crate) fn retain(&mut self, voters: &Voters) {
        self.members.retain(|member, _| voters.seat(member).is_some());
    }

    /// A new view: nothing is in a batch of it yet.
    pub(crate) fn unassign(&mut self) {
        let all = self.members.values_mut().flat_map(BTreeMap::values_mut);
        all.for_each(|waiting| waiting.assigned = false);
    }

    /// A batch that is proposed in this view has these.
    pub(crate) fn assign(&mut self, bundles: &[CheckedBundle]) {
        for bundle in bundles {
            let waiting = self.members.get_mut(&bundle.head().member);
            if let Some(one) = waiting.and_then(|w| w.get_mut(&bundle.head().number)) {
                one.assigned = true;
            }
        }
    }

    /// Since when the longest-waiting request that could be next has waited.
    pub(crate) fn oldest(&self, state: &Replicated) -> Option<Duration> {
        let next = |(member, waiting): (&PeerId, &BTreeMap<u64, Waiting>)| {
            let next = state.next.get(member)?;
            waiting.get(next).map(|waiting| waiting.since)
        };
        self.members.iter().filter_map(next).min()
    }

    /// Everything that can be ordered now, up to the bounds of a batch: oldest first, of each member in
    /// the order of its numbers without a gap.
    pub(crate) fn take(&mut self, state: &Replicated) -> Vec<CheckedBundle> {
        let mut ready: Vec<(u64, &mut Waiting)> = Vec::new();
        for (member, waiting) in &mut self.members {
            let Some(mut next) = state.next.get(member).copied() else { continue };
            // A number never goes before the one it follows, whichever arrived first.
            let mut turn = 0;
            for (number, one) in waiting.iter_mut() {
                if *number != next {
                    break;
                }
                next += 1;
                turn = one.arrival.max(turn);
                if !one.assigned {
                    ready.push((turn, one));
                }
            }
        }
        ready.sort_by_key(|(turn, _)| *turn);
        let mut chosen: Vec<CheckedBundle> = Vec::new();
        let mut bytes = 0;
        for (_, one) in &mut ready {
            bytes += one.bundle.bytes();
            if chosen.len() >= BATCH_BUNDLES_MAX || bytes > BATCH_BYTES_MAX {
                break;
            }
            one.assigned = true;
            chosen.push(one.bundle.clone());
        }
        chosen
    }

    /// A batch was carried out: what it passed over may be proposed again.
    pub(crate) fn release(&mut self, bundles: &[CheckedBundle]) {
        for bundle in bundles {
            let waiting = self.members.get_mut(&bundle.head().member);
            if let Some(one) = waiting.and_then(|w| w.get_mut(&bundle.head().number)) {
                one.assigned = false;
            }
        }
    }

    /// How many requests wait.
    pub(crate) fn len(&self) -> usize {
        self.members.values().map(BTreeMap::len).sum()
    }
}

/// How many batches a primary has in flight: few, so that a batch holds all that came meanwhile; more
/// when one batch does not hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window(usize);

impl Default for Window {
    fn default() -> Self {
        Self(BATCHES_IN_FLIGHT_MIN)
    }
}

impl Window {
    pub(crate) fn batches(self) -> u64 {
        self.0 as u64
    }

    /// After a batch was put together: was it full?
    pub(crate) fn adapt(&mut self, full: bool) {
        self.0 = if full { self.0 + 1 } else { self.0.saturating_sub(1) }
            .clamp(BATCHES_IN_FLIGHT_MIN, BATCHES_IN_FLIGHT_MAX);
    }
}
