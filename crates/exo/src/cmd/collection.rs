//! `exo collection`: what the node holds and who may read it.

use std::collections::BTreeSet;

use clap::{Subcommand, ValueEnum};
use exo_federation::ErrorCode;
use exo_types::{CollectionName, Metric, PeerId};

use super::Context;
use crate::api::dto::Document;
use crate::api::dto::collection::{
    AnonymousDoc, CollectionDoc, CollectionRequest, CollectionsDoc, Field, PolicyDoc, ReadersDoc,
    ReadersName,
};
use crate::api::dto::peer::{PeerDoc, PeersDoc};
use crate::client::{Client, segment};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Output, Style, table};

/// Commands of `exo collection`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a collection; every member may read it unless said otherwise
    Add(AddArgs),
    /// List the collections
    List,
    /// Show one collection and its policy
    Show(NameArgs),
    /// Show or change who may read a collection
    Policy(PolicyArgs),
    /// Remove a collection with all its records
    Drop(NameArgs),
}

/// One collection.
#[derive(Debug, clap::Args)]
pub(crate) struct NameArgs {
    /// The collection
    name: CollectionName,
}

/// Arguments of `exo collection add`.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// Its name: letters, digits, '.', '_' and '-'
    name: CollectionName,
    /// Dimensions of its vectors; 0 for text alone
    #[arg(long, default_value_t = 0)]
    dimensions: u32,
    /// How vectors are compared
    #[arg(long, value_enum, default_value_t = MetricArg::Cosine)]
    metric: MetricArg,
    /// The model that made the vectors, for example all-MiniLM-L6-v2
    #[arg(long, default_value = "")]
    embedder: String,
    /// Nobody but this node's own users may read it
    #[arg(long)]
    private: bool,
}

/// Arguments of `exo collection policy`.
#[derive(Debug, clap::Args)]
pub(crate) struct PolicyArgs {
    /// The collection
    name: CollectionName,
    /// Who may read it: members, nobody, or peers by id or name, separated by commas
    #[arg(long, value_name = "READERS")]
    readers: Option<String>,
    /// What leaves the node besides id and score
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FIELDS")]
    fields: Option<Vec<Field>>,
    /// Results one query of a member gets at most
    #[arg(long, value_name = "N")]
    max_results: Option<u32>,
    /// Whether questions through relays are answered: who asks is not known, so only where every
    /// member may read
    #[arg(long, value_enum)]
    anonymous: Option<AnonymousDoc>,
}

