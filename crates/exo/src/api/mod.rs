//! The local HTTP API, version 1.
//!
//! It listens on the loopback address and asks for the token of the data directory on every route
//! but the three that say whether the node lives. Requests through a browser's page of another
//! site are refused by Host and Origin. Every failure is a problem document (RFC 9457) with a
//! stable code.

pub(crate) mod dto;
mod error;
mod extract;
mod guard;
mod routes;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post, put};
use exo_crypto::ApiToken;
use exo_federation::FederatedMesh;
use exo_types::limits::{API_REQUESTS_IN_FLIGHT_MAX, API_WRITES_IN_FLIGHT_MAX};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{Semaphore, watch};

pub(crate) use server::Server;

/// What every route works with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api(Arc<Shared>);

struct Shared {
    mesh: FederatedMesh,
    token: ApiToken,
    listen: SocketAddr,
    /// Whether the listener may be reached by addresses other than loopback.
    remote: bool,
    metrics: Option<PrometheusHandle>,
    requests: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
}

impl Api {
    /// The API of a node at the address it really listens on.
    pub(crate) fn new(
        mesh: FederatedMesh,
        token: ApiToken,
        listen: SocketAddr,
        remote: bool,
        metrics: Option<PrometheusHandle>,
    ) -> Self {
        Self(Arc::new(Shared {
            mesh,
            token,
            listen,
            remote,
            metrics,
            requests: Arc::new(Semaphore::new(API_REQUESTS_IN_FLIGHT_MAX)),
            writes: Arc::new(Semaphore::new(API_WRITES_IN_FLIGHT_MAX)),
            stopping: watch::Sender::new(false),
        }))
    }

    /// Admits no further work: new requests are told that the node is stopping, and answers that
    /// would never end do.
    pub(crate) fn stop_admitting(&self) {
        self.0.stopping.send_replace(true);
    }

    fn mesh(&self) -> &FederatedMesh {
        &self.0.mesh
    }

    fn stopping(&self) -> bool {
        *self.0.stopping.borrow()
    }

    /// Turns true when the node stops.
    fn stopped(&self) -> watch::Receiver<bool> {
        self.0.stopping.subscribe()
    }

    /// Every route, behind its guards.
    fn router(&self) -> Router {
        let routes = table();
        let router = Router::new();
        let router =
            routes.into_iter().fold(router, |router, (path, methods)| router.route(path, methods));
        router
            .fallback(error::no_route)
            .method_not_allowed_fallback(error::no_method)
            .layer(from_fn_with_state(self.clone(), guard::guard))
            .with_state(self.clone())
    }
}

