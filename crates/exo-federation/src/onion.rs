//! Asking without saying who asks, as one call.

use exo_types::{FederatedResult, FederationScope, QuerySpec, QueryTarget};

use crate::error::FederationError;
use crate::mesh::FederatedMesh;

/// Asks every member through relays: each gets a packet of its own, which passes `max_hops` members,
/// itself the last, and learns the last relay, not who asks. The answers are as those of a direct query,
/// and each is signed by the member that gave it ([`SourceReport::signed`](exo_types::SourceReport)).
///
/// For other bounds than the usual, state a [`QuerySpec`] with [`FederationScope::Global`].
///
/// # Errors
/// Those of [`FederatedMesh::federated_query`].
pub async fn onion_query(
    mesh: &FederatedMesh,
    target: QueryTarget,
    max_hops: u8,
) -> Result<FederatedResult, FederationError> {
    mesh.federated_query(QuerySpec::new(FederationScope::Global { max_hops }, target)).await
}
