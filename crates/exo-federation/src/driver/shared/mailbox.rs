//! What other parts of the node leave for its shared collections, without waiting for their lock.
//!
//! Of each thing the newest alone counts, so what waits here is bounded by the number of members. Nothing
//! else is locked while this is.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use exo_node::effect::SessionId;
use exo_node::share::Rights;
use exo_types::PeerId;
use tokio::sync::Notify;

use crate::driver::net::EncryptedChannel;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    letters: Mutex<Letters>,
    pub(super) more: Notify,
}

/// What was left since it was looked at last.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// Those in force.
    pub(super) rights: Option<Box<Rights>>,
    /// Over which session a member is reached now, if over any.
    pub(super) ways: BTreeMap<PeerId, Option<(SessionId, EncryptedChannel)>>,
    /// So many messages have left a member's lane, of the lane with that number.
    pub(super) sent: BTreeMap<PeerId, (u64, usize)>,
    /// A member does not take the lane with that number any more, and may take another.
    pub(super) stopped: BTreeMap<PeerId, u64>,
}

impl Mailbox {
    /// These rights are in force from now on.
    pub(crate) fn rights(&self, rights: Rights) {
        self.leave(|letters| letters.rights = Some(Box::new(rights)));
    }

    /// A member is reached over this session from now on, or is not.
    pub(crate) fn way(&self, peer: PeerId, way: Option<(SessionId, EncryptedChannel)>) {
        self.leave(|letters| drop(letters.ways.insert(peer, way)));
    }

    pub(super) fn sent(&self, peer: PeerId, lane: u64) {
        self.leave(|letters| {
            let sent = letters.sent.entry(peer).or_insert((lane, 0));
            *sent = if sent.0 == lane { (lane, sent.1 + 1) } else { (lane, 1) };
        });
    }

    pub(super) fn stopped(&self, peer: PeerId, lane: u64) {
        self.leave(|letters| {
            letters.stopped.insert(peer, lane);
        });
    }

    pub(super) fn take(&self) -> Letters {
        std::mem::take(&mut *self.lock())
    }

    fn leave(&self, letter: impl FnOnce(&mut Letters)) {
        letter(&mut self.lock());
        self.more.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
