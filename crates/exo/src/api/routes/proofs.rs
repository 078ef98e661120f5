//! Proofs of others, checked here.

use axum::extract::State;
use exo_federation::{CommitProof, ErrorCode, ProofError, ProofPolicy, VerifiedCommit};
use exo_types::limits::LOG_ENTRY_BYTES_MAX;

use crate::api::Api;
use crate::api::dto::decision::{VerifiedDoc, VerifyRequest};
use crate::api::error::ApiError;
use crate::api::extract::{Doc, LargeJson};

/// Checks a proof against the policy that is given, or against this node's own.
pub(crate) async fn verify(
    State(api): State<Api>,
    request: LargeJson<VerifyRequest>,
) -> Result<Doc<VerifiedDoc>, ApiError> {
    let LargeJson { body, permit } = request;
    let entry = body.entry.as_deref().map(entry).transpose()?;
    let proof = CommitProof::from_bytes(body.proof.as_bytes())
        .map_err(|error| refused(error.code(), &error.to_string()))?;
    let commit = match body.policy {
        Some(text) => {
            let policy = ProofPolicy::parse(text.as_bytes()).map_err(|error| {
                ApiError::new(ErrorCode::InvalidArgument, format!("the policy: {error}"))
            })?;
            check(&proof, &policy, entry.as_deref())
        }
        None => check_own(&api, &proof, entry.as_deref()).await?,
    };
    drop(permit);
    let commit = commit.map_err(|error| refused(error.code(), &error.to_string()))?;
    Ok(Doc::new("exo.verify/1", VerifiedDoc::from(&commit)))
}

/// Checks against the policy of the epoch that committed the entry, then against the one in force:
/// a proof may stand on a later checkpoint than the entry's own.
async fn check_own(
    api: &Api,
    proof: &CommitProof,
    entry: Option<&[u8]>,
) -> Result<Result<VerifiedCommit, ProofError>, ApiError> {
    let mesh = api.mesh();
    let mut checked = check(proof, &mesh.decision_policy(None).await?, entry);
    if checked.is_err()
        && let Ok(view) = mesh.decision(proof.index()).await
    {
        let policy = mesh.decision_policy(Some(view.epoch)).await?;
        checked = check(proof, &policy, entry).or(checked);
    }
    Ok(checked)
}

fn check(
    proof: &CommitProof,
    policy: &ProofPolicy,
    entry: Option<&[u8]>,
) -> Result<VerifiedCommit, ProofError> {
    proof.verify(policy, entry)
}

fn entry(text: &str) -> Result<Vec<u8>, ApiError> {
    let invalid = |why: String| ApiError::new(ErrorCode::InvalidArgument, why);
    let bytes = data_encoding::BASE64
        .decode(text.as_bytes())
        .map_err(|error| invalid(format!("the entry is no base64: {error}")))?;
    if bytes.len() > LOG_ENTRY_BYTES_MAX {
        return Err(invalid(format!("an entry has at most {LOG_ENTRY_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn refused(reason: &str, says: &str) -> ApiError {
    ApiError::new(ErrorCode::ProofInvalid, format!("{reason}: {says}"))
}
