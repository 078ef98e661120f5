//! Identifiers. Each is its own type: a view is never taken for an epoch, nor a peer for a key.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD_NOCASE, Encoding, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};

use crate::name::NameError;

/// Declares an identifier of a fixed number of bytes with its text form.
macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $encoding:expr, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Wraps the raw bytes.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first eight characters of the text form: enough for a person, never for a check.
            pub fn short(&self) -> String {
                let mut text = self.to_string();
                text.truncate(8);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&$encoding.encode(&self.0).to_ascii_lowercase())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let encoding: &Encoding = &$encoding;
                let bytes = encoding
                    .decode(text.as_bytes())
                    .map_err(|_| NameError::Encoding { kind: $kind })?;
                let bytes = bytes.try_into().map_err(|_| NameError::Encoding { kind: $kind })?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() {
                    s.collect_str(self)
                } else {
                    self.0.serialize(s)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    let text = String::deserialize(d)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; $len]>::deserialize(d).map(Self)
                }
            }
        }
    };
}

bytes_id!(
    /// A member: SHA-256 over a label and its ML-DSA-65 public key, so that a name proves itself.
    /// In text 52 characters of lower-case base32 (RFC 4648, no padding).
    PeerId, 32, BASE32_NOPAD_NOCASE, "peer id"
);
bytes_id!(
    /// A federation: SHA-256 over its genesis. In text 52 characters of lower-case base32.
    FederationId, 32, BASE32_NOPAD_NOCASE, "federation id"
);
bytes_id!(
    /// One query of one asker; 16 random bytes, hexadecimal in text. Never the same for two sources.
    QueryId, 16, HEXLOWER_PERMISSIVE, "query id"
);
bytes_id!(
    /// One federation token; 16 random bytes, hexadecimal in text.
    TokenId, 16, HEXLOWER_PERMISSIVE, "token id"
);

/// Number of a membership epoch: it grows by one with every change of the roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of a federation's genesis.
    pub const GENESIS: Self = Self(0);

    /// The epoch after this one; `None` past the last number.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a view: which voting member leads. It begins at zero with every epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct View(pub u64);

impl View {
    /// The view in which an epoch begins.
    pub const FIRST: Self = Self(0);

    /// The view after this one; the last number has itself.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Place of a batch in the order of commits, counted over all epochs; zero is before the first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sequence(pub u64);

impl Sequence {
    /// Before the first batch.
    pub const ZERO: Self = Self(0);

    /// The place after this one; the last number has itself.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// This place and `count` further; stays at the last number rather than wrap.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// How many places this one is after `earlier`; zero when it is before.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_ignores_case() {
        let id = PeerId::new(core::array::from_fn(|i| i as u8));
        let text = id.to_string();
        assert_eq!(text.len(), 52);
        assert_eq!(text, text.to_lowercase());
        assert_eq!(text.parse::<PeerId>(), Ok(id));
        assert_eq!(text.to_uppercase().parse::<PeerId>(), Ok(id));
    }

    #[test]
    fn a_wrong_length_or_alphabet_is_refused() {
        for text in ["", "abc", "0".repeat(52).as_str(), "a".repeat(53).as_str()] {
            assert!(text.parse::<PeerId>().is_err(), "{text}");
        }
        assert!("zz".repeat(16).parse::<QueryId>().is_err());
    }

    #[test]
    fn json_is_text_and_the_wire_is_bytes() {
        let id = QueryId::new([7; 16]);
        assert_eq!(serde_json::to_string(&id).expect("json"), format!("\"{id}\""));
        assert_eq!(postcard::to_allocvec(&id).expect("wire"), vec![7; 16]);
    }

    #[test]
    fn the_last_epoch_has_no_successor() {
        assert_eq!(Epoch(u64::MAX).next(), None);
        assert_eq!(Epoch::GENESIS.next(), Some(Epoch(1)));
    }
}
