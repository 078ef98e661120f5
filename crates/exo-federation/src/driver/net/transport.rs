//! The bounds of QUIC: windows, streams, timeouts, address validation and stateless resets.
//!
//! The library's defaults suit a public web server; a node talks to a few hundred known peers and
//! bounds what each may make it hold.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac, rand};
use exo_crypto::{Label, PostQuantumKeypair, SharedSecret, kdf};
use exo_types::limits::{CONNECTION_WINDOW_BYTES, HANDSHAKE_TIMEOUT_MILLIS, STREAM_WINDOW_BYTES};
use quinn::congestion::BbrConfig;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{
    BloomTokenLog, ClientConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout,
    ServerConfig, TransportConfig, ValidationTokenConfig, VarInt,
};
use quinn_proto::InvalidCid;

use super::admission::NetLimits;

/// Settings of the socket. Its keys come from the identity, so that after a restart the node knows
/// the connection ids of its former life and resets those connections at once (RFC 9000 section
/// 10.3), rather than leave its peers to wait for a timeout.
pub(super) fn endpoint_config(identity: &PostQuantumKeypair) -> EndpointConfig {
    let seed = SharedSecret::take(&mut { *identity.expose_seed() });
    let reset = kdf(&seed, Label::RESET_KEY, b"token");
    let ids = kdf(&seed, Label::RESET_KEY, b"connection-id");
    let ids = hmac::Key::new(hmac::HMAC_SHA256, ids.expose());
    let reset = hmac::Key::new(hmac::HMAC_SHA256, reset.expose());
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(move || Box::new(ConnectionIds { key: ids.clone() }));
    config.min_reset_interval(RESET_INTERVAL_MIN);
    config
}

/// What this node grants to whoever dials it.
pub(super) fn server_config(
    tls: rustls::ServerConfig,
    identity: &PostQuantumKeypair,
    limits: &NetLimits,
) -> Result<ServerConfig, NoInitialCipherSuite> {
    let seed = SharedSecret::take(&mut { *identity.expose_seed() });
    let key = kdf(&seed, Label::ADDRESS_TOKEN_KEY, &[]);
    let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(key.expose());
    let crypto = Arc::new(QuicServerConfig::try_from(tls)?);
    let mut tokens = ValidationTokenConfig::default();
    tokens.lifetime(ADDRESS_TOKEN_LIFE);
    tokens.log(Arc::new(BloomTokenLog::new_expected_items(
        ADDRESS_TOKEN_LOG_BYTES_MAX,
        ADDRESS_TOKENS_EXPECTED,
    )));
    let mut config = ServerConfig::new(crypto, Arc::new(token_key));
    config
        .transport_config(Arc::new(transport(limits, None)))
        .validation_token_config(tokens)
        .retry_token_lifetime(RETRY_TOKEN_LIFE)
        .max_incoming(limits.pending_max)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES * limits.pending_max as u64);
    Ok(config)
}

/// What this node grants to a peer it dials. The dialling side keeps the connection alive.
pub(super) fn client_config(
    tls: rustls::ClientConfig,
    limits: &NetLimits,
) -> Result<ClientConfig, NoInitialCipherSuite> {
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport(limits, Some(limits.idle_timeout / 3))));
    Ok(config)
}

fn transport(limits: &NetLimits, keep_alive: Option<Duration>) -> TransportConfig {
    // By what arrives and not by what is lost: over a long way that loses some datagrams at random, or lets
    // them overtake each other, a window that shrinks with every loss leaves next to nothing.
    let mut congestion = BbrConfig::default();
    congestion.initial_window(INITIAL_WINDOW_BYTES);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(limits.streams_max.into())
        // A lane is allowed when the peer has been judged.
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES as u32))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES as u32))
        .send_window(CONNECTION_WINDOW_BYTES as u64)
        .max_idle_timeout(Some(idle_timeout(limits.idle_timeout)))
        .keep_alive_interval(keep_alive)
        .initial_mtu(INITIAL_DATAGRAM_BYTES)
        .initial_rtt(INITIAL_ROUND_TRIP)
        .packet_threshold(OVERTAKEN_BY_MAX)
        .congestion_controller_factory(Arc::new(congestion));
    config
}

/// An idle timeout too long for the wire is as good as the longest one.
fn idle_timeout(timeout: Duration) -> IdleTimeout {
    timeout.try_into().unwrap_or_else(|_| VarInt::MAX.into())
}

