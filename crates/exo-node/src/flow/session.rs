//! Sessions between members: hello, negotiation, and which of two sessions stays.

use std::time::Duration;

use exo_crypto::{IdentityKey, Verified};
use exo_types::limits::{
    HANDSHAKE_TIMEOUT_MILLIS, JOINERS_PENDING_MAX, SESSIONS_MAX, SESSIONS_PER_PEER_MAX,
    TOKEN_RENEW_BEFORE_MILLIS,
};
use exo_types::{Now, PeerId};

use crate::Node;
use crate::capability::CapabilitySet;
use crate::effect::{CallFailure, Effect, Event, ExchangeId, Purpose, SessionId};
use crate::flow::join::JoinHandshake;
use crate::flow::{CONTROL_TIMEOUT, CallKind};
use crate::node::Timer;
use crate::refusal::Refusal;
use crate::roster::Standing;
use crate::state::Joining;
use crate::token::FederationToken;
use crate::wire::{CloseReason, Hello, Request, Response, Welcome};

/// One connection with an authenticated peer.
pub(crate) struct Session {
    pub(crate) peer: PeerId,
    pub(crate) key: IdentityKey,
    pub(crate) dialled: bool,
    pub(crate) purpose: Purpose,
    pub(crate) exporter: [u8; 32],
    pub(crate) opened: Duration,
    /// Hello and welcome are exchanged.
    pub(crate) greeted: bool,
    /// The version of what the peer then said of itself; it is another one after a restart.
    pub(crate) version: u64,
    /// What both sides can do.
    pub(crate) agreed: CapabilitySet,
    /// Tokens the peer may use here, oldest first.
    pub(crate) here: Vec<Verified<FederationToken>>,
    /// The token this node uses there.
    pub(crate) there: Option<Verified<FederationToken>>,
    /// A call for a token is under way.
    pub(crate) granting: bool,
    /// A call for newer things is under way.
    pub(crate) syncing: bool,
    /// More became newer while it was.
    pub(crate) sync_again: bool,
    /// It is being closed and takes nothing new.
    pub(crate) closing: bool,
    /// The peer leaves what is sent over it unacknowledged.
    pub(crate) silent: bool,
    /// Where joining stands on this session.
    pub(crate) handshake: Option<JoinHandshake>,
    /// The joiner on this session was a member when it began.
    pub(crate) again: bool,
}

impl Session {
    /// Whether requests for data may go out on it.
    pub(crate) fn ready(&self) -> bool {
        self.greeted && self.there.is_some() && !self.closing
    }
}

impl Node {
    /// Whether a key that wants to connect is let in at all: members, and anybody while a joiner is
    /// expected.
    pub fn admits(&self, now: Now, peer: &PeerId) -> bool {
        self.standing(peer) != Standing::Unknown
            || self.book.expects_somebody(now.wall)
            || self.is_inviter(peer)
    }

    pub(crate) fn standing(&self, peer: &PeerId) -> Standing {
        self.membership.as_ref().map_or(Standing::Unknown, |m| m.roster.standing(peer))
    }

    pub(crate) fn is_active(&self, peer: &PeerId) -> bool {
        self.standing(peer) == Standing::Active
    }

    pub(crate) fn session_up(
        &mut self,
        now: Now,
        id: SessionId,
        key: IdentityKey,
        dialled: bool,
        purpose: Purpose,
        exporter: [u8; 32],
    ) {
        let peer = key.peer_id();
        if dialled && let Some(link) = self.links.get_mut(&peer) {
            link.dialling = false;
        }
        let joining = |session: &&Session| session.purpose == Purpose::Join && !session.dialled;
        let joiners = self.sessions.values().filter(joining).count();
        let refuse = match (purpose, self.standing(&peer)) {
            _ if self.sessions.len() >= SESSIONS_MAX => Some(CloseReason::Refused),
            (Purpose::Member, Standing::Active) => None,
            (_, Standing::Revoked) => Some(CloseReason::Revoked),
            (Purpose::Member, Standing::Unknown) => Some(CloseReason::Refused),
            // Keys cost nothing: while an invite is open strangers must not take the members' places.
            (Purpose::Join, _) if !dialled && joiners >= JOINERS_PENDING_MAX => {
                Some(CloseReason::Refused)
            }
            (Purpose::Join, _) => None,
        };
        if let Some(reason) = refuse {
            return self.effect(Effect::Close { session: id, reason, drain: false });
        }
        self.make_room(peer);
        self.heard(now, peer);
        self.sessions.insert(
            id,
            Session {
                peer,
                key,
                dialled,
                purpose,
                exporter,
                opened: now.mono,
                greeted: false,
                version: 0,
                agreed: CapabilitySet::default(),
                here: Vec::new(),
                there: None,
                granting: false,
                syncing: false,
                sync_again: false,
                closing: false,
                silent: false,
                handshake: None,
                again: false,
            },
        );
        self.set_timer(now.mono + OPENING, Timer::SessionOpening(id));
        match (purpose, dialled) {
            (Purpose::Member, true) => self.say_hello(now, id),
            (Purpose::Join, true) => self.knock(now, id),
            (_, false) => {}
        }
    }

