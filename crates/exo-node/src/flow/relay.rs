//! Onion packets that neighbours bring: a layer off, then on to the next member, or answered here; and
//! the reply back over the stream that the packet came by.
//!
//! Nothing of a packet is written down. Until its reply has gone a node knows for each packet which
//! stream it came by and two keys; then it forgets both.

use std::time::Duration;

use exo_onion::{
    DropReason, Dropped, Forward, OnionMessage, Peeled, Relay, RelayReply, ReplyFailure, peel_layer,
};
use exo_types::limits::{
    ONION_AWAITED_PER_PEER_MAX, ONION_OWED_MAX, ONION_OWED_PER_PEER_MAX, ONION_REPLY_WAIT_MILLIS,
};
use exo_types::{Now, PeerId, TokenId};

use crate::Node;
use crate::capability::ONION;
use crate::effect::{CallFailure, CallId, Effect, Event, ExchangeId, PacketFate, SessionId};
use crate::flow::CallKind;
use crate::flow::link::Link;
use crate::node::Timer;
use crate::rate::Rate;
use crate::roster::Standing;
use crate::wire::{OnionRequest, Request, Response};

/// What one neighbour's packets have cost of late.
#[derive(Debug)]
pub(crate) struct Neighbour {
    rate: Rate,
    /// Its packets whose reply is owed.
    owed: usize,
}

/// What waits for its time.
#[derive(Debug)]
pub(crate) enum Held {
    /// A packet that is to be sent on.
    Packet { exchange: ExchangeId, forward: Forward },
    /// A packet for a member to which a connection is being made, and until when.
    Awaiting { exchange: ExchangeId, forward: Forward, until: Duration },
    /// A reply that is to be sent back.
    Reply { exchange: ExchangeId, reply: Vec<u8> },
}

impl Node {
    /// A neighbour brings a packet.
    pub(crate) fn onion_request(
        &mut self,
        now: Now,
        session: SessionId,
        exchange: ExchangeId,
        request: OnionRequest,
    ) {
        let from = match self.authorise(now, session, &request.token, ONION) {
            Ok(from) => from,
            Err(refusal) => {
                // Without the event of a refusal, which would be a line in a log.
                let response = Box::new(Response::Refused(refusal));
                return self.effect(Effect::Respond { exchange, response });
            }
        };
        if !self.takes_one_more(now, from) {
            self.effect(Effect::Abandon { exchange });
            return self.fate(PacketFate::Limited);
        }
        match self.peel(now, from, request.packet) {
            Ok(peeled) => {
                self.owing.insert(exchange, from);
                if let Some(neighbour) = self.neighbours.get_mut(&from) {
                    neighbour.owed += 1;
                }
                self.peeled(now, from, exchange, peeled);
            }
            Err(dropped) => {
                self.effect(Effect::Abandon { exchange });
                self.fate(PacketFate::Dropped(dropped.reason()));
            }
        }
    }

    /// Whether a neighbour keeps to its rate and to its share of what is under way.
    fn takes_one_more(&mut self, now: Now, from: PeerId) -> bool {
        let per_second = self.onion.packets_per_second;
        let neighbour = self
            .neighbours
            .entry(from)
            .or_insert_with(|| Neighbour { rate: Rate::new(per_second, now.mono), owed: 0 });
        neighbour.rate.take(now.mono)
            && neighbour.owed < ONION_OWED_PER_PEER_MAX
            && self.owing.len() < ONION_OWED_MAX
    }

    fn peel(&mut self, now: Now, from: PeerId, packet: Vec<u8>) -> Result<Peeled, Dropped> {
        let message = OnionMessage::from_bytes(packet)?;
        let Self { membership, keyring, replays, me, .. } = self;
        let Some(membership) = membership else { return Err(DropReason::Unknown.into()) };
        let forwards_to = |peer: &PeerId| membership.roster.standing(peer) == Standing::Active;
        let relay = Relay { me: *me, from, keyring, forwards_to: &forwards_to };
        peel_layer(message, &relay, replays, now.wall)
    }

    fn peeled(&mut self, now: Now, from: PeerId, exchange: ExchangeId, peeled: Peeled) {
        match peeled {
            Peeled::Forward(forward) if !self.onion.relays => {
                self.give_up(exchange, forward.reply, ReplyFailure::Denied);
            }
            Peeled::Forward(forward) if forward.delay.is_zero() => {
                self.send_on(now, exchange, forward);
            }
            Peeled::Forward(forward) => {
                let at = now.mono + forward.delay;
                self.hold(at, Held::Packet { exchange, forward });
            }
            Peeled::Deliver(delivery) => self.delivered(now, from, exchange, delivery),
            Peeled::Cover(cover) => {
                self.fate(PacketFate::Cover);
                if let Ok(chunks) = cover.reply.answer(&[]) {
                    self.reply_at(now, now.mono + cover.delay, exchange, chunks.concat());
                }
            }
        }
    }

    fn send_on(&mut self, now: Now, exchange: ExchangeId, forward: Forward) {
        let Some((session, token)) = self.way_to(&forward.next) else {
            return self.await_next(now, exchange, forward);
        };
        if self.awaited_over(session) >= ONION_AWAITED_PER_PEER_MAX {
            // Packets whose replies somebody holds back must not take every stream that there is.
            return self.give_up(exchange, forward.reply, ReplyFailure::Unreachable);
        }
        let Forward { message, reply, .. } = forward;
        let request = Request::Onion(OnionRequest { token, packet: message.into_bytes() });
        let call = self.call(session, CallKind::Relay, request, REPLY_WAIT);
        self.relayed.insert(call, (exchange, reply));
        self.fate(PacketFate::Forwarded);
    }

