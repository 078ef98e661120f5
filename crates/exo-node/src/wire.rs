//! Every message between two nodes, in one enum each way. The order of variants and fields is the
//! wire encoding: append only, and frozen by the vectors under `tests/vectors`.

use exo_crypto::{Commitment, SasNonce, Signed};
use exo_types::limits::{
    COLLECTIONS_PER_QUERY_MAX, DESCRIPTORS_PER_ANSWER_MAX, FRAME_BYTES_MAX, MEMBERS_MAX,
    ONION_PACKET_LARGE_BYTES, ONION_REPLY_LARGE_BYTES, REASON_BYTES_MAX, REQUEST_BYTES_MAX,
};
use exo_types::query::check_top_k;
use exo_types::{
    CodecError, CollectionName, Epoch, FederationId, Filter, Leg, NodeName, PeerId, QueryTarget,
    TermStats, TokenId, Wire, bounded, codec::bound,
};
use serde::{Deserialize, Serialize};

use crate::capability::CapabilitySet;
use crate::descriptor::MemberDescriptor;
use crate::refusal::Refusal;
use crate::roster::{Genesis, RosterBody};
use crate::ticket::{FEDERATION_TAG_BYTES, INVITE_SECRET_BYTES};
use crate::token::FederationToken;

/// What one node asks another; each on a stream of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// The dialler begins a session between members.
    Hello(Box<Hello>),
    /// Asks for a fresh token.
    Grant,
    /// Asks for what is newer: roster and descriptors.
    Sync(SyncRequest),
    /// Tells that roster or descriptors changed.
    Notify {
        /// The teller's epoch.
        epoch: Epoch,
    },
    /// Asks whether the other is there.
    Ping,
    /// Asks for term statistics of a text.
    Terms(TermsRequest),
    /// Asks for results.
    Search(Box<SearchRequest>),
    /// A joiner shows its ticket and commits to its nonce.
    JoinStart(Box<JoinStart>),
    /// A joiner opens its commitment.
    JoinReveal {
        /// The nonce committed to.
        nonce: SasNonce,
    },
    /// A joiner asks how its request stands.
    JoinPoll,
    /// An onion packet.
    Onion(OnionRequest),
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// Not done, and why.
    Refused(Refusal),
    /// Done, with nothing to say.
    Done,
    /// The session is on.
    Welcome(Box<Welcome>),
    /// A token for the asker.
    Token(Box<Signed<FederationToken>>),
    /// What is newer here.
    Synced(Box<Synced>),
    /// Term statistics over what the asker may read.
    Terms(TermStats),
    /// Ranked hits.
    Answer {
        /// One list per collection and part of the query.
        #[serde(deserialize_with = "bounded::list::<_, _, LEGS_MAX>")]
        legs: Vec<Leg>,
    },
    /// The inviter's nonce and the federation's beginning.
    JoinChallenge(Box<JoinChallenge>),
    /// The joiner waits for approval.
    JoinPending,
    /// The joiner is a member.
    JoinApproved(Box<JoinApproved>),
    /// The chunks of an onion reply, one after the other.
    Onion(
        #[serde(
            serialize_with = "bounded::write_bytes",
            deserialize_with = "bounded::bytes::<_, ONION_REPLY_LARGE_BYTES>"
        )]
        Vec<u8>,
    ),
}

/// Opens a session between members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The federation the dialler means.
    pub federation: FederationId,
    /// Its membership epoch.
    pub epoch: Epoch,
    /// What it can do.
    pub capabilities: CapabilitySet,
    /// What it says of itself.
    pub descriptor: Signed<MemberDescriptor>,
    /// A token it still holds from the other side.
    pub token: Option<Signed<FederationToken>>,
}

/// Answers a [`Hello`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The acceptor's membership epoch.
    pub epoch: Epoch,
    /// What it can do.
    pub capabilities: CapabilitySet,
    /// What it says of itself.
    pub descriptor: Signed<MemberDescriptor>,
    /// The token for the dialler: the one it showed, or a new one.
    pub token: Signed<FederationToken>,
}

/// What the asker has, so that only newer things are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyncRequest {
    /// The asker's epoch.
    pub epoch: Epoch,
    /// Versions of the descriptors it has.
    #[serde(deserialize_with = "bounded::list::<_, _, MEMBERS_MAX>")]
    pub have: Vec<(PeerId, u64)>,
}

/// What is newer at the answering side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Synced {
    /// The roster, where its epoch is higher.
    pub roster: Option<Signed<RosterBody>>,
    /// Descriptors of higher versions.
    #[serde(deserialize_with = "bounded::list::<_, _, DESCRIPTORS_PER_ANSWER_MAX>")]
    pub descriptors: Vec<Signed<MemberDescriptor>>,
}

/// Asks for term statistics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TermsRequest {
    /// The token presented in this session.
    pub token: TokenId,
    /// Of what.
    pub of: TermsOf,
}

/// An onion packet from a neighbour. Its length is one of two, whatever the path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnionRequest {
    /// The token presented in this session.
    pub token: TokenId,
    /// The packet, as `docs/protocol/onion.md` has it.
    #[serde(
        serialize_with = "bounded::write_bytes",
        deserialize_with = "bounded::bytes::<_, ONION_PACKET_LARGE_BYTES>"
    )]
    pub packet: Vec<u8>,
}

/// The texts whose terms are counted, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TermsOf {
    /// The collection; `None` for all that the asker may read.
    pub collection: Option<CollectionName>,
    /// The query's text.
    pub text: String,
}

/// Asks for results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchRequest {
    /// The token presented in this session.
    pub token: TokenId,
    /// For what.
    pub search: SearchFor,
}

