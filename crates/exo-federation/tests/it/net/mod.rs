//! The network driver over real sockets, against honest peers and others.

mod counters;
mod flood;
mod handshake;
mod lanes;
mod paths;
mod proxy;
mod requests;
mod restart;
pub(crate) mod rogue;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use exo_crypto::PostQuantumKeypair;
use exo_federation::driver::net::{
    Admit, BindConfig, EncryptedChannel, Endpoint, NetLimits, Purpose,
};

/// Long enough for a slow machine, short enough to fail in time.
const PATIENCE: Duration = Duration::from_secs(10);

fn identity(seed: u8) -> Arc<PostQuantumKeypair> {
    Arc::new(PostQuantumKeypair::from_seed(&[seed; 32]).expect("a seed expands"))
}

fn admit_all() -> Admit {
    Arc::new(|_| true)
}

fn bind_at(listen: SocketAddr, seed: u8, admit: Admit, limits: NetLimits) -> Endpoint {
    Endpoint::bind(BindConfig { listen, identity: identity(seed), admit, limits }).expect("binds")
}

fn bind_with(seed: u8, admit: Admit, limits: NetLimits) -> Endpoint {
    bind_at(localhost(), seed, admit, limits)
}

fn bind(seed: u8) -> Endpoint {
    bind_with(seed, admit_all(), NetLimits::default())
}

fn localhost() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn address(endpoint: &Endpoint) -> SocketAddr {
    endpoint.local_address().expect("is bound")
}

/// Dials and accepts: the dialling side's channel and the accepting side's.
async fn join(
    client: &Endpoint,
    server: &Endpoint,
    server_seed: u8,
) -> (EncryptedChannel, EncryptedChannel) {
    let expect = identity(server_seed).peer_id();
    let dialed = client.connect(address(server), expect, Purpose::Member).await.expect("connects");
    let accepted = within(server.accept()).await.expect("the endpoint is open");
    (dialed, accepted)
}

async fn within<F: std::future::IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("happens in time")
}

/// Answers every request with its own bytes.
fn echo(channel: EncryptedChannel) {
    tokio::spawn(async move {
        while let Some(mut request) = channel.accept_request().await {
            let body = std::mem::take(&mut request.body);
            tokio::spawn(request.respond(body));
        }
    });
}
