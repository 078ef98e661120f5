//! Noticing that a peer has fallen silent: what is sent to it is not acknowledged.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::{Duration, Instant};

use exo_node::effect::{Input, SessionId};
use exo_types::limits::{SILENCE_LOOK_MILLIS, SILENCE_MILLIS};

use super::core::{Core, lock};
use super::net::Traffic;

/// What is known of one connection.
#[derive(Debug, Default)]
struct Pulse {
    seen: Traffic,
    /// When something was found sent since the last acknowledgement.
    asked: Option<Instant>,
    silent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    FellSilent,
    SpeaksAgain,
}

impl Pulse {
    /// Takes the connection's counts in. What was sent just before the last acknowledgement came may be
    /// unanswered too: QUIC asks again, and that is counted.
    fn look(&mut self, now: Instant, traffic: Traffic, patience: Duration) -> Option<Change> {
        if traffic.acknowledgements != self.seen.acknowledgements {
            self.seen = traffic;
            self.asked = None;
            return std::mem::take(&mut self.silent).then_some(Change::SpeaksAgain);
        }
        if traffic.asks != self.seen.asks {
            let asked = *self.asked.get_or_insert(now);
            if !self.silent && now.duration_since(asked) >= patience {
                self.silent = true;
                return Some(Change::FellSilent);
            }
        }
        None
    }
}

/// Tells the node of the peers that fall silent, for as long as somebody holds it.
pub(crate) async fn watch(core: Weak<Core>) {
    let mut pulses: HashMap<SessionId, Pulse> = HashMap::new();
    loop {
        tokio::time::sleep(Duration::from_millis(SILENCE_LOOK_MILLIS)).await;
        let Some(core) = core.upgrade() else { return };
        let now = Instant::now();
        let mut changes = Vec::new();
        {
            let channels = lock(&core.channels);
            pulses.retain(|session, _| channels.contains_key(session));
            for (session, channel) in channels.iter() {
                // Over a long way an acknowledgement takes longer than that.
                let patience =
                    Duration::from_millis(SILENCE_MILLIS).max(channel.round_trip() * ROUND_TRIPS);
                let pulse = pulses.entry(*session).or_default();
                if let Some(change) = pulse.look(now, channel.traffic(), patience) {
                    changes.push((*session, change));
                }
            }
        }
        for (session, change) in changes {
            core.input(match change {
                Change::FellSilent => Input::FellSilent(session),
                Change::SpeaksAgain => Input::SpeaksAgain(session),
            });
        }
    }
}

/// So many round trips without an acknowledgement are no accident.
const ROUND_TRIPS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at the counts every quarter of a second.
    fn looks(counts: &[(u64, u64)]) -> Vec<(usize, Change)> {
        let began = Instant::now();
        let mut pulse = Pulse::default();
        let mut changes = Vec::new();
        for (at, (asks, acknowledgements)) in counts.iter().copied().enumerate() {
            let now = began + Duration::from_millis(250) * at as u32;
            let traffic = Traffic { asks, acknowledgements };
            let change = pulse.look(now, traffic, Duration::from_secs(1));
            changes.extend(change.map(|change| (at, change)));
        }
        changes
    }

    #[test]
    fn who_leaves_something_unacknowledged_is_silent_until_it_acknowledges() {
        let counts = [(1, 1), (2, 1), (2, 1), (3, 1), (3, 1), (4, 1), (4, 1), (9, 2), (9, 2)];
        assert_eq!(looks(&counts), [(5, Change::FellSilent), (7, Change::SpeaksAgain)]);
    }

    #[test]
    fn who_is_asked_nothing_is_not_silent() {
        assert_eq!(looks(&[(5, 2); 40]), []);
    }

    #[test]
    fn who_acknowledges_now_and_then_is_not_silent() {
        let counts: Vec<(u64, u64)> = (0..40).map(|at| (at, at / 4)).collect();
        assert_eq!(looks(&counts), []);
    }
}
