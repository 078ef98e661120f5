//! Connections: dialling, accepting, and serving what peers ask.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use exo_crypto::Label;
use exo_node::effect::{ExchangeId, Input, Purpose, SessionId};
use exo_node::refusal::Refusal;
use exo_node::wire::{CloseReason, Request, Response};
use exo_types::limits::{DIAL_ADDRESSES_MAX, DIAL_AGAIN_MILLIS};
use exo_types::{PeerAddress, PeerId, Wire};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Mutex;

use super::core::{Core, lock};
use super::decide::Checks;
use super::net::{self, ConnectError, EncryptedChannel, IncomingRequest, LaneKind, LaneReader};

impl Core {
    /// Dials a peer at all of its addresses at once, and begins again beside that while nothing comes; the
    /// first attempt at which it proves its key counts.
    pub(crate) async fn dial(
        self: Arc<Self>,
        peer: PeerId,
        addresses: Vec<PeerAddress>,
        purpose: Purpose,
    ) {
        match self.connect(peer, &addresses, purpose).await {
            Ok(channel) => self.session(channel),
            Err((detail, refused)) => {
                self.input(Input::DialFailed { peer, purpose, detail, refused });
            }
        }
    }

    async fn connect(
        &self,
        peer: PeerId,
        addresses: &[PeerAddress],
        purpose: Purpose,
    ) -> Result<EncryptedChannel, (String, bool)> {
        let Some(endpoint) = self.endpoint.get() else {
            return Err(("this node is not listening".to_owned(), false));
        };
        let mut places = Vec::new();
        for address in addresses {
            let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
            let Ok(found) = found else { continue };
            places.extend(found.take(DIAL_ADDRESSES_MAX.saturating_sub(places.len())));
        }
        if places.is_empty() {
            return Err(("none of its addresses resolves".to_owned(), false));
        }
        let mut again = tokio::time::interval(Duration::from_millis(DIAL_AGAIN_MILLIS));
        let mut dials = FuturesUnordered::new();
        loop {
            let error = tokio::select! {
                _ = again.tick() => {
                    let dial = |at: &SocketAddr| endpoint.connect(*at, peer, net_purpose(purpose));
                    dials.extend(places.iter().map(dial));
                    continue;
                }
                Some(ended) = dials.next() => match ended {
                    Ok(channel) => return Ok(channel),
                    Err(error) => error,
                },
            };
            // The first attempt has had all its time, or every attempt has its answer.
            if matches!(error, ConnectError::Timeout { .. }) || dials.is_empty() {
                let refused =
                    matches!(error, ConnectError::Lost { reason: net::CloseReason::Refused, .. });
                return Err((error.to_string(), refused));
            }
        }
    }

    /// Takes in whoever connects, for as long as somebody holds the node.
    pub(crate) async fn accept(core: Weak<Self>, endpoint: net::Endpoint) {
        while let Some(channel) = endpoint.accept().await {
            let Some(core) = core.upgrade() else { return };
            core.session(channel);
        }
    }

    /// Introduces a channel to the node and serves it until it ends.
    fn session(self: &Arc<Self>, channel: EncryptedChannel) {
        let Ok(exporter) = channel.exporter(Label::EXPORTER) else {
            return channel.close(CloseReason::Refused.code(), CloseReason::Refused.says());
        };
        let session = SessionId(self.number());
        let purpose = match channel.purpose() {
            net::Purpose::Member => Purpose::Member,
            net::Purpose::Join => Purpose::Join,
        };
        lock(&self.channels).insert(session, channel.clone());
        let key = channel.peer_key().clone();
        let dialled = channel.dialed();
        self.input(Input::SessionUp { session, key, dialled, purpose, exporter });
        let core = Arc::downgrade(self);
        self.runtime.spawn(hear(core.clone(), channel.clone()));
        self.runtime.spawn(async move { serve(core, session, channel).await });
    }

