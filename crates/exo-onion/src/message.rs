//! The packet as it travels: its two sizes, its header, and where its parts lie.

use std::fmt;

use exo_crypto::kem::KEM_CIPHERTEXT_BYTES;
use exo_types::limits::{
    ONION_HEADER_BYTES_MAX, ONION_HOPS_MAX, ONION_PACKET_LARGE_BYTES, ONION_PACKET_SMALL_BYTES,
};
use zeroize::{Zeroize, Zeroizing};

use crate::dropped::{DropReason, Dropped};

/// An onion packet: [`PacketClass::packet_bytes`] bytes, whatever the path and the position on it.
pub struct OnionMessage {
    class: PacketClass,
    bytes: Box<[u8]>,
}

impl OnionMessage {
    /// Takes a packet as it came from a neighbour.
    ///
    /// # Errors
    /// [`Dropped`] for another length, version or class, or reserved bytes in use.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Dropped> {
        let [version, class, reserved @ ..] = match bytes.first_chunk::<4>() {
            Some(first) => *first,
            None => return Err(DropReason::Length.into()),
        };
        if version != VERSION {
            return Err(DropReason::Version.into());
        }
        let class = PacketClass::from_wire(class).ok_or(DropReason::Class)?;
        if bytes.len() != class.packet_bytes() {
            return Err(DropReason::Length.into());
        }
        if reserved != [0; 2] {
            return Err(DropReason::Reserved.into());
        }
        Ok(Self { class, bytes: bytes.into_boxed_slice() })
    }

    /// A packet of zeros, to be filled.
    pub(crate) fn empty(class: PacketClass) -> Self {
        Self { class, bytes: vec![0; class.packet_bytes()].into_boxed_slice() }
    }

    /// Its size class.
    pub fn class(&self) -> PacketClass {
        self.class
    }

    /// The packet for the next link.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The packet for the next link, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes.into_vec()
    }

    /// Its header.
    pub fn header(&self) -> OnionHeader<'_> {
        OnionHeader { bytes: &self.bytes[..HEADER_BYTES] }
    }

    /// The bytes that the keys of a hop are bound to.
    pub(crate) fn prefix(&self) -> [u8; PREFIX_BYTES] {
        let mut prefix = [0; PREFIX_BYTES];
        prefix.copy_from_slice(&self.bytes[..PREFIX_BYTES]);
        prefix
    }

    pub(crate) fn set_prefix(&mut self, prefix: &[u8; PREFIX_BYTES]) {
        self.bytes[..PREFIX_BYTES].copy_from_slice(prefix);
    }

    /// Takes the tag out; zeros stand in its place, as when it was computed.
    pub(crate) fn take_tag(&mut self) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        tag.swap_with_slice(&mut self.bytes[TAG_AT..TAG_AT + TAG_BYTES]);
        tag
    }

    pub(crate) fn set_tag(&mut self, tag: &[u8; TAG_BYTES]) {
        self.bytes[TAG_AT..TAG_AT + TAG_BYTES].copy_from_slice(tag);
    }

    pub(crate) fn set_ciphertext(&mut self, ciphertext: &[u8; KEM_CIPHERTEXT_BYTES]) {
        self.bytes[CIPHERTEXT_AT..SLOTS_AT].copy_from_slice(ciphertext);
    }

    /// The slots, and as many zeros behind them as a hop takes away in front.
    pub(crate) fn padded_slots(&self) -> Zeroizing<[u8; PADDED_SLOTS_BYTES]> {
        let mut slots = Zeroizing::new([0; PADDED_SLOTS_BYTES]);
        slots[..SLOTS_BYTES].copy_from_slice(self.header().slots());
        slots
    }

    pub(crate) fn slots_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[SLOTS_AT..HEADER_BYTES]
    }

    pub(crate) fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[HEADER_BYTES..]
    }

    /// Puts the ciphertext of the first slot and the slots behind it into place.
    pub(crate) fn advance(&mut self, opened: &[u8; PADDED_SLOTS_BYTES]) {
        self.bytes[CIPHERTEXT_AT..HEADER_BYTES].copy_from_slice(&opened[ROUTING_BYTES..]);
    }

    /// Undoes [`advance`](Self::advance) up to the bytes that are pushed out at the end: the first slot
    /// is left with the ciphertext in it and its routing block unset.
    pub(crate) fn retreat(&mut self) {
        let from = CIPHERTEXT_AT..HEADER_BYTES - SLOT_BYTES;
        self.bytes.copy_within(from, SLOTS_AT + ROUTING_BYTES);
    }

    /// Overwrites a packet whose payload is in the clear.
    pub(crate) fn erase(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for OnionMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnionMessage({} bytes)", self.bytes.len())
    }
}

