//! Keeping a session with every member: dialling, backing off, noticing silence.

use std::collections::BTreeSet;
use std::time::Duration;

use exo_crypto::Verified;
use exo_types::limits::{
    RECONNECT_LATELY_DIALS, RECONNECT_LATELY_MILLIS_MAX, RECONNECT_MILLIS_MAX,
    RECONNECT_MILLIS_MIN, RECONNECT_VOTER_MILLIS_MAX, REKEY_MILLIS,
};
use exo_types::{Now, PeerId};

use crate::Node;
use crate::effect::{CallFailure, CallId, Effect, Event, Purpose, SessionId};
use crate::flow::{CONTROL_TIMEOUT, CallKind};
use crate::node::Timer;
use crate::roster::Standing;
use crate::state::Joining;
use crate::token::FederationToken;
use crate::wire::{CloseReason, Request, Response};

/// What this node knows of the way to one member.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Dials that failed since the last session.
    pub(crate) failures: u32,
    /// A dial is under way.
    pub(crate) dialling: bool,
    /// When it is dialled next; one moment at most.
    pub(crate) redial_at: Option<Duration>,
    /// The peer was there and refused.
    pub(crate) refused: bool,
    /// Why there is no session.
    pub(crate) detail: String,
    /// When the peer was last heard from.
    pub(crate) last_heard: Duration,
    /// When a query last dialled afresh because the peer was silent.
    pub(crate) hedged: Option<Duration>,
    /// Smoothed round trip of answered requests.
    pub(crate) latency: Option<Duration>,
    /// The token this node last had there, to be shown in the next session.
    pub(crate) token: Option<Verified<FederationToken>>,
}

impl Link {
    fn up(&mut self) {
        self.failures = 0;
        self.refused = false;
        self.detail.clear();
    }

    /// Whether the last attempts failed, so that waiting for a session makes no sense.
    pub(crate) fn is_down(&self) -> bool {
        self.failures > 0
    }

    fn measure(&mut self, round_trip: Duration) {
        // The smoothing of RFC 6298: an eighth of each new sample.
        self.latency = Some(match self.latency {
            Some(known) => (known * 7 + round_trip) / 8,
            None => round_trip,
        });
    }
}

impl Node {
    /// Makes links for every active member, forgets those of others, and sees to it that each has a
    /// session, a dial under way or a time for one. Whoever starts or has just joined dials at once;
    /// the others wait a little for it, so that rarely both dial.
    pub(crate) fn keep_links(&mut self, now: Now, dials_first: bool) {
        let Some(membership) = &self.membership else { return };
        let roster = &membership.roster;
        let mut wanted = BTreeSet::new();
        // Who was approved fetches from members what admits it.
        let following = self.joining == Joining::Following;
        if following || roster.standing(&self.me) == Standing::Active {
            wanted.extend(roster.active().map(|(peer, _)| *peer).filter(|peer| *peer != self.me));
        }
        let gone: Vec<PeerId> =
            self.links.keys().filter(|peer| !wanted.contains(peer)).copied().collect();
        for peer in gone {
            self.forget_redial(peer);
            self.links.remove(&peer);
        }
        let wait = if dials_first { Duration::ZERO } else { SECOND_DIALLER_WAITS };
        for peer in wanted {
            let link = self.links.entry(peer).or_default();
            if !link.dialling && link.redial_at.is_none() && !self.by_peer.contains_key(&peer) {
                self.set_redial(peer, now.mono + wait);
            }
        }
    }

