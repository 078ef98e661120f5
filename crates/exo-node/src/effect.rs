//! What goes into the core and what comes out of it.
//!
//! A driver calls [`Node::handle`](crate::Node::handle) with one [`Input`] at a time, then takes
//! every [`Effect`] with [`Node::poll_effect`](crate::Node::poll_effect) and carries them out in
//! order: what follows a [`Effect::Persist`] happens only once that is durable.

use std::time::Duration;

use std::sync::Arc;

use exo_crypto::IdentityKey;
use exo_onion::DropReason;
use exo_types::{
    CollectionName, Epoch, FederatedResult, Filter, Leg, PeerAddress, PeerId, QueryId, QueryTarget,
    SourceReport, TermStats,
};

use crate::decide::Decision;
use crate::refusal::Refusal;
use crate::roster::{Roster, RosterBody};
use crate::wire::{CloseReason, Request, Response};

/// A session of this node, numbered by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A request this node sent, numbered by the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A request this node received, numbered by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId(pub u64);

/// A search of this node's own data, numbered by the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// What a connection is for; negotiated by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Between members.
    Member,
    /// From a joiner to its inviter.
    Join,
}

/// Something happened.
#[derive(Debug)]
pub enum Input {
    /// A connection with an authenticated peer is up.
    SessionUp {
        /// Its number.
        session: SessionId,
        /// The peer's key, proven by the handshake.
        key: IdentityKey,
        /// Whether this node dialled.
        dialled: bool,
        /// What it is for.
        purpose: Purpose,
        /// Keying material both sides share (RFC 8446 section 7.5).
        exporter: [u8; 32],
    },
    /// A connection ended.
    SessionDown {
        /// Its number.
        session: SessionId,
        /// Why, where the peer said so.
        reason: Option<CloseReason>,
    },
    /// The peer of a session leaves what is sent to it unacknowledged
    /// ([`SILENCE_MILLIS`](exo_types::limits::SILENCE_MILLIS)).
    FellSilent(SessionId),
    /// The peer of a session that fell silent acknowledges again.
    SpeaksAgain(SessionId),
    /// A dial failed.
    DialFailed {
        /// Who was dialled.
        peer: PeerId,
        /// What for.
        purpose: Purpose,
        /// Why, for a person.
        detail: String,
        /// The peer was there and refused this node.
        refused: bool,
    },
    /// A peer asks.
    Request {
        /// Over which session.
        session: SessionId,
        /// The number to answer under.
        exchange: ExchangeId,
        /// What.
        request: Request,
    },
    /// A peer answered, or will not.
    Response {
        /// The call.
        call: CallId,
        /// The answer.
        result: Result<Response, CallFailure>,
    },
    /// A search of this node's data ended.
    SearchDone {
        /// The search.
        job: JobId,
        /// Ranked hits, or why not.
        result: Result<Vec<Leg>, String>,
    },
    /// Term statistics of this node's data are there.
    TermsDone {
        /// The search.
        job: JobId,
        /// The statistics, or why not.
        result: Result<TermStats, String>,
    },
    /// The members' decisions have made another roster ([`decide`](crate::decide)).
    Decided(Arc<Roster>),
    /// What gave the present roster is certified, so that others can fetch it.
    Certified,
    /// The time asked for by [`Node::next_wake`](crate::Node::next_wake) has come.
    Tick,
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// It took too long.
    Timeout,
    /// The connection ended or the stream was reset.
    Lost,
    /// The answer does not decode or is out of bounds.
    Garbage,
}

