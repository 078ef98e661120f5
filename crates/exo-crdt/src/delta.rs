//! Delta states (Almeida, Shoker & Baquero 2018): what changed, in place of the whole.

use crate::merge::Merge;

/// A state with a smaller state that carries a change.
///
/// Law: for `a` that has seen everything `b` has, `b + a.delta_since(b) = a`; and joining deltas obeys
/// the laws of [`Merge`], so they may be reordered, repeated and joined to each other on the way.
pub trait Delta: Merge {
    /// The change as it travels.
    type Delta;

    /// What this state has and `base` lacks.
    fn delta_since(&self, base: &Self) -> Self::Delta;

    /// Joins a change.
    fn merge_delta(&mut self, delta: Self::Delta);
}