    /// A peer that restarts again and again leaves dead sessions behind, which must not keep it out:
    /// its oldest one goes, the one in use last.
    fn make_room(&mut self, peer: PeerId) {
        let open = |session: &Session| session.peer == peer && !session.closing;
        let of_peer: Vec<SessionId> =
            self.sessions.iter().filter(|(_, s)| open(s)).map(|(id, _)| *id).collect();
        if of_peer.len() >= SESSIONS_PER_PEER_MAX {
            let in_use = self.by_peer.get(&peer);
            let spare = of_peer.iter().find(|id| Some(*id) != in_use).or(of_peer.first());
            if let Some(oldest) = spare.copied() {
                self.cut(oldest, CloseReason::Superseded);
            }
        }
    }

    fn say_hello(&mut self, now: Now, id: SessionId) {
        let Some(membership) = &self.membership else { return };
        let peer = self.sessions.get(&id).map(|session| session.peer);
        let kept = peer.and_then(|peer| self.links.get(&peer)).and_then(|l| l.token.as_ref());
        let still_good = |token: &&Verified<FederationToken>| {
            token.epoch == membership.roster.epoch
                && token.expires.millis_since(now.wall) > TOKEN_RENEW_BEFORE_MILLIS
        };
        let hello = Hello {
            federation: membership.id,
            epoch: membership.roster.epoch,
            capabilities: self.capabilities.clone(),
            descriptor: self.descriptor.signed().clone(),
            token: kept.filter(still_good).map(|token| token.signed().clone()),
        };
        self.call(id, CallKind::Hello, Request::Hello(Box::new(hello)), CONTROL_TIMEOUT);
    }

    /// The acceptor's side of a hello.
    pub(crate) fn hello(&mut self, now: Now, id: SessionId, exchange: ExchangeId, hello: &Hello) {
        match self.check_hello(now, id, hello) {
            Ok(welcome) => {
                let newer = self.membership.as_ref().is_some_and(|m| hello.epoch > m.roster.epoch);
                self.respond(exchange, Response::Welcome(Box::new(welcome)));
                if newer {
                    self.catch_up(id);
                }
            }
            Err(refusal) => self.respond(exchange, Response::Refused(refusal)),
        }
    }

    fn check_hello(&mut self, now: Now, id: SessionId, hello: &Hello) -> Result<Welcome, Refusal> {
        let session = self.sessions.get(&id).ok_or(Refusal::NotMember)?;
        if session.dialled || session.greeted {
            return Err(Refusal::Malformed);
        }
        let (peer, key) = (session.peer, session.key.clone());
        let membership = self.membership.as_ref().ok_or(Refusal::NotMember)?;
        if self.joining == Joining::Following {
            // Who belongs by now is not known here yet.
            return Err(Refusal::Busy);
        }
        match membership.roster.standing(&peer) {
            Standing::Active => {}
            Standing::Revoked => return Err(Refusal::MemberRevoked),
            Standing::Unknown => return Err(Refusal::NotMember),
        }
        if hello.federation != membership.id {
            return Err(Refusal::WrongFederation);
        }
        let epoch = membership.roster.epoch;
        let agreed = self.capabilities.negotiate(&hello.capabilities);
        if agreed.0.is_empty() {
            return Err(Refusal::NoCommonCapability);
        }
        let presented = match &hello.token {
            Some(token) => Some(self.check_presented(now, peer, token)?),
            None => None,
        };
        let version = hello.descriptor.verify(&key).map_err(|_| Refusal::Malformed)?.version;
        self.keep_descriptor(now, &hello.descriptor);
        let token = match presented {
            Some(token) => {
                // A revocation is to void it too, though the clock was set back since it was issued.
                self.token_issued_last = self.token_issued_last.max(token.issued);
                token
            }
            None => self.issue_token(now, peer, &agreed).ok_or(Refusal::Busy)?,
        };
        let session = self.sessions.get_mut(&id).ok_or(Refusal::NotMember)?;
        session.greeted = true;
        session.version = version;
        session.agreed = agreed;
        session.here.push(token.clone());
        Ok(Welcome {
            epoch,
            capabilities: self.capabilities.clone(),
            descriptor: self.descriptor.signed().clone(),
            token: token.into_signed(),
        })
    }

