//! Failures as problem documents (RFC 9457).

use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use exo_federation::{ErrorCode, FederationError};

use super::dto::Problem;

/// A failure on its way to the caller.
#[derive(Debug)]
pub(crate) struct ApiError {
    code: ErrorCode,
    status: StatusCode,
    detail: String,
}

impl ApiError {
    /// A failure with the status its code has.
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, status: status_of(code), detail: detail.into() }
    }

    /// The node works at its bound.
    pub(crate) fn busy(what: &str) -> Self {
        Self::new(ErrorCode::Busy, format!("too many {what} at once"))
    }

    /// The same failure with another status.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

impl From<FederationError> for ApiError {
    fn from(error: FederationError) -> Self {
        Self::new(error.code, error.message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(code = self.code.as_str(), "a request failed");
        }
        metrics::counter!("exo_api_refusals_total", "code" => self.code.as_str()).increment(1);
        let problem = Problem {
            kind: format!("urn:exo:error:{}", self.code),
            title: self.code.meaning().to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code.as_str().to_owned(),
            remedy: self.code.remedy().to_owned(),
            retryable: self.code.retryable(),
        };
        // A problem of plain texts always serialises.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// No such path.
pub(crate) async fn no_route(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(PATH_CHARS_MAX).collect();
    ApiError::new(ErrorCode::RouteNotFound, format!("there is no {path:?}"))
}

/// The path is there, the method is not.
pub(crate) async fn no_method(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(PATH_CHARS_MAX).collect();
    ApiError::new(ErrorCode::RouteNotFound, format!("{path:?} takes no {method}"))
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
}

/// The HTTP status of a code.
const fn status_of(code: ErrorCode) -> StatusCode {
    use ErrorCode as C;
    match code {
        C::InvalidQuery
        | C::InvalidArgument
        | C::DimensionMismatch
        | C::TicketMalformed
        | C::UpdateTooLong
        | C::ImportInvalid => StatusCode::BAD_REQUEST,
        C::Unauthorised => StatusCode::UNAUTHORIZED,
        C::OriginRefused
        | C::NotFounder
        | C::NoVote
        | C::Refused
        | C::JoinRefused
        | C::SharedDenied => StatusCode::FORBIDDEN,
        C::CollectionNotFound
        | C::RecordNotFound
        | C::PeerNotFound
        | C::InviteNotFound
        | C::WordsUnknown
        | C::DecisionNotFound
        | C::SharedNotFound
        | C::SharedKeyNotFound
        | C::RouteNotFound => StatusCode::NOT_FOUND,
        C::CollectionExists
        | C::TooManyInvites
        | C::NotAMember
        | C::InsufficientPeers
        | C::AlreadyMember
        | C::AlreadyInitialised
        | C::SharedOnlyGrows
        | C::SharedFull
        | C::JoinInProgress => StatusCode::CONFLICT,
        C::TicketExpired => StatusCode::GONE,
        C::BodyTooLarge | C::ValueTooLong => StatusCode::PAYLOAD_TOO_LARGE,
        C::Unreachable => StatusCode::BAD_GATEWAY,
        C::ProofInvalid => StatusCode::UNPROCESSABLE_ENTITY,
        C::Busy
        | C::TooFewSources
        | C::NoPath
        | C::NoQuorum
        | C::NotCertified
        | C::SharedCatchingUp => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Characters of a path that are repeated in an answer.
const PATH_CHARS_MAX: usize = 200;
