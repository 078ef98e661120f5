//! Reconciliation by ranges (Meyer 2022): what layers cannot decode, this always can.
//!
//! Both ends sort their short ids and compare keyed fingerprints of ranges. Where they differ the range is
//! split in sixteen, until it is short enough to list. Every message splits or lists, so the number of
//! messages is bounded by the length of a short id, whatever the other end says.

use exo_types::bounded;
use exo_types::codec::{CodecError, bound, invalid};
use exo_types::limits::{SYNC_RANGES_MAX, SYNC_WANTS_MAX};
use serde::{Deserialize, Serialize};

use crate::sync::short::{ShortSet, SyncKey};

/// A range of short ids: from where the one before ends, up to `end`, that not included; the last one of a
/// message ends with `u64::MAX`, which is included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Where it ends.
    pub end: u64,
    /// What is said about it.
    pub content: RangeContent,
}

/// What one end says about a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RangeContent {
    /// Nothing more.
    Skip,
    /// How many items it has there, and their fingerprint.
    Print {
        /// Items.
        count: u32,
        /// [`SyncKey::fingerprint`] of their short ids.
        print: [u8; 16],
    },
    /// All its items there, sorted.
    List(#[serde(deserialize_with = "bounded::list::<_, _, SYNC_WANTS_MAX>")] Vec<u64>),
}

/// What one message of the other end brought to light.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Short ids that the other end lacks.
    pub mine: Vec<u64>,
    /// Short ids that this end lacks.
    pub theirs: Vec<u64>,
    /// What to answer; nothing when nothing is left to compare.
    pub answer: Vec<Range>,
}

/// One end's sorted short ids.
#[derive(Clone, Debug)]
pub struct Ranges {
    sorted: Vec<u64>,
    key: SyncKey,
}

impl Ranges {
    /// Sorts a set's short ids.
    pub fn new(set: &ShortSet) -> Self {
        let mut sorted = set.shorts.clone();
        sorted.sort_unstable();
        sorted.dedup();
        Self { sorted, key: set.key }
    }

    /// The first message.
    pub fn open(&self) -> Vec<Range> {
        let mut answer = Vec::new();
        self.describe(0, self.sorted.len(), u64::MAX, &mut answer);
        answer
    }

    /// Compares what the other end says with what is here.
    ///
    /// # Errors
    /// [`CodecError`] for ranges that are not in order, or too many.
    pub fn compare(&self, theirs: &[Range]) -> Result<Found, CodecError> {
        check(theirs)?;
        let mut found = Found::default();
        let mut from = 0;
        for range in theirs {
            let upto = self.place(range.end);
            let mine = self.sorted.get(from..upto).unwrap_or_default();
            match &range.content {
                RangeContent::Skip => skip(range.end, &mut found.answer),
                RangeContent::Print { count, print } => {
                    if *count as usize == mine.len() && *print == self.key.fingerprint(mine) {
                        skip(range.end, &mut found.answer);
                    } else if found.answer.len() + SPLIT < SYNC_RANGES_MAX / 2 {
                        self.describe(from, upto, range.end, &mut found.answer);
                    } else {
                        // The message is long enough: this range waits, and its turn comes.
                        let content = self.print(mine);
                        found.answer.push(Range { end: range.end, content });
                    }
                }
                RangeContent::List(listed) => {
                    skip(range.end, &mut found.answer);
                    found.mine.extend(without(mine, listed));
                    found.theirs.extend(without(listed, mine));
                }
            }
            from = upto;
        }
        if found.answer.iter().all(|range| range.content == RangeContent::Skip) {
            found.answer.clear();
        }
        bound(found.answer.len(), SYNC_RANGES_MAX)?;
        Ok(found)
    }

    /// The first place that is not before `end`; the end itself for the last range.
    fn place(&self, end: u64) -> usize {
        if end == u64::MAX { self.sorted.len() } else { self.sorted.partition_point(|s| *s < end) }
    }

    /// Lists a short range, splits a long one.
    fn describe(&self, from: usize, upto: usize, end: u64, answer: &mut Vec<Range>) {
        let mine = self.sorted.get(from..upto).unwrap_or_default();
        if mine.len() <= LIST_MAX {
            answer.push(Range { end, content: RangeContent::List(mine.to_vec()) });
            return;
        }
        let step = mine.len().div_ceil(SPLIT);
        let parts = mine.chunks(step).count();
        for (number, part) in mine.chunks(step).enumerate() {
            let last = number + 1 == parts;
            let end = if last { end } else { self.sorted[from + (number + 1) * step] };
            answer.push(Range { end, content: self.print(part) });
        }
    }

