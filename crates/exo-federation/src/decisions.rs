//! Decisions: what the members with a vote commit together, and the proof of it.
//!
//! A federation begins with what its founder signs. With its constitution the members decide: what a
//! voter proposes is ordered by consensus, stands in a log that only grows, and is proved by a quorum's
//! cosignatures to anybody who has the policy of the voters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exo_consensus::Decline;
use exo_log::{CommitProof, Policy};
use exo_node::PeerState;
use exo_node::decide::Decision;
use exo_node::share::ShareSpec;
use exo_types::limits::{SUBMISSIONS_TOGETHER_MAX, VOTERS_MIN};
use exo_types::{CollectionName, Epoch, NodeName, PeerId, Sequence, View, Wire};
use tokio::sync::{broadcast, oneshot};
use tokio::time::timeout;

pub use exo_node::decide::{Kind as DecisionKind, Rules, Void};

use crate::driver::core::Core;
use crate::driver::decide::{Settled, Shared};
use crate::error::{ErrorCode, FederationError};
use crate::mesh::FederatedMesh;
use crate::shared::{SharedAccess, SharedKind};

/// An update of the state that all members share: 1 byte to
/// [`STATEMENT_BYTES_MAX`](exo_types::limits::STATEMENT_BYTES_MAX). What it means is the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateUpdate(pub Vec<u8>);

/// What a member with a vote may propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// Content that means something to people or programs alone, 1 byte to
    /// [`STATEMENT_BYTES_MAX`](exo_types::limits::STATEMENT_BYTES_MAX).
    Statement(Vec<u8>),
    /// A joiner becomes a member.
    Admit(Joiner),
    /// A member is one no more.
    Revoke {
        /// Who.
        peer: PeerId,
        /// Why, for people.
        reason: String,
    },
    /// A member gets a vote.
    GrantVote(PeerId),
    /// A member has a vote no more.
    WithdrawVote(PeerId),
    /// This node cosigns with a new key from the next epoch on.
    RotateCosigner,
    /// Other rules.
    Rules(Rules),
    /// A shared collection is declared, which takes one voter, or has other readers and writers, which
    /// takes a quorum. Its kind never changes. Writers are readers.
    Share {
        /// Its name.
        name: CollectionName,
        /// What its entries mean.
        kind: SharedKind,
        /// Who gets it.
        readers: SharedAccess,
        /// Whose entries count.
        writers: SharedAccess,
    },
}

/// Which joiner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joiner {
    /// The one whose four words these are, compared by voice.
    Words(String),
    /// The one of this id, for whom another voter has proposed it: this node agrees.
    Peer(PeerId),
}

/// What became of something that was proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecisionOutcome {
    /// It stands in the log: that is all it is for.
    Recorded,
    /// It is in force.
    Effective,
    /// It is in force when so many voters have proposed the same.
    Wished {
        /// Voters that have, each once.
        have: usize,
        /// Voters that it takes.
        need: usize,
    },
    /// It stands in the log and changes nothing.
    Void(Void),
}

impl DecisionOutcome {
    /// Its name in one word that never changes: `recorded`, `effective`, `wished` or `void`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Effective => "effective",
            Self::Wished { .. } => "wished",
            Self::Void(_) => "void",
        }
    }
}

/// One entry of the log of decisions. The seals between batches are entries too and are not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionView {
    /// Its place in the log, from 0.
    pub index: u64,
    /// The batch it came with.
    pub sequence: Sequence,
    /// The epoch of consensus in which it was committed.
    pub epoch: Epoch,
    /// Who proposed it.
    pub member: PeerId,
    /// The name under which that member is known now; `None` for one that is not.
    pub member_name: Option<NodeName>,
    /// What it is about.
    pub kind: DecisionKind,
    /// What became of it.
    pub outcome: DecisionOutcome,
    /// Length of its content, bytes.
    pub size: usize,
    /// What it says, in one line for people.
    pub summary: String,
    /// The entry as it stands in the log and is hashed; where it was asked for.
    pub entry: Option<Vec<u8>>,
    /// Whether a quorum's cosignatures cover it: only then is it proved.
    pub certified: bool,
}

