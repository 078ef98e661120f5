//! What the node wants of deciding together.

use std::sync::{Arc, PoisonError};

use exo_crypto::CosignerKey;
use exo_node::decide::Decision;
use exo_node::effect::SessionId;
use exo_node::roster::RosterBody;
use exo_types::PeerId;

use super::{Host, Life, Means, Place, Ready};
use crate::driver::core::{Core, lock};
use crate::error::{ErrorCode, FederationError};

impl Core {
    /// The node learns of the constitution: it decides with the others from here on. One that was a
    /// member `again` has lost what it said.
    pub(crate) fn begin_deciding(self: &Arc<Self>, constitution: Arc<RosterBody>, again: bool) {
        if self.decide.get().is_some() {
            return;
        }
        let place = Place {
            dir: self.store.decisions_path(),
            federation: constitution.federation,
            me: self.keys.identity.peer_id(),
            constitution,
            unbegun: self.store.unbegun(),
        };
        let life = if again { Life::Later } else { Life::First };
        let begun =
            Ready::prepare(&place, life, self.clock).and_then(|ready| self.run_deciding(ready));
        if let Err(error) = begun {
            self.break_down(error.message);
        }
    }

    /// Runs the replica.
    pub(crate) fn run_deciding(self: &Arc<Self>, ready: Ready) -> Result<(), FederationError> {
        let means = Means {
            clock: self.clock,
            runtime: self.runtime.clone(),
            identity: Arc::clone(&self.keys.identity),
            cosigners: Arc::clone(&self.keys.cosigners),
            lanes: Arc::clone(&self.lanes),
            mailbox: Arc::clone(&self.mailbox),
            node: Arc::downgrade(self),
        };
        let host = Host::run(ready, means).map_err(|error| {
            FederationError::new(ErrorCode::Io, format!("a thread of the log: {error}"))
        })?;
        // Set once: a second one would be another replica under the same name.
        self.decide.set(host).map_err(|_| {
            FederationError::new(ErrorCode::Internal, "two replicas in one node".to_owned())
        })
    }

    /// Proposes what the node decided by itself, as when an invite approves its joiner.
    pub(crate) fn propose(&self, decision: &Decision) {
        let proposed = self.decide.get().map(|host| host.shared.propose(decision, None));
        if !matches!(proposed, Some(Ok(()))) {
            tracing::warn!(kind = %decision.kind(), "what this node wants to have decided is not proposed");
        }
    }

    /// A cosigner key for this node to change to. One that was proposed and is not in force is proposed
    /// again, for it may come into force yet; a new one is made when the last change is over.
    pub(crate) fn next_cosigner(&self) -> Result<CosignerKey, FederationError> {
        let (seat, member) = self.decide.get().map_or((None, None), |host| host.shared.own_keys());
        let mut cosigners = self.keys.cosigners.write().unwrap_or_else(PoisonError::into_inner);
        if let [_, next] = cosigners.as_slice() {
            if Some(next.public()) != member.as_ref() {
                return Ok(next.public().clone());
            }
            if seat != member {
                return Err(FederationError::new(
                    ErrorCode::Busy,
                    "the last change of the cosigner key is not over yet",
                ));
            }
            self.store.settle_cosigner()?;
            cosigners.remove(0);
        }
        let made = Arc::new(self.store.make_next_cosigner()?);
        let key = made.public().clone();
        cosigners.push(made);
        Ok(key)
    }

    /// Names the session over which a peer's replica is reached.
    pub(crate) fn lane(&self, peer: PeerId, session: Option<SessionId>) {
        let Some(session) = session else {
            self.mailbox.way(peer, None);
            return self.lanes.remove(peer, &self.runtime);
        };
        let channel = lock(&self.channels).get(&session).cloned();
        if let Some(channel) = channel.filter(|channel| channel.peer() == peer) {
            // Before the peer can say anything over it.
            self.mailbox.way(peer, Some((session, channel.clone())));
            self.lanes.set(peer, session, &channel, &self.runtime);
        }
    }
}
