//! The asker's side: the whole packet, all layers, built at once.

use exo_crypto::{KemCiphertext, KemEpoch, KemEpochKey, KemError, SharedSecret, Verified};
use exo_types::limits::{
    ONION_DELAY_MILLIS_MAX, ONION_HOPS_MAX, ONION_LIFE_MILLIS_MAX, ONION_LIFE_MILLIS_MIN,
};
use exo_types::{PeerId, Timestamp};
use zeroize::Zeroizing;

use crate::keys::HopKeys;
use crate::message::{
    LENGTH_BYTES, OnionMessage, PADDED_SLOTS_BYTES, PacketClass, ROUTING_BYTES, SLOT_BYTES,
    SLOTS_BYTES, TAG_BYTES, prefix,
};
use crate::random::{Random, below};
use crate::reply::{ReplyClass, ReplyKeys};
use crate::routing::{Action, Expiry, NEXT_TAG_AT, Routing};

/// A packet to build.
pub struct Request<'a> {
    /// The members on its way, the nearest first; the last one answers.
    pub path: &'a [Hop<'a>],
    /// What the last one is asked; `None` for a packet that only covers others.
    pub content: Option<&'a [u8]>,
    /// The packet's size.
    pub class: PacketClass,
    /// The reply's size.
    pub reply: ReplyClass,
}

/// One member on a path.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// Its sealing key, as it signed it.
    pub key: &'a Verified<KemEpochKey>,
    /// How long it is to hold the packet back, milliseconds; zero unless packets are mixed.
    pub delay_millis: u16,
}

/// Why no packet was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// No hop, or more than a packet has room for.
    #[error("a path of {0} members, where 1 to {max} are possible", max = ONION_HOPS_MAX)]
    Hops(usize),
    /// A member is on the path twice.
    #[error("{0:?} is on the path twice")]
    Repeated(PeerId),
    /// A member's key is not to be used at this time.
    #[error("the sealing key of {peer:?} for epoch {epoch} is not to be used now")]
    Stale {
        /// Whose key.
        peer: PeerId,
        /// Of which epoch.
        epoch: KemEpoch,
    },
    /// A member's epoch number does not fit the packet.
    #[error("the sealing epoch {epoch} of {peer:?} is too high for a packet")]
    Epoch {
        /// Whose epoch.
        peer: PeerId,
        /// The number.
        epoch: KemEpoch,
    },
    /// A member's key is not valid, or there is no randomness.
    #[error("nothing was encapsulated for {peer:?}: {error}")]
    Kem {
        /// Whose key.
        peer: PeerId,
        /// What is wrong with it.
        error: KemError,
    },
    /// A member is asked to hold the packet back for too long.
    #[error("{peer:?} is asked to wait {millis} ms, where {max} are possible", max = ONION_DELAY_MILLIS_MAX)]
    Delay {
        /// Which member.
        peer: PeerId,
        /// The delay asked for, milliseconds.
        millis: u16,
    },
    /// The content does not fit the packet.
    #[error("content of {actual} bytes, where at most {max} fit")]
    ContentTooLong {
        /// What fits, bytes.
        max: usize,
        /// The length given, bytes.
        actual: usize,
    },
    /// The time is past what a packet can say.
    #[error("the time is past what a packet can say")]
    Time,
}

/// Builds a packet for the first member on the path, and what opens its reply.
///
/// A packet is sent once. When it is lost, build another one over another path.
///
/// # Errors
/// [`WrapError`].
pub fn wrap(
    request: &Request<'_>,
    now: Timestamp,
    random: Random<'_>,
) -> Result<(OnionMessage, ReplyKeys), WrapError> {
    let hops = request.path;
    if hops.is_empty() || hops.len() > ONION_HOPS_MAX {
        return Err(WrapError::Hops(hops.len()));
    }
    let payload = payload(request.class, request.content.unwrap_or_default())?;
    let last = match request.content {
        Some(_) => Action::Deliver,
        None => Action::Cover,
    };
    let mut layers = Vec::with_capacity(ONION_HOPS_MAX);
    let mut arrival = now;
    for (at, hop) in hops.iter().enumerate() {
        let peer = hop.key.peer;
        if hops.iter().take(at).any(|earlier| earlier.key.peer == peer) {
            return Err(WrapError::Repeated(peer));
        }
        if hop.delay_millis > ONION_DELAY_MILLIS_MAX {
            return Err(WrapError::Delay { peer, millis: hop.delay_millis });
        }
        let action = match hops.get(at + 1) {
            Some(next) => Action::Forward {
                next: next.key.peer,
                tag: [0; TAG_BYTES],
                epoch: epoch(next.key)?,
            },
            None => last.clone(),
        };
        // Drawn for each hop: hops that shared one would know that they carry the same packet.
        let spread = ONION_LIFE_MILLIS_MAX - ONION_LIFE_MILLIS_MIN + 1;
        let life = ONION_LIFE_MILLIS_MIN + below(random, spread);
        let expiry = Expiry::at_or_after(arrival.plus_millis(life)).ok_or(WrapError::Time)?;
        let delay_millis = hop.delay_millis;
        let routing = Routing { action, reply: request.reply, delay_millis, expiry };
        layers.push(Layer::seal(request.class, hop.key, now, routing.encode())?);
        // Hops that did not know how far they are would see it in what is left of the packet's life.
        arrival = arrival.plus_millis(u64::from(hop.delay_millis));
    }
    let message = assemble(request.class, &layers, &payload, random);
    let pairs = layers.into_iter().map(|layer| (layer.peer, layer.keys.into_reply()));
    Ok((message, ReplyKeys::new(request.reply, pairs)))
}