/// A part of the log of decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionPage {
    /// Entries in the log, seals included.
    pub size: u64,
    /// Entries of them that are certified.
    pub certified: u64,
    /// The decisions of this page, in the order asked for.
    pub decisions: Vec<DecisionView>,
    /// The index to go on from; `None` when there are no more.
    pub next: Option<u64>,
}

/// What a watcher of decisions is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecisionEvent {
    /// A decision is certified.
    Decided(Box<DecisionView>),
    /// The watcher was too slow and missed so many; they stand in the log.
    Missed(u64),
}

/// How deciding together stands at this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsensusView {
    /// The epoch of consensus: it grows with every change of who has a seat.
    pub epoch: Epoch,
    /// The view: who leads within the epoch.
    pub view: View,
    /// Who leads.
    pub primary: Option<PeerId>,
    /// Whose votes count, by seat.
    pub voters: Vec<VoterView>,
    /// How many of them may fail in any way at once.
    pub faults_tolerated: usize,
    /// How many of them it takes to decide.
    pub quorum: usize,
    /// The last batch that is carried out here.
    pub executed: Sequence,
    /// The last batch that a quorum has cosigned.
    pub certified: Sequence,
    /// Entries in the log.
    pub size: u64,
    /// Root of the log's tree (RFC 6962).
    pub root: [u8; 32],
    /// This node's part.
    pub role: ConsensusRole,
}

/// One whose vote counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterView {
    /// Who.
    pub peer: PeerId,
    /// Its name; `None` when it is no member any more.
    pub name: Option<NodeName>,
    /// Its seat, from 0.
    pub seat: u8,
    /// Whether it is this node.
    pub you: bool,
    /// Whether this node has a session with it now, or is it.
    pub active: bool,
}

/// A node's part in deciding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsensusRole {
    /// It votes.
    Voter,
    /// It has no seat and follows the log.
    Follower,
    /// It lost its journal and votes again from the next epoch that begins for it.
    Rejoining,
    /// It does nothing any more, for this reason.
    Halted(String),
}

impl ConsensusRole {
    /// Its name in one word that never changes: `voter`, `follower`, `rejoining` or `halted`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::Follower => "follower",
            Self::Rejoining => "rejoining",
            Self::Halted(_) => "halted",
        }
    }
}

/// Commits an update of the state that all members share and gives the proof: that a quorum of the voters
/// has cosigned a log which holds it. The proof carries the entry, and anybody who has the voters' policy
/// ([`FederatedMesh::decision_policy`]) checks it, offline.
///
/// # Errors
/// Those of [`FederatedMesh::byzantine_commit`].
pub async fn byzantine_commit(
    mesh: &FederatedMesh,
    update: StateUpdate,
) -> Result<CommitProof, FederationError> {
    mesh.byzantine_commit(update).await
}

impl FederatedMesh {
    /// See [`byzantine_commit`].
    ///
    /// # Errors
    /// [`ErrorCode::InsufficientPeers`] before the federation has its constitution,
    /// [`ErrorCode::NoVote`], [`ErrorCode::UpdateTooLong`], [`ErrorCode::Busy`],
    /// [`ErrorCode::NoQuorum`] when too few voters took part in ten seconds: then nothing is claimed, and
    /// the update may still be committed.
    pub async fn byzantine_commit(
        &self,
        update: StateUpdate,
    ) -> Result<CommitProof, FederationError> {
        let began = Instant::now();
        let proposal = Proposal::Statement(update.0);
        let index = self.settle(proposal, COMMIT_TIMEOUT).await?.index;
        // The proof is made of what the log holds; that is there as soon as it is certified.
        loop {
            match self.decision_proof(index).await {
                Err(error) if error.retryable() && began.elapsed() < COMMIT_TIMEOUT => {
                    tokio::time::sleep(PROOF_AGAIN).await;
                }
                made => return made,
            }
        }
    }

