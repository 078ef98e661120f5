//! Why a packet went no further: one face for the wire, a cause for the counters.

use std::fmt;

/// A packet was dropped. This is all that may be told outside: close the stream without a word, the same
/// way for every cause.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Dropped(DropReason);

impl Dropped {
    /// The cause, for this node's counters alone. It names nobody.
    pub fn reason(self) -> DropReason {
        self.0
    }
}

impl From<DropReason> for Dropped {
    fn from(reason: DropReason) -> Self {
        Self(reason)
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the packet was dropped")
    }
}

impl fmt::Debug for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dropped")
    }
}

impl std::error::Error for Dropped {}

/// Declares the causes with their names as metric labels.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The cause of a drop, to count it by. Never sent, and never logged beside a packet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason {
            $($(#[$doc])* $name,)*
        }

        impl DropReason {
            /// All causes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The cause as a metric label.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// Not the length of its class.
    Length = "length",
    /// A version that is not spoken here.
    Version = "version",
    /// A class that does not exist.
    Class = "class",
    /// Reserved bytes of the header are in use.
    Reserved = "reserved",
    /// No key is held for its epoch, or no longer.
    Epoch = "epoch",
    /// Its encapsulation is not valid.
    Encapsulation = "encapsulation",
    /// Its authentication code does not hold.
    Tag = "tag",
    /// It was here before.
    Replayed = "replayed",
    /// So many packets are remembered that no more are taken.
    Full = "full",
    /// Its routing block is malformed.
    Routing = "routing",
    /// Its time is over, or it may have been here before the last start.
    Expired = "expired",
    /// It would live longer than it would be remembered.
    TooLong = "too-long",
    /// It asks to be held back for too long.
    Delay = "delay",
    /// It names this node as the next.
    ToSelf = "to-self",
    /// It names the neighbour that it came from as the next.
    Bounce = "bounce",
    /// It names a next hop that this node does not forward to.
    Unknown = "unknown",
    /// Its content is malformed.
    Content = "content",
}
