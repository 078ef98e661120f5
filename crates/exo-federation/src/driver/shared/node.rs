//! What the node has to do with shared collections.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use exo_node::Node;
use exo_node::share::Rights;

use super::host::{Host, Keeper, Means};
use super::start::Restored;
use crate::driver::core::Core;
use crate::error::{ErrorCode, FederationError};

impl Core {
    /// Runs shared collections.
    pub(crate) fn run_sharing(self: &Arc<Self>, restored: Restored) -> Result<(), FederationError> {
        let means = Means {
            clock: self.clock,
            runtime: self.runtime.clone(),
            mailbox: Arc::clone(&self.mailbox),
            node: Arc::downgrade(self),
        };
        let host = Host::run(restored, means).map_err(|error| {
            let message = format!("a thread of the shared collections: {error}");
            FederationError::new(ErrorCode::Io, message)
        })?;
        // Set once: two would write the same stores.
        self.sharing.set(host).map_err(|_| {
            FederationError::new(ErrorCode::Internal, "shared collections run already".to_owned())
        })
    }

    /// The shared collections, once this node is a member.
    pub(crate) fn shares(&self) -> Option<Arc<Keeper>> {
        self.sharing.get().map(|host| Arc::clone(&host.keeper))
    }

    /// Tells the shared collections who the members are, as long as that is the founder's to say; begins
    /// them when this node becomes a member.
    pub(crate) fn follow_members(self: &Arc<Self>, node: &Node) {
        if self.decide.get().is_some() && self.sharing.get().is_some() {
            return;
        }
        let Some(roster) = node.roster() else { return };
        if self.members_of.swap(roster.epoch.0, Ordering::Relaxed) == roster.epoch.0 {
            return;
        }
        let rights = Rights::founding(Arc::new(roster.clone()));
        if self.sharing.get().is_some() {
            return self.mailbox.rights(rights);
        }
        let (dir, keypair) = (self.store.shared_path(), Arc::clone(&self.keys.identity));
        let begun = Restored::read(&dir, keypair, rights, self.clock)
            .and_then(|restored| self.run_sharing(restored));
        if let Err(error) = begun {
            self.break_down(error.message);
        }
    }
}
