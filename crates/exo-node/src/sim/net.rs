//! The simulated network: connections, their two ends, and the paths between nodes.
//!
//! It keeps to what QUIC promises: what arrives was sent, whole, by the peer of the connection; each
//! request has a stream of its own, so requests overtake each other; nothing arrives on an end that
//! is closed; what a partition holds up arrives after it, unless the connection died of silence.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::effect::{CallId, ExchangeId, Purpose, SessionId};

/// A node's place in the simulation.
pub(crate) type HostId = usize;

/// A connection between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnId(pub(crate) u64);

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Dialler,
    Acceptor,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }
}

/// How an end stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndState {
    /// The handshake is over, the node has not been told.
    Pending,
    Up,
    /// Over; the node knows or is about to.
    Down,
}

#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) host: HostId,
    /// Which life of the host: a restarted node has none of its connections.
    pub(crate) life: u32,
    pub(crate) session: SessionId,
    pub(crate) state: EndState,
    /// Its node was told that the other end is silent.
    pub(crate) silent: bool,
}

impl End {
    pub(crate) fn new(host: HostId, life: u32, session: SessionId, state: EndState) -> Self {
        Self { host, life, session, state, silent: false }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Conn {
    pub(crate) purpose: Purpose,
    pub(crate) exporter: [u8; 32],
    pub(crate) dialler: End,
    pub(crate) acceptor: End,
    /// Found over at the last look; gone at the next.
    pub(crate) over: bool,
}

impl Conn {
    pub(crate) fn end(&self, side: Side) -> &End {
        match side {
            Side::Dialler => &self.dialler,
            Side::Acceptor => &self.acceptor,
        }
    }

    pub(crate) fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::Dialler => &mut self.dialler,
            Side::Acceptor => &mut self.acceptor,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.dialler.state == EndState::Down && self.acceptor.state == EndState::Down
    }
}

/// A request on its stream: who asked, and under which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stream {
    pub(crate) conn: ConnId,
    pub(crate) asker: Side,
    pub(crate) call: CallId,
}

/// Every connection that is not over on both ends, and the streams that wait for an answer.
#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) conns: BTreeMap<ConnId, Conn>,
    next_conn: u64,
    pub(crate) paths: Paths,
}

impl Net {
    pub(crate) fn open(&mut self, conn: Conn) -> ConnId {
        self.next_conn += 1;
        let id = ConnId(self.next_conn);
        self.conns.insert(id, conn);
        id
    }

    pub(crate) fn end(&self, conn: ConnId, side: Side) -> Option<&End> {
        Some(self.conns.get(&conn)?.end(side))
    }

    pub(crate) fn is_up(&self, conn: ConnId, side: Side) -> bool {
        self.end(conn, side).is_some_and(|end| end.state == EndState::Up)
    }

    /// The connection and side behind a node's session.
    pub(crate) fn find(
        &self,
        host: HostId,
        life: u32,
        session: SessionId,
    ) -> Option<(ConnId, Side)> {
        let is = |end: &End| end.host == host && end.life == life && end.session == session;
        self.conns.iter().find_map(|(id, conn)| {
            let side =
                [Side::Dialler, Side::Acceptor].into_iter().find(|side| is(conn.end(*side)))?;
            Some((*id, side))
        })
    }

    /// Every end of a host that is not down.
    pub(crate) fn ends_of(&self, host: HostId) -> Vec<(ConnId, Side)> {
        let mut ends = Vec::new();
        for (id, conn) in &self.conns {
            for side in [Side::Dialler, Side::Acceptor] {
                let end = conn.end(side);
                if end.host == host && end.state != EndState::Down {
                    ends.push((*id, side));
                }
            }
        }
        ends
    }

    /// Forgets connections that were over already when this was last called.
    pub(crate) fn forget_over(&mut self) {
        self.conns.retain(|_, conn| !conn.over);
        self.conns.values_mut().for_each(|conn| conn.over = conn.is_over());
    }
}

/// Which directions between nodes are cut.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    cut: BTreeMap<(HostId, HostId), Duration>,
}

impl Paths {
    /// Cuts one direction.
    pub(crate) fn cut(&mut self, from: HostId, to: HostId, now: Duration) {
        self.cut.entry((from, to)).or_insert(now);
    }

    pub(crate) fn mend(&mut self, from: HostId, to: HostId) {
        self.cut.remove(&(from, to));
    }

    pub(crate) fn mend_all(&mut self) {
        self.cut.clear();
    }

    /// Whether what `from` sends reaches `to`.
    pub(crate) fn open(&self, from: HostId, to: HostId) -> bool {
        !self.cut.contains_key(&(from, to))
    }

    /// Pairs between which a direction has been cut for this long by now.
    pub(crate) fn silent(&self, now: Duration, long: Duration) -> BTreeSet<(HostId, HostId)> {
        let long = |since: &Duration| now.saturating_sub(*since) >= long;
        self.cut.iter().filter(|(_, since)| long(since)).map(|(pair, _)| *pair).collect()
    }
}

/// A request that waits at a node for its answer.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) stream: Stream,
    /// It came with a token that was good when it came.
    pub(crate) entitled: bool,
}

/// Requests that wait at one node.
pub(crate) type Exchanges = BTreeMap<ExchangeId, Exchange>;
