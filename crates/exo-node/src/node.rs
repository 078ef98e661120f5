//! The node as a state machine: one input at a time, effects in order.
//!
//! Calling order: [`Node::new`], then [`Node::handle`] for every input and the verbs of `flow` for
//! what this node's own users want; after each, [`Node::poll_effect`] until it gives nothing, and
//! [`Node::next_wake`] for when to send [`Input::Tick`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use exo_crypto::{CosignerKey, KemEpochKey, KemKeyring, PostQuantumKeypair, Signed, Verified};
use exo_onion::{RelayReply, ReplayCache};
use exo_types::limits::MEMBERS_MAX;
use exo_types::{
    CodecError, CollectionName, CollectionSpec, NodeName, Now, PeerAddress, PeerId, QueryId, Wire,
};

use crate::capability::CapabilitySet;
use crate::descriptor::MemberDescriptor;
use crate::effect::{CallId, Effect, Event, ExchangeId, Input, JobId, SessionId};
use crate::flow::CallKind;
use crate::flow::answer::Answering;
use crate::flow::link::Link;
use crate::flow::query::Query;
use crate::flow::relay::{Held, Neighbour};
use crate::flow::route::Sent;
use crate::flow::session::Session;
use crate::invite::InviteBook;
use crate::policy::{CollectionPolicy, OnionPolicy};
use crate::roster::Roster;
use crate::state::{Joining, Membership, RosterError, Snapshot};

/// A source of randomness, given by the driver (or by a seeded simulator).
pub type Entropy = Box<dyn FnMut(&mut [u8]) + Send>;

/// Who a node is, as its driver starts it.
pub struct Settings {
    /// Its identity.
    pub keypair: Arc<PostQuantumKeypair>,
    /// The name it wants in a federation.
    pub name: NodeName,
    /// Where peers reach it.
    pub addresses: Vec<PeerAddress>,
    /// The key with which it cosigns the log, where it has a vote.
    pub cosigner: CosignerKey,
    /// With how many members a federation that this node founds begins to decide by consensus.
    pub founding_voters: usize,
    /// Its sealing keys.
    pub keyring: KemKeyring,
    /// The onion packets that were taken with these keys.
    pub replays: ReplayCache,
    /// What it does for onion packets of others.
    pub onion: OnionPolicy,
    /// Its collections.
    pub collections: Vec<CollectionSpec>,
    /// The state a former run left, if any.
    pub state: Option<Vec<u8>>,
    /// The roster that the log of decisions gives, where the state holds a constitution.
    pub decided: Option<Arc<Roster>>,
    /// Randomness for nonces, ids and jitter.
    pub entropy: Entropy,
}

/// Why a state file was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It does not decode.
    #[error("the state does not decode: {0}")]
    Codec(CodecError),
    /// Its roster does not verify.
    #[error("the state's roster does not verify: {0}")]
    Roster(RosterError),
    /// This node's own descriptor cannot be signed.
    #[error("this node's descriptor cannot be signed: {0}")]
    Descriptor(String),
}

/// The node. It never touches a socket, a disk or a clock.
pub struct Node {
    pub(crate) keypair: Arc<PostQuantumKeypair>,
    pub(crate) me: PeerId,
    pub(crate) name: NodeName,
    pub(crate) addresses: Vec<PeerAddress>,
    pub(crate) cosigner: CosignerKey,
    pub(crate) founding_voters: usize,
    pub(crate) keyring: KemKeyring,
    pub(crate) kem_keys: Vec<Signed<KemEpochKey>>,
    pub(crate) onion: OnionPolicy,
    pub(crate) capabilities: CapabilitySet,
    pub(crate) descriptor: Verified<MemberDescriptor>,
    pub(crate) membership: Option<Arc<Membership>>,
    pub(crate) directory: BTreeMap<PeerId, Arc<Verified<MemberDescriptor>>>,
    pub(crate) book: InviteBook,
    pub(crate) joining: Joining,
    /// Voters that said, by closing a session, that this node was removed.
    pub(crate) removed_by: BTreeSet<PeerId>,
    /// Joiners whose admission this node has proposed by itself since it started.
    pub(crate) proposed: BTreeSet<PeerId>,
    pub(crate) join_failures: u32,
    pub(crate) collections: BTreeMap<CollectionName, CollectionSpec>,
    pub(crate) policies: BTreeMap<CollectionName, CollectionPolicy>,
    /// The latest date on a token of its own that this node has seen since it started.
    pub(crate) token_issued_last: exo_types::Timestamp,
    /// Tokens of a holder issued before this moment are revoked.
    pub(crate) tokens_not_before: BTreeMap<PeerId, exo_types::Timestamp>,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    pub(crate) by_peer: BTreeMap<PeerId, SessionId>,
    /// The session named last for deciding with each peer.
    pub(crate) lanes: BTreeMap<PeerId, SessionId>,
    pub(crate) links: BTreeMap<PeerId, Link>,
    pub(crate) calls: BTreeMap<CallId, (SessionId, CallKind)>,
    pub(crate) queries: BTreeMap<QueryId, Query>,
    pub(crate) jobs: BTreeMap<JobId, Answering>,
    pub(crate) replays: ReplayCache,
    /// Packets whose reply this node owes, and the neighbour that brought each.
    pub(crate) owing: BTreeMap<ExchangeId, PeerId>,
    /// Packets sent on: the stream that each came by, and the keys for its reply.
    pub(crate) relayed: BTreeMap<CallId, (ExchangeId, RelayReply)>,
    pub(crate) held: BTreeMap<u64, Held>,
    pub(crate) neighbours: BTreeMap<PeerId, Neighbour>,
    /// Packets of this node's own.
    pub(crate) sent: BTreeMap<CallId, Sent>,
    /// The relays that paths begin with, the one in use first.
    pub(crate) first: Vec<PeerId>,
    /// Relays on paths that failed, and until when others are chosen before them.
    pub(crate) doubts: BTreeMap<PeerId, Duration>,
    /// Members' sealing keys whose signatures hold, by the version of the descriptor they are from.
    pub(crate) sealing: BTreeMap<PeerId, (u64, Vec<Verified<KemEpochKey>>)>,
    /// Each wanted timer once; what has ended forgets its own.
    timers: BTreeSet<(Duration, Timer)>,
    /// When the inviter is to be asked again; one moment at most.
    pub(crate) join_poll_at: Option<Duration>,
    effects: VecDeque<Effect>,
    pub(crate) entropy: Entropy,
    next_number: u64,
}