    /// Proposes something and waits until it is certified: what came of it is in the view, whether it is
    /// in force or how many more voters have to propose the same.
    ///
    /// # Errors
    /// As [`byzantine_commit`](Self::byzantine_commit) within `deadline`; and those of
    /// [`approve`](Self::approve) for a joiner, [`ErrorCode::PeerNotFound`] and
    /// [`ErrorCode::InvalidArgument`] for a proposal that could not take effect.
    pub async fn propose(
        &self,
        proposal: Proposal,
        deadline: Duration,
    ) -> Result<DecisionView, FederationError> {
        self.settle(proposal, deadline).await
    }

    /// Proposes many updates at once and waits until each is certified: their views, in the order of the
    /// log. They are all taken or none; a taken one is committed with others or after them, and where the
    /// time is over before the last, nothing is claimed of any. For a caller with many small updates: one
    /// call instead of a task for each.
    ///
    /// # Errors
    /// As [`byzantine_commit`](Self::byzantine_commit) within `deadline`;
    /// [`ErrorCode::InvalidArgument`] for none or more than
    /// [`SUBMISSIONS_TOGETHER_MAX`](exo_types::limits::SUBMISSIONS_TOGETHER_MAX).
    pub async fn propose_many(
        &self,
        updates: Vec<StateUpdate>,
        deadline: Duration,
    ) -> Result<Vec<DecisionView>, FederationError> {
        self.inner.core.check()?;
        let log = self.log()?;
        if !(1..=SUBMISSIONS_TOGETHER_MAX).contains(&updates.len()) {
            let message = format!("1 to {SUBMISSIONS_TOGETHER_MAX} updates are proposed at once");
            return Err(FederationError::new(ErrorCode::InvalidArgument, message));
        }
        let statements = updates.into_iter().map(|update| Proposal::Statement(update.0));
        let decisions: Vec<Decision> =
            statements.map(|proposal| self.decision_of(proposal)).collect::<Result<_, _>>()?;
        let waiting = log.propose_all(&decisions).map_err(|why| match why {
            Settled::Halted(cause) => FederationError::new(ErrorCode::LogHalted, cause),
            Settled::Declined(why) => declined(why),
            Settled::Certified(_) => FederationError::new(ErrorCode::Internal, "not proposed"),
        })?;
        let all = async {
            let mut views = Vec::with_capacity(waiting.len());
            for settled in waiting {
                views.push(shown(&log, settled.await.ok())?);
            }
            Ok::<_, FederationError>(views)
        };
        let mut views = match timeout(deadline, all).await {
            Ok(views) => views?,
            Err(_) => return Err(self.no_quorum(deadline)),
        };
        views.sort_unstable_by_key(|view| view.index);
        Ok(views)
    }

    /// Decisions from an index on, at most `max`: upward, or downward with the newest first, where
    /// `u64::MAX` begins at the end.
    ///
    /// # Errors
    /// [`ErrorCode::InsufficientPeers`] before the constitution.
    pub async fn decisions(
        &self,
        from: u64,
        max: usize,
        newest_first: bool,
    ) -> Result<DecisionPage, FederationError> {
        self.read(move |log| log.page(from, max, newest_first)).await
    }

    /// One decision, with its entry.
    ///
    /// # Errors
    /// [`ErrorCode::DecisionNotFound`], [`ErrorCode::InsufficientPeers`].
    pub async fn decision(&self, index: u64) -> Result<DecisionView, FederationError> {
        self.read(move |log| log.decision(index)).await
    }

