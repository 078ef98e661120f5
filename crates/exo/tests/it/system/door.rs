//! The API of a node as a client reaches it that must not fail when the node does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;

use super::spaces;

/// Where a node is asked. Clients share it; its address is another one after each start.
#[derive(Debug, Default)]
pub(super) struct Door {
    /// The network namespace in which the node is, if not the test's own.
    pub(super) space: Option<String>,
    open: Mutex<Option<(SocketAddr, String)>>,
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Reached {
    /// The node is not there: nothing was asked.
    Nobody,
    /// It was asked, and what it did is not known.
    Unknown,
    /// It answered.
    Answer(u16, Vec<u8>),
}

impl Door {
    pub(super) fn of(space: Option<String>) -> Self {
        Self { space, open: Mutex::default() }
    }

    /// The node listens here, or nowhere.
    pub(super) fn set(&self, open: Option<(SocketAddr, String)>) {
        *self.open.lock().expect("is whole") = open;
    }

    /// Sends a request and reads the answer to its end.
    pub(super) fn ask(&self, method: &str, path: &str, body: &[u8], wait: Duration) -> Reached {
        let Some((at, token)) = self.open.lock().expect("is whole").clone() else {
            return Reached::Nobody;
        };
        match &self.space {
            None => exchange(at, &token, method, path, body, wait),
            Some(space) => spaces::within(space, || exchange(at, &token, method, path, body, wait)),
        }
    }

    /// A request that must succeed.
    pub(super) fn bytes(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        match self.ask(method, path, body, PATIENCE) {
            Reached::Answer(200..=299, body) => body,
            Reached::Answer(status, body) => {
                panic!("{method} {path}: {status} {}", String::from_utf8_lossy(&body))
            }
            failed => panic!("{method} {path}: {failed:?}"),
        }
    }

    /// A request that must be answered with JSON.
    pub(super) fn json(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        serde_json::from_slice(&self.bytes(method, path, body.as_bytes())).expect("JSON")
    }

    /// How deciding stands at the node; null where it does not answer or does not decide.
    pub(super) fn consensus(&self) -> Value {
        match self.ask("GET", "/v1/status", &[], PATIENCE) {
            Reached::Answer(200, body) => {
                let status: Value = serde_json::from_slice(&body).expect("JSON");
                status["consensus"].clone()
            }
            _ => Value::Null,
        }
    }
}

fn exchange(
    at: SocketAddr,
    token: &str,
    method: &str,
    path: &str,
    body: &[u8],
    wait: Duration,
) -> Reached {
    let Ok(mut stream) = TcpStream::connect_timeout(&at, CONNECT) else { return Reached::Nobody };
    stream.set_read_timeout(Some(wait)).expect("a timeout");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {token}\r\nContent-Type: \
         application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut answer = Vec::new();
    let sent = stream.write_all(&[head.as_bytes(), body].concat());
    if sent.and_then(|()| stream.read_to_end(&mut answer)).is_err() {
        return Reached::Unknown;
    }
    parse(&answer).unwrap_or(Reached::Unknown)
}

/// `None` for an answer that is not whole.
fn parse(answer: &[u8]) -> Option<Reached> {
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n")?;
    let (head, body) = (std::str::from_utf8(&answer[..end]).ok()?, &answer[end + 4..]);
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    (body.len() == length).then(|| Reached::Answer(status, body.to_vec()))
}

/// How long a connection to a node of this machine may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long an answer may take where nothing is measured.
const PATIENCE: Duration = Duration::from_secs(20);
