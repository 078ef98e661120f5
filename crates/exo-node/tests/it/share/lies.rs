//! Members that lie in their synchronisations.

use exo_crdt::sync::{Item, SyncMessage};
use exo_node::share::{CutOff, ShareMessage};

use super::key;
use super::world::Chance;

/// How a member lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lie {
    /// It begins sessions without end, and they bring nothing.
    Endless,
    /// It alters what others have signed.
    Forges,
    /// It does not send what it says it has.
    Withholds,
}

impl Lie {
    pub(crate) const ALL: [Self; 3] = [Self::Endless, Self::Forges, Self::Withholds];

    /// For what it is cut off, when it is found out.
    pub(crate) fn reason(self) -> CutOff {
        match self {
            Self::Endless => CutOff::NeverEnds,
            Self::Forges => CutOff::Forged,
            Self::Withholds => CutOff::Broken,
        }
    }

    /// What becomes of a message that it sends.
    pub(crate) fn twist(self, message: ShareMessage, chance: &mut Chance) -> ShareMessage {
        let ShareMessage::Sync { session, message: SyncMessage::Items(mut items) } = message else {
            return message;
        };
        match self {
            Self::Endless => {}
            Self::Withholds => items.truncate(chance.below(items.len())),
            Self::Forges => items.iter_mut().for_each(forge),
        }
        ShareMessage::Sync { session, message: SyncMessage::Items(items) }
    }
}

fn forge(item: &mut Item) {
    match item {
        Item::Batch { batch, .. } => batch.entries[0].key = key("forged"),
        Item::Shown(group) => group.entries[0].1.key = key("forged"),
        Item::Void(_) | Item::Evidence(_) => {}
    }
}
