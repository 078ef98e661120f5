//! TLS alone: both ends in memory on one thread, taking turns; each end's turns are timed apart.

use std::io::Cursor;
use std::ops::DerefMut;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection, SideData,
};

use super::super::broken;
use super::super::cpu::spent;
use super::super::report::Report;
use super::Pair;
use crate::exit::Failure;

/// What one handshake took.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    client: Duration,
    server: Duration,
}

/// Measures `handshakes` of each pair, in turns.
pub(super) fn measure(
    report: &mut Report,
    pairs: &[Pair],
    handshakes: usize,
) -> Result<(), Failure> {
    let configs: Vec<(Arc<ClientConfig>, Arc<ServerConfig>)> = pairs
        .iter()
        .map(|pair| (Arc::new(pair.client.clone()), Arc::new(pair.server.clone())))
        .collect();
    let mut taken = vec![Vec::with_capacity(handshakes); pairs.len()];
    for round in 0..handshakes + WARM_UP {
        for ((client, server), taken) in configs.iter().zip(&mut taken) {
            let once = handshake(client, server)?;
            if round >= WARM_UP {
                taken.push(once);
            }
        }
    }
    for (pair, taken) in pairs.iter().zip(taken) {
        let (client, server): (Vec<_>, Vec<_>) =
            taken.iter().map(|taken| (taken.client, taken.server)).unzip();
        report.micros(format!("tls.client.{}", pair.name), &client);
        report.micros(format!("tls.server.{}", pair.name), &server);
    }
    Ok(())
}

/// One whole handshake.
fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<Taken, Failure> {
    let failed = |error: rustls::Error| broken("a TLS handshake", error);
    let name = ServerName::try_from("node").map_err(|error| broken("a server name", error))?;
    let mut taken = Taken::default();
    let (made, time) = spent(|| ClientConnection::new(client.clone(), name));
    let mut client = made.map_err(failed)?;
    taken.client += time;
    let (made, time) = spent(|| ServerConnection::new(server.clone()));
    let mut server = made.map_err(failed)?;
    taken.server += time;
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    for _ in 0..TURNS_MAX {
        let (took, time) = spent(|| turn(&mut client, &to_client, &mut to_server));
        took?;
        taken.client += time;
        to_client.clear();
        let (took, time) = spent(|| turn(&mut server, &to_server, &mut to_client));
        took?;
        taken.server += time;
        to_server.clear();
        if to_client.is_empty() && !client.is_handshaking() && !server.is_handshaking() {
            let proven =
                client.peer_certificates().is_some() && server.peer_certificates().is_some();
            return if proven { Ok(taken) } else { Err(broken("a TLS handshake", "no proof")) };
        }
    }
    Err(broken("a TLS handshake", "it does not end"))
}

/// One end reads what has come and writes what it wants to send.
fn turn<E, S>(end: &mut E, incoming: &[u8], outgoing: &mut Vec<u8>) -> Result<(), Failure>
where
    E: DerefMut<Target = ConnectionCommon<S>>,
    S: SideData,
{
    let mut incoming = Cursor::new(incoming);
    while incoming.position() < incoming.get_ref().len() as u64 {
        end.read_tls(&mut incoming).map_err(|error| broken("a TLS record", error))?;
        end.process_new_packets().map_err(|error| broken("a TLS handshake", error))?;
    }
    while end.wants_write() {
        end.write_tls(outgoing).map_err(|error| broken("a TLS record", error))?;
    }
    Ok(())
}

/// Turns of both ends until a handshake is over, at most.
const TURNS_MAX: usize = 8;
/// Handshakes that are thrown away first.
const WARM_UP: usize = 20;

#[cfg(test)]
mod tests {
    use super::super::{classical, post_quantum};
    use super::*;

    fn configs(pair: Pair) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
        (Arc::new(pair.client), Arc::new(pair.server))
    }

    #[test]
    fn each_kind_of_keys_finishes_and_the_kinds_never_mix() {
        let ours = configs(post_quantum().expect("configures"));
        let theirs = configs(classical::pair().expect("configures"));
        for (client, server) in [&ours, &theirs] {
            let taken = handshake(client, server).expect("finishes");
            assert!(taken.client > Duration::ZERO && taken.server > Duration::ZERO);
        }
        assert!(handshake(&theirs.0, &ours.1).is_err(), "a node took a classical offer");
        assert!(handshake(&ours.0, &theirs.1).is_err(), "a node made a classical offer");
    }

    #[test]
    fn both_prove_the_pinned_key() {
        for pair in [post_quantum, classical::pair] {
            let (one, other) = (configs(pair().expect("one")), configs(pair().expect("other")));
            assert!(handshake(&one.0, &other.1).is_err(), "a stranger was taken for the peer");
        }
    }
}
