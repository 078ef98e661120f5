//! The network driver: one UDP socket per node that is client and server at once, QUIC (RFC 9000)
//! over it, and TLS 1.3 with post-quantum keys on both sides.
//!
//! - `tls`: which keys and algorithms are accepted, and what is not provided.
//! - `transport`: the bounds of QUIC.
//! - `admission`: which incoming handshakes are begun, which must validate their address first, which
//!   are ignored.
//! - [`Endpoint`]: bind, connect, accept.
//! - [`EncryptedChannel`]: one connection to one proven peer; requests and answers on its streams.
//! - [`Lane`], [`LaneWriter`]: long-lived streams each way, for messages that have no answer.
//! - `frame`: a length and that many bytes.
//! - [`parts`]: the configurations an endpoint is made of, to be measured.
//!
//! Membership is not decided here: [`BindConfig::admit`] is a gate in the handshake, and the caller
//! checks the peer again by [`EncryptedChannel::purpose`] after it accepts a channel.

mod admission;
mod channel;
mod close;
mod endpoint;
mod frame;
mod lane;
mod metric;
pub mod parts;
mod request;
mod tls;
mod transport;

pub use admission::NetLimits;
pub use channel::{EncryptedChannel, ExporterError, Traffic};
pub use close::CloseReason;
pub use endpoint::{BindConfig, BindError, ConnectError, Endpoint};
pub use frame::{FrameError, read_frame_from};
pub use lane::{Lane, LaneFrame, LaneKind, LaneLost, LaneMessage, LaneReader, LaneWriter};
pub use request::{Answer, IncomingRequest, RequestError, RespondError, Responder};
pub use tls::Admit;

/// What a connection is for. It travels as the application protocol of TLS (ALPN, RFC 7301), so the
/// wire version is settled with it; a peer that knows neither name is refused in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Traffic between members.
    Member,
    /// A joiner that presents an invite.
    Join,
}

impl Purpose {
    /// Every purpose, in the order a node prefers them.
    pub const ALL: [Self; 2] = [Self::Member, Self::Join];

    /// The name on the wire.
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Member => b"exo/1",
            Self::Join => b"exo-join/1",
        }
    }

    /// The purpose with this name on the wire.
    pub fn from_alpn(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.alpn() == name)
    }
}