/// Every path with its methods.
fn table() -> Vec<(&'static str, MethodRouter<Api>)> {
    use routes::{
        collections, decisions, health, log, node, peers, proofs, queries, records, shared,
    };
    vec![
        ("/healthz", get(health::live)),
        ("/livez", get(health::live)),
        ("/readyz", get(health::ready)),
        ("/metrics", get(health::metrics)),
        ("/v1/status", get(node::status)),
        ("/v1/invites", get(node::invites).post(node::invite)),
        ("/v1/invites/{id}", delete(node::invite_revoke)),
        ("/v1/join", get(node::join_status).post(node::join)),
        ("/v1/peers", get(peers::list)),
        ("/v1/peers/approve", post(peers::approve)),
        ("/v1/peers/{peer}", get(peers::show)),
        ("/v1/peers/{peer}/reject", post(peers::reject)),
        ("/v1/peers/{peer}/revoke", post(peers::revoke)),
        ("/v1/peers/{peer}/ping", post(peers::ping)),
        ("/v1/collections", get(collections::list).post(collections::add)),
        ("/v1/collections/{name}", get(collections::show).delete(collections::remove)),
        ("/v1/collections/{name}/policy", put(collections::policy)),
        ("/v1/collections/{name}/records", post(records::put)),
        ("/v1/collections/{name}/records/{id}", get(records::get)),
        ("/v1/collections/{name}/imports/{id}", get(records::import_progress)),
        ("/v1/queries", post(queries::query)),
        ("/v1/shared", get(shared::list).post(shared::declare)),
        ("/v1/shared/lag", get(shared::lag)),
        ("/v1/shared/{name}/keys", get(shared::keys)),
        ("/v1/shared/{name}/keys/{key}", get(shared::get).put(shared::put).delete(shared::remove)),
        ("/v1/shared/{name}/keys/{key}/erase", post(shared::erase)),
        ("/v1/shared/{name}/events", get(shared::events)),
        ("/v1/decisions", get(decisions::list).post(decisions::propose)),
        ("/v1/decisions/events", get(decisions::events)),
        ("/v1/decisions/policy", get(decisions::policy)),
        ("/v1/decisions/{index}", get(decisions::show)),
        ("/v1/decisions/{index}/proof", get(decisions::proof)),
        ("/v1/proofs/verify", post(proofs::verify)),
        ("/v1/log/checkpoint", get(log::checkpoint)),
        ("/v1/log/tile/{*path}", get(log::tile)),
    ]
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::{Method, Request, StatusCode, header};
    use exo_federation::Config;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    /// A node that listens nowhere but for peers, its API, and the text of its token.
    async fn api() -> (tempfile::TempDir, Api, String) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("node");
        let mut config = Config::new("lab".parse().expect("name"));
        config.mesh_listen = SocketAddr::from(([127, 0, 0, 1], 0));
        FederatedMesh::init(&path, &config).expect("makes a node");
        let mesh = FederatedMesh::open(&path).await.expect("opens");
        let token = ApiToken::generate().expect("randomness");
        let text = token.expose_text().to_string();
        let listen = SocketAddr::from(([127, 0, 0, 1], 7780));
        (directory, Api::new(mesh, token, listen, false, None), text)
    }

    async fn ask(
        api: &Api,
        method: &Method,
        path: &str,
        token: Option<&str>,
    ) -> (StatusCode, String) {
        let mut request =
            Request::builder().method(method).uri(path).header("host", "127.0.0.1:7780");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let request = request.body(Body::empty()).expect("a request");
        let answer = TowerToHyperService::new(api.router()).call(request).await.expect("answers");
        let status = answer.status();
        let body = to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn every_route_but_three_asks_for_the_token() {
        let (_directory, api, token) = api().await;
        let other = ApiToken::generate().expect("randomness").expose_text().to_string();
        let methods = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH];
        let mut guarded = 0;
        for (path, _) in table() {
            let path = path.replace("{name}", "c").replace("{id}", "1").replace("{peer}", "nobody");
            let path = path.replace("{index}", "1").replace("{*path}", "0/000.p/1");
            let path = path.replace("{key}", "k");
            let mut served = 0;
            for method in &methods {
                let good = ask(&api, method, &path, Some(&format!("Bearer {token}"))).await;
                served += usize::from(good.0 != StatusCode::METHOD_NOT_ALLOWED);
                assert_ne!(good.0, StatusCode::UNAUTHORIZED, "{method} {path}");
                let open = guard::OPEN_PATHS.contains(&path.as_str());
                guarded += usize::from(!open);
                for bad in [
                    None,
                    Some("Bearer".to_owned()),
                    Some(format!("Bearer {other}")),
                    Some(format!("Bearer {}", &token[..token.len() - 1])),
                    Some(format!("Basic {token}")),
                    Some(token.clone()),
                ] {
                    let (status, body) = ask(&api, method, &path, bad.as_deref()).await;
                    assert_eq!(
                        status == StatusCode::UNAUTHORIZED,
                        !open,
                        "{method} {path} {bad:?}"
                    );
                    assert!(open || body.contains("\"code\":\"unauthorised\""), "{body}");
                    assert!(!body.contains(&token), "the token is repeated");
                }
            }
            assert!(served > 0, "{path} serves no method");
        }
        assert_eq!(guarded, (table().len() - 3) * methods.len());
        let (status, _) = ask(&api, &Method::GET, "/v1/nothing", None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "what exists is not told without the token");
    }

    #[tokio::test]
    async fn what_is_not_there_is_a_problem_with_a_code() {
        let (_directory, api, token) = api().await;
        let bearer = format!("Bearer {token}");
        for (method, path, status, code) in [
            (Method::GET, "/v1/nothing", 404, "route-not-found"),
            (Method::PATCH, "/v1/status", 405, "route-not-found"),
            (Method::GET, "/v1/collections/none", 404, "collection-not-found"),
            (Method::GET, "/v1/collections/no%20name", 400, "invalid-argument"),
            (Method::GET, "/v1/collections/none/imports/xyz", 400, "invalid-argument"),
            (Method::GET, "/v1/peers/nobody", 404, "peer-not-found"),
            (Method::DELETE, "/v1/invites/none", 404, "invite-not-found"),
        ] {
            let (found, body) = ask(&api, &method, path, Some(&bearer)).await;
            let problem: dto::Problem = serde_json::from_str(&body).expect("a problem");
            assert_eq!((found.as_u16(), problem.code.as_str()), (status, code), "{path}: {body}");
            assert_eq!(problem.kind, format!("urn:exo:error:{code}"));
            assert_eq!(problem.status, status);
            assert!(!problem.remedy.is_empty() && !problem.detail.is_empty());
        }
    }

    #[tokio::test]
    async fn a_node_that_stops_takes_no_work_and_is_not_ready() {
        let (_directory, api, token) = api().await;
        let bearer = format!("Bearer {token}");
        assert_eq!(ask(&api, &Method::GET, "/readyz", None).await.0, StatusCode::OK);
        api.stop_admitting();
        assert_eq!(
            ask(&api, &Method::GET, "/readyz", None).await.0,
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(ask(&api, &Method::GET, "/livez", None).await.0, StatusCode::OK);
        let (status, body) = ask(&api, &Method::GET, "/v1/status", Some(&bearer)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("\"retryable\":true"), "{body}");
    }

    #[tokio::test]
    async fn requests_over_the_bound_are_told_to_come_back() {
        let (_directory, api, token) = api().await;
        let bearer = format!("Bearer {token}");
        let all = api.0.requests.clone().try_acquire_many_owned(API_REQUESTS_IN_FLIGHT_MAX as u32);
        let held = all.expect("all places");
        let (status, body) = ask(&api, &Method::GET, "/v1/status", Some(&bearer)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("\"code\":\"busy\""), "{body}");
        assert_eq!(ask(&api, &Method::GET, "/livez", None).await.0, StatusCode::OK);
        drop(held);
        assert_eq!(ask(&api, &Method::GET, "/v1/status", Some(&bearer)).await.0, StatusCode::OK);
    }
}