/// What is looked for, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchFor {
    /// The collection; `None` for all that the asker may read.
    pub collection: Option<CollectionName>,
    /// What is looked for.
    pub target: QueryTarget,
    /// Conditions on metadata.
    pub filter: Filter,
    /// Results wanted.
    pub top_k: u32,
    /// Term statistics over all sources, for a query with a text.
    pub terms: Option<TermStats>,
    /// Whether vectors are wanted with the hits.
    pub vectors: bool,
}

/// A joiner's first message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JoinStart {
    /// The federation on the ticket.
    pub federation: [u8; FEDERATION_TAG_BYTES],
    /// The ticket's secret. The channel is encrypted to the inviter's key, which the ticket names.
    pub secret: [u8; INVITE_SECRET_BYTES],
    /// Commitment to the joiner's nonce.
    pub commitment: Commitment,
    /// The name it wants.
    pub name: NodeName,
    /// What it says of itself.
    pub descriptor: Signed<MemberDescriptor>,
}

/// The inviter's answer to [`JoinStart`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JoinChallenge {
    /// The inviter's nonce.
    pub nonce: SasNonce,
    /// The federation's beginning, to be checked against the ticket.
    pub genesis: Genesis,
}

/// The end of joining.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JoinApproved {
    /// The federation's beginning.
    pub genesis: Genesis,
    /// The roster with the joiner in it.
    pub roster: Signed<RosterBody>,
    /// Where the others are.
    #[serde(deserialize_with = "bounded::list::<_, _, DESCRIPTORS_PER_ANSWER_MAX>")]
    pub descriptors: Vec<Signed<MemberDescriptor>>,
    /// The joiner was a member already when it showed its ticket: it has lost what it knew, and must not
    /// vote as if it had never voted.
    pub again: bool,
}

impl Wire for Request {
    const BYTES_MAX: usize = REQUEST_BYTES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        match self {
            Self::Hello(hello) => hello.capabilities.check(),
            Self::Sync(sync) => bound(sync.have.len(), MEMBERS_MAX),
            Self::Terms(terms) => terms.of.check(),
            Self::Search(search) => search.search.check(),
            Self::Grant
            | Self::Notify { .. }
            | Self::Ping
            | Self::JoinStart(_)
            | Self::JoinReveal { .. }
            | Self::JoinPoll
            | Self::Onion(_) => Ok(()),
        }
    }
}

impl TermsOf {
    pub(crate) fn check(&self) -> Result<(), CodecError> {
        QueryTarget::text(self.text.as_str()).check()
    }
}

impl SearchFor {
    pub(crate) fn check(&self) -> Result<(), CodecError> {
        self.target.check()?;
        self.filter.check()?;
        check_top_k(self.top_k as usize)?;
        self.terms.as_ref().map_or(Ok(()), TermStats::check)
    }
}

impl Wire for Response {
    const BYTES_MAX: usize = FRAME_BYTES_MAX;

    fn check(&self) -> Result<(), CodecError> {
        match self {
            Self::Welcome(welcome) => welcome.capabilities.check(),
            Self::Synced(synced) => bound(synced.descriptors.len(), DESCRIPTORS_PER_ANSWER_MAX),
            Self::Terms(stats) => stats.check(),
            Self::Answer { legs } => {
                bound(legs.len(), LEGS_MAX)?;
                legs.iter().try_for_each(Leg::check)
            }
            Self::JoinApproved(approved) => {
                bound(approved.descriptors.len(), DESCRIPTORS_PER_ANSWER_MAX)
            }
            Self::Refused(_)
            | Self::Done
            | Self::Token(_)
            | Self::JoinChallenge(_)
            | Self::JoinPending
            | Self::Onion(_) => Ok(()),
        }
    }
}

/// Why a session is closed: the code that QUIC carries (RFC 9000 section 19.19) and its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The node stops.
    Shutdown,
    /// Another session with the same peer took its place.
    Superseded,
    /// The peer is not a member, or said nothing in time. One face for every cause.
    Refused,
    /// The peer's membership was revoked; it is told so.
    Revoked,
    /// The peer has not been heard from.
    Silent,
}

impl CloseReason {
    /// The application error code.
    pub const fn code(self) -> u32 {
        match self {
            Self::Shutdown => 0,
            Self::Superseded => 1,
            Self::Refused => 2,
            Self::Revoked => 3,
            Self::Silent => 4,
        }
    }

    /// The reason of a code from the wire.
    pub const fn from_code(code: u64) -> Option<Self> {
        match code {
            0 => Some(Self::Shutdown),
            1 => Some(Self::Superseded),
            2 => Some(Self::Refused),
            3 => Some(Self::Revoked),
            4 => Some(Self::Silent),
            _ => None,
        }
    }

    /// For a person.
    pub const fn says(self) -> &'static str {
        match self {
            Self::Shutdown => "the node stopped",
            Self::Superseded => "a newer session took its place",
            Self::Refused => "the peer refused this node",
            Self::Revoked => "the membership was revoked",
            Self::Silent => "the peer fell silent",
        }
    }
}

/// Lists in one answer: at most two for each collection.
pub const LEGS_MAX: usize = 2 * COLLECTIONS_PER_QUERY_MAX;

const _: () =
    assert!(RosterBody::BYTES_MAX + DESCRIPTORS_PER_ANSWER_MAX * 28 * 1024 < FRAME_BYTES_MAX);
const _: () = assert!(MEMBERS_MAX * (PeerId::LEN + 10) < REQUEST_BYTES_MAX);
const _: () = assert!(REASON_BYTES_MAX < REQUEST_BYTES_MAX);
