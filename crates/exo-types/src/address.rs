//! Where a peer is reached.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::PeerId;
use crate::limits::HOST_BYTES_MAX;
use crate::name::NameError;

/// A peer's address: host (name or IP), UDP port, and whose key must answer there.
///
/// In text `host:port` or `peer@host:port`; an IPv6 host stands in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerAddress {
    /// Who must answer there; `None` until the key is known.
    pub peer: Option<PeerId>,
    /// Host name or IP address, at most [`HOST_BYTES_MAX`] bytes, without brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
}

impl PeerAddress {
    /// Checks and builds an address.
    pub fn new(peer: Option<PeerId>, host: &str, port: u16) -> Result<Self, NameError> {
        const KIND: &str = "host";
        if host.is_empty() {
            return Err(NameError::Empty { kind: KIND });
        }
        if host.len() > HOST_BYTES_MAX {
            return Err(NameError::TooLong { kind: KIND, max: HOST_BYTES_MAX, actual: host.len() });
        }
        let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_' | '%');
        if let Some(found) = host.chars().find(|c| !ok(*c)) {
            return Err(NameError::Character {
                kind: KIND,
                found,
                allowed: "a host name or an IP",
            });
        }
        Ok(Self { peer, host: host.to_owned(), port })
    }

    /// Checks an address that came from the wire.
    pub fn check(&self) -> Result<(), NameError> {
        Self::new(self.peer, &self.host, self.port).map(|_| ())
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(peer) = &self.peer {
            write!(f, "{peer}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for PeerAddress {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let malformed = || NameError::Encoding { kind: "peer address (host:port)" };
        let (peer, rest) = match text.split_once('@') {
            Some((peer, rest)) => (Some(peer.parse()?), rest),
            None => (None, text),
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().map_err(|_| malformed())?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(malformed)?,
            None if host.contains(':') => return Err(malformed()),
            None => host,
        };
        Self::new(peer, host, port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_round_trip() {
        let peer = PeerId::new([1; 32]);
        for text in ["127.0.0.1:7001", "[::1]:7001", "node.example:1", &format!("{peer}@[::1]:9")] {
            let address: PeerAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for text in ["", "host", ":1", "a:b", "::1:7", "[::1:7", "h/x:1", "x@h:1", "h:70000"] {
            assert!(text.parse::<PeerAddress>().is_err(), "{text}");
        }
    }
}
