//! The node's own endpoint: the same connection with all that a node adds, admission, pinning by
//! peer id, framing, bounds and timeouts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use exo_crypto::PostQuantumKeypair;
use exo_federation::driver::net::{Admit, BindConfig, Endpoint, NetLimits, Purpose};
use exo_types::PeerId;

use super::super::broken;
use super::POST_QUANTUM;
use super::connection::{ECHO, Ends};
use super::side::{Dial, Dialler, Listener};
use crate::exit::Failure;

/// Two nodes' endpoints.
pub(super) fn ends() -> Result<Ends, Failure> {
    let keypair = || PostQuantumKeypair::generate().map_err(|error| broken("an identity", error));
    let (ours, theirs) = (Arc::new(keypair()?), Arc::new(keypair()?));
    let (expect, known) = (ours.peer_id(), theirs.peer_id());
    let listener = Listener::start(move || {
        let endpoint = bind(ours, Arc::new(move |key| key.peer_id() == known))?;
        let address = endpoint.local_address().map_err(|error| broken("a socket", error))?;
        Ok((address, serve(endpoint)))
    })?;
    let address = listener.address;
    let dialler = Dialler::start(move || {
        Ok(Node { endpoint: bind(theirs, Arc::new(|_| false))?, address, expect })
    })?;
    Ok(Ends { name: format!("endpoint.{{}}.{POST_QUANTUM}"), listener, dialler })
}

fn bind(identity: Arc<PostQuantumKeypair>, admit: Admit) -> Result<Endpoint, Failure> {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    Endpoint::bind(BindConfig { listen, identity, admit, limits: NetLimits::default() })
        .map_err(|error| broken("an endpoint", error))
}

async fn serve(endpoint: Endpoint) {
    while let Some(channel) = endpoint.accept().await {
        tokio::spawn(async move {
            while let Some(request) = channel.accept_request().await {
                let said = request.body.clone();
                // A connection that breaks down fails at the dialling end, which tells.
                let _ = request.respond(said).await;
            }
        });
    }
}

struct Node {
    endpoint: Endpoint,
    address: SocketAddr,
    expect: PeerId,
}

impl Dial for Node {
    async fn once(&self) -> Result<(), Failure> {
        let channel = self
            .endpoint
            .connect(self.address, self.expect, Purpose::Member)
            .await
            .map_err(|error| broken("a node's connection", error))?;
        let heard = channel
            .request(ECHO, ECHO_WITHIN)
            .await
            .map_err(|error| broken("a node's echo", error))?;
        channel.close(0, "");
        if heard == ECHO { Ok(()) } else { Err(broken("a node's echo", "it is another")) }
    }

    async fn idle(&self) {
        self.endpoint.wait_idle(IDLE_WITHIN).await;
    }
}

/// How long an echo may take.
const ECHO_WITHIN: Duration = Duration::from_secs(5);
/// How long closed connections may take to be forgotten.
const IDLE_WITHIN: Duration = Duration::from_secs(5);
