//! Who gets through the handshake, and what the others are told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, ML_DSA_87_SIGNING, PqdsaKeyPair};
use exo_crypto::{IdentityKey, Label};
use exo_federation::driver::net::{CloseReason, ConnectError, NetLimits, Purpose, RequestError};
use rustls::SignatureScheme;

use super::counters::count;
use super::rogue::{CLASSICAL, Rogue, foreign_key, stolen_key};
use super::{
    PATIENCE, address, admit_all, bind, bind_with, echo, identity, join, localhost, within,
};

const ACCESS_DENIED: u64 = 0x100 + 49;

#[tokio::test]
async fn good_peers_know_each_other_and_share_exporters() {
    let (a, b) = (bind(1), bind(2));
    let (dialed, accepted) = join(&a, &b, 2).await;
    assert_eq!(dialed.peer(), identity(2).peer_id());
    assert_eq!(dialed.peer_key(), identity(2).public());
    assert_eq!(accepted.peer(), identity(1).peer_id());
    assert_eq!(accepted.peer_key(), identity(1).public());
    assert_eq!((dialed.dialed(), accepted.dialed()), (true, false));
    assert_eq!(dialed.remote_address(), address(&b));
    assert_eq!(accepted.remote_address(), address(&a));

    let exported = |label| {
        let both = [&dialed, &accepted].map(|c| c.exporter(label).expect("exports"));
        assert_eq!(both[0], both[1]);
        both[0]
    };
    assert_ne!(exported(Label::EXPORTER), exported(Label::SESSION));
    let (again, _accepted) = join(&a, &b, 2).await;
    assert_ne!(again.exporter(Label::EXPORTER), dialed.exporter(Label::EXPORTER));
}

#[tokio::test]
async fn one_socket_dials_and_is_dialled() {
    let (a, b) = (bind(1), bind(2));
    let (from_a, _at_b) = join(&a, &b, 2).await;
    let (from_b, at_a) = join(&b, &a, 1).await;
    assert_eq!(from_a.remote_address(), address(&b));
    assert_eq!(at_a.remote_address(), address(&b));
    assert_eq!(from_b.remote_address(), address(&a));
}

#[tokio::test]
async fn both_sides_see_the_purpose() {
    let (a, b) = (bind(1), bind(2));
    for purpose in Purpose::ALL {
        let expect = identity(2).peer_id();
        let dialed = a.connect(address(&b), expect, purpose).await.expect("connects");
        let accepted = within(b.accept()).await.expect("is open");
        assert_eq!((dialed.purpose(), accepted.purpose()), (purpose, purpose));
    }
}

#[tokio::test]
async fn another_key_than_the_expected_one_is_named_and_learns_nothing() {
    let (a, b) = (bind(1), bind(2));
    let (expected, found) = (identity(3).peer_id(), identity(2).peer_id());
    let error = a.connect(address(&b), expected, Purpose::Member).await.expect_err("is refused");
    assert_eq!(error, ConnectError::WrongPeer { addr: address(&b), expected, found });
    let accepted = tokio::time::timeout(Duration::from_millis(300), b.accept()).await;
    assert!(accepted.is_err(), "the other side must not learn who dialled");
}

#[tokio::test]
async fn a_classical_client_is_refused() {
    let server = bind(2);
    let before = count("exo_net_refusals_total no_common_algorithm");
    let rogue = Rogue { groups: CLASSICAL, ..Rogue::like(&identity(1)) };
    let (code, _) = rogue.dial_in_vain(address(&server)).await;
    assert_eq!(code, 0x100 + 40, "handshake_failure");
    assert!(count("exo_net_refusals_total no_common_algorithm") > before);
}

#[tokio::test]
async fn a_classical_server_is_refused() {
    let server = Rogue { groups: CLASSICAL, ..Rogue::like(&identity(2)) }.serve();
    let addr = server.local_addr().expect("is bound");
    let client = bind(1);
    let error = client.connect(addr, identity(2).peer_id(), Purpose::Member).await;
    assert_eq!(
        error.expect_err("is refused"),
        ConnectError::Lost { addr, reason: CloseReason::Refused }
    );
}