    /// The proof that an entry is committed; it carries the entry.
    ///
    /// # Errors
    /// [`ErrorCode::NotCertified`], [`ErrorCode::DecisionNotFound`], [`ErrorCode::InsufficientPeers`].
    pub async fn decision_proof(&self, index: u64) -> Result<CommitProof, FederationError> {
        self.read(move |log| log.proof(index)).await
    }

    /// Decisions from now on, as they are certified here; `None` before the constitution.
    pub fn decisions_watch(&self) -> Option<DecisionWatch> {
        let log = log_of(&self.inner.core)?;
        Some(DecisionWatch { events: log.watch(), log })
    }

    /// How deciding together stands; `None` before the constitution.
    pub fn decisions_status(&self) -> Option<ConsensusView> {
        let log = log_of(&self.inner.core)?;
        let peers = self.peers();
        let active = |peer: &PeerId| {
            peers.iter().any(|view| view.peer == *peer && view.state == PeerState::Active)
        };
        Some(log.status(active))
    }

    /// Members that a decision removed, each with the decision's index.
    pub fn removals(&self) -> BTreeMap<PeerId, u64> {
        log_of(&self.inner.core).map_or_else(BTreeMap::new, |log| log.removals())
    }

    /// The policy by which proofs are checked: of the voters of an epoch, or of those who cosigned last.
    ///
    /// # Errors
    /// [`ErrorCode::DecisionNotFound`] for an epoch that this node does not know of,
    /// [`ErrorCode::InsufficientPeers`].
    pub async fn decision_policy(&self, epoch: Option<Epoch>) -> Result<Policy, FederationError> {
        self.read(move |log| log.policy(epoch)).await
    }

    /// The newest certified head of the log, a signed note (c2sp.org/tlog-checkpoint).
    ///
    /// # Errors
    /// [`ErrorCode::NotCertified`] before the first commit, [`ErrorCode::InsufficientPeers`].
    pub async fn log_checkpoint(&self) -> Result<Vec<u8>, FederationError> {
        self.read(|log| log.checkpoint()).await
    }

    /// A tile or an entry bundle of the log by its path, as `tile/0/000.p/7` (c2sp.org/tlog-tiles).
    ///
    /// # Errors
    /// [`ErrorCode::DecisionNotFound`], [`ErrorCode::InsufficientPeers`].
    pub async fn log_tile(&self, path: &str) -> Result<Vec<u8>, FederationError> {
        let path = path.to_owned();
        self.read(move |log| log.tile(&path)).await
    }

    /// Proposes, and waits until it is certified.
    async fn settle(
        &self,
        proposal: Proposal,
        wait: Duration,
    ) -> Result<DecisionView, FederationError> {
        self.inner.core.check()?;
        let log = self.log()?;
        let decision = self.decision_of(proposal)?;
        let (to, settled) = oneshot::channel();
        log.propose(&decision, Some(to)).map_err(|_| {
            FederationError::new(ErrorCode::UpdateTooLong, "the proposal is empty or too long")
        })?;
        match timeout(wait, settled).await {
            Ok(settled) => shown(&log, settled.ok()),
            Err(_) => Err(self.no_quorum(wait)),
        }
    }

