//! `exo shared declare`: the members decide what a shared collection is, and whose.

use std::time::Duration;

use exo_types::CollectionName;

use crate::api::dto::Document;
use crate::api::dto::decision::{CommitDoc, OutcomeDoc};
use crate::api::dto::shared::{DeclareRequest, KindDoc};
use crate::cmd::Context;
use crate::cmd::commit::propose::{GRACE, deadline, exit, said};
use crate::exit::Outcome;

/// Arguments of `exo shared declare`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name
    name: CollectionName,
    /// What its entries mean; it never changes
    #[arg(long, value_enum)]
    kind: KindDoc,
    /// Who gets it, by ids, beginnings of ids or names [default: every member]
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    readers: Option<Vec<String>>,
    /// Whose entries count; writers are readers [default: every reader]
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    writers: Option<Vec<String>>,
    /// How long to wait until a quorum has committed it
    #[arg(long, default_value = "10s", value_parser = deadline, value_name = "DURATION")]
    deadline: Duration,
}

/// Proposes and waits.
pub(super) fn run(context: &Context, args: Args) -> Outcome {
    let output = &context.output;
    let request = DeclareRequest {
        name: args.name,
        kind: args.kind,
        readers: args.readers,
        writers: args.writers,
        deadline_ms: u64::try_from(args.deadline.as_millis()).ok(),
    };
    // The node's own deadline comes first: its error says more.
    let within = args.deadline + GRACE;
    let commit: Document<CommitDoc> =
        context.client()?.post_within("/v1/shared", &request, within)?;
    if output.json {
        output.json(&commit)?;
    } else {
        said(output, &commit.body)?;
        if commit.body.outcome == OutcomeDoc::Wished {
            output.note("Others agree with the same `exo shared declare` on their nodes.");
        }
    }
    Ok(exit(&commit.body))
}