/// How vectors are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MetricArg {
    /// Cosine similarity
    Cosine,
    /// Inner product
    Dot,
    /// Euclidean distance
    L2,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: Command) -> Outcome {
    let client = context.client()?;
    let output = &context.output;
    let path = |name: &CollectionName| format!("/v1/collections/{}", segment(name.as_str()));
    match command {
        Command::Add(args) => {
            let request = CollectionRequest {
                name: args.name,
                dimensions: args.dimensions,
                metric: args.metric.into(),
                embedder: args.embedder,
                policy: starting_policy(args.private),
            };
            let made: Document<CollectionDoc> = client.post("/v1/collections", &request)?;
            if output.json {
                output.json(&made)?;
            } else {
                output.line(&format!("Collection {} is there.", made.body.spec.name))?;
                output.line(&said(&made.body.policy))?;
            }
        }
        Command::List => {
            let all: Document<CollectionsDoc> = client.get("/v1/collections")?;
            if output.json {
                output.json(&all)?;
            } else {
                list(output, &all.body.collections)?;
            }
        }
        Command::Show(args) => {
            let one: Document<CollectionDoc> = client.get(&path(&args.name))?;
            show(output, &one)?;
        }
        Command::Policy(args) => {
            let at = path(&args.name);
            let mut one: Document<CollectionDoc> = client.get(&at)?;
            if let Some(policy) = changed(&client, &one.body.policy, &args)? {
                one = client.put(&format!("{at}/policy"), &policy)?;
            }
            show(output, &one)?;
        }
        Command::Drop(args) => {
            client.delete(&path(&args.name))?;
            if output.json {
                output.json(&serde_json::json!({
                    "schema": "exo.collection-dropped/1", "name": args.name,
                }))?;
            } else {
                output.line(&format!("Collection {} is dropped.", args.name))?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// The policy a new collection starts with.
pub(crate) fn starting_policy(private: bool) -> PolicyDoc {
    let readers = if private { ReadersName::Nobody } else { ReadersName::Members };
    PolicyDoc { readers: ReadersDoc::Named(readers), ..PolicyDoc::default() }
}

/// Who may read, in a sentence.
pub(crate) fn said(policy: &PolicyDoc) -> String {
    match &policy.readers {
        ReadersDoc::Named(ReadersName::Members) => {
            "Every member of the federation may read it; `exo collection policy` changes that."
                .into()
        }
        ReadersDoc::Named(ReadersName::Nobody) => {
            "Nobody but this node's own users may read it.".into()
        }
        ReadersDoc::Only(peers) => format!("{} named members may read it.", peers.len()),
    }
}

/// The policy with the changes asked for; `None` when none is.
fn changed(
    client: &Client,
    policy: &PolicyDoc,
    args: &PolicyArgs,
) -> Result<Option<PolicyDoc>, Failure> {
    let same = args.readers.is_none() && args.fields.is_none();
    if same && args.max_results.is_none() && args.anonymous.is_none() {
        return Ok(None);
    }
    let mut policy = policy.clone();
    if let Some(readers) = &args.readers {
        policy.readers = match readers.as_str() {
            "members" => ReadersDoc::Named(ReadersName::Members),
            "nobody" => ReadersDoc::Named(ReadersName::Nobody),
            names => ReadersDoc::Only(peer_ids(client, names)?),
        };
    }
    if let Some(fields) = &args.fields {
        policy.fields = fields.iter().copied().collect();
    }
    policy.max_results = args.max_results.unwrap_or(policy.max_results);
    policy.anonymous = args.anonymous.unwrap_or(policy.anonymous);
    Ok(Some(policy))
}

fn peer_ids(client: &Client, names: &str) -> Result<BTreeSet<PeerId>, Failure> {
    let known: Document<PeersDoc> = client.get("/v1/peers")?;
    names.split(',').map(str::trim).map(|name| peer_id(&known.body.peers, name)).collect()
}

fn peer_id(known: &[PeerDoc], name: &str) -> Result<PeerId, Failure> {
    if let Ok(peer) = name.parse() {
        return Ok(peer);
    }
    let mut found = known.iter().filter(|peer| peer.name.as_str() == name);
    match (found.next(), found.next()) {
        (Some(peer), None) => Ok(peer.peer),
        (Some(_), Some(_)) => Err(Failure::new(
            ErrorCode::InvalidArgument,
            format!("several peers are called {name:?}; give the peer id"),
        )),
        (None, _) => {
            Err(Failure::new(ErrorCode::PeerNotFound, format!("no peer is called {name:?}")))
        }
    }
}

fn list(output: &Output, collections: &[CollectionDoc]) -> Result<(), Failure> {
    if collections.is_empty() {
        output.note("No collections yet: `exo import FILE --into NAME` makes and fills one.");
        return Ok(());
    }
    let heading = ["NAME", "RECORDS", "VECTORS", "DIMENSIONS", "METRIC", "EMBEDDER", "READERS"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(collections.iter().map(|collection| {
        let spec = &collection.spec;
        vec![
            spec.name.to_string(),
            spec.records.to_string(),
            spec.vectors.to_string(),
            spec.dimensions.to_string(),
            metric_name(spec.metric).to_owned(),
            if spec.embedder.is_empty() {
                "-".into()
            } else {
                crate::escape::visible(&spec.embedder)
            },
            readers(&collection.policy),
        ]
    }));
    table(&rows).iter().try_for_each(|line| output.line(line))
}

fn show(output: &Output, one: &Document<CollectionDoc>) -> Result<(), Failure> {
    if output.json {
        return output.json(one);
    }
    let CollectionDoc { spec, policy } = &one.body;
    output.line(&output.style(spec.name.as_str(), Style::Strong))?;
    let fields: Vec<_> = policy.fields.iter().map(|field| field_name(*field)).collect();
    let rows = [
        ("records", spec.records.to_string()),
        ("vectors", format!("{} of {} dimensions", spec.vectors, spec.dimensions)),
        ("metric", metric_name(spec.metric).to_owned()),
        ("embedder", crate::escape::visible(&spec.embedder)),
        ("readers", readers(policy)),
        (
            "fields",
            format!("id, score{}{}", if fields.is_empty() { "" } else { ", " }, fields.join(", ")),
        ),
        ("results", format!("at most {} a query", policy.max_results)),
        ("anonymous", anonymous(policy).to_owned()),
    ];
    let rows: Vec<_> = rows
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(label, value)| vec![format!("  {label}"), value])
        .collect();
    table(&rows).iter().try_for_each(|line| output.line(line))
}

fn anonymous(policy: &PolicyDoc) -> &'static str {
    match (policy.anonymous, &policy.readers) {
        (AnonymousDoc::Deny, _) => "questions through relays are declined",
        (_, ReadersDoc::Named(ReadersName::Members)) => "questions through relays are answered",
        _ => "questions through relays find nothing, as not every member may read it",
    }
}

fn readers(policy: &PolicyDoc) -> String {
    match &policy.readers {
        ReadersDoc::Named(ReadersName::Members) => "members".to_owned(),
        ReadersDoc::Named(ReadersName::Nobody) => "nobody".to_owned(),
        ReadersDoc::Only(peers) => peers.iter().map(PeerId::short).collect::<Vec<_>>().join(", "),
    }
}

const fn field_name(field: Field) -> &'static str {
    match field {
        Field::Title => "title",
        Field::Text => "text",
        Field::Metadata => "metadata",
        Field::Vector => "vector",
    }
}

const fn metric_name(metric: Metric) -> &'static str {
    match metric {
        Metric::Cosine => "cosine",
        Metric::Dot => "dot",
        Metric::L2 => "l2",
    }
}

impl From<MetricArg> for Metric {
    fn from(metric: MetricArg) -> Self {
        match metric {
            MetricArg::Cosine => Self::Cosine,
            MetricArg::Dot => Self::Dot,
            MetricArg::L2 => Self::L2,
        }
    }
}
