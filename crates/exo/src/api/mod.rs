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
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post, put};
use exo_crypto::ApiToken;
use exo_federation::FederatedMesh;
use exo_types::limits::{API_REQUESTS_IN_FLIGHT_MAX, API_WRITES_IN_FLIGHT_MAX};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;

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
    stopping: AtomicBool,
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
            stopping: AtomicBool::new(false),
        }))
    }

    /// Admits no further work: new requests are told that the node is stopping.
    pub(crate) fn stop_admitting(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    fn mesh(&self) -> &FederatedMesh {
        &self.0.mesh
    }

    fn stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }

    /// Every route, behind its guards.
    fn router(&self) -> Router {
        use routes::{collections, health, node, peers, queries, records};
        Router::new()
            .route("/healthz", get(health::live))
            .route("/livez", get(health::live))
            .route("/readyz", get(health::ready))
            .route("/metrics", get(health::metrics))
            .route("/v1/status", get(node::status))
            .route("/v1/invites", get(node::invites).post(node::invite))
            .route("/v1/invites/{id}", delete(node::invite_revoke))
            .route("/v1/join", get(node::join_status).post(node::join))
            .route("/v1/peers", get(peers::list))
            .route("/v1/peers/approve", post(peers::approve))
            .route("/v1/peers/{peer}", get(peers::show))
            .route("/v1/peers/{peer}/reject", post(peers::reject))
            .route("/v1/peers/{peer}/revoke", post(peers::revoke))
            .route("/v1/peers/{peer}/ping", post(peers::ping))
            .route("/v1/collections", get(collections::list).post(collections::add))
            .route("/v1/collections/{name}", get(collections::show).delete(collections::remove))
            .route("/v1/collections/{name}/policy", put(collections::policy))
            .route("/v1/collections/{name}/records", post(records::put))
            .route("/v1/collections/{name}/records/{id}", get(records::get))
            .route("/v1/collections/{name}/imports/{id}", get(records::import_progress))
            .route("/v1/queries", post(queries::query))
            .fallback(error::no_route)
            .method_not_allowed_fallback(error::no_method)
            .layer(from_fn_with_state(self.clone(), guard::guard))
            .with_state(self.clone())
    }
}
