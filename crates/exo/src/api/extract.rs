//! Bodies and path segments, bounded and checked before a route sees them.

use std::str::FromStr;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use exo_federation::ErrorCode;
use exo_types::NameError;
use exo_types::limits::{
    API_BODY_BYTES_MAX, API_BODY_READ_TIMEOUT_MILLIS, API_PROPOSALS_BODY_BYTES_MAX,
    API_RECORDS_BODY_BYTES_MAX,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Api;
use super::dto::Document;
use super::dto::shared::PutRequest;
use super::error::ApiError;

/// A JSON body of at most [`API_BODY_BYTES_MAX`].
pub(crate) struct Json<T>(pub(crate) T);

/// A JSON body of at most [`API_RECORDS_BODY_BYTES_MAX`], one of few that are read at once.
pub(crate) struct LargeJson<T> {
    /// The document.
    pub(crate) body: T,
    /// Held until the batch is written.
    pub(crate) permit: tokio::sync::OwnedSemaphorePermit,
}

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _api: &Api) -> Result<Self, ApiError> {
        read(request, API_BODY_BYTES_MAX).await.map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<Api> for LargeJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        // Before the first byte is kept: a body waits with its sender until there is room for it.
        let permit = api.0.writes.clone().try_acquire_owned();
        let permit = permit.map_err(|_| ApiError::busy("batches of records"))?;
        let body = read(request, API_RECORDS_BODY_BYTES_MAX).await?;
        Ok(Self { body, permit })
    }
}

/// Reads a JSON body: its kind, its length, its time, then its content.
async fn read<T: DeserializeOwned>(request: Request, max: usize) -> Result<T, ApiError> {
    let (parts, body) = request.into_parts();
    json_kind(&parts)?;
    let bytes = bounded(&parts, body, max).await?;
    // An array would be taken for the fields of an object in their order.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(ApiError::new(ErrorCode::InvalidArgument, "the body must be a JSON object"));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::new(ErrorCode::InvalidArgument, format!("the body: {error}")))
}

fn json_kind(parts: &Parts) -> Result<(), ApiError> {
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::InvalidArgument, "the body must be application/json")
        .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

async fn bounded(parts: &Parts, body: Body, max: usize) -> Result<axum::body::Bytes, ApiError> {
    let too_large =
        || ApiError::new(ErrorCode::BodyTooLarge, format!("a body here has at most {max} bytes"));
    let announced = parts.headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > max as u64) {
        return Err(too_large());
    }
    let time = Duration::from_millis(API_BODY_READ_TIMEOUT_MILLIS);
    match tokio::time::timeout(time, to_bytes(body, max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length(&error) => Err(too_large()),
        Ok(Err(error)) => {
            Err(ApiError::new(ErrorCode::InvalidArgument, format!("the body broke off: {error}")))
        }
        Err(_) => Err(ApiError::new(ErrorCode::InvalidArgument, "the body came too slowly")
            .with_status(StatusCode::REQUEST_TIMEOUT)),
    }
}

/// Whether reading ended at the bound.
fn is_length(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string() == "length limit exceeded" {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A JSON body of at most [`API_PROPOSALS_BODY_BYTES_MAX`].
pub(crate) struct ProposalJson<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Api> for ProposalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _api: &Api) -> Result<Self, ApiError> {
        read(request, API_PROPOSALS_BODY_BYTES_MAX).await.map(Self)
    }
}

/// A value as it is sent: a [`PutRequest`] as JSON, or the bytes themselves as
/// `application/octet-stream` or any kind of text.
pub(crate) struct ValueBody(pub(crate) Vec<u8>);

impl FromRequest<Api> for ValueBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _api: &Api) -> Result<Self, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if kind == "application/octet-stream" || kind.starts_with("text/") {
            let (parts, body) = request.into_parts();
            return bounded(&parts, body, API_BODY_BYTES_MAX).await.map(|bytes| Self(bytes.into()));
        }
        let value: PutRequest = read(request, API_BODY_BYTES_MAX).await?;
        let bytes = value.bytes();
        bytes.map(Self).map_err(|error| ApiError::new(ErrorCode::InvalidArgument, error))
    }
}

/// Whether the caller asks for an answer of this kind.
pub(crate) fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept
        .unwrap_or_default()
        .split(',')
        .any(|one| one.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind))
}

/// What stands behind the question mark of an address.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let Query(asked) = Query::<T>::from_request_parts(parts, api).await.map_err(|error| {
            ApiError::new(ErrorCode::InvalidArgument, format!("the address: {}", error.body_text()))
        })?;
        Ok(Self(asked))
    }
}

/// One path segment of a checked type.
pub(crate) struct One<A>(pub(crate) A);

/// Two path segments of checked types.
pub(crate) struct Two<A, B>(pub(crate) A, pub(crate) B);

impl<A: Segment> FromRequestParts<Api> for One<A> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let Path(a) = Path::<String>::from_request_parts(parts, api)
            .await
            .map_err(|error| bad_path(&error))?;
        Ok(Self(A::parse(&a)?))
    }
}

impl<A: Segment, B: Segment> FromRequestParts<Api> for Two<A, B> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let Path((a, b)) = Path::<(String, String)>::from_request_parts(parts, api)
            .await
            .map_err(|error| bad_path(&error))?;
        Ok(Self(A::parse(&a)?, B::parse(&b)?))
    }
}

/// What a path segment may be.
pub(crate) trait Segment: Sized + Send {
    /// Checks and takes the segment.
    fn parse(text: &str) -> Result<Self, ApiError>;
}

impl Segment for String {
    fn parse(text: &str) -> Result<Self, ApiError> {
        Ok(text.to_owned())
    }
}

impl Segment for u64 {
    fn parse(text: &str) -> Result<Self, ApiError> {
        // One form: no sign, no leading zeros.
        match text.parse::<Self>() {
            Ok(number) if number.to_string() == text => Ok(number),
            _ => Err(ApiError::new(ErrorCode::InvalidArgument, format!("{text:?} is no number"))),
        }
    }
}

impl Segment for exo_types::CollectionName {
    fn parse(text: &str) -> Result<Self, ApiError> {
        checked(text)
    }
}

impl Segment for exo_types::RecordId {
    fn parse(text: &str) -> Result<Self, ApiError> {
        checked(text)
    }
}

fn checked<T: FromStr<Err = NameError>>(text: &str) -> Result<T, ApiError> {
    text.parse()
        .map_err(|error: NameError| ApiError::new(ErrorCode::InvalidArgument, error.to_string()))
}

fn bad_path(rejection: &axum::extract::rejection::PathRejection) -> ApiError {
    ApiError::new(ErrorCode::InvalidArgument, format!("the path: {rejection}"))
}

/// A document as an answer.
pub(crate) struct Doc<T>(Document<T>);

impl<T> Doc<T> {
    /// Names the shape of a thing.
    pub(crate) fn new(schema: &str, body: T) -> Self {
        Self(Document::new(schema, body))
    }
}

impl<T: Serialize> IntoResponse for Doc<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}
