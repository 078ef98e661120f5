//! The local API against callers that mean no good, over real sockets. That every route asks for
//! the token is tested beside the routes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::http::{post, raw, send};
use super::node::Node;

#[test]
fn hosts_and_origins_of_others_are_refused() {
    let node = Node::start("lab");
    let port = node.api().port();
    let ok = |more: &[&str]| send(&node, "GET", "/v1/status", more, b"").status;
    assert_eq!(ok(&[]), 200);
    assert_eq!(ok(&[&format!("Host: localhost:{port}")]), 200);
    assert_eq!(ok(&[&format!("Origin: http://127.0.0.1:{port}")]), 200);
    for line in [
        &format!("Host: rebound.example:{port}")[..],
        "Host: 127.0.0.1:1",
        "Origin: http://evil.example",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
    ] {
        let answer = send(&node, "GET", "/v1/status", &[line], b"");
        assert_eq!(answer.problem(), (403, "origin-refused".into()), "{line}");
    }
    // Even without a need for the token.
    let health =
        format!("GET /healthz HTTP/1.1\r\nHost: evil.example:{port}\r\nConnection: close\r\n\r\n");
    assert_eq!(raw(node.api(), health.as_bytes()).status, 403);
    let health =
        format!("GET /healthz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", node.api());
    assert_eq!(raw(node.api(), health.as_bytes()).status, 200);
    // No answer invites another site in.
    let answer =
        send(&node, "OPTIONS", "/v1/queries", &[&format!("Origin: http://127.0.0.1:{port}")], b"");
    assert!(!answer.head.to_lowercase().contains("access-control-allow"), "{answer:?}");
}

#[test]
fn a_body_over_its_bound_is_refused_unread() {
    let node = Node::start("lab");
    let long = vec![b' '; 256 * 1024 + 1];
    let answer = send(&node, "POST", "/v1/queries", &[], &long);
    assert_eq!(answer.problem(), (413, "body-too-large".into()));
    // Announced, not sent: refused at once.
    let head = format!(
        "POST /v1/collections/c/records HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 4294967296\r\nConnection: close\r\n\r\n",
        node.api(),
        node.token()
    );
    let began = Instant::now();
    assert_eq!(raw(node.api(), head.as_bytes()).problem(), (413, "body-too-large".into()));
    assert!(began.elapsed() < Duration::from_secs(5));
    // In pieces, without an announcement.
    let mut chunked = format!(
        "POST /v1/queries HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        node.api(),
        node.token()
    )
    .into_bytes();
    for _ in 0..17 {
        chunked.extend(b"4000\r\n");
        chunked.extend(vec![b' '; 0x4000]);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    assert_eq!(raw(node.api(), &chunked).problem(), (413, "body-too-large".into()));
}

#[test]
fn what_is_not_understood_is_a_coded_refusal() {
    let node = Node::start("lab");
    let refused = |path: &str, body: &str| post(&node, path, body).problem();
    let argument = (400, "invalid-argument".to_owned());
    let query = (400, "invalid-query".to_owned());
    for body in [
        "",
        "{",
        "[]",
        "{\"text\":\"x\",\"extra\":1}",
        "{\"text\":\"x\",\"text\":\"y\"}",
        "{\"text\":\"x\",\"top_k\":-1}",
        "{\"text\":\"x\",\"top_k\":18446744073709551616}",
        "{\"vector\":[NaN]}",
        "{\"vector\":[1e999]}",
        "{\"vector\":[null]}",
        "{\"text\":\"x\"} {}",
    ] {
        assert_eq!(refused("/v1/queries", body), argument, "{body}");
    }
    for body in [
        "{}",
        "{\"text\":\" \"}",
        "{\"text\":\"x\",\"top_k\":0}",
        "{\"text\":\"x\",\"top_k\":9223372036854775808}",
        "{\"text\":\"x\",\"deadline_ms\":0}",
        "{\"text\":\"x\",\"deadline_ms\":18446744073709551615}",
        "{\"vector\":[1e300]}",
        "{\"text\":\"x\",\"filter\":[{\"field\":\"a\",\"op\":\"in\",\"value\":1}]}",
        "{\"text\":\"x\",\"filter\":[{\"field\":\"a\",\"op\":\"eq\",\"value\":{\"b\":1}}]}",
        "{\"text\":\"x\",\"max_hops\":1}",
    ] {
        assert_eq!(refused("/v1/queries", body), query, "{body}");
    }
    let deep = format!("{{\"filter\":{}", "[".repeat(100_000));
    assert_eq!(refused("/v1/queries", &deep), argument);
    assert_eq!(post(&node, "/v1/invites", "{\"expires_ms\":0}").problem(), argument);
    assert_eq!(
        post(&node, "/v1/join", "{\"ticket\":\"exo1nonsense\"}").problem().1,
        "ticket-malformed"
    );
    let answer = send(&node, "POST", "/v1/queries", &["Content-Type: text/plain"], b"{}");
    assert_eq!(answer.problem(), (415, "invalid-argument".into()));
    // And the node is none the worse.
    assert_eq!(send(&node, "GET", "/v1/status", &[], b"").status, 200);
}

#[test]
fn connections_that_say_nothing_are_closed_and_keep_nobody_out() {
    let node = Node::start("lab");
    let connect = || TcpStream::connect(node.api()).expect("connects");
    let mut silent: Vec<TcpStream> = (0..200).map(|_| connect()).collect();
    let mut slow = connect();
    slow.write_all(b"GET /v1/status HTTP/1.1\r\nHost: ").expect("sends");
    let began = Instant::now();
    assert_eq!(send(&node, "GET", "/v1/status", &[], b"").status, 200);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    silent.push(slow);
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the node closes");
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn metrics_count_what_was_refused() {
    let node = Node::start("lab");
    let _ = post(&node, "/v1/queries", "{}");
    let answer = send(&node, "GET", "/metrics", &[], b"");
    assert_eq!(answer.status, 200);
    let line = "exo_api_refusals_total{code=\"invalid-query\"} 1";
    assert!(answer.body.contains(line), "{}", answer.body);
}