    /// Forgets every link.
    pub(crate) fn forget_links(&mut self) {
        let peers: Vec<PeerId> = self.links.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.forget_redial(peer));
        self.links.clear();
    }

    /// Sets when a member is dialled next, in place of what was set before.
    fn set_redial(&mut self, peer: PeerId, at: Duration) {
        self.forget_redial(peer);
        if let Some(link) = self.links.get_mut(&peer) {
            link.redial_at = Some(at);
            self.set_timer(at, Timer::Redial(peer));
        }
    }

    fn forget_redial(&mut self, peer: PeerId) {
        if let Some(at) = self.links.get_mut(&peer).and_then(|link| link.redial_at.take()) {
            self.forget_timer(at, Timer::Redial(peer));
        }
    }

    /// A session with a member is in use.
    pub(crate) fn link_up(&mut self, peer: PeerId) {
        self.forget_redial(peer);
        if let Some(link) = self.links.get_mut(&peer) {
            link.up();
        }
    }

    /// The time to dial a member again has come.
    pub(crate) fn redial_due(&mut self, now: Now, peer: PeerId) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.redial_at = None;
        }
        self.redial(now, peer);
    }

    /// Dials a member that has no session and no dial under way.
    pub(crate) fn redial(&mut self, now: Now, peer: PeerId) {
        if !self.by_peer.contains_key(&peer) {
            self.dial(now, peer);
        }
    }

    /// A member is reached elsewhere than before: neither a dial to where it was nor the wait before
    /// the next one is waited for. Should it be dialling itself, it has a moment to be first.
    pub(crate) fn moved(&mut self, now: Now, peer: PeerId) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        link.dialling = false;
        self.set_redial(peer, now.mono + SECOND_DIALLER_WAITS);
    }

    /// Dials afresh where a session that this node dialled has had its time, so that a stolen key
    /// opens no more than one session's traffic. The new one takes the place of the old, which ends
    /// when what is under way on it has.
    pub(crate) fn renew_sessions(&mut self, now: Now) {
        let life = Duration::from_millis(REKEY_MILLIS);
        let old = |id: &SessionId| {
            let session = self.sessions.get(id);
            session.is_some_and(|s| s.dialled && now.mono.saturating_sub(s.opened) >= life)
        };
        let due = self.by_peer.iter().filter(|(peer, id)| old(id) && self.is_reached(now, peer));
        for peer in due.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.dial(now, peer);
        }
    }

    /// The session in use may lead nowhere, and once it leads somewhere again it takes as long as it has been
    /// silent to find out (RFC 9002 section 6.2): the peer is dialled beside it. Whichever is through first
    /// stays.
    pub(crate) fn fell_silent(&mut self, now: Now, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.silent = true;
        let peer = session.peer;
        if self.by_peer.get(&peer) == Some(&id) && self.is_reached(now, &peer) {
            self.dial(now, peer);
        }
    }

    pub(crate) fn speaks_again(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.silent = false;
        }
    }

    /// Whether it is known where a member is dialled.
    fn is_reached(&self, now: Now, peer: &PeerId) -> bool {
        let known = self.directory.get(peer).filter(|known| known.is_current(now.wall));
        known.is_some_and(|known| !known.addresses.is_empty())
    }

    /// Dials a member, also beside a session that has fallen silent.
    pub(crate) fn dial(&mut self, now: Now, peer: PeerId) {
        let known = self.directory.get(&peer).filter(|known| known.is_current(now.wall));
        let addresses = known.map(|known| known.addresses.clone()).unwrap_or_default();
        let Some(link) = self.links.get_mut(&peer) else { return };
        if link.dialling {
            return;
        }
        if addresses.is_empty() {
            return self.link_down(now, peer, "no address of it is known", false);
        }
        link.dialling = true;
        self.effect(Effect::Dial { peer, addresses, purpose: Purpose::Member });
    }

    pub(crate) fn dial_failed(
        &mut self,
        now: Now,
        peer: PeerId,
        purpose: Purpose,
        detail: &str,
        refused: bool,
    ) {
        if purpose == Purpose::Join {
            return self.join_dial_failed(now, &peer, detail, refused);
        }
        let Some(link) = self.links.get_mut(&peer) else { return };
        link.dialling = false;
        let unheard = link.hedged.is_some_and(|at| link.last_heard <= at);
        let in_use = self.by_peer.get(&peer).copied();
        let session = in_use.and_then(|id| self.sessions.get(&id));
        let silent = unheard || session.is_some_and(|session| session.silent);
        match in_use {
            // A fresh dial failed too: the session that fell silent leads nowhere.
            Some(session) if silent => self.drop_session(now, session, CloseReason::Silent),
            Some(_) => {}
            None => self.link_down(now, peer, detail, refused),
        }
    }

    /// There is no session with a member: say so, tell the queries that wait, try again later.
    pub(crate) fn link_down(&mut self, now: Now, peer: PeerId, detail: &str, refused: bool) {
        let jitter = u64::from(u16::from_be_bytes(self.random()));
        let Some(link) = self.links.get_mut(&peer) else { return };
        let was_down = link.is_down();
        link.failures = link.failures.saturating_add(1);
        if link.detail.is_empty() || !link.refused {
            link.detail = detail.to_owned();
        }
        link.refused |= refused;
        let doubled = RECONNECT_MILLIS_MIN.saturating_mul(1 << (link.failures - 1).min(16));
        let failures = link.failures;
        let most = match &self.membership {
            Some(membership) if membership.roster.votes(&peer) => RECONNECT_VOTER_MILLIS_MAX,
            _ if failures < RECONNECT_LATELY_DIALS => RECONNECT_LATELY_MILLIS_MAX,
            _ => RECONNECT_MILLIS_MAX,
        };
        let wait = doubled.min(most);
        // Half fixed, half drawn: members that lost the same peer do not dial it in step.
        let wait = wait / 2 + wait * jitter / (2 * u64::from(u16::MAX));
        self.set_redial(peer, now.mono + Duration::from_millis(wait));
        if !was_down {
            self.event(Event::PeerUnreachable(peer, detail.to_owned()));
        }
        self.peer_unreachable(now, peer);
    }

    /// A peer said something.
    pub(crate) fn heard(&mut self, now: Now, peer: PeerId) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.last_heard = now.mono;
        }
    }

    /// Takes the round trip of an answered request into account.
    pub(crate) fn measured(&mut self, peer: PeerId, round_trip: Duration) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.measure(round_trip);
        }
    }

    /// Asks a member whether it is there; the end comes as [`Effect::PingDone`].
    pub fn ping(&mut self, now: Now, peer: &PeerId) -> Option<CallId> {
        let session = *self.by_peer.get(peer)?;
        let kind = CallKind::Ping { sent: now.mono };
        Some(self.call(session, kind, Request::Ping, CONTROL_TIMEOUT))
    }

    pub(crate) fn pinged(
        &mut self,
        now: Now,
        session: SessionId,
        call: CallId,
        sent: Duration,
        result: &Result<Response, CallFailure>,
    ) {
        let round_trip = now.mono.saturating_sub(sent);
        let result = match result {
            Ok(Response::Done) => {
                if let Some(peer) = self.sessions.get(&session).map(|session| session.peer) {
                    self.measured(peer, round_trip);
                }
                Ok(round_trip)
            }
            Ok(Response::Refused(refusal)) => Err(refusal.to_string()),
            Ok(_) => Err("the peer answered something else".to_owned()),
            Err(CallFailure::Timeout) => Err("no answer in time".to_owned()),
            Err(_) => Err("the connection was lost".to_owned()),
        };
        self.effect(Effect::PingDone { call, result });
    }
}

/// How long a member waits for a new one to dial it.
const SECOND_DIALLER_WAITS: Duration = Duration::from_millis(300);