/// What a timer is for; one that is no longer wanted finds nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    QueryDeadline(QueryId),
    TermsDeadline(QueryId),
    Hedge(QueryId),
    SessionOpening(SessionId),
    Redial(PeerId),
    JoinPoll,
    Upkeep,
    Held(u64),
    Cover,
}

impl Node {
    /// Starts a node, from a former run's state where there is one.
    pub fn new(now: Now, settings: Settings) -> Result<Self, StateError> {
        let snapshot = match &settings.state {
            Some(bytes) => Snapshot::from_wire(bytes).map_err(StateError::Codec)?,
            None => Snapshot::new(),
        };
        let membership = match (snapshot.genesis, snapshot.roster) {
            (Some(genesis), Some(roster)) => {
                let founded = Membership::verify(genesis, roster).map_err(StateError::Roster)?;
                Some(Arc::new(match &settings.decided {
                    Some(decided) => founded.under(Roster::clone(decided)),
                    None => founded,
                }))
            }
            _ => None,
        };
        let me = settings.keypair.peer_id();
        let capabilities = CapabilitySet::of_this_version().with_onion(&settings.onion);
        let kem_keys = crate::flow::directory::announce(&settings.keyring, &settings.keypair)
            .map_err(StateError::Descriptor)?;
        let descriptor = crate::flow::directory::sign_descriptor(
            &settings.keypair,
            &settings.addresses,
            &kem_keys,
            &settings.cosigner,
            &capabilities,
            now.wall.0.max(snapshot.described.saturating_add(1)),
            now.wall,
        )
        .map_err(StateError::Descriptor)?;
        let mut node = Self {
            keypair: settings.keypair,
            me,
            name: settings.name,
            addresses: settings.addresses,
            cosigner: settings.cosigner,
            founding_voters: settings.founding_voters,
            keyring: settings.keyring,
            kem_keys,
            onion: settings.onion,
            capabilities,
            descriptor,
            membership,
            directory: BTreeMap::new(),
            book: snapshot.book,
            joining: snapshot.joining,
            removed_by: BTreeSet::new(),
            proposed: BTreeSet::new(),
            join_failures: 0,
            collections: settings.collections.into_iter().map(|c| (c.name.clone(), c)).collect(),
            policies: snapshot.policies,
            token_issued_last: exo_types::Timestamp::default(),
            tokens_not_before: snapshot.tokens_not_before,
            sessions: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            lanes: BTreeMap::new(),
            links: BTreeMap::new(),
            calls: BTreeMap::new(),
            queries: BTreeMap::new(),
            jobs: BTreeMap::new(),
            replays: settings.replays,
            owing: BTreeMap::new(),
            relayed: BTreeMap::new(),
            held: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            sent: BTreeMap::new(),
            first: snapshot.first,
            doubts: BTreeMap::new(),
            sealing: BTreeMap::new(),
            timers: BTreeSet::new(),
            join_poll_at: None,
            effects: VecDeque::new(),
            entropy: settings.entropy,
            next_number: 0,
        };
        for descriptor in snapshot.descriptors {
            node.learn_descriptor(now, &descriptor);
        }
        if settings.state.is_some() {
            // The new descriptor's version, before anybody sees it.
            node.persist();
        }
        if settings.decided.is_none() {
            node.constituted(false);
        }
        node.resume_joining(now);
        node.keep_links(now, true);
        node.set_timer(now.mono + UPKEEP_EVERY, Timer::Upkeep);
        node.next_cover(now);
        Ok(node)
    }

