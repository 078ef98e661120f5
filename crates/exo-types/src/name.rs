//! Names that people choose: of nodes, collections and records. Checked once, at the edge.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{
    COLLECTION_NAME_BYTES_MAX, NODE_NAME_BYTES_MAX, ORGANISATION_NAME_BYTES_MAX,
    RECORD_ID_BYTES_MAX,
};

/// Why a name or an identifier in text form was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("a {kind} cannot be empty")]
    Empty {
        /// What was being named.
        kind: &'static str,
    },
    /// The name is longer than its bound.
    #[error("a {kind} has at most {max} bytes, this one has {actual}")]
    TooLong {
        /// What was being named.
        kind: &'static str,
        /// The bound, bytes.
        max: usize,
        /// The length found, bytes.
        actual: usize,
    },
    /// The name holds a character that is not allowed.
    #[error("a {kind} cannot contain {found:?}; allowed: {allowed}")]
    Character {
        /// What was being named.
        kind: &'static str,
        /// The first character refused.
        found: char,
        /// The characters that are allowed, in words.
        allowed: &'static str,
    },
    /// The text form of an identifier does not decode.
    #[error("this is not a {kind}: its length or its characters are wrong")]
    Encoding {
        /// What was expected.
        kind: &'static str,
    },
}

/// Declares a checked name.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:expr, $kind:literal, $allowed:literal, $ok:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps a name.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                if text.is_empty() {
                    return Err(NameError::Empty { kind: $kind });
                }
                if text.len() > $max {
                    return Err(NameError::TooLong { kind: $kind, max: $max, actual: text.len() });
                }
                let ok: fn(char) -> bool = $ok;
                match text.chars().find(|c| !ok(*c)) {
                    Some(found) => {
                        Err(NameError::Character { kind: $kind, found, allowed: $allowed })
                    }
                    None => Ok(Self(text)),
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(d)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// A node's name within its federation: what a person calls the organisation's source.
    NodeName,
    NODE_NAME_BYTES_MAX,
    "node name",
    "letters, digits, '.', '_' and '-'",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
);
name!(
    /// An organisation, which may have several nodes.
    OrganisationName,
    ORGANISATION_NAME_BYTES_MAX,
    "name of an organisation",
    "anything but control characters",
    |c| !c.is_control()
);
name!(
    /// The name of a collection on one node.
    CollectionName,
    COLLECTION_NAME_BYTES_MAX,
    "collection name",
    "letters, digits, '.', '_' and '-'",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
);
name!(
    /// The id of a record within its collection, as its owner gave it.
    RecordId,
    RECORD_ID_BYTES_MAX,
    "record id",
    "anything but control characters",
    |c| !c.is_control()
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_refused_with_the_reason() {
        assert_eq!(NodeName::new(""), Err(NameError::Empty { kind: "node name" }));
        assert!(matches!(NodeName::new("a b"), Err(NameError::Character { found: ' ', .. })));
        assert!(matches!(
            CollectionName::new("x".repeat(65)),
            Err(NameError::TooLong { max: 64, actual: 65, .. })
        ));
        assert!(matches!(CollectionName::new("../etc"), Err(NameError::Character { .. })));
        assert!(RecordId::new("foldoc:12 é").is_ok());
        assert!(matches!(RecordId::new("a\nb"), Err(NameError::Character { found: '\n', .. })));
    }

    #[test]
    fn a_name_from_the_wire_is_checked_too() {
        let bytes = postcard::to_allocvec("a/b").expect("wire");
        assert!(postcard::from_bytes::<NodeName>(&bytes).is_err());
    }
}
