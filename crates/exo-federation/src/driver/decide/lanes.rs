//! Over which session each peer is reached.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use exo_node::effect::SessionId;
use exo_types::PeerId;
use tokio::runtime::Handle;

use crate::driver::net::{EncryptedChannel, Lane, LaneFrame};

/// The lanes in use: one for each peer with a session.
#[derive(Debug, Default)]
pub(crate) struct Lanes(Mutex<HashMap<PeerId, (SessionId, Lane)>>);

impl Lanes {
    /// Messages for a peer go over this session from now on. Says whether that is new.
    pub(crate) fn set(
        &self,
        peer: PeerId,
        session: SessionId,
        channel: &EncryptedChannel,
        runtime: &Handle,
    ) -> bool {
        let mut lanes = self.lock();
        if lanes.get(&peer).is_some_and(|(present, _)| *present == session) {
            return false;
        }
        lanes.insert(peer, (session, channel.open_lane(runtime)));
        true
    }

    /// A peer is not reached any more.
    pub(crate) fn remove(&self, peer: &PeerId) {
        self.lock().remove(peer);
    }

    /// Sends a message to a peer; where it is not reached, or does not read, the message is lost.
    pub(crate) fn send(&self, peer: &PeerId, frame: &LaneFrame) {
        let lane = self.lock().get(peer).map(|(_, lane)| lane.clone());
        if let Some(lane) = lane {
            // The protocol says it again.
            let _ = lane.send(frame);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PeerId, (SessionId, Lane)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