    fn print(&self, shorts: &[u64]) -> RangeContent {
        let count = u32::try_from(shorts.len()).unwrap_or(u32::MAX);
        RangeContent::Print { count, print: self.key.fingerprint(shorts) }
    }
}

/// Checks that ranges are in order, end at the end, and list what lies in them.
pub(crate) fn check(ranges: &[Range]) -> Result<(), CodecError> {
    bound(ranges.len(), SYNC_RANGES_MAX)?;
    let rising = ranges.is_sorted_by(|a, b| a.end < b.end);
    if !rising || ranges.last().is_some_and(|range| range.end != u64::MAX) {
        return Err(invalid("ranges must rise, up to the last short id"));
    }
    let mut from = 0;
    for range in ranges {
        if let RangeContent::List(listed) = &range.content {
            let inside = |short: &u64| (from..=range.end).contains(short);
            if !listed.is_sorted_by(|a, b| a < b) || !listed.iter().all(inside) {
                return Err(invalid("a list must be sorted and lie in its range"));
            }
        }
        from = range.end;
    }
    Ok(())
}

/// Ranges about which nothing is to be said are joined.
fn skip(end: u64, answer: &mut Vec<Range>) {
    match answer.last_mut() {
        Some(last) if last.content == RangeContent::Skip => last.end = end,
        _ => answer.push(Range { end, content: RangeContent::Skip }),
    }
}

/// What is in one sorted list and not in the other.
fn without<'a>(of: &'a [u64], other: &'a [u64]) -> impl Iterator<Item = u64> + 'a {
    of.iter().filter(|short| other.binary_search(short).is_err()).copied()
}

/// Parts into which a range is split.
const SPLIT: usize = 16;
/// Items of the longest range that is listed.
const LIST_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::short::LinkSecret;

    fn ranges(ids: impl Iterator<Item = u64>) -> Ranges {
        let key = SyncKey::new(&LinkSecret([1; 32]), &[2; 16], &[3; 16]);
        let ids: Vec<[u8; 32]> = ids
            .map(|n| core::array::from_fn(|i| n.to_be_bytes().get(i).copied().unwrap_or(0)))
            .collect();
        Ranges::new(&ShortSet::new(key, ids.iter()))
    }

    /// Exchanges messages; the difference and how many there were.
    fn run(a: &Ranges, b: &Ranges) -> (Vec<u64>, usize) {
        let (mut message, mut count, mut all) = (a.open(), 1, Vec::new());
        while !message.is_empty() {
            let here = if count % 2 == 1 { b } else { a };
            let found = here.compare(&message).expect("well-formed");
            all.extend(found.mine.iter().chain(&found.theirs));
            message = found.answer;
            count += 1;
            assert!(count < 30);
        }
        all.sort_unstable();
        (all, count)
    }

    #[test]
    fn ranges_find_every_difference_of_sets_of_any_size() {
        for (left, right) in [(0..0, 0..0), (0..0, 0..9), (0..1000, 3..1000), (0..5000, 2500..9000)]
        {
            let (a, b) = (ranges(left.clone()), ranges(right.clone()));
            let mut expected: Vec<_> =
                a.sorted.iter().filter(|s| !b.sorted.contains(s)).copied().collect();
            expected.extend(b.sorted.iter().filter(|s| !a.sorted.contains(s)));
            expected.sort_unstable();
            assert_eq!(run(&a, &b).0, expected, "{left:?} {right:?}");
        }
    }

    #[test]
    fn fingerprints_that_never_agree_end_in_lists() {
        let a = ranges(0..3000);
        let mut message = a.open();
        for round in 0.. {
            for range in &mut message {
                if let RangeContent::Print { print, .. } = &mut range.content {
                    print[0] ^= 1;
                }
            }
            message = a.compare(&message).expect("well-formed").answer;
            if message.is_empty() {
                break;
            }
            assert!(round < 8, "it goes on for ever");
        }
    }

    #[test]
    fn ranges_out_of_order_or_lists_out_of_range_are_refused() {
        let a = ranges(0..10);
        let skip = |end| Range { end, content: RangeContent::Skip };
        assert!(a.compare(&[skip(9), skip(3)]).is_err());
        assert!(a.compare(&[skip(9)]).is_err());
        let list = |end, list: &[u64]| Range { end, content: RangeContent::List(list.to_vec()) };
        assert!(a.compare(&[skip(5), list(u64::MAX, &[4])]).is_err());
        assert!(a.compare(&[list(u64::MAX, &[9, 4])]).is_err());
    }
}