/// Something to do, in order.
#[derive(Debug)]
pub enum Effect {
    /// Make the node's state durable before anything that follows.
    Persist(Vec<u8>),
    /// Dial a peer at one of these addresses.
    Dial {
        /// Whose key must answer.
        peer: PeerId,
        /// Where.
        addresses: Vec<PeerAddress>,
        /// What for.
        purpose: Purpose,
    },
    /// Ask a peer.
    Call {
        /// Over which session.
        session: SessionId,
        /// The call's number.
        call: CallId,
        /// What.
        request: Box<Request>,
        /// How long to wait.
        timeout: Duration,
    },
    /// Answer a peer.
    Respond {
        /// The request's number.
        exchange: ExchangeId,
        /// The answer.
        response: Box<Response>,
    },
    /// Give the node sealing keys for this time ([`Node::rekey`](crate::Node::rekey)), once they are
    /// durable.
    Rekey {
        /// They must be such that no packet was ever taken with them: the clock was set back, and
        /// what was taken meanwhile cannot be told from what comes again.
        fresh: bool,
    },
    /// This node was a member before and has lost what it said then: it must never begin to decide as
    /// one that says its first word. Comes before the state with the constitution is to be saved.
    Returned,
    /// From here on the members decide together, beginning with these.
    Constituted {
        /// The constitution.
        founding: Arc<RosterBody>,
        /// This node was a member before and has lost what it knew.
        again: bool,
    },
    /// Ask the members to commit a decision of this node's own.
    Propose(Box<Decision>),
    /// The session over which decisions are made with a member from now on; what comes a moment later
    /// over one that was named before is still good.
    Lane {
        /// The member.
        peer: PeerId,
        /// The session; `None` when there is none.
        session: Option<SessionId>,
    },
    /// A member knows of decisions that this node does not.
    Behind(PeerId),
    /// End a request's stream without a word.
    Abandon {
        /// The request's number.
        exchange: ExchangeId,
    },
    /// Close a session.
    Close {
        /// Which.
        session: SessionId,
        /// Why.
        reason: CloseReason,
        /// Let what is under way finish first.
        drain: bool,
    },
    /// Search this node's data.
    Search {
        /// The search's number.
        job: JobId,
        /// Where.
        collections: Vec<CollectionName>,
        /// What.
        search: Box<Search>,
    },
    /// Count a text's terms in this node's data.
    Terms {
        /// The search's number.
        job: JobId,
        /// Where.
        collections: Vec<CollectionName>,
        /// The text.
        text: String,
    },
    /// A source of a query has finished.
    Progress {
        /// The query.
        query: QueryId,
        /// The source.
        report: SourceReport,
    },
    /// A query has ended.
    QueryDone {
        /// The query.
        query: QueryId,
        /// Its answer.
        result: Box<FederatedResult>,
    },
    /// A ping has ended.
    PingDone {
        /// The number [`Node::ping`](crate::Node::ping) gave.
        call: CallId,
        /// The round trip, or why there is none.
        result: Result<Duration, String>,
    },
    /// Worth telling whoever watches the node.
    Event(Event),
}

/// A search as the substrate gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// What is looked for.
    pub target: QueryTarget,
    /// Conditions on metadata.
    pub filter: Filter,
    /// Results wanted per collection.
    pub top_k: usize,
    /// Term statistics over all sources.
    pub terms: Option<TermStats>,
    /// Whether vectors are wanted with the hits.
    pub vectors: bool,
}

/// Changes worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session with a member is ready.
    PeerActive(PeerId),
    /// A member cannot be reached.
    PeerUnreachable(PeerId, String),
    /// A joiner waits for approval.
    JoinerWaits(PeerId),
    /// This node, the founder, signed the roster of a new epoch.
    RosterSigned(Epoch),
    /// A member was admitted.
    MemberAdmitted(PeerId),
    /// A member was removed.
    MemberRevoked(PeerId),
    /// This node's request to join waits for approval.
    JoinPending,
    /// This node became a member.
    Joined,
    /// This node was refused, or removed from its federation.
    Removed(String),
    /// A request was refused, and why.
    Refused(Refusal),
    /// The state could not be encoded; the driver keeps the last one.
    StateNotSaved(String),
    /// Something became of an onion packet. It is counted, and never written down.
    Onion(PacketFate),
}

/// What became of an onion packet at this node. It names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketFate {
    /// It was sent on.
    Forwarded,
    /// Its reply was sent back.
    Returned,
    /// It was for this node and is answered.
    Delivered,
    /// It was for this node and only covers others.
    Cover,
    /// A failure was sent back in place of a reply.
    GivenUp,
    /// It was dropped.
    Dropped(DropReason),
    /// It was dropped because its neighbour sends too many.
    Limited,
    /// This node sent one of its own.
    Sent,
}

impl PacketFate {
    /// As a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Returned => "returned",
            Self::Delivered => "delivered",
            Self::Cover => "cover",
            Self::GivenUp => "given-up",
            Self::Dropped(reason) => reason.as_str(),
            Self::Limited => "limited",
            Self::Sent => "sent",
        }
    }
}
