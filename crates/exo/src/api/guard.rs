//! What stands before every route: where the request comes from, who sends it, and whether there
//! is room for it.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use exo_federation::ErrorCode;
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::error::ApiError;

/// Lets a request through, or answers why not.
pub(crate) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let mut response = match admit(&api, &request) {
        Ok(permit) => hold(next.run(request).await, permit),
        Err(error) => error.into_response(),
    };
    let status = response.status().as_u16().to_string();
    metrics::counter!("exo_api_requests_total", "status" => status).increment(1);
    metrics::histogram!("exo_api_request_seconds").record(began.elapsed().as_secs_f64());
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert_with(|| HeaderValue::from_static("no-store"));
    response
}

/// A place among the requests under way; none is needed to say whether the node lives.
fn admit(api: &Api, request: &Request) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
    let headers = request.headers();
    origin(headers, api.0.listen, api.0.remote)?;
    if OPEN_PATHS.contains(&request.uri().path()) {
        return Ok(None);
    }
    if !authorised(api, headers) {
        return Err(ApiError::new(
            ErrorCode::Unauthorised,
            "the request carries no API token, or a wrong one",
        ));
    }
    if api.stopping() {
        return Err(ApiError::new(ErrorCode::Busy, "the node is stopping"));
    }
    let permit = api.0.requests.clone().try_acquire_owned();
    permit.map(Some).map_err(|_| ApiError::busy("requests"))
}

/// Whether the request carries the token; the comparison takes the same time wherever they differ.
fn authorised(api: &Api, headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Ok(text) = value.to_str() else { return false };
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            api.0.token.matches(token.trim())
        }
        _ => false,
    }
}

/// Refuses a request that a page of another site sent through a browser: with DNS rebinding its
/// Host is that site's name, otherwise its Origin tells.
fn origin(headers: &HeaderMap, listen: SocketAddr, remote: bool) -> Result<(), ApiError> {
    let refused = |what: &str| {
        ApiError::new(ErrorCode::OriginRefused, format!("the {what} is not this API's own address"))
    };
    let single = |name| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(()),
        }
    };
    match single(header::HOST) {
        Ok(Some(host)) if own(host, listen, remote) => {}
        _ => return Err(refused("Host")),
    }
    match single(header::ORIGIN) {
        Ok(None) => {}
        Ok(Some(origin)) => match origin.strip_prefix("http://") {
            Some(host) if own(host, listen, remote) => {}
            _ => return Err(refused("Origin")),
        },
        Err(()) => return Err(refused("Origin")),
    }
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err(refused("Sec-Fetch-Site")),
    }
}

/// Whether an authority is one of this API's own: its port, and a loopback name or address. An
/// address in digits cannot be rebound, so a listener open to others takes any.
fn own(authority: &str, listen: SocketAddr, remote: bool) -> bool {
    let Ok(parsed) = authority.parse::<Authority>() else { return false };
    if authority.contains('@') || parsed.port_u16().unwrap_or(80) != listen.port() {
        return false;
    }
    let host = parsed.host();
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.parse::<IpAddr>().is_ok_and(|address| remote || address.is_loopback())
}

/// Holds a permit until the whole body is sent or given up: a stream of events counts while it
/// runs.
fn hold(response: Response, permit: Option<OwnedSemaphorePermit>) -> Response {
    let Some(permit) = permit else { return response };
    response.map(|inner| Body::new(Held { inner, _permit: permit }))
}

struct Held {
    inner: Body,
    _permit: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Paths that need no token: they say no more than whether the node lives.
pub(super) const OPEN_PATHS: [&str; 3] = ["/healthz", "/livez", "/readyz"];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn admitted(pairs: &[(&'static str, &'static str)], remote: bool) -> bool {
        origin(&headers(pairs), SocketAddr::from(([127, 0, 0, 1], 7780)), remote).is_ok()
    }

    #[test]
    fn only_the_apis_own_names_are_hosts() {
        for host in ["127.0.0.1:7780", "localhost:7780", "LOCALHOST:7780", "[::1]:7780"] {
            assert!(admitted(&[("host", host)], false), "{host}");
        }
        for host in [
            "evil.example:7780",
            "localhost.evil.example:7780",
            "127.0.0.1",
            "127.0.0.1:7781",
            "127.0.0.1.evil.example:7780",
            "localhost@evil.example:7780",
            "evil@127.0.0.1:7780",
            "192.0.2.1:7780",
            "",
        ] {
            assert!(!admitted(&[("host", host)], false), "{host}");
        }
        assert!(!admitted(&[], false));
        assert!(!admitted(&[("host", "127.0.0.1:7780"), ("host", "localhost:7780")], false));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let host = ("host", "127.0.0.1:7780");
        assert!(admitted(&[host, ("origin", "http://127.0.0.1:7780")], false));
        for origin in [
            "null",
            "http://evil.example",
            "https://127.0.0.1:7780",
            "http://127.0.0.1:3000",
            "http://127.0.0.1",
        ] {
            assert!(!admitted(&[host, ("origin", origin)], false), "{origin}");
        }
        assert!(!admitted(&[host, ("sec-fetch-site", "cross-site")], false));
        assert!(!admitted(&[host, ("sec-fetch-site", "same-site")], false));
        assert!(admitted(&[host, ("sec-fetch-site", "same-origin")], false));
    }

    #[test]
    fn an_open_listener_takes_addresses_but_no_foreign_names() {
        assert!(admitted(&[("host", "192.0.2.1:7780")], true));
        assert!(!admitted(&[("host", "evil.example:7780")], true));
    }
}
