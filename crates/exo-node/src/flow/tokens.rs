//! Tokens between members: issued, presented, checked at every request, renewed.

use exo_crypto::{Signed, Verified};
use exo_types::limits::{TOKEN_LIFE_MILLIS, TOKEN_RENEW_BEFORE_MILLIS, TOKENS_PER_SESSION_MAX};
use exo_types::{Now, PeerId, TokenId};

use crate::Node;
use crate::capability::CapabilitySet;
use crate::effect::{CallFailure, ExchangeId, SessionId};
use crate::flow::session::Session;
use crate::flow::{CONTROL_TIMEOUT, CallKind};
use crate::refusal::Refusal;
use crate::roster::Standing;
use crate::token::{Expectation, FederationToken};
use crate::wire::{CloseReason, Request, Response};

impl Node {
    /// Checks a token that a peer brings from an earlier session.
    pub(crate) fn check_presented(
        &self,
        now: Now,
        peer: PeerId,
        token: &Signed<FederationToken>,
    ) -> Result<Verified<FederationToken>, Refusal> {
        let expected = self.expectation(now, peer).ok_or(Refusal::NotMember)?;
        let claimed = token.claimed().map_err(|_| Refusal::TokenAltered)?;
        if claimed.federation != expected.federation {
            return Err(Refusal::TokenForeign);
        }
        if claimed.issuer != self.me {
            return Err(Refusal::TokenAudience);
        }
        let token = token.verify(self.keypair.public()).map_err(|_| Refusal::TokenAltered)?;
        token.check_against(&expected)?;
        Ok(token)
    }

    pub(crate) fn issue_token(
        &mut self,
        now: Now,
        peer: PeerId,
        agreed: &CapabilitySet,
    ) -> Option<Verified<FederationToken>> {
        let id = TokenId::new(self.random());
        let membership = self.membership.as_ref()?;
        // Never before the moment up to which this holder's tokens are revoked: it may be that of now.
        let not_before = self.tokens_not_before.get(&peer).copied().unwrap_or_default();
        let issued = now.wall.max(not_before);
        self.token_issued_last = self.token_issued_last.max(issued);
        let token = FederationToken {
            id,
            federation: membership.id,
            issuer: self.me,
            holder: peer,
            audience: self.me,
            capabilities: agreed.names(),
            epoch: membership.roster.epoch,
            issued,
            expires: issued.plus_millis(TOKEN_LIFE_MILLIS),
        };
        Signed::sign(token, &self.keypair).ok()
    }

    fn expectation(&self, now: Now, peer: PeerId) -> Option<Expectation> {
        let membership = self.membership.as_ref()?;
        Some(Expectation {
            federation: membership.id,
            audience: self.me,
            holder: peer,
            epoch: membership.roster.epoch,
            now: now.wall,
            not_before: self.tokens_not_before.get(&peer).copied(),
        })
    }

    /// Whether a request may be done: the token it names, checked afresh.
    pub(crate) fn authorise(
        &self,
        now: Now,
        id: SessionId,
        token: &TokenId,
        capability: &str,
    ) -> Result<PeerId, Refusal> {
        let session = self.sessions.get(&id).ok_or(Refusal::NotMember)?;
        match self.standing(&session.peer) {
            Standing::Active => {}
            Standing::Revoked => return Err(Refusal::MemberRevoked),
            Standing::Unknown => return Err(Refusal::NotMember),
        }
        let expected = self.expectation(now, session.peer).ok_or(Refusal::NotMember)?;
        let shown = session.here.iter().find(|known| known.id == *token);
        let shown = shown.ok_or(Refusal::TokenUnknown)?;
        shown.check_against(&expected)?;
        shown.grants(capability)?;
        Ok(session.peer)
    }

    /// A peer asks for a fresh token.
    pub(crate) fn grant(&mut self, now: Now, id: SessionId, exchange: ExchangeId) {
        let asker = self.sessions.get(&id).map(|s| (s.peer, s.agreed.clone()));
        let active = |peer: &PeerId| self.standing(peer) == Standing::Active;
        let token = match asker {
            Some((peer, agreed)) if active(&peer) => self.issue_token(now, peer, &agreed),
            _ => return self.respond(exchange, Response::Refused(Refusal::MemberRevoked)),
        };
        match (token, self.sessions.get_mut(&id)) {
            (Some(token), Some(session)) => {
                session.here.push(token.clone());
                if session.here.len() > TOKENS_PER_SESSION_MAX {
                    session.here.remove(0);
                }
                self.respond(exchange, Response::Token(Box::new(token.into_signed())));
            }
            _ => self.respond(exchange, Response::Refused(Refusal::Busy)),
        }
    }

    /// A call for a token has ended.
    pub(crate) fn granted(
        &mut self,
        now: Now,
        id: SessionId,
        result: Result<Response, CallFailure>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.granting = false;
        let (peer, key) = (session.peer, session.key.clone());
        let token = match result {
            Ok(Response::Token(token)) => token.verify(&key).ok(),
            _ => None,
        };
        match token.filter(|token| self.is_ours(token, peer)) {
            Some(token) => {
                self.take_token(id, peer, token);
                self.adopt(now, id);
            }
            None => self.drop_session(now, id, CloseReason::Refused),
        }
    }

    /// The acceptor asks for its token once the dialler shows, by its first request, that it has
    /// the welcome: before that the dialler would not answer.
    pub(crate) fn ask_first_token(&mut self, id: SessionId) {
        if self.sessions.get(&id).is_some_and(|session| session.there.is_none()) {
            self.ask_token(id);
        }
    }

    /// Asks the peer of a session for a fresh token.
    pub(crate) fn ask_token(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if !session.granting && session.greeted {
            session.granting = true;
            self.call(id, CallKind::Grant, Request::Grant, CONTROL_TIMEOUT);
        }
    }

    /// Whether a token lets this node in at a peer.
    pub(crate) fn is_ours(&self, token: &FederationToken, peer: PeerId) -> bool {
        self.membership.as_ref().is_some_and(|m| m.id == token.federation)
            && token.holder == self.me
            && token.audience == peer
    }

    pub(crate) fn take_token(
        &mut self,
        id: SessionId,
        peer: PeerId,
        token: Verified<FederationToken>,
    ) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.token = Some(token.clone());
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.there = Some(token);
        }
    }

    /// Asks for fresh tokens before the present ones end, or when their epoch has passed.
    pub(crate) fn renew_tokens(&mut self, now: Now) {
        let Some(epoch) = self.membership.as_ref().map(|m| m.roster.epoch) else { return };
        let due = |session: &Session| {
            session.there.as_ref().is_some_and(|token| {
                token.epoch < epoch
                    || token.expires.millis_since(now.wall) < TOKEN_RENEW_BEFORE_MILLIS
            })
        };
        let ids: Vec<_> = self
            .by_peer
            .values()
            .filter(|id| self.sessions.get(id).is_some_and(due))
            .copied()
            .collect();
        for id in ids {
            self.ask_token(id);
        }
    }
}
