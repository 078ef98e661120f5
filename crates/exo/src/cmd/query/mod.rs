//! `exo query`: asks the federation, by text, by vector, or by an existing record.

mod filter;
mod rows;
pub(crate) mod show;

use std::path::PathBuf;
use std::time::Duration;

use exo_federation::ErrorCode;
use exo_types::limits::TOP_K_MAX;
use exo_types::{CollectionName, RecordId};

use super::Context;
use crate::api::dto::query::{LikeDoc, QueryDoc, QueryRequest, ScopeDoc};
use crate::client::Client;
use crate::exit::{Exit, Failure, Outcome};
use crate::span;

/// Arguments of `exo query`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("target").required(true).multiple(true).args(["text", "vectors", "like"])))]
pub(crate) struct Args {
    /// Words to look for; together with a vector, both are searched and fused
    text: Option<String>,
    /// Query vectors, one query a row: .npy of f32 or f16, [queries, dimensions]
    #[arg(long, value_name = "Q.npy", conflicts_with = "like")]
    vectors: Option<PathBuf>,
    /// Look for what is near the vector of this record of this node
    #[arg(long, value_name = "ID")]
    like: Option<RecordId>,
    /// The collection asked at every source [default: all that each source offers]
    #[arg(long, value_name = "NAME")]
    collection: Option<CollectionName>,
    /// Who is asked: this node, every member reached directly, or every member through relays
    #[arg(long, value_enum, value_name = "SCOPE")]
    scope: Option<ScopeDoc>,
    /// Ask through relays, so that no source learns who asks; the same as --scope global
    #[arg(long)]
    anonymous: bool,
    /// Members on the way to each source, the source included; with --scope global [default: 3]
    #[arg(long, value_name = "N")]
    max_hops: Option<u8>,
    /// How long each of them holds the question back, on average, against who compares times; with
    /// --scope global [default: not at all]
    #[arg(long, value_parser = span::parse, value_name = "DURATION")]
    mix: Option<Duration>,
    /// Results wanted
    #[arg(long, value_name = "K", default_value_t = 10, value_parser = top)]
    top: usize,
    /// When the answer is due, whoever has answered by then
    #[arg(long, default_value = "2s", value_parser = span::parse, value_name = "DURATION")]
    deadline: Duration,
    /// Exit with 3 if fewer sources answer
    #[arg(long, value_name = "N", default_value_t = 1)]
    min_sources: usize,
    /// A condition on metadata, may be repeated: field=value, != < <= > >=, or field=in:a,b
    #[arg(long, value_name = "CONDITION", value_parser = filter::parse)]
    filter: Vec<crate::api::dto::query::ConditionDoc>,
    /// The model that made the query vectors; sources with another decline
    #[arg(long, value_name = "NAME", default_value = "")]
    embedder: String,
    /// Say where results came from and what each source took
    #[arg(long)]
    explain: bool,
}

/// Asks, and prints one answer a query.
pub(crate) fn run(context: &Context, args: Args) -> Outcome {
    let (vectors, explain, min_sources) = (args.vectors.clone(), args.explain, args.min_sources);
    let request = request(args)?;
    let client = context.client()?;
    let printer = show::Printer { output: context.output, explain };
    let fewest = match vectors {
        Some(path) => rows::ask(&client, &printer, &request, &path)?,
        None => one(context, &client, &printer, &request)?,
    };
    if fewest < min_sources {
        let failure = Failure::new(
            ErrorCode::TooFewSources,
            format!("{fewest} sources answered where {min_sources} were asked for"),
        );
        // The answer is printed already and stays the only data on standard output.
        let mut notes = context.output;
        notes.json = false;
        notes.failure(&failure);
        return Ok(Exit::TooFewSources);
    }
    Ok(Exit::Ok)
}

/// Asks one query; how many sources answered it.
fn one(
    context: &Context,
    client: &Client,
    printer: &show::Printer,
    request: &QueryRequest,
) -> Result<usize, Failure> {
    let answer = if context.output.json {
        client.post_within("/v1/queries", request, within(request))?
    } else {
        stream(client, printer, request)?
    };
    printer.answer(&answer)?;
    Ok(answer.answered())
}

/// Follows one query's events: a line a source as it answers, then the answer.
fn stream(
    client: &Client,
    printer: &show::Printer,
    request: &QueryRequest,
) -> Result<QueryDoc, Failure> {
    let malformed = |error: serde_json::Error| {
        Failure::new(ErrorCode::Internal, format!("the node's answer: {error}"))
    };
    for event in client.post_events("/v1/queries", request, within(request))? {
        let event = event?;
        match event.name.as_str() {
            "source" => printer.source(&serde_json::from_str(&event.data).map_err(malformed)?),
            "done" => return serde_json::from_str(&event.data).map_err(malformed),
            _ => {}
        }
    }
    Err(Failure::new(ErrorCode::NodeNotRunning, "the node's answer broke off before its end"))
}

/// How long to wait for an answer: its deadline and some for the way.
fn within(request: &QueryRequest) -> Duration {
    Duration::from_millis(request.deadline_ms.unwrap_or(0)) + ANSWER_GRACE
}

fn request(args: Args) -> Result<QueryRequest, Failure> {
    let scope = match (args.scope, args.anonymous) {
        (None | Some(ScopeDoc::Global), true) => ScopeDoc::Global,
        (Some(_), true) => return Err(misplaced("--anonymous")),
        (scope, false) => scope.unwrap_or_default(),
    };
    if args.max_hops.is_some() && scope != ScopeDoc::Global {
        return Err(misplaced("--max-hops"));
    }
    if args.mix.is_some() && scope != ScopeDoc::Global {
        return Err(misplaced("--mix"));
    }
    let collection = args.collection;
    Ok(QueryRequest {
        text: args.text.unwrap_or_default(),
        vector: Vec::new(),
        like: args.like.map(|id| LikeDoc { id, collection: collection.clone() }),
        embedder: args.embedder,
        scope,
        max_hops: args.max_hops,
        collection,
        filter: args.filter,
        top_k: Some(args.top),
        deadline_ms: Some(whole_millis(args.deadline)),
        min_sources: Some(args.min_sources),
        mix_ms: args.mix.map(whole_millis),
    })
}

fn misplaced(option: &str) -> Failure {
    Failure::new(ErrorCode::InvalidArgument, format!("{option} goes with --scope global alone"))
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn top(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(top) if (1..=TOP_K_MAX).contains(&top) => Ok(top),
        _ => Err(format!("must be 1 to {TOP_K_MAX}")),
    }
}

/// How long after its deadline an answer may take to arrive.
const ANSWER_GRACE: Duration = Duration::from_secs(10);
