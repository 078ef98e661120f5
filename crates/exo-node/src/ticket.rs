//! The ticket that invites one node: read from a file or standard input, never from an argument.
//!
//! In text `exo1` and base32 with a six-character checksum (the bech32m code of BIP 350 over a
//! longer text): 134 characters with one IPv4 address.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{ByteIterExt, Fe32IterExt, Hrp};
use exo_types::{FederationId, PeerId, Timestamp};
use serde::{Deserialize, Serialize};

/// An invitation to one federation by one member, good once and for a time.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The first half of the federation's id; the joiner checks the genesis it is given against it.
    pub federation: [u8; FEDERATION_TAG_BYTES],
    /// Who invites: the only key the joiner talks to.
    pub inviter: PeerId,
    /// Shown once to the inviter.
    pub secret: [u8; INVITE_SECRET_BYTES],
    /// When it ends; whole seconds.
    pub expires: Timestamp,
    /// Where the inviter is reached, 1 to [`TICKET_ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
}

/// Why a ticket's text was refused. It says where to look, never the ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not a ticket, or a character of it is wrong.
    #[error("the ticket's text or checksum is wrong")]
    Text,
    /// Made by another version.
    #[error("the ticket has version {0}, this node reads version {TICKET_VERSION}")]
    Version(u8),
    /// The content breaks off or is out of bounds.
    #[error("the ticket's content is out of bounds")]
    Content,
}

impl Ticket {
    /// Whether it invites to this federation.
    pub fn is_for(&self, federation: &FederationId) -> bool {
        federation.as_bytes()[..FEDERATION_TAG_BYTES] == self.federation
    }

    /// The tag of a federation as tickets carry it.
    pub fn tag(federation: &FederationId) -> [u8; FEDERATION_TAG_BYTES] {
        let mut tag = [0; FEDERATION_TAG_BYTES];
        tag.copy_from_slice(&federation.as_bytes()[..FEDERATION_TAG_BYTES]);
        tag
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![TICKET_VERSION];
        bytes.extend(self.federation);
        bytes.extend(self.inviter.as_bytes());
        bytes.extend(self.secret);
        let seconds = u32::try_from(self.expires.0 / 1000).unwrap_or(u32::MAX);
        bytes.extend(seconds.to_be_bytes());
        let addresses = self.addresses.iter().take(TICKET_ADDRESSES_MAX);
        bytes.push(addresses.len() as u8);
        for address in addresses {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend(ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend(ip.octets());
                }
            }
            bytes.extend(address.port().to_be_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, TicketError> {
        let mut reader = Reader(bytes);
        let [version] = reader.take()?;
        if version != TICKET_VERSION {
            return Err(TicketError::Version(version));
        }
        let federation = reader.take()?;
        let inviter = PeerId::new(reader.take()?);
        let secret = reader.take()?;
        let expires = Timestamp(u64::from(u32::from_be_bytes(reader.take()?)) * 1000);
        let [count] = reader.take()?;
        if count == 0 || usize::from(count) > TICKET_ADDRESSES_MAX {
            return Err(TicketError::Content);
        }
        let mut addresses = Vec::new();
        for _ in 0..count {
            let ip = match reader.take()? {
                [4] => IpAddr::from(reader.take::<4>()?),
                [6] => IpAddr::from(reader.take::<16>()?),
                _ => return Err(TicketError::Content),
            };
            addresses.push(SocketAddr::new(ip, u16::from_be_bytes(reader.take()?)));
        }
        if !reader.0.is_empty() {
            return Err(TicketError::Content);
        }
        Ok(Self { federation, inviter, secret, expires, addresses })
    }
}

/// Takes fixed numbers of bytes from the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], TicketError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(TicketError::Content)?;
        self.0 = rest;
        Ok(*head)
    }
}

/// The bech32m checksum over a text longer than an address of BIP 350 may be: the code detects up
/// to four wrong characters within 1,023.
enum TicketChecksum {}

impl bech32::Checksum for TicketChecksum {
    type MidstateRepr = <bech32::Bech32m as bech32::Checksum>::MidstateRepr;
    type CorrectionField = <bech32::Bech32m as bech32::Checksum>::CorrectionField;
    const ROOT_GENERATOR: Self::CorrectionField = bech32::Bech32m::ROOT_GENERATOR;
    const ROOT_EXPONENTS: core::ops::RangeInclusive<usize> = bech32::Bech32m::ROOT_EXPONENTS;
    const CODE_LENGTH: usize = 1023;
    const CHECKSUM_LENGTH: usize = bech32::Bech32m::CHECKSUM_LENGTH;
    const GENERATOR_SH: [Self::MidstateRepr; 5] = bech32::Bech32m::GENERATOR_SH;
    const TARGET_RESIDUE: Self::MidstateRepr = bech32::Bech32m::TARGET_RESIDUE;
}

const HRP: Hrp = Hrp::parse_unchecked("exo");

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.to_bytes();
        let chars = bytes.into_iter().bytes_to_fes().with_checksum::<TicketChecksum>(&HRP);
        f.write_str(&chars.chars().collect::<String>())
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        if text.len() > TICKET_CHARS_MAX {
            return Err(TicketError::Text);
        }
        let checked =
            CheckedHrpstring::new::<TicketChecksum>(text).map_err(|_| TicketError::Text)?;
        if checked.hrp() != HRP {
            return Err(TicketError::Text);
        }
        Self::from_bytes(&checked.byte_iter().collect::<Vec<u8>>())
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket(inviter {}, secret withheld)", self.inviter.short())
    }
}

/// The only version there is.
pub const TICKET_VERSION: u8 = 1;
/// Bytes of the federation's id that a ticket carries.
pub const FEDERATION_TAG_BYTES: usize = 16;
/// Length of an invite's secret, bytes.
pub const INVITE_SECRET_BYTES: usize = 16;
/// Addresses in one ticket.
pub const TICKET_ADDRESSES_MAX: usize = 4;
/// Length of a ticket's text, characters.
pub const TICKET_CHARS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            federation: [1; FEDERATION_TAG_BYTES],
            inviter: PeerId::new([2; 32]),
            secret: [3; INVITE_SECRET_BYTES],
            expires: Timestamp(1_800_000_000_000),
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], 7700))],
        }
    }

    #[test]
    fn the_text_is_frozen() {
        let text = ticket().to_string();
        assert_eq!(text.len(), 134);
        assert_eq!(text, include_str!("../tests/vectors/ticket.txt").trim());
        assert_eq!(text.parse::<Ticket>(), Ok(ticket()));
        assert_eq!(format!("  {}\n", text.to_uppercase()).parse::<Ticket>(), Ok(ticket()));
    }

    #[test]
    fn debug_withholds_the_secret() {
        assert!(!format!("{:?}", ticket()).contains("3, 3"));
    }

    proptest! {
        #[test]
        fn one_wrong_character_is_noticed(at in 4usize..134, with in "[a-z0-9]") {
            let text = ticket().to_string();
            let mut wrong = text.clone();
            wrong.replace_range(at..=at, &with);
            prop_assume!(wrong != text);
            prop_assert!(wrong.parse::<Ticket>().is_err());
        }

        #[test]
        fn any_text_is_refused_without_panic(text in "\\PC*") {
            prop_assert!(text.parse::<Ticket>().is_err());
        }

        #[test]
        fn any_content_round_trips_or_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
            if let Ok(ticket) = Ticket::from_bytes(&bytes) {
                prop_assert_eq!(ticket.to_bytes(), bytes);
            }
        }
    }
}
