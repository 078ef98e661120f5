//! Which handshakes are begun: bounded in all and per network, and under load only for callers that
//! have shown that they own their address.
//!
//! A handshake costs the accepting side a key encapsulation and a signature before it knows anything
//! about the caller, so the decision is made on the first packet, by its address alone.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exo_types::limits;

use super::metric;

/// The bounds of an endpoint. The default is that of [`exo_types::limits`].
#[derive(Clone, Debug)]
pub struct NetLimits {
    /// Handshakes in progress, in all.
    pub pending_max: usize,
    /// Handshakes in progress above which a caller must first validate its address.
    pub pending_retry: usize,
    /// Handshakes in progress from one network without a validated address.
    pub pending_unvalidated_per_network_max: usize,
    /// Handshakes in progress from one network with a validated address.
    pub pending_per_network_max: usize,
    /// Connections in all, dialled and accepted, in whatever state; above it callers are ignored. The
    /// node closes what it does not want well before; this only keeps memory bounded if it does not.
    pub connections_max: usize,
    /// Connections that wait for [`Endpoint::accept`](super::Endpoint::accept).
    pub ready_max: usize,
    /// Requests a peer may have open at once on one connection.
    pub streams_max: u32,
    /// Bytes of requests being received or answered, on one connection; at least one request's.
    pub request_bytes_max: usize,
    /// Bytes of answers being received, on the node; at least one frame's.
    pub answer_bytes_max: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// How long a connection may be silent.
    pub idle_timeout: Duration,
    /// How long a peer may take to send a request.
    pub request_read_timeout: Duration,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            pending_max: limits::CONNECTIONS_PENDING_MAX,
            pending_retry: limits::CONNECTIONS_PENDING_RETRY,
            pending_unvalidated_per_network_max:
                limits::CONNECTIONS_PENDING_UNVALIDATED_PER_NETWORK_MAX,
            pending_per_network_max: limits::CONNECTIONS_PENDING_PER_NETWORK_MAX,
            connections_max: limits::SESSIONS_MAX + limits::CONNECTIONS_PENDING_MAX,
            ready_max: limits::CONNECTIONS_READY_MAX,
            streams_max: limits::STREAMS_PER_CONNECTION_MAX,
            request_bytes_max: limits::REQUEST_BYTES_PER_CONNECTION_MAX,
            answer_bytes_max: limits::ANSWER_BYTES_IN_FLIGHT_MAX,
            handshake_timeout: Duration::from_millis(limits::HANDSHAKE_TIMEOUT_MILLIS),
            idle_timeout: Duration::from_millis(limits::IDLE_TIMEOUT_MILLIS),
            request_read_timeout: Duration::from_millis(limits::REQUEST_READ_TIMEOUT_MILLIS),
        }
    }
}

/// What is done about a first packet.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Begin the handshake; the slot is held until it is over.
    Begin(Slot),
    /// Answer with a Retry, which costs no state (RFC 9000 section 8.1.2).
    Validate,
    /// Answer nothing; an honest caller sends again.
    Ignore,
}

/// Counts the handshakes in progress.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    limits: NetLimits,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    networks: HashMap<Network, PerNetwork>,
}

#[derive(Debug, Default)]
struct PerNetwork {
    validated: usize,
    unvalidated: usize,
}

impl Admission {
    pub(super) fn new(limits: NetLimits) -> Self {
        Self { limits, counts: Arc::default() }
    }

    /// Decides about a first packet from `address`.
    pub(super) fn decide(&self, address: IpAddr, validated: bool) -> Verdict {
        let network = Network::of(address);
        let mut counts = lock(&self.counts);
        let total = counts.total;
        let (here_validated, here_unvalidated) =
            counts.networks.get(&network).map_or((0, 0), |n| (n.validated, n.unvalidated));
        // Anyone can write another's address on a packet, so handshakes without a validated address
        // never use up what the address's owner may have.
        let limits = &self.limits;
        if !validated
            && (total >= limits.pending_retry
                || here_unvalidated >= limits.pending_unvalidated_per_network_max)
        {
            return Verdict::Validate;
        }
        if total >= limits.pending_max
            || (validated && here_validated >= limits.pending_per_network_max)
        {
            return Verdict::Ignore;
        }
        counts.total += 1;
        metric::pending(counts.total);
        *counts.networks.entry(network).or_default().count(validated) += 1;
        Verdict::Begin(Slot { counts: self.counts.clone(), network, validated })
    }
}

/// One handshake in progress; dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Slot {
    counts: Arc<Mutex<Counts>>,
    network: Network,
    validated: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.total -= 1;
        metric::pending(counts.total);
        if let Some(here) = counts.networks.get_mut(&self.network) {
            *here.count(self.validated) -= 1;
            if here.validated + here.unvalidated == 0 {
                counts.networks.remove(&self.network);
            }
        }
    }
}

impl PerNetwork {
    fn count(&mut self, validated: bool) -> &mut usize {
        if validated { &mut self.validated } else { &mut self.unvalidated }
    }
}

/// Who is counted together: one IPv4 address, or one IPv6 /64, which is what one site holds at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Network(IpAddr);

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) => Self(v4),
            IpAddr::V6(v6) => {
                let prefix = u128::from(v6) & !u128::from(u64::MAX);
                Self(IpAddr::V6(Ipv6Addr::from(prefix)))
            }
        }
    }
}

/// The counts are consistent after every statement that could panic, so a poisoned lock is usable.
fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        Admission::new(NetLimits {
            pending_max: 10,
            pending_retry: 5,
            pending_unvalidated_per_network_max: 2,
            pending_per_network_max: 3,
            ..NetLimits::default()
        })
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn begin(admission: &Admission, address: IpAddr, validated: bool) -> Slot {
        match admission.decide(address, validated) {
            Verdict::Begin(slot) => slot,
            other => panic!("{address}: {other:?}"),
        }
    }

    #[test]
    fn a_quiet_node_begins_at_once_and_a_busy_one_asks_for_validation() {
        let admission = admission();
        let slots: Vec<_> = (0..5).map(|i| begin(&admission, ip(i), false)).collect();
        assert!(matches!(admission.decide(ip(9), false), Verdict::Validate));
        let _validated = begin(&admission, ip(9), true);
        drop(slots);
        let _quiet_again = begin(&admission, ip(10), false);
    }

    #[test]
    fn forged_packets_do_not_use_up_what_the_address_owner_may_have() {
        let admission = admission();
        let _forged: Vec<_> = (0..2).map(|_| begin(&admission, ip(1), false)).collect();
        assert!(matches!(admission.decide(ip(1), false), Verdict::Validate));
        let _owner: Vec<_> = (0..3).map(|_| begin(&admission, ip(1), true)).collect();
        assert!(matches!(admission.decide(ip(1), true), Verdict::Ignore));
        let _other = begin(&admission, ip(2), true);
    }

    #[test]
    fn the_total_is_bounded_and_every_slot_comes_back() {
        let admission = admission();
        let slots: Vec<_> = (0..10).map(|i| begin(&admission, ip(i), true)).collect();
        assert!(matches!(admission.decide(ip(99), true), Verdict::Ignore));
        assert!(matches!(admission.decide(ip(99), false), Verdict::Validate));
        drop(slots);
        let counts = lock(&admission.counts);
        assert_eq!((counts.total, counts.networks.len()), (0, 0));
    }

    #[test]
    fn one_site_is_one_network() {
        let of = |text: &str| Network::of(text.parse().expect("an address"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.2"), of("192.0.2.1"));
    }
}
