//! Whether what clients saw is what one append-only log would have shown them.
//!
//! The object is a log; its one operation appends a statement and answers with its index, and of two
//! appends the one with the higher index came later. Indices need not be dense: the log has other entries.
//! A history is linearizable (Herlihy & Wing 1990) when some order of all operations that took effect is the
//! order of the indices, holds every acknowledged operation once and any other at most once, and keeps real
//! time: an operation that was acknowledged before another was invoked comes before it. Since every
//! operation's index is known from the log there is one candidate for that order, and checking takes a
//! sort where in general it takes a search.

use std::collections::HashMap;
use std::time::Duration;

/// One append, as its client saw it. Times are since the beginning of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Append {
    /// What was appended: no two are the same.
    pub(super) id: String,
    /// When it was asked for.
    pub(super) invoked: Duration,
    /// What was answered; `None` where it is not known what became of it.
    pub(super) acknowledged: Option<Acknowledged>,
}

/// The answer to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// When it came.
    pub(super) at: Duration,
    /// Where the statement stands.
    pub(super) index: u64,
}

/// Why no append-only log explains a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// Acknowledged, and not in the log.
    Lost { id: String },
    /// Twice in the log.
    Doubled { id: String, indices: [u64; 2] },
    /// In the log at another index than was answered.
    Moved { id: String, answered: u64, found: u64 },
    /// In the log, and nobody asked for it.
    Invented { id: String, index: u64 },
    /// The first was acknowledged before the second was invoked, and stands behind it.
    Reversed { first: String, second: String },
    /// Asked for twice: the history itself is broken.
    AskedTwice { id: String },
}

/// Checks a history against the statements of the log, each with its index.
pub(super) fn check(appends: &[Append], log: &[(u64, String)]) -> Result<(), Violation> {
    let mut places: HashMap<&str, u64> = HashMap::new();
    for (index, id) in log {
        if let Some(before) = places.insert(id, *index) {
            return Err(Violation::Doubled { id: id.clone(), indices: [before, *index] });
        }
    }
    let mut asked = HashMap::new();
    for append in appends {
        if asked.insert(append.id.as_str(), ()).is_some() {
            return Err(Violation::AskedTwice { id: append.id.clone() });
        }
        let found = places.get(append.id.as_str()).copied();
        match (append.acknowledged, found) {
            (Some(_), None) => return Err(Violation::Lost { id: append.id.clone() }),
            (Some(Acknowledged { index, .. }), Some(found)) if index != found => {
                let id = append.id.clone();
                return Err(Violation::Moved { id, answered: index, found });
            }
            _ => {}
        }
    }
    if let Some((index, id)) = log.iter().find(|(_, id)| !asked.contains_key(id.as_str())) {
        return Err(Violation::Invented { id: id.clone(), index: *index });
    }
    real_time(appends, &places)
}