    /// Packets of others that were sent on over a session and whose replies have not come.
    fn awaited_over(&self, session: SessionId) -> usize {
        self.calls.values().filter(|call| **call == (session, CallKind::Relay)).count()
    }

    /// Holds a packet for a moment, unless the next member is known not to be reached.
    fn await_next(&mut self, now: Now, exchange: ExchangeId, forward: Forward) {
        if self.links.get(&forward.next).is_none_or(Link::is_down) {
            return self.give_up(exchange, forward.reply, ReplyFailure::Unreachable);
        }
        self.redial(now, forward.next);
        let until = now.mono + CONNECT_WAIT;
        self.hold(until, Held::Awaiting { exchange, forward, until });
    }

    /// A session with a member is ready, or there will be none: what waits for it goes on or back.
    pub(crate) fn next_decided(&mut self, now: Now, next: PeerId) {
        let waits =
            |held: &Held| matches!(held, Held::Awaiting { forward, .. } if forward.next == next);
        let due: Vec<u64> =
            self.held.iter().filter(|(_, held)| waits(held)).map(|(number, _)| *number).collect();
        for number in due {
            if let Some(Held::Awaiting { exchange, forward, until }) = self.held.remove(&number) {
                self.forget_timer(until, Timer::Held(number));
                match self.way_to(&next) {
                    Some(_) => self.send_on(now, exchange, forward),
                    None => self.give_up(exchange, forward.reply, ReplyFailure::Unreachable),
                }
            }
        }
    }

    /// Members to which packets wait for a connection.
    #[cfg(feature = "sim")]
    pub(crate) fn awaited(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.held.values().filter_map(|held| match held {
            Held::Awaiting { forward, .. } => Some(forward.next),
            Held::Packet { .. } | Held::Reply { .. } => None,
        })
    }

    /// The session in use with a member that takes packets, and the token for it.
    pub(crate) fn way_to(&self, peer: &PeerId) -> Option<(SessionId, TokenId)> {
        let id = *self.by_peer.get(peer)?;
        let session = self.sessions.get(&id).filter(|session| session.ready())?;
        session.agreed.0.contains_key(ONION).then_some(())?;
        Some((id, session.there.as_ref()?.id))
    }

    /// The next hop's reply has come, or will not: it goes back under this node's layer, and what
    /// goes back when there is none looks the same.
    pub(crate) fn relay_answer(
        &mut self,
        call: CallId,
        session: SessionId,
        result: Result<Response, CallFailure>,
    ) {
        let Some((exchange, mut reply)) = self.relayed.remove(&call) else { return };
        let class = reply.class();
        if let Ok(Response::Refused(refusal)) = &result
            && refusal.wants_fresh_token()
        {
            // The epoch has just changed: packets that come from now on find a new one.
            self.ask_token(session);
        }
        if let Ok(Response::Onion(mut chunks)) = result
            && chunks.len() == class.reply_bytes()
            && chunks.chunks_mut(class.chunk_bytes()).all(|chunk| reply.layer(chunk).is_ok())
        {
            self.fate(PacketFate::Returned);
            return self.reply(exchange, chunks);
        }
        self.give_up(exchange, reply, ReplyFailure::Unreachable);
    }

    fn give_up(&mut self, exchange: ExchangeId, reply: RelayReply, failure: ReplyFailure) {
        self.fate(PacketFate::GivenUp);
        self.reply(exchange, reply.fail(failure).concat());
    }

    /// Sends a reply back when its time has come.
    pub(crate) fn reply_at(
        &mut self,
        now: Now,
        at: Duration,
        exchange: ExchangeId,
        reply: Vec<u8>,
    ) {
        if at <= now.mono {
            self.reply(exchange, reply);
        } else {
            self.hold(at, Held::Reply { exchange, reply });
        }
    }

    /// Sends a reply back; nothing of its packet is left.
    fn reply(&mut self, exchange: ExchangeId, reply: Vec<u8>) {
        if let Some(neighbour) =
            self.owing.remove(&exchange).and_then(|from| self.neighbours.get_mut(&from))
        {
            neighbour.owed = neighbour.owed.saturating_sub(1);
        }
        self.effect(Effect::Respond { exchange, response: Box::new(Response::Onion(reply)) });
    }

    fn hold(&mut self, at: Duration, held: Held) {
        let number = self.number();
        self.held.insert(number, held);
        self.set_timer(at, Timer::Held(number));
    }

    /// Something has been held back for long enough.
    pub(crate) fn held_due(&mut self, now: Now, number: u64) {
        match self.held.remove(&number) {
            Some(Held::Packet { exchange, forward }) => self.send_on(now, exchange, forward),
            Some(Held::Reply { exchange, reply }) => self.reply(exchange, reply),
            Some(Held::Awaiting { exchange, forward, .. }) => {
                self.give_up(exchange, forward.reply, ReplyFailure::Unreachable);
            }
            None => {}
        }
    }

    /// Forgets the rates of those who are no neighbours any more.
    pub(crate) fn forget_neighbours(&mut self) {
        let Self { neighbours, by_peer, .. } = self;
        neighbours.retain(|peer, neighbour| neighbour.owed > 0 || by_peer.contains_key(peer));
    }

    pub(crate) fn fate(&mut self, fate: PacketFate) {
        self.event(Event::Onion(fate));
    }
}

/// How long a packet waits for a connection to the next member.
const CONNECT_WAIT: Duration = Duration::from_millis(1_000);
const REPLY_WAIT: Duration = Duration::from_millis(ONION_REPLY_WAIT_MILLIS);