/// The first [`HEADER_BYTES`] bytes of a packet: what one hop reads of it, and what it cannot read.
#[derive(Clone, Copy)]
pub struct OnionHeader<'a> {
    bytes: &'a [u8],
}

impl<'a> OnionHeader<'a> {
    /// Which of its receiver's sealing epochs the packet is for.
    pub fn epoch(&self) -> u32 {
        let epoch: &[u8] = &self.bytes[EPOCH_AT..PREFIX_BYTES];
        epoch.iter().fold(0, |epoch, byte| epoch << 8 | u32::from(*byte))
    }

    /// The authentication code over the whole packet.
    pub fn tag(&self) -> &'a [u8] {
        &self.bytes[TAG_AT..TAG_AT + TAG_BYTES]
    }

    /// The X-Wing ciphertext for this hop.
    pub fn ciphertext(&self) -> &'a [u8] {
        &self.bytes[CIPHERTEXT_AT..SLOTS_AT]
    }

    /// The enciphered slots of this hop and those behind it, used or not.
    pub fn slots(&self) -> &'a [u8] {
        &self.bytes[SLOTS_AT..]
    }
}

impl fmt::Debug for OnionHeader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnionHeader").field("epoch", &self.epoch()).finish_non_exhaustive()
    }
}

/// The two sizes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PacketClass {
    /// 8 KiB.
    Small,
    /// 16 KiB.
    Large,
}

impl PacketClass {
    /// All, the smallest first.
    pub const ALL: [Self; 2] = [Self::Small, Self::Large];

    /// Length of the packet, bytes.
    pub const fn packet_bytes(self) -> usize {
        match self {
            Self::Small => ONION_PACKET_SMALL_BYTES,
            Self::Large => ONION_PACKET_LARGE_BYTES,
        }
    }

    /// Length of the payload, bytes.
    pub const fn payload_bytes(self) -> usize {
        self.packet_bytes() - HEADER_BYTES
    }

    /// Longest content that a packet carries to its last hop, bytes.
    pub const fn content_bytes_max(self) -> usize {
        self.payload_bytes() - LENGTH_BYTES
    }

    /// The smallest class that carries so many bytes of content.
    pub fn for_content(bytes: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|class| bytes <= class.content_bytes_max())
    }

    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::Small => 0,
            Self::Large => 1,
        }
    }

    const fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Small),
            1 => Some(Self::Large),
            _ => None,
        }
    }
}

/// The first bytes of a packet of this class for a receiver's epoch.
pub(crate) fn prefix(class: PacketClass, epoch: u32) -> [u8; PREFIX_BYTES] {
    let [a, b, c, d] = epoch.to_be_bytes();
    [VERSION, class.to_wire(), 0, 0, a, b, c, d]
}

/// The version of the format, in the first byte.
pub const VERSION: u8 = 1;
/// Length of version, class, reserved bytes and epoch.
pub const PREFIX_BYTES: usize = 8;
/// Length of an authentication code, bytes.
pub const TAG_BYTES: usize = 16;
/// Length of a routing block, bytes.
pub const ROUTING_BYTES: usize = 64;
/// Length of a slot, bytes: a routing block and the next hop's ciphertext.
pub const SLOT_BYTES: usize = ROUTING_BYTES + KEM_CIPHERTEXT_BYTES;
/// Length of all slots, bytes. The last hop's is a routing block alone.
pub const SLOTS_BYTES: usize = (ONION_HOPS_MAX - 1) * SLOT_BYTES + ROUTING_BYTES;
/// Length of a header, bytes.
pub const HEADER_BYTES: usize = SLOTS_AT + SLOTS_BYTES;
/// Length of the slots and of what a hop puts behind them, bytes.
pub(crate) const PADDED_SLOTS_BYTES: usize = SLOTS_BYTES + SLOT_BYTES;
/// Length of the number that says how long the content is, bytes.
pub(crate) const LENGTH_BYTES: usize = 4;

const EPOCH_AT: usize = 4;
const TAG_AT: usize = PREFIX_BYTES;
const CIPHERTEXT_AT: usize = TAG_AT + TAG_BYTES;
const SLOTS_AT: usize = CIPHERTEXT_AT + KEM_CIPHERTEXT_BYTES;

const _: () = assert!(SLOT_BYTES == 1184 && SLOTS_BYTES == 4800 && HEADER_BYTES == 5944);
const _: () = assert!(HEADER_BYTES <= ONION_HEADER_BYTES_MAX);
const _: () = assert!(PacketClass::Small.payload_bytes() == 2248);
const _: () = assert!(PacketClass::Large.payload_bytes() == 10_440);