    /// The dialler's side of a welcome.
    pub(crate) fn welcomed(
        &mut self,
        now: Now,
        id: SessionId,
        result: Result<Response, CallFailure>,
    ) {
        let Some(session) = self.sessions.get(&id) else { return };
        let (peer, key) = (session.peer, session.key.clone());
        let welcome = match result {
            Ok(Response::Welcome(welcome)) => welcome,
            Ok(Response::Refused(refusal)) => {
                return self.hello_refused(now, id, peer, refusal);
            }
            // The session's own end says why; one that does not end is closed by its opening timer.
            Err(CallFailure::Lost) => return,
            _ => return self.drop_session(now, id, CloseReason::Refused),
        };
        let descriptor = welcome.descriptor.verify(&key).ok();
        let token = welcome.token.verify(&key).ok().filter(|token| self.is_ours(token, peer));
        let (Some(descriptor), Some(token)) = (descriptor, token) else {
            return self.drop_session(now, id, CloseReason::Refused);
        };
        self.keep_descriptor(now, &welcome.descriptor);
        let agreed = self.capabilities.negotiate(&welcome.capabilities);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.greeted = true;
            session.version = descriptor.version;
            session.agreed = agreed;
        }
        self.take_token(id, peer, token);
        self.adopt(now, id);
        if self.membership.as_ref().is_some_and(|m| welcome.epoch > m.roster.epoch) {
            self.catch_up(id);
        } else {
            self.sync_with(id);
        }
    }

    fn hello_refused(&mut self, now: Now, id: SessionId, peer: PeerId, refusal: Refusal) {
        // A token from before the peer's change of epoch or of heart: begin again without it.
        let kept = self.links.get_mut(&peer).and_then(|link| link.token.take());
        if kept.is_some() {
            return self.say_hello(now, id);
        }
        if let Some(link) = self.links.get_mut(&peer) {
            link.refused = true;
            link.detail = refusal.to_string();
        }
        self.drop_session(now, id, CloseReason::Refused);
    }

    /// Takes a ready session into use, or closes it where another stays.
    ///
    /// When both sides dial at once two sessions come up; the one that the smaller id dialled
    /// stays. A session that comes later replaces the older one, and so does at any time one whose
    /// peer has started again in between or has fallen silent: the older one leads nowhere.
    pub(crate) fn adopt(&mut self, now: Now, id: SessionId) {
        let Some(new) = self.sessions.get(&id).filter(|session| session.ready()) else { return };
        let (peer, dialled, opened, version) = (new.peer, new.dialled, new.opened, new.version);
        let loser =
            match self.by_peer.get(&peer).and_then(|old| Some((*old, self.sessions.get(old)?))) {
                Some((old, _)) if old == id => None,
                Some((old, known)) => {
                    let crossed = !known.silent
                        && known.dialled != dialled
                        && known.version == version
                        && known.opened.abs_diff(opened) < OPENING;
                    let new_stays = !crossed || dialled == (self.me < peer);
                    if new_stays { Some(old) } else { Some(id) }
                }
                None => None,
            };
        let stays = loser != Some(id);
        if let Some(loser) = loser {
            self.close(loser, CloseReason::Superseded, true);
        }
        if stays {
            let fresh = self.by_peer.insert(peer, id).is_none();
            self.name_lane(peer, id);
            self.link_up(peer);
            if fresh {
                self.event(Event::PeerActive(peer));
            }
            self.peer_ready(now, peer);
        }
    }

    /// Closes a session; what is under way on it may finish when it drains.
    pub(crate) fn close(&mut self, id: SessionId, reason: CloseReason, drain: bool) {
        if let Some(session) = self.sessions.get_mut(&id)
            && !session.closing
        {
            session.closing = true;
            let peer = session.peer;
            self.out_of_use(peer, id);
            self.effect(Effect::Close { session: id, reason, drain });
        }
    }

    /// Closes a session at once, also one that drains.
    pub(crate) fn cut(&mut self, id: SessionId, reason: CloseReason) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.closing = true;
            let peer = session.peer;
            self.out_of_use(peer, id);
            self.effect(Effect::Close { session: id, reason, drain: false });
        }
    }

    fn out_of_use(&mut self, peer: PeerId, id: SessionId) {
        if self.by_peer.get(&peer) == Some(&id) {
            self.by_peer.remove(&peer);
        }
        // Also that of a session for joining, which is never the one in use.
        if self.lanes.get(&peer) == Some(&id) {
            self.lanes.remove(&peer);
            self.effect(Effect::Lane { peer, session: None });
        }
    }

    /// Over this session decisions are made with a member from now on.
    pub(crate) fn name_lane(&mut self, peer: PeerId, id: SessionId) {
        self.lanes.insert(peer, id);
        self.effect(Effect::Lane { peer, session: Some(id) });
    }

    /// Closes a session that went wrong and forgets it at once: what comes over it later would be
    /// refused, where over another session it might be answered.
    pub(crate) fn drop_session(&mut self, now: Now, id: SessionId, reason: CloseReason) {
        self.effect(Effect::Close { session: id, reason, drain: false });
        self.session_down(now, id, None);
    }

    pub(crate) fn session_down(&mut self, now: Now, id: SessionId, reason: Option<CloseReason>) {
        let Some(session) = self.sessions.remove(&id) else { return };
        let peer = session.peer;
        self.forget_timer(session.opened + OPENING, Timer::SessionOpening(id));
        let lost: Vec<_> =
            self.calls.iter().filter(|(_, (of, _))| *of == id).map(|(call, _)| *call).collect();
        self.out_of_use(peer, id);
        if reason == Some(CloseReason::Revoked) {
            self.told_removed(peer);
        }
        if session.purpose == Purpose::Join {
            self.join_session_down(now, &session, reason);
        } else if !self.by_peer.contains_key(&peer) {
            let detail = reason.map_or("the connection was lost", CloseReason::says);
            let refused = matches!(reason, Some(CloseReason::Refused | CloseReason::Revoked));
            self.link_down(now, peer, detail, refused);
        }
        for call in lost {
            self.response(now, call, Err(CallFailure::Lost));
        }
    }

    /// A session whose peer has not said what it must by now is closed.
    pub(crate) fn session_opening_timeout(&mut self, now: Now, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let idle_join = session.purpose == Purpose::Join
            && session.handshake.is_none()
            && self.book.joiner(&session.peer).is_none()
            && !session.dialled;
        if (session.purpose == Purpose::Member && !session.greeted) || idle_join {
            // Nothing is under way that it could wait for.
            self.effect(Effect::Close { session: id, reason: CloseReason::Refused, drain: false });
            self.session_down(now, id, None);
        }
    }
}

