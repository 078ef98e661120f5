//! Joining: the ticket is shown, both sides get four words nobody in between could have chosen, and
//! the inviter's owner approves by the joiner's words. Here the joiner's side; the inviter's is in
//! [`admit`](crate::flow::admit).
//!
//! Until then a joiner is pending and gets nothing. The words come from the channel's exporter and
//! two nonces, the joiner's committed to before it sees the inviter's ([`exo_crypto::sas`]).

use std::net::SocketAddr;
use std::time::Duration;

use exo_crypto::{InviterSas, JoinerSas, SasNonce, SasSession, Signed};
use exo_types::limits::{RECONNECT_MILLIS_MAX, RECONNECT_MILLIS_MIN};
use exo_types::{NodeName, Now, PeerAddress, PeerId};

use crate::Node;
use crate::descriptor::MemberDescriptor;
use crate::effect::{CallFailure, Effect, Event, Purpose, SessionId};
use crate::flow::session::Session;
use crate::flow::{CONTROL_TIMEOUT, CallKind};
use crate::node::Timer;
use crate::refusal::Refusal;
use crate::roster::Standing;
use crate::state::{Joining, Membership};
use crate::ticket::Ticket;
use crate::wire::{CloseReason, JoinApproved, JoinStart, Request, Response};

/// Where joining stands on one session.
pub(crate) enum JoinHandshake {
    /// The joiner has committed.
    Committed(JoinerSas),
    /// The inviter has sent its nonce.
    Challenged {
        sas: InviterSas,
        name: NodeName,
        descriptor: Signed<MemberDescriptor>,
        auto_approve: bool,
    },
    /// Both have the words.
    Revealed,
}

/// Why joining was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The node belongs to a federation.
    #[error("this node belongs to a federation already")]
    AlreadyMember,
    /// The node waits for approval already.
    #[error("this node waits for the approval of an earlier join")]
    InProgress,
    /// The node holds the log of a federation that it belonged to.
    #[error("this directory holds the log of another federation: use a new one")]
    OtherFederation,
    /// The ticket's time has passed.
    #[error("the ticket has expired")]
    Expired,
    /// The ticket is this node's own.
    #[error("the ticket was made by this very node")]
    OwnTicket,
}

impl Node {
    /// Begins to join the federation a ticket invites to.
    pub fn join(&mut self, now: Now, ticket: Ticket) -> Result<(), JoinError> {
        if self.membership.is_some() && !matches!(self.joining, Joining::Ended(_)) {
            return Err(JoinError::AlreadyMember);
        }
        if self.is_constituted() {
            // Its log and what it shares are in this directory, and of no use to another.
            return Err(JoinError::OtherFederation);
        }
        if matches!(self.joining, Joining::Waiting { .. }) {
            return Err(JoinError::InProgress);
        }
        if ticket.expires <= now.wall {
            return Err(JoinError::Expired);
        }
        if ticket.inviter == self.me {
            return Err(JoinError::OwnTicket);
        }
        self.leave();
        self.joining = Joining::Knocking(ticket);
        self.set_join_poll(None);
        self.join_failures = 0;
        self.persist();
        self.resume_joining(now);
        Ok(())
    }

    /// Forgets a federation that this node no longer belongs to, and everybody in it.
    fn leave(&mut self) {
        self.membership = None;
        self.removed_by.clear();
        self.directory.clear();
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in sessions {
            self.cut(id, CloseReason::Shutdown);
        }
        self.forget_links();
    }

    /// Dials the inviter, at the beginning and again after a restart or a loss. An attempt under way
    /// is given up for the new one.
    pub(crate) fn resume_joining(&mut self, _now: Now) {
        self.give_up_all_but(None);
        let Some(ticket) = self.ticket() else { return };
        let inviter = ticket.inviter;
        let address = |at: &SocketAddr| PeerAddress {
            peer: Some(inviter),
            host: at.ip().to_string(),
            port: at.port(),
        };
        let addresses = ticket.addresses.iter().map(address).collect();
        self.effect(Effect::Dial { peer: inviter, addresses, purpose: Purpose::Join });
    }

    /// Closes the sessions over which this node joins, but one.
    fn give_up_all_but(&mut self, kept: Option<SessionId>) {
        let given_up = |(id, session): &(&SessionId, &Session)| {
            session.purpose == Purpose::Join && session.dialled && Some(**id) != kept
        };
        let given_up: Vec<_> = self.sessions.iter().filter(given_up).map(|(id, _)| *id).collect();
        for id in given_up {
            self.cut(id, CloseReason::Superseded);
        }
    }