    /// Takes one input in.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::SessionUp { session, key, dialled, purpose, exporter } => {
                self.session_up(now, session, key, dialled, purpose, exporter);
            }
            Input::SessionDown { session, reason } => self.session_down(now, session, reason),
            Input::FellSilent(session) => self.fell_silent(now, session),
            Input::SpeaksAgain(session) => self.speaks_again(session),
            Input::DialFailed { peer, purpose, detail, refused } => {
                self.dial_failed(now, peer, purpose, &detail, refused);
            }
            Input::Request { session, exchange, request } => {
                self.request(now, session, exchange, request);
            }
            Input::Response { call, result } => self.response(now, call, result),
            Input::SearchDone { job, result } => self.search_done(now, job, result),
            Input::TermsDone { job, result } => self.terms_done(now, job, result),
            Input::Decided(roster) => self.decided(now, &roster),
            Input::Certified => self.notify_all(),
            Input::Tick => self.tick(now),
        }
    }

    /// The next thing to do; `None` when there is nothing.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When the node wants its next [`Input::Tick`], on the monotonic clock.
    pub fn next_wake(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// This node's id.
    pub fn peer_id(&self) -> PeerId {
        self.me
    }

    fn tick(&mut self, now: Now) {
        while let Some((at, timer)) = self.timers.first().copied() {
            if at > now.mono {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::QueryDeadline(query) => self.query_deadline(now, query),
                Timer::TermsDeadline(query) => self.terms_deadline(now, query),
                Timer::Hedge(query) => self.hedge(now, query),
                Timer::SessionOpening(session) => self.session_opening_timeout(now, session),
                Timer::Redial(peer) => self.redial_due(now, peer),
                Timer::JoinPoll => {
                    self.join_poll_at = None;
                    self.join_poll(now);
                }
                Timer::Upkeep => {
                    self.upkeep(now);
                    self.set_timer(now.mono + UPKEEP_EVERY, Timer::Upkeep);
                }
                Timer::Held(number) => self.held_due(now, number),
                Timer::Cover => self.send_cover(now),
            }
        }
    }

    /// What is done now and then: expired things forgotten, tokens renewed, neighbours synced.
    fn upkeep(&mut self, now: Now) {
        self.book.forget_expired(now.wall);
        self.renew_keys(now);
        self.refresh_descriptor(now);
        self.renew_tokens(now);
        self.sync_all(now);
        self.keep_links(now, false);
        self.renew_sessions(now);
        self.forget_neighbours();
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.effects.push_back(Effect::Event(event));
    }

    pub(crate) fn set_timer(&mut self, at: Duration, timer: Timer) {
        self.timers.insert((at, timer));
    }

    pub(crate) fn forget_timer(&mut self, at: Duration, timer: Timer) {
        self.timers.remove(&(at, timer));
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(crate) fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.entropy)(&mut bytes);
        bytes
    }

    /// How many timers are set.
    pub(crate) fn timers_len(&self) -> usize {
        self.timers.len()
    }

    /// How many effects wait; a place for [`Self::persist_before`].
    pub(crate) fn effects_len(&self) -> usize {
        self.effects.len()
    }

    /// Asks the driver to make the present state durable before what follows.
    pub(crate) fn persist(&mut self) {
        self.persist_before(self.effects.len());
    }

    /// Asks the driver to make the present state durable before the effects from `at` on.
    pub(crate) fn persist_before(&mut self, at: usize) {
        let mut snapshot = Snapshot::new();
        if let Some(membership) = &self.membership {
            snapshot.genesis = Some(membership.genesis.clone());
            snapshot.roster = Some(membership.signed.clone());
        }
        snapshot.descriptors =
            self.directory.values().take(MEMBERS_MAX).map(|d| d.signed().clone()).collect();
        snapshot.book = self.book.clone();
        snapshot.joining = self.joining.clone();
        snapshot.policies = self.policies.clone();
        snapshot.tokens_not_before = self.tokens_not_before.clone();
        snapshot.first = self.first.clone();
        snapshot.described = self.descriptor.version;
        match snapshot.to_wire() {
            Ok(bytes) => self.effects.insert(at, Effect::Persist(bytes)),
            // Every part was bounded when it was taken in; losing a save is worse than saying so.
            Err(error) => self.event(Event::StateNotSaved(error.to_string())),
        }
    }
}

/// How often [`Node::upkeep`] runs.
const UPKEEP_EVERY: Duration = Duration::from_secs(30);
