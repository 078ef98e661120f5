//! The thread that signs for the replica: one signature at a time, none behind anything else.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

use exo_consensus::{BundleHead, Input, Root, Statement};
use exo_crypto::{CosignerKey, CosignerKeypair, PostQuantumKeypair, Signed};
use exo_log::{CheckpointSigner, Origin};
use exo_types::{FederationId, PeerId};

use super::{EndsWith, Shared};

/// This node's cosigner keys: the one in use, and one that is to follow it.
pub(crate) type Cosigners = Arc<RwLock<Vec<Arc<CosignerKeypair>>>>;

/// What is to be signed.
#[derive(Debug)]
pub(super) enum Job {
    /// A statement of the protocol.
    Statement(Box<Statement>),
    /// Requests of this node's own.
    Bundle(BundleHead),
    /// The log, with this key.
    Log {
        /// Leaves.
        size: u64,
        /// Root over them.
        root: Root,
        /// The key of this node's seat.
        key: Option<CosignerKey>,
    },
}

/// The keys, and what waits to be signed: at most one of each kind in the replica's own order, but for
/// statements, of which there is one a view.
#[derive(Debug)]
pub(super) struct Signer {
    federation: FederationId,
    me: PeerId,
    identity: Arc<PostQuantumKeypair>,
    cosigners: Cosigners,
    waiting: Mutex<(VecDeque<Job>, bool)>,
    more: Condvar,
}

impl Signer {
    pub(super) fn new(
        federation: FederationId,
        me: PeerId,
        identity: Arc<PostQuantumKeypair>,
        cosigners: Cosigners,
    ) -> Self {
        let (waiting, more) = (Mutex::default(), Condvar::new());
        Self { federation, me, identity, cosigners, waiting, more }
    }

    pub(super) fn sign(&self, job: Job) {
        self.lock().0.push_back(job);
        self.more.notify_one();
    }

    pub(super) fn close(&self) {
        self.lock().1 = true;
        self.more.notify_one();
    }

    fn take(&self) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            if waiting.1 {
                return None;
            }
            if let Some(job) = waiting.0.pop_front() {
                return Some(job);
            }
            waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Signs; the error says what was not signed and why.
    fn answer(&self, job: Job) -> Result<Input, String> {
        let failed = |error: &dyn std::error::Error| error.to_string();
        match job {
            Job::Statement(statement) => Signed::sign(*statement, &self.identity)
                .map(|made| Input::Signed(Box::new(made.signed().clone())))
                .map_err(|error| failed(&error)),
            Job::Bundle(head) => Signed::sign(head, &self.identity)
                .map(|made| Input::BundleSigned(Box::new(made.signed().clone())))
                .map_err(|error| failed(&error)),
            Job::Log { size, root, key } => {
                let signature = self.cosign(size, root, key.as_ref())?;
                Ok(Input::Cosigned { size, root, signature })
            }
        }
    }

    /// The cosignature on a log, with this key.
    pub(super) fn cosign(
        &self,
        size: u64,
        root: Root,
        key: Option<&CosignerKey>,
    ) -> Result<Vec<u8>, String> {
        let cosigners = self.cosigners.read().unwrap_or_else(PoisonError::into_inner);
        let keypair = cosigners.iter().find(|pair| Some(pair.public()) == key).cloned();
        drop(cosigners);
        let keypair = keypair.ok_or("the cosigner key of this node's seat is not here")?;
        let keys = exo_node::decide::Keys::new(&self.federation);
        let checkpoint = keys.checkpoint(size, root).ok_or("the log is too long")?;
        let origin = Origin::of_federation(&self.federation);
        let name = origin.member(&self.me).map_err(|error| error.to_string())?;
        let signer = CheckpointSigner::new(name, keypair);
        let signature = signer.sign(&checkpoint).map_err(|error| error.to_string())?;
        Ok(signature.as_bytes().to_vec())
    }

    fn lock(&self) -> MutexGuard<'_, (VecDeque<Job>, bool)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread; it ends when the signer is closed.
pub(super) fn spawn(shared: &Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    let run = move || {
        let _ends = EndsWith(&shared);
        while let Some(job) = shared.signer.take() {
            match shared.signer.answer(job) {
                Ok(input) => shared.input(input),
                Err(cause) => tracing::error!(%cause, "this node does not sign for its replica"),
            }
        }
    };
    std::thread::Builder::new().name("exo-signer".to_owned()).spawn(run)
}
