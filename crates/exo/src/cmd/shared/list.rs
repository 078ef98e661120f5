//! `exo shared list` and `lag`: what there is, and who has it.

use exo_types::CollectionName;

use super::{entries, row, standing, who};
use crate::api::dto::Document;
use crate::api::dto::shared::{
    AccessDoc, SharedCollectionDoc, SharedCollectionsDoc, SharedDoc, SharedLagsDoc,
};
use crate::client::Client;
use crate::cmd::Context;
use crate::escape::visible;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Output, Style, table};

/// Arguments of `exo shared list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shared collection whose keys are listed; without it the collections are
    collection: Option<CollectionName>,
    /// Only keys that begin so
    #[arg(
        long,
        value_name = "P",
        default_value = "",
        hide_default_value = true,
        requires = "collection"
    )]
    prefix: String,
    /// Keys at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = limit, requires = "collection")]
    limit: usize,
}

/// Arguments of `exo shared lag`.
#[derive(Debug, clap::Args)]
pub(crate) struct LagArgs {
    /// Only of this shared collection
    collection: Option<CollectionName>,
}

/// Lists collections or keys.
pub(super) fn run(context: &Context, args: &Args) -> Outcome {
    let client = context.client()?;
    match &args.collection {
        Some(collection) => keys(&context.output, &client, collection, args),
        None => collections(&context.output, &client),
    }
}

fn collections(output: &Output, client: &Client) -> Outcome {
    let all: Document<SharedCollectionsDoc> = client.get("/v1/shared")?;
    if output.json {
        output.json(&all)?;
        return Ok(Exit::Ok);
    }
    if all.body.collections.is_empty() {
        output.note("Nothing is shared yet: `exo shared put COLLECTION KEY VALUE` begins.");
        return Ok(Exit::Ok);
    }
    let head = ["COLLECTION", "KIND", "READERS", "WRITERS", "ENTRIES", "CHECKPOINT", "ROOT"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(all.body.collections.iter().map(collection_row));
    print(output, &rows)?;
    for collection in all.body.collections.iter().filter(|one| !one.accused.is_empty()) {
        let who: Vec<String> = collection.accused.iter().map(exo_types::PeerId::short).collect();
        let text = format!("{}: {} signed two histories", collection.name, who.join(", "));
        output.note(&output.note_style(&text, Style::Bad));
    }
    Ok(Exit::Ok)
}

fn collection_row(collection: &SharedCollectionDoc) -> Vec<String> {
    let writers = access(&collection.writers);
    let missing = match collection.missing {
        0 => String::new(),
        missing => format!(" ({missing} to come)"),
    };
    vec![
        collection.name.to_string(),
        collection.kind.as_str().to_owned(),
        access(&collection.readers),
        if collection.writable { writers } else { format!("{writers} (not this node)") },
        format!("{}{missing}", collection.entries),
        collection.checkpoint.to_string(),
        collection.root.chars().take(ROOT_CHARS).collect(),
    ]
}

/// Whom a right is for, for people.
fn access(access: &AccessDoc) -> String {
    let AccessDoc::Only(who) = access else { return "members".to_owned() };
    let name = |one: &crate::api::dto::shared::WhoDoc| {
        one.name.as_ref().map_or_else(|| one.peer.short(), ToString::to_string)
    };
    let names: Vec<String> = who.iter().map(name).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(",") }
}

fn keys(output: &Output, client: &Client, collection: &CollectionName, args: &Args) -> Outcome {
    let mut rows = vec![["KEY", "BY", "AT", "VALUE"].map(str::to_owned).to_vec()];
    let each = |entry: SharedDoc| {
        if output.json {
            return output.json(&Document::new("exo.shared/1", entry));
        }
        rows.push(row(&entry));
        Ok(())
    };
    let next = entries(client, collection, &args.prefix, args.limit, each)?;
    if !output.json {
        if rows.len() == 1 {
            output.note("Nothing stands there.");
        } else {
            print(output, &rows)?;
        }
    }
    if let Some(next) = next {
        output.note(&format!("There are more after {}: --limit", visible(next.as_str())));
    }
    Ok(Exit::Ok)
}

/// Shows where the other readers are.
pub(super) fn lag(context: &Context, args: &LagArgs) -> Outcome {
    let output = &context.output;
    let mut lag: Document<SharedLagsDoc> = context.client()?.get("/v1/shared/lag")?;
    lag.body.lag.retain(|lag| args.collection.as_ref().is_none_or(|name| *name == lag.collection));
    if output.json {
        output.json(&lag)?;
        return Ok(Exit::Ok);
    }
    if lag.body.lag.is_empty() {
        output.note("There is no other reader of anything shared here.");
        return Ok(Exit::Ok);
    }
    let mut rows = vec![["COLLECTION", "READER", "STATE"].map(str::to_owned).to_vec()];
    let row = |lag| {
        let lag: &crate::api::dto::shared::SharedLagDoc = lag;
        vec![lag.collection.to_string(), who(lag), standing(lag)]
    };
    rows.extend(lag.body.lag.iter().map(row));
    print(output, &rows)?;
    Ok(Exit::Ok)
}

fn print(output: &Output, rows: &[Vec<String>]) -> Result<(), Failure> {
    let styles = std::iter::once(Style::Dim).map(Some).chain(std::iter::repeat(None));
    table(rows).iter().zip(styles).try_for_each(|(line, style)| match style {
        Some(style) => output.line(&output.style(line, style)),
        None => output.line(line),
    })
}

fn limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(limit) if limit > 0 => Ok(limit),
        _ => Err("must be 1 or more".to_owned()),
    }
}

/// Characters of a root in a list.
const ROOT_CHARS: usize = 12;
