//! Decisions: what the members with a vote commit together, and the proof of it.
//!
//! A federation begins with what its founder signs. With its constitution the members decide: what a
//! voter proposes is ordered by consensus, stands in a log that only grows, and is proved by a quorum's
//! cosignatures to anybody who has the policy of the voters.

use exo_types::{Epoch, NodeName, PeerId, Sequence, View};

pub use exo_node::decide::{Kind as DecisionKind, Rules, Void};

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
    /// A joiner that waits at this node becomes a member.
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
}

/// Which joiner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joiner {
    /// The one whose four words these are, compared by voice.
    Words(String),
    /// The one of this id, whose words nobody compared: shown as unverified for ever.
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
