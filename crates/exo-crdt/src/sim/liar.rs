//! Members that lie.

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use crate::sync::layers::CELL_BYTES;
use crate::sync::message::SyncMessage;
use crate::sync::set::{LayerBytes, SetMessage};

/// How a member lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// Its stamps are hours or years ahead.
    Future,
    /// It signs two histories and shows different members different ones.
    TwoHistories,
    /// It says it has what it does not send.
    Withholds,
    /// It sends garbage in the form of messages.
    Garbage,
    /// It claims to have seen, and so removes, what nobody has written yet.
    RemovesAhead,
}

impl Lie {
    pub(super) const ALL: [Self; 5] =
        [Self::Future, Self::TwoHistories, Self::Withholds, Self::Garbage, Self::RemovesAhead];

    /// What becomes of a message that a liar sends.
    pub(super) fn twist(self, message: SyncMessage, rng: &mut StdRng) -> SyncMessage {
        match (self, message) {
            (Self::Withholds, SyncMessage::Items(mut items)) => {
                let keep = rng.random_range(0..=items.len());
                items.truncate(keep);
                SyncMessage::Items(items)
            }
            (Self::Garbage, message) if rng.random_bool(0.3) => garbage(message, rng),
            (_, message) => message,
        }
    }
}

fn garbage(message: SyncMessage, rng: &mut StdRng) -> SyncMessage {
    match rng.random_range(0..5) {
        0 => SyncMessage::Set(SetMessage::More),
        1 => {
            let mut bytes = vec![0; CELL_BYTES * rng.random_range(1..40)];
            rng.fill_bytes(&mut bytes);
            SyncMessage::Set(SetMessage::Layers(vec![LayerBytes(bytes)]))
        }
        2 => SyncMessage::Want { shorts: vec![rng.random(), rng.random()], authors: vec![[7; 8]] },
        3 => SyncMessage::Set(SetMessage::Ranges(Vec::new())),
        _ => match message {
            SyncMessage::Items(mut items) => {
                items.reverse();
                SyncMessage::Items(items.iter().chain(&items).cloned().collect())
            }
            other => other,
        },
    }
}
