//! What a new view proposes again: the decision procedure of Castro & Liskov 2002, figure 4, over signed
//! view changes. The primary and every backup compute it from the same view changes.
//!
//! A checkpoint with its certificate proves itself, so the highest one is taken where the paper weighs
//! claims; every message's checkpoint is then at or below it, which is what its conditions ask for.

use std::collections::BTreeSet;

use exo_types::Sequence;

use crate::blob::Digest;
use crate::entry::Point;
use crate::message::{Claim, ViewChange};
use crate::quorum::Quorum;
use crate::update::batch_digest;

/// What a new view begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    /// The highest certified checkpoint.
    pub(crate) stable: Point,
    /// What is proposed at each place after it, without gaps; the last is not the null request.
    pub(crate) digests: Vec<Digest>,
}

impl Selection {
    /// Each place and what is proposed there.
    pub(crate) fn proposals(&self) -> impl Iterator<Item = (Sequence, Digest)> + '_ {
        let first = self.stable.sequence.next();
        self.digests.iter().enumerate().map(move |(i, digest)| (first.plus(i as u64), *digest))
    }
}

/// Decides, or says that more view changes are needed. Each view change is another replica's and all are
/// for one view.
pub(crate) fn select(changes: &[&ViewChange], quorum: Quorum) -> Option<Selection> {
    if !quorum.is_quorum(changes.len()) {
        return None;
    }
    let stable = changes.iter().map(|change| change.stable).max_by_key(|point| point.sequence)?;
    let claimed = changes.iter().flat_map(|change| &change.prepared);
    let last = claimed.map(|claim| claim.sequence).max().unwrap_or(stable.sequence);
    let null = batch_digest(&[]);
    let mut digests = Vec::new();
    let mut sequence = stable.sequence;
    while sequence < last {
        sequence = sequence.next();
        digests.push(select_at(sequence, changes, quorum, null)?);
    }
    // Nothing was prepared at the end, so those places are free for new batches.
    while digests.last() == Some(&null) {
        digests.pop();
    }
    Some(Selection { stable, digests })
}

fn select_at(
    sequence: Sequence,
    changes: &[&ViewChange],
    quorum: Quorum,
    null: Digest,
) -> Option<Digest> {
    let candidates: BTreeSet<(u64, Digest)> = changes
        .iter()
        .filter_map(|change| prepared_at(change, sequence))
        .map(|claim| (claim.view.0, claim.digest))
        .collect();
    // Condition A; of two that fulfil it neither is committed unless it is the later one.
    for (view, digest) in candidates.into_iter().rev() {
        // A1: a quorum prepared nothing later there, and nothing else in that view.
        let agree = changes.iter().filter(|change| {
            prepared_at(change, sequence).is_none_or(|claim| {
                claim.view.0 < view || (claim.view.0 == view && claim.digest == digest)
            })
        });
        // A2: a correct replica accepted it in that view or later, so it is genuine and its content is
        // to be had.
        let vouch = changes.iter().filter(|change| {
            change.accepted.iter().any(|claim| {
                claim.sequence == sequence && claim.digest == digest && claim.view.0 >= view
            })
        });
        if quorum.is_quorum(agree.count()) && quorum.is_weak(vouch.count()) {
            return Some(digest);
        }
    }
    // Condition B: a quorum prepared nothing there.
    let empty = changes.iter().filter(|change| prepared_at(change, sequence).is_none()).count();
    quorum.is_quorum(empty).then_some(null)
}

fn prepared_at(change: &ViewChange, sequence: Sequence) -> Option<&Claim> {
    change.prepared.iter().find(|claim| claim.sequence == sequence)
}

#[cfg(test)]
mod tests {
    use exo_types::{Epoch, FederationId, PeerId, View};

    use super::*;
    use crate::blob::Root;

    const PLACE: Sequence = Sequence(1);
    const BATCH: Digest = Digest([9; 32]);

    fn change(sender: u8, prepared: Option<u64>, accepted: Option<u64>) -> ViewChange {
        let claim = |view| Claim { sequence: PLACE, digest: BATCH, view: View(view) };
        claims(sender, prepared.map(claim), accepted.map(claim))
    }

    fn claims(sender: u8, prepared: Option<Claim>, accepted: Option<Claim>) -> ViewChange {
        ViewChange {
            federation: FederationId::new([1; 32]),
            epoch: Epoch::GENESIS,
            view: View(7),
            sender: PeerId::new([sender; 32]),
            stable: Point { sequence: Sequence::ZERO, size: 0, root: Root([0; 32]) },
            prepared: prepared.into_iter().collect(),
            accepted: accepted.into_iter().collect(),
        }
    }

    fn selected(changes: &[ViewChange]) -> Option<Vec<Digest>> {
        let quorum = Quorum::of(4).expect("four");
        let changes: Vec<&ViewChange> = changes.iter().collect();
        select(&changes, quorum).map(|selection| selection.digests)
    }

    #[test]
    fn what_only_a_liar_says_it_accepted_is_not_proposed_again() {
        let liar = change(1, Some(5), Some(5));
        let silent = [change(2, None, None), change(3, None, None)];
        // One more must be heard: it may be the correct one that accepted it.
        let three = [liar.clone(), silent[0].clone(), silent[1].clone()];
        assert_eq!(selected(&three), None);
        let vouched = change(4, None, Some(5));
        let four = [liar.clone(), silent[0].clone(), silent[1].clone(), vouched];
        assert_eq!(selected(&four), Some(vec![BATCH]));
        // Accepted in an earlier view it says nothing of this one.
        let earlier = change(4, None, Some(4));
        let four = [liar, silent[0].clone(), silent[1].clone(), earlier];
        assert_eq!(selected(&four), Some(Vec::new()));
    }

    #[test]
    fn what_was_prepared_last_is_proposed_again_and_not_what_another_prepared_earlier() {
        let other = Claim { sequence: PLACE, digest: Digest([8; 32]), view: View(4) };
        let last = change(1, Some(5), Some(5));
        let earlier = claims(2, Some(other), Some(Claim { digest: BATCH, view: View(5), ..other }));
        let three = [last.clone(), earlier, change(3, None, None)];
        assert_eq!(selected(&three), Some(vec![BATCH]));
        // Of one view only one can be prepared: where two say otherwise one of them lies, and the others decide.
        let lie = claims(2, Some(Claim { view: View(5), ..other }), None);
        let vouched = change(3, None, Some(5));
        let three = [last.clone(), lie.clone(), vouched.clone()];
        assert_eq!(selected(&three), None);
        let four = [last, lie, vouched, change(4, None, None)];
        assert_eq!(selected(&four), Some(vec![BATCH]));
    }

    #[test]
    fn nothing_is_decided_by_fewer_than_a_quorum() {
        let two = [change(1, None, None), change(2, None, None)];
        assert_eq!(selected(&two), None);
        let three = [two[0].clone(), two[1].clone(), change(3, None, None)];
        assert_eq!(selected(&three), Some(Vec::new()));
    }
}
