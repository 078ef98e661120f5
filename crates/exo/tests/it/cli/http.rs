//! A client that sends exactly the bytes it is told to: what no well-behaved one would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::node::Node;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The status and the stable code of a problem document.
    pub(super) fn problem(&self) -> (u16, String) {
        assert!(
            self.head.to_lowercase().contains("content-type: application/problem+json"),
            "{self:?}"
        );
        let code = self.json()["code"].as_str().expect("a code").to_owned();
        (self.status, code)
    }
}

/// Sends a request with the token and the usual headers, and more if given.
pub(super) fn send(node: &Node, method: &str, path: &str, more: &[&str], body: &[u8]) -> Answer {
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\nConnection: close\r\n",
        node.token(),
        body.len()
    );
    let given = |name: &str| more.iter().any(|line| line.to_lowercase().starts_with(name));
    if !given("host:") {
        head.push_str(&format!("Host: {}\r\n", node.api()));
    }
    if !given("content-type:") {
        head.push_str("Content-Type: application/json\r\n");
    }
    for line in more {
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    raw(node.api(), &[head.as_bytes(), body].concat())
}

/// Posts a JSON text.
pub(super) fn post(node: &Node, path: &str, body: &str) -> Answer {
    send(node, "POST", path, &[], body.as_bytes())
}

/// Sends bytes and reads the answer to its end.
pub(crate) fn raw(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    // The node may answer and close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body) } else { body.to_owned() };
    Answer { status, head: head.to_owned(), body }
}

fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            break;
        }
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    body
}
