//! Making an answer fit a reply of fixed length: the least is lost first.

use exo_types::limits::HIT_TEXT_BYTES_MAX;
use exo_types::{Hit, Leg};

use crate::flow::answer::bytes_of;

/// Leaves out what has no room in so many bytes, and says whether it did: vectors first, then the ends
/// of the longest texts, then the lowest ranks of each list.
pub(crate) fn fit(mut legs: Vec<Leg>, room: usize) -> (Vec<Leg>, bool) {
    let room = room.saturating_sub(legs.len() * LEG_BYTES);
    if bytes(&legs, HIT_TEXT_BYTES_MAX) <= room {
        return (legs, false);
    }
    hits(&mut legs).for_each(|hit| hit.vector = None);
    let cap = longest_text(&legs, room);
    hits(&mut legs).for_each(|hit| cut(&mut hit.text, cap));
    let share = room / legs.len().max(1);
    for leg in &mut legs {
        let mut used = 0usize;
        leg.hits.retain(|hit| {
            used = used.saturating_add(bytes_of(hit));
            used <= share || cap > 0
        });
    }
    (legs, true)
}

/// The longest texts that all have room, bytes; zero also when none has.
fn longest_text(legs: &[Leg], room: usize) -> usize {
    let (mut fits, mut over) = (0, HIT_TEXT_BYTES_MAX + 1);
    while over - fits > 1 {
        let middle = usize::midpoint(fits, over);
        if bytes(legs, middle) <= room {
            fits = middle;
        } else {
            over = middle;
        }
    }
    fits
}

/// Upper bound of the hits' encoding with texts of at most `text` bytes each.
fn bytes(legs: &[Leg], text: usize) -> usize {
    let one = |hit: &Hit| bytes_of(hit) - hit.text.len().saturating_sub(text);
    legs.iter().flat_map(|leg| &leg.hits).map(one).sum()
}

fn hits(legs: &mut [Leg]) -> impl Iterator<Item = &mut Hit> {
    legs.iter_mut().flat_map(|leg| &mut leg.hits)
}

/// Cuts a text to at most `bytes` bytes, between characters.
fn cut(text: &mut String, bytes: usize) {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
}

/// Upper bound of what a list's own description takes.
const LEG_BYTES: usize = 192;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use exo_types::{CollectionName, ContentHash, LegKind, RecordId, ScoreScale};
    use proptest::prelude::*;

    use super::*;

    fn hit(rank: usize, text: usize, vector: usize) -> Hit {
        Hit {
            collection: CollectionName::new("notes").expect("a name"),
            id: RecordId::new(format!("r{rank}")).expect("an id"),
            score: -(rank as f32),
            content: ContentHash([7; 32]),
            title: "é".repeat(text % 7),
            text: "ö".repeat(text / 2),
            metadata: BTreeMap::new(),
            vector: (vector > 0).then(|| vec![0.5; vector]),
        }
    }

    fn leg(hits: Vec<Hit>) -> Leg {
        Leg { kind: LegKind::Text, scale: ScoreScale::TextGlobal, hits }
    }

    #[test]
    fn vectors_go_before_texts_and_texts_before_ranks() {
        let whole = vec![leg((0..10).map(|rank| hit(rank, 400, 100)).collect())];
        assert_eq!(fit(whole.clone(), 100_000), (whole.clone(), false));
        let (without, trimmed) = fit(whole.clone(), 6_500);
        assert!(trimmed && without[0].hits.iter().all(|hit| hit.vector.is_none()));
        assert!(without[0].hits.iter().all(|hit| hit.text.len() == 400), "texts are whole");
        let (short, _) = fit(whole.clone(), 3_000);
        assert_eq!(short[0].hits.len(), 10, "all ranks are there");
        assert!(short[0].hits.iter().all(|hit| !hit.text.is_empty() && hit.text.len() < 400));
        let (few, _) = fit(whole, 700);
        let ranks: Vec<_> = few[0].hits.iter().map(|hit| hit.id.as_str()).collect();
        assert!(!ranks.is_empty() && ranks.len() < 10);
        assert!(ranks.iter().enumerate().all(|(at, id)| *id == format!("r{at}")), "{ranks:?}");
    }

    proptest! {
        #[test]
        fn what_is_left_has_room_and_keeps_its_order(
            sizes in prop::collection::vec((0usize..2_000, 0usize..40), 0..60),
            legs in 1usize..4,
            room in 0usize..40_000,
        ) {
            let hits: Vec<_> =
                sizes.iter().enumerate().map(|(at, (text, vector))| hit(at, *text, *vector)).collect();
            let parts = hits.chunks(hits.len().div_ceil(legs).max(1));
            let before: Vec<_> = parts.map(|part| leg(part.to_vec())).collect();
            let (after, trimmed) = fit(before.clone(), room);
            prop_assert_eq!(trimmed, after != before);
            if trimmed {
                let used: usize = after.iter().flat_map(|leg| &leg.hits).map(bytes_of).sum();
                prop_assert!(used + after.len() * LEG_BYTES <= room.max(after.len() * LEG_BYTES));
            }
            for (left, all) in after.iter().zip(&before) {
                prop_assert!(left.hits.iter().zip(&all.hits).all(|(a, b)| a.id == b.id));
            }
        }
    }
}
