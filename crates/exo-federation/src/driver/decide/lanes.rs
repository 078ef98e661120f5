//! Over which session each peer is reached.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use exo_node::effect::SessionId;
use exo_types::PeerId;
use tokio::runtime::Handle;

use crate::driver::net::{EncryptedChannel, Lane, LaneFrame};

/// The lanes in use: one for each peer with a session.
#[derive(Debug, Default)]
pub(crate) struct Lanes(Mutex<HashMap<PeerId, Way>>);

#[derive(Debug)]
struct Way {
    session: SessionId,
    channel: EncryptedChannel,
    lane: Lane,
}

impl Lanes {
    /// Messages for a peer go over this session from now on. Says whether that is new.
    pub(crate) fn set(
        self: &Arc<Self>,
        peer: PeerId,
        session: SessionId,
        channel: &EncryptedChannel,
        runtime: &Handle,
    ) -> bool {
        let mut lanes = self.lock();
        if lanes.get(&peer).is_some_and(|present| present.session == session) {
            return false;
        }
        channel.allow_lane();
        let lane = channel.open_lane(runtime);
        let before = lanes.insert(peer, Way { session, channel: channel.clone(), lane });
        drop(lanes);
        self.end(peer, before, runtime);
        true
    }

    /// A peer is not reached any more.
    pub(crate) fn remove(self: &Arc<Self>, peer: PeerId, runtime: &Handle) {
        let before = self.lock().remove(&peer);
        self.end(peer, before, runtime);
    }

    /// Over a session that was named before the peer is heard no more, a moment later: it may not know yet.
    fn end(self: &Arc<Self>, peer: PeerId, before: Option<Way>, runtime: &Handle) {
        let Some(Way { session, channel, lane }) = before else { return };
        drop(lane);
        let lanes = Arc::clone(self);
        runtime.spawn(async move {
            tokio::time::sleep(HEARD_ON).await;
            let named = lanes.lock();
            if named.get(&peer).is_none_or(|way| way.session != session) {
                channel.end_lanes();
            }
        });
    }

    /// Sends a message to a peer; where it is not reached, or does not read, the message is lost.
    pub(crate) fn send(&self, peer: &PeerId, frame: &LaneFrame) {
        let lane = self.lock().get(peer).map(|way| way.lane.clone());
        if let Some(lane) = lane {
            // The protocol says it again.
            let _ = lane.send(frame);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PeerId, Way>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a peer is heard over a session after another was named, or none.
const HEARD_ON: Duration = Duration::from_secs(2);
