//! A member's side: take one layer off a packet that a neighbour sent.

use std::fmt;
use std::time::Duration;

use exo_crypto::{KemCiphertext, KemEpoch, KemKeyring};
use exo_types::{PeerId, Timestamp};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::dropped::{DropReason, Dropped};
use crate::keys::HopKeys;
use crate::message::{LENGTH_BYTES, OnionMessage, ROUTING_BYTES, prefix};
use crate::replay::ReplayCache;
use crate::reply::{RelayReply, ReplySealer};
use crate::routing::{Action, Routing};

/// The member that a packet came to.
pub struct Relay<'a> {
    /// Its id.
    pub me: PeerId,
    /// The neighbour that the packet came from.
    pub from: PeerId,
    /// Its sealing keys.
    pub keyring: &'a KemKeyring,
    /// Whether it forwards to a member: one that it knows and has not removed.
    pub forwards_to: &'a dyn Fn(&PeerId) -> bool,
}

/// What to do with a packet whose layer is off.
#[derive(Debug)]
pub enum Peeled {
    /// Wait, then send it on.
    Forward(Forward),
    /// Wait, then answer what it carries.
    Deliver(Delivery),
    /// Wait, then answer with nothing, like an answer: the packet only covers others.
    Cover(Cover),
}

/// A packet to send on.
pub struct Forward {
    /// To whom.
    pub next: PeerId,
    /// The packet.
    pub message: OnionMessage,
    /// How long to hold it back first.
    pub delay: Duration,
    /// What to do with the reply: keep this with the stream that the packet came by, and nothing else.
    pub reply: RelayReply,
}

/// A packet that is for this member.
pub struct Delivery {
    /// What somebody asks.
    pub content: Zeroizing<Vec<u8>>,
    /// How long to hold the answer back.
    pub delay: Duration,
    /// Seals the answer.
    pub reply: ReplySealer,
}

/// A packet that is for this member and carries nothing.
pub struct Cover {
    /// How long to hold the answer back.
    pub delay: Duration,
    /// Seals the empty answer.
    pub reply: ReplySealer,
}

/// Takes one layer off, in the order of the protocol document: nothing is decided by bytes that are not
/// yet authenticated, except which key to try.
///
/// # Errors
/// [`Dropped`]: end the packet's stream without a word.
pub fn peel_layer(
    mut message: OnionMessage,
    relay: &Relay<'_>,
    seen: &mut ReplayCache,
    now: Timestamp,
) -> Result<Peeled, Dropped> {
    // 1. The key of its epoch, and the keys of this hop.
    let epoch = KemEpoch(u64::from(message.header().epoch()));
    let pair = relay.keyring.pair(epoch, now).ok_or(DropReason::Epoch)?;
    let ciphertext = message.header().ciphertext();
    let ciphertext = KemCiphertext::from_bytes(ciphertext).ok_or(DropReason::Encapsulation)?;
    let secret = pair.decapsulate(&ciphertext).map_err(|_| DropReason::Encapsulation)?;
    let keys = HopKeys::derive(&secret, &relay.me, &message.prefix());

    // 2. The tag, over header and payload.
    let tag = message.take_tag();
    if !bool::from(keys.tag(message.as_bytes()).ct_eq(&tag)) {
        return Err(DropReason::Tag.into());
    }

    // 3. Only now is it worth remembering.
    seen.insert(&keys.replay_tag(), now)?;

    // 4. The routing block. What the zeros become is the slot that this hop puts behind the others.
    let mut slots = message.padded_slots();
    keys.apply_header(slots.as_mut_slice());
    let block: &[u8; ROUTING_BYTES] = slots.first_chunk().ok_or(DropReason::Routing)?;
    let routing = Routing::decode(block)?;
    seen.check_expiry(routing.expiry, now)?;
    check_next(&routing.action, relay)?;

    // 5. The payload.
    keys.apply_payload(message.payload_mut());

    // 6. What the next hop gets, or what is for this one.
    let delay = Duration::from_millis(u64::from(routing.delay_millis));
    let reply = keys.into_reply();
    let own = |end| ReplySealer::new(routing.reply, end, 0);
    match routing.action {
        Action::Forward { next, tag, epoch } => {
            message.advance(&slots);
            message.set_prefix(&prefix(message.class(), epoch));
            message.set_tag(&tag);
            let reply = RelayReply::new(routing.reply, reply);
            Ok(Peeled::Forward(Forward { next, message, delay, reply }))
        }
        Action::Deliver => {
            let content = content(message)?;
            Ok(Peeled::Deliver(Delivery { content, delay, reply: own(reply.end) }))
        }
        Action::Cover => Ok(Peeled::Cover(Cover { delay, reply: own(reply.end) })),
    }
}

/// A longer loop than these does not show: the layers of one packet have nothing in common.
fn check_next(action: &Action, relay: &Relay<'_>) -> Result<(), DropReason> {
    let Action::Forward { next, .. } = action else { return Ok(()) };
    if *next == relay.me {
        Err(DropReason::ToSelf)
    } else if *next == relay.from {
        Err(DropReason::Bounce)
    } else if (relay.forwards_to)(next) {
        Ok(())
    } else {
        Err(DropReason::Unknown)
    }
}

/// The content of a payload in the clear: a length, so many bytes, zeros to the end.
fn content(mut message: OnionMessage) -> Result<Zeroizing<Vec<u8>>, DropReason> {
    let content = message
        .payload_mut()
        .split_first_chunk::<LENGTH_BYTES>()
        .and_then(|(len, rest)| rest.split_at_checked(u32::from_be_bytes(*len) as usize))
        .filter(|(_, padding)| padding.iter().all(|byte| *byte == 0))
        .map(|(content, _)| Zeroizing::new(content.to_vec()));
    message.erase();
    content.ok_or(DropReason::Content)
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("delay", &self.delay).finish_non_exhaustive()
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("delay", &self.delay).finish_non_exhaustive()
    }
}

impl fmt::Debug for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cover").field("delay", &self.delay).finish_non_exhaustive()
    }
}

impl fmt::Debug for Relay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}
