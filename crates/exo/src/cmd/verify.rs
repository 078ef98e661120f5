//! `exo verify`: checks a commit proof offline. It needs no node, no configuration and no network: the
//! proof, the policy that says whose signatures count, and the entry.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use exo_federation::{CommitProof, ErrorCode, ProofPolicy};
use exo_types::limits::{LOG_ENTRY_BYTES_MAX, LOG_POLICY_BYTES_MAX, LOG_PROOF_BYTES_MAX};
use serde::Serialize;

use super::Context;
use crate::escape::visible;
use crate::exit::{Exit, Failure, Outcome};
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
    /// The entry that is said to be committed; not needed where the proof carries it
    #[arg(long, value_name = "FILE")]
    entry: Option<PathBuf>,
}

/// A proof that holds, `exo.verify/1`.
#[derive(Serialize)]
struct VerifiedDoc {
    schema: &'static str,
    valid: bool,
    /// The log.
    origin: String,
    /// The entry's place in it.
    index: u64,
    /// Entries that the signers have committed.
    size: u64,
    /// The log's root at that size, hexadecimal.
    root: String,
    /// Who signed, of those that count.
    signers: Vec<String>,
}

/// Checks the proof.
pub(crate) fn run(context: &Context, args: &Args) -> Outcome {
    let proof = read(&args.proof, LOG_PROOF_BYTES_MAX)?;
    let policy = read(&args.policy, LOG_POLICY_BYTES_MAX)?;
    let entry = args.entry.as_ref().map(|path| read(path, LOG_ENTRY_BYTES_MAX)).transpose()?;
    let policy = ProofPolicy::parse(&policy).map_err(|error| {
        Failure::new(
            ErrorCode::InvalidArgument,
            format!("{} is no policy: {error}", args.policy.display()),
        )
    })?;
    let proof = CommitProof::from_bytes(&proof)
        .map_err(|error| invalid(&args.proof, error.code(), &error.to_string()))?;
    let commit = proof
        .verify(&policy, entry.as_deref())
        .map_err(|error| invalid(&args.proof, error.code(), &error.to_string()))?;
    let doc = VerifiedDoc {
        schema: "exo.verify/1",
        valid: true,
        origin: commit.origin().as_str().to_owned(),
        index: commit.index(),
        size: commit.size(),
        root: commit.root().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
        signers: commit.signers().iter().map(|signer| signer.as_str().to_owned()).collect(),
    };
    let output = &context.output;
    if output.json {
        output.json(&doc)?;
        return Ok(Exit::Ok);
    }
    output.line(&output.style("The proof holds.", Style::Good))?;
    let mut rows = vec![
        vec!["  log".into(), visible(&doc.origin)],
        vec!["  entry".into(), format!("{} of {}", doc.index, doc.size)],
        vec!["  root".into(), doc.root],
    ];
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

/// Reads a file of bounded length.
fn read(path: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::file(path, &error))?;
    if bytes.len() > most {
        return Err(Failure::new(
            ErrorCode::InvalidArgument,
            format!("{} is longer than {most} bytes", path.display()),
        ));
    }
    Ok(bytes)
}
