//! The JSON shapes of the API and of `--json`. Their names are frozen: fields are added, never
//! renamed, and a change of meaning takes a new schema number.

use serde::{Deserialize, Serialize};

pub(crate) mod collection;
pub(crate) mod decision;
pub(crate) mod node;
pub(crate) mod peer;
pub(crate) mod query;
pub(crate) mod record;
pub(crate) mod shared;

/// A document with its schema in front, for answers that are one thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Document<T> {
    /// Name and number of the shape, for example `exo.status/1`.
    pub(crate) schema: String,
    /// The thing.
    #[serde(flatten)]
    pub(crate) body: T,
}

impl<T> Document<T> {
    /// Names the shape of a thing.
    pub(crate) fn new(schema: &str, body: T) -> Self {
        Self { schema: schema.to_owned(), body }
    }
}

/// A failure as RFC 9457 has it, with the stable code and the remedy beside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Problem {
    /// `urn:exo:error:CODE`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// What the code means, the same for every occurrence.
    pub(crate) title: String,
    /// The HTTP status again.
    pub(crate) status: u16,
    /// What happened this time.
    pub(crate) detail: String,
    /// The stable code; `exo errors CODE` explains it.
    pub(crate) code: String,
    /// What to do about it.
    pub(crate) remedy: String,
    /// Whether the same request may succeed later.
    pub(crate) retryable: bool,
}

/// A point in time as RFC 3339, UTC.
pub(crate) fn rfc3339(time: exo_types::Timestamp) -> String {
    i64::try_from(time.0)
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map_or_else(|| "9999-12-31T23:59:59Z".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_never_fail() {
        assert_eq!(rfc3339(exo_types::Timestamp(1_750_000_000_000)), "2025-06-15T15:06:40Z");
        assert_eq!(rfc3339(exo_types::Timestamp(u64::MAX)), "9999-12-31T23:59:59Z");
    }
}
