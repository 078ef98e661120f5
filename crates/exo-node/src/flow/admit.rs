//! The inviter's side of joining: the ticket checked, the commitment opened, the joiner told how its
//! request stands. The joiner's side is in [`join`](crate::flow::join).

use exo_crypto::{InviterSas, SasNonce, SasSession, Words};
use exo_types::limits::DESCRIPTORS_PER_ANSWER_MAX;
use exo_types::{Now, PeerId};

use crate::Node;
use crate::effect::{Effect, Event, ExchangeId, SessionId};
use crate::flow::join::JoinHandshake;
use crate::flow::membership::MembershipError;
use crate::invite::Joiner;
use crate::refusal::Refusal;
use crate::roster::Standing;
use crate::ticket::Ticket;
use crate::wire::{JoinApproved, JoinChallenge, JoinStart, Response};

impl Node {
    /// The inviter's side of a joiner's first message.
    pub(crate) fn join_start(
        &mut self,
        now: Now,
        id: SessionId,
        exchange: ExchangeId,
        start: JoinStart,
    ) {
        match self.check_join_start(now, id, start) {
            Ok(challenge) => {
                self.persist();
                self.respond(exchange, Response::JoinChallenge(Box::new(challenge)));
            }
            Err(refusal) => self.respond(exchange, Response::Refused(refusal)),
        }
    }

    fn check_join_start(
        &mut self,
        now: Now,
        id: SessionId,
        start: JoinStart,
    ) -> Result<JoinChallenge, Refusal> {
        let nonce = SasNonce::new(self.random());
        let session = self.sessions.get(&id).ok_or(Refusal::NotMember)?;
        let membership = self.as_admitter().map_err(|_| Refusal::TicketUnknown)?;
        let peer = session.peer;
        let again = self.is_active(&peer);
        if start.federation != Ticket::tag(&membership.id) {
            return Err(Refusal::WrongFederation);
        }
        start.descriptor.verify(&session.key).map_err(|_| Refusal::Malformed)?;
        // Names are told to holders of a ticket alone; a taken one does not spend it.
        if !self.book.is_good(&start.secret, peer, now.wall) {
            return Err(Refusal::TicketUnknown);
        }
        if membership.roster.name_taken(&start.name, &peer) {
            return Err(Refusal::NameTaken);
        }
        let genesis = membership.genesis.clone();
        let of = SasSession { exporter: session.exporter, joiner: peer, inviter: self.me };
        let invite = self.book.redeem(&start.secret, peer, now.wall);
        let auto_approve = invite.ok_or(Refusal::TicketUnknown)?.auto_approve;
        let (sas, nonce) = InviterSas::start(of, nonce, start.commitment);
        let session = self.sessions.get_mut(&id).ok_or(Refusal::NotMember)?;
        session.again = again;
        session.handshake = Some(JoinHandshake::Challenged {
            sas,
            name: start.name,
            descriptor: start.descriptor,
            auto_approve,
        });
        Ok(JoinChallenge { nonce, genesis })
    }

    /// The inviter opens the joiner's commitment.
    pub(crate) fn join_reveal(
        &mut self,
        now: Now,
        id: SessionId,
        exchange: ExchangeId,
        nonce: SasNonce,
    ) {
        let response = match self.check_reveal(now, id, nonce) {
            Ok(()) => return self.join_polled(id, exchange),
            Err(refusal) => Response::Refused(refusal),
        };
        self.respond(exchange, response);
    }

    fn check_reveal(&mut self, now: Now, id: SessionId, nonce: SasNonce) -> Result<(), Refusal> {
        let session = self.sessions.get_mut(&id).ok_or(Refusal::NotMember)?;
        let Some(JoinHandshake::Challenged { sas, name, descriptor, auto_approve }) =
            session.handshake.take()
        else {
            return Err(Refusal::Malformed);
        };
        session.handshake = Some(JoinHandshake::Revealed);
        let (peer, key) = (session.peer, session.key.clone());
        let words: Words = sas.reveal(&nonce).map_err(|_| Refusal::WordsMismatch)?;
        if self.is_active(&peer) {
            // A member that lost what it was told, in a crash say, is told it again.
            self.book.spend(&peer);
            self.persist();
            return Ok(());
        }
        let joiner = Joiner {
            key,
            name,
            words: words.to_string(),
            since: now.wall,
            descriptor,
            rejected: false,
        };
        if !self.book.wait(joiner) {
            return Err(Refusal::JoinFull);
        }
        if auto_approve {
            let admitted = self.admit(now, &peer, true).map_err(|error| match error {
                MembershipError::NameTaken(_) => Refusal::NameTaken,
                _ => Refusal::JoinRejected,
            })?;
            // It shows itself again whenever its connection breaks; one proposal is enough.
            let fresh = self.proposed.insert(peer);
            if let Some(decision) = admitted.decision.filter(|_| fresh) {
                self.persist();
                self.effect(Effect::Propose(Box::new(decision)));
            }
        } else {
            self.persist();
            self.event(Event::JoinerWaits(peer));
        }
        Ok(())
    }

    /// How a joiner's request stands, as it is told.
    fn join_standing(&self, peer: &PeerId, again: bool) -> Response {
        let Some(membership) = &self.membership else {
            return Response::Refused(Refusal::NotMember);
        };
        match (membership.roster.standing(peer), self.book.joiner(peer)) {
            (Standing::Active, _) => Response::JoinApproved(Box::new(JoinApproved {
                genesis: membership.genesis.clone(),
                roster: membership.signed.clone(),
                // The inviter's own first: with it the joiner asks for those that have no room.
                descriptors: [&self.descriptor]
                    .into_iter()
                    .chain(self.directory.values().map(|known| &**known))
                    .take(DESCRIPTORS_PER_ANSWER_MAX)
                    .map(|descriptor| descriptor.signed().clone())
                    .collect(),
                again,
            })),
            (Standing::Revoked, None) => Response::Refused(Refusal::MemberRevoked),
            (_, Some(joiner)) if joiner.rejected => Response::Refused(Refusal::JoinRejected),
            (_, Some(_)) => Response::JoinPending,
            (Standing::Unknown, None) => Response::Refused(Refusal::TicketUnknown),
        }
    }

    pub(crate) fn join_polled(&mut self, id: SessionId, exchange: ExchangeId) {
        let response = match self.sessions.get(&id).map(|session| (session.peer, session.again)) {
            Some((peer, again)) => {
                let response = self.join_standing(&peer, again);
                let approved = matches!(response, Response::JoinApproved(_));
                if approved && self.is_constituted() && !self.by_peer.contains_key(&peer) {
                    // Over it the joiner fetches the log that admits it.
                    self.name_lane(peer, id);
                }
                response
            }
            None => Response::Refused(Refusal::NotMember),
        };
        self.respond(exchange, response);
    }
}
