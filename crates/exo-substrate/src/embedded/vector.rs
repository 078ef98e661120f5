//! Nearness to a vector: every score where the collection is small or filtered, otherwise exact
//! scores of the candidates that the codes promise most of.

use super::best::Best;
use super::bits::Bits;
use super::codes::CodeQuery;
use super::state::{Center, Entry, State};
use crate::metric::Scorer;
use crate::substrate::Exactness;

/// The best `top_k` scores and positions, and how they were chosen.
///
/// A filter's admitted records are always all scored: few, they are quickly scored, and many, no
/// approximation could promise to find the best of them.
pub(super) fn search(
    state: &State,
    query: &[f32],
    admitted: Option<&[Bits]>,
    top_k: usize,
) -> (Vec<(f32, u32)>, Exactness) {
    let scorer = Scorer::new(state.shape.metric, query);
    if let Some(admitted) = admitted {
        return (filtered(state, &scorer, admitted, top_k), Exactness::Exact);
    }
    let candidates = candidates(state.vectors, top_k);
    match &state.center {
        Some(center) if candidates < state.vectors => {
            let best = approximate(state, &scorer, center, candidates, top_k);
            (best, Exactness::Approximate { candidates })
        }
        _ => (exact(state, &scorer, top_k), Exactness::Exact),
    }
}

/// How many candidates of `vectors` are scored exactly for the best `top_k`.
fn candidates(vectors: usize, top_k: usize) -> usize {
    CANDIDATES_MIN.max(CANDIDATES_PER_HIT * top_k).max(vectors / CANDIDATES_SHARE)
}

fn exact(state: &State, scorer: &Scorer, top_k: usize) -> Vec<(f32, u32)> {
    let mut best = Best::new(top_k, |at| state.id(at));
    let mut scores = [0.0; BLOCK_VECTORS];
    for entry in &state.entries {
        let owners = entry.segment.vector_owners().chunks(BLOCK_VECTORS);
        let step = BLOCK_VECTORS * scorer.query().len().max(1);
        for (owners, rows) in owners.zip(entry.segment.vectors().chunks(step)) {
            let scores = &mut scores[..owners.len()];
            scorer.score_rows(rows, scores);
            for (owner, score) in owners.iter().zip(scores) {
                if entry.live.contains(*owner as usize) {
                    best.offer(*score, entry.base + owner);
                }
            }
        }
    }
    best.finish()
}

fn filtered(state: &State, scorer: &Scorer, admitted: &[Bits], top_k: usize) -> Vec<(f32, u32)> {
    let mut best = Best::new(top_k, |at| state.id(at));
    for (entry, admitted) in state.entries.iter().zip(admitted) {
        let owners = entry.segment.vector_owners();
        let picks: Vec<u32> = (0_u32..)
            .zip(owners)
            .filter(|(_, owner)| admitted.contains(**owner as usize))
            .map(|(pick, _)| pick)
            .collect();
        offer_picks(entry, scorer, &picks, &mut best);
    }
    best.finish()
}

fn approximate(
    state: &State,
    scorer: &Scorer,
    center: &Center,
    candidates: usize,
    top_k: usize,
) -> Vec<(f32, u32)> {
    let query = CodeQuery::new(state.shape.metric, scorer.query(), &center.vector);
    let mut promising = Best::new(candidates, |at| state.id(at));
    let mut estimates = [0.0; BLOCK_VECTORS];
    for entry in &state.entries {
        let Some(codes) = &entry.codes else { continue };
        let owners = entry.segment.vector_owners();
        for start in (0..codes.len()).step_by(BLOCK_VECTORS) {
            let owners = &owners[start..codes.len().min(start + BLOCK_VECTORS)];
            let estimates = &mut estimates[..owners.len()];
            query.estimate(codes, start, estimates);
            for (owner, estimate) in owners.iter().zip(estimates) {
                if entry.live.contains(*owner as usize) {
                    promising.offer(*estimate, entry.base + owner);
                }
            }
        }
    }
    let mut promising: Vec<u32> = promising.finish().into_iter().map(|(_, at)| at).collect();
    promising.sort_unstable();
    let mut best = Best::new(top_k, |at| state.id(at));
    let mut rest = promising.as_slice();
    for entry in &state.entries {
        let end = entry.base + entry.segment.len() as u32;
        let (here, after) = rest.split_at(rest.partition_point(|at| *at < end));
        rest = after;
        let owners = entry.segment.vector_owners();
        let picks: Vec<u32> = here
            .iter()
            .filter_map(|at| owners.binary_search(&(at - entry.base)).ok())
            .map(|pick| pick as u32)
            .collect();
        offer_picks(entry, scorer, &picks, &mut best);
    }
    best.finish()
}

fn offer_picks<'a, F: Fn(u32) -> &'a str>(
    entry: &Entry,
    scorer: &Scorer,
    picks: &[u32],
    best: &mut Best<'a, F>,
) {
    let mut scores = vec![0.0; picks.len()];
    scorer.score_picks(entry.segment.vectors(), picks, &mut scores);
    for (pick, score) in picks.iter().zip(scores) {
        best.offer(score, entry.base + entry.segment.vector_owners()[*pick as usize]);
    }
}

/// Vectors scored in one go.
const BLOCK_VECTORS: usize = 256;
/// Candidates scored exactly at least.
const CANDIDATES_MIN: usize = 1024;
/// Candidates scored exactly for each hit asked for.
const CANDIDATES_PER_HIT: usize = 32;
/// One in so many vectors is a candidate in a large collection.
const CANDIDATES_SHARE: usize = 128;
