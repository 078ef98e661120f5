//! The onion packet of exo-federation: a question travels through at most five members, each of which
//! learns its two neighbours and nothing more; the answer comes back over the same streams.
//!
//! One packet, one reply, and no circuit to link two questions by. Every packet is of one of two lengths
//! and every reply of one of three, whatever the path and the position on it. Each hop has its own
//! X-Wing encapsulation, authenticates header and payload, and takes no packet twice. The format is in
//! `docs/protocol/onion.md`, its reasons in `docs/adr/0006`.
//!
//! The asker calls [`select_path`], [`wrap`], and [`ReplyKeys::open`] for each chunk that comes back. A
//! member calls [`peel_layer`], and then either sends the packet on and puts its layer on the reply
//! ([`RelayReply`]), or answers ([`ReplySealer`]).
//!
//! # Requirements
//!
//! - Time and randomness are arguments: a clock within a few seconds of the others', and a source that
//!   nobody can predict. Encapsulation alone uses the operating system's source, inside exo-crypto.
//! - The links between neighbours are encrypted and authenticated: [`Relay::from`] is who sent the packet.
//! - One [`ReplayCache`] for as long as the sealing keys are kept: saved when the node stops
//!   ([`ReplayCache::to_bytes`]), and after a crash begun with [`ReplayCache::restarted`].
//! - Whoever gets a [`Dropped`] ends the stream without a word, the same way for every cause; whoever
//!   takes a packet lets the neighbour answer for it (rate limits are not here).
//! - A packet is sent once. After a failure a new one is built over another path.
//! - Keys and members in a path come from statements that their members signed and the caller trusts.
//!
//! # Provided
//!
//! - Who does not hold the secret key of a hop learns nothing of what is behind it: neither the content,
//!   nor the path, nor how long it is, as long as ML-KEM-768 or X25519 holds.
//! - A changed bit anywhere in a packet ends it at the next honest hop; so do a replay, an old packet,
//!   and one that names this hop itself, the neighbour it came from, or somebody unknown as the next.
//! - The reply is unreadable and unalterable on its way, and a relay's failure looks like an answer to
//!   everybody but the asker, who learns which member gave up.
//! - Any bytes give a value or an error, in bounded memory: [`OnionMessage::from_bytes`], [`peel_layer`],
//!   [`RelayReply::layer`], [`ReplyKeys::open`]. The cache never grows past its bound.
//! - Keys are erased when they have done their work; `Debug` shows no key, no content and no member of a
//!   packet; tags are compared in constant time.
//!
//! # Not provided
//!
//! - Anonymity against who watches all links, or the first relay and the target at once: times and volumes
//!   match. Delays and cover packets are here, their schedule is the caller's.
//! - Protection from intersection over many questions, from a federation whose members are one person, or
//!   from a member that drops packets. With five members no format hides anybody among many.
//! - Secrecy of the question before the target, or of sizes beyond their class.
//! - Knowledge of who altered a reply: the asker sees that somebody on the path did.
//! - Forward secrecy within a sealing epoch: who steals an epoch's key opens that hop's layer of packets
//!   recorded in it.
//! - Loops of three and more hops are not seen by those who relay them; a packet ends after five hops.

#[cfg(feature = "craft")]
pub mod craft;
mod dropped;
mod keys;
mod message;
mod path;
mod peel;
mod random;
mod replay;
mod reply;
mod routing;
mod wrap;

pub use dropped::{DropReason, Dropped};
pub use message::{
    HEADER_BYTES, OnionHeader, OnionMessage, PREFIX_BYTES, PacketClass, ROUTING_BYTES, SLOT_BYTES,
    SLOTS_BYTES, TAG_BYTES, VERSION,
};
pub use path::{Candidate, Diversity, PathError, PathRules, first_relays, select_path};
pub use peel::{Cover, Delivery, Forward, Peeled, Relay, peel_layer};
pub use random::Random;
pub use replay::{DamagedCache, ReplayCache};
pub use reply::{
    AnswerTooLong, LayerError, RelayReply, Reply, ReplyClass, ReplyError, ReplyFailure, ReplyKeys,
    ReplyOutcome, ReplySealer,
};
pub use wrap::{Hop, Request, WrapError, wrap};
