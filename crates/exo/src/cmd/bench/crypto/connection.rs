//! Whole connections over QUIC: connect, one echo, close.
//!
//! Both pairs of keys run the same plain code over the node's own transport settings, so that the
//! keys are the only difference. The node's endpoint is measured beside them.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use exo_crypto::PostQuantumKeypair;
use exo_federation::driver::net::{NetLimits, parts};

use super::super::broken;
use super::super::report::Report;
use super::side::{Dial, Dialler, Listener};
use super::{Pair, endpoint};
use crate::exit::Failure;

/// A pair of ends and what they have taken so far.
pub(super) struct Ends {
    /// Name of its figures, with `{}` for the end.
    pub(super) name: String,
    /// The accepting end.
    pub(super) listener: Listener,
    /// The dialling end.
    pub(super) dialler: Dialler,
}

/// Measures every pair, and the node's endpoint, in turns.
pub(super) fn measure(
    report: &mut Report,
    pairs: &[Pair],
    rounds: usize,
    batch: usize,
) -> Result<(), Failure> {
    let mut all: Vec<Ends> = pairs.iter().map(plain).collect::<Result<_, _>>()?;
    all.push(endpoint::ends()?);
    let mut taken: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); all.len()];
    for round in 0..rounds + WARM_UP {
        for (ends, (clients, servers)) in all.iter().zip(&mut taken) {
            let before = ends.listener.thread_time()?;
            let client = ends.dialler.batch(batch)?;
            let server = ends.listener.thread_time()?.saturating_sub(before);
            if round >= WARM_UP {
                clients.push(each(client, batch));
                servers.push(each(server, batch));
            }
        }
    }
    for (ends, (clients, servers)) in all.iter().zip(taken) {
        use super::super::report::Unit::Micros;
        report.samples(ends.name.replace("{}", "client"), Micros, &clients);
        report.samples(ends.name.replace("{}", "server"), Micros, &servers);
    }
    Ok(())
}

/// Microseconds of one connection in a batch.
fn each(time: Duration, batch: usize) -> f64 {
    time.as_secs_f64() * 1e6 / batch as f64
}

/// Plain QUIC over a pair's TLS and the node's transport settings.
fn plain(pair: &Pair) -> Result<Ends, Failure> {
    let Pair { name, server, client } = pair.clone();
    let failed = |error| broken("the node's transport settings", error);
    // Whose it is decides the keys of address tokens and resets, not those of the handshake.
    let identity = PostQuantumKeypair::generate().map_err(|error| broken("an identity", error))?;
    let limits = NetLimits::default();
    let server = parts::quic_server(server, &identity, &limits).map_err(failed)?;
    let client = parts::quic_client(client, &limits).map_err(failed)?;
    let (socket, other) = (parts::quic_socket(&identity), parts::quic_socket(&identity));
    let listener = Listener::start(move || {
        let endpoint = open(socket, Some(server))?;
        let address = endpoint.local_addr().map_err(|error| broken("a socket", error))?;
        Ok((address, serve(endpoint)))
    })?;
    let address = listener.address;
    let dialler = Dialler::start(move || {
        Ok(Plain { endpoint: open(other, None)?, config: client, address })
    })?;
    Ok(Ends { name: format!("connection.{{}}.{name}"), listener, dialler })
}

fn open(
    config: quinn::EndpointConfig,
    server: Option<quinn::ServerConfig>,
) -> Result<quinn::Endpoint, Failure> {
    let failed = |error| broken("a socket", error);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    quinn::Endpoint::new(config, server, socket, Arc::new(quinn::TokioRuntime)).map_err(failed)
}

async fn serve(endpoint: quinn::Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            // A connection that breaks down fails at the dialling end, which tells.
            let Ok(connection) = incoming.await else { return };
            let _ = echo(&connection).await;
            connection.closed().await;
        });
    }
}

async fn echo(connection: &quinn::Connection) -> Option<()> {
    let (mut to, mut from) = connection.accept_bi().await.ok()?;
    let said = from.read_to_end(ECHO.len()).await.ok()?;
    to.write_all(&said).await.ok()?;
    to.finish().ok()
}

struct Plain {
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
    address: SocketAddr,
}

impl Dial for Plain {
    async fn once(&self) -> Result<(), Failure> {
        let what = "a QUIC connection";
        let connecting = self.endpoint.connect_with(self.config.clone(), self.address, "node");
        let connection = connecting
            .map_err(|error| broken(what, error))?
            .await
            .map_err(|error| broken(what, error))?;
        let (mut to, mut from) = connection.open_bi().await.map_err(|error| broken(what, error))?;
        to.write_all(ECHO).await.map_err(|error| broken(what, error))?;
        to.finish().map_err(|error| broken(what, error))?;
        let heard = from.read_to_end(ECHO.len()).await.map_err(|error| broken(what, error))?;
        connection.close(0_u32.into(), b"");
        if heard == ECHO { Ok(()) } else { Err(broken(what, "the echo is another")) }
    }

    async fn idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// What is said and said again.
pub(super) const ECHO: &[u8] = b"is anybody there, and who is it?";
/// Rounds that are thrown away first.
const WARM_UP: usize = 3;
