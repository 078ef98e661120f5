//! `exo verify`: checks a commit proof offline. It needs no node, no configuration and no network: the
//! proof, the policy that says whose signatures count, and the entry.

use std::path::{Path, PathBuf};

use exo_federation::{CommitProof, ErrorCode, LoggedEntry, ProofPolicy};
use exo_types::limits::{LOG_ENTRY_BYTES_MAX, LOG_POLICY_BYTES_MAX, LOG_PROOF_BYTES_MAX};

use super::Context;
use crate::api::dto::Document;
use crate::api::dto::decision::VerifiedDoc;
use crate::escape::visible;
use crate::exit::{Exit, Failure, Outcome};
use crate::files::read_bytes;
use crate::output::{Style, table};

/// Arguments of `exo verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The proof: a .tlog-proof file
    #[arg(value_name = "PROOF")]
    proof: PathBuf,
    /// The policy: the members whose signatures count, and how many of them are a quorum
    #[arg(long, value_name = "POLICY")]
    policy: PathBuf,
    /// What is said to be committed: the entry, or the file that was committed as a statement. Not
    /// needed where the proof carries the entry
    #[arg(long, value_name = "FILE")]
    entry: Option<PathBuf>,
}

/// Checks the proof.
pub(crate) fn run(context: &Context, args: &Args) -> Outcome {
    let proof = read_bytes(&args.proof, LOG_PROOF_BYTES_MAX)?;
    let policy = read_bytes(&args.policy, LOG_POLICY_BYTES_MAX)?;
    let entry =
        args.entry.as_ref().map(|path| read_bytes(path, LOG_ENTRY_BYTES_MAX)).transpose()?;
    let policy = ProofPolicy::parse(&policy).map_err(|error| {
        Failure::new(
            ErrorCode::InvalidArgument,
            format!("{} is no policy: {error}", args.policy.display()),
        )
    })?;
    let proof = CommitProof::from_bytes(&proof)
        .map_err(|error| invalid(&args.proof, error.code(), &error.to_string()))?;
    let said = proof.entry().and_then(LoggedEntry::read);
    // The entry of a statement says more than its content: who proposed it, and its number.
    let stated = said.as_ref().and_then(|said| said.statement.as_deref());
    let entry = entry.filter(|given| stated != Some(given.as_slice()));
    let commit = proof
        .verify(&policy, entry.as_deref())
        .map_err(|error| invalid(&args.proof, error.code(), &error.to_string()))?;
    let doc = VerifiedDoc::from(&commit);
    let output = &context.output;
    if output.json {
        output.json(&Document::new("exo.verify/1", doc))?;
        return Ok(Exit::Ok);
    }
    output.line(&output.style("The proof holds.", Style::Good))?;
    let mut rows = vec![
        vec!["  log".into(), visible(&doc.origin)],
        vec!["  entry".into(), format!("{} of {}", doc.index, doc.size)],
        vec!["  root".into(), doc.root],
    ];
    if let Some(said) = said {
        rows.push(vec!["  says".into(), visible(&said.summary)]);
        rows.push(vec!["  proposed by".into(), said.member.to_string()]);
    }
    rows.extend(doc.signers.iter().map(|signer| vec!["  signed by".into(), visible(signer)]));
    for row in table(&rows) {
        output.line(&row)?;
    }
    Ok(Exit::Ok)
}

/// A proof that does not hold, with the reason's stable code.
fn invalid(path: &Path, reason: &str, says: &str) -> Failure {
    Failure::new(ErrorCode::ProofInvalid, format!("{}: {reason}: {says}", path.display()))
}