    /// Tells the node that a channel is over and why. Whoever notices first says so, before what
    /// was lost with it is reported: the node must not take a refusal for an accident.
    pub(crate) fn session_over(self: &Arc<Self>, session: SessionId, reason: &net::CloseReason) {
        let reason = match reason {
            net::CloseReason::Refused => Some(CloseReason::Refused),
            net::CloseReason::ByPeer { code, .. } => CloseReason::from_code(*code),
            _ => None,
        };
        lock(&self.channels).remove(&session);
        self.input(Input::SessionDown { session, reason });
    }

    /// Hands one request to the node, or refuses what does not decode.
    fn take_request(self: &Arc<Self>, session: SessionId, incoming: IncomingRequest) {
        let IncomingRequest { body, responder } = incoming;
        match Request::from_wire(&body) {
            Ok(request) => {
                let exchange = ExchangeId(self.number());
                lock(&self.responders).insert(exchange, responder);
                self.input(Input::Request { session, exchange, request });
            }
            Err(error) => {
                let code = Refusal::Malformed.code();
                metrics::counter!("exo_refusals_total", "code" => code).increment(1);
                tracing::debug!(%error, "a request does not decode");
                if let Ok(body) = Response::Refused(Refusal::Malformed).to_wire() {
                    self.runtime.spawn(async move {
                        // A peer that sends garbage may not wait for the answer.
                        let _ = responder.respond(body).await;
                    });
                }
            }
        }
    }
}

/// Serves a channel's requests in the order they arrive, then reports its end.
async fn serve(core: Weak<Core>, session: SessionId, channel: EncryptedChannel) {
    while let Some(incoming) = channel.accept_request().await {
        match core.upgrade() {
            Some(core) => core.take_request(session, incoming),
            None => return,
        }
    }
    let reason = channel.closed().await;
    if let Some(core) = core.upgrade() {
        core.session_over(session, &reason);
    }
}

/// Hands what comes over the peer's lanes on, once the peer may have some: to the replica, and to the shared
/// collections. What comes before this node has them is lost, as it may be. A second lane of a kind waits
/// for the end of the first.
async fn hear(core: Weak<Core>, channel: EncryptedChannel) {
    let (decisions, shared) = (Arc::<Mutex<()>>::default(), Arc::<Mutex<()>>::default());
    let checks = Checks::default();
    while let Some(lane) = channel.accept_lane().await {
        let turn = match lane.kind() {
            LaneKind::Decisions => Arc::clone(&decisions),
            LaneKind::Shared => Arc::clone(&shared),
        };
        let listening = listen(core.clone(), channel.peer(), lane, turn, checks.clone());
        let Some(core) = core.upgrade() else { return };
        core.runtime.spawn(listening);
    }
}

async fn listen(
    core: Weak<Core>,
    peer: PeerId,
    mut lane: LaneReader,
    turn: Arc<Mutex<()>>,
    checks: Checks,
) {
    let _turn = turn.lock().await;
    let votes = || {
        let core = core.upgrade();
        core.and_then(|core| core.decide.get().map(|host| host.shared.votes(&peer))) == Some(true)
    };
    if lane.kind() == LaneKind::Shared
        && let Some(shares) = core.upgrade().and_then(|core| core.shares())
    {
        shares.began(peer).await;
    }
    while let Some(message) = lane.next_of(votes).await {
        let Some(core) = core.upgrade() else { return };
        match lane.kind() {
            LaneKind::Decisions => {
                if let Some(host) = core.decide.get() {
                    host.shared.hear(peer, message, &checks).await;
                }
            }
            LaneKind::Shared => {
                let shares = core.shares();
                drop(core);
                if let Some(shares) = shares {
                    shares.hear(peer, message).await;
                }
            }
        }
    }
}

fn net_purpose(purpose: Purpose) -> net::Purpose {
    match purpose {
        Purpose::Member => net::Purpose::Member,
        Purpose::Join => net::Purpose::Join,
    }
}