/// How long a session may take until both sides have said who they are.
const OPENING: Duration = Duration::from_millis(HANDSHAKE_TIMEOUT_MILLIS);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use exo_crypto::{KemKeyring, PostQuantumKeypair};
    use exo_onion::ReplayCache;
    use exo_types::{NodeName, Timestamp};

    use super::*;
    use crate::effect::Input;
    use crate::node::Settings;
    use crate::policy::OnionPolicy;

    #[test]
    fn strangers_that_come_to_join_leave_room_for_members() {
        let now = Now { wall: Timestamp(1_000_000), mono: Duration::ZERO };
        let keypair = |seed| PostQuantumKeypair::from_seed(&[seed; 32]).expect("a key");
        let mut node = Node::new(
            now,
            Settings {
                keypair: Arc::new(keypair(255)),
                name: NodeName::new("lab").expect("a name"),
                addresses: Vec::new(),
                cosigner: exo_crypto::CosignerKeypair::from_seed(&[1; 32])
                    .expect("a key")
                    .public()
                    .clone(),
                founding_voters: 4,
                keyring: KemKeyring::generate(now.wall).expect("keys"),
                replays: ReplayCache::new(),
                onion: OnionPolicy::default(),
                collections: Vec::new(),
                state: None,
                decided: None,
                entropy: Box::new(|bytes| bytes.fill(7)),
            },
        )
        .expect("a node");
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        node.invite(now, 60_000, false, &[address]).expect("an invite");
        while node.poll_effect().is_some() {}
        for stranger in 0..=JOINERS_PENDING_MAX {
            let key = keypair(u8::try_from(stranger).expect("few")).public().clone();
            let session = SessionId(stranger as u64);
            let exporter = [0; 32];
            let up =
                Input::SessionUp { session, key, dialled: false, purpose: Purpose::Join, exporter };
            node.handle(now, up);
            let closed = std::iter::from_fn(|| node.poll_effect())
                .any(|effect| matches!(effect, Effect::Close { .. }));
            assert_eq!(closed, stranger == JOINERS_PENDING_MAX, "stranger {stranger}");
        }
    }
}
