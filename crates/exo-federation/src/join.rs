//! Joining as one call, for programs.

use std::time::Duration;

use exo_node::ticket::Ticket;
use exo_node::token::FederationToken;
use tokio::time::{Instant, sleep};

use crate::error::{ErrorCode, FederationError};
use crate::mesh::FederatedMesh;
use crate::view::JoinStatus;

/// Joins the federation a ticket invites to and gives the token the inviter issued: key exchange
/// and encrypted channel, capability exchange and negotiation, approval, then the token. Until the
/// inviter's owner approves by this node's words ([`FederatedMesh::join_status`] shows them) this
/// waits, `patience` at most; joining goes on in the background after that.
///
/// # Errors
/// [`ErrorCode::JoinRefused`] when the inviter says no, [`ErrorCode::JoinInProgress`] when it has
/// not decided in time, and those of [`FederatedMesh::join`].
pub async fn join_federation(
    mesh: &FederatedMesh,
    ticket: &str,
    patience: Duration,
) -> Result<FederationToken, FederationError> {
    let inviter = ticket.parse::<Ticket>().map(|ticket| ticket.inviter);
    mesh.join(ticket)?;
    let until = Instant::now() + patience;
    loop {
        match mesh.join_status() {
            JoinStatus::Refused { reason } => {
                return Err(FederationError::new(ErrorCode::JoinRefused, reason));
            }
            JoinStatus::Member => {
                if let Some(token) = inviter.as_ref().ok().and_then(|peer| mesh.token(peer)) {
                    return Ok(token);
                }
            }
            JoinStatus::Idle
            | JoinStatus::Connecting
            | JoinStatus::Pending { .. }
            | JoinStatus::Following => {}
        }
        if Instant::now() >= until {
            return Err(FederationError::new(
                ErrorCode::JoinInProgress,
                "the inviter has not approved yet",
            ));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// How often the state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(25);
