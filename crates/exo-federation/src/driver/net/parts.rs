//! What an endpoint is made of, piece by piece, to be measured: how much of a connection is the
//! handshake, how much QUIC, and what other keys would cost in the same place.
//!
//! Nothing made of these pieces becomes an [`Endpoint`](super::Endpoint): that takes an identity and
//! bounds, and makes its own pieces by the same functions.

use std::sync::{Arc, OnceLock};

use exo_crypto::PostQuantumKeypair;
use exo_types::PeerId;

use super::admission::NetLimits;
use super::endpoint::BindError;
use super::tls::{Admit, TlsIdentity};
use super::{Purpose, transport};

/// The TLS configuration with which an endpoint is dialled.
///
/// # Errors
/// [`BindError::Tls`] when the library refuses the identity key.
pub fn tls_server(
    identity: &PostQuantumKeypair,
    admit: Admit,
) -> Result<rustls::ServerConfig, BindError> {
    TlsIdentity::new(identity).and_then(|tls| tls.server_config(admit)).map_err(refused)
}

/// The TLS configuration with which an endpoint dials `expect`.
///
/// # Errors
/// [`BindError::Tls`] when the library refuses the identity key.
pub fn tls_client(
    identity: &PostQuantumKeypair,
    expect: PeerId,
    purpose: Purpose,
) -> Result<rustls::ClientConfig, BindError> {
    let found = Arc::new(OnceLock::new());
    TlsIdentity::new(identity)
        .and_then(|tls| tls.client_config(expect, purpose, found))
        .map_err(refused)
}

/// What an endpoint grants to whoever dials it, over any TLS configuration.
///
/// # Errors
/// [`BindError::Tls`] when the configuration lacks the cipher suite of QUIC's first packets.
pub fn quic_server(
    tls: rustls::ServerConfig,
    identity: &PostQuantumKeypair,
    limits: &NetLimits,
) -> Result<quinn::ServerConfig, BindError> {
    transport::server_config(tls, identity, limits)
        .map_err(|error| BindError::Tls(error.to_string()))
}

/// What an endpoint grants to a peer it dials, over any TLS configuration.
///
/// # Errors
/// [`BindError::Tls`] when the configuration lacks the cipher suite of QUIC's first packets.
pub fn quic_client(
    tls: rustls::ClientConfig,
    limits: &NetLimits,
) -> Result<quinn::ClientConfig, BindError> {
    transport::client_config(tls, limits).map_err(|error| BindError::Tls(error.to_string()))
}

/// The settings of an endpoint's socket.
pub fn quic_socket(identity: &PostQuantumKeypair) -> quinn::EndpointConfig {
    transport::endpoint_config(identity)
}

// By value, for `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn refused(error: rustls::Error) -> BindError {
    BindError::Tls(error.to_string())
}
