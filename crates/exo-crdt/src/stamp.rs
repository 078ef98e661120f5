//! When and by whom something was written: hybrid logical time, then the author.

use std::fmt;

use exo_types::limits::STAMP_MILLIS_MAX;
use exo_types::{PeerId, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in hybrid logical time (Kulkarni et al. 2014): milliseconds since the epoch in 48 bits and a
/// counter in 16. Eight big-endian bytes on the wire. The counter overflows into the milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hlc(u64);

impl Hlc {
    /// The first point.
    pub const ZERO: Self = Self(0);
    /// The last point.
    pub const MAX: Self = Self(u64::MAX);

    /// The first point of a millisecond; the last millisecond for one that cannot be named.
    pub fn at(wall: Timestamp) -> Self {
        Self(wall.0.min(STAMP_MILLIS_MAX) << COUNTER_BITS)
    }

    /// A point by its milliseconds and counter.
    pub fn new(millis: u64, counter: u16) -> Self {
        Self(millis.min(STAMP_MILLIS_MAX) << COUNTER_BITS | u64::from(counter))
    }

    /// The point as one number, milliseconds in the upper 48 bits.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The point of a number from [`to_bits`](Self::to_bits).
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The next point; `None` after the last.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.millis(), self.0 & 0xffff)
    }
}

impl Serialize for Hlc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.to_be_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Hlc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <[u8; 8]>::deserialize(deserializer).map(|bytes| Self(u64::from_be_bytes(bytes)))
    }
}

/// The order of writes: time, then author. Two writes of one stamp are told apart by their values'
/// canonical bytes, so that no join depends on who joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// When.
    pub time: Hlc,
    /// By whom.
    pub author: PeerId,
}

impl Stamp {
    /// A stamp.
    pub const fn new(time: Hlc, author: PeerId) -> Self {
        Self { time, author }
    }
}

const COUNTER_BITS: u32 = 16;