#[tokio::test]
async fn a_server_must_prove_the_expected_key_with_the_expected_algorithm() {
    let client = bind(1);
    let expect = identity(2).peer_id();
    let honest = Rogue::like(&identity(2)).serve();
    let addr = honest.local_addr().expect("is bound");
    client.connect(addr, expect, Purpose::Member).await.expect("the key is proven");

    let key = stolen_key(&identity(2), &identity(3));
    let thief = Rogue { key: Some(key), ..Rogue::like(&identity(2)) }.serve();
    let addr = thief.local_addr().expect("is bound");
    let error = client.connect(addr, expect, Purpose::Member).await.expect_err("is refused");
    assert!(
        matches!(error, ConnectError::Untrusted { expected, .. } if expected == expect),
        "{error}"
    );

    let key = PqdsaKeyPair::generate(&ML_DSA_87_SIGNING).expect("generates");
    let key = foreign_key(key.to_pkcs8v1().expect("encodes").as_ref(), SignatureScheme::ML_DSA_87);
    let stronger = Rogue { key: Some(key), ..Rogue::like(&identity(2)) }.serve();
    let addr = stronger.local_addr().expect("is bound");
    let error = client.connect(addr, expect, Purpose::Member).await.expect_err("is refused");
    assert!(matches!(error, ConnectError::Untrusted { .. }), "{error}");
}

#[tokio::test]
async fn every_refused_key_is_told_the_same() {
    let admitted = identity(1).peer_id();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asks = asked.clone();
    let gate = move |key: &IdentityKey| {
        asks.lock().expect("no gate panics").push(key.peer_id());
        key.peer_id() == admitted
    };
    let server = bind_with(2, Arc::new(gate), NetLimits::default());
    let to = address(&server);

    let causes = ["bad_proof", "malformed_key", "not_admitted"];
    let before = causes.map(|cause| count(&format!("exo_net_refusals_total {cause}")));
    let not_admitted = Rogue::like(&identity(3));
    let (code, reason) = not_admitted.dial_in_vain(to).await;
    assert_eq!(code, ACCESS_DENIED);

    let member_without_proof = stolen_key(&identity(1), &identity(3));
    let stranger_without_proof = stolen_key(&identity(3), &identity(4));
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("generates");
    let classical = foreign_key(pkcs8.as_ref(), SignatureScheme::ED25519);
    for key in [member_without_proof, stranger_without_proof, classical] {
        let rogue = Rogue { key: Some(key), ..Rogue::like(&identity(1)) };
        assert_eq!(rogue.dial_in_vain(to).await, (code, reason.clone()));
    }
    let after = causes.map(|cause| count(&format!("exo_net_refusals_total {cause}")));
    for ((cause, before), after) in causes.iter().zip(before).zip(after) {
        assert!(after > before, "{cause}");
    }
    // Nobody learns who is admitted without a key to prove: the gate is not even asked.
    assert_eq!(*asked.lock().expect("no gate panics"), [identity(3).peer_id()]);
    // The admitted key with its proof is all that was missing.
    Rogue::like(&identity(1)).dial(to).await.expect("connects");
    within(server.accept()).await.expect("is open");
}

#[tokio::test]
async fn no_key_and_an_unknown_protocol_are_refused() {
    let server = bind(2);
    let no_key = Rogue { key: None, ..Rogue::like(&identity(1)) };
    let (code, _) = no_key.dial_in_vain(address(&server)).await;
    assert_eq!(code, 0x100 + 116, "certificate_required");
    for alpn in [b"exo/2".as_slice(), b"h3", b"exo/1\0"] {
        let rogue = Rogue { alpn, ..Rogue::like(&identity(1)) };
        let (code, _) = rogue.dial_in_vain(address(&server)).await;
        assert_eq!(code, 0x100 + 120, "no_application_protocol");
    }
}

