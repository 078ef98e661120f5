//! The command line's side of the local API: it speaks to the node of its data directory and to
//! nothing else, by the loopback address that node announced and with the token of its directory.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use exo_federation::ErrorCode;
use exo_types::limits::API_ANSWER_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::{Agent, Body};
use zeroize::Zeroizing;

use crate::api::dto::Problem;
use crate::exit::Failure;
use crate::files::DataDir;

/// A way to the running node.
pub(crate) struct Client {
    agent: Agent,
    base: String,
    authorization: Zeroizing<String>,
    data_dir: DataDir,
}

/// Events of one answer, as they arrive.
pub(crate) struct Events {
    lines: std::io::Lines<BufReader<Box<dyn Read>>>,
}

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its name.
    pub(crate) name: String,
    /// Its data.
    pub(crate) data: String,
}

impl Client {
    /// Finds the node of a data directory.
    pub(crate) fn open(data_dir: &DataDir) -> Result<Self, Failure> {
        if !exo_federation::Config::path(data_dir.path()).exists() {
            return Err(Failure::new(
                ErrorCode::NotInitialised,
                format!("there is no node in {}", data_dir.path().display()),
            ));
        }
        let Some(file) = data_dir.announced()? else {
            return Err(not_running(data_dir, "it has announced no address"));
        };
        if !file.runs() {
            // Nobody else who listens there now is shown the token.
            return Err(not_running(data_dir, "the node that announced itself has ended"));
        }
        let token = data_dir.token()?;
        let config = Agent::config_builder()
            .proxy(None) // the token must not go through anybody's proxy
            .max_redirects(0)
            .http_status_as_error(false)
            .no_delay(true)
            .max_idle_age(IDLE_AGE)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("exo/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            agent: config.new_agent(),
            base: format!("http://{}", file.listen),
            authorization: Zeroizing::new(format!("Bearer {}", token.expose_text().as_str())),
            data_dir: data_dir.clone(),
        })
    }

    /// Where the API is, for people.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Reads a resource.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.answer(self.read(path))
    }

    /// Reads a resource that is plain text.
    pub(crate) fn text(&self, path: &str) -> Result<String, Failure> {
        let response = self.accepted(self.read(path))?;
        let body = response.into_body().into_with_config().limit(API_ANSWER_BYTES_MAX);
        body.read_to_string().map_err(|error| {
            Failure::new(ErrorCode::Internal, format!("the node's answer: {error}"))
        })
    }

    fn read(&self, path: &str) -> Result<Response<Body>, ureq::Error> {
        let request = self
            .agent
            .get(format!("{}{path}", self.base))
            .header("Authorization", self.authorization.as_str())
            .config()
            .timeout_global(Some(REQUEST_TIMEOUT))
            .build();
        request.call()
    }

    /// Removes a resource.
    pub(crate) fn delete(&self, path: &str) -> Result<(), Failure> {
        let request = self
            .agent
            .delete(format!("{}{path}", self.base))
            .header("Authorization", self.authorization.as_str())
            .config()
            .timeout_global(Some(REQUEST_TIMEOUT))
            .build();
        self.accepted(request.call()).map(|_| ())
    }

    /// Removes a resource and reads the answer.
    pub(crate) fn delete_told<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = self
            .agent
            .delete(format!("{}{path}", self.base))
            .header("Authorization", self.authorization.as_str())
            .config()
            .timeout_global(Some(REQUEST_TIMEOUT))
            .build();
        self.answer(request.call())
    }

    /// Posts a document and reads the answer.
    pub(crate) fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        self.post_within(path, body, REQUEST_TIMEOUT)
    }

    /// Posts a document and reads the answer, within a time.
    pub(crate) fn post_within<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        within: Duration,
    ) -> Result<T, Failure> {
        let request = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("Authorization", self.authorization.as_str())
            .header("Content-Type", "application/json")
            .config()
            .timeout_global(Some(within))
            .build();
        self.answer(request.send(&encode(body)?[..]))
    }

    /// Posts a document that is JSON already.
    pub(crate) fn post_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &[u8],
    ) -> Result<T, Failure> {
        let request = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("Authorization", self.authorization.as_str())
            .header("Content-Type", "application/json")
            .config()
            .timeout_global(Some(REQUEST_TIMEOUT))
            .build();
        self.answer(request.send(body))
    }

    /// Puts a document in the place of what is there.
    pub(crate) fn put<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        let request = self
            .agent
            .put(format!("{}{path}", self.base))
            .header("Authorization", self.authorization.as_str())
            .header("Content-Type", "application/json")
            .config()
            .timeout_global(Some(REQUEST_TIMEOUT))
            .build();
        self.answer(request.send(&encode(body)?[..]))
    }

    /// Puts bytes in the place of what is there.
    pub(crate) fn put_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        bytes: &[u8],
    ) -> Result<T, Failure> {
        let request = self
            .agent
            .put(format!("{}{path}", self.base))
            .header("Authorization", self.authorization.as_str())
            .header("Content-Type", "application/octet-stream")
            .config()
            .timeout_global(Some(REQUEST_TIMEOUT))
            .build();
        self.answer(request.send(bytes))
    }

    /// Posts a document and follows the events of the answer.
    pub(crate) fn post_events<B: Serialize>(
        &self,
        path: &str,
        body: &B,
        within: Duration,
    ) -> Result<Events, Failure> {
        let request = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("Authorization", self.authorization.as_str())
            .header("Content-Type", "application/json")
            .header("Accept", "text/event-stream")
            .config()
            .timeout_global(Some(within))
            .build();
        let response = self.accepted(request.send(&encode(body)?[..]))?;
        let reader = response.into_body().into_with_config().limit(API_ANSWER_BYTES_MAX).reader();
        Ok(Events::new(reader))
    }

    /// Follows the events of a resource, for as long as the node serves them.
    pub(crate) fn get_events(&self, path: &str) -> Result<Events, Failure> {
        let request = self
            .agent
            .get(format!("{}{path}", self.base))
            .header("Authorization", self.authorization.as_str())
            .header("Accept", "text/event-stream")
            .call();
        let reader = self.accepted(request)?.into_body().into_with_config().limit(u64::MAX);
        Ok(Events::new(reader.reader()))
    }

    fn answer<T: DeserializeOwned>(
        &self,
        sent: Result<Response<Body>, ureq::Error>,
    ) -> Result<T, Failure> {
        let response = self.accepted(sent)?;
        let reader = response.into_body().into_with_config().limit(API_ANSWER_BYTES_MAX).reader();
        serde_json::from_reader(BufReader::new(reader)).map_err(|error| {
            Failure::new(ErrorCode::Internal, format!("the node's answer: {error}"))
        })
    }

    /// The response, if the node accepted the request; else what it told.
    fn accepted(
        &self,
        sent: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Failure> {
        let response = sent.map_err(|error| match error {
            ureq::Error::Timeout(_) => Failure::new(
                ErrorCode::NodeNotRunning,
                format!("the node at {} did not answer in time", self.base),
            )
            .with_remedy("`exo doctor` looks for the cause; restart the node if it hangs."),
            error => not_running(&self.data_dir, &format!("{}: {error}", self.base)),
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let reader = response.into_body().into_with_config().limit(PROBLEM_BYTES_MAX).reader();
        let problem: Result<Problem, _> = serde_json::from_reader(BufReader::new(reader));
        Err(match problem {
            Ok(told) => Failure::told(told.code, told.detail, told.remedy, told.retryable),
            Err(_) => Failure::new(
                ErrorCode::NodeNotRunning,
                format!("{} answered {status}, but not as a node does", self.base),
            ),
        })
    }
}

impl Events {
    fn new(reader: impl Read + 'static) -> Self {
        let reader: Box<dyn Read> = Box::new(reader);
        Self { lines: BufReader::new(reader).lines() }
    }
}

impl Iterator for Events {
    type Item = Result<Event, Failure>;

    /// The next whole event; an event that its sender cut off is not given.
    fn next(&mut self) -> Option<Self::Item> {
        let mut name = String::new();
        let mut data = String::new();
        loop {
            let line = match self.lines.next()? {
                Ok(line) => line,
                Err(error) => {
                    return Some(Err(Failure::new(
                        ErrorCode::NodeNotRunning,
                        format!("the node's answer broke off: {error}"),
                    )));
                }
            };
            if line.is_empty() {
                if data.is_empty() && name.is_empty() {
                    continue;
                }
                return Some(Ok(Event { name, data }));
            }
            if let Some(value) = line.strip_prefix("event:") {
                name = value.trim().to_owned();
            } else if let Some(value) = line.strip_prefix("data:") {
                if !data.is_empty() {
                    data.push('\n');
                }
                data.push_str(value.strip_prefix(' ').unwrap_or(value));
            }
        }
    }
}

/// Percent-encodes one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn encode<B: Serialize>(body: &B) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(body)
        .map_err(|error| Failure::new(ErrorCode::Internal, format!("JSON: {error}")))
}

fn not_running(data_dir: &DataDir, why: &str) -> Failure {
    Failure::new(
        ErrorCode::NodeNotRunning,
        format!("no node runs in {}: {why}", data_dir.path().display()),
    )
}

/// How long a connection to the loopback address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a request may take unless it says otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// An idle connection is not used again after this; below the time at which the node closes it.
const IDLE_AGE: Duration = Duration::from_secs(2);
/// Length of a refusal that is read, bytes.
const PROBLEM_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_whole_and_a_cut_one_is_not_given() {
        let text = ":keep-alive\n\nevent: source\ndata: {\"a\":1}\n\nevent: done\ndata: x\ndata: y\n\nevent: half\ndata: z";
        let events: Vec<Event> =
            Events::new(text.as_bytes()).collect::<Result<_, _>>().expect("reads");
        let event = |name: &str, data: &str| Event { name: name.into(), data: data.into() };
        assert_eq!(events, [event("source", "{\"a\":1}"), event("done", "x\ny")]);
    }

    #[test]
    fn a_path_segment_holds_no_separator() {
        assert_eq!(segment("foldoc:12/é ?#%"), "foldoc%3A12%2F%C3%A9%20%3F%23%25");
    }
}
