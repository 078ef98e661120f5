//! `exo bench crypto`: what the cryptography costs, and what classical keys would cost in its place.
//!
//! Every figure is processor time of the thread that does the work. The two configurations take
//! turns, round by round, so that whatever disturbs the machine disturbs both.

mod classical;
mod connection;
mod endpoint;
mod primitives;
mod side;
mod tls;

use exo_crypto::PostQuantumKeypair;
use exo_federation::driver::net::{Purpose, parts};

use super::report::{Report, Unit};
use super::{broken, within};
use crate::cmd::Context;
use crate::exit::Failure;

/// Arguments of `exo bench crypto`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds: in each, one batch of every kind of connection
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = rounds)]
    rounds: usize,
    /// Connections one after the other in a batch; a sample is their mean. One alone finds caches
    /// cold, as a node's rare handshakes do; many find them warm, as in a burst
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = batch)]
    batch: usize,
}

/// Two ends that prove their keys to each other: what TLS needs of them.
#[derive(Clone)]
struct Pair {
    /// For the names of figures.
    name: &'static str,
    server: rustls::ServerConfig,
    client: rustls::ClientConfig,
}

/// Measures.
pub(super) fn run(context: &Context, args: &Args) -> Result<Report, Failure> {
    let output = &context.output;
    let mut report = Report::new("crypto");
    report.param("rounds", args.rounds);
    report.param("batch", args.batch);
    output.note("Operations …");
    primitives::measure(&mut report, args.rounds)?;
    let pairs = [post_quantum()?, classical::pair()?];
    output.note("TLS handshakes …");
    tls::measure(&mut report, &pairs, args.rounds * TLS_PER_ROUND)?;
    output.note("QUIC connections …");
    connection::measure(&mut report, &pairs, args.rounds, args.batch)?;
    ratios(&mut report);
    Ok(report)
}

/// The node's own configuration, as its endpoint makes it.
fn post_quantum() -> Result<Pair, Failure> {
    let keypair = || PostQuantumKeypair::generate().map_err(|error| broken("an identity", error));
    let (listener, dialler) = (keypair()?, keypair()?);
    let known = dialler.peer_id();
    let admit = std::sync::Arc::new(move |key: &exo_crypto::IdentityKey| key.peer_id() == known);
    let failed = |error| broken("the node's TLS configuration", error);
    Ok(Pair {
        name: POST_QUANTUM,
        server: parts::tls_server(&listener, admit).map_err(failed)?,
        client: parts::tls_client(&dialler, listener.peer_id(), Purpose::Member).map_err(failed)?,
    })
}

/// Compares what was measured, and sets the goals beside it.
fn ratios(report: &mut Report) {
    for (what, at_most) in [("tls", TLS_RATIO_MAX), ("connection", CONNECTION_RATIO_MAX)] {
        for side in ["client", "server"] {
            let of = format!("{what}.{side}.{POST_QUANTUM}");
            let to = format!("{what}.{side}.{CLASSICAL}");
            let found = report.ratio(format!("{what}.{side}.ratio"), &of, &to);
            if let Some(found) = found {
                let what = format!("{what}, {side}: post-quantum over classical");
                report.goal(what, found, at_most, Unit::Ratio);
            }
        }
    }
    for side in ["client", "server"] {
        let of = format!("endpoint.{side}.{POST_QUANTUM}");
        let to = format!("connection.{side}.{POST_QUANTUM}");
        report.ratio(format!("endpoint.{side}.over_plain_quic"), &of, &to);
    }
}

fn rounds(text: &str) -> Result<usize, String> {
    within(text, 1, ROUNDS_MAX)
}

fn batch(text: &str) -> Result<usize, String> {
    within(text, 1, BATCH_MAX)
}

/// Name of the node's own configuration in figures.
const POST_QUANTUM: &str = "post_quantum";
/// Name of the configuration it is compared with.
const CLASSICAL: &str = "classical";
/// Handshakes in memory for each round.
const TLS_PER_ROUND: usize = 8;
/// What the node's TLS may cost, as a multiple of the classical one's.
const TLS_RATIO_MAX: f64 = 2.5;
/// What a whole connection may cost, as a multiple of the classical one's.
const CONNECTION_RATIO_MAX: f64 = 1.5;
/// Rounds at most: some ten minutes.
const ROUNDS_MAX: usize = 10_000;
/// Connections in a batch at most: closed ones are remembered for a moment.
const BATCH_MAX: usize = 100;