#[tokio::test]
async fn whom_the_gate_refuses_learns_it_with_the_first_request() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let server =
        bind_with(2, Arc::new(move |_| gate.load(Ordering::Relaxed)), NetLimits::default());
    let client = bind(1);
    let expect = identity(2).peer_id();
    let outcome = match client.connect(address(&server), expect, Purpose::Member).await {
        // The usual case: the handshake is over here before the other side has refused.
        Ok(channel) => match channel.request(b"hello".as_slice(), PATIENCE).await {
            Err(RequestError::Lost(reason)) => {
                assert_eq!(channel.close_reason(), Some(CloseReason::Refused));
                reason
            }
            other => panic!("{other:?}"),
        },
        Err(ConnectError::Lost { reason, .. }) => reason,
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(outcome, CloseReason::Refused);

    open.store(true, Ordering::Relaxed);
    let (channel, accepted) = join(&client, &server, 2).await;
    echo(accepted);
    assert_eq!(channel.request(b"hi".as_slice(), PATIENCE).await.expect("answers"), b"hi");
}

#[tokio::test]
async fn nobody_there_is_a_timeout_and_an_impossible_address_says_so() {
    let silent = std::net::UdpSocket::bind(localhost()).expect("binds");
    let addr = silent.local_addr().expect("is bound");
    let limits =
        NetLimits { handshake_timeout: Duration::from_millis(300), ..NetLimits::default() };
    let client = bind_with(1, admit_all(), limits);
    let expect = identity(2).peer_id();
    let error = client.connect(addr, expect, Purpose::Member).await;
    assert_eq!(error.expect_err("times out"), ConnectError::Timeout { addr, millis: 300 });
    for addr in ["127.0.0.1:0", "0.0.0.0:7", "[::1]:7"] {
        let addr = addr.parse().expect("an address");
        let error = client.connect(addr, expect, Purpose::Member).await;
        assert_eq!(error.expect_err("is refused"), ConnectError::Address { addr });
    }
}

#[tokio::test]
async fn closing_tells_the_peer_why() {
    let (a, b) = (bind(1), bind(2));
    let (dialed, accepted) = join(&a, &b, 2).await;
    assert!(!dialed.is_closed() && dialed.close_reason().is_none());
    accepted.close(7, "revoked\nadmin: ok");
    let reason = within(dialed.closed()).await;
    assert_eq!(reason, CloseReason::ByPeer { code: 7, reason: "revoked?admin: ok".into() });
    assert_eq!(within(accepted.closed()).await, CloseReason::Here);
    assert!(dialed.is_closed() && dialed.accept_request().await.is_none());
    let error = dialed.request(b"x".as_slice(), PATIENCE).await.expect_err("is closed");
    assert!(matches!(error, RequestError::Lost(CloseReason::ByPeer { code: 7, .. })), "{error}");
}

#[tokio::test]
async fn a_closed_endpoint_neither_dials_nor_accepts() {
    let (a, b) = (bind(1), bind(2));
    let (_dialed, accepted) = join(&a, &b, 2).await;
    a.close(3, "stopping");
    let reason = within(accepted.closed()).await;
    assert_eq!(reason, CloseReason::ByPeer { code: 3, reason: "stopping".into() });
    within(a.wait_idle(PATIENCE)).await;
    assert!(within(a.accept()).await.is_none());
    let error = a.connect(address(&b), identity(2).peer_id(), Purpose::Member).await;
    assert_eq!(error.expect_err("is closed"), ConnectError::Closed);
}

#[tokio::test]
async fn connections_are_bounded_in_all() {
    let limits = NetLimits { connections_max: 2, ..NetLimits::default() };
    let server = bind_with(2, admit_all(), limits);
    let limits =
        NetLimits { handshake_timeout: Duration::from_millis(400), ..NetLimits::default() };
    let client = bind_with(1, admit_all(), limits);
    let expect = identity(2).peer_id();
    let (first, _accepted) = join(&client, &server, 2).await;
    let (_second, _accepted) = join(&client, &server, 2).await;
    let error = client.connect(address(&server), expect, Purpose::Member).await;
    assert!(matches!(error, Err(ConnectError::Timeout { .. })), "{error:?}");
    assert_eq!(server.connections(), 2);
    first.close(0, "");
    let deadline = Instant::now() + PATIENCE;
    while client.connect(address(&server), expect, Purpose::Member).await.is_err() {
        assert!(Instant::now() < deadline, "a closed connection makes room");
    }
}