    fn decision_of(&self, proposal: Proposal) -> Result<Decision, FederationError> {
        let core = &self.inner.core;
        let of_node = |change: exo_node::MemberChange| {
            change.decision.ok_or_else(|| {
                FederationError::new(ErrorCode::Internal, "the node decided by itself")
            })
        };
        match proposal {
            Proposal::Statement(bytes) => {
                let bytes_len = bytes.len();
                Decision::statement(bytes).map_err(|error| {
                    let message = format!("an update of {bytes_len} bytes: {error}");
                    FederationError::new(ErrorCode::UpdateTooLong, message)
                })
            }
            Proposal::Admit(Joiner::Words(words)) => {
                of_node(core.durably(|node, now| node.approve(now, &words))?)
            }
            Proposal::Admit(Joiner::Peer(peer)) => {
                let proposed = self.log()?.proposed_admission(&peer);
                proposed.ok_or_else(|| {
                    FederationError::new(
                        ErrorCode::PeerNotFound,
                        format!("no voter has proposed to admit {peer}"),
                    )
                })
            }
            Proposal::Revoke { peer, reason } => {
                of_node(core.durably(|node, now| node.revoke(now, &peer, &reason))?)
            }
            Proposal::GrantVote(peer) => Ok(Decision::GrantVote(peer)),
            Proposal::WithdrawVote(peer) => Ok(Decision::WithdrawVote(peer)),
            Proposal::RotateCosigner => {
                core.next_cosigner().map(|cosigner| Decision::Rotate { cosigner })
            }
            Proposal::Rules(rules) => Ok(Decision::Rules(rules)),
            Proposal::Share { name, kind, readers, writers } => {
                let spec = ShareSpec { kind, readers, writers };
                spec.check().map_err(crate::convert::argument)?;
                Ok(Decision::Share { name, spec })
            }
        }
    }

    fn no_quorum(&self, wait: Duration) -> FederationError {
        let status = self.decisions_status();
        let (active, voters, quorum) = status.map_or((0, 0, 0), |view| {
            let active = view.voters.iter().filter(|voter| voter.active).count();
            (active, view.voters.len(), view.quorum)
        });
        FederationError::new(
            ErrorCode::NoQuorum,
            format!(
                "not certified within {} ms: of {voters} voters {active} can be reached, and it takes {quorum}",
                wait.as_millis()
            ),
        )
    }

    fn log(&self) -> Result<Arc<Shared>, FederationError> {
        log_of(&self.inner.core).ok_or_else(|| {
            let actual = self
                .inner
                .core
                .look(|node, _| node.federation().map_or(0, |federation| federation.members));
            FederationError::new(
                ErrorCode::InsufficientPeers,
                format!("deciding together takes {VOTERS_MIN} members, and there are {actual}"),
            )
        })
    }

    /// Reads the log on a thread that may wait for the disk.
    async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Shared) -> Result<T, FederationError> + Send + 'static,
    ) -> Result<T, FederationError> {
        let log = self.log()?;
        tokio::task::spawn_blocking(move || look(&log)).await.map_err(|error| {
            FederationError::new(ErrorCode::Internal, format!("reading the log: {error}"))
        })?
    }
}

/// Decisions as they are certified.
#[derive(Debug)]
pub struct DecisionWatch {
    log: Arc<Shared>,
    events: broadcast::Receiver<Arc<exo_node::decide::Decided>>,
}

impl DecisionWatch {
    /// The next decision; `None` when the node has stopped. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<DecisionEvent> {
        match self.events.recv().await {
            Ok(decided) => Some(DecisionEvent::Decided(Box::new(self.log.show(&decided)))),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(DecisionEvent::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

fn log_of(core: &Core) -> Option<Arc<Shared>> {
    core.decide.get().map(|host| Arc::clone(&host.shared))
}

/// What became of a proposal; it is told nothing when the node stops.
fn shown(log: &Shared, settled: Option<Settled>) -> Result<DecisionView, FederationError> {
    match settled {
        Some(Settled::Certified(decided)) => Ok(log.show(&decided)),
        Some(Settled::Declined(why)) => Err(declined(why)),
        Some(Settled::Halted(cause)) => Err(FederationError::new(ErrorCode::LogHalted, cause)),
        None => Err(FederationError::new(ErrorCode::LogHalted, "the node stopped")),
    }
}

fn declined(why: Decline) -> FederationError {
    let code = match why {
        Decline::Busy => ErrorCode::Busy,
        Decline::TooLong => ErrorCode::UpdateTooLong,
        Decline::NoVote => ErrorCode::NoVote,
    };
    FederationError::new(code, why.to_string())
}

/// How long a commit may take.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon a proof that is not to be had yet is asked for again.
const PROOF_AGAIN: Duration = Duration::from_millis(5);
