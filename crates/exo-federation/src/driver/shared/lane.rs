//! The way to one member: its messages leave in order, and each says when it has left.

use std::sync::Arc;
use std::time::Duration;

use exo_node::effect::SessionId;
use exo_node::share::ShareMessage;
use exo_types::limits::SHARED_WINDOW_MESSAGES;
use exo_types::{PeerId, Wire};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::mailbox::Mailbox;
use super::metric;
use crate::driver::net::{EncryptedChannel, LaneKind, LaneLost};

/// This node's lane to one member. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Which one: each has another number.
    pub(super) number: u64,
    pub(super) session: SessionId,
    pub(super) channel: EncryptedChannel,
    to: mpsc::Sender<ShareMessage>,
    writer: AbortHandle,
}

impl Outgoing {
    pub(super) fn open(
        number: u64,
        session: SessionId,
        channel: EncryptedChannel,
        mailbox: Arc<Mailbox>,
        runtime: &Handle,
    ) -> Self {
        let (to, messages) = mpsc::channel(SHARED_WINDOW_MESSAGES);
        let writing = write(number, channel.clone(), messages, mailbox);
        let writer = runtime.spawn(writing).abort_handle();
        Self { number, session, channel, to, writer }
    }

    /// Sends a message. There is room for as many as may be under way.
    pub(super) fn send(&self, message: ShareMessage) {
        if self.to.try_send(message).is_err() {
            // The lane is over and that is on its way here: what was on it is said again on the next.
            tracing::debug!(peer = self.channel.peer().short(), "a shared lane takes nothing");
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

async fn write(
    number: u64,
    channel: EncryptedChannel,
    mut messages: mpsc::Receiver<ShareMessage>,
    mailbox: Arc<Mailbox>,
) {
    let peer = channel.peer();
    match carry(number, peer, &channel, &mut messages, &mailbox).await {
        Ok(()) | Err(LaneLost::Connection) => {}
        Err(lost) => {
            tracing::debug!(peer = peer.short(), %lost, "a shared lane is opened anew");
            tokio::time::sleep(REOPEN_AFTER).await;
            mailbox.stopped(peer, number);
        }
    }
}

async fn carry(
    number: u64,
    peer: PeerId,
    channel: &EncryptedChannel,
    messages: &mut mpsc::Receiver<ShareMessage>,
    mailbox: &Mailbox,
) -> Result<(), LaneLost> {
    let mut lane = channel.open_writer(LaneKind::Shared).await?;
    while let Some(message) = messages.recv().await {
        match message.to_wire() {
            Ok(body) => {
                metric::sent(body.len());
                lane.send(body).await?;
            }
            // Every part was bounded when it was taken in.
            Err(error) => {
                tracing::error!(%error, "a message about a shared collection is over its bound");
            }
        }
        mailbox.sent(peer, number);
    }
    Ok(())
}

/// How long a lane that the peer stopped stays closed.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
