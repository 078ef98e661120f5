//! What happens when: one queue for the whole simulation, and each node's own clocks.

use std::collections::BTreeMap;
use std::time::Duration;

use exo_types::{Now, PeerId, TermStats, Timestamp};

use super::net::{ConnId, HostId, Side, Stream};
use crate::effect::{CallFailure, CallId, JobId, Purpose};

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A node's timer.
    Wake { host: HostId, life: u32 },
    /// A dial arrives at the node that should answer.
    Handshake { from: HostId, life: u32, to: HostId, expect: PeerId, purpose: Purpose },
    /// A dial has failed.
    DialFails { host: HostId, life: u32, peer: PeerId, purpose: Purpose, refused: bool },
    /// A node is told of a connection.
    Up { conn: ConnId, side: Side },
    /// A request arrives.
    Request { stream: Stream, bytes: Vec<u8> },
    /// An answer arrives.
    Response { stream: Stream, bytes: Vec<u8> },
    /// A call ends without an answer.
    CallFails { host: HostId, life: u32, call: CallId, why: CallFailure },
    /// An end that drains is closed.
    Drained { conn: ConnId, side: Side, code: u32 },
    /// The other side's close, or silence, arrives at an end.
    Ends { conn: ConnId, side: Side, code: Option<u32> },
    /// A node is told that a session is over.
    Down { conn: ConnId, side: Side, code: Option<u32> },
    /// The substrate has found something, or counted.
    Found { host: HostId, life: u32, job: JobId, found: Found },
    /// A crashed node starts again.
    Restart { host: HostId },
    /// A cut path is whole again.
    Mend { from: HostId, to: HostId },
    /// The next fault.
    Fault,
    /// People look at their nodes.
    People,
    /// Somebody asks something.
    Question,
    /// An attacker does something.
    Attack,
    /// Connections that have been silent too long are looked for.
    Silence,
}

/// What the substrate gives.
#[derive(Debug)]
pub(crate) enum Found {
    Hits(Result<Vec<exo_types::Leg>, String>),
    Terms(Result<TermStats, String>),
}

/// What will happen, in order; what is due at one moment happens in the order it was set.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: BTreeMap<(Duration, u64), Happening>,
    next: u64,
}

impl Queue {
    pub(crate) fn at(&mut self, at: Duration, what: Happening) {
        self.next += 1;
        self.waiting.insert((at, self.next), what);
    }

    pub(crate) fn pop(&mut self) -> Option<(Duration, Happening)> {
        self.waiting.pop_first().map(|((at, _), what)| (at, what))
    }

    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// Whether a message, a handshake or a search is on its way.
    pub(crate) fn in_flight(&self) -> bool {
        use Happening::{Down, Ends, Found, Handshake, Request, Response, Up};
        self.waiting.values().any(|what| {
            matches!(
                what,
                Request { .. }
                    | Response { .. }
                    | Handshake { .. }
                    | Up { .. }
                    | Ends { .. }
                    | Down { .. }
                    | Found { .. }
            )
        })
    }
}

/// One node's clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    /// When the present life began, on the simulation's clock.
    pub(crate) started: Duration,
    /// How far the wall clock is off, milliseconds.
    pub(crate) skew: i64,
}

impl Clocks {
    /// The node's two clocks at a moment of the simulation.
    pub(crate) fn at(&self, now: Duration) -> Now {
        let true_wall = START.0.saturating_add(now.as_millis() as u64);
        Now {
            wall: Timestamp(true_wall.saturating_add_signed(self.skew)),
            mono: now.saturating_sub(self.started),
        }
    }
}

/// Wall-clock time when a simulation begins.
const START: Timestamp = Timestamp(1_800_000_000_000);