/// Sweeps over time: the highest index acknowledged so far has to be below every index of what is invoked
/// later, whether that was acknowledged or not.
fn real_time(appends: &[Append], places: &HashMap<&str, u64>) -> Result<(), Violation> {
    let mut invoked: Vec<&Append> =
        appends.iter().filter(|append| places.contains_key(append.id.as_str())).collect();
    invoked.sort_by_key(|append| append.invoked);
    let mut answered: Vec<(Acknowledged, &Append)> = appends
        .iter()
        .filter_map(|append| append.acknowledged.map(|acknowledged| (acknowledged, append)))
        .collect();
    answered.sort_by_key(|(acknowledged, _)| acknowledged.at);
    let mut answered = answered.into_iter().peekable();
    let mut highest: Option<(u64, &Append)> = None;
    for later in invoked {
        while let Some((acknowledged, append)) =
            answered.next_if(|(acknowledged, _)| acknowledged.at < later.invoked)
        {
            if highest.is_none_or(|(index, _)| index < acknowledged.index) {
                highest = Some((acknowledged.index, append));
            }
        }
        let Some((index, first)) = highest else { continue };
        if places.get(later.id.as_str()).is_some_and(|place| *place < index) {
            let (first, second) = (first.id.clone(), later.id.clone());
            return Err(Violation::Reversed { first, second });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn known(id: &str, invoked: u64, at: u64, index: u64) -> Append {
        let acknowledged = Some(Acknowledged { at: millis(at), index });
        Append { id: id.into(), invoked: millis(invoked), acknowledged }
    }

    fn unknown(id: &str, invoked: u64) -> Append {
        Append { id: id.into(), invoked: millis(invoked), acknowledged: None }
    }

    fn log(of: &[(u64, &str)]) -> Vec<(u64, String)> {
        of.iter().map(|(index, id)| (*index, (*id).to_owned())).collect()
    }

    #[test]
    fn appends_in_the_order_of_time_with_gaps_between_them_are_explained() {
        let appends = [known("a", 0, 10, 0), known("b", 11, 20, 2), known("c", 21, 30, 7)];
        assert_eq!(check(&appends, &log(&[(0, "a"), (2, "b"), (7, "c")])), Ok(()));
    }

    #[test]
    fn appends_at_the_same_time_may_stand_in_any_order() {
        let appends = [known("a", 0, 20, 5), known("b", 10, 30, 1)];
        assert_eq!(check(&appends, &log(&[(1, "b"), (5, "a")])), Ok(()));
        // Answered at the very moment at which the other is invoked: still at the same time.
        let appends = [known("a", 0, 10, 5), known("b", 10, 30, 1)];
        assert_eq!(check(&appends, &log(&[(1, "b"), (5, "a")])), Ok(()));
    }

    #[test]
    fn what_is_not_known_may_be_there_once_or_not_at_all() {
        let appends = [unknown("a", 0), known("b", 5, 10, 4)];
        assert_eq!(check(&appends, &log(&[(4, "b")])), Ok(()));
        assert_eq!(check(&appends, &log(&[(2, "a"), (4, "b")])), Ok(()));
        // It may take effect long after its client gave up.
        assert_eq!(check(&appends, &log(&[(4, "b"), (99, "a")])), Ok(()));
    }

    #[test]
    fn an_acknowledged_append_that_is_not_there_is_lost() {
        let appends = [known("a", 0, 10, 3), known("b", 0, 10, 4)];
        let lost = Violation::Lost { id: "a".into() };
        assert_eq!(check(&appends, &log(&[(4, "b")])), Err(lost));
    }

    #[test]
    fn an_append_that_stands_twice_is_doubled_whether_or_not_it_was_acknowledged() {
        for append in [known("a", 0, 10, 3), unknown("a", 0)] {
            let doubled = Violation::Doubled { id: "a".into(), indices: [3, 8] };
            assert_eq!(check(&[append], &log(&[(3, "a"), (8, "a")])), Err(doubled));
        }
    }

    #[test]
    fn an_append_at_another_index_than_was_answered_has_moved() {
        let moved = Violation::Moved { id: "a".into(), answered: 3, found: 4 };
        assert_eq!(check(&[known("a", 0, 10, 3)], &log(&[(4, "a")])), Err(moved));
        // So two can not have been answered with one index.
        let appends = [known("a", 0, 10, 3), known("b", 0, 10, 3)];
        let moved = Violation::Moved { id: "b".into(), answered: 3, found: 5 };
        assert_eq!(check(&appends, &log(&[(3, "a"), (5, "b")])), Err(moved));
    }

    #[test]
    fn what_nobody_asked_for_is_invented() {
        let invented = Violation::Invented { id: "x".into(), index: 6 };
        assert_eq!(check(&[known("a", 0, 10, 3)], &log(&[(3, "a"), (6, "x")])), Err(invented));
    }

    #[test]
    fn an_append_that_stands_before_one_acknowledged_earlier_is_reversed() {
        let reversed = Violation::Reversed { first: "a".into(), second: "b".into() };
        let places = log(&[(1, "b"), (5, "a")]);
        let appends = [known("a", 0, 10, 5), known("b", 11, 30, 1)];
        assert_eq!(check(&appends, &places), Err(reversed.clone()));
        // The later one need not be acknowledged to be seen there.
        assert_eq!(check(&[known("a", 0, 10, 5), unknown("b", 11)], &places), Err(reversed));
    }

    #[test]
    fn the_order_is_kept_over_any_number_of_appends_between() {
        let appends =
            [known("a", 0, 5, 9), known("b", 1, 6, 2), known("c", 2, 7, 3), known("d", 8, 20, 4)];
        let places = log(&[(2, "b"), (3, "c"), (4, "d"), (9, "a")]);
        let reversed = Violation::Reversed { first: "a".into(), second: "d".into() };
        assert_eq!(check(&appends, &places), Err(reversed));
    }

    #[test]
    fn what_is_asked_for_twice_makes_no_history() {
        let twice = Violation::AskedTwice { id: "a".into() };
        assert_eq!(check(&[unknown("a", 0), unknown("a", 1)], &log(&[])), Err(twice));
    }
}
