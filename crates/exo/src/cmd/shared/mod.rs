//! `exo shared`: what members write together.

mod declare;
mod keys;
mod list;
mod watch;

use clap::Subcommand;
use exo_types::{CollectionName, RecordId};

use super::Context;
use crate::api::dto::Document;
use crate::api::dto::node::SharedStatusDoc;
use crate::api::dto::shared::{Encoding, SharedDoc, SharedEntriesDoc, SharedLagDoc};
use crate::client::{Client, segment};
use crate::escape::{cut, visible};
use crate::exit::{Failure, Outcome};
use crate::span;

/// Commands of `exo shared`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a value; it is signed and on the disk here when this returns
    Put(keys::PutArgs),
    /// Print what stands at a key; the bytes alone where the output is a file or a pipe
    Get(keys::KeyArgs),
    /// List collections, or a collection's keys with what stands there
    List(list::Args),
    /// Print changes of a collection as they come, until stopped
    Watch(watch::Args),
    /// Show where the other readers are, as far as they have said
    Lag(list::LagArgs),
    /// Remove what stands at a key; what was written there before stays in the history
    Rm(keys::KeyArgs),
    /// Destroy the values that were ever written at a key: all of them here, and your own at every
    /// honest member
    Erase(keys::KeyArgs),
    /// Declare a collection, or give its rights to others: a decision of the members
    Declare(declare::Args),
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Put(args) => keys::put(context, args),
        Command::Get(args) => keys::get(context, &args),
        Command::List(args) => list::run(context, &args),
        Command::Watch(args) => watch::run(context, &args),
        Command::Lag(args) => list::lag(context, &args),
        Command::Rm(args) => keys::remove(context, &args),
        Command::Erase(args) => keys::erase(context, &args),
        Command::Declare(args) => declare::run(context, args),
    }
}

/// How sharing stands, for `exo status`.
pub(super) fn status(shared: &SharedStatusDoc) -> Vec<Vec<String>> {
    let row = |(at, collection): (usize, &crate::api::dto::shared::SharedCollectionDoc)| {
        let label = if at == 0 { "  shared" } else { "" };
        let of = shared.lag.iter().filter(|lag| lag.collection == collection.name);
        let lag: Vec<String> = of.map(|lag| format!("{} {}", who(lag), standing(lag))).collect();
        let lag = if lag.is_empty() { "no other reader".to_owned() } else { lag.join(", ") };
        vec![label.into(), format!("{}: {} entries; {lag}", collection.name, collection.entries)]
    };
    shared.collections.iter().enumerate().map(row).collect()
}

/// Another reader, for people.
fn who(lag: &SharedLagDoc) -> String {
    lag.name.as_ref().map_or_else(|| lag.peer.short(), ToString::to_string)
}

/// Where another reader is, for people.
fn standing(lag: &SharedLagDoc) -> String {
    let reached = if lag.connected { "" } else { ", not reached" };
    let syncing = if lag.syncing { ", synchronising" } else { "" };
    let since = || span::show(std::time::Duration::from_millis(lag.behind_ms.unwrap_or(0)));
    let state = match (lag.state.as_str(), lag.batches) {
        ("in-step", _) => "in step".to_owned(),
        ("behind", Some(more)) if more > 0 => format!("{more} batches behind for {}", since()),
        ("behind", Some(more)) if more < 0 => {
            format!("{} batches ahead for {}", more.unsigned_abs(), since())
        }
        ("behind", _) => format!("differs for {}", since()),
        (other, _) => other.to_owned(),
    };
    format!("{state}{syncing}{reached}")
}

/// The row of an entry.
fn row(entry: &SharedDoc) -> Vec<String> {
    let value = match (&entry.value, entry.encoding) {
        (None, _) if entry.removed => "(removed)".to_owned(),
        (None, _) => "(erased, or not here yet)".to_owned(),
        (Some(text), Some(Encoding::Text)) => visible(&cut(text, VALUE_CHARS)),
        (Some(text), _) => format!("base64:{}", cut(text, VALUE_CHARS)),
    };
    let author = match (&entry.author_name, entry.author) {
        (Some(name), _) => name.to_string(),
        (None, Some(peer)) => peer.short(),
        (None, None) => String::new(),
    };
    vec![visible(entry.key.as_str()), author, entry.at.clone().unwrap_or_default(), value]
}

/// Where a key is in the API.
fn path(collection: &CollectionName, key: &RecordId) -> String {
    format!("/v1/shared/{}/keys/{}", segment(collection.as_str()), segment(key.as_str()))
}

/// Hands each entry of a collection that begins with a prefix to `each`, at most so many, page by page;
/// the key after which there are more.
fn entries(
    client: &Client,
    collection: &CollectionName,
    prefix: &str,
    most: usize,
    mut each: impl FnMut(SharedDoc) -> Result<(), Failure>,
) -> Result<Option<RecordId>, Failure> {
    let (mut left, mut after) = (most, None::<RecordId>);
    loop {
        let from = after.map_or(String::new(), |key| format!("&after={}", segment(key.as_str())));
        let page: Document<SharedEntriesDoc> = client.get(&format!(
            "/v1/shared/{}/keys?prefix={}&limit={}{from}",
            segment(collection.as_str()),
            segment(prefix),
            left.min(PAGE)
        ))?;
        left = left.saturating_sub(page.body.entries.len());
        page.body.entries.into_iter().try_for_each(&mut each)?;
        match page.body.next {
            Some(next) if left > 0 => after = Some(next),
            next => return Ok(next),
        }
    }
}

/// One entry as the API gives it.
type Entry = Document<SharedDoc>;

/// Characters of a value in a list.
const VALUE_CHARS: usize = 60;
/// Keys that are fetched at once.
const PAGE: usize = 1000;
const _: () = assert!(PAGE <= exo_types::limits::SHARED_PAGE_KEYS_MAX);