/// Makes connection ids that the node recognises as its own after a restart: eight random bytes and
/// four of their authentication code, so that stray packets do not make it send resets.
///
/// Eight random bytes keep an id from coming back while its reset token may be known (RFC 9000
/// section 10.3.2).
struct ConnectionIds {
    key: hmac::Key,
}

impl ConnectionIds {
    fn code(&self, nonce: &[u8]) -> [u8; CID_CODE_BYTES] {
        let tag = hmac::sign(&self.key, nonce);
        let mut code = [0; CID_CODE_BYTES];
        code.copy_from_slice(&tag.as_ref()[..CID_CODE_BYTES]);
        code
    }
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CID_NONCE_BYTES + CID_CODE_BYTES];
        let (nonce, code) = id.split_at_mut(CID_NONCE_BYTES);
        // Without randomness TLS fails before an id matters; a repeated id is drawn again by quinn.
        let _ = rand::fill(nonce);
        code.copy_from_slice(&self.code(nonce));
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        match id.split_at_checked(CID_NONCE_BYTES) {
            Some((nonce, code)) if code == self.code(nonce) => Ok(()),
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        CID_NONCE_BYTES + CID_CODE_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

const CID_NONCE_BYTES: usize = 8;
const CID_CODE_BYTES: usize = 4;

/// The largest datagram that fits every IPv6 path: 1280 less the headers of IPv6 and UDP (RFC 8200
/// section 5). More than the 1200 of QUIC gives an accepting side more to send before it has
/// validated the address: three times the two datagrams that a hybrid ClientHello takes must hold its
/// ML-DSA-65 flight, or the handshake costs another round trip.
const INITIAL_DATAGRAM_BYTES: u16 = 1232;
/// Round trip that is assumed before one is measured: what is lost of a handshake is sent again after three of
/// them (RFC 9002 section 6.2.2). QUIC's third of a second would have half of the handshakes over a way that
/// loses one datagram in twenty take a second longer.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(100);
/// How many later datagrams may overtake one before it counts as lost; what is really lost shows an eighth of a
/// round trip later (RFC 9002 section 6.1). QUIC's three mistake a way whose delay varies for one that loses
/// things, and send much of what arrives a second time, ever more slowly.
const OVERTAKEN_BY_MAX: u32 = 64;
/// Bytes under way before the first acknowledgement: a view change with its certificate and the NEW-VIEW of a
/// few voters, so that they do not take several times the way.
const INITIAL_WINDOW_BYTES: u64 = 64 * 1024;
/// Shortest pause between two stateless resets: after a restart each peer needs one.
const RESET_INTERVAL_MIN: Duration = Duration::from_millis(5);
/// Bytes that are kept of a handshake between its first packet and the decision to begin it.
const INCOMING_BUFFER_BYTES: u64 = 8 * 1024;
/// How long a caller may use the token of a Retry: while it is ignored for want of room it comes back
/// with the same one, and an expired token would end its handshake.
const RETRY_TOKEN_LIFE: Duration = Duration::from_secs(30);
/// How long a peer that has been here may skip address validation.
const ADDRESS_TOKEN_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Memory for the record of used address tokens.
const ADDRESS_TOKEN_LOG_BYTES_MAX: usize = 64 * 1024;
/// Address tokens that are used in one lifetime: each member reconnects twice an hour.
const ADDRESS_TOKENS_EXPECTED: u64 = 16 * 1024;
const _: () = assert!(RETRY_TOKEN_LIFE.as_millis() as u64 > 2 * HANDSHAKE_TIMEOUT_MILLIS);
const _: () = assert!(STREAM_WINDOW_BYTES <= u32::MAX as usize);
const _: () = assert!(CONNECTION_WINDOW_BYTES <= u32::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(seed: u8) -> ConnectionIds {
        ConnectionIds { key: hmac::Key::new(hmac::HMAC_SHA256, &[seed; 32]) }
    }

    #[test]
    fn a_node_knows_its_ids_after_a_restart_and_nobody_elses() {
        let id = ids(1).generate_cid();
        assert!(ids(1).validate(&id).is_ok());
        assert!(ids(2).validate(&id).is_err());
        for at in 0..id.len() {
            let mut other = id.to_vec();
            other[at] ^= 1;
            assert!(ids(1).validate(&ConnectionId::new(&other)).is_err(), "{at}");
        }
        assert!(ids(1).validate(&ConnectionId::new(&id[..8])).is_err());
        assert!(ids(1).validate(&ConnectionId::new(&[])).is_err());
    }

    #[test]
    fn ids_differ() {
        assert_ne!(ids(1).generate_cid(), ids(1).generate_cid());
    }
}