    /// Whether this node joins over a session: what comes of one that was given up counts for
    /// nothing, and one that has ended has said so itself.
    fn joins_over(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.dialled && !session.closing)
    }

    fn ticket(&self) -> Option<&Ticket> {
        match &self.joining {
            Joining::Knocking(ticket) | Joining::Waiting { ticket, .. } => Some(ticket),
            Joining::Idle | Joining::Ended(_) | Joining::Following => None,
        }
    }

    pub(crate) fn is_inviter(&self, peer: &PeerId) -> bool {
        self.ticket().is_some_and(|ticket| ticket.inviter == *peer)
    }

    /// The joiner's session with its inviter is up.
    pub(crate) fn knock(&mut self, now: Now, id: SessionId) {
        self.give_up_all_but(Some(id));
        let nonce = SasNonce::new(self.random());
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match &self.joining {
            Joining::Knocking(ticket) if ticket.inviter == session.peer => {
                let of = SasSession {
                    exporter: session.exporter,
                    joiner: self.me,
                    inviter: session.peer,
                };
                let (sas, commitment) = JoinerSas::start(of, nonce);
                session.handshake = Some(JoinHandshake::Committed(sas));
                let start = JoinStart {
                    federation: ticket.federation,
                    secret: ticket.secret,
                    commitment,
                    name: self.name.clone(),
                    descriptor: self.descriptor.signed().clone(),
                };
                let request = Request::JoinStart(Box::new(start));
                self.call(id, CallKind::JoinStart, request, CONTROL_TIMEOUT);
            }
            Joining::Waiting { ticket, .. } if ticket.inviter == session.peer => {
                self.join_poll(now);
            }
            _ => self.close(id, CloseReason::Refused, false),
        }
    }

    /// The joiner has the inviter's nonce and the genesis.
    pub(crate) fn join_challenged(
        &mut self,
        now: Now,
        id: SessionId,
        result: Result<Response, CallFailure>,
    ) {
        if !self.joins_over(id) {
            return;
        }
        let challenge = match result {
            Ok(Response::JoinChallenge(challenge)) => challenge,
            Ok(Response::Refused(refusal)) => return self.join_ends(id, refusal.says()),
            // The session's own end says why; where only the answer was lost, knock again.
            Err(CallFailure::Lost) => return self.join_again(now),
            _ => return self.drop_session(now, id, CloseReason::Refused),
        };
        let Joining::Knocking(ticket) = &self.joining else { return };
        let ticket = ticket.clone();
        if !ticket.is_for(&challenge.genesis.id()) {
            return self.join_ends(id, "the inviter named another federation than its ticket");
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(JoinHandshake::Committed(sas)) = session.handshake.take() else { return };
        let (nonce, words) = sas.reveal(&challenge.nonce);
        session.handshake = Some(JoinHandshake::Revealed);
        self.joining = Joining::Waiting { ticket, words: words.to_string() };
        self.persist();
        self.call(id, CallKind::JoinReveal, Request::JoinReveal { nonce }, CONTROL_TIMEOUT);
    }

    pub(crate) fn join_revealed(
        &mut self,
        now: Now,
        id: SessionId,
        result: Result<Response, CallFailure>,
    ) {
        if matches!(result, Ok(Response::JoinPending)) {
            self.event(Event::JoinPending);
        }
        self.join_answered(now, id, result);
    }

    /// The joiner hears how its request stands.
    pub(crate) fn join_answered(
        &mut self,
        now: Now,
        id: SessionId,
        result: Result<Response, CallFailure>,
    ) {
        if !self.joins_over(id) {
            return;
        }
        match result {
            Ok(Response::JoinPending) => {
                self.join_failures = 0;
                self.set_join_poll(Some(now.mono + POLL_EVERY));
            }
            Ok(Response::JoinApproved(approved)) => self.joined(now, id, *approved),
            Ok(Response::Refused(Refusal::TicketUnknown)) => self.knock_again(now, id),
            Ok(Response::Refused(refusal)) => self.join_ends(id, refusal.says()),
            Err(CallFailure::Lost) => self.join_again(now),
            _ => self.drop_session(now, id, CloseReason::Refused),
        }
    }

    /// The inviter has not heard of a joiner that waits: the reveal was lost, by a crash or on its
    /// way. The ticket is still this node's own, so it is shown once more; if it is not good either,
    /// that ends the join.
    fn knock_again(&mut self, now: Now, id: SessionId) {
        if let Joining::Waiting { ticket, .. } = &self.joining {
            self.joining = Joining::Knocking(ticket.clone());
            self.persist();
            self.knock(now, id);
        }
    }

    /// The joiner checks what it is given and becomes a member.
    fn joined(&mut self, now: Now, id: SessionId, approved: JoinApproved) {
        let Some(ticket) = self.ticket() else { return };
        if !ticket.is_for(&approved.genesis.id()) {
            return self.join_ends(id, "the inviter named another federation than its ticket");
        }
        let membership = match Membership::verify(approved.genesis, approved.roster) {
            Ok(membership) => membership,
            Err(error) => return self.join_ends(id, &error.to_string()),
        };
        // A founder admits with a roster; members that decide together, with a log of it.
        let named = membership.roster.standing(&self.me) == Standing::Active;
        if !named && !membership.is_constituted() {
            return self.join_ends(id, "the roster does not name this node");
        }
        let inviter = ticket.inviter;
        self.joining = if named { Joining::Idle } else { Joining::Following };
        self.set_join_poll(None);
        if approved.again {
            self.effect(Effect::Returned);
        }
        let at = self.effects_len();
        self.enter(now, membership, true);
        for descriptor in &approved.descriptors {
            self.learn_descriptor(now, descriptor);
        }
        self.constituted(approved.again);
        self.persist_before(at);
        self.give_up_all_but(Some(id));
        if named {
            self.close(id, CloseReason::Superseded, true);
            self.event(Event::Joined);
        } else {
            // The founding members may be gone: the log is had from the inviter, too.
            self.name_lane(inviter, id);
            self.effect(Effect::Behind(inviter));
        }
    }

    /// The log shows that this node was admitted.
    pub(crate) fn admitted(&mut self, now: Now) {
        self.joining = Joining::Idle;
        let over: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.purpose == Purpose::Join && session.dialled)
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.close(id, CloseReason::Superseded, true);
        }
        self.keep_links(now, true);
        self.event(Event::Joined);
    }

    fn join_ends(&mut self, id: SessionId, reason: &str) {
        self.joining = Joining::Ended(reason.to_owned());
        self.set_join_poll(None);
        self.persist();
        self.close(id, CloseReason::Refused, true);
        self.event(Event::Removed(reason.to_owned()));
    }

    /// Asks the inviter again, over the present session or a new one.
    pub(crate) fn join_poll(&mut self, now: Now) {
        let Joining::Waiting { ticket, .. } = &self.joining else {
            if matches!(self.joining, Joining::Knocking(_)) {
                self.resume_joining(now);
            }
            return;
        };
        let inviter = ticket.inviter;
        let open = self.sessions.iter().find(|(_, session)| {
            session.purpose == Purpose::Join && session.peer == inviter && !session.closing
        });
        match open.map(|(id, _)| *id) {
            Some(id) => {
                self.call(id, CallKind::JoinPoll, Request::JoinPoll, CONTROL_TIMEOUT);
            }
            None => self.resume_joining(now),
        }
    }

    pub(crate) fn join_session_down(
        &mut self,
        now: Now,
        session: &Session,
        reason: Option<CloseReason>,
    ) {
        // A session that this node closed was given up for another.
        if !session.dialled || session.closing || !self.is_inviter(&session.peer) {
            return;
        }
        match reason {
            Some(CloseReason::Revoked) => {
                let why = Refusal::MemberRevoked;
                self.not_expected(why, why.says());
            }
            Some(CloseReason::Refused) => self.turned_away(now, Refusal::TicketUnknown.says()),
            _ => self.join_again(now),
        }
    }

    /// The inviter expects nobody: the ticket was used, revoked or has expired there; or it removed
    /// this very key.
    fn not_expected(&mut self, why: Refusal, detail: &str) {
        self.joining = Joining::Ended(why.says().to_owned());
        self.set_join_poll(None);
        self.persist();
        self.event(Event::Removed(detail.to_owned()));
    }

    pub(crate) fn join_dial_failed(
        &mut self,
        now: Now,
        peer: &PeerId,
        detail: &str,
        refused: bool,
    ) {
        if !self.is_inviter(peer) {
            return;
        }
        if refused {
            return self.turned_away(now, detail);
        }
        self.join_again(now);
    }

    /// The inviter closed the door without a word: it expects nobody, or it is full for a moment. A
    /// join that people wait for does not end for the latter.
    fn turned_away(&mut self, now: Now, detail: &str) {
        let believed = match self.joining {
            Joining::Waiting { .. } => REFUSALS_BELIEVED_WAITING,
            _ => REFUSALS_BELIEVED_KNOCKING,
        };
        if self.join_failures < believed {
            self.join_again(now);
        } else {
            self.not_expected(Refusal::TicketUnknown, detail);
        }
    }

    fn join_again(&mut self, now: Now) {
        let wait = RECONNECT_MILLIS_MIN << self.join_failures.min(7);
        self.join_failures = self.join_failures.saturating_add(1);
        let wait = Duration::from_millis(wait.min(RECONNECT_MILLIS_MAX));
        self.set_join_poll(Some(now.mono + wait));
    }

    /// Sets when the inviter is asked again, in place of what was set before.
    fn set_join_poll(&mut self, at: Option<Duration>) {
        if let Some(before) = std::mem::replace(&mut self.join_poll_at, at) {
            self.forget_timer(before, Timer::JoinPoll);
        }
        if let Some(at) = at {
            self.set_timer(at, Timer::JoinPoll);
        }
    }
}

/// Failures in a row after which a joiner that has shown no ticket yet believes that it is refused:
/// about two seconds.
const REFUSALS_BELIEVED_KNOCKING: u32 = 3;
/// As above for a joiner that waits for approval: about two minutes.
const REFUSALS_BELIEVED_WAITING: u32 = 10;
/// How often a joiner asks whether it has been approved.
const POLL_EVERY: Duration = Duration::from_millis(500);
