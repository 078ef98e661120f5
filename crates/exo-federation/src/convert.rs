//! Errors of the rooms below as errors of the public interface.

use exo_node::{JoinError, MembershipError, QueryError};
use exo_substrate::SubstrateError;
use exo_types::CodecError;

use crate::error::{ErrorCode, FederationError};

impl From<MembershipError> for FederationError {
    fn from(error: MembershipError) -> Self {
        let code = match &error {
            MembershipError::NotAMember => ErrorCode::NotAMember,
            MembershipError::AlreadyMember => ErrorCode::AlreadyMember,
            MembershipError::NotFounder(..) => ErrorCode::NotFounder,
            MembershipError::NoVote => ErrorCode::NoVote,
            MembershipError::TooMany(_) => ErrorCode::TooManyInvites,
            MembershipError::NoSuchInvite(_) => ErrorCode::InviteNotFound,
            MembershipError::NoSuchWords(_) => ErrorCode::WordsUnknown,
            MembershipError::NoSuchPeer(_) => ErrorCode::PeerNotFound,
            MembershipError::NameTaken(_)
            | MembershipError::CosignerTaken
            | MembershipError::Argument(_) => ErrorCode::InvalidArgument,
            MembershipError::Signing(_) => ErrorCode::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<JoinError> for FederationError {
    fn from(error: JoinError) -> Self {
        let code = match error {
            JoinError::AlreadyMember | JoinError::OtherFederation => ErrorCode::AlreadyMember,
            JoinError::InProgress => ErrorCode::JoinInProgress,
            JoinError::Expired => ErrorCode::TicketExpired,
            JoinError::OwnTicket => ErrorCode::InvalidArgument,
        };
        Self::new(code, error.to_string())
    }
}

impl From<QueryError> for FederationError {
    fn from(error: QueryError) -> Self {
        let code = match &error {
            QueryError::Invalid(_) => ErrorCode::InvalidQuery,
            QueryError::NoPath { .. } => ErrorCode::NoPath,
            QueryError::TooLong(_) => ErrorCode::InvalidQuery,
            QueryError::NotAMember => ErrorCode::NotAMember,
            QueryError::Busy(_) => ErrorCode::Busy,
        };
        Self::new(code, error.to_string())
    }
}

// By value, for `map_err`.
/// A value of the caller that is out of bounds.
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn argument(error: CodecError) -> FederationError {
    FederationError::new(ErrorCode::InvalidArgument, error.to_string())
}

/// An error of the substrate.
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn data(error: SubstrateError) -> FederationError {
    let code = match &error {
        SubstrateError::NoCollection(_) => ErrorCode::CollectionNotFound,
        SubstrateError::CollectionExists(_) => ErrorCode::CollectionExists,
        SubstrateError::TooManyCollections { .. }
        | SubstrateError::BatchTooLong { .. }
        | SubstrateError::Record { .. }
        | SubstrateError::Request { .. }
        | SubstrateError::Backend { .. } => ErrorCode::InvalidArgument,
        SubstrateError::Dimensions { .. } | SubstrateError::Embedder { .. } => {
            ErrorCode::DimensionMismatch
        }
        SubstrateError::InUse { .. } => ErrorCode::DataLocked,
        SubstrateError::NewerFormat { .. } | SubstrateError::Damaged { .. } => {
            ErrorCode::DataCorrupt
        }
        SubstrateError::Storage { .. } => ErrorCode::Io,
        SubstrateError::Interrupted(_) => ErrorCode::Busy,
    };
    FederationError::new(code, error.to_string())
}