/// What one hop gets.
pub(crate) struct Layer {
    pub(crate) peer: PeerId,
    pub(crate) epoch: u32,
    pub(crate) ciphertext: KemCiphertext,
    pub(crate) keys: HopKeys,
    /// Its routing block, but for the next tag.
    pub(crate) block: [u8; ROUTING_BYTES],
}

impl Layer {
    fn seal(
        class: PacketClass,
        key: &Verified<KemEpochKey>,
        now: Timestamp,
        block: [u8; ROUTING_BYTES],
    ) -> Result<Self, WrapError> {
        let peer = key.peer;
        if !key.usable_at(now) {
            return Err(WrapError::Stale { peer, epoch: key.epoch });
        }
        let epoch = epoch(key)?;
        let (ciphertext, secret) =
            key.key.encapsulate().map_err(|error| WrapError::Kem { peer, error })?;
        Ok(Self::new(class, peer, epoch, ciphertext, &secret, block))
    }

    pub(crate) fn new(
        class: PacketClass,
        peer: PeerId,
        epoch: u32,
        ciphertext: KemCiphertext,
        secret: &SharedSecret,
        block: [u8; ROUTING_BYTES],
    ) -> Self {
        let keys = HopKeys::derive(secret, &peer, &prefix(class, epoch));
        Self { peer, epoch, ciphertext, keys, block }
    }
}

/// Puts the layers around the payload, the last hop's first. `layers` has 1 to [`ONION_HOPS_MAX`]
/// entries and `payload` is of the class's length.
pub(crate) fn assemble(
    class: PacketClass,
    layers: &[Layer],
    payload: &[u8],
    random: Random<'_>,
) -> OnionMessage {
    let streams: Vec<_> = layers.iter().map(header_stream).collect();
    let mut message = OnionMessage::empty(class);
    message.payload_mut().copy_from_slice(payload);
    // The last hop's slots: its block, random bytes for those that the path does not use, and what the
    // hops before it will have put behind them.
    let filler = filler(&streams[..layers.len().saturating_sub(1)]);
    let (used, behind) = message.slots_mut().split_at_mut(SLOTS_BYTES - filler.len());
    random(used);
    behind.copy_from_slice(&filler);
    let mut next_tag: Option<[u8; TAG_BYTES]> = None;
    for (layer, stream) in layers.iter().zip(&streams).rev() {
        let mut enciphered = SLOTS_BYTES;
        let mut block = layer.block;
        if let Some(tag) = next_tag {
            message.retreat();
            block[NEXT_TAG_AT..NEXT_TAG_AT + TAG_BYTES].copy_from_slice(&tag);
        } else {
            enciphered -= filler.len();
        }
        let slots = message.slots_mut();
        slots[..ROUTING_BYTES].copy_from_slice(&block);
        combine(&mut slots[..enciphered], stream);
        layer.keys.apply_payload(message.payload_mut());
        message.set_prefix(&prefix(class, layer.epoch));
        message.set_ciphertext(layer.ciphertext.as_bytes());
        message.set_tag(&[0; TAG_BYTES]);
        let tag = layer.keys.tag(message.as_bytes());
        message.set_tag(&tag);
        next_tag = Some(tag);
    }
    message
}

/// A hop's stream over its slots and the one that it puts behind them.
fn header_stream(layer: &Layer) -> Zeroizing<Vec<u8>> {
    let mut stream = Zeroizing::new(vec![0; PADDED_SLOTS_BYTES]);
    layer.keys.apply_header(&mut stream);
    stream
}

/// What hops that take a layer off leave behind the slots, each having gone through the streams of those
/// after it (Danezis & Goldberg 2009, section 3.2).
fn filler(streams: &[Zeroizing<Vec<u8>>]) -> Zeroizing<Vec<u8>> {
    let mut filler = Zeroizing::new(Vec::with_capacity(SLOTS_BYTES));
    for stream in streams {
        let len = filler.len() + SLOT_BYTES;
        filler.resize(len, 0);
        let from = stream.len() - len;
        combine(&mut filler, &stream[from..]);
    }
    filler
}

fn combine(bytes: &mut [u8], stream: &[u8]) {
    bytes.iter_mut().zip(stream).for_each(|(byte, stream)| *byte ^= stream);
}

/// A length, the content, zeros to the end.
fn payload(class: PacketClass, content: &[u8]) -> Result<Zeroizing<Vec<u8>>, WrapError> {
    let (max, actual) = (class.content_bytes_max(), content.len());
    if actual > max {
        return Err(WrapError::ContentTooLong { max, actual });
    }
    let mut payload = Zeroizing::new(Vec::with_capacity(class.payload_bytes()));
    payload.extend_from_slice(&(actual as u32).to_be_bytes());
    payload.extend_from_slice(content);
    payload.resize(class.payload_bytes(), 0);
    Ok(payload)
}

fn epoch(key: &KemEpochKey) -> Result<u32, WrapError> {
    let error = WrapError::Epoch { peer: key.peer, epoch: key.epoch };
    u32::try_from(key.epoch.0).map_err(|_| error)
}

const _: () = assert!(PacketClass::Small.content_bytes_max() + LENGTH_BYTES == 2248);
