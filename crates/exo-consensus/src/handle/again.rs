//! When what nobody has answered is said again. Over a slow way a copy may be said before the first has
//! arrived, and every copy makes the next one later: copies of the same thing are said ever more rarely.

use std::collections::BTreeMap;
use std::time::Duration;

use exo_types::limits::{AGAIN_MILLIS, AGAIN_MILLIS_MAX};
use exo_types::{Sequence, View};

use super::status::window;
use crate::blob::Digest;
use crate::message::Status;
use crate::replica::Phase;

/// One thing that is said again while it stays the same.
#[derive(Clone, Debug)]
pub(crate) struct Again<T> {
    said: Option<(T, Duration)>,
    pause: Duration,
}

impl<T> Default for Again<T> {
    fn default() -> Self {
        Self { said: None, pause: Duration::ZERO }
    }
}

impl<T: PartialEq> Again<T> {
    /// Whether to say it now; then it counts as said. Something else than before is always said; the same
    /// after the first pause, then after twice that, and so on up to [`AGAIN_MILLIS_MAX`].
    pub(crate) fn due(&mut self, what: T, now: Duration, first: Duration) -> bool {
        match &self.said {
            Some((said, at)) if *said == what => {
                if now < *at + self.pause {
                    return false;
                }
                self.pause =
                    (self.pause * 2).min(Duration::from_millis(AGAIN_MILLIS_MAX)).max(first);
            }
            _ => self.pause = first,
        }
        self.said = Some((what, now));
        true
    }

    /// Whoever it is said to is getting on: it is as if it had been said once.
    fn calm(&mut self, first: Duration) {
        self.pause = self.pause.min(first);
    }
}

/// What is said about one place in the order, or about none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Proposal,
    Prepare,
    Commit,
}

/// What one peer was told in answer to its status.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// What its last status said, as far as it shows that the peer gets on.
    progress: Option<(View, bool, Sequence, Sequence)>,
    pub(crate) view: Again<(View, Phase)>,
    pub(crate) cosignature: Again<Sequence>,
    places: BTreeMap<(Sequence, Kind), Again<(View, Digest)>>,
}

impl Told {
    /// Takes a status in. Of places that it has no bits for nothing is kept.
    pub(crate) fn hears(&mut self, of: &Status, first: Duration) {
        let progress = Some((of.view, of.active, of.executed, of.stable));
        if self.progress != progress {
            self.progress = progress;
            self.view.calm(first);
            self.cosignature.calm(first);
            self.places.values_mut().for_each(|again| again.calm(pause()));
        }
        let places: Vec<Sequence> = window(of.executed).collect();
        self.places.retain(|(sequence, _), _| places.contains(sequence));
    }

    /// Whether to say a vote or a proposal of this place, which was first said at `since` or later.
    pub(crate) fn due_at(
        &mut self,
        place: (Sequence, Kind),
        what: (View, Digest),
        since: Duration,
        now: Duration,
    ) -> bool {
        now >= since + pause() && self.places.entry(place).or_default().due(what, now, pause())
    }
}

/// The pause before the same thing is said the second time.
pub(crate) fn pause() -> Duration {
    Duration::from_millis(AGAIN_MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_ever_more_rarely_and_something_else_at_once() {
        let mut again = Again::default();
        let mut said = Vec::new();
        for millis in (0..30_000).step_by(100) {
            if again.due("one", Duration::from_millis(millis), pause()) {
                said.push(millis);
            }
        }
        assert_eq!(said, [0, 400, 1_200, 2_800, 6_000, 12_400, 20_400, 28_400]);
        assert!(again.due("other", Duration::from_millis(30_000), pause()));
        assert!(!again.due("other", Duration::from_millis(30_399), pause()));
        assert!(again.due("other", Duration::from_millis(30_400), pause()));
    }

    #[test]
    fn who_gets_on_is_told_again_after_the_first_pause() {
        let mut again = Again::default();
        for millis in [0, 400, 1_200, 2_800] {
            assert!(again.due((), Duration::from_millis(millis), pause()));
        }
        again.calm(pause());
        assert!(!again.due((), Duration::from_millis(3_199), pause()));
        assert!(again.due((), Duration::from_millis(3_200), pause()));
    }
}
