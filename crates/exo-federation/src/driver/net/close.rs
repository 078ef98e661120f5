//! Why a connection ended, in words a person can act on.

use exo_types::limits::CLOSE_REASON_BYTES_MAX;
use quinn::ConnectionError;

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The other side refused this node in the handshake. It says no more than that: the key is not
    /// admitted there, or the two have no protocol version in common.
    #[error("the peer refused the connection")]
    Refused,
    /// The other side begins no connection now: it is stopping or full. It says nothing of this node.
    #[error("the peer takes no connections at present")]
    Unavailable,
    /// The other side closed the connection.
    #[error("the peer closed the connection with code {code}: {reason}")]
    ByPeer {
        /// The code it gave.
        code: u64,
        /// The reason it gave, printable ASCII alone, cut to
        /// [`CLOSE_REASON_BYTES_MAX`](exo_types::limits::CLOSE_REASON_BYTES_MAX).
        reason: String,
    },
    /// This node closed the connection.
    #[error("this node closed the connection")]
    Here,
    /// The other side has no memory of the connection: it restarted (RFC 9000 section 10.3).
    #[error("the peer has restarted")]
    Restarted,
    /// Nothing was heard for too long.
    #[error("the peer has been silent for too long")]
    TimedOut,
    /// One side broke the rules of the transport.
    #[error("the connection failed: {0}")]
    Failed(String),
}

impl From<ConnectionError> for CloseReason {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ConnectionClosed(close) => match tls_alert(close.error_code) {
                Some(_) => Self::Refused,
                // Said before the handshake, whoever calls (RFC 9000 section 5.2).
                None if close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED => {
                    Self::Unavailable
                }
                None => Self::Failed(format!(
                    "the peer reports {}: {}",
                    close.error_code,
                    printable(&close.reason)
                )),
            },
            ConnectionError::ApplicationClosed(close) => Self::ByPeer {
                code: close.error_code.into_inner(),
                reason: printable(&close.reason),
            },
            ConnectionError::Reset => Self::Restarted,
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::LocallyClosed => Self::Here,
            ConnectionError::TransportError(error) => Self::Failed(error.to_string()),
            ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => {
                Self::Failed(error.to_string())
            }
        }
    }
}

/// The TLS alert in a transport error code (RFC 9001 section 4.8); `None` for any other error.
pub(super) fn tls_alert(code: quinn::TransportErrorCode) -> Option<u8> {
    let code = u64::from(code);
    (0x100..0x200).contains(&code).then_some((code & 0xff) as u8)
}

/// A peer's text made safe for a log line: bounded, printable ASCII.
fn printable(text: &[u8]) -> String {
    text.iter()
        .take(CLOSE_REASON_BYTES_MAX)
        .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_reason_is_bounded_and_cannot_forge_a_log_line() {
        let close = quinn::ApplicationClose {
            error_code: 7u32.into(),
            reason: [b"a\nb\x1b[31m\xff ".as_slice(), &[b'x'; 5000]].concat().into(),
        };
        let reason = CloseReason::from(ConnectionError::ApplicationClosed(close));
        let CloseReason::ByPeer { code: 7, reason } = reason else { panic!("{reason:?}") };
        assert!(reason.starts_with("a?b?[31m? xx"), "{reason}");
        assert_eq!(reason.len(), CLOSE_REASON_BYTES_MAX);
    }
}
